//! From rollouts to scored rollouts.

use hearken_model::Model;
use hearken_objective::{Mean, Moments, reward::MissingEnd};
use hearken_tensor::Device;

use super::{ForwardOptions, Heads, Rollout, ScoredRollout, Sequence, read};
use crate::reward_source::{RewardError, WeightedSum};

/// What scores depend on besides the rollouts.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a, D: Device> {
    /// The frozen model that the KL is measured from.
    pub reference: &'a Model<D>,
    /// How rollouts go through it.
    pub forward: ForwardOptions,
    /// What happens to a completion that has no end.
    pub missing_end: MissingEnd,
}

/// What the sources said of an iteration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoringSummary {
    /// Moments of the scores that count, penalties included.
    pub scores: Moments,
    /// Each source's own mean, unweighted and without penalties.
    pub by_source: Vec<(String, Mean)>,
}

/// Scores rollouts by `sources`, or by the scores that were `recorded` with them.
///
/// # Errors
/// Of the sources.
pub fn score<D: Device>(
    rollouts: Vec<Rollout>,
    recorded: Option<Vec<f64>>,
    sources: &mut WeightedSum<'_>,
    scoring: &Scoring<'_, D>,
) -> Result<(Vec<ScoredRollout>, ScoringSummary), RewardError> {
    let mut summary = ScoringSummary::default();
    // A recorded score is what the record says it is: penalties are in it already.
    let (scores, missing_end) = if let Some(recorded) = recorded {
        (recorded, MissingEnd::Keep)
    } else {
        let views: Vec<_> = rollouts.iter().map(Rollout::view).collect();
        let scores = sources.score(&views)?;
        let means = scores.by_source.iter().map(|(name, own)| (name.clone(), Mean::of(own)));
        summary.by_source = means.collect();
        (scores.total, scoring.missing_end)
    };
    assert_eq!(scores.len(), rollouts.len(), "scores: one per rollout");
    let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
    let reading = read(scoring.reference, &sequences, Heads::LogProbs, scoring.forward);
    let mut scored = Vec::with_capacity(rollouts.len());
    for ((rollout, score), ref_logprobs) in rollouts.into_iter().zip(scores).zip(reading.logprobs) {
        let score = if rollout.ended() { score } else { missing_end.score(score) };
        scored.push(ScoredRollout { rollout, score, ref_logprobs });
    }
    let finals: Vec<f64> = scored.iter().map(|one| one.score).collect();
    summary.scores = Moments::of(&finals);
    Ok((scored, summary))
}
