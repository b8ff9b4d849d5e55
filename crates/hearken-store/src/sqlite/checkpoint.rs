//! Copies what the write-ahead log holds into the file, beside the writer.
//!
//! A commit is safe when the log is synced. Copying its pages to their places takes many scattered
//! writes and a sync of the whole file; were the writer to do it, as SQLite does unless told
//! otherwise, every hundredth request would wait for that. Where this thread cannot keep up, the log
//! reaches [`LOG_PAGES_MAX`] and the writer helps.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::connect::open_writer;
use crate::error::StoreError;

/// Records after which the log is copied; each changes about eight pages of 4 KiB.
const RECORDS: usize = 128;

/// Pages of the log after which the writer itself copies what is left: 64 MiB.
pub(super) const LOG_PAGES_MAX: u32 = 16_384;

/// A thread with a connection of its own.
pub(super) struct Checkpointer {
    nudge: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Records written since the last nudge.
    written: usize,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = open_writer(path)?;
        let (nudge, nudges) = sync_channel(1);
        let thread = std::thread::spawn(move || serve(&connection, &nudges));
        Ok(Self { nudge: Some(nudge), thread: Some(thread), written: 0 })
    }

    /// Counts records that are in the log.
    pub(super) fn committed(&mut self, records: usize) {
        self.written += records;
        if self.written < RECORDS {
            return;
        }
        self.written = 0;
        let nudge = self.nudge.as_ref().expect("open until it is dropped");
        match nudge.try_send(()) {
            // A nudge that waits already is as good as two.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

fn serve(connection: &Connection, nudges: &Receiver<()>) {
    while nudges.recv().is_ok() {
        // What cannot be copied, because the disk is full or a reader still needs the old pages, stays
        // in the log, where it is safe; the next time may be luckier.
        let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.nudge.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}
