//! The one trait that every home of the store fills.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hearken_data::feedback::{Item, Judgement};
use serde_json::Value;

use crate::error::StoreError;
use crate::record::{
    Added, Assignment, Claim, Claimed, Counts, Document, Event, Expected, Placed, Record,
    Submitted, Taken,
};

/// Takes the records of an [export](Store::export), one after the other.
pub type Sink<'a> = dyn FnMut(Record) -> Result<(), StoreError> + 'a;

/// Gives the records of a [restoration](Store::restore).
pub type RestoredRecords<'a> = dyn Iterator<Item = Result<Record, StoreError>> + 'a;

/// A place where judgements are kept: JSON lines, SQLite or PostgreSQL.
///
/// Items and judgements are appended and never change. A method that appends returns when the
/// record is on the disk. Every method may be called from any thread.
pub trait Store: Send + Sync {
    /// Where the store is, as messages name it, without a password.
    fn home(&self) -> String;

    /// How many records there are.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn counts(&self) -> Result<Counts, StoreError>;

    /// Adds items, all or none.
    ///
    /// # Errors
    ///
    /// An item is wrong in itself, another item of the same id is there, the home cannot be written.
    fn add_items(&self, items: &[Item]) -> Result<Added, StoreError>;

    /// The item of this id.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn item(&self, id: &str) -> Result<Option<Item>, StoreError>;

    /// At most `limit` items after place `after`, in the order of their places.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn items(&self, after: u64, limit: usize) -> Result<Vec<Placed<Item>>, StoreError>;

    /// Adds judgements that were made elsewhere, all or none, without assignments.
    ///
    /// # Errors
    ///
    /// A judgement names an item that is not there or does not fit it, another judgement of the
    /// same id is there, the home cannot be written.
    fn add_judgements(&self, judgements: &[Judgement]) -> Result<Added, StoreError>;

    /// At most `limit` judgements after place `after`, in the order of their places.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn judgements(&self, after: u64, limit: usize) -> Result<Vec<Placed<Judgement>>, StoreError>;

    /// The judgement of this id.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn judgement(&self, id: &str) -> Result<Option<Judgement>, StoreError>;

    /// The judgements of an item in the order of their places, revised ones included.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn judgements_of(&self, item: &str) -> Result<Vec<Judgement>, StoreError>;

    /// How many items each annotator has given back without judging them.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn skipped(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// The newest `limit` judgements of an annotator, newest first, revised ones included.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn judgements_by(&self, annotator: &str, limit: usize) -> Result<Vec<Judgement>, StoreError>;

    /// Gives an item to an annotator, atomically: of any number of claims at the same time, on any
    /// number of processes, no more are granted than the overlap allows.
    ///
    /// # Errors
    ///
    /// The item is not there, the home cannot be written.
    fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError>;

    /// The assignment of this id.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn assignment(&self, id: &str) -> Result<Option<Assignment>, StoreError>;

    /// The live assignments of an annotator at the time `now`, the oldest first.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn live_assignments(&self, annotator: &str, now: i64) -> Result<Vec<Assignment>, StoreError>;

    /// Moves the end of a live assignment to `expires_at`; `false` where it is no longer live.
    ///
    /// # Errors
    ///
    /// The home cannot be written.
    fn renew(&self, assignment: &str, now: i64, expires_at: i64) -> Result<bool, StoreError>;

    /// Gives an assignment back; the annotator is not offered the item again. Idempotent.
    ///
    /// # Errors
    ///
    /// The assignment is not there or was judged, the home cannot be written.
    fn skip(&self, assignment: &str) -> Result<(), StoreError>;

    /// Appends a judgement. One that has an `assignment` ends it; one that `revises` another must be
    /// by the same annotator, about the same item, and the one it revises must still be in force.
    /// Submitting the same judgement twice stores it once; the time [`at`](Judgement::at) is not part
    /// of that comparison. Without an assignment, or when its lease has ended, the judgement is taken
    /// while the overlap has room.
    ///
    /// # Errors
    ///
    /// The judgement does not fit its item or assignment, another judgement of the same id is
    /// there, the annotator has judged the item and this is no revision, the home cannot be written.
    fn submit(
        &self,
        judgement: &Judgement,
        overlap: u32,
        now: i64,
    ) -> Result<Submitted, StoreError>;

    /// Items that somebody has judged or holds at the time `now`.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn taken(&self, now: i64) -> Result<Vec<Taken>, StoreError>;

    /// Ids of the items that the annotator has judged, skipped or holds at the time `now`.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn seen_at(&self, annotator: &str, now: i64) -> Result<Vec<String>, StoreError>;

    /// [`seen_at`](Store::seen_at) the time of the system's clock.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn seen_by(&self, annotator: &str) -> Result<Vec<String>, StoreError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.seen_at(annotator, i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The document of this kind and key.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError>;

    /// All documents of a kind, in the order of their keys.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError>;

    /// Writes a document; gives its new version, or `None` where something else than expected was
    /// found and nothing was written.
    ///
    /// # Errors
    ///
    /// The home cannot be written.
    fn put_document(
        &self,
        kind: &str,
        key: &str,
        body: &Value,
        expected: Expected,
    ) -> Result<Option<u64>, StoreError>;

    /// Removes a document; `false` where there was none.
    ///
    /// # Errors
    ///
    /// The home cannot be written.
    fn delete_document(&self, kind: &str, key: &str) -> Result<bool, StoreError>;

    /// Appends to the audit log.
    ///
    /// # Errors
    ///
    /// The home cannot be written.
    fn record(&self, event: &Event) -> Result<(), StoreError>;

    /// At most `limit` entries of the audit log after place `after`.
    ///
    /// # Errors
    ///
    /// The home cannot be read.
    fn events(&self, after: u64, limit: usize) -> Result<Vec<Placed<Event>>, StoreError>;

    /// Copies the whole store to a new SQLite file in a faster way than record by record, while it is in use; `false` where the
    /// home has none. [`backup`](crate::backup) asks it first.
    ///
    /// # Errors
    ///
    /// The file cannot be written, the home cannot be read.
    fn backup_whole(&self, _to: &Path) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Hands every record of one moment to `sink`, kind after kind: documents, items, assignments,
    /// judgements, events; each kind in the order of its places. The store may be in use.
    ///
    /// # Errors
    ///
    /// The home cannot be read, or `sink` fails.
    fn export(&self, sink: &mut Sink<'_>) -> Result<(), StoreError>;

    /// Adds records of another store as they are, all or none.
    ///
    /// # Errors
    ///
    /// A record is there with other content or does not fit, `records` gives an error, the home
    /// cannot be written.
    fn restore(&self, records: &mut RestoredRecords<'_>) -> Result<(), StoreError>;

    /// What was noticed when the store was opened and its owner should know, as sentences: e.g. a
    /// line that a crash had left unfinished.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}
