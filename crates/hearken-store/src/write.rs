//! Requests to change a store, and the answers to them.

use std::borrow::Cow;

use hearken_data::feedback::{Item, Judgement};
use serde_json::Value;

use crate::record::{Added, Claim, Claimed, Event, Expected, Record, Submitted};

/// A request to change a store.
#[derive(Clone, Debug)]
pub(crate) enum StoreWrite<'a> {
    AddItems(Cow<'a, [Item]>),
    AddJudgements(Cow<'a, [Judgement]>),
    Claim(Claim),
    Renew { assignment: String, now: i64, expires_at: i64 },
    Skip { assignment: String },
    Submit { judgement: Judgement, overlap: u32, now: i64 },
    PutDocument { kind: String, key: String, body: Value, expected: Expected },
    DeleteDocument { kind: String, key: String },
    Record(Event),
    Restore(Vec<Record>),
}

/// The answer to a [`StoreWrite`]: the variant of the same meaning.
#[derive(Clone, Debug)]
pub(crate) enum WriteReply {
    Added(Added),
    Claimed(Claimed),
    Renewed(bool),
    Skipped,
    Submitted(Submitted),
    Version(Option<u64>),
    Deleted(bool),
    Recorded,
    Restored,
}
