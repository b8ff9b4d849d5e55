//! One record of any kind: a line of a JSON-lines home, a step of a copy.

use hearken_data::feedback::{Item, Judgement};
use serde::{Deserialize, Serialize};

use crate::store::{Assignment, Document, Event};

/// A record of any kind. As JSON it is an object with one key, which names the kind.
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
