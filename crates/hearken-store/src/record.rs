//! What a store holds and is asked: its records, requests and answers.

use hearken_data::feedback::{Item, Judgement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A record of any kind: a line of a JSON-lines home, a step of a copy. As JSON it is an object with one key, which names the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant)] // records pass one at a time
pub enum Record {
    /// `{"document": {…}}`: its latest version.
    Document(Document),
    /// `{"item": {…}}`.
    Item(Item),
    /// `{"assignment": {…}}`: its latest state.
    Assignment(Assignment),
    /// `{"judgement": {…}}`.
    Judgement(Judgement),
    /// `{"event": {…}}`.
    Event(Event),
}

/// A record and its place in the order of appending. Places grow; they may have gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The place: greater than 0.
    pub place: u64,
    /// The record.
    pub record: T,
}

/// How many records a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Items.
    pub items: u64,
    /// Judgements, revised ones included.
    pub judgements: u64,
    /// Distinct annotators who have judged.
    pub annotators: u64,
}

/// What became of a list of records that were to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
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
