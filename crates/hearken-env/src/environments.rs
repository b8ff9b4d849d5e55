//! Copies of one environment, side by side.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::drawing::draw;
use crate::id::EnvironmentId;
use crate::served::{Course, ServedEnvironment, ServerError, ServerOptions};
use crate::spaces::Spaces;
use crate::step::{EnvironmentStep, Frame, StepEnd};
use crate::task::ControlTask;

/// Which environment, and how it is started where another process serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentSetup {
    /// The environment.
    pub id: EnvironmentId,
    /// Its server; environments of this program have none.
    pub server: ServerOptions,
}

impl EnvironmentSetup {
    /// `copies` of it; each waits for its first reset.
    ///
    /// # Errors
    /// If another process serves it, and cannot be started or does not answer as it should.
    pub fn open(&self, copies: usize) -> Result<Environments, ServerError> {
        self.start(copies, false)
    }

    /// One copy that can be drawn.
    ///
    /// # Errors
    /// As [`EnvironmentSetup::open`].
    pub fn open_to_draw(&self) -> Result<Environments, ServerError> {
        self.start(1, true)
    }

    fn start(&self, copies: usize, draws: bool) -> Result<Environments, ServerError> {
        let inner = match self.id {
            EnvironmentId::Native { task, has_fixed_horizon } => {
                Inner::Native(Native::new(task, has_fixed_horizon, copies))
            }
            EnvironmentId::Served { .. } => {
                Inner::Served(ServedEnvironment::start(&self.id, &self.server, copies, draws)?)
            }
        };
        Ok(Environments { setup: self.clone(), inner })
    }
}

impl From<EnvironmentId> for EnvironmentSetup {
    fn from(id: EnvironmentId) -> Self {
        Self { id, server: ServerOptions::default() }
    }
}

impl From<ControlTask> for EnvironmentSetup {
    fn from(task: ControlTask) -> Self {
        EnvironmentId::from(task).into()
    }
}

/// Copies of an environment. An episode that is over waits for [`Environments::reset`], so that its last state can
/// be observed.
#[derive(Debug)]
pub struct Environments {
    setup: EnvironmentSetup,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Native(Native),
    Served(ServedEnvironment),
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
    /// Of copies in another process: how each came to where it is.
    #[serde(default)]
    pub courses: Vec<Course>,
}

/// What came of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The copies are where they were.
    AsTheyWere,
    /// They cannot be brought there, and wait for a reset.
    Anew,
}

/// Why copies cannot be brought to where a snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is of others.
    #[error("expected the states of {copies} copies of {id}")]
    Other {
        /// How many copies there are.
        copies: usize,
        /// Of what.
        id: String,
    },
    /// The same seed and actions have led elsewhere.
    #[error(
        "{id}: the same seed and actions led copy {copy} elsewhere than before, so its episode cannot be gone on with; with \
         environment.server.deterministic = false, runs that go on begin new episodes"
    )]
    Elsewhere {
        /// The environment.
        id: String,
        /// The first copy that is elsewhere.
        copy: usize,
    },
    /// The process that serves them fails.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl Environments {
    /// As they were when `snapshot` was taken.
    ///
    /// # Errors
    /// If that is of another number of copies or another task, or they do not come to where they were.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<Restored, RestoreError> {
        let (copies, id) = (self.len(), self.setup.id.to_string());
        match &mut self.inner {
            Inner::Native(native) => {
                if !native.fits(&snapshot) {
                    return Err(RestoreError::Other { copies, id });
                }
                native.inner = snapshot;
                Ok(Restored::AsTheyWere)
            }
            Inner::Served(served) => {
                if snapshot.courses.len() != copies {
                    return Err(RestoreError::Other { copies, id });
                }
                if !self.setup.server.is_deterministic {
                    return Ok(Restored::Anew);
                }
                match served.follow(&snapshot.courses)? {
                    None => Ok(Restored::AsTheyWere),
                    Some(copy) => Err(RestoreError::Elsewhere { id, copy }),
                }
            }
        }
    }

    /// What a checkpoint keeps.
    pub fn snapshot(&self) -> Snapshot {
        match &self.inner {
            Inner::Native(native) => native.inner.clone(),
            Inner::Served(served) => {
                Snapshot { courses: served.courses().to_vec(), ..Snapshot::default() }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.inner {
            Inner::Native(native) => native.inner.steps.len(),
            Inner::Served(served) => served.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all of them are.
    pub fn id(&self) -> &EnvironmentId {
        &self.setup.id
    }

    /// What all of them are, and how they were started.
    pub fn setup(&self) -> &EnvironmentSetup {
        &self.setup
    }

    /// What is seen of them, and what may be done.
    pub fn spaces(&self) -> Spaces {
        match &self.inner {
            Inner::Native(native) => native.task.spaces(),
            Inner::Served(served) => served.spaces(),
        }
    }

    /// The state of copy `index`; nothing where another process has it.
    pub fn state(&self, index: usize) -> &[f64] {
        match &self.inner {
            Inner::Native(native) => native.state(index),
            Inner::Served(_) => &[],
        }
    }

    /// Begins an episode in copy `index`.
    ///
    /// # Errors
    /// If the process that serves it fails.
    pub fn reset(&mut self, index: usize, rng: &mut ChaCha8Rng) -> Result<(), ServerError> {
        match &mut self.inner {
            Inner::Native(native) => {
                native.reset(index, rng);
                Ok(())
            }
            // Seeds are what fits 31 bits, which every library takes.
            Inner::Served(served) => served.reset(&[index], &[rng.random::<u32>() >> 1]),
        }
    }

    /// Writes what is observed of copy `index`.
    pub fn observe(&self, index: usize, observation: &mut [f32]) {
        match &self.inner {
            Inner::Native(native) => native.task.observe(native.state(index), observation),
            Inner::Served(served) => served.observe(index, observation),
        }
    }

    /// Begins to do `action` in copy `index`, which [`Environments::finish`] ends: what is begun in several copies
    /// is one message to another process.
    ///
    /// # Panics
    /// If the action is of another kind than the task's.
    pub fn begin(&mut self, index: usize, action: Action<'_>) {
        match &mut self.inner {
            Inner::Native(native) => native.step(index, action),
            Inner::Served(served) => served.begin(index, action),
        }
    }

    /// Writes what each action that was begun came to, in their order.
    ///
    /// # Errors
    /// If the process that serves the environments fails.
    pub fn finish(&mut self, steps: &mut Vec<EnvironmentStep>) -> Result<(), ServerError> {
        steps.clear();
        match &mut self.inner {
            Inner::Native(native) => {
                steps.append(&mut native.done);
                Ok(())
            }
            Inner::Served(served) => served.finish(steps),
        }
    }

    /// A picture of copy `index`.
    ///
    /// # Errors
    /// If the process that serves it fails or draws nothing.
    pub fn draw(&mut self, index: usize) -> Result<Frame, ServerError> {
        match &mut self.inner {
            Inner::Native(native) => Ok(draw(native.task, native.state(index))),
            Inner::Served(served) => served.render(index),
        }
    }

    /// Puts copy 0 into a state of the server's environment.
    pub(crate) fn set_served_state(&mut self, state: &[f64]) -> Result<(), ServerError> {
        match &mut self.inner {
            Inner::Native(_) => unreachable!("single steps of tasks need no copies"),
            Inner::Served(served) => served.set_state(state),
        }
    }

    /// The state of copy 0 of the server's environment.
    pub(crate) fn served_state(&mut self) -> Result<Vec<f64>, ServerError> {
        match &mut self.inner {
            Inner::Native(_) => unreachable!("single steps of tasks need no copies"),
            Inner::Served(served) => served.state(),
        }
    }
}

/// Copies of a task.
#[derive(Debug)]
struct Native {
    task: ControlTask,
    has_fixed_horizon: bool,
    state_len: usize,
    inner: Snapshot,
    /// What was begun is done at once.
    done: Vec<EnvironmentStep>,
}

impl Native {
    fn new(task: ControlTask, has_fixed_horizon: bool, count: usize) -> Self {
        let state_len = task.state_names().len();
        let inner = Snapshot {
            states: vec![0.0; count * state_len],
            steps: vec![0; count],
            is_absorbed: vec![false; count],
            courses: Vec::new(),
        };
        Self { task, has_fixed_horizon, state_len, inner, done: Vec::new() }
    }

    fn fits(&self, snapshot: &Snapshot) -> bool {
        let count = self.inner.steps.len();
        snapshot.states.len() == count * self.state_len
            && [snapshot.steps.len(), snapshot.is_absorbed.len()] == [count; 2]
    }

    fn state(&self, index: usize) -> &[f64] {
        &self.inner.states[index * self.state_len..][..self.state_len]
    }

    fn reset(&mut self, index: usize, rng: &mut ChaCha8Rng) {
        let state = &mut self.inner.states[index * self.state_len..][..self.state_len];
        self.task.reset(state, rng);
        self.inner.steps[index] = 0;
        self.inner.is_absorbed[index] = false;
    }

    fn step(&mut self, index: usize, action: Action<'_>) {
        self.inner.steps[index] += 1;
        let is_last = self.task.horizon() <= self.inner.steps[index];
        let cut = if is_last { StepEnd::Truncated } else { StepEnd::Running };
        if self.inner.is_absorbed[index] {
            self.done.push(EnvironmentStep { reward: 0.0, end: cut });
            return;
        }
        let state = &mut self.inner.states[index * self.state_len..][..self.state_len];
        let transition = self.task.step(state, action);
        let end = match (transition.terminated, self.has_fixed_horizon) {
            (true, false) => StepEnd::Terminated,
            (true, true) => {
                self.inner.is_absorbed[index] = true;
                cut
            }
            (false, _) => cut,
        };
        self.done.push(EnvironmentStep { reward: transition.reward, end });
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn open(name: &str, copies: usize) -> Environments {
        EnvironmentSetup::from(name.parse::<EnvironmentId>().unwrap()).open(copies).unwrap()
    }

    fn step(environments: &mut Environments, index: usize, action: usize) -> EnvironmentStep {
        let mut steps = Vec::new();
        environments.begin(index, Action::Discrete(action));
        environments.finish(&mut steps).unwrap();
        steps[0]
    }

    fn episode(name: &str, action: usize) -> (u32, f64, StepEnd) {
        let mut environments = open(name, 1);
        environments.reset(0, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        let mut total = 0.0;
        for steps in 1.. {
            let step = step(&mut environments, 0, action);
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
        let mut one = open("Acrobot-v1", 2);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (0..2).for_each(|index| one.reset(index, &mut rng).unwrap());
        step(&mut one, 1, 2);
        let mut other = open("Acrobot-v1", 2);
        assert_eq!(other.restore(one.snapshot()).unwrap(), Restored::AsTheyWere);
        assert_eq!(step(&mut one, 1, 0), step(&mut other, 1, 0));
        assert_eq!(one.snapshot(), other.snapshot());
        assert!(open("Acrobot-v1", 3).restore(one.snapshot()).is_err());
    }
}
