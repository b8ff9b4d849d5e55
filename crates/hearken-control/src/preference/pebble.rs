//! SAC on a reward that is learned from comparisons: what is done is learned from again, under every new reward.
//!
//! Lee, Smith and Abbeel 2021, arXiv:2106.05091 (PEBBLE). Before the first question the policy may look for states that it has
//! not seen, so that the first segments differ ([`Novelty`]); whenever the reward model has learned, all rewards of the
//! replay are replaced by its own.

use hearken_run::seeds::Seeds;
use serde_json::{Map, Value};

use super::learner::Rewardable;
use super::novelty::Novelty;
use super::questions::Questions;
use crate::config::ControlConfig;
use crate::learner::{AdvanceError, Learner as _};
use crate::replay::Experienced;
use crate::rollout::Stage;
use crate::sac::SacLearner;

/// The row that a reward model reads of a step.
fn row(step: &Experienced<'_>) -> Vec<f32> {
    [step.seen, step.action].concat()
}

impl Rewardable for SacLearner {
    const OWN_NUMBERS: usize = Self::OWN_NUMBERS;

    /// Until the first questions, new states are what is paid for.
    fn start(config: &ControlConfig, stage: Stage, seeds: Seeds) -> (Self, [u64; 2]) {
        let mut learner = Self::new(config, stage, seeds);
        learner.note_rollouts();
        let total = learner.iterations(*config.train.environment_steps);
        let first = learner.iterations(config.preference.unsupervised_steps).min(total);
        (learner, [first, total])
    }

    fn take_reward(&mut self, questions: &mut Questions) {
        self.replay_mut().relabel(|step| questions.rewards(&row(&step))[0] as f32);
    }

    fn advance_asking(
        &mut self,
        questions: &mut Questions,
        seeds: Seeds,
        iteration: u64,
    ) -> Result<Map<String, Value>, AdvanceError> {
        let first = questions.first_iteration();
        let mut record = if iteration < first {
            let novelty = Novelty::of(self.replay());
            self.replay_mut().relabel(|step| novelty.reward(step.seen));
            self.advance_with(seeds, iteration, &mut |step| novelty.reward(step.seen))?
        } else {
            if iteration == first && 0 < iteration {
                // What critics have learned of new states is no beginning for a reward.
                self.renew_critics(&mut seeds.stream("critics", iteration));
                self.take_reward(questions);
            }
            let reward = &mut |step: Experienced<'_>| questions.rewards(&row(&step))[0] as f32;
            self.advance_with(seeds, iteration, reward)?
        };
        let (rollout, environments) = self.noted();
        let round = questions.ask_about(rollout, environments, seeds, iteration)?;
        if round.is_fitted {
            self.take_reward(questions);
        }
        record.extend(round.record);
        Ok(record)
    }
}
