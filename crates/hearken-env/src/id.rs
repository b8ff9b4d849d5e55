//! Names of environments.

use std::fmt;
use std::str::FromStr;

use crate::task::ControlTask;

/// Which environment: one of this program's, or one that another process serves. Written and read as a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EnvironmentId {
    /// A task, and whether its episodes have a fixed length.
    ///
    /// `CartPole-v1` ends where the pole falls. `fixed/CartPole-v1` never ends before its horizon: from the step on
    /// which the task terminates the state stays as it is and the reward is 0, so that the length of an episode says
    /// nothing about how good it was.
    Native {
        /// The task.
        task: ControlTask,
        /// Whether every episode lasts to the horizon.
        has_fixed_horizon: bool,
    },
    /// An environment of a process: `gymnasium:NAME` of Python's Gymnasium, `served:NAME` of any program.
    Served {
        /// Who serves it.
        by: ServedBy,
        /// What the server calls it.
        name: String,
    },
}

/// Who serves an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServedBy {
    /// Python, with the program that is part of this one.
    Gymnasium,
    /// A program that speaks the protocol.
    Program,
}

const FIXED: &str = "fixed/";
const GYMNASIUM: &str = "gymnasium:";
const SERVED: &str = "served:";

impl EnvironmentId {
    /// The task, where it is one of this program's.
    pub fn task(&self) -> Option<ControlTask> {
        match self {
            Self::Native { task, .. } => Some(*task),
            Self::Served { .. } => None,
        }
    }

    /// Whether two environments are one task, however their episodes end.
    pub fn is_same_task(&self, other: &Self) -> bool {
        self == other || (self.task().is_some() && self.task() == other.task())
    }

    /// The name without how episodes end.
    pub fn task_name(&self) -> String {
        self.task().map_or_else(|| self.to_string(), |task| task.id().to_owned())
    }
}

impl From<ControlTask> for EnvironmentId {
    fn from(task: ControlTask) -> Self {
        Self::Native { task, has_fixed_horizon: false }
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native { task, has_fixed_horizon } => {
                f.write_str(if *has_fixed_horizon { FIXED } else { "" })?;
                f.write_str(task.id())
            }
            Self::Served { by: ServedBy::Gymnasium, name } => write!(f, "{GYMNASIUM}{name}"),
            Self::Served { by: ServedBy::Program, name } => write!(f, "{SERVED}{name}"),
        }
    }
}

/// A name that no environment has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found no environment {found:?}{}, expected {}", hint(found), expected_names())]
pub struct UnknownEnvironment {
    /// The name.
    pub found: String,
}

/// The names that there are, for an error.
pub fn expected_names() -> String {
    let names = ControlTask::ALL.map(ControlTask::id).join(", ");
    format!("one of {names}, one of them behind fixed/, gymnasium:NAME or served:NAME")
}

/// The name that is meant, where one is near.
fn hint(found: &str) -> String {
    let found = found.strip_prefix(FIXED).unwrap_or(found).to_lowercase();
    let distance = |task: &ControlTask| strsim::levenshtein(&found, &task.id().to_lowercase());
    let nearest =
        ControlTask::ALL.into_iter().min_by_key(distance).filter(|task| distance(task) <= 4);
    nearest.map(|task| format!(" (did you mean {}?)", task.id())).unwrap_or_default()
}

impl FromStr for EnvironmentId {
    type Err = UnknownEnvironment;

    fn from_str(text: &str) -> Result<Self, UnknownEnvironment> {
        for (prefix, by) in [(GYMNASIUM, ServedBy::Gymnasium), (SERVED, ServedBy::Program)] {
            if let Some(name) = text.strip_prefix(prefix).filter(|name| !name.is_empty()) {
                return Ok(Self::Served { by, name: name.to_owned() });
            }
        }
        let (has_fixed_horizon, id) =
            text.strip_prefix(FIXED).map_or((false, text), |id| (true, id));
        let task = ControlTask::ALL.into_iter().find(|task| task.id() == id);
        let task = task.ok_or_else(|| UnknownEnvironment { found: text.to_owned() })?;
        Ok(Self::Native { task, has_fixed_horizon })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_near_ones_are_proposed() {
        for task in ControlTask::ALL {
            for has_fixed_horizon in [false, true] {
                let id = EnvironmentId::Native { task, has_fixed_horizon };
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
        for name in ["gymnasium:ALE/Pong-v5", "served:my world"] {
            assert_eq!(name.parse::<EnvironmentId>().unwrap().to_string(), name);
        }
        let error = "Cartpole-v1".parse::<EnvironmentId>().unwrap_err().to_string();
        assert!(error.contains("did you mean CartPole-v1?"), "{error}");
        assert!("gymnasium:".parse::<EnvironmentId>().is_err());
    }

    #[test]
    fn a_fixed_horizon_makes_no_other_task() {
        let id = |name: &str| name.parse::<EnvironmentId>().unwrap();
        assert!(id("fixed/CartPole-v1").is_same_task(&id("CartPole-v1")));
        assert!(!id("gymnasium:CartPole-v1").is_same_task(&id("CartPole-v1")));
        assert!(!id("gymnasium:CartPole-v1").is_same_task(&id("gymnasium:Acrobot-v1")));
    }
}
