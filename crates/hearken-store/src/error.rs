//! What can go wrong with a store.

/// Why a store did not do what it was asked. Nothing of the request was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The request names something that is not there.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// The kind of thing: `"item"`, `"assignment"`, ….
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The request contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// A record is wrong in itself or does not fit what it names.
    #[error("{0}")]
    Invalid(String),
    /// The home cannot be reached, read or written at the moment: a full disk, a dead server.
    #[error("{home}: {problem}")]
    Unavailable {
        /// Where the store is.
        home: String,
        /// What happened, and what to do.
        problem: String,
    },
    /// What lies at the home is damaged.
    #[error("{home}: {problem}")]
    Corrupt {
        /// Where the store is, with the line where there are lines.
        home: String,
        /// What was found, and what was expected.
        problem: String,
    },
    /// Another process has the store and this home admits one at a time.
    #[error(
        "{home} is in use by {holder}; a file of JSON lines admits one process at a time: stop that \
         one, or move the store to SQLite or PostgreSQL"
    )]
    InUse {
        /// Where the store is.
        home: String,
        /// Who has it.
        holder: String,
    },
    /// There is no store at the home.
    #[error("{home}: there is no store")]
    Missing {
        /// Where it was looked for.
        home: String,
    },
    /// A later version of the program wrote the store.
    #[error(
        "{home}: the store has schema {found}, this program knows schemas up to {known}: use the \
         version of the program that wrote it, or a later one"
    )]
    TooNew {
        /// Where the store is.
        home: String,
        /// Its schema.
        found: i64,
        /// The newest schema that is known.
        known: i64,
    },
    /// A file is in the way of one to be written.
    #[error("{path} exists already and is not overwritten")]
    Exists {
        /// The file.
        path: String,
    },
}

impl StoreError {
    /// Whether the fault lies with the home, not with the request.
    pub fn is_of_the_home(&self) -> bool {
        !matches!(self, Self::NotFound { .. } | Self::Conflict(_) | Self::Invalid(_))
    }

    pub(crate) fn no(what: &'static str, name: &str) -> Self {
        Self::NotFound { what, name: name.into() }
    }

    pub(crate) fn unavailable(home: &str, problem: &(impl ToString + ?Sized)) -> Self {
        Self::Unavailable { home: home.into(), problem: problem.to_string() }
    }

    pub(crate) fn corrupt(home: &str, problem: &(impl ToString + ?Sized)) -> Self {
        Self::Corrupt { home: home.into(), problem: problem.to_string() }
    }
}
