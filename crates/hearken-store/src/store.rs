//! The one trait that every home of the store fills.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hearken_data::feedback::{Item, Judgement};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StoreError;
use crate::record::Record;

/// Takes the records of an [export](Store::export), one after the other.
pub type Sink<'a> = dyn FnMut(Record) -> Result<(), StoreError> + 'a;

/// Gives the records of a [restoration](Store::restore).
pub type Records<'a> = dyn Iterator<Item = Result<Record, StoreError>> + 'a;

/// A record and its place in the order of appending. Places grow; they may have gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The place: greater than 0.
    pub place: u64,
    /// The record.
    pub record: T,
}

/// How many records a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Items.
    pub items: u64,
    /// Judgements, revised ones included.
    pub judgements: u64,
    /// Distinct annotators who have judged.
    pub annotators: u64,
}

/// What became of a list of records that were to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Added {
    /// New records.
    pub added: u64,
    /// Records that were there already, equal in content.
    pub already_there: u64,
}

/// An annotator's claim on an item, before it is granted.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The item.
    pub item: String,
    /// The annotator's pseudonym.
    pub annotator: String,
    /// The order on the page: place `k` shows candidate `presented[k]`.
    pub presented: Vec<usize>,
    /// The probability with which the item was chosen.
    pub propensity: Option<f64>,
    /// The version of the guidelines that holds.
    pub guidelines: Option<u32>,
    /// How many annotators may judge the item.
    pub overlap: u32,
    /// Milliseconds since 1970 in UTC.
    pub now: i64,
    /// How long the claim holds, in milliseconds.
    pub lease_ms: i64,
}

/// An item in the hands of an annotator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The name of the assignment, unique in its store and hard to guess.
    pub id: String,
    /// The item.
    pub item: String,
    /// The annotator's pseudonym.
    pub annotator: String,
    /// The order on the page: place `k` shows candidate `presented[k]`.
    pub presented: Vec<usize>,
    /// The probability with which the item was chosen.
    pub propensity: Option<f64>,
    /// The version of the guidelines that holds.
    pub guidelines: Option<u32>,
    /// When it was granted: milliseconds since 1970 in UTC.
    pub granted_at: i64,
    /// When it ends by itself.
    pub expires_at: i64,
    /// What became of it.
    pub state: AssignmentState,
}

/// What became of an assignment. A live one whose time is over counts as expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// In the annotator's hands.
    Live,
    /// Judged.
    Judged,
    /// Given back by the annotator, who is not offered the item again.
    Skipped,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// The item is the annotator's until the lease ends. Where the annotator already held it, this is
    /// the same assignment with a new end.
    Granted(Assignment),
    /// As many annotators as the overlap allows have judged or hold the item.
    Full,
    /// The annotator has judged or skipped the item before.
    SeenBefore,
}

/// The answer to a submitted judgement. When it arrives the judgement is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The judgement was appended.
    Appended {
        /// Its place.
        place: u64,
    },
    /// A judgement of the same name was there already, equal in content.
    AlreadyThere {
        /// Its place.
        place: u64,
    },
    /// The lease has ended and others have taken the item: nothing was stored.
    LeaseLost,
}

/// How many annotators an item has, without the item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The item.
    pub item: String,
    /// Annotators who have judged it.
    pub judged: u32,
    /// Annotators who hold a live assignment.
    pub held: u32,
}

/// A small record that may change: an account, a setting, a token, a version of the guidelines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What kind of record it is, e.g. `"account"`.
    pub kind: String,
    /// Its name among those of its kind.
    pub key: String,
    /// 1 when it is created, one more with each change.
    pub version: u64,
    /// What it says.
    pub body: Value,
}

/// What a change of a document expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No matter.
    Anything,
    /// No document of this name.
    Nothing,
    /// This version.
    Version(u64),
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When: milliseconds since 1970 in UTC.
    pub at: i64,
    /// Who: the pseudonym of an account, or the name of a program.
    pub actor: String,
    /// What was done, e.g. `"account.invited"`.
    pub action: String,
    /// To what, and how.
    pub details: Value,
}

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

    /// Writes a consistent copy of the whole store to a new SQLite or JSON-lines file, by its
    /// ending, while the store is in use.
    ///
    /// # Errors
    ///
    /// The file exists or cannot be written, the home cannot be read.
    fn backup(&self, to: &Path) -> Result<(), StoreError>;

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
    fn restore(&self, records: &mut Records<'_>) -> Result<(), StoreError>;

    /// What was noticed when the store was opened and its owner should know, as sentences: e.g. a
    /// line that a crash had left unfinished.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}
