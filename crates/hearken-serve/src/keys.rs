//! Keys of those who ask.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Keys, of which no more than digests are kept.
#[derive(Clone, Default)]
pub struct ApiKeys {
    digests: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// The lines of a text that are not empty and no comments, which begin with `#`.
    pub fn from_lines(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { digests: keys.map(digest).collect() }
    }

    /// These keys and one more.
    pub fn and(mut self, key: &str) -> Self {
        self.digests.push(digest(key));
        self
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether a key is one of them. Takes as long whichever it is.
    pub(crate) fn have(&self, key: &str) -> bool {
        let found = digest(key);
        let mut is_there = subtle::Choice::from(0);
        for known in &self.digests {
            is_there |= known.ct_eq(&found);
        }
        is_there.into()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.digests.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines_and_no_others_fit() {
        let keys = ApiKeys::from_lines("# mine\nsecret\n\n other \n").and("third");
        for key in ["secret", "other", "third"] {
            assert!(keys.have(key), "{key}");
        }
        for key in ["", "# mine", "Secret", "secret "] {
            assert!(!keys.have(key), "{key}");
        }
        assert!(!ApiKeys::default().have(""));
        assert_eq!(format!("{keys:?}"), "3 keys");
    }
}
