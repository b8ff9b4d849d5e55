//! The side that reads.

use std::ops::Bound;
use std::sync::Arc;

use hearken_data::feedback::{Item, Judgement};

use super::file::Spot;
use super::line::{Line, Name};
use super::{SharedFile, changed, judgement};
use crate::error::StoreError;
use crate::kept::StoreReads;
use crate::record::{Assignment, Counts, Document, Event, Placed, Record, Taken};
use crate::store::Sink;

/// Reads records where the index says they are.
pub(crate) struct JsonlReads {
    shared: Arc<SharedFile>,
    notices: Vec<String>,
}

impl JsonlReads {
    pub(super) fn new(shared: Arc<SharedFile>, notices: Vec<String>) -> Self {
        Self { shared, notices }
    }

    fn read_item(&self, spot: Spot) -> Result<Item, StoreError> {
        match self.shared.file.read(spot)? {
            Line::Item(item) => Ok(item),
            _ => Err(changed(&self.shared.file)),
        }
    }

    fn read_event(&self, spot: Spot) -> Result<Event, StoreError> {
        match self.shared.file.read(spot)? {
            Line::Event(event) => Ok(event),
            _ => Err(changed(&self.shared.file)),
        }
    }
}

/// Reads the records of a page: those of `spots` after place `after`.
fn page<T>(
    spots: Vec<Spot>,
    after: u64,
    read: impl Fn(Spot) -> Result<T, StoreError>,
) -> Result<Vec<Placed<T>>, StoreError> {
    let placed = |(number, spot)| Ok(Placed { place: after + number, record: read(spot)? });
    (1..).zip(spots).map(placed).collect()
}

/// The part of a list that a page has.
fn part<T>(list: &[T], after: u64, limit: usize) -> &[T] {
    let start = usize::try_from(after).unwrap_or(usize::MAX).min(list.len());
    &list[start..start.saturating_add(limit).min(list.len())]
}

impl StoreReads for JsonlReads {
    fn home(&self) -> String {
        self.shared.file.name()
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.shared.index().counts())
    }

    fn item(&self, id: &str) -> Result<Option<Item>, StoreError> {
        let spot = self.shared.index().item(id);
        spot.map(|spot| self.read_item(spot)).transpose()
    }

    fn items(&self, after: u64, limit: usize) -> Result<Vec<Placed<Item>>, StoreError> {
        let index = self.shared.index();
        let spots = part(&index.items, after, limit).iter().map(|item| item.spot).collect();
        drop(index);
        page(spots, after, |spot| self.read_item(spot))
    }

    fn judgements(&self, after: u64, limit: usize) -> Result<Vec<Placed<Judgement>>, StoreError> {
        let index = self.shared.index();
        let spots = part(&index.judgements, after, limit).iter().map(|it| it.spot).collect();
        drop(index);
        page(spots, after, |spot| judgement(&self.shared.file, spot))
    }

    fn judgement(&self, id: &str) -> Result<Option<Judgement>, StoreError> {
        let index = self.shared.index();
        let spot = index.judgement(id).map(|number| index.judgements[number].spot);
        drop(index);
        spot.map(|spot| judgement(&self.shared.file, spot)).transpose()
    }

    fn judgements_of(&self, item: &str) -> Result<Vec<Judgement>, StoreError> {
        let index = self.shared.index();
        let numbers = index.judgements_of(item).iter();
        let spots: Vec<Spot> =
            numbers.map(|&number| index.judgements[number as usize].spot).collect();
        drop(index);
        spots.into_iter().map(|spot| judgement(&self.shared.file, spot)).collect()
    }

    fn skipped(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(self.shared.index().skipped())
    }

    fn judgements_by(&self, annotator: &str, limit: usize) -> Result<Vec<Judgement>, StoreError> {
        let index = self.shared.index();
        let newest = index.judgements_by(annotator).iter().rev().take(limit);
        let spots: Vec<Spot> =
            newest.map(|&number| index.judgements[number as usize].spot).collect();
        drop(index);
        spots.into_iter().map(|spot| judgement(&self.shared.file, spot)).collect()
    }

    fn assignment(&self, id: &str) -> Result<Option<Assignment>, StoreError> {
        Ok(self.shared.index().assignment(id).cloned())
    }

    fn live_assignments(&self, annotator: &str, now: i64) -> Result<Vec<Assignment>, StoreError> {
        Ok(self.shared.index().live_assignments(annotator, now))
    }

    fn taken(&self, now: i64) -> Result<Vec<Taken>, StoreError> {
        Ok(self.shared.index().taken(now))
    }

    fn seen_at(&self, annotator: &str, now: i64) -> Result<Vec<String>, StoreError> {
        Ok(self.shared.index().seen_at(annotator, now))
    }

    fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        let name = Name { kind: kind.into(), key: key.into() };
        Ok(self.shared.index().documents.get(&name).map(|(document, _)| document.clone()))
    }

    fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError> {
        let from = Bound::Included(Name { kind: kind.into(), key: String::new() });
        let index = self.shared.index();
        let of_kind = index.documents.range((from, Bound::Unbounded));
        let of_kind = of_kind.take_while(|(name, _)| name.kind == kind);
        Ok(of_kind.map(|(_, (document, _))| document.clone()).collect())
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Placed<Event>>, StoreError> {
        let spots = part(&self.shared.index().events, after, limit).to_vec();
        page(spots, after, |spot| self.read_event(spot))
    }

    fn export(&self, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        let index = self.shared.index();
        let documents: Vec<Document> = index.documents.values().map(|it| it.0.clone()).collect();
        let items: Vec<Spot> = index.items.iter().map(|item| item.spot).collect();
        let assignments = index.assignments.clone();
        let judgements: Vec<Spot> = index.judgements.iter().map(|it| it.spot).collect();
        let events = index.events.clone();
        drop(index);
        documents.into_iter().try_for_each(|it| sink(Record::Document(it)))?;
        items.into_iter().try_for_each(|spot| sink(Record::Item(self.read_item(spot)?)))?;
        assignments.into_iter().try_for_each(|it| sink(Record::Assignment(it)))?;
        judgements
            .into_iter()
            .try_for_each(|spot| sink(Record::Judgement(judgement(&self.shared.file, spot)?)))?;
        events.into_iter().try_for_each(|spot| sink(Record::Event(self.read_event(spot)?)))
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }
}
