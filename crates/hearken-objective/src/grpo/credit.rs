//! From the scores of an iteration to the advantages of its tokens.

use std::collections::BTreeMap;

use super::{Algorithm, Credit, GroupBaseline, KlPlacement, ScoreBaseline};
use crate::advantage::gae::{gae, returns, rewards_to_go};
use crate::advantage::group;
use crate::advantage::whiten::whiten;
use crate::kl::ReferenceTerms;
use crate::reward::{KlPenalty, penalized_score, spread_score, with_kl_penalty};

/// A completion with its score, as [`Algorithm::credit`] reads it.
#[derive(Clone, Copy, Debug)]
pub struct ScoredCompletion<'a> {
    /// Completions of one prompt share a number.
    pub group: usize,
    /// Of the whole completion, after overlong shaping.
    pub score: f64,
    /// Score of the greedy completion of the same prompt; read by [`GroupBaseline::Greedy`] alone.
    pub greedy_score: f64,
    /// What single tokens earned, as part of the score; empty where it is of the whole. Read where tokens
    /// have rewards: [`Credit::Gae`] and [`Credit::RewardsToGo`].
    pub token_scores: &'a [f64],
    /// log π_old(a_t | s_t).
    pub old_logprobs: &'a [f64],
    /// log π_ref(a_t | s_t); read where the KL penalty is in the reward, else may be empty.
    pub ref_logprobs: &'a [f64],
    /// V(s_t); read by [`Credit::Gae`], else may be empty.
    pub values: &'a [f64],
}

/// What the update needs of each completion, in the order of the completions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credited {
    /// Â_t.
    pub advantages: Vec<Vec<f64>>,
    /// Targets of the critic, from unwhitened advantages; empty rows but for [`Credit::Gae`].
    pub returns: Vec<Vec<f64>>,
}

impl Algorithm {
    /// Advantages of all completions of an iteration.
    ///
    /// | argument      | length        | meaning                                        |
    /// |---------------|---------------|------------------------------------------------|
    /// | `completions` | N             | the whole iteration, all ranks                 |
    /// | result        | N, each T_i   | advantages per token                           |
    ///
    /// # Panics
    /// If a slice that is read does not have one entry per token.
    ///
    /// ```
    /// use hearken_objective::grpo::{credit::ScoredCompletion, preset};
    /// let grpo = preset::named("dr_grpo", 8).unwrap();
    /// let of = |score, old_logprobs| ScoredCompletion {
    ///     group: 0,
    ///     score,
    ///     greedy_score: 0.0,
    ///     token_scores: &[],
    ///     old_logprobs,
    ///     ref_logprobs: &[],
    ///     values: &[],
    /// };
    /// let credited = grpo.credit(&[of(1.0, &[-1.0, -2.0]), of(0.0, &[-1.0])]);
    /// assert_eq!(credited.advantages, [vec![0.5, 0.5], vec![-0.5]]);
    /// ```
    pub fn credit(&self, completions: &[ScoredCompletion<'_>]) -> Credited {
        let unrewarded = vec![Vec::new(); completions.len()];
        match self.credit {
            Credit::Gae { gae: how, variance } => {
                let mut credited = Credited::default();
                for completion in completions {
                    let rewards = self.token_rewards(completion, completion.score);
                    let advantages = gae(&rewards, completion.values, 0.0, how);
                    credited.returns.push(returns(&advantages, completion.values));
                    credited.advantages.push(advantages);
                }
                whiten(&mut credited.advantages, variance);
                credited
            }
            Credit::Group(baseline) => {
                let scores: Vec<f64> = completions.iter().map(|c| self.whole_score(c)).collect();
                let spread = |(a, c): (f64, &ScoredCompletion<'_>)| vec![a; c.old_logprobs.len()];
                let advantages = by_group(completions, &scores, baseline);
                let advantages = advantages.into_iter().zip(completions).map(spread).collect();
                Credited { advantages, returns: unrewarded }
            }
            Credit::RewardsToGo { baseline, variance } => {
                let raw: Vec<f64> = completions.iter().map(|c| c.score).collect();
                let scores = match baseline {
                    ScoreBaseline::None => raw,
                    ScoreBaseline::GroupMean => by_group(completions, &raw, GroupBaseline::Mean),
                };
                let mut advantages: Vec<Vec<f64>> = completions
                    .iter()
                    .zip(scores)
                    .map(|(c, score)| rewards_to_go(&self.token_rewards(c, score), 1.0))
                    .collect();
                whiten(&mut advantages, variance);
                Credited { advantages, returns: unrewarded }
            }
        }
    }

    fn token_rewards(&self, completion: &ScoredCompletion<'_>, score: f64) -> Vec<f64> {
        let mut rewards = if let Some((terms, penalty)) = self.reward_penalty(completion) {
            with_kl_penalty(score, terms, penalty)
        } else {
            let mut rewards = vec![0.0; completion.old_logprobs.len()];
            if let Some(last) = rewards.last_mut() {
                *last = score;
            }
            rewards
        };
        spread_score(&mut rewards, completion.token_scores);
        rewards
    }

    fn whole_score(&self, completion: &ScoredCompletion<'_>) -> f64 {
        match self.reward_penalty(completion) {
            Some((terms, penalty)) => penalized_score(completion.score, terms, penalty),
            None => completion.score,
        }
    }

    fn reward_penalty<'a>(
        &self,
        completion: &ScoredCompletion<'a>,
    ) -> Option<(ReferenceTerms<'a>, KlPenalty)> {
        match self.kl {
            KlPlacement::None | KlPlacement::InLoss { .. } => None,
            KlPlacement::InReward { beta, estimator } => Some((
                ReferenceTerms {
                    logprobs: completion.old_logprobs,
                    ref_logprobs: completion.ref_logprobs,
                },
                KlPenalty { beta, estimator },
            )),
        }
    }
}

/// One advantage per completion, in the order of the completions.
fn by_group(
    completions: &[ScoredCompletion<'_>],
    scores: &[f64],
    baseline: GroupBaseline,
) -> Vec<f64> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, completion) in completions.iter().enumerate() {
        members.entry(completion.group).or_default().push(i);
    }
    let groups: Vec<Vec<f64>> =
        members.values().map(|group| group.iter().map(|&i| scores[i]).collect()).collect();
    let each = |f: &dyn Fn(&[f64]) -> Vec<f64>| groups.iter().map(|g| f(g)).collect();
    let grouped: Vec<Vec<f64>> = match baseline {
        GroupBaseline::Mean => each(&group::minus_mean),
        GroupBaseline::Standardized(how) => each(&|g| group::standardized(g, how)),
        GroupBaseline::OverBatchStd(how) => group::over_batch_std(&groups, how),
        GroupBaseline::LeaveOneOut => each(&group::leave_one_out),
        GroupBaseline::Greedy => members
            .values()
            .zip(&groups)
            .map(|(m, scores)| group::minus_greedy(scores, completions[m[0]].greedy_score))
            .collect(),
    };
    let mut advantages = vec![0.0; completions.len()];
    for (indices, values) in members.values().zip(grouped) {
        for (&i, value) in indices.iter().zip(values) {
            advantages[i] = value;
        }
    }
    advantages
}
