//! What the lead of a project changes about items that are there: withdrawn, gold, priority, tags, people, comments.
//!
//! Items never change. Each change is a document of its own under the next number, so that a change of a hundred
//! thousand items is one write, all or none, and whoever has read some reads only what came since.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use hearken_data::feedback::{Gold, Item};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::StoreError;
use crate::record::{Expected, Record};
use crate::store::Store;

/// The kind of the documents.
const KIND: &str = "change";

/// Attempts at the next number, while others write at the same time.
const ATTEMPTS: usize = 100;

/// One change of some items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemChange {
    /// When: milliseconds since 1970 in UTC.
    pub at: i64,
    /// Who: a pseudonym.
    pub by: String,
    /// The items.
    pub items: Vec<String>,
    /// What.
    pub change: Change,
}

/// What is changed about an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `true`: it is out of the project: nobody gets it, no result and no training data is made of it. `false`: it is back.
    Withdrawn(bool),
    /// Its priority.
    Priority(i64),
    /// The verdict that counts as right, or none.
    Gold(Option<Gold>),
    /// A tag that it has from now on.
    Tagged(String),
    /// A tag that it no longer has.
    Untagged(String),
    /// The only annotators that get it; none for everybody.
    People(Vec<String>),
    /// Something said about it.
    Comment(String),
}

/// Something that somebody has said about an item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comment {
    /// When: milliseconds since 1970 in UTC.
    pub at: i64,
    /// Who: a pseudonym.
    pub by: String,
    /// What.
    pub text: String,
}

/// What the changes of an item come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changed {
    /// Whether it is out of the project.
    pub withdrawn: bool,
    /// Its priority, where that was changed.
    pub priority: Option<i64>,
    /// Its right verdict, where that was changed.
    pub gold: Option<Option<Gold>>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// The only annotators that get it; none for everybody.
    pub people: Vec<String>,
    /// What was said about it, the oldest first.
    pub comments: Vec<Comment>,
}

impl Changed {
    /// Takes over a change by `by`, made at `at`.
    pub fn take(&mut self, change: &Change, by: &str, at: i64) {
        match change {
            Change::Withdrawn(withdrawn) => self.withdrawn = *withdrawn,
            Change::Priority(priority) => self.priority = Some(*priority),
            Change::Gold(gold) => self.gold = Some(gold.clone()),
            Change::Tagged(tag) => {
                self.tags.insert(tag.clone());
            }
            Change::Untagged(tag) => {
                self.tags.remove(tag);
            }
            Change::People(people) => self.people.clone_from(people),
            Change::Comment(text) => {
                self.comments.push(Comment { at, by: by.into(), text: text.clone() });
            }
        }
    }

    /// The item with what was changed about it.
    pub fn apply(&self, item: &mut Item) {
        if let Some(priority) = self.priority {
            item.priority = priority;
        }
        if let Some(gold) = &self.gold {
            item.gold.clone_from(gold);
        }
    }
}

/// Adds a change after number `after`, the last that is known; gives its number.
///
/// # Errors
///
/// The store cannot be written, or too many others write at the same time.
pub fn add_change(
    store: &dyn Store,
    change: &ItemChange,
    mut after: u64,
) -> Result<u64, StoreError> {
    for _ in 0..ATTEMPTS {
        let key = key(after + 1);
        if store.put_document(KIND, &key, &json!(change), Expected::Nothing)?.is_some() {
            return Ok(after + 1);
        }
        after += 1;
    }
    Err(StoreError::Conflict("others change items at the same time; try again".into()))
}

/// The changes after number `after`, in their order.
///
/// # Errors
///
/// The store cannot be read, or holds changes of a later version of this program.
pub fn changes_after(store: &dyn Store, after: u64) -> Result<Vec<ItemChange>, StoreError> {
    let documents = match after {
        0 => store.documents(KIND)?,
        mut after => {
            let mut documents = Vec::new();
            while let Some(document) = store.document(KIND, &key(after + 1))? {
                documents.push(document);
                after += 1;
            }
            documents
        }
    };
    let change = |document: crate::Document| {
        serde_json::from_value(document.body).map_err(|error| {
            StoreError::corrupt(&store.home(), &format!("change {}: {error}", document.key))
        })
    };
    documents.into_iter().map(change).collect()
}

/// What all changes come to, by item.
///
/// # Errors
///
/// As [`changes_after`].
pub fn all_changes(store: &dyn Store) -> Result<HashMap<String, Changed>, StoreError> {
    Ok(come_to(changes_after(store, 0)?))
}

/// What all changes come to that stand in a file of JSON lines, which may be a store or any other. A line that is no such
/// change says nothing here.
///
/// # Errors
///
/// The file cannot be read.
pub(crate) fn changes_in(path: &Path) -> io::Result<HashMap<String, Changed>> {
    let mut numbered = Vec::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        if !line.starts_with(b"{\"document\"") {
            continue;
        }
        if let Ok(Record::Document(document)) = serde_json::from_slice(&line)
            && document.kind == KIND
            && let Ok(change) = serde_json::from_value::<ItemChange>(document.body)
        {
            numbered.push((document.key, change));
        }
    }
    numbered.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(come_to(numbered.into_iter().map(|(_, change)| change)))
}

/// What changes come to, by item.
fn come_to(changes: impl IntoIterator<Item = ItemChange>) -> HashMap<String, Changed> {
    let mut all: HashMap<String, Changed> = HashMap::new();
    for ItemChange { at, by, items, change } in changes {
        for item in items {
            all.entry(item).or_default().take(&change, &by, at);
        }
    }
    all
}

/// Keys in the order of their numbers.
fn key(number: u64) -> String {
    format!("{number:012}")
}
