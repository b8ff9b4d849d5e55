//! Names of requests.

use rand::RngExt as _;

/// A name that no other request has.
pub(crate) fn new(kind: &str) -> String {
    format!("{kind}-{:032x}", rand::rng().random::<u128>())
}
