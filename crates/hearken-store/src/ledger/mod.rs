//! The rules of the store, written once for every home.
//!
//! A [`Ledger`] answers the requests of one transaction. It looks up what the home has through
//! [`Facts`], remembers what the requests change, and hands the changes over at the end as
//! [`LedgerChanges`], which the home writes.
//!
//! Not here: files, SQL.

mod add;
mod check;
mod rules;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hearken_data::feedback::{Item, Judgement};
use serde_json::Value;

use crate::error::StoreError;
use crate::record::{Assignment, Document, Event, Expected, Placed};
use crate::write::{StoreWrite, WriteReply};

pub(crate) use check::json;

/// An item and its hash.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) item: Item,
    pub(crate) hash: String,
}

/// Who has an item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    /// Annotators who have judged it.
    pub(crate) judged: u32,
    /// Annotators with an assignment in state live, and its end.
    pub(crate) holds: Vec<(String, i64)>,
}

/// The last place of each kind of record; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) items: u64,
    pub(crate) judgements: u64,
    pub(crate) events: u64,
}

/// What a home has, as the transaction under way sees it.
pub(crate) trait Facts {
    fn places(&mut self) -> Result<Places, StoreError>;
    fn item(&mut self, id: &str) -> Result<Option<Known>, StoreError>;
    /// `None` where the item is not there.
    fn seats(&mut self, item: &str) -> Result<Option<Seats>, StoreError>;
    fn has_judged(&mut self, item: &str, annotator: &str) -> Result<bool, StoreError>;
    fn judgement(&mut self, id: &str) -> Result<Option<Placed<Judgement>>, StoreError>;
    /// The id of the judgement that revises the one of this id.
    fn reviser(&mut self, id: &str) -> Result<Option<String>, StoreError>;
    fn assignment(&mut self, id: &str) -> Result<Option<Assignment>, StoreError>;
    fn assignment_of(
        &mut self,
        item: &str,
        annotator: &str,
    ) -> Result<Option<Assignment>, StoreError>;
    fn document(&mut self, kind: &str, key: &str) -> Result<Option<Document>, StoreError>;
}

/// A new item.
#[derive(Debug)]
pub(crate) struct NewItem {
    pub(crate) place: u64,
    pub(crate) known: Arc<Known>,
}

/// A new judgement.
#[derive(Debug)]
pub(crate) struct NewJudgement {
    pub(crate) place: u64,
    pub(crate) record: Judgement,
    /// The place of the judgement that it revises.
    pub(crate) revises: Option<u64>,
    /// Whether the annotator had not judged the item before.
    pub(crate) first: bool,
}

/// What the requests of a transaction change, to be written by the home in this order.
#[derive(Debug, Default)]
pub(crate) struct LedgerChanges {
    /// `None`: the document is removed.
    pub(crate) documents: Vec<((String, String), Option<Document>)>,
    pub(crate) items: Vec<NewItem>,
    /// Their last states, one per assignment.
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) judgements: Vec<NewJudgement>,
    pub(crate) events: Vec<Placed<Event>>,
}

impl LedgerChanges {
    /// How many records are new or changed.
    pub(crate) fn len(&self) -> usize {
        self.documents.len()
            + self.items.len()
            + self.assignments.len()
            + self.judgements.len()
            + self.events.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The requests of one transaction at work.
pub(crate) struct Ledger<'a> {
    facts: Box<dyn Facts + 'a>,
    last: Places,
    items: HashMap<String, Arc<Known>>,
    seats: HashMap<String, Seats>,
    judged: HashSet<(String, String)>,
    /// Place in `changes.judgements` by id.
    judgements: HashMap<String, usize>,
    revisers: HashMap<String, String>,
    /// Place in `changes.assignments` by id.
    assignments: HashMap<String, usize>,
    /// Place in `changes.assignments` by item and annotator.
    assignments_of: HashMap<(String, String), usize>,
    /// Place in `changes.documents` by kind and key.
    documents: HashMap<(String, String), usize>,
    changes: LedgerChanges,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(mut facts: Box<dyn Facts + 'a>) -> Result<Self, StoreError> {
        let last = facts.places()?;
        Ok(Self {
            facts,
            last,
            items: HashMap::new(),
            seats: HashMap::new(),
            judged: HashSet::new(),
            judgements: HashMap::new(),
            revisers: HashMap::new(),
            assignments: HashMap::new(),
            assignments_of: HashMap::new(),
            documents: HashMap::new(),
            changes: LedgerChanges::default(),
        })
    }

    pub(crate) fn into_changes(self) -> LedgerChanges {
        self.changes
    }

    /// Answers a request. One that fails changes nothing, unless it adds several records: those go
    /// into a transaction of their own.
    pub(crate) fn answer(&mut self, write: &StoreWrite<'_>) -> Result<WriteReply, StoreError> {
        Ok(match write {
            StoreWrite::AddItems(items) => WriteReply::Added(self.add_items(items)?),
            StoreWrite::AddJudgements(judgements) => {
                WriteReply::Added(self.add_judgements(judgements)?)
            }
            StoreWrite::Claim(claim) => WriteReply::Claimed(self.claim(claim)?),
            StoreWrite::Renew { assignment, now, expires_at } => {
                WriteReply::Renewed(self.renew(assignment, *now, *expires_at)?)
            }
            StoreWrite::Skip { assignment } => {
                self.skip(assignment)?;
                WriteReply::Skipped
            }
            StoreWrite::Submit { judgement, overlap, now } => {
                WriteReply::Submitted(self.submit(judgement, *overlap, *now)?)
            }
            StoreWrite::PutDocument { kind, key, body, expected } => {
                WriteReply::Version(self.put_document(kind, key, body, *expected)?)
            }
            StoreWrite::DeleteDocument { kind, key } => {
                WriteReply::Deleted(self.delete_document(kind, key)?)
            }
            StoreWrite::Record(event) => {
                self.record(event.clone());
                WriteReply::Recorded
            }
            StoreWrite::Restore(records) => {
                self.restore(records)?;
                WriteReply::Restored
            }
        })
    }

    fn item(&mut self, id: &str) -> Result<Option<Arc<Known>>, StoreError> {
        if let Some(known) = self.items.get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        let found = self.facts.item(id)?.map(Arc::new);
        if let Some(known) = &found {
            self.items.insert(id.into(), Arc::clone(known));
        }
        Ok(found)
    }

    fn seats(&mut self, item: &str) -> Result<Option<&mut Seats>, StoreError> {
        if !self.seats.contains_key(item) {
            let Some(seats) = self.facts.seats(item)? else { return Ok(None) };
            self.seats.insert(item.into(), seats);
        }
        Ok(self.seats.get_mut(item))
    }

    /// How many annotators other than this one have judged the item or hold it at the time `now`.
    fn others(&mut self, item: &str, annotator: &str, now: i64) -> Result<u32, StoreError> {
        let own = u32::from(self.has_judged(item, annotator)?);
        let seats = self.seats(item)?.ok_or_else(|| StoreError::no("item", item))?;
        let holds = seats.holds.iter().filter(|(who, end)| who != annotator && *end > now).count();
        Ok(seats.judged.saturating_sub(own) + u32::try_from(holds).unwrap_or(u32::MAX))
    }

    fn has_judged(&mut self, item: &str, annotator: &str) -> Result<bool, StoreError> {
        if self.judged.contains(&(item.into(), annotator.into())) {
            return Ok(true);
        }
        self.facts.has_judged(item, annotator)
    }

    fn judgement(&mut self, id: &str) -> Result<Option<Placed<Judgement>>, StoreError> {
        if let Some(&index) = self.judgements.get(id) {
            let new = &self.changes.judgements[index];
            return Ok(Some(Placed { place: new.place, record: new.record.clone() }));
        }
        self.facts.judgement(id)
    }

    fn reviser(&mut self, id: &str) -> Result<Option<String>, StoreError> {
        match self.revisers.get(id) {
            Some(reviser) => Ok(Some(reviser.clone())),
            None => self.facts.reviser(id),
        }
    }

    fn assignment(&mut self, id: &str) -> Result<Option<Assignment>, StoreError> {
        match self.assignments.get(id) {
            Some(&index) => Ok(Some(self.changes.assignments[index].clone())),
            None => self.facts.assignment(id),
        }
    }

    fn assignment_of(
        &mut self,
        item: &str,
        annotator: &str,
    ) -> Result<Option<Assignment>, StoreError> {
        match self.assignments_of.get(&(item.into(), annotator.into())) {
            Some(&index) => Ok(Some(self.changes.assignments[index].clone())),
            None => self.facts.assignment_of(item, annotator),
        }
    }

    /// Sets the state of an assignment, new or not.
    fn put_assignment(&mut self, assignment: Assignment) -> Result<(), StoreError> {
        let annotator = assignment.annotator.clone();
        let end = (assignment.state == crate::record::AssignmentState::Live)
            .then_some(assignment.expires_at);
        if let Some(seats) = self.seats(&assignment.item)? {
            seats.holds.retain(|(who, _)| *who != annotator);
            seats.holds.extend(end.map(|end| (annotator, end)));
        }
        if let Some(&index) = self.assignments.get(&assignment.id) {
            self.changes.assignments[index] = assignment;
            return Ok(());
        }
        let index = self.changes.assignments.len();
        self.assignments.insert(assignment.id.clone(), index);
        let key = (assignment.item.clone(), assignment.annotator.clone());
        self.assignments_of.insert(key, index);
        self.changes.assignments.push(assignment);
        Ok(())
    }

    fn document(&mut self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        match self.documents.get(&(kind.into(), key.into())) {
            Some(&index) => Ok(self.changes.documents[index].1.clone()),
            None => self.facts.document(kind, key),
        }
    }

    fn put_document(
        &mut self,
        kind: &str,
        key: &str,
        body: &Value,
        expected: Expected,
    ) -> Result<Option<u64>, StoreError> {
        check::document_name(kind, key)?;
        let found = self.document(kind, key)?.map(|document| document.version);
        let fits = match expected {
            Expected::Anything => true,
            Expected::Nothing => found.is_none(),
            Expected::Version(version) => found == Some(version),
        };
        if !fits {
            return Ok(None);
        }
        let version = found.unwrap_or(0) + 1;
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.set_document(
            (kind.clone(), key.clone()),
            Some(Document { kind, key, version, body: body.clone() }),
        );
        Ok(Some(version))
    }

    fn delete_document(&mut self, kind: &str, key: &str) -> Result<bool, StoreError> {
        let there = self.document(kind, key)?.is_some();
        if there {
            self.set_document((kind.into(), key.into()), None);
        }
        Ok(there)
    }

    fn set_document(&mut self, name: (String, String), document: Option<Document>) {
        if let Some(&index) = self.documents.get(&name) {
            self.changes.documents[index].1 = document;
            return;
        }
        self.documents.insert(name.clone(), self.changes.documents.len());
        self.changes.documents.push((name, document));
    }

    fn record(&mut self, event: Event) {
        self.last.events += 1;
        self.changes.events.push(Placed { place: self.last.events, record: event });
    }
}
