//! Demonstrations: whole episodes of whoever knows how, in files and from policies.
//!
//! A file has one episode per line, with the columns of Minari's episodes:
//!
//! ```text
//! {"environment": "Pendulum-v1", "observations": [[…], … T+1 of them], "actions": [… T of them], "rewards": [… T of them],
//!  "terminated": false, "truncated": true}
//! ```
//!
//! `environment` and `rewards` need not be there. The columns of the `imitation` library's trajectories, `obs`, `acts`, `rews` and
//! `terminal`, are read as well; and so are NumPy's archives (`demonstrations/arrays.rs`).

mod arrays;

use std::path::{Path, PathBuf};

use hearken_data::{
    FieldError, Form, ReadError, ReadOptions, Record, Row, Source, WriteError, read, write_jsonl,
};
use hearken_env::{ActionSpace, EnvironmentId, EnvironmentSetup, EnvironmentStep, Spaces, StepEnd};
use hearken_run::seeds::Seeds;
use serde::Serialize;
use serde_json::{Value, json};

use crate::actions::Actions;
use crate::network::Pass;
use crate::npz::NpzError;
use crate::rollout::Stage;
use crate::saved::{Acting, EnterError};

/// Why demonstrations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DemonstrationError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The archive cannot be read.
    #[error(transparent)]
    Arrays(#[from] NpzError),
    /// An episode is none of the environment's.
    #[error("{place}: `{column}`: found {found}, expected {expected}")]
    Episode {
        /// File and line; of an archive the number of the episode.
        place: Source,
        /// The column, with the index inside it.
        column: String,
        /// What is there.
        found: String,
        /// What belongs there.
        expected: String,
    },
    /// There are fewer episodes than are needed.
    #[error("{}: found {found}, expected {expected}", path.display())]
    TooFew {
        /// The file.
        path: PathBuf,
        /// How many there are.
        found: String,
        /// How many are needed.
        expected: String,
    },
}

/// An episode of somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct DemonstratedEpisode {
    /// What was seen, `[steps + 1, observation]`: before each action, and behind the last one.
    pub observations: Vec<f32>,
    /// What was done.
    pub actions: Actions,
    /// The environment's rewards; none where a file has none.
    pub rewards: Vec<f64>,
    /// How it ended; an episode that a file leaves open counts as cut off.
    pub end: StepEnd,
}

/// A line of a file as it stands.
struct DemonstrationLine {
    environment: Option<Value>,
    observations: Value,
    actions: Value,
    rewards: Option<Value>,
    terminated: Value,
    truncated: Option<Value>,
    /// The names of observations, actions, rewards and terminated.
    names: [&'static str; 4],
    source: Source,
}

const OWN_NAMES: [&str; 4] = ["observations", "actions", "rewards", "terminated"];
const IMITATION_NAMES: [&str; 4] = ["obs", "acts", "rews", "terminal"];

fn line(row: &Row<'_>, names: [&'static str; 4]) -> Result<DemonstrationLine, FieldError> {
    let optional = |field: &str| row.value(field).ok().cloned();
    Ok(DemonstrationLine {
        environment: optional("environment"),
        observations: row.value(names[0])?.clone(),
        actions: row.value(names[1])?.clone(),
        rewards: optional(names[2]),
        terminated: row.value(names[3])?.clone(),
        truncated: optional("truncated"),
        names,
        source: row.source(),
    })
}

impl Record for DemonstrationLine {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["observations", "actions", "terminated"],
            optional: &["environment", "rewards", "truncated"],
            parse: |row| line(row, OWN_NAMES),
        },
        Form {
            required: &["obs", "acts", "terminal"],
            optional: &["environment", "rews", "truncated"],
            parse: |row| line(row, IMITATION_NAMES),
        },
    ];
}

impl DemonstrationLine {
    fn wrong(
        &self,
        column: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> DemonstrationError {
        let (column, found, expected) = (column.into(), found.into(), expected.into());
        DemonstrationError::Episode { place: self.source.clone(), column, found, expected }
    }

    fn list<'v>(&self, column: &str, value: &'v Value) -> Result<&'v [Value], DemonstrationError> {
        value
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| self.wrong(column, shown(value), "a list"))
    }

    /// The numbers of a list of this length.
    fn numbers(
        &self,
        column: &str,
        value: &Value,
        len: usize,
        of: &str,
    ) -> Result<Vec<f64>, DemonstrationError> {
        let list = self.list(column, value)?;
        if list.len() != len {
            return Err(self.wrong(column, counted(list.len(), "number"), format!("{len}, {of}")));
        }
        let numbers = list.iter().enumerate().map(|(index, value)| {
            let number = value.as_f64().filter(|number| (*number as f32).is_finite());
            number.ok_or_else(|| {
                self.wrong(format!("{column}[{index}]"), shown(value), "a finite number")
            })
        });
        numbers.collect()
    }

    fn flag(&self, column: &str, value: &Value) -> Result<bool, DemonstrationError> {
        value.as_bool().ok_or_else(|| self.wrong(column, shown(value), "true or false"))
    }

    fn into_episode(
        self,
        id: &EnvironmentId,
        spaces: Spaces,
    ) -> Result<DemonstratedEpisode, DemonstrationError> {
        self.check_environment(id)?;
        let [seen, done, earned, ended] = self.names;
        let actions = self.list(done, &self.actions)?;
        let steps = actions.len();
        if steps == 0 {
            return Err(self.wrong(done, "no action", "an episode of at least one step"));
        }
        let rows = self.list(seen, &self.observations)?;
        if rows.len() != steps + 1 {
            return Err(self.wrong(
                seen,
                counted(rows.len(), "observation"),
                format!(
                    "{}: one before each of {steps} actions, and one behind the last",
                    steps + 1
                ),
            ));
        }
        let of = format!("the observation of {}", id.task_name());
        let mut observations = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let column = format!("{seen}[{index}]");
            let numbers = self.numbers(&column, row, spaces.observation.len(), &of)?;
            observations.extend(numbers.into_iter().map(|number| number as f32));
        }
        let rewards = match &self.rewards {
            None => Vec::new(),
            Some(value) => self.numbers(earned, value, steps, "one for each action")?,
        };
        let terminated = self.flag(ended, &self.terminated)?;
        if let Some(value) = &self.truncated {
            self.flag("truncated", value)?;
        }
        let end = if terminated { StepEnd::Terminated } else { StepEnd::Truncated };
        let actions = self.actions_of(spaces.actions, actions)?;
        Ok(DemonstratedEpisode { observations, actions, rewards, end })
    }

    /// Whether the file names an environment with the same dynamics.
    fn check_environment(&self, id: &EnvironmentId) -> Result<(), DemonstrationError> {
        let Some(value) = &self.environment else { return Ok(()) };
        let name = value.as_str().unwrap_or_default();
        let is_same = name.parse::<EnvironmentId>().is_ok_and(|found| found.is_same_task(id));
        if is_same {
            return Ok(());
        }
        Err(self.wrong(
            "environment",
            shown(value),
            format!("{:?}, which the run is in", id.task_name()),
        ))
    }

    fn actions_of(
        &self,
        space: ActionSpace,
        given: &[Value],
    ) -> Result<Actions, DemonstrationError> {
        let mut actions = Actions::new(space);
        for (index, value) in given.iter().enumerate() {
            let column = format!("{}[{index}]", self.names[1]);
            match (&mut actions, space) {
                (Actions::Discrete(indices), ActionSpace::Discrete { count }) => {
                    let found = value.as_u64().and_then(|found| usize::try_from(found).ok());
                    let found = found.filter(|&found| found < count);
                    indices.push(found.ok_or_else(|| {
                        let expected = format!("an integer from 0 to {}", count - 1);
                        self.wrong(column, shown(value), expected)
                    })?);
                }
                (
                    Actions::Continuous { values, .. },
                    ActionSpace::Continuous { dimensions, bound },
                ) => {
                    let of = "one for each dimension of an action";
                    let numbers = self.numbers(&column, value, dimensions, of)?;
                    if let Some(beyond) = numbers.iter().find(|number| bound < number.abs()) {
                        let expected = format!("numbers from {} to {bound}", -bound);
                        return Err(self.wrong(column, beyond.to_string(), expected));
                    }
                    values.extend(numbers.iter().map(|number| number / bound));
                }
                _ => unreachable!("actions are made for their space"),
            }
        }
        Ok(actions)
    }
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

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Reads episodes of an environment, or of its twin with another horizon; `limit` takes the first ones only.
///
/// # Errors
/// Names file and line of what is no episode of the environment, or the file that has too few of them.
pub fn read_demonstrations(
    path: &Path,
    id: &EnvironmentId,
    spaces: Spaces,
    limit: Option<u64>,
) -> Result<Vec<DemonstratedEpisode>, DemonstrationError> {
    let lines = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz")) {
        arrays::episodes(path)?
    } else {
        read::<DemonstrationLine>(path, &ReadOptions::default())?.0
    };
    let episodes: Result<Vec<DemonstratedEpisode>, _> =
        lines.into_iter().map(|line| line.into_episode(id, spaces)).collect();
    let mut episodes = episodes?;
    let found = counted(episodes.len(), "episode");
    let needed = limit.unwrap_or(1);
    if (episodes.len() as u64) < needed {
        let expected = match limit {
            None => "at least one".to_owned(),
            Some(limit) => format!("at least the {limit} of `imitation.episodes`"),
        };
        return Err(DemonstrationError::TooFew { path: path.to_owned(), found, expected });
    }
    if let Some(limit) = limit {
        episodes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(episodes)
}

/// A line of a file as it is written.
#[derive(Serialize)]
struct WrittenLine<'a> {
    environment: String,
    observations: Vec<&'a [f32]>,
    actions: Vec<Value>,
    rewards: &'a [f64],
    terminated: bool,
    truncated: bool,
}

/// Writes episodes of an environment, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write_demonstrations(
    path: &Path,
    id: &EnvironmentId,
    episodes: &[DemonstratedEpisode],
) -> Result<(), WriteError> {
    let line = |episode: &DemonstratedEpisode| {
        let action = |index: usize| match &episode.actions {
            Actions::Discrete(indices) => json!(indices[index]),
            Actions::Continuous { dimensions, bound, values } => {
                let values = &values[index * dimensions..][..*dimensions];
                json!(values.iter().map(|x| x.clamp(-1.0, 1.0) * bound).collect::<Vec<f64>>())
            }
        };
        let steps = episode.actions.len();
        let len = episode.observations.len() / (steps + 1);
        serde_json::to_value(WrittenLine {
            environment: id.to_string(),
            observations: episode.observations.chunks(len).collect(),
            actions: (0..steps).map(action).collect(),
            rewards: &episode.rewards,
            terminated: episode.end == StepEnd::Terminated,
            truncated: episode.end == StepEnd::Truncated,
        })
        .expect("an episode is plain")
    };
    write_jsonl(path, episodes.iter().map(line)).map(|_| ())
}

/// How somebody who demonstrates chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The likeliest action.
    Likeliest,
    /// An action from the policy's distribution.
    Sampled,
}

/// Episodes of a policy.
///
/// # Errors
/// If the environment is none that the policy fits, or a process serves it, and fails.
pub fn demonstrate(
    acting: &Acting,
    environment: &EnvironmentSetup,
    episodes: usize,
    manner: Manner,
    seeds: Seeds,
) -> Result<Vec<DemonstratedEpisode>, EnterError> {
    let mut stage = Stage::new(acting.enter(environment)?, seeds)?;
    let mut rng = seeds.stream("demonstrated actions", 0);
    let (mut seen, mut row, mut pass) =
        (vec![0.0; stage.spaces().observation.len()], Vec::new(), Pass::default());
    let space = stage.spaces().actions;
    let begun = || DemonstratedEpisode {
        observations: Vec::new(),
        actions: Actions::new(space),
        rewards: Vec::new(),
        end: StepEnd::Running,
    };
    let mut all = Vec::new();
    let mut episode = begun();
    while all.len() < episodes {
        stage.environments.observe(0, &mut seen);
        episode.observations.extend_from_slice(&seen);
        let actions = &mut episode.actions;
        match manner {
            Manner::Likeliest => acting.choose(&seen, actions, &mut row, &mut pass),
            Manner::Sampled => acting.sample(&seen, actions, &mut row, &mut pass, &mut rng),
        }
        let last = episode.actions.len() - 1;
        let EnvironmentStep { reward, end } = stage.step(0, &episode.actions, last)?;
        episode.rewards.push(reward);
        if end == StepEnd::Running {
            continue;
        }
        stage.environments.observe(0, &mut seen);
        episode.observations.extend_from_slice(&seen);
        episode.end = end;
        all.push(std::mem::replace(&mut episode, begun()));
        stage.reset(0)?;
    }
    Ok(all)
}

/// Steps of several episodes, one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Transitions {
    /// What was seen before each action.
    pub seen: Vec<f32>,
    /// What was done.
    pub actions: Actions,
    /// What was seen behind each action.
    pub following: Vec<f32>,
    /// Whether the task goes on.
    pub goes_on: Vec<bool>,
}

impl Transitions {
    /// None.
    pub fn new(space: ActionSpace) -> Self {
        let actions = Actions::new(space);
        Self { seen: Vec::new(), actions, following: Vec::new(), goes_on: Vec::new() }
    }

    /// Those of episodes with observations of this length.
    pub fn of(episodes: &[DemonstratedEpisode], space: ActionSpace, len: usize) -> Self {
        let mut all = Self::new(space);
        for episode in episodes {
            let steps = episode.actions.len();
            all.seen.extend_from_slice(&episode.observations[..steps * len]);
            all.following.extend_from_slice(&episode.observations[len..]);
            all.actions.extend(&episode.actions);
            let ends = |step: usize| step + 1 == steps && episode.end == StepEnd::Terminated;
            all.goes_on.extend((0..steps).map(|step| !ends(step)));
        }
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use hearken_env::ControlTask;

    use super::*;

    fn policy(name: &str) -> Acting {
        let environment = EnvironmentSetup::from(name.parse::<EnvironmentId>().unwrap());
        let spaces = environment.open(1).unwrap().spaces();
        let mut rng = Seeds::new(1).stream("weights", 0);
        let trunk = crate::network::Trunk {
            convolutions: &[],
            hidden: &[8],
            nonlinearity: hearken_tensor::dense::Nonlinearity::Tanh,
        };
        let policy = crate::policy::Policy::new(spaces, trunk, &mut rng);
        Acting { environment, policy, moments: None }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.jsonl");
        for name in ["CartPole-v1", "Pendulum-v1", "fixed/CartPole-v1", "Gridworld-v0"] {
            let acting = policy(name);
            for manner in [Manner::Likeliest, Manner::Sampled] {
                let (id, spaces) = (&acting.environment.id, acting.policy.spaces());
                let shown = demonstrate(&acting, &acting.environment, 3, manner, Seeds::new(2));
                let mut episodes = shown.unwrap();
                write_demonstrations(&path, id, &episodes).unwrap();
                for episode in &mut episodes {
                    if let Actions::Continuous { values, .. } = &mut episode.actions {
                        for value in values {
                            *value = value.clamp(-1.0, 1.0);
                        }
                    }
                }
                assert_eq!(
                    read_demonstrations(&path, id, spaces, None).unwrap(),
                    episodes,
                    "{name}"
                );
                let two = read_demonstrations(&path, id, spaces, Some(2)).unwrap();
                assert_eq!(two, episodes[..2]);
            }
        }
        let id = ControlTask::CartPole.into();
        let of = (&id, ControlTask::CartPole.spaces());
        let error = read_demonstrations(&path, of.0, of.1, None).unwrap_err().to_string();
        assert!(error.contains("demos.jsonl:1: `environment`: found \"Gridworld-v0\""), "{error}");
    }

    #[test]
    fn an_episode_that_is_none_is_named_by_file_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.jsonl");
        let good = r#"{"obs": [[0,0,1],[0,0,1]], "acts": [[1.5]], "terminal": false}"#;
        let cases = [
            (
                r#""observations": [[0,0,1],[0,0]], "actions": [[0]], "terminated": false"#,
                "`observations[1]`: found 2 numbers, expected 3, the observation of Pendulum-v1",
            ),
            (
                r#""observations": [[0,0,1],[0,0,1]], "actions": [[2.5]], "terminated": false"#,
                "`actions[0]`: found 2.5, expected numbers from -2 to 2",
            ),
            (
                r#""observations": [[0,0,1],[0,0,1]], "actions": [1], "terminated": false"#,
                "`actions[0]`: found 1, expected a list",
            ),
            (
                r#""observations": [[0,0,1]], "actions": [], "terminated": false"#,
                "`actions`: found no action, expected an episode of at least one step",
            ),
            (
                r#""observations": [[0,0,1]], "actions": [[0]], "terminated": false"#,
                "`observations`: found 1 observation, expected 2: one before each of 1 actions",
            ),
            (
                r#""observations": [[0,0,1e39],[0,0,1]], "actions": [[0]], "terminated": false"#,
                "`observations[0][2]`: found 1e+39, expected a finite number",
            ),
            (
                r#""observations": [[0,0,1],[0,0,null]], "actions": [[0]], "terminated": false"#,
                "`observations[1][2]`: found null, expected a finite number",
            ),
            (
                r#""observations": [[0,0,1],[0,0,1]], "actions": [[0]], "terminated": 3"#,
                "`terminated`: found 3, expected true or false",
            ),
            (
                r#""observations": [[0,0,1],[0,0,1]], "actions": [[0]], "rewards": [1,2], "terminated": true"#,
                "`rewards`: found 2 numbers, expected 1, one for each action",
            ),
            (
                r#""observations": [[0,0,NaN],[0,0,1]], "actions": [[0]], "terminated": true"#,
                "found NaN",
            ),
            (
                r#""observations": [[0,0,1]], "terminated": true"#,
                "expected `observations` + `actions`",
            ),
        ];
        let id = ControlTask::Pendulum.into();
        let of = (&id, ControlTask::Pendulum.spaces());
        for (bad, expected) in cases {
            std::fs::write(&path, format!("{good}\n{{{bad}}}\n")).unwrap();
            let error = read_demonstrations(&path, of.0, of.1, None).unwrap_err().to_string();
            assert!(error.contains("demos.jsonl:2") && error.contains(expected), "{bad}: {error}");
        }
        std::fs::write(&path, format!("{good}\n")).unwrap();
        let error = read_demonstrations(&path, of.0, of.1, Some(2)).unwrap_err().to_string();
        assert!(error.contains("found 1 episode, expected at least the 2 of"), "{error}");
        let episode = &read_demonstrations(&path, of.0, of.1, None).unwrap()[0];
        assert_eq!(episode.actions.len(), 1);
        let transitions =
            Transitions::of(std::slice::from_ref(episode), ControlTask::Pendulum.actions(), 3);
        assert_eq!((transitions.len(), transitions.goes_on[0]), (1, true));
    }
}
