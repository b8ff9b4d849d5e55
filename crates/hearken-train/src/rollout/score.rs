//! From rollouts to scored rollouts.

use hearken_model::Model;
use hearken_objective::{Mean, Moments, reward::MissingEnd};
use hearken_reward_source::BatchScores;
use hearken_run::ranks::Ranks;
use hearken_tensor::Device;

use super::{ForwardOptions, Heads, Rollout, ScoredRollout, Sequence, read_together};

/// What scores depend on besides the rollouts.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a, D: Device> {
    /// The frozen model that the KL is measured from.
    pub reference: &'a Model<D>,
    /// Who reads with it.
    pub ranks: &'a Ranks,
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

/// Puts together what sources and reference say of rollouts.
pub fn score<D: Device>(
    rollouts: Vec<Rollout>,
    scores: BatchScores,
    scoring: &Scoring<'_, D>,
) -> (Vec<ScoredRollout>, ScoringSummary) {
    let mut summary = ScoringSummary::default();
    let means = scores.by_source.iter().map(|(name, own)| (name.clone(), Mean::of(own)));
    summary.by_source = means.collect();
    assert_eq!(scores.total.len(), rollouts.len(), "scores: one per rollout");
    let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
    let Scoring { reference, ranks, forward, .. } = *scoring;
    let reading = read_together(ranks, reference, &sequences, Heads::LogProbs, forward);
    let mut scored = Vec::with_capacity(rollouts.len());
    let mut of_tokens = scores.of_tokens.into_iter();
    for ((rollout, score), ref_logprobs) in
        rollouts.into_iter().zip(scores.total).zip(reading.logprobs)
    {
        let token_scores = of_tokens.next().unwrap_or_default();
        let score = rollout.score_with_end(score, scoring.missing_end);
        scored.push(ScoredRollout { rollout, score, token_scores, ref_logprobs });
    }
    let finals: Vec<f64> = scored.iter().map(|one| one.score).collect();
    summary.scores = Moments::of(&finals);
    (scored, summary)
}
