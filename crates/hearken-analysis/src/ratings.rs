//! Ratings on axes, and whether they say what the choices say.

use std::collections::{BTreeMap, HashMap};

use hearken_data::Message;
use hearken_data::feedback::{Candidate, Verdict};
use hearken_stats::{mean, proportion};
use serde::{Deserialize, Serialize};

use crate::annotators::HitCount;
use crate::figure::Figure;
use crate::index::{Index, VoteChoice};

/// All axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratings {
    /// By name of the axis.
    pub axes: BTreeMap<String, Axis>,
    /// Whether the mean over all axes says what the choices say: share of decisive votes for the candidate that is rated higher,
    /// where one is; candidates with the same text under the same prompt are the same.
    pub consistency: Figure,
    /// The same where rater and voter are the same annotator.
    pub consistency_same_annotator: Figure,
    /// Decisive votes on candidates that are rated the same.
    pub rated_equal: usize,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// The mean of all ratings.
    pub mean: Figure,
    /// The mean by model, where candidates have one.
    pub models: Vec<ModelRating>,
    /// As [`Ratings::consistency`], on this axis.
    pub consistency: Figure,
}

/// One model's ratings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRating {
    /// The model.
    pub model: String,
    /// The mean, Student's t interval.
    pub mean: Figure,
}

/// Numbers of answers, so that equal ones share theirs: the same answer to the same prompt is one, whatever the item.
struct Answers {
    number: Vec<Vec<usize>>,
}

impl Answers {
    fn new(index: &Index<'_>) -> Self {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let hash = |prompt: &[Message], candidate: &Candidate| {
            let mut hasher = DefaultHasher::new();
            (prompt, candidate.text.as_str(), &candidate.steps).hash(&mut hasher);
            candidate.media.iter().for_each(|media| media.source.hash(&mut hasher));
            hasher.finish()
        };
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let number = |item: &hearken_data::feedback::Item| {
            let of = |candidate| {
                let next = seen.len();
                *seen.entry(hash(&item.prompt, candidate)).or_insert(next)
            };
            item.candidates.iter().map(of).collect()
        };
        Self { number: index.items.iter().map(number).collect() }
    }
}

/// Sum and count of ratings of an answer.
#[derive(Clone, Copy, Default)]
struct Sum {
    sum: f64,
    n: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.n += 1.0;
    }

    fn mean(self) -> f64 {
        self.sum / self.n
    }
}

/// Ratings on one axis (or over all).
#[derive(Default)]
struct AxisRatings {
    values: Vec<f64>,
    by_model: BTreeMap<usize, Vec<f64>>,
    by_answer: HashMap<usize, Sum>,
}

/// Sums by answer and annotator.
type Own = HashMap<(usize, usize), Sum>;

pub(crate) fn ratings(index: &Index<'_>) -> Ratings {
    let has_ratings =
        index.by_people().any(|e| matches!(e.judgement.verdict, Verdict::Ratings { .. }));
    if !has_ratings {
        let why = "Nothing was rated.";
        return Ratings {
            axes: BTreeMap::new(),
            consistency: Figure::missing(why),
            consistency_same_annotator: Figure::missing(why),
            rated_equal: 0,
            notes: vec![why.to_owned()],
        };
    }
    let answers = Answers::new(index);
    let (axes, all, own) = collect(index, &answers);
    let of_all = |answer: usize, _: usize| all.by_answer.get(&answer).copied();
    let of_own = |answer: usize, annotator: usize| own.get(&(answer, annotator)).copied();
    let (overall, rated_equal) = consistency(index, &answers, of_all);
    let (same, _) = consistency(index, &answers, of_own);
    let axis = |(name, rated): (&str, AxisRatings)| {
        let of = |answer: usize, _: usize| rated.by_answer.get(&answer).copied();
        let model = |(&model, values): (&usize, &Vec<f64>)| ModelRating {
            model: index.models[model].to_owned(),
            mean: Figure::new(mean::mean(values), "No rating."),
        };
        let axis = Axis {
            mean: Figure::new(mean::mean(&rated.values), "No rating."),
            models: rated.by_model.iter().map(model).collect(),
            consistency: share(consistency(index, &answers, of).0),
        };
        (name.to_owned(), axis)
    };
    Ratings {
        axes: axes.into_iter().map(axis).collect(),
        consistency: share(overall),
        consistency_same_annotator: share(same),
        rated_equal,
        notes: Vec::new(),
    }
}

fn share(score: HitCount) -> Figure {
    let why = "No decisive vote on answers that are rated differently.";
    Figure::new(proportion::wilson(f64::from(score.hits), score.n as usize), why)
}

fn collect<'a>(
    index: &Index<'a>,
    answers: &Answers,
) -> (BTreeMap<&'a str, AxisRatings>, AxisRatings, Own) {
    let mut axes: BTreeMap<&str, AxisRatings> = BTreeMap::new();
    let (mut all, mut own) = (AxisRatings::default(), Own::new());
    for entry in index.by_people() {
        let Verdict::Ratings { axes: given } = &entry.judgement.verdict else { continue };
        for (axis, values) in given {
            let rated = axes.entry(axis).or_default();
            for (candidate, value) in values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let answer = answers.number[entry.item][candidate];
                rated.values.push(value);
                rated.by_answer.entry(answer).or_default().add(value);
                all.by_answer.entry(answer).or_default().add(value);
                own.entry((answer, entry.annotator)).or_default().add(value);
                if let Some(model) = index.model(entry.item, candidate) {
                    rated.by_model.entry(model).or_default().push(value);
                }
            }
        }
    }
    (axes, all, own)
}

/// How often a decisive vote goes to what is rated higher, and how often both are rated the same.
fn consistency(
    index: &Index<'_>,
    answers: &Answers,
    rating: impl Fn(usize, usize) -> Option<Sum>,
) -> (HitCount, usize) {
    let (mut score, mut equal) = (HitCount::default(), 0);
    for vote in index.votes.decisive() {
        let unit = index.votes.units[vote.unit];
        let of = |candidate: usize| rating(answers.number[unit.item][candidate], vote.annotator);
        let (Some(first), Some(second)) = (of(unit.first), of(unit.second)) else { continue };
        match first.mean().total_cmp(&second.mean()) {
            std::cmp::Ordering::Equal => equal += 1,
            order => score.count(
                (order == std::cmp::Ordering::Greater) == (vote.choice == VoteChoice::First),
            ),
        }
    }
    (score, equal)
}
