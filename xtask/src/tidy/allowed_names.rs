//! Where a name that the glossary refuses means something else.

/// An exception.
pub(super) struct AllowedName {
    /// The name.
    pub(super) name: &'static str,
    /// The file or folder in which it is right.
    pub(super) path: &'static str,
    /// Why.
    #[expect(dead_code, reason = "for the reader")]
    pub(super) why: &'static str,
}

pub(super) const ALLOWED: &[AllowedName] = &[
    AllowedName {
        name: "agent",
        path: "crates/hearken-judge/src/http.rs",
        why: "what HTTP libraries call a client with its connections",
    },
    AllowedName {
        name: "winner",
        path: "crates/hearken-stats/",
        why: "elections have winners; no pair of completions is meant",
    },
    AllowedName {
        name: "agent",
        path: "crates/hearken-judge/src/chat/",
        why: "what HTTP libraries call a client with its connections",
    },
    AllowedName {
        name: "agent",
        path: "crates/hearken-collect/",
        why: "what HTTP libraries call a client with its connections",
    },
    AllowedName {
        name: "actor",
        path: "crates/hearken-store/",
        why: "who did something, in an audit log",
    },
    AllowedName {
        name: "actor",
        path: "crates/hearken-collect/",
        why: "who did something, in an audit log",
    },
    AllowedName {
        name: "winner",
        path: "crates/hearken-data/src/feedback/formats/",
        why: "the column's name in files of votes",
    },
    AllowedName {
        name: "winner",
        path: "crates/hearken-data/tests/feedback/",
        why: "the column's name in files of votes",
    },
    AllowedName {
        name: "winner",
        path: "crates/hearken-analysis/",
        why: "models win votes and elections; no pair of completions is meant",
    },
    AllowedName {
        name: "loser",
        path: "crates/hearken-analysis/",
        why: "models win votes and elections; no pair of completions is meant",
    },
];
