//! Adding records: new ones, ones from elsewhere, those of another store.

use std::sync::Arc;

use hearken_data::feedback::{Item, Judgement};

use super::{Known, Ledger, NewItem, NewJudgement, check};
use crate::error::StoreError;
use crate::record::{Added, Assignment, AssignmentState, Document, Record};

impl Ledger<'_> {
    pub(super) fn add_items(&mut self, items: &[Item]) -> Result<Added, StoreError> {
        count(items, |item| {
            check::new_item(item)?;
            self.add_item(item)
        })
    }

    pub(super) fn add_judgements(&mut self, all: &[Judgement]) -> Result<Added, StoreError> {
        count(all, |judgement| self.add_judgement(judgement))
    }

    /// `false` where it is there already.
    fn add_item(&mut self, item: &Item) -> Result<bool, StoreError> {
        check::item(item)?;
        if let Some(known) = self.item(&item.id)? {
            return match known.item == *item {
                true => Ok(false),
                false => Err(StoreError::Conflict(format!(
                    "there is already an item {:?}, and its content is different; an item never \
                     changes: give the new one another id",
                    item.id
                ))),
            };
        }
        let known = Arc::new(Known { item: item.clone(), hash: item.hash() });
        self.last.items += 1;
        self.items.insert(item.id.clone(), Arc::clone(&known));
        self.seats.insert(item.id.clone(), super::Seats::default());
        self.changes.items.push(NewItem { place: self.last.items, known });
        Ok(true)
    }

    /// `false` where it is there already.
    fn add_judgement(&mut self, judgement: &Judgement) -> Result<bool, StoreError> {
        if self.is_there(judgement)?.is_some() {
            return Ok(false);
        }
        self.check_judgement(judgement)?;
        let revises = self.check_revision(judgement)?;
        self.append(judgement, revises)?;
        Ok(true)
    }

    /// The place of the judgement where it is there, equal but for its time.
    pub(super) fn is_there(&mut self, judgement: &Judgement) -> Result<Option<u64>, StoreError> {
        let Some(mut there) = self.judgement(&judgement.id)? else { return Ok(None) };
        there.record.at = judgement.at;
        match there.record == *judgement {
            true => Ok(Some(there.place)),
            false => Err(StoreError::Conflict(format!(
                "there is already a judgement {:?}, and its content is different; a judgement never \
                 changes: a new one with another id can revise it",
                judgement.id
            ))),
        }
    }

    pub(super) fn check_judgement(&mut self, judgement: &Judgement) -> Result<(), StoreError> {
        let Some(known) = self.item(&judgement.item)? else {
            return Err(StoreError::no("item", &judgement.item));
        };
        check::judgement(judgement, &known)
    }

    /// The place of the judgement that is revised. Refuses to revise what is not there, somebody
    /// else's, about another item, or revised.
    pub(super) fn check_revision(
        &mut self,
        judgement: &Judgement,
    ) -> Result<Option<u64>, StoreError> {
        let Judgement { id, revises: Some(revised), .. } = judgement else { return Ok(None) };
        let Some(there) = self.judgement(revised)? else {
            return Err(StoreError::no("judgement", revised));
        };
        // What one reviewer has decided another may decide anew.
        let by_the_same = there.record.annotator == judgement.annotator || judgement.is_final;
        if there.record.is_final != judgement.is_final {
            return Err(StoreError::Invalid(format!(
                "judgement {id:?} cannot revise {revised:?}: a final judgement takes the place of a \
                 final one, and no other of no other"
            )));
        }
        if !by_the_same || there.record.item != judgement.item {
            return Err(StoreError::Invalid(format!(
                "judgement {id:?} by {:?} on item {:?} cannot revise {revised:?}, which is by {:?} \
                 on item {:?}",
                judgement.annotator, judgement.item, there.record.annotator, there.record.item
            )));
        }
        match self.reviser(revised)? {
            None => Ok(Some(there.place)),
            Some(reviser) => Err(StoreError::Conflict(format!(
                "judgement {id:?} cannot revise {revised:?}: {reviser:?} has revised it already"
            ))),
        }
    }

    /// Appends a judgement that has been checked, and ends the annotator's assignment of the item.
    pub(super) fn append(
        &mut self,
        judgement: &Judgement,
        revises: Option<u64>,
    ) -> Result<u64, StoreError> {
        let (item, annotator) = (&judgement.item, &judgement.annotator);
        // Who decides for the others takes none of their seats.
        let first = !judgement.is_final && !self.has_judged(item, annotator)?;
        let assignment = self.assignment_of(item, annotator)?;
        let seats = self.seats(item)?.ok_or_else(|| StoreError::no("item", item))?;
        seats.judged += u32::from(first);
        if let Some(assignment) = assignment.filter(|it| it.state != AssignmentState::Judged) {
            self.put_assignment(Assignment { state: AssignmentState::Judged, ..assignment })?;
        }
        self.last.judgements += 1;
        self.judged.insert((item.clone(), annotator.clone()));
        self.judgements.insert(judgement.id.clone(), self.changes.judgements.len());
        if let Some(revised) = &judgement.revises {
            self.revisers.insert(revised.clone(), judgement.id.clone());
        }
        let place = self.last.judgements;
        let record = judgement.clone();
        self.changes.judgements.push(NewJudgement { place, record, revises, first });
        Ok(place)
    }

    pub(super) fn restore(&mut self, records: &[Record]) -> Result<(), StoreError> {
        records.iter().try_for_each(|record| match record {
            Record::Document(document) => self.restore_document(document),
            Record::Item(item) => self.add_item(item).map(|_| ()),
            Record::Assignment(assignment) => self.restore_assignment(assignment),
            Record::Judgement(judgement) => self.add_judgement(judgement).map(|_| ()),
            Record::Event(event) => {
                self.record(event.clone());
                Ok(())
            }
        })
    }

    fn restore_document(&mut self, document: &Document) -> Result<(), StoreError> {
        check::document_name(&document.kind, &document.key)?;
        match self.document(&document.kind, &document.key)? {
            None => {
                let name = (document.kind.clone(), document.key.clone());
                self.set_document(name, Some(document.clone()));
                Ok(())
            }
            Some(there) if there == *document => Ok(()),
            Some(_) => Err(StoreError::Conflict(format!(
                "there is already another document {:?} of kind {:?}",
                document.key, document.kind
            ))),
        }
    }

    fn restore_assignment(&mut self, assignment: &Assignment) -> Result<(), StoreError> {
        check::assignment_names(&assignment.id, &assignment.annotator)?;
        if self.item(&assignment.item)?.is_none() {
            return Err(StoreError::no("item", &assignment.item));
        }
        let same_id = self.assignment(&assignment.id)?;
        let there = match same_id {
            Some(there) => Some(there),
            None => self.assignment_of(&assignment.item, &assignment.annotator)?,
        };
        match there {
            None => self.put_assignment(assignment.clone()),
            Some(there) if there == *assignment => Ok(()),
            Some(there) => Err(StoreError::Conflict(format!(
                "assignment {:?} of item {:?} to {:?} contradicts {:?}, which is there already",
                assignment.id, assignment.item, assignment.annotator, there.id
            ))),
        }
    }
}

/// Adds each record and counts; the error of a list says which record it was.
fn count<T>(
    records: &[T],
    mut add: impl FnMut(&T) -> Result<bool, StoreError>,
) -> Result<Added, StoreError> {
    let mut added = Added::default();
    for record in records {
        match add(record)? {
            true => added.added += 1,
            false => added.already_there += 1,
        }
    }
    Ok(added)
}
