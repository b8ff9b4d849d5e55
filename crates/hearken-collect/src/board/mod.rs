//! What was judged, by item and by person, in memory: what a review, a list of items and a list of people are made of.
//! What is here asks no store; who reviews keeps it up to date.

mod counts;
mod difference;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use hearken_data::feedback::{Judgement, Origin, Verdict};
use hearken_store::Placed;

pub(crate) use counts::StandingCounts;
pub(crate) use difference::{Ranges, difference};

/// A pause after which somebody is taken to have stopped working, in milliseconds.
const PAUSE_MS: i64 = 5 * 60_000;
const DAY_MS: i64 = 86_400_000;

/// What somebody says about an item, as long as nothing takes its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StandingOpinion {
    /// Position in [`Board::people`].
    pub(crate) person: u32,
    pub(crate) verdict: Verdict,
    pub(crate) is_ai: bool,
    /// The hash of the judgement's name.
    name: u64,
}

/// What is said about one item.
#[derive(Debug, Default)]
pub(crate) struct ItemVotes {
    pub(crate) votes: Vec<StandingOpinion>,
    /// What a reviewer has decided.
    pub(crate) decided: Option<Box<Verdict>>,
    /// When something was said last: milliseconds since 1970 in UTC.
    pub(crate) at: i64,
    /// Judgements that were taken over, those among them whose place others have taken.
    pub(crate) judgements: u32,
}

impl ItemVotes {
    /// What people say who could decide.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        let people = self.votes.iter().filter(|vote| !vote.is_ai).map(|vote| &vote.verdict);
        people.filter(|verdict| !matches!(verdict, Verdict::CantTell { .. }))
    }

    /// Whether somebody could not tell.
    pub(crate) fn is_doubted(&self) -> bool {
        self.votes.iter().any(|vote| matches!(vote.verdict, Verdict::CantTell { .. }))
    }
}

/// What somebody has done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AnnotatorWork {
    /// Judgements that stand, final ones not among them.
    pub(crate) judged: u32,
    /// Final verdicts.
    pub(crate) decided: u32,
    /// The last day with judgements, in days since 1970, and how many.
    today: (i64, u32),
    /// When they judged last: milliseconds since 1970 in UTC.
    pub(crate) last_at: i64,
    /// Milliseconds between judgements without pauses, and how many such times there were.
    worked: (i64, u32),
}

impl AnnotatorWork {
    fn count(&mut self, at: i64) {
        if at <= 0 {
            return;
        }
        let day = at.div_euclid(DAY_MS);
        self.today = match self.today.0 == day {
            true => (day, self.today.1 + 1),
            false => (day, 1),
        };
        let since = at - self.last_at;
        if 0 < self.last_at && (0..PAUSE_MS).contains(&since) {
            self.worked = (self.worked.0 + since, self.worked.1 + 1);
        }
        self.last_at = self.last_at.max(at);
    }

    /// Judgements on the day of `now`, UTC.
    pub(crate) fn today(&self, now: i64) -> u32 {
        if self.today.0 == now.div_euclid(DAY_MS) { self.today.1 } else { 0 }
    }

    /// Judgements in an hour of work; none where too little is known.
    pub(crate) fn per_hour(&self) -> Option<f64> {
        let (ms, count) = self.worked;
        (0 < ms && 3 <= count).then(|| f64::from(count) * 3.6e6 / ms as f64)
    }
}

/// What was judged.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The place up to which judgements were read.
    pub(crate) place: u64,
    /// By item.
    said: HashMap<Box<str>, ItemVotes>,
    /// Pseudonyms.
    pub(crate) people: Vec<String>,
    numbers: HashMap<String, u32>,
    work: Vec<AnnotatorWork>,
    /// Judgements that were taken over.
    pub(crate) judgements: u64,
}

impl Board {
    /// What is said about an item; `None` for nothing.
    pub(crate) fn of(&self, item: &str) -> Option<&ItemVotes> {
        self.said.get(item)
    }

    /// What somebody has done.
    pub(crate) fn work(&self, person: &str) -> AnnotatorWork {
        let number = self.numbers.get(person);
        number.map(|number| self.work[*number as usize].clone()).unwrap_or_default()
    }

    /// The position of somebody in [`Board::people`].
    pub(crate) fn number(&self, person: &str) -> Option<u32> {
        self.numbers.get(person).copied()
    }

    /// Takes over judgements, in the order of their places.
    pub(crate) fn add(&mut self, judgements: Vec<Placed<Judgement>>) {
        for Placed { place, record } in judgements {
            self.place = self.place.max(place);
            self.judgements += 1;
            self.take(record);
        }
    }

    fn take(&mut self, judgement: Judgement) {
        let Judgement { id, item, annotator, verdict, origin, at, revises, is_final, .. } =
            judgement;
        let person = self.numbered(&annotator);
        let work = &mut self.work[person as usize];
        let said = self.said.entry(item.into_boxed_str()).or_default();
        said.at = said.at.max(at);
        said.judgements += 1;
        if is_final {
            work.decided += u32::from(revises.is_none());
            said.decided = Some(Box::new(verdict));
            return;
        }
        let vote =
            StandingOpinion { person, verdict, is_ai: origin == Origin::Ai, name: hash(&id) };
        let revised = revises.map(|id| hash(&id));
        if let Some(revised) = said.votes.iter_mut().find(|vote| Some(vote.name) == revised) {
            *revised = vote;
        } else {
            work.judged += 1;
            work.count(at);
            said.votes.push(vote);
        }
    }

    fn numbered(&mut self, person: &str) -> u32 {
        if let Some(number) = self.number(person) {
            return number;
        }
        let number = u32::try_from(self.people.len()).expect("invariant: fewer than 2^32 people");
        self.people.push(person.to_owned());
        self.work.push(AnnotatorWork::default());
        self.numbers.insert(person.to_owned(), number);
        number
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::{Candidate, Item, Task};

    use super::*;

    fn board(changes: &[&dyn Fn(&mut Judgement)]) -> Board {
        let candidates = vec![Candidate::text("a"), Candidate::text("b")];
        let mut item = Item::new(Task::Pairwise, Vec::new(), candidates);
        item.id = "i".into();
        let mut board = Board::default();
        for (at, change) in changes.iter().enumerate() {
            let mut record = Judgement::new(at.to_string(), &item, "ada", Verdict::preferred(0));
            change(&mut record);
            board.add(vec![Placed { place: at as u64 + 1, record }]);
        }
        board
    }

    #[test]
    fn a_revision_takes_the_place_and_a_final_verdict_stands_beside() {
        let board = board(&[
            &|_| (),
            &|it| it.annotator = "bob".into(),
            &|it| (it.revises, it.verdict) = (Some("0".into()), Verdict::Tie),
            &|it| (it.is_final, it.verdict) = (true, Verdict::preferred(1)),
        ]);
        let said = board.of("i").unwrap();
        assert_eq!(said.verdicts().collect::<Vec<_>>(), [&Verdict::Tie, &Verdict::preferred(0)]);
        assert_eq!(said.decided.as_deref(), Some(&Verdict::preferred(1)));
        let ada = board.work("ada");
        assert_eq!((ada.judged, ada.decided, board.judgements), (1, 1, 4));
        assert_eq!(board.work("nobody"), AnnotatorWork::default());
    }

    #[test]
    fn pauses_are_no_work() {
        let minute = 60_000;
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        let mut work = AnnotatorWork::default();
        for at in [noon, noon + minute, noon + 2 * minute, noon + 60 * minute, noon + 61 * minute] {
            work.count(at);
        }
        assert_eq!((work.today(noon), work.today(noon + DAY_MS)), (5, 0));
        assert!((work.per_hour().unwrap() - 60.0).abs() < 1e-9);
        assert_eq!(AnnotatorWork::default().per_hour(), None);
    }
}
