//! Models and data sets by their names on the Hugging Face Hub: what is needed of them is fetched into the hub's
//! own cache, which programs in Python share.
//!
//! ```text
//! HF_HUB_CACHE/models--org--name/refs/main              the commit that a branch was at
//!                               /blobs/HASH             contents, by their hash
//!                               /snapshots/COMMIT/FILE  links to them
//! ```
//!
//! A content is written beside its place and goes there when its size and hash are right; the reference to a
//! commit is written when all that is needed of it is there. What was cut off goes on where it ended.
//!
//! Not here: which paths are names ([`hearken_data::HubName`]), and the environment, which whoever makes
//! [`HubSettings`] hands over.
#![deny(missing_docs)]

mod cache;
mod client;
mod download;
mod error;
mod hub;
mod settings;

pub use error::HubError;
pub use hub::{Hub, ModelPart};
pub use settings::HubSettings;

/// Who is told how far a download is.
pub trait Watcher {
    /// So many bytes of a file are here; `total` is its size.
    fn bytes(&mut self, file: &str, done: u64, total: u64);
    /// Something that a reader should know, in a sentence.
    fn note(&mut self, text: &str);
    /// Whether to stop; what has come so far is kept.
    fn stop_requested(&self) -> bool;
}
