//! Sampling groups until an iteration is full.

use hearken_generate::Sampling;
use hearken_objective::grpo::{Credit, GroupBaseline};
use hearken_tensor::Device;

use super::feed::Feed;
use super::grade::{Graded, Ungraded, grade, groups, kept_before, recorded};
use super::section::Groups;
use super::session::Session;
use crate::error::TrainError;
use crate::reward_source::WeightedSum;
use crate::rollout::{SampleOptions, sample};

impl<D: Device> Session<'_, D> {
    /// Everything that was sampled and graded, and what of it advantages are computed of.
    pub(super) fn gather(
        &mut self,
        sources: &mut WeightedSum<'_>,
    ) -> Result<(Vec<Graded>, Vec<Graded>), TrainError> {
        let (settings, iteration) = (&self.config.grpo, self.counters.iteration);
        let wanted = settings.prompts;
        if let Feed::Replay(iterations) = &self.feed {
            let index = (iteration % iterations.len() as u64) as usize;
            let graded = recorded(&iterations[index].rollouts, settings);
            let kept = kept_before(&graded, settings.groups);
            return Ok((graded, kept));
        }
        let rounds = match settings.groups {
            Groups::Resample { rounds } => rounds,
            _ => 0,
        };
        let (mut all, mut kept): (Vec<Graded>, Vec<Graded>) = (Vec::new(), Vec::new());
        let mut missing = wanted;
        for round in 0..=rounds as u64 {
            let ungraded = self.sample_groups(missing, round)?;
            let mut graded = grade(ungraded, sources, settings)?;
            let first = groups(&all).count() as u64;
            for one in &mut graded {
                one.rollout.group += first;
            }
            kept.extend(kept_before(&graded, settings.groups));
            all.extend(graded);
            missing = wanted.saturating_sub(groups(&kept).count());
            if missing == 0 {
                break;
            }
        }
        Ok((all, kept))
    }

    /// Completions of the next `prompts` prompts, and a greedy one each if the algorithm asks for it.
    fn sample_groups(&mut self, prompts: usize, round: u64) -> Result<Ungraded, TrainError> {
        let Feed::Prompts(feed) = &mut self.feed else {
            unreachable!("recorded rollouts are not sampled");
        };
        let prompts = feed.next(prompts, &mut self.counters.cursor);
        let stream = if round == 0 { "rollout".to_owned() } else { format!("rollout/{round}") };
        let options = SampleOptions {
            sampling: &self.sampling,
            completions: self.config.rollout.completions,
            seeds: self.seeds,
            stream: &stream,
            index: self.counters.iteration,
        };
        let tokenizer = self.tokenizer.as_ref();
        let rollouts = sample(&self.policy, tokenizer, &prompts, &options)?;
        let needs_greedy =
            self.config.grpo.algorithm.credit == Credit::Group(GroupBaseline::Greedy);
        let mut greedy = Vec::new();
        if needs_greedy {
            let sampling = Sampling { temperature: 0.0, ..self.sampling.clone() };
            let options = SampleOptions { sampling: &sampling, completions: 1, ..options };
            greedy = sample(&self.policy, tokenizer, &prompts, &options)?;
        }
        Ok(Ungraded { rollouts, greedy })
    }
}
