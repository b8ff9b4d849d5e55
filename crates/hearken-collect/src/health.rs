//! Whether the service can do its work: the store can be read *and* written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hearken_store::{Expected, Store, StoreError};
use serde_json::json;

/// How long a write that succeeded is believed.
const BELIEVED_MS: i64 = 30_000;

/// Bytes that are written to find out whether what failed works again.
const ROOM: usize = 64 << 10;

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// When something was written last to find out.
    written: Mutex<Option<i64>>,
    /// Whether a request has failed since.
    doubted: AtomicBool,
}

impl Health {
    /// A request could not be stored: look before the next answer.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Reads the store, and writes to it where that was not tried lately. May block.
    ///
    /// # Errors
    ///
    /// It cannot be read or written.
    pub(crate) fn check(&self, store: &dyn Store, now: i64) -> Result<(), StoreError> {
        store.counts()?;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let doubted = self.doubted.swap(false, Ordering::Relaxed);
        if !doubted && written.is_some_and(|at| (0..BELIEVED_MS).contains(&(now - at))) {
            return Ok(());
        }
        *written = None;
        // Where something failed, room for a few words says little.
        let room = if doubted { " ".repeat(ROOM) } else { String::new() };
        let body = json!({"at": now, "room": room});
        store.put_document("service", "written", &body, Expected::Anything).inspect_err(|_| {
            self.doubt();
        })?;
        *written = Some(now);
        Ok(())
    }
}
