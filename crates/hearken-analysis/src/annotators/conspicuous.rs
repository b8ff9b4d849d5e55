//! Why an annotator is conspicuous.

use hearken_stats::{corrections, significance};
use serde::{Deserialize, Serialize};

use super::gold::Gold;
use super::speed::OUTLIER;
use super::{Annotator, HitCount, LEVEL, VoteScores};
use crate::figure::Test;

/// A reason to look at an annotator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind of reason.
    pub kind: ReasonKind,
    /// The reason as a sentence, with its numbers.
    pub why: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// Agrees with the others less than they with each other.
    Disagrees,
    /// Disagrees with the others more often than a coin would.
    Opposite,
    /// Prefers one side of the page.
    Side,
    /// Prefers longer or shorter answers, unlike the others.
    Length,
    /// Much faster than the others.
    Fast,
    /// Wrong on gold items more often than the others.
    Gold,
    /// The sequential test.
    Sequential,
}

/// Decisive votes from which on an annotator may be called opposite.
const OPPOSITE_VOTES_MIN: u32 = 10;

/// Fills [`Annotator::conspicuous`].
pub(super) fn mark(list: &mut [Annotator], votes: &VoteScores, gold: &Gold) {
    let opposite = opposites(&votes.majority.decisive);
    let others = |scores: &[HitCount], k: usize| {
        let others = scores[k].others(HitCount::sum(scores));
        f64::from(others.hits) / f64::from(others.n.max(1))
    };
    let annotators = list.len() as f64;
    for (k, annotator) in list.iter_mut().enumerate() {
        let mut reasons = Vec::new();
        let mut add = |kind, why: Option<String>| {
            reasons.extend(why.map(|why| Reason { kind, why }));
        };
        let score = votes.majority.all[k];
        add(
            ReasonKind::Disagrees,
            below(annotator.agreement_test, || {
                compared(
                    "Agrees with the majority of the others",
                    score,
                    others(&votes.majority.all, k),
                )
            }),
        );
        add(ReasonKind::Opposite, opposite[k].clone());
        add(ReasonKind::Side, below(annotator.left_test, || side(votes.left[k])));
        let (longer, rest) = (votes.longer[k], others(&votes.longer, k));
        add(
            ReasonKind::Length,
            below(annotator.longer_test, || compared("Chose the longer answer", longer, rest)),
        );
        add(
            ReasonKind::Fast,
            annotator
                .speed
                .robust_z
                .filter(|&z| z < -OUTLIER)
                .map(|z| format!("Is far faster than the other annotators (robust z {z:.1}).")),
        );
        add(
            ReasonKind::Gold,
            below(annotator.gold_test, || {
                compared("Is right on gold items", gold.scores[k], others(&gold.scores, k))
            }),
        );
        // Either product may exceed its bound for each of the annotators.
        let threshold = 2.0 * annotators / LEVEL;
        let product = annotator.sequential.low_max.max(annotator.sequential.high_max);
        add(ReasonKind::Sequential, (annotator.sequential.flagged && product > threshold).then(|| {
            format!(
                "Votes unlike the others on the same pairs: the sequential test reached {product:.0}, \
                 the bound is {threshold:.0}."
            )
        }));
        annotator.conspicuous = reasons;
    }
}

fn below(test: Option<Test>, why: impl FnOnce() -> String) -> Option<String> {
    let test = test.filter(|test| test.p_holm < LEVEL)?;
    Some(format!("{} ({}).", why(), probability(test.p_holm)))
}

fn probability(p: f64) -> String {
    if p < 1e-4 { "corrected p < 0.0001".into() } else { format!("corrected p {p:.4}") }
}

fn compared(what: &str, score: HitCount, others: f64) -> String {
    let HitCount { hits, n } = score;
    let share = 100.0 * f64::from(hits) / f64::from(n.max(1));
    format!("{what} in {hits} of {n} ({share:.0} %); the others in {:.0} %", 100.0 * others)
}

fn side(score: HitCount) -> String {
    let HitCount { hits, n } = score;
    format!("Chose the left side in {hits} of {n} decisive votes ({} right)", n - hits)
}

/// Who agrees with the decisive majority of the others in less than half of the cases, beyond chance.
fn opposites(scores: &[HitCount]) -> Vec<Option<String>> {
    let p: Vec<f64> = scores
        .iter()
        .map(|s| {
            let test = significance::at_most(u64::from(s.hits), u64::from(s.n), 0.5);
            test.filter(|_| s.n >= OPPOSITE_VOTES_MIN).map_or(1.0, |test| test.p_value)
        })
        .collect();
    let why = |(s, p): (&HitCount, f64)| {
        (p < LEVEL).then(|| {
            format!(
                "Prefers the opposite of the majority of the others: agrees in {} of {} decisive votes ({}).",
                s.hits,
                s.n,
                probability(p)
            )
        })
    };
    scores.iter().zip(corrections::holm(&p)).map(why).collect()
}
