//! From graded rollouts to experience: advantages.

use hearken_objective::grpo::credit::ScoredCompletion;
use hearken_objective::grpo::shaping::{Overlong, SamplerTerms};
use hearken_objective::grpo::{Algorithm, CompletionTerms};
use hearken_objective::kl::ReferenceTerms;

use super::grade::{Graded, spreads};
use super::section::Groups;
use crate::rollout::BatchReading;

/// A graded rollout with everything that an update reads.
#[derive(Clone, Debug)]
pub(crate) struct Experience {
    pub(super) graded: Graded,
    /// log π_old, by the training forward pass.
    pub(super) old_logprobs: Vec<f64>,
    /// As the sampler recorded them; empty in replay.
    pub(super) sampled_logprobs: Vec<f64>,
    /// log π_ref.
    pub(super) ref_logprobs: Vec<f64>,
    /// Â_t.
    pub(super) advantages: Vec<f64>,
}

impl Experience {
    pub(super) fn tokens(&self) -> usize {
        self.old_logprobs.len()
    }

    /// log π_old against log π_ref.
    pub(super) fn reference(&self) -> ReferenceTerms<'_> {
        ReferenceTerms { logprobs: &self.old_logprobs, ref_logprobs: &self.ref_logprobs }
    }

    /// What the sampler saw against what the trainer sees; `None` in replay.
    pub(super) fn sampler(&self) -> Option<SamplerTerms<'_>> {
        (!self.sampled_logprobs.is_empty()).then_some(SamplerTerms {
            old_logprobs: &self.old_logprobs,
            sampled_logprobs: &self.sampled_logprobs,
        })
    }

    /// What the loss reads beside the current log-probabilities.
    pub(super) fn terms<'a>(&'a self, logprobs: &'a [f64]) -> CompletionTerms<'a> {
        CompletionTerms {
            logprobs,
            old_logprobs: &self.old_logprobs,
            sampled_logprobs: &self.sampled_logprobs,
            ref_logprobs: &self.ref_logprobs,
            advantages: &self.advantages,
        }
    }
}

/// Credits every token of an iteration. `reading` is the policy's before the first update,
/// `ref_logprobs` the reference's.
pub(super) fn credit(
    graded: Vec<Graded>,
    reading: BatchReading,
    ref_logprobs: Vec<Vec<f64>>,
    algorithm: &Algorithm,
) -> Vec<Experience> {
    let mut experience = Vec::with_capacity(graded.len());
    for ((graded, old_logprobs), ref_logprobs) in
        graded.into_iter().zip(reading.logprobs).zip(ref_logprobs)
    {
        let sampled_logprobs = graded.rollout.completion.logprobs.clone();
        let advantages = Vec::new();
        experience.push(Experience {
            graded,
            old_logprobs,
            sampled_logprobs,
            ref_logprobs,
            advantages,
        });
    }
    let of = |one: &Experience| one.graded.rollout.group as usize;
    let completions: Vec<ScoredCompletion<'_>> = experience
        .iter()
        .map(|one| ScoredCompletion {
            group: of(one),
            score: one.graded.credited,
            greedy_score: one.graded.greedy_score,
            token_scores: &one.graded.token_scores,
            old_logprobs: &one.old_logprobs,
            ref_logprobs: &one.ref_logprobs,
            values: &[],
        })
        .collect();
    let credited = algorithm.credit(&completions);
    for (one, advantages) in experience.iter_mut().zip(credited.advantages) {
        one.advantages = advantages;
    }
    experience
}

/// The part of an iteration that is trained on: without groups that leave after their advantages are
/// known, and without completions that were cut off where those are masked.
pub(super) fn trained(
    experience: &[Experience],
    filter: Groups,
    overlong: Overlong,
) -> Vec<Experience> {
    let group = |one: &Experience| one.graded.rollout.group;
    let mut trained = Vec::with_capacity(experience.len());
    for members in experience.chunk_by(|a, b| group(a) == group(b)) {
        if filter == Groups::DropAfter && !spreads(members.iter().map(|one| &one.graded)) {
            continue;
        }
        let counts = |one: &&Experience| overlong != Overlong::Mask || one.graded.rollout.ended();
        trained.extend(members.iter().filter(counts).cloned());
    }
    trained
}
