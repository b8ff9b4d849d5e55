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
];
