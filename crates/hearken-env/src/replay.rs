//! One step from a given state, for comparison with other implementations.

use serde::Serialize;
use serde_json::Value;

use crate::action::{Action, ActionSpace};
use crate::environments::Environments;
use crate::served::ServerError;
use crate::step::StepEnd;
use crate::task::ControlTask;

/// What a step from a given state came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The state after the step.
    pub state: Vec<f64>,
    /// What is observed of it: numbers of `f32`.
    pub observation: Vec<f64>,
    /// The reward.
    pub reward: f64,
    /// Whether the task has ended; time limits play no part.
    pub terminated: bool,
}

/// A state or an action that is none of the task's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{column}`: found {found}, expected {expected}")]
pub struct Refused {
    /// `state` or `action`.
    pub column: &'static str,
    /// What was given.
    pub found: String,
    /// What the task has.
    pub expected: String,
}

/// Does `action` in `state`. Numbers are doubles, as `numpy.array(action)` has them.
///
/// # Errors
/// If one of them is none of the task's, or the step leads to numbers that are not finite.
pub fn replay(task: ControlTask, state: &Value, action: &Value) -> Result<Replayed, Refused> {
    let mut next = state_of(task, state)?;
    let continuous;
    let action = match task.actions() {
        ActionSpace::Discrete { count } => Action::Discrete(index_of(count, action)?),
        ActionSpace::Continuous { dimensions, .. } => {
            continuous = numbers_of(dimensions, action)?;
            Action::Continuous(&continuous)
        }
    };
    let transition = task.step(&mut next, action);
    let is_finite = next.iter().all(|value| value.is_finite()) && transition.reward.is_finite();
    if !is_finite {
        let expected = "a state and an action from which a step gives finite numbers".to_owned();
        return Err(Refused { column: "state", found: shown(state), expected });
    }
    let mut observation = vec![0.0; task.observation_len()];
    task.observe(&next, &mut observation);
    Ok(Replayed {
        state: next,
        observation: observation.into_iter().map(f64::from).collect(),
        reward: transition.reward,
        terminated: transition.terminated,
    })
}

/// Why a step of another process's environment cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The state or the action is none of the environment's.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The server fails, or cannot set states.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Does `action` in `state` of an environment that another process serves, in the first of `environments`.
///
/// # Errors
/// As [`replay`], and if the server fails or cannot set states.
///
/// # Panics
/// If no process serves it.
pub fn replay_served(
    environments: &mut Environments,
    state: &Value,
    action: &Value,
) -> Result<Replayed, ReplayError> {
    let len = state.as_array().map_or(0, Vec::len);
    let state = numbers(state, len).ok_or_else(|| Refused {
        column: "state",
        found: shown(state),
        expected: "a list of finite numbers".to_owned(),
    })?;
    let spaces = environments.spaces();
    environments.set_served_state(&state)?;
    let continuous;
    let action = match spaces.actions {
        ActionSpace::Discrete { count } => Action::Discrete(index_of(count, action)?),
        ActionSpace::Continuous { dimensions, .. } => {
            continuous = numbers_of(dimensions, action)?;
            Action::Continuous(&continuous)
        }
    };
    environments.begin(0, action);
    let mut steps = Vec::new();
    environments.finish(&mut steps)?;
    let mut observation = vec![0.0; spaces.observation.len()];
    environments.observe(0, &mut observation);
    Ok(Replayed {
        state: environments.served_state()?,
        observation: observation.into_iter().map(f64::from).collect(),
        reward: steps[0].reward,
        terminated: steps[0].end == StepEnd::Terminated,
    })
}

fn numbers_of(dimensions: usize, action: &Value) -> Result<Vec<f64>, Refused> {
    let expected = format!("a list of {}", counted(dimensions, "finite number"));
    numbers(action, dimensions).ok_or_else(|| Refused {
        column: "action",
        found: shown(action),
        expected,
    })
}

fn state_of(task: ControlTask, state: &Value) -> Result<Vec<f64>, Refused> {
    let names = task.state_names();
    let refused = |expected: String| Refused { column: "state", found: shown(state), expected };
    let values = numbers(state, names.len()).ok_or_else(|| {
        let many = counted(names.len(), "finite number");
        refused(format!("a list of {many}: {}", names.join(", ")))
    })?;
    match task.unfit_state(&values) {
        Some(expected) => Err(refused(expected.to_owned())),
        None => Ok(values),
    }
}

fn index_of(count: usize, action: &Value) -> Result<usize, Refused> {
    let index = action.as_u64().and_then(|index| usize::try_from(index).ok());
    index.filter(|&index| index < count).ok_or_else(|| Refused {
        column: "action",
        found: shown(action),
        expected: format!("an integer from 0 to {}", count - 1),
    })
}

/// The finite numbers of a list of this length.
fn numbers(value: &Value, len: usize) -> Option<Vec<f64>> {
    let values = value.as_array().filter(|values| values.len() == len)?;
    values.iter().map(|value| value.as_f64().filter(|number| number.is_finite())).collect()
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("one {what}") } else { format!("{count} {what}s") }
}

/// The beginning of a value.
fn shown(value: &Value) -> String {
    const SHOWN_CHARS: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS {
        return text;
    }
    text.chars().take(SHOWN_CHARS).chain(['…']).collect()
}
