//! Sampling groups until an iteration is full.

use hearken_generate::Sampling;
use hearken_objective::grpo::{Credit, GroupBaseline};
use hearken_reward_source::RewardSource;
use hearken_run::error::TrainError;
use hearken_tensor::Device;

use super::Grpo;
use super::grade::{Graded, Ungraded, grade, groups, kept_before, recorded};
use super::section::Groups;
use crate::rollout::SampleOptions;
use crate::rollout::session::{ROLLOUT, RolloutSession};
use crate::rollout::source::RolloutSource;

impl Grpo {
    /// Everything that was sampled and graded, and what of it advantages are computed of.
    pub(super) fn gather<D: Device>(
        &self,
        session: &mut RolloutSession<D>,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Graded>, Vec<Graded>), TrainError> {
        let filter = self.config.resolved.groups;
        let wanted = *self.config.grpo.prompts;
        if let Some((rollouts, scores)) = session.recorded(sources)? {
            let graded = recorded(rollouts, &scores.total, &self.config);
            let kept = kept_before(&graded, filter);
            return Ok((graded, kept));
        }
        let rounds = match filter {
            Groups::Resample { rounds } => rounds,
            _ => 0,
        };
        let (mut all, mut kept): (Vec<Graded>, Vec<Graded>) = (Vec::new(), Vec::new());
        let mut missing = wanted;
        for round in 0..=rounds as u64 {
            let ungraded = self.sample_groups(session, missing, round, sources)?;
            let weights: Vec<f64> = sources.measures().iter().map(|one| one.weight).collect();
            let mut graded = grade(ungraded, &weights, &self.config);
            let first = groups(&all).count() as u64;
            for one in &mut graded {
                one.rollout.group += first;
            }
            kept.extend(kept_before(&graded, filter));
            all.extend(graded);
            missing = wanted.saturating_sub(groups(&kept).count());
            if missing == 0 {
                break;
            }
        }
        Ok((all, kept))
    }

    /// Completions of the next `prompts` prompts, and a greedy one each if the algorithm asks for it.
    fn sample_groups<D: Device>(
        &self,
        session: &mut RolloutSession<D>,
        prompts: usize,
        round: u64,
        sources: &mut dyn RewardSource,
    ) -> Result<Ungraded, TrainError> {
        let prompts = session.next_prompts(prompts);
        let stream = if round == 0 { ROLLOUT.to_owned() } else { format!("rollout/{round}") };
        let (rollouts, scores) = session.sample(&prompts, &stream, sources)?;
        let mut greedy = Vec::new();
        if self.config.resolved.algorithm.credit == Credit::Group(GroupBaseline::Greedy) {
            let sampling = Sampling { temperature: 0.0, ..session.sampling.clone() };
            let options = SampleOptions {
                sampling: &sampling,
                completions: 1,
                ..session.sample_options(&stream)
            };
            let mut policy = session.source(&session.run.model);
            let (rollouts, scores) = policy.rollouts(&prompts, &options, sources)?;
            greedy.extend(rollouts.into_iter().zip(scores.total));
        }
        Ok(Ungraded { rollouts, scores, greedy })
    }
}
