//! What is kept in memory: where each record is, and who has judged or holds what.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hearken_data::feedback::Judgement;

use super::file::Spot;
use super::line::Name;
use crate::ledger::Seats;
use crate::record::{Assignment, AssignmentState, Counts, Document, Taken};

/// An index of the file. Items, judgements, annotators and assignments have numbers from 0, in the
/// order of their lines; a place is one more.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) items: Vec<ItemEntry>,
    item_numbers: HashMap<Arc<str>, u32>,
    pub(super) judgements: Vec<JudgementEntry>,
    judgement_numbers: HashMap<Box<str>, u32>,
    annotators: Vec<AnnotatorEntry>,
    annotator_numbers: HashMap<Arc<str>, u32>,
    pub(super) assignments: Vec<Assignment>,
    assignment_numbers: HashMap<String, u32>,
    pub(super) documents: BTreeMap<Name, (Document, Spot)>,
    pub(super) events: Vec<Spot>,
}

#[derive(Clone, Debug)]
pub(super) struct ItemEntry {
    id: Arc<str>,
    pub(super) spot: Spot,
    judged: u32,
    /// Numbers of its judgements, the oldest first.
    judgements: Vec<u32>,
    /// Numbers of its assignments in state live.
    live: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct JudgementEntry {
    pub(super) spot: Spot,
    /// Number of the judgement that revises it.
    pub(super) reviser: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct AnnotatorEntry {
    /// Numbers of judgements.
    judgements: Vec<u32>,
    /// Numbers of items.
    judged: HashSet<u32>,
    /// Number of the assignment by number of the item.
    assignments: BTreeMap<u32, u32>,
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than 4 billion records fit into the memory")
}

impl Index {
    pub(super) fn counts(&self) -> Counts {
        let judging = self.annotators.iter().filter(|it| !it.judgements.is_empty());
        Counts {
            items: self.items.len() as u64,
            judgements: self.judgements.len() as u64,
            annotators: judging.count() as u64,
        }
    }

    pub(super) fn item(&self, id: &str) -> Option<Spot> {
        Some(self.items[self.item_number(id)?].spot)
    }

    pub(super) fn item_number(&self, id: &str) -> Option<usize> {
        self.item_numbers.get(id).map(|&number| number as usize)
    }

    /// Number of the judgement of this id.
    pub(super) fn judgement(&self, id: &str) -> Option<usize> {
        self.judgement_numbers.get(id).map(|&number| number as usize)
    }

    pub(super) fn assignment(&self, id: &str) -> Option<&Assignment> {
        self.assignment_numbers.get(id).map(|&number| &self.assignments[number as usize])
    }

    fn annotator(&self, name: &str) -> Option<&AnnotatorEntry> {
        self.annotator_numbers.get(name).map(|&number| &self.annotators[number as usize])
    }

    pub(super) fn assignment_of(&self, item: &str, annotator: &str) -> Option<&Assignment> {
        let item = self.item_numbers.get(item)?;
        let number = self.annotator(annotator)?.assignments.get(item)?;
        Some(&self.assignments[*number as usize])
    }

    pub(super) fn has_judged(&self, item: &str, annotator: &str) -> bool {
        let item = self.item_numbers.get(item);
        let annotator = self.annotator(annotator);
        annotator.zip(item).is_some_and(|(annotator, item)| annotator.judged.contains(item))
    }

    pub(super) fn seats(&self, item: &str) -> Option<Seats> {
        let entry = &self.items[self.item_number(item)?];
        let hold = |&number: &u32| {
            let assignment = &self.assignments[number as usize];
            (assignment.annotator.clone(), assignment.expires_at)
        };
        Some(Seats { judged: entry.judged, holds: entry.live.iter().map(hold).collect() })
    }

    /// Numbers of the judgements of an annotator, the oldest first.
    pub(super) fn judgements_by(&self, annotator: &str) -> &[u32] {
        self.annotator(annotator).map_or(&[], |it| &it.judgements)
    }

    /// Numbers of the judgements of an item, the oldest first.
    pub(super) fn judgements_of(&self, item: &str) -> &[u32] {
        self.item_number(item).map_or(&[], |number| &self.items[number].judgements)
    }

    /// How many items each annotator has given back.
    pub(super) fn skipped(&self) -> Vec<(String, u64)> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for assignment in &self.assignments {
            if assignment.state == AssignmentState::Skipped {
                *counts.entry(&assignment.annotator).or_default() += 1;
            }
        }
        counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    pub(super) fn live_assignments(&self, annotator: &str, now: i64) -> Vec<Assignment> {
        let of_annotator = self.annotator(annotator).into_iter().flat_map(|it| &it.assignments);
        let mut live: Vec<(u32, &Assignment)> = of_annotator
            .map(|(_, &number)| (number, &self.assignments[number as usize]))
            .filter(|(_, it)| it.state == AssignmentState::Live && it.expires_at > now)
            .collect();
        live.sort_by_key(|(number, it)| (it.granted_at, *number));
        live.into_iter().map(|(_, assignment)| assignment.clone()).collect()
    }

    pub(super) fn taken(&self, now: i64) -> Vec<Taken> {
        let taken = self.items.iter().map(|item| {
            let holds = |&&number: &&u32| self.assignments[number as usize].expires_at > now;
            let held = number(item.live.iter().filter(holds).count());
            Taken { item: item.id.to_string(), judged: item.judged, held }
        });
        taken.filter(|it| it.judged > 0 || it.held > 0).collect()
    }

    pub(super) fn seen_at(&self, annotator: &str, now: i64) -> Vec<String> {
        let Some(annotator) = self.annotator(annotator) else { return Vec::new() };
        let assigned = annotator.assignments.iter().filter(|(_, number)| {
            let assignment = &self.assignments[**number as usize];
            assignment.state != AssignmentState::Live || assignment.expires_at > now
        });
        let mut seen: Vec<u32> = annotator.judged.iter().copied().collect();
        seen.extend(assigned.map(|(item, _)| *item));
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().map(|item| self.items[item as usize].id.to_string()).collect()
    }

    pub(super) fn add_item(&mut self, id: &str, spot: Spot) {
        let id: Arc<str> = id.into();
        self.item_numbers.insert(Arc::clone(&id), number(self.items.len()));
        self.items.push(ItemEntry {
            id,
            spot,
            judged: 0,
            judgements: Vec::new(),
            live: Vec::new(),
        });
    }

    /// Adds a judgement of an item that is there, and ends the annotator's assignment of the item.
    pub(super) fn add_judgement(&mut self, judgement: &Judgement, spot: Spot) {
        let this = number(self.judgements.len());
        let revised = judgement.revises.as_deref().and_then(|id| self.judgement(id));
        if let Some(revised) = revised {
            self.judgements[revised].reviser = Some(this);
        }
        self.judgement_numbers.insert(judgement.id.as_str().into(), this);
        self.judgements.push(JudgementEntry { spot, reviser: None });
        let item = self.item_number(&judgement.item).expect("its item was looked up before");
        let annotator = self.annotator_entry(&judgement.annotator);
        annotator.judgements.push(this);
        let first = annotator.judged.insert(number(item));
        let assignment = annotator.assignments.get(&number(item)).copied();
        self.items[item].judgements.push(this);
        self.items[item].judged += u32::from(first && !judgement.is_final);
        if let Some(assignment) = assignment {
            self.assignments[assignment as usize].state = AssignmentState::Judged;
            self.items[item].live.retain(|it| *it != assignment);
        }
    }

    /// Sets the state of an assignment of an item that is there.
    pub(super) fn put_assignment(&mut self, mut assignment: Assignment) {
        if self.has_judged(&assignment.item, &assignment.annotator) {
            assignment.state = AssignmentState::Judged;
        }
        let item = self.item_number(&assignment.item).expect("its item was looked up before");
        let this = match self.assignment_numbers.get(&assignment.id) {
            Some(&this) => this,
            None => number(self.assignments.len()),
        };
        self.items[item].live.retain(|it| *it != this);
        if assignment.state == AssignmentState::Live {
            self.items[item].live.push(this);
        }
        if self.assignments.len() > this as usize {
            self.assignments[this as usize] = assignment;
            return;
        }
        self.annotator_entry(&assignment.annotator).assignments.insert(number(item), this);
        self.assignment_numbers.insert(assignment.id.clone(), this);
        self.assignments.push(assignment);
    }

    fn annotator_entry(&mut self, name: &str) -> &mut AnnotatorEntry {
        let known = self.annotator_numbers.get(name).copied();
        let this = known.unwrap_or_else(|| {
            self.annotators.push(AnnotatorEntry::default());
            let this = number(self.annotators.len() - 1);
            self.annotator_numbers.insert(name.into(), this);
            this
        });
        &mut self.annotators[this as usize]
    }

    /// Sets or removes a document; gives the line that is out of date by that.
    pub(super) fn set_document(
        &mut self,
        name: Name,
        document: Option<(Document, Spot)>,
    ) -> Option<Spot> {
        let old = match document {
            Some(document) => self.documents.insert(name, document),
            None => self.documents.remove(&name),
        };
        old.map(|(_, spot)| spot)
    }
}
