//! Copies of one task, side by side, and how their episodes end.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::task::Task;

/// A task, and whether its episodes have a fixed length.
///
/// `CartPole-v1` ends where the pole falls. `fixed/CartPole-v1` never ends before its horizon: from the step on
/// which the task terminates the state stays as it is and the reward is 0, so that the length of an episode says
/// nothing about how good it was. Written and read as these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnvironmentId {
    /// The task.
    pub task: Task,
    /// Whether every episode lasts to the horizon.
    pub has_fixed_horizon: bool,
}

const FIXED: &str = "fixed/";

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.has_fixed_horizon { FIXED } else { "" })?;
        f.write_str(self.task.id())
    }
}

/// A name that no environment has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found no environment {found:?}{}, expected one of {}, or one of them behind `fixed/`",
    hint(found),
    names()
)]
pub struct UnknownEnvironment {
    /// The name.
    pub found: String,
}

fn names() -> String {
    Task::ALL.map(Task::id).join(", ")
}

/// The name that is meant, where one is near.
fn hint(found: &str) -> String {
    let found = found.strip_prefix(FIXED).unwrap_or(found).to_lowercase();
    let distance = |task: &Task| strsim::levenshtein(&found, &task.id().to_lowercase());
    let nearest = Task::ALL.into_iter().min_by_key(distance).filter(|task| distance(task) <= 4);
    nearest.map(|task| format!(" (did you mean {}?)", task.id())).unwrap_or_default()
}

impl FromStr for EnvironmentId {
    type Err = UnknownEnvironment;

    fn from_str(name: &str) -> Result<Self, UnknownEnvironment> {
        let (has_fixed_horizon, id) =
            name.strip_prefix(FIXED).map_or((false, name), |id| (true, id));
        let task = Task::ALL.into_iter().find(|task| task.id() == id);
        let task = task.ok_or_else(|| UnknownEnvironment { found: name.to_owned() })?;
        Ok(Self { task, has_fixed_horizon })
    }
}

/// Whether an episode goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// It goes on.
    Running,
    /// The task ended: what follows is worth 0.
    Terminated,
    /// A time limit cut it off: what follows is worth what the value of the last state says.
    Truncated,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The reward of the action.
    pub reward: f64,
    /// Whether the episode is over.
    pub end: StepEnd,
}

/// Copies of an environment. An episode that is over waits for [`Environments::reset`], so that its last state can
/// be observed.
#[derive(Clone, Debug)]
pub struct Environments {
    id: EnvironmentId,
    state_len: usize,
    inner: Snapshot,
}

/// Everything that changes in [`Environments`], for a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The states, one after another.
    pub states: Vec<f64>,
    /// Steps of each episode.
    pub steps: Vec<u32>,
    /// Whether the task has terminated while the episode goes on to its horizon.
    pub is_absorbed: Vec<bool>,
}

impl Environments {
    /// `count` copies; each waits for its first reset.
    pub fn new(id: EnvironmentId, count: usize) -> Self {
        let state_len = id.task.state_names().len();
        let states = vec![0.0; count * state_len];
        let inner = Snapshot { states, steps: vec![0; count], is_absorbed: vec![false; count] };
        Self { id, state_len, inner }
    }

    /// As they were when `snapshot` was taken; `None` if that is of another number of copies or another task.
    pub fn restore(id: EnvironmentId, count: usize, snapshot: Snapshot) -> Option<Self> {
        let state_len = id.task.state_names().len();
        let fits = snapshot.states.len() == count * state_len
            && [snapshot.steps.len(), snapshot.is_absorbed.len()] == [count; 2];
        fits.then_some(Self { id, state_len, inner: snapshot })
    }

    /// What a checkpoint keeps.
    pub fn snapshot(&self) -> &Snapshot {
        &self.inner
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.steps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner.steps.is_empty()
    }

    /// What all of them are.
    pub fn id(&self) -> EnvironmentId {
        self.id
    }

    /// The state of copy `index`.
    pub fn state(&self, index: usize) -> &[f64] {
        &self.inner.states[index * self.state_len..][..self.state_len]
    }

    /// Begins an episode in copy `index`.
    pub fn reset(&mut self, index: usize, rng: &mut ChaCha8Rng) {
        let state = &mut self.inner.states[index * self.state_len..][..self.state_len];
        self.id.task.reset(state, rng);
        self.inner.steps[index] = 0;
        self.inner.is_absorbed[index] = false;
    }

    /// Writes what is observed of copy `index`.
    pub fn observe(&self, index: usize, observation: &mut [f32]) {
        self.id.task.observe(self.state(index), observation);
    }

    /// Does `action` in copy `index`.
    ///
    /// # Panics
    /// If the action is of another kind than the task's.
    pub fn step(&mut self, index: usize, action: Action<'_>) -> Step {
        self.inner.steps[index] += 1;
        let is_last = self.id.task.horizon() <= self.inner.steps[index];
        let cut = if is_last { StepEnd::Truncated } else { StepEnd::Running };
        if self.inner.is_absorbed[index] {
            return Step { reward: 0.0, end: cut };
        }
        let state = &mut self.inner.states[index * self.state_len..][..self.state_len];
        let transition = self.id.task.step(state, action);
        let end = match (transition.terminated, self.id.has_fixed_horizon) {
            (true, false) => StepEnd::Terminated,
            (true, true) => {
                self.inner.is_absorbed[index] = true;
                cut
            }
            (false, _) => cut,
        };
        Step { reward: transition.reward, end }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn episode(name: &str, action: usize) -> (u32, f64, StepEnd) {
        let mut environments = Environments::new(name.parse().unwrap(), 1);
        environments.reset(0, &mut ChaCha8Rng::seed_from_u64(3));
        let mut total = 0.0;
        for steps in 1.. {
            let step = environments.step(0, Action::Discrete(action));
            total += step.reward;
            if step.end != StepEnd::Running {
                return (steps, total, step.end);
            }
        }
        unreachable!("every episode has an end")
    }

    #[test]
    fn a_pole_that_falls_ends_an_episode_unless_its_horizon_is_fixed() {
        let (steps, total, end) = episode("CartPole-v1", 0);
        assert_eq!(end, StepEnd::Terminated);
        assert!(steps < 15 && total == f64::from(steps));
        let (fixed_steps, fixed_total, end) = episode("fixed/CartPole-v1", 0);
        assert_eq!((fixed_steps, end), (500, StepEnd::Truncated));
        assert_eq!(fixed_total, total, "nothing is to be had behind the end");
    }

    #[test]
    fn a_time_limit_is_no_end_of_the_task() {
        assert_eq!(episode("MountainCar-v0", 1), (200, -200.0, StepEnd::Truncated));
    }

    #[test]
    fn a_copy_goes_on_from_its_snapshot() {
        let id: EnvironmentId = "Acrobot-v1".parse().unwrap();
        let mut one = Environments::new(id, 2);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (0..2).for_each(|index| one.reset(index, &mut rng));
        one.step(1, Action::Discrete(2));
        let mut other = Environments::restore(id, 2, one.snapshot().clone()).unwrap();
        assert_eq!(one.step(1, Action::Discrete(0)), other.step(1, Action::Discrete(0)));
        assert_eq!(one.snapshot(), other.snapshot());
        assert!(Environments::restore(id, 3, one.snapshot().clone()).is_none());
    }

    #[test]
    fn names_are_read_as_they_are_written_and_near_ones_are_proposed() {
        for task in Task::ALL {
            for has_fixed_horizon in [false, true] {
                let id = EnvironmentId { task, has_fixed_horizon };
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
        let error = "Cartpole-v1".parse::<EnvironmentId>().unwrap_err().to_string();
        assert!(error.contains("did you mean CartPole-v1?"), "{error}");
    }
}
