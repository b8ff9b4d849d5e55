//! The side that writes.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use hearken_data::feedback::Judgement;

use super::SharedFile;
use super::file::{LockedFile, Spot};
use super::index::Index;
use super::line::{Line, Name, Written};
use crate::error::StoreError;
use crate::ledger::{Facts, Known, LedgerChanges, Places, Seats, json};
use crate::record::{Assignment, AssignmentState, Document, Placed};
use crate::write::StoreWrite;
use crate::writer::Home;

/// The writer's view of the file.
pub(crate) struct JsonlHome {
    shared: Arc<SharedFile>,
    /// Where the next line goes.
    bytes: u64,
    transaction: Transaction,
    /// Whether a failed transaction has left bytes behind `bytes`.
    remains: bool,
}

#[derive(Default)]
struct Transaction {
    /// `bytes` when it began.
    start: u64,
    /// What was flushed last and is not in the index.
    flushed: Option<(LedgerChanges, Spots)>,
    /// The index with what was flushed before: nobody else sees it until it is committed.
    own: Option<Index>,
    /// Lines that are out of date once it is committed.
    replaced: Vec<Spot>,
}

/// Where the lines of changes are, kind by kind, in the order of the changes.
#[derive(Default)]
struct Spots {
    documents: Vec<Spot>,
    items: Vec<Spot>,
    judgements: Vec<Spot>,
    events: Vec<Spot>,
}

/// Lines on their way to the file.
struct Lines {
    text: String,
    offset: u64,
}

impl Lines {
    fn push(&mut self, line: &Written<'_>) -> Result<Spot, StoreError> {
        let start = self.text.len();
        self.text.push_str(&json(line));
        let bytes = u32::try_from(self.text.len() - start)
            .map_err(|_| StoreError::Invalid("a record has more than 4 GiB as JSON".into()))?;
        self.text.push('\n');
        Ok(Spot { offset: self.offset + start as u64, bytes })
    }
}

impl JsonlHome {
    pub(super) fn new(shared: Arc<SharedFile>, bytes: u64) -> Self {
        Self { shared, bytes, transaction: Transaction::default(), remains: false }
    }

    /// Takes what was flushed into the transaction's own index.
    fn take_in(&mut self) {
        let Transaction { flushed, own, replaced, .. } = &mut self.transaction;
        let Some((changes, spots)) = flushed.take() else { return };
        let own = own.get_or_insert_with(|| self.shared.index().clone());
        enter(own, changes, spots, replaced);
    }

    /// Lets everybody see what was flushed.
    fn publish(&mut self) {
        let Transaction { flushed, own, replaced, .. } = &mut self.transaction;
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = own.take() {
            *index = own;
        }
        if let Some((changes, spots)) = flushed.take() {
            enter(&mut index, changes, spots, replaced);
        }
    }

    /// What the transaction under way sees.
    fn sight(&self) -> Sight<'_> {
        match &self.transaction.own {
            Some(own) => Sight::Own(own),
            None => Sight::Shared(self.shared.index()),
        }
    }

    fn lines(&self, changes: &LedgerChanges) -> Result<(Lines, Spots), StoreError> {
        let mut lines = Lines { text: String::new(), offset: self.bytes };
        let mut spots = Spots::default();
        for ((kind, key), document) in &changes.documents {
            let line = match document {
                Some(document) => Written::Document(document),
                None => Written::Removed { kind, key },
            };
            spots.documents.push(lines.push(&line)?);
        }
        for item in &changes.items {
            spots.items.push(lines.push(&Written::Item(&item.known.item))?);
        }
        let sight = self.sight();
        for assignment in &changes.assignments {
            // That a known assignment was judged is said by the line of the judgement.
            let known = sight.assignment(&assignment.id).is_some();
            if !(known && assignment.state == AssignmentState::Judged) {
                lines.push(&Written::Assignment(assignment))?;
            }
        }
        for judgement in &changes.judgements {
            spots.judgements.push(lines.push(&Written::Judgement(&judgement.record))?);
        }
        for event in &changes.events {
            spots.events.push(lines.push(&Written::Event(&event.record))?);
        }
        Ok((lines, spots))
    }
}

impl Home for JsonlHome {
    fn begin(&mut self) -> Result<(), StoreError> {
        let file = &self.shared.file;
        if self.remains {
            file.cut(self.bytes)?;
            self.remains = false;
        }
        let found = file.bytes()?;
        if found != self.bytes {
            return Err(StoreError::unavailable(
                &file.name(),
                &format!(
                    "another program has changed the file while it was in use: it has {found} \
                     bytes, {} were expected; open the store again",
                    self.bytes
                ),
            ));
        }
        self.transaction = Transaction { start: self.bytes, ..Transaction::default() };
        Ok(())
    }

    fn facts(&mut self, _writes: &[StoreWrite<'_>]) -> Result<Box<dyn Facts + '_>, StoreError> {
        self.take_in();
        Ok(Box::new(View { index: self.sight(), file: &self.shared.file }))
    }

    fn flush(&mut self, changes: LedgerChanges) -> Result<(), StoreError> {
        self.take_in();
        let (lines, spots) = self.lines(&changes)?;
        self.remains = true;
        self.shared.file.write_at(lines.text.as_bytes(), self.bytes)?;
        self.bytes += lines.text.len() as u64;
        self.transaction.flushed = Some((changes, spots));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.shared.file.sync()?;
        self.remains = false;
        self.publish();
        for spot in std::mem::take(&mut self.transaction.replaced) {
            // Where this fails, opening the file does it.
            let _ = self.shared.file.blank(spot);
        }
        self.transaction = Transaction { start: self.bytes, ..Transaction::default() };
        Ok(())
    }

    fn rollback(&mut self) {
        let transaction = std::mem::take(&mut self.transaction);
        self.transaction.start = transaction.start;
        if !self.remains {
            return;
        }
        self.bytes = transaction.start;
        let file = &self.shared.file;
        // A file that cannot be cut is cut by the next transaction, before it writes.
        self.remains = file.cut(self.bytes).is_err();
    }
}

/// The index that a transaction reads: its own where it has flushed something.
enum Sight<'a> {
    Shared(RwLockReadGuard<'a, Index>),
    Own(&'a Index),
}

impl Deref for Sight<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        match self {
            Self::Shared(index) => index,
            Self::Own(index) => index,
        }
    }
}

/// Enters what was flushed; lines that are out of date by it go to `replaced`.
fn enter(index: &mut Index, changes: LedgerChanges, spots: Spots, replaced: &mut Vec<Spot>) {
    for (((kind, key), document), spot) in changes.documents.into_iter().zip(spots.documents) {
        let document = document.map(|document| (document, spot));
        replaced.extend(index.set_document(Name { kind, key }, document));
    }
    for (item, spot) in changes.items.iter().zip(spots.items) {
        index.add_item(&item.known.item.id, spot);
    }
    changes.assignments.into_iter().for_each(|it| index.put_assignment(it));
    for (judgement, spot) in changes.judgements.iter().zip(spots.judgements) {
        index.add_judgement(&judgement.record, spot);
    }
    index.events.extend(spots.events);
}

/// The file as the transaction under way sees it.
struct View<'a> {
    index: Sight<'a>,
    file: &'a LockedFile,
}

impl View<'_> {
    fn read_judgement(&self, number: usize) -> Result<Judgement, StoreError> {
        super::judgement(self.file, self.index.judgements[number].spot)
    }
}

impl Facts for View<'_> {
    fn places(&mut self) -> Result<Places, StoreError> {
        Ok(Places {
            items: self.index.items.len() as u64,
            judgements: self.index.judgements.len() as u64,
            events: self.index.events.len() as u64,
        })
    }

    fn item(&mut self, id: &str) -> Result<Option<Known>, StoreError> {
        let Some(spot) = self.index.item(id) else { return Ok(None) };
        let Line::Item(item) = self.file.read(spot)? else {
            return Err(super::changed(self.file));
        };
        Ok(Some(Known { hash: item.hash(), item }))
    }

    fn seats(&mut self, item: &str) -> Result<Option<Seats>, StoreError> {
        Ok(self.index.seats(item))
    }

    fn has_judged(&mut self, item: &str, annotator: &str) -> Result<bool, StoreError> {
        Ok(self.index.has_judged(item, annotator))
    }

    fn judgement(&mut self, id: &str) -> Result<Option<Placed<Judgement>>, StoreError> {
        let Some(number) = self.index.judgement(id) else { return Ok(None) };
        Ok(Some(Placed { place: number as u64 + 1, record: self.read_judgement(number)? }))
    }

    fn reviser(&mut self, id: &str) -> Result<Option<String>, StoreError> {
        let reviser = self.index.judgement(id).and_then(|it| self.index.judgements[it].reviser);
        reviser.map(|number| Ok(self.read_judgement(number as usize)?.id)).transpose()
    }

    fn assignment(&mut self, id: &str) -> Result<Option<Assignment>, StoreError> {
        Ok(self.index.assignment(id).cloned())
    }

    fn assignment_of(
        &mut self,
        item: &str,
        annotator: &str,
    ) -> Result<Option<Assignment>, StoreError> {
        Ok(self.index.assignment_of(item, annotator).cloned())
    }

    fn document(&mut self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        let name = Name { kind: kind.into(), key: key.into() };
        Ok(self.index.documents.get(&name).map(|(document, _)| document.clone()))
    }
}
