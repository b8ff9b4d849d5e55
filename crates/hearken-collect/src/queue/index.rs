//! What is open, in memory. The store decides who gets what; the index only knows where to ask.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hearken_data::feedback::{Gold, Item};
use hearken_store::{Changed, ItemChange, Placed, Taken};
use rand::{Rng, RngExt as _};

use super::facts::Facts;
use super::order::{ChosenItem, Eligible, Order, RANDOM};
use crate::render::{images, media_path};

/// What the metadata of an item say whose answers were written in a live conversation.
pub(crate) const LIVE: &str = "live";

/// How many annotators may judge a gold item that does not say so itself: everybody.
const EVERYBODY: u32 = 1_000_000;

/// How many annotators may judge the item.
pub(crate) fn overlap_of(overlap: Option<u32>, is_gold: bool, project: u32) -> u32 {
    overlap.unwrap_or(if is_gold { EVERYBODY } else { project })
}

/// Why an item is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandOutReason {
    /// To admit an annotator.
    Screening,
    /// To measure an annotator.
    Gold,
    /// To learn from.
    Regular,
}

/// Shares of the items that are handed out, in [0, 1].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    /// Gold items.
    pub(crate) gold: f64,
    /// Items that are drawn at random, whatever the order says.
    pub(crate) random: f64,
}

/// An item without its content.
#[derive(Debug)]
pub(crate) struct QueueEntry {
    pub(crate) id: String,
    pub(crate) priority: i64,
    overlap: Option<u32>,
    pub(crate) gold: Option<Gold>,
    pub(crate) judged: u32,
    pub(crate) held: u32,
    was_asked: bool,
    pub(crate) facts: Facts,
    /// The models that wrote its candidates, by their places in [`Index::models`].
    pub(crate) models: Box<[Option<u32>]>,
    /// What was changed about it; priority and gold are those above.
    pub(crate) changed: Option<Box<Changed>>,
}

/// Names of models, each once.
#[derive(Debug, Default)]
struct Models {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Models {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("invariant: fewer than 2^32 models");
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    /// Those that wrote the candidates of an item.
    fn of(&mut self, item: &Item) -> Box<[Option<u32>]> {
        let models = item.candidates.iter().map(|candidate| candidate.model.as_deref());
        models.map(|name| name.map(|name| self.number(name))).collect()
    }
}

impl QueueEntry {
    fn new(mut item: Item, changed: Option<Changed>, models: &mut Models) -> Self {
        if let Some(changed) = &changed {
            changed.apply(&mut item);
        }
        let (facts, models) = (Facts::of(&item), models.of(&item));
        let Item { id, priority, overlap, gold, .. } = item;
        Self {
            id,
            priority,
            overlap,
            gold,
            judged: 0,
            held: 0,
            was_asked: false,
            facts,
            models,
            changed: changed.map(Box::new),
        }
    }

    pub(crate) fn pool(&self) -> HandOutReason {
        match &self.gold {
            Some(gold) if gold.screening => HandOutReason::Screening,
            Some(_) => HandOutReason::Gold,
            None => HandOutReason::Regular,
        }
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.changed.as_ref().is_some_and(|changed| changed.withdrawn)
    }

    /// The only annotators that get it; none for everybody. Gold items measure everybody.
    pub(crate) fn people(&self) -> &[String] {
        match (&self.changed, self.pool()) {
            (Some(changed), HandOutReason::Regular) => &changed.people,
            _ => &[],
        }
    }

    pub(crate) fn overlap(&self, project: u32) -> u32 {
        overlap_of(self.overlap, self.gold.is_some(), project)
    }
}

/// Open items of one priority. Adding and removing take constant time.
#[derive(Debug, Default)]
struct Bucket {
    open: Vec<u32>,
    place: HashMap<u32, usize>,
}

impl Bucket {
    fn add(&mut self, handle: u32) {
        if !self.place.contains_key(&handle) {
            self.place.insert(handle, self.open.len());
            self.open.push(handle);
        }
    }

    fn remove(&mut self, handle: u32) {
        let Some(place) = self.place.remove(&handle) else { return };
        self.open.swap_remove(place);
        if let Some(moved) = self.open.get(place) {
            self.place.insert(*moved, place);
        }
    }

    fn unseen(&self, seen: &HashSet<u32>) -> usize {
        let known = if seen.len() < self.open.len() {
            seen.iter().filter(|handle| self.place.contains_key(handle)).count()
        } else {
            self.open.iter().filter(|handle| seen.contains(handle)).count()
        };
        self.open.len() - known
    }
}

type Buckets = BTreeMap<Reverse<i64>, Bucket>;

/// Every item of the store, and which are open.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) entries: Vec<QueueEntry>,
    handles: HashMap<String, u32>,
    /// Items that were handed out to anybody, in the order in which it was seen.
    asked: Vec<u32>,
    open: [Buckets; 3],
    /// Open items that are for some annotators only.
    reserved: HashMap<String, Buckets>,
    /// Changes of items that are not read yet.
    early: HashMap<String, Changed>,
    /// The number of the last change that was taken over.
    pub(crate) changes: u64,
    in_pool: [usize; 3],
    /// The items of the pool that admits annotators.
    pub(crate) screening: Vec<u32>,
    /// The place up to which items were read.
    pub(crate) place: u64,
    pub(crate) overlap: u32,
    progress: Progress,
    models: Models,
    /// Paths of the images that items name; `None` where nobody asks.
    media: Option<HashSet<String>>,
}

/// How far a project is, over the items that are not gold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Progress {
    /// Items that as many annotators as asked for have judged.
    pub done: u64,
    /// Items that somebody holds.
    pub held: u64,
    /// Judgements that count towards what is asked for.
    pub judged: u64,
    /// Judgements asked for: the sum of the overlaps.
    pub wanted: u64,
}

impl Progress {
    fn add(&mut self, share: Progress) {
        self.done += share.done;
        self.held += share.held;
        self.judged += share.judged;
        self.wanted += share.wanted;
    }

    fn take(&mut self, share: Progress) {
        self.done -= share.done;
        self.held -= share.held;
        self.judged -= share.judged;
        self.wanted -= share.wanted;
    }
}

impl Index {
    pub(crate) fn new(keeps_media: bool) -> Self {
        Self { media: keeps_media.then(HashSet::new), ..Self::default() }
    }

    /// Whether an item names the image of this path.
    pub(crate) fn names_media(&self, path: &str) -> bool {
        self.media.as_ref().is_some_and(|media| media.contains(path))
    }

    /// The names of the models that wrote candidates.
    pub(crate) fn models(&self) -> Vec<Arc<str>> {
        self.models.names.clone()
    }

    pub(crate) fn handle(&self, id: &str) -> Option<u32> {
        self.handles.get(id).copied()
    }

    pub(crate) fn count(&self, pool: HandOutReason) -> usize {
        self.in_pool[pool as usize]
    }

    pub(crate) fn add(&mut self, items: Vec<Placed<Item>>) {
        for Placed { place, record } in items {
            self.place = self.place.max(place);
            if self.handles.contains_key(&record.id) {
                continue;
            }
            let handle =
                u32::try_from(self.entries.len()).expect("invariant: fewer than 2^32 items");
            if let Some(media) = &mut self.media {
                media.extend(media_of(&record));
            }
            let early = self.early.remove(&record.id);
            let entry = QueueEntry::new(record, early, &mut self.models);
            self.handles.insert(entry.id.clone(), handle);
            self.in_pool[entry.pool() as usize] += 1;
            if entry.pool() == HandOutReason::Screening {
                self.screening.push(handle);
            }
            self.entries.push(entry);
            self.progress.add(self.share_of(handle));
            self.settle(handle);
        }
    }

    /// Takes over what the store says about every item.
    pub(crate) fn replace_taken(&mut self, taken: &[Taken], overlap: u32) {
        self.overlap = overlap;
        for entry in &mut self.entries {
            (entry.judged, entry.held) = (0, 0);
        }
        for Taken { item, judged, held } in taken {
            if let Some(handle) = self.handle(item) {
                let entry = &mut self.entries[handle as usize];
                (entry.judged, entry.held) = (*judged, *held);
            }
        }
        self.progress = Progress::default();
        for handle in 0..self.entries.len() {
            let handle = handle as u32;
            self.progress.add(self.share_of(handle));
            self.settle(handle);
        }
    }

    /// Puts the item among the open ones, or takes it away.
    fn settle(&mut self, handle: u32) {
        let entry = &mut self.entries[handle as usize];
        if !entry.was_asked && 0 < entry.judged + entry.held {
            entry.was_asked = true;
            self.asked.push(handle);
        }
        let entry = &self.entries[handle as usize];
        let is_open =
            !entry.is_withdrawn() && entry.judged + entry.held < entry.overlap(self.overlap);
        let priority = Reverse(entry.priority);
        let settle = |buckets: &mut Buckets| {
            let bucket = buckets.entry(priority).or_default();
            if is_open { bucket.add(handle) } else { bucket.remove(handle) }
        };
        let people = entry.people();
        if people.is_empty() {
            settle(&mut self.open[entry.pool() as usize]);
        }
        for person in people {
            settle(self.reserved.entry(person.clone()).or_default());
        }
    }

    /// Takes over a change by somebody, of an item that is not read yet when it is.
    pub(crate) fn take(&mut self, change: &ItemChange) {
        let ItemChange { at, by, items, change } = change;
        for id in items {
            let Some(handle) = self.handle(id) else {
                self.early.entry(id.clone()).or_default().take(change, by, *at);
                continue;
            };
            self.alter(handle, |entry| {
                let changed = entry.changed.get_or_insert_default();
                changed.take(change, by, *at);
                entry.priority = changed.priority.unwrap_or(entry.priority);
                if let Some(gold) = &changed.gold {
                    entry.gold.clone_from(gold);
                }
            });
        }
    }

    /// Changes what decides where the item stands.
    fn alter(&mut self, handle: u32, change: impl FnOnce(&mut QueueEntry)) {
        self.progress.take(self.share_of(handle));
        let entry = &self.entries[handle as usize];
        let (pool, priority) = (entry.pool(), Reverse(entry.priority));
        let people = entry.people().to_vec();
        let leave = |buckets: &mut Buckets| {
            if let Some(bucket) = buckets.get_mut(&priority) {
                bucket.remove(handle);
            }
        };
        leave(&mut self.open[pool as usize]);
        for person in &people {
            self.reserved.get_mut(person).map(leave);
        }
        self.in_pool[pool as usize] -= 1;
        if pool == HandOutReason::Screening {
            self.screening.retain(|one| *one != handle);
        }
        change(&mut self.entries[handle as usize]);
        let pool = self.entries[handle as usize].pool();
        self.in_pool[pool as usize] += 1;
        if pool == HandOutReason::Screening {
            self.screening.push(handle);
        }
        self.progress.add(self.share_of(handle));
        self.settle(handle);
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut QueueEntry)) {
        if let Some(handle) = self.handle(id) {
            self.progress.take(self.share_of(handle));
            change(&mut self.entries[handle as usize]);
            self.progress.add(self.share_of(handle));
            self.settle(handle);
        }
    }

    pub(crate) fn claimed(&mut self, id: &str) {
        self.change(id, |entry| entry.held += 1);
    }

    pub(crate) fn judged(&mut self, id: &str) {
        self.change(id, |entry| {
            entry.judged += 1;
            entry.held = entry.held.saturating_sub(1);
        });
    }

    pub(crate) fn given_back(&mut self, id: &str) {
        self.change(id, |entry| entry.held = entry.held.saturating_sub(1));
    }

    /// The store says that the item is full, whatever the index thought.
    pub(crate) fn full(&mut self, id: &str) {
        let overlap = self.overlap;
        self.change(id, |entry| {
            entry.held = entry.overlap(overlap).saturating_sub(entry.judged);
        });
    }

    /// Whether as many annotators as asked for have judged the item.
    pub(crate) fn is_complete(&self, id: &str) -> bool {
        self.handle(id).is_some_and(|handle| {
            let entry = &self.entries[handle as usize];
            entry.overlap(self.overlap) <= entry.judged
        })
    }

    /// How far the project is: kept up to date entry by entry, since every page shows it.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// What the entry adds to the progress.
    fn share_of(&self, handle: u32) -> Progress {
        let entry = &self.entries[handle as usize];
        if entry.gold.is_some() || entry.is_withdrawn() {
            return Progress::default();
        }
        let overlap = entry.overlap(self.overlap);
        Progress {
            done: u64::from(overlap <= entry.judged),
            held: u64::from(0 < entry.held),
            judged: u64::from(entry.judged.min(overlap)),
            wanted: u64::from(overlap),
        }
    }

    /// The next item for `person`, who has seen `seen`, with the probability of the whole choice: of the
    /// pool, and of the item in it. What is for this person only comes first. `None` where nothing is open. `screening` names the items that admit the
    /// annotator, where it is one of these that comes next.
    pub(crate) fn choose(
        &self,
        screening: Option<&HashSet<u32>>,
        person: &str,
        seen: &HashSet<u32>,
        shares: Shares,
        order: &dyn Order,
        rng: &mut dyn Rng,
    ) -> Result<Option<ChosenItem>, Misfit> {
        if let Some(drawn) = screening {
            let others = self.screening.iter().filter(|handle| !drawn.contains(handle));
            let passed_over: HashSet<u32> = others.chain(seen).copied().collect();
            let eligible = self.eligible(HandOutReason::Screening, &passed_over, shares);
            return eligible.map(|eligible| ask(order, &eligible, rng)).transpose();
        }
        let reserved = self.reserved.get(person).and_then(|own| self.unseen(own, seen, shares));
        let regular = reserved.or_else(|| self.eligible(HandOutReason::Regular, seen, shares));
        // Gold items measure those who work. Who has nothing else left gets none, except
        // where a project is nothing but gold.
        if regular.is_none() && 0 < self.count(HandOutReason::Regular) {
            return Ok(None);
        }
        let gold = self.eligible(HandOutReason::Gold, seen, shares);
        let (eligible, share) = match (regular, gold) {
            (Some(regular), Some(gold)) => {
                let take_gold = rng.random_range(0.0..1.0) < shares.gold;
                if take_gold { (gold, shares.gold) } else { (regular, 1.0 - shares.gold) }
            }
            (Some(eligible), None) | (None, Some(eligible)) => (eligible, 1.0),
            (None, None) => return Ok(None),
        };
        let ChosenItem { handle, probability } = ask(order, &eligible, rng)?;
        Ok(Some(ChosenItem { handle, probability: probability * share }))
    }

    /// The unseen open items of the highest priority that has any.
    fn eligible<'a>(
        &'a self,
        pool: HandOutReason,
        seen: &'a HashSet<u32>,
        shares: Shares,
    ) -> Option<Eligible<'a>> {
        self.unseen(&self.open[pool as usize], seen, shares)
    }

    fn unseen<'a>(
        &'a self,
        buckets: &'a Buckets,
        seen: &'a HashSet<u32>,
        shares: Shares,
    ) -> Option<Eligible<'a>> {
        buckets.values().find_map(|bucket| {
            let count = bucket.unseen(seen);
            let open = (bucket.open.as_slice(), &bucket.place);
            let all = (self.entries.as_slice(), self.asked.as_slice());
            (0 < count).then(|| Eligible::new(open, seen, all, count, shares.random))
        })
    }
}

/// The paths of the images that an item names. What models wrote in live conversations names none: an annotator can
/// have them write anything.
fn media_of(item: &Item) -> Vec<String> {
    if item.meta.get("source").is_some_and(|source| source == LIVE) {
        return Vec::new();
    }
    let listed = item.candidates.iter().flat_map(|candidate| &candidate.media).chain(&item.media);
    let listed = listed.map(|media| media.source.clone());
    let prompts = item.prompt.iter().map(|message| &message.content);
    let answers = item.candidates.iter().flat_map(|it| it.steps.iter().chain([&it.text]));
    let in_texts = prompts.chain(answers).flat_map(|text| images(text));
    listed.chain(in_texts).filter_map(|source| media_path(&source).map(str::to_owned)).collect()
}

/// What an order chose that it was not offered, or without a probability.
#[derive(Debug)]
pub(crate) struct Misfit(pub(crate) ChosenItem);

fn ask(
    order: &dyn Order,
    eligible: &Eligible<'_>,
    rng: &mut dyn Rng,
) -> Result<ChosenItem, Misfit> {
    let choice = order.choose(eligible, rng);
    // The order that is always there needs no check, which would go through all items.
    let fits = order.name() == RANDOM || eligible.admits(choice);
    if fits { Ok(choice) } else { Err(Misfit(choice)) }
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::{Candidate, Task, Verdict};
    use hearken_store::Change;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::queue::order::{Convincing, Random};

    fn item(id: &str, change: impl FnOnce(&mut Item)) -> Item {
        let candidates = vec![Candidate::text("a"), Candidate::text("b")];
        let mut item = Item::new(Task::Pairwise, Vec::new(), candidates);
        item.id = id.into();
        change(&mut item);
        item
    }

    fn gold(screening: bool) -> Gold {
        Gold { verdict: Verdict::preferred(0), reason: None, screening }
    }

    fn index(items: Vec<Item>) -> Index {
        let mut index = Index { overlap: 1, ..Index::default() };
        let placed = items.into_iter().enumerate();
        index.add(placed.map(|(at, record)| Placed { place: at as u64 + 1, record }).collect());
        index
    }

    fn ids(index: &Index, rounds: u32, gold_share: f64, seen: &HashSet<u32>) -> Vec<(String, f64)> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let choices = (0..rounds).filter_map(|_| {
            index
                .choose(
                    None,
                    "ada",
                    seen,
                    Shares { gold: gold_share, random: 0.0 },
                    &Random,
                    &mut rng,
                )
                .unwrap()
        });
        choices.map(|c| (index.entries[c.handle as usize].id.clone(), c.probability)).collect()
    }

    #[test]
    fn higher_priority_goes_first() {
        let mut index = index(vec![
            item("low", |_| ()),
            item("high", |item| item.priority = 5),
            item("lowest", |item| item.priority = -5),
        ]);
        for expected in ["high", "low", "lowest"] {
            let chosen = ids(&index, 5, 0.0, &HashSet::new());
            assert!(chosen.iter().all(|(id, p)| id == expected && (p - 1.0).abs() < 1e-12));
            index.claimed(expected);
        }
        assert!(ids(&index, 1, 0.0, &HashSet::new()).is_empty());
    }

    /// The share of each item among many choices is the probability that was given with it.
    #[test]
    fn propensities_are_the_frequencies() {
        let mut items: Vec<Item> = (0..6).map(|at| item(&format!("r{at}"), |_| ())).collect();
        items.push(item("g", |item| item.gold = Some(gold(false))));
        let index = index(items);
        let seen = HashSet::from([0, 3]);
        let rounds = 20_000;
        let chosen = ids(&index, rounds, 0.25, &seen);
        assert_eq!(chosen.len(), rounds as usize);
        for (id, probability) in [("r1", 0.75 / 4.0), ("r5", 0.75 / 4.0), ("g", 0.25)] {
            let these: Vec<_> = chosen.iter().filter(|(other, _)| other == id).collect();
            assert!(these.iter().all(|(_, p)| (p - probability).abs() < 1e-12), "{id}");
            let share = these.len() as f64 / f64::from(rounds);
            let error = (probability * (1.0 - probability) / f64::from(rounds)).sqrt();
            assert!((share - probability).abs() < 4.0 * error, "{id}: {share} for {probability}");
        }
        assert!(chosen.iter().all(|(id, _)| id != "r0" && id != "r3"));
    }

    #[test]
    fn one_unseen_item_among_many_is_found() {
        let index = index((0..1000).map(|at| item(&format!("r{at}"), |_| ())).collect());
        let seen: HashSet<u32> = (0..1000).filter(|handle| *handle != 617).collect();
        assert_eq!(ids(&index, 3, 0.0, &seen), vec![("r617".to_owned(), 1.0); 3]);
    }

    #[test]
    fn who_has_done_the_work_gets_no_more_gold() {
        let index = index(vec![
            item("r", |_| ()),
            item("g", |item| item.gold = Some(gold(false))),
            item("s", |item| item.gold = Some(gold(true))),
        ]);
        assert!(ids(&index, 5, 0.5, &HashSet::from([0])).is_empty());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let screening = index
            .choose(
                Some(&HashSet::from([2])),
                "ada",
                &HashSet::new(),
                Shares { gold: 0.5, random: 0.0 },
                &Random,
                &mut rng,
            )
            .unwrap();
        assert_eq!(screening.map(|choice| choice.handle), Some(2));
    }

    #[test]
    fn items_close_and_open_with_what_the_store_says() {
        let mut index = index(vec![item("a", |item| item.overlap = Some(2)), item("b", |_| ())]);
        index.claimed("b");
        index.judged("a");
        assert_eq!(index.progress(), Progress { done: 0, held: 1, judged: 1, wanted: 3 });
        index.full("a");
        assert!(ids(&index, 1, 0.0, &HashSet::new()).is_empty());
        let taken = [Taken { item: "b".into(), judged: 1, held: 0 }];
        index.replace_taken(&taken, 1);
        assert!(index.is_complete("b") && !index.is_complete("a"));
        assert_eq!(ids(&index, 1, 0.0, &HashSet::new()), [("a".to_owned(), 1.0)]);
    }

    fn change(index: &mut Index, id: &str, change: Change) {
        index.take(&ItemChange { at: 0, by: "lead".into(), items: vec![id.into()], change });
    }

    #[test]
    fn what_is_for_some_comes_first_to_them_and_never_to_others() {
        let mut index = index(vec![item("a", |item| item.priority = 9), item("b", |_| ())]);
        change(&mut index, "b", Change::People(vec!["bob".into()]));
        let next = |index: &Index, person: &str, seen: &[u32]| {
            let (seen, mut rng) = (seen.iter().copied().collect(), ChaCha8Rng::seed_from_u64(1));
            let choice =
                index.choose(None, person, &seen, Shares::default(), &Random, &mut rng).unwrap();
            choice.map(|choice| index.entries[choice.handle as usize].id.clone())
        };
        assert_eq!(next(&index, "bob", &[]).as_deref(), Some("b"));
        assert_eq!(next(&index, "bob", &[1]).as_deref(), Some("a"));
        assert_eq!(next(&index, "eve", &[]).as_deref(), Some("a"));
        assert_eq!(next(&index, "eve", &[0]), None);
        index.judged("b");
        assert_eq!(next(&index, "bob", &[0]), None);
        index.replace_taken(&[], 1);
        change(&mut index, "b", Change::People(Vec::new()));
        assert_eq!(next(&index, "eve", &[0]).as_deref(), Some("b"));
        assert_eq!(index.progress().wanted, 2);
    }

    #[test]
    fn what_is_withdrawn_is_neither_asked_for_nor_handed_out() {
        let mut index = index(vec![item("a", |_| ()), item("b", |_| ())]);
        index.judged("a");
        change(&mut index, "a", Change::Withdrawn(true));
        change(&mut index, "b", Change::Withdrawn(true));
        assert_eq!(index.progress(), Progress::default());
        assert!(ids(&index, 1, 0.0, &HashSet::new()).is_empty());
        change(&mut index, "b", Change::Withdrawn(false));
        change(&mut index, "b", Change::Priority(3));
        assert_eq!(ids(&index, 1, 0.0, &HashSet::new()), [("b".to_owned(), 1.0)]);
        change(&mut index, "b", Change::Gold(Some(gold(true))));
        assert_eq!(
            (index.count(HandOutReason::Screening), index.screening.as_slice()),
            (1, &[1][..])
        );
        change(&mut index, "b", Change::Gold(None));
        assert_eq!((index.count(HandOutReason::Regular), index.screening.len()), (2, 0));
    }

    #[test]
    fn a_convincing_wrong_solution_goes_first() {
        let solution = |id: &str, correct: Option<bool>, score: Option<f64>| {
            item(id, |item| {
                let meta = &mut item.candidates[0].meta;
                meta.extend(correct.map(|correct| ("correct".to_owned(), correct.into())));
                meta.extend(score.map(|score| ("score".to_owned(), score.into())));
            })
        };
        let mut index = index(vec![
            solution("right", Some(true), Some(0.99)),
            solution("unknown", None, Some(0.9)),
            solution("unscored", Some(false), None),
            solution("plain", Some(false), Some(0.1)),
            solution("convincing", Some(false), Some(0.8)),
            item("told by the item", |item| {
                item.meta.insert("final_answer_correct".into(), false.into());
                item.meta.insert("score".into(), (-3).into());
            }),
        ]);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut came = Vec::new();
        let nobody = HashSet::new();
        while let Some(choice) =
            index.choose(None, "ada", &nobody, Shares::default(), &Convincing, &mut rng).unwrap()
        {
            let id = index.entries[choice.handle as usize].id.clone();
            assert!((choice.probability - 1.0).abs() < 1e-12);
            index.claimed(&id);
            came.push(id);
        }
        let expected = ["convincing", "plain", "told by the item", "unscored", "unknown", "right"];
        assert_eq!(came, expected);
    }
}
