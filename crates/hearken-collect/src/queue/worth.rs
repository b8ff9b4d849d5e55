//! Orders by what reward models say of the candidates of an item: the same that rounds of a loop ask by.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use hearken_stats::design::{Information, Worth, distance, ridge, weighted};
use rand::Rng;

use super::facts::Facts;
use super::index::QueueEntry;
use super::lock;
use super::order::{ChosenItem, Eligible, Order};

/// Of what was handed out before the service was started, so many items are centers: each costs a distance to every other item.
const EARLIER_CENTERS: usize = 256;

/// Items are worth something by themselves, or beside what was asked already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alone(Worth),
    /// What the item adds to the information of a Bradley–Terry model that is linear in the states.
    DOptimal,
    /// The distance to all that was asked.
    KCenter,
}

/// An order by what items are worth, the largest first. Items of which nothing is known come last. A share is drawn at random.
pub(crate) struct ByWorth {
    name: &'static str,
    kind: Kind,
    known: Mutex<Known>,
}

impl fmt::Debug for ByWorth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByWorth").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is remembered between two choices.
#[derive(Debug, Default)]
struct Known {
    /// The items of which something is known, by what each is worth, or by the most that it can be: what is asked makes others worth
    /// less, never more.
    items: BTreeSet<WorthAtMost>,
    /// By handle, of all items, after how many answers in `design` the worth was computed.
    after: Vec<usize>,
    design: Option<Design>,
}

/// What was asked.
#[derive(Debug)]
struct Design {
    /// Coordinates of a state.
    coordinates: usize,
    /// How many items there were when it was begun.
    begun_with: usize,
    /// How many of the items that were handed out were looked at.
    taken: usize,
    /// How many of them have a state.
    answers: usize,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    /// With λ.
    Information(f64, Information),
    Centers(Vec<Vec<f64>>),
}

/// An item and the most that it can be worth; greater where it may be worth more.
#[derive(Clone, Copy, Debug, PartialEq)]
struct WorthAtMost(f64, u32);

impl Eq for WorthAtMost {}

impl PartialOrd for WorthAtMost {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WorthAtMost {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}

/// The orders that the service has, by name.
pub(crate) fn by_worth() -> [ByWorth; 5] {
    [
        ("entropy", Kind::Alone(Worth::Entropy)),
        ("disagreement", Kind::Alone(Worth::Disagreement)),
        ("information", Kind::Alone(Worth::Information)),
        ("d_optimal", Kind::DOptimal),
        ("k_center", Kind::KCenter),
    ]
    .map(|(name, kind)| ByWorth { name, kind, known: Mutex::default() })
}

impl Order for ByWorth {
    fn name(&self) -> &str {
        self.name
    }

    fn choose(&self, eligible: &Eligible<'_>, rng: &mut dyn Rng) -> ChosenItem {
        let mut known = lock(&self.known);
        let best = match self.kind {
            Kind::Alone(worth) => {
                known.learn(eligible.entries(), |facts| alone(worth, facts));
                known.best(eligible)
            }
            Kind::DOptimal | Kind::KCenter => known.farthest(self.kind, eligible),
        };
        drop(known);
        eligible.favor(&best, rng)
    }
}

/// What an item is worth by itself: of several candidates the pair that is worth most.
fn alone(worth: Worth, facts: &Facts) -> Option<f64> {
    let scores = &facts.scores;
    let pairs = (0..scores.len()).flat_map(|a| (a + 1..scores.len()).map(move |b| (a, b)));
    let of = |(a, b): (usize, usize)| worth.of(&probabilities(&scores[a], &scores[b]));
    pairs.map(of).max_by(f64::total_cmp)
}

/// The probability of the first candidate under each reward model.
fn probabilities(first: &[f32], second: &[f32]) -> Vec<f64> {
    let of = |(a, b): (&f32, &f32)| 1.0 / (1.0 + (f64::from(*b) - f64::from(*a)).exp());
    first.iter().zip(second).map(of).collect()
}

/// The difference of the states of two candidates; for information with the weight of their answer.
fn coordinates(kind: Kind, facts: &Facts) -> Option<Vec<f64>> {
    if facts.difference.is_empty() {
        return None;
    }
    let x: Vec<f64> = facts.difference.iter().map(|value| f64::from(*value)).collect();
    if kind == Kind::KCenter {
        return Some(x);
    }
    let p = match &*facts.scores {
        [first, second] if !first.is_empty() => {
            let all = probabilities(first, second);
            all.iter().sum::<f64>() / all.len() as f64
        }
        _ => 0.5,
    };
    Some(weighted(&x, p))
}

impl Known {
    /// Takes up items that are new.
    fn learn(&mut self, entries: &[QueueEntry], worth: impl Fn(&Facts) -> Option<f64>) {
        for entry in &entries[self.after.len()..] {
            let handle = u32::try_from(self.after.len()).expect("invariant: fewer than 2^32 items");
            self.items.extend(worth(&entry.facts).map(|worth| WorthAtMost(worth, handle)));
            self.after.push(0);
        }
    }

    /// Those that are worth most.
    fn best(&self, eligible: &Eligible<'_>) -> Vec<u32> {
        let mut open = self.items.iter().rev().filter(|one| eligible.holds(one.1)).peekable();
        let Some(most) = open.peek().map(|one| one.0) else { return eligible.handles().collect() };
        open.take_while(|one| one.0 >= most).map(|one| one.1).collect()
    }

    /// The one that adds most to what was asked. What an item was worth before bounds what it is worth now, so that few are computed anew.
    fn farthest(&mut self, kind: Kind, eligible: &Eligible<'_>) -> Vec<u32> {
        self.begin(kind, eligible);
        if let Some(design) = &mut self.design {
            design.take(kind, eligible);
            let (mut best, mut next) = (None, self.items.last().copied());
            while let Some(bound) = next.filter(|bound| best.is_none_or(|best| best < *bound)) {
                let WorthAtMost(before, handle) = bound;
                let (place, mut now) = (handle as usize, bound);
                // Of what cannot come too: else it would stay above those that can.
                if self.after[place] != design.answers
                    && let Some(x) = coordinates(kind, &eligible.entries()[place].facts)
                {
                    now.0 = design.worth(&x, before, self.after[place]);
                    self.after[place] = design.answers;
                    self.items.remove(&bound);
                    self.items.insert(now);
                }
                if best.is_none_or(|best| best < now) && eligible.holds(handle) {
                    best = Some(now);
                }
                next = self.items.range(..bound).next_back().copied();
            }
            if let Some(best) = best {
                return vec![best.1];
            }
        }
        // Of none that can come there is a state.
        eligible.handles().collect()
    }

    /// Begins a design, or begins it anew once there are twice as many items: λ is of all of them.
    fn begin(&mut self, kind: Kind, eligible: &Eligible<'_>) {
        let entries = eligible.entries();
        if self.design.as_ref().is_none_or(|design| 2 * design.begun_with < entries.len()) {
            *self = Self { design: Design::of(kind, entries), ..Self::default() };
        }
        let Some(design) = self.design.take() else { return };
        let squares = |x: &[f64]| x.iter().map(|value| value * value).sum::<f64>();
        self.learn(entries, |facts| {
            let x = coordinates(kind, facts).filter(|x| x.len() == design.coordinates)?;
            Some(match &design.asked {
                // The information is that of λ at least.
                Asked::Information(lambda, _) => squares(&x) / lambda,
                // Two alike states, the origin, are known from the beginning.
                Asked::Centers(_) => squares(&x).sqrt(),
            })
        });
        self.design = Some(design);
    }
}

impl Design {
    /// Before anything was asked; `None` where no item has states, or all of them are alike.
    fn of(kind: Kind, entries: &[QueueEntry]) -> Option<Self> {
        let known = || entries.iter().filter_map(|entry| coordinates(kind, &entry.facts));
        let d = known().next()?.len();
        let asked = if kind == Kind::DOptimal {
            let lambda = ridge(known().filter(|x| x.len() == d));
            Asked::Information(lambda, Information::of_ridge(d, lambda)?)
        } else {
            Asked::Centers(Vec::new())
        };
        Some(Self { coordinates: d, begun_with: entries.len(), taken: 0, answers: 0, asked })
    }

    /// Takes in what was handed out since.
    fn take(&mut self, kind: Kind, eligible: &Eligible<'_>) {
        let asked = eligible.asked();
        if kind == Kind::KCenter && self.taken == 0 {
            self.taken = asked.len().saturating_sub(EARLIER_CENTERS);
        }
        for handle in &asked[self.taken..] {
            let x = coordinates(kind, &eligible.entries()[*handle as usize].facts);
            let Some(x) = x.filter(|x| x.len() == self.coordinates) else { continue };
            match &mut self.asked {
                Asked::Information(_, information) => {
                    information.add(&x);
                }
                Asked::Centers(centers) => centers.push(x),
            }
            self.answers += 1;
        }
        self.taken = asked.len();
    }

    /// What x is worth now, if it was worth `before` after so many of the answers.
    fn worth(&self, x: &[f64], before: f64, after: usize) -> f64 {
        match &self.asked {
            Asked::Information(_, information) => information.quadratic(x),
            Asked::Centers(centers) => {
                centers[after..].iter().map(|center| distance(x, center)).fold(before, f64::min)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hearken_data::feedback::{Candidate, Item, Task};
    use hearken_store::Placed;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use serde_json::json;

    use super::*;
    use crate::queue::index::{Index, Shares};

    /// An item whose candidates have scores by two reward models, and states.
    fn item(id: &str, scores: [[f64; 2]; 2], states: [[f64; 2]; 2]) -> Item {
        let candidates = [0, 1].map(|at| {
            let mut candidate = Candidate::text(["a", "b"][at]);
            candidate.meta.insert("scores".into(), json!(scores[at]));
            candidate.meta.insert("state".into(), json!(states[at]));
            candidate
        });
        let mut item = Item::new(Task::Pairwise, Vec::new(), candidates.to_vec());
        item.id = id.into();
        item
    }

    fn index(items: Vec<Item>) -> Index {
        let mut index = Index::new(false);
        let place = |(at, record)| Placed { place: at as u64 + 1, record };
        index.add(items.into_iter().enumerate().map(place).collect());
        index.replace_taken(&[], 1);
        index
    }

    /// The items in the order in which they come, with the probabilities of the choices.
    fn order(name: &str, items: Vec<Item>, random: f64) -> (Vec<String>, Vec<f64>) {
        let mut index = index(items);
        let order = by_worth().into_iter().find(|order| order.name == name).unwrap();
        let (mut rng, nobody) = (ChaCha8Rng::seed_from_u64(1), HashSet::new());
        let shares = Shares { gold: 0.0, random };
        let (mut came, mut probabilities) = (Vec::new(), Vec::new());
        while let Some(choice) =
            index.choose(None, "ada", &nobody, shares, &order, &mut rng).unwrap()
        {
            let id = index.entries[choice.handle as usize].id.clone();
            index.claimed(&id);
            came.push(id);
            probabilities.push(choice.probability);
        }
        (came, probabilities)
    }

    fn four() -> Vec<Item> {
        let none = [[0.0; 2]; 2];
        let mut plain = item("plain", none, none);
        plain.candidates.iter_mut().for_each(|one| one.meta.clear());
        vec![
            plain,
            // Both models leave it open.
            item("open", [[1.0, 1.0], [1.0, 1.0]], [[4.0, 0.0], [0.0, 0.0]]),
            // Both are sure of the other.
            item("disputed", [[9.0, -9.0], [0.0, 0.0]], [[0.0, 3.8], [0.0, 0.0]]),
            item("settled", [[3.0, 3.0], [0.0, 0.0]], [[3.9, 0.0], [0.0, 0.0]]),
        ]
    }

    #[test]
    fn what_is_worth_most_comes_first_and_what_is_not_known_last() {
        let disputed = ["disputed", "open", "settled", "plain"];
        assert_eq!(order("information", four(), 0.0).0[..1], disputed[..1]);
        let (came, probabilities) = order("disagreement", four(), 0.0);
        assert_eq!((came[0].as_str(), came[3].as_str()), ("disputed", "plain"));
        // Two on which models agree are alike.
        assert_eq!(probabilities, [1.0, 0.5, 1.0, 1.0]);
        let (came, _) = order("entropy", four(), 0.0);
        assert_eq!(came[2..], ["settled", "plain"]);
    }

    /// The second question is about the other coordinate, though its pair is shorter.
    #[test]
    fn what_tells_most_beside_what_was_asked_comes_next() {
        for name in ["d_optimal", "k_center"] {
            assert_eq!(order(name, four(), 0.0).0, ["open", "disputed", "settled", "plain"]);
        }
    }

    /// Lazy bounds change nothing: each choice is the best of all by exhaustive computation.
    #[test]
    fn bounds_find_what_an_exhaustive_search_finds() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut draw = || rand::RngExt::random_range(&mut rng, -1.0..1.0);
        let items: Vec<Item> = (0..60)
            .map(|at| {
                let scores = [[draw(), draw()], [draw(), draw()]];
                item(&format!("{at:02}"), scores, [[draw(), draw()], [draw(), draw()]])
            })
            .collect();
        for (name, kind) in [("d_optimal", Kind::DOptimal), ("k_center", Kind::KCenter)] {
            let (came, _) = order(name, items.clone(), 0.0);
            let x: Vec<Vec<f64>> =
                items.iter().map(|one| coordinates(kind, &Facts::of(one)).unwrap()).collect();
            let prompts: Vec<usize> = (0..60).collect();
            let expected = if kind == Kind::KCenter {
                hearken_stats::design::k_center(&x, &prompts, &[], 60)
            } else {
                // x is weighted already: p = ½ weighs all with ½.
                hearken_stats::design::d_optimal(&x, &[0.5; 60], &prompts, &[], 60)
            };
            let expected: Vec<String> =
                expected.iter().map(|(at, _)| items[*at].id.clone()).collect();
            assert_eq!(came, expected, "{name}");
        }
    }

    /// A choice comes as often as its probability says, and any item may come.
    #[test]
    fn a_share_is_drawn_at_random_and_probabilities_are_frequencies() {
        for name in ["disagreement", "d_optimal", "k_center"] {
            let index = index(four());
            let order = by_worth().into_iter().find(|order| order.name == name).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(2);
            let (mut came, mut said) = ([0.0; 4], [0.0; 4]);
            for _ in 0..4000 {
                let shares = Shares { gold: 0.0, random: 0.4 };
                let nobody = HashSet::new();
                let choice = index.choose(None, "ada", &nobody, shares, &order, &mut rng);
                let choice = choice.unwrap().unwrap();
                came[choice.handle as usize] += 1.0 / 4000.0;
                said[choice.handle as usize] = choice.probability;
            }
            for (came, said) in came.iter().zip(said) {
                assert!((came - said).abs() < 0.03, "{name}: {came} {said}");
            }
            assert!(said.iter().all(|said| 0.09 < *said), "{name}: {said:?}");
        }
    }
}
