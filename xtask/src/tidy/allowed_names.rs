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

pub(super) const ALLOWED: &[AllowedName] = &[];
