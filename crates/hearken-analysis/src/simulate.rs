//! Annotators made of numbers, whose habits are known: what every statistic must find out, or must not.
//!
//! ```text
//! P(left) = σ((u_left − u_right + length·(z_left − z_right))/temperature + side)
//! ```
//!
//! u is the quality of an answer for the annotator's group, z its standardized log-length. A spammer's vote is a coin; a lazy
//! annotator always takes the left.

use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict};
use hearken_data::{Message, Role};
use rand::{Rng, RngExt};

use crate::records::JudgedItems;

/// What an annotator does.
#[derive(Clone, Debug, PartialEq)]
pub struct Habits {
    /// Which of the world's tastes: position in the qualities of an answer.
    pub group: usize,
    /// Log-odds of left between equals.
    pub side: f64,
    /// Log-odds at temperature 1 per standard deviation of log-length.
    pub length: f64,
    /// How noisy choices are; 1 is the world's.
    pub temperature: f64,
    /// Share of judgements that are a coin.
    pub spam: f64,
    /// Share of ties among judgements that are no spam.
    pub ties: f64,
    /// The median of seconds per judgement; times are log-normal with a spread of 0.5.
    pub seconds: f64,
}

impl Habits {
    /// No bias, group 0.
    pub const HONEST: Self = Self {
        group: 0,
        side: 0.0,
        length: 0.0,
        temperature: 1.0,
        spam: 0.0,
        ties: 0.1,
        seconds: 20.0,
    };

    /// Judges everything by a coin, at once.
    pub const SPAMMER: Self = Self { spam: 1.0, ties: 0.0, seconds: 1.0, ..Self::HONEST };

    /// Always takes the left.
    pub const LAZY: Self = Self { side: 50.0, ties: 0.0, ..Self::HONEST };
}

/// What is judged, and how much.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Items, each with two answers of different models.
    pub items: usize,
    /// Quality of each model, per group: `[group][model]`, in log-odds.
    pub models: Vec<Vec<f64>>,
    /// Standard deviation of an answer's quality around its model's.
    pub spread: f64,
    /// Judgements per item, by different annotators.
    pub overlap: usize,
    /// One in so many items is gold, its verdict being the better answer of group 0; 0 for none.
    pub gold_every: usize,
}

impl Default for World {
    fn default() -> Self {
        Self {
            items: 400,
            models: vec![vec![1.0, 0.4, 0.0, -0.5, -0.9]],
            spread: 1.0,
            overlap: 5,
            gold_every: 0,
        }
    }
}

/// Simulates judgements: every item is judged by different annotators chosen at random, sides at random.
///
/// # Panics
/// If there are fewer annotators than the overlap, fewer than two models, or a group without qualities.
///
/// ```
/// # use hearken_analysis::simulate::{Habits, World, simulate};
/// # use rand::SeedableRng;
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let world = World { items: 10, ..World::default() };
/// let records = simulate(&world, &vec![Habits::HONEST; 6], &mut rng);
/// assert_eq!((records.items.len(), records.judgements.len()), (10, 50));
/// ```
pub fn simulate(world: &World, annotators: &[Habits], rng: &mut impl Rng) -> JudgedItems {
    assert!(annotators.len() >= world.overlap, "an annotator judges an item once");
    assert!(annotators.iter().all(|a| a.group < world.models.len()), "qualities for every group");
    let mut records = JudgedItems::default();
    // A judgement a minute, from some day on.
    let mut at = 1_700_000_000_000;
    for number in 0..world.items {
        let answers =
            [SimulatedAnswer::draw(world, None, rng), SimulatedAnswer::draw(world, None, rng)];
        let answers = distinct(answers, world, rng);
        let item = item(number, &answers, world);
        let mut order: Vec<usize> = (0..annotators.len()).collect();
        for place in 0..world.overlap {
            order.swap(place, rng.random_range(place..annotators.len()));
            let k = order[place];
            let id = format!("j{}", records.judgements.len());
            let mut judgement = judge(&item, &answers, &annotators[k], rng);
            judgement.annotator = format!("a{k}");
            judgement.at = at;
            at += 60_000;
            judgement.id = id;
            records.judgements.push(judgement);
        }
        records.items.push(item);
    }
    records
}

/// One answer.
struct SimulatedAnswer {
    model: usize,
    /// Quality per group.
    quality: Vec<f64>,
    /// Standardized log-length.
    length: f64,
}

impl SimulatedAnswer {
    fn draw(world: &World, not: Option<usize>, rng: &mut impl Rng) -> Self {
        let models = world.models[0].len();
        assert!(models >= 2, "two models to compare");
        let model = loop {
            let model = rng.random_range(0..models);
            if Some(model) != not {
                break model;
            }
        };
        let quality =
            world.models.iter().map(|group| group[model] + world.spread * normal(rng)).collect();
        Self { model, quality, length: normal(rng) }
    }

    /// Words: the median answer has 40.
    fn text(&self, number: usize, side: usize) -> String {
        let words = (40.0 * (0.6 * self.length).exp()).round().max(1.0) as usize;
        let word = |i: usize| WORDS[(i * 7 + number * 3 + side * 5) % WORDS.len()];
        let text: Vec<&str> = (0..words).map(word).collect();
        format!("{}.", text.join(" "))
    }
}

const WORDS: [&str; 12] = [
    "river", "stone", "paper", "window", "garden", "letter", "number", "music", "winter", "market",
    "bridge", "forest",
];

fn distinct(
    answers: [SimulatedAnswer; 2],
    world: &World,
    rng: &mut impl Rng,
) -> [SimulatedAnswer; 2] {
    let [first, second] = answers;
    let second = if first.model == second.model {
        SimulatedAnswer::draw(world, Some(first.model), rng)
    } else {
        second
    };
    [first, second]
}

fn item(number: usize, answers: &[SimulatedAnswer; 2], world: &World) -> Item {
    let prompt = vec![Message::new(Role::User, format!("Question {number}?"))];
    let candidate = |side: usize| {
        Candidate::text(answers[side].text(number, side)).by(format!("m{}", answers[side].model))
    };
    let mut item = Item::new(Task::Pairwise, prompt, vec![candidate(0), candidate(1)]);
    item.id = format!("i{number}");
    if world.gold_every > 0 && number.is_multiple_of(world.gold_every) {
        let better = usize::from(answers[1].quality[0] > answers[0].quality[0]);
        item.gold = Some(hearken_data::feedback::Gold {
            verdict: Verdict::preferred(better),
            reason: None,
            screening: false,
        });
    }
    item
}

/// One verdict; name, annotator and time are the caller's.
fn judge(
    item: &Item,
    answers: &[SimulatedAnswer; 2],
    habits: &Habits,
    rng: &mut impl Rng,
) -> Judgement {
    let left = usize::from(rng.random::<bool>());
    let [l, r] = [&answers[left], &answers[1 - left]];
    let gap =
        l.quality[habits.group] - r.quality[habits.group] + habits.length * (l.length - r.length);
    let p = 1.0 / (1.0 + (-(gap / habits.temperature + habits.side)).exp());
    let takes_left = if rng.random::<f64>() < habits.spam {
        rng.random::<bool>()
    } else {
        rng.random::<f64>() < p
    };
    let verdict = if rng.random::<f64>() < habits.ties * (1.0 - habits.spam) {
        Verdict::Tie
    } else {
        Verdict::preferred(if takes_left { left } else { 1 - left })
    };
    let mut judgement = Judgement::new("", item, "", verdict);
    judgement.presented = vec![left, 1 - left];
    judgement.origin = Origin::Synthetic;
    let seconds = habits.seconds * (0.5 * normal(rng)).exp();
    judgement.duration_ms = Some((1000.0 * seconds) as u64);
    judgement
}

/// A standard normal draw, Box and Muller's.
fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
