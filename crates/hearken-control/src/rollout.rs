//! Steps of a policy in copies of an environment, and what they are worth.

use hearken_env::{
    ActionSpace, EnvironmentStep, Environments, Restored, ServerError, Spaces, StepEnd,
};
use hearken_objective::advantage::gae::{Gae, gae};
use hearken_run::seeds::Seeds;
use rand_chacha::ChaCha8Rng;

use crate::actions::Actions;
use crate::kept::{Episode, LearnerState};
use crate::network::{Network, Pass};
use crate::normalization::{RewardScale, RunningMoments, normalize};
use crate::policy::{Judgements, Policy};

/// Copies of an environment with the episodes that go on in them.
#[derive(Debug)]
pub struct Stage {
    /// The copies.
    pub environments: Environments,
    /// The episode of each so far.
    pub episodes: Vec<Episode>,
    /// Episodes begun.
    pub resets: u64,
    /// What copies draw their initial states from.
    seeds: Seeds,
    /// What the last actions came to.
    steps: Vec<EnvironmentStep>,
}

impl Stage {
    /// Copies that have just begun.
    ///
    /// # Errors
    /// If a process serves them, and fails.
    pub fn new(environments: Environments, seeds: Seeds) -> Result<Self, ServerError> {
        let episodes = vec![Episode::default(); environments.len()];
        let mut stage = Self { environments, episodes, resets: 0, seeds, steps: Vec::new() };
        (0..stage.len()).try_for_each(|index| stage.reset(index))?;
        Ok(stage)
    }

    /// What is seen of the copies, and what may be done.
    pub fn spaces(&self) -> Spaces {
        self.environments.spaces()
    }

    /// What a checkpoint keeps of it.
    pub fn kept(&self) -> LearnerState {
        LearnerState {
            environments: self.environments.snapshot(),
            episodes: self.episodes.clone(),
            resets: self.resets,
            ..LearnerState::default()
        }
    }

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    /// If that is of other copies, or they cannot be brought to where they were.
    pub fn restore(&mut self, kept: LearnerState) -> Result<(), String> {
        let copies = self.len();
        if kept.episodes.len() != copies {
            let found = kept.episodes.len();
            return Err(format!("found {found} episodes, expected those of {copies} copies"));
        }
        let restored = self.environments.restore(kept.environments).map_err(|e| e.to_string())?;
        (self.episodes, self.resets) = (kept.episodes, kept.resets);
        if restored == Restored::Anew {
            (0..copies).try_for_each(|index| self.reset(index)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// How many copies there are.
    pub fn len(&self) -> usize {
        self.environments.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty()
    }

    /// Begins an episode in copy `index`.
    ///
    /// # Errors
    /// If a process serves it, and fails.
    pub fn reset(&mut self, index: usize) -> Result<(), ServerError> {
        let mut rng = self.seeds.stream("initial state", self.resets);
        self.resets += 1;
        self.environments.reset(index, &mut rng)?;
        self.episodes[index] = Episode::default();
        Ok(())
    }

    /// Does action `at` of `actions` in copy `index`; where that ends the episode, the copy waits for a reset.
    ///
    /// # Errors
    /// If a process serves it, and fails.
    pub fn step(
        &mut self,
        index: usize,
        actions: &Actions,
        at: usize,
    ) -> Result<EnvironmentStep, ServerError> {
        actions.with(at, |action| self.environments.begin(index, action));
        self.environments.finish(&mut self.steps)?;
        let step = self.steps[0];
        self.note(index, step);
        Ok(step)
    }

    /// Does the actions from `first` on, one in each copy; what each came to.
    ///
    /// # Errors
    /// If a process serves the copies, and fails.
    pub fn step_all(
        &mut self,
        actions: &Actions,
        first: usize,
    ) -> Result<Vec<EnvironmentStep>, ServerError> {
        for index in 0..self.len() {
            actions.with(first + index, |action| self.environments.begin(index, action));
        }
        let mut steps = std::mem::take(&mut self.steps);
        self.environments.finish(&mut steps)?;
        for (index, step) in steps.iter().enumerate() {
            self.note(index, *step);
        }
        Ok(steps)
    }

    /// Gives back what [`Stage::step_all`] gave, to be written into again.
    fn keep(&mut self, steps: Vec<EnvironmentStep>) {
        self.steps = steps;
    }

    fn note(&mut self, index: usize, step: EnvironmentStep) {
        self.episodes[index].total += step.reward;
        self.episodes[index].steps += 1;
    }
}

/// What was done and seen in `steps` steps of `copies` copies; entry `t·copies + c` of everything is step t of copy c.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Steps of each copy.
    pub steps: usize,
    /// Copies.
    pub copies: usize,
    /// States before the actions, the environment's own numbers.
    pub states: Vec<f64>,
    /// What is observed of them.
    pub seen: Vec<f32>,
    /// The same at scale; nothing where the policy reads it as it is.
    scaled: Vec<f32>,
    /// What is observed behind each action, before a reset, where that is wanted.
    pub following: Vec<f32>,
    /// Whether it is.
    pub wants_following: bool,
    /// What was done.
    pub actions: Actions,
    /// log π of that, as it was sampled.
    pub logprobs: Vec<f64>,
    /// V before the actions.
    pub values: Vec<f64>,
    /// Rewards of the actions.
    pub rewards: Vec<f64>,
    /// What each step did to its episode.
    pub ends: Vec<StepEnd>,
    /// V of what was observed last in an episode that was cut off, by entry.
    pub cut_values: Vec<(usize, f64)>,
    /// V of what each copy is in at the end.
    pub last_values: Vec<f64>,
    /// Episodes that ended.
    pub episodes: Vec<Episode>,
}

impl Rollout {
    /// Nothing yet.
    pub fn new(space: ActionSpace) -> Self {
        Self {
            steps: 0,
            copies: 0,
            states: Vec::new(),
            seen: Vec::new(),
            scaled: Vec::new(),
            following: Vec::new(),
            wants_following: false,
            actions: Actions::new(space),
            logprobs: Vec::new(),
            values: Vec::new(),
            rewards: Vec::new(),
            ends: Vec::new(),
            cut_values: Vec::new(),
            last_values: Vec::new(),
            episodes: Vec::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.states.clear();
        self.seen.clear();
        self.scaled.clear();
        self.following.clear();
        self.actions.clear();
        self.logprobs.clear();
        self.values.clear();
        self.rewards.clear();
        self.ends.clear();
        self.cut_values.clear();
        self.last_values.clear();
        self.episodes.clear();
    }

    /// What is observed before the actions, as the policy reads it.
    pub fn observations(&self) -> &[f32] {
        if self.scaled.is_empty() { &self.seen } else { &self.scaled }
    }

    /// Steps in all copies together.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }
}

/// The buffers of [`collect`], kept from one rollout to the next.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    policy: Pass,
    critic: Pass,
    judgements: Judgements,
    seen: Vec<f32>,
    observations: Vec<f32>,
}

/// Who acts, and who says what that is worth.
#[derive(Clone, Copy, Debug)]
pub struct Players<'a> {
    /// π.
    pub policy: &'a Policy,
    /// V.
    pub critic: &'a Network,
}

/// Lets a policy act for `steps` steps in every copy. `moments` learn what is observed.
///
/// # Errors
/// If a process serves the copies, and fails.
pub fn collect(
    players: Players<'_>,
    stage: &mut Stage,
    steps: usize,
    mut moments: Option<&mut RunningMoments>,
    rng: &mut ChaCha8Rng,
    rollout: &mut Rollout,
    buffers: &mut Buffers,
) -> Result<(), ServerError> {
    let copies = stage.len();
    let len = stage.spaces().observation.len();
    rollout.clear();
    (rollout.steps, rollout.copies) = (steps, copies);
    for step in 0..steps {
        observe(stage, moments.as_deref_mut(), buffers);
        players.policy.network.forward(&buffers.observations, &mut buffers.policy);
        players.critic.forward(&buffers.observations, &mut buffers.critic);
        rollout.seen.extend(&buffers.seen);
        if moments.is_some() {
            rollout.scaled.extend(&buffers.observations);
        }
        let Buffers { policy, judgements, .. } = buffers;
        let Rollout { actions, logprobs, .. } = &mut *rollout;
        players.policy.sample(policy.output(), actions, logprobs, judgements, rng);
        rollout.values.extend(buffers.critic.output().iter().map(|&value| f64::from(value)));
        (0..copies).for_each(|copy| rollout.states.extend(stage.environments.state(copy)));
        let done = stage.step_all(&rollout.actions, step * copies)?;
        for (copy, &EnvironmentStep { reward, end }) in done.iter().enumerate() {
            let entry = step * copies + copy;
            rollout.rewards.push(reward);
            rollout.ends.push(end);
            if rollout.wants_following {
                let at = rollout.following.len();
                rollout.following.resize(at + len, 0.0);
                stage.environments.observe(copy, &mut rollout.following[at..]);
            }
            if end == StepEnd::Running {
                continue;
            }
            if end == StepEnd::Truncated {
                let (seen, row) = (&mut buffers.seen[..len], &mut buffers.observations[..len]);
                stage.environments.observe(copy, seen);
                normalize(moments.as_deref(), seen, row);
                players.critic.forward(row, &mut buffers.critic);
                rollout.cut_values.push((entry, f64::from(buffers.critic.output()[0])));
            }
            rollout.episodes.push(stage.episodes[copy]);
            stage.reset(copy)?;
        }
        stage.keep(done);
    }
    observe(stage, None, buffers);
    if let Some(moments) = moments {
        for (seen, row) in buffers.seen.chunks(len).zip(buffers.observations.chunks_mut(len)) {
            moments.normalize(seen, row);
        }
    }
    players.critic.forward(&buffers.observations, &mut buffers.critic);
    rollout.last_values.extend(buffers.critic.output().iter().map(|&value| f64::from(value)));
    Ok(())
}

/// Reads what is observed of every copy.
fn observe(stage: &Stage, moments: Option<&mut RunningMoments>, buffers: &mut Buffers) {
    let len = stage.spaces().observation.len();
    buffers.seen.resize(stage.len() * len, 0.0);
    buffers.observations.resize(stage.len() * len, 0.0);
    for (copy, seen) in buffers.seen.chunks_mut(len).enumerate() {
        stage.environments.observe(copy, seen);
    }
    let Some(moments) = moments else {
        buffers.observations.copy_from_slice(&buffers.seen);
        return;
    };
    for seen in buffers.seen.chunks(len) {
        moments.push(seen.iter().map(|&x| f64::from(x)));
    }
    for (seen, row) in buffers.seen.chunks(len).zip(buffers.observations.chunks_mut(len)) {
        moments.normalize(seen, row);
    }
}

/// Advantages and returns, entry by entry.
#[derive(Clone, Debug, Default)]
pub struct Credit {
    /// Â.
    pub advantages: Vec<f64>,
    /// Â + V.
    pub returns: Vec<f64>,
}

/// Generalized advantage estimation of every piece of an episode by itself: behind a terminated one nothing is
/// worth anything, behind one that was cut off what the critic says of its last observation.
pub fn credit(rollout: &Rollout, scale: Option<&mut RewardScale>, gae_of: Gae) -> Credit {
    let Rollout { steps, copies, .. } = *rollout;
    let rewards = match scale {
        None => rollout.rewards.clone(),
        Some(scale) => {
            let scaled = rollout.rewards.iter().zip(&rollout.ends).enumerate();
            let scaled = scaled.map(|(entry, (reward, end))| {
                scale.scale(entry % copies, *reward, gae_of.gamma, *end != StepEnd::Running)
            });
            scaled.collect()
        }
    };
    let mut credit =
        Credit { advantages: vec![0.0; rollout.len()], returns: vec![0.0; rollout.len()] };
    let (mut piece_rewards, mut piece_values) = (Vec::new(), Vec::new());
    for copy in 0..copies {
        let mut first = 0;
        for step in 0..steps {
            let entry = step * copies + copy;
            piece_rewards.push(rewards[entry]);
            piece_values.push(rollout.values[entry]);
            let end = rollout.ends[entry];
            if end == StepEnd::Running && step + 1 < steps {
                continue;
            }
            let bootstrap = match end {
                StepEnd::Running => rollout.last_values[copy],
                StepEnd::Terminated => 0.0,
                StepEnd::Truncated => cut_value(rollout, entry),
            };
            let advantages = gae(&piece_rewards, &piece_values, bootstrap, gae_of);
            for (at, (advantage, value)) in advantages.iter().zip(&piece_values).enumerate() {
                let entry = (first + at) * copies + copy;
                credit.advantages[entry] = *advantage;
                credit.returns[entry] = advantage + value;
            }
            first = step + 1;
            piece_rewards.clear();
            piece_values.clear();
        }
    }
    credit
}

fn cut_value(rollout: &Rollout, entry: usize) -> f64 {
    let found = rollout.cut_values.iter().find(|(cut, _)| *cut == entry);
    found.expect("an episode that is cut off has a value behind it").1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(ends: &[StepEnd]) -> Rollout {
        let mut rollout = Rollout::new(ActionSpace::Discrete { count: 2 });
        (rollout.steps, rollout.copies) = (ends.len(), 1);
        rollout.ends = ends.to_vec();
        rollout.rewards = vec![1.0; ends.len()];
        rollout.values = vec![0.0; ends.len()];
        rollout.last_values = vec![100.0];
        rollout
    }

    #[test]
    fn what_follows_an_end_is_worth_nothing_and_what_follows_a_cut_its_value() {
        const MONTE_CARLO: Gae = Gae { gamma: 0.5, lambda: 1.0 };
        use StepEnd::{Running, Terminated, Truncated};
        let ended = credit(&rollout(&[Running, Terminated, Running]), None, MONTE_CARLO);
        assert_eq!(ended.returns, [1.5, 1.0, 51.0]);
        let mut cut = rollout(&[Running, Truncated, Running]);
        cut.cut_values = vec![(1, 8.0)];
        assert_eq!(credit(&cut, None, MONTE_CARLO).returns, [3.5, 5.0, 51.0]);
    }
}
