//! Episodes in NumPy's archives, as `numpy.savez` writes them: Minari's arrays, those of several episodes joined.
//!
//! ```text
//! actions [N, …], terminations [N], truncations [N], rewards [N]
//! observations [N + episodes, …]                       each episode's with the one behind its last action
//! or observations [N, …] and next_observations [N, …]
//! ```
//!
//! An episode ends where it terminated or was truncated; the last one may be left open. `truncations` and `rewards` need not be there.

use std::path::Path;
use std::sync::Arc;

use hearken_data::Source;
use serde_json::Value;

use super::{DemonstrationError, DemonstrationLine, counted};
use crate::npz::{NpyArray, NpyNumbers, Npz};

/// The names of what an episode is made of.
const NAMES: [&str; 4] = ["observations", "actions", "rewards", "terminations"];

/// The arrays of a file.
struct EpisodeArrays {
    path: Arc<Path>,
    observations: NpyArray,
    next_observations: Option<NpyArray>,
    actions: NpyArray,
    rewards: Option<NpyArray>,
    terminations: NpyArray,
    truncations: Option<NpyArray>,
}

/// The episodes of an archive, in its order.
pub(super) fn episodes(path: &Path) -> Result<Vec<DemonstrationLine>, DemonstrationError> {
    let file = Npz::open(path)?;
    let place = Source { path: Arc::from(path), line: 0 };
    let needed = |name: &str| -> Result<NpyArray, DemonstrationError> {
        file.array(name)?.ok_or_else(|| DemonstrationError::Episode {
            place: place.clone(),
            column: name.to_owned(),
            found: match file.names().collect::<Vec<_>>().join("`, `") {
                names if names.is_empty() => "no arrays".to_owned(),
                names => format!("the arrays `{names}`"),
            },
            expected: "`observations`, `actions` and `terminations`, and if wanted `truncations`, `rewards` and `next_observations`"
                .to_owned(),
        })
    };
    let arrays = EpisodeArrays {
        path: Arc::from(path),
        observations: needed("observations")?,
        actions: needed("actions")?,
        terminations: needed("terminations")?,
        truncations: file.array("truncations")?,
        rewards: file.array("rewards")?,
        next_observations: file.array("next_observations")?,
    };
    arrays.lines()
}

impl EpisodeArrays {
    fn wrong(&self, column: &str, found: String, expected: String) -> DemonstrationError {
        let place = Source { path: Arc::clone(&self.path), line: 0 };
        DemonstrationError::Episode { place, column: column.to_owned(), found, expected }
    }

    /// One line for each episode.
    fn lines(&self) -> Result<Vec<DemonstrationLine>, DemonstrationError> {
        let steps = rows(&self.actions);
        let terminated = self.flags("terminations", &self.terminations, steps)?;
        let truncated = match &self.truncations {
            Some(array) => self.flags("truncations", array, steps)?,
            None => vec![false; steps],
        };
        if let Some(rewards) = &self.rewards {
            self.expect_rows("rewards", rewards, steps, "one for each action")?;
        }
        let is_end = |step: &usize| terminated[*step] || truncated[*step] || step + 1 == steps;
        let ends: Vec<usize> = (0..steps).filter(is_end).collect();
        if let Some(next) = &self.next_observations {
            let of = "one for each action, as there are `next_observations`";
            self.expect_rows("observations", &self.observations, steps, of)?;
            self.expect_rows("next_observations", next, steps, "one for each action")?;
        } else {
            let of = format!(
                "one before each of {} and one behind each of {}, or `next_observations`",
                counted(steps, "action"),
                counted(ends.len(), "episode")
            );
            self.expect_rows("observations", &self.observations, steps + ends.len(), &of)?;
        }
        let mut first = 0;
        let line = |(episode, &last): (usize, &usize)| {
            let begin = std::mem::replace(&mut first, last + 1);
            let taken = begin..last + 1;
            let mut observations: Vec<Value> = match self.next_observations {
                // Each episode before it has one more.
                None => taken.clone().map(|step| row(&self.observations, step + episode)).collect(),
                Some(_) => taken.clone().map(|step| row(&self.observations, step)).collect(),
            };
            observations.push(match &self.next_observations {
                None => row(&self.observations, last + 1 + episode),
                Some(next) => row(next, last),
            });
            DemonstrationLine {
                environment: None,
                observations: Value::Array(observations),
                actions: taken.clone().map(|step| row(&self.actions, step)).collect(),
                rewards: self
                    .rewards
                    .as_ref()
                    .map(|rewards| taken.map(|step| row(rewards, step)).collect()),
                terminated: Value::Bool(terminated[last]),
                truncated: Some(Value::Bool(truncated[last])),
                names: NAMES,
                source: Source { path: Arc::clone(&self.path), line: episode + 1 },
            }
        };
        Ok(ends.iter().enumerate().map(line).collect())
    }

    fn expect_rows(
        &self,
        name: &str,
        array: &NpyArray,
        count: usize,
        of: &str,
    ) -> Result<(), DemonstrationError> {
        if rows(array) == count && !array.shape.is_empty() {
            return Ok(());
        }
        Err(self.wrong(name, format!("the shape {:?}", array.shape), format!("{count} rows: {of}")))
    }

    /// Truth values, one for each step.
    fn flags(
        &self,
        name: &str,
        array: &NpyArray,
        steps: usize,
    ) -> Result<Vec<bool>, DemonstrationError> {
        self.expect_rows(name, array, steps, "one for each action")?;
        let flags: Option<Vec<bool>> = match &array.numbers {
            NpyNumbers::Booleans(flags) => Some(flags.clone()),
            NpyNumbers::Integers(numbers) => {
                let is_flag = numbers.iter().all(|number| (0..=1).contains(number));
                is_flag.then(|| numbers.iter().map(|number| *number == 1).collect())
            }
            NpyNumbers::Floats(_) => None,
        };
        let flags = flags.filter(|flags| flags.len() == steps);
        flags.ok_or_else(|| {
            let found = format!("another array of the shape {:?}", array.shape);
            self.wrong(name, found, format!("{steps} truth values"))
        })
    }
}

/// How many rows an array has.
fn rows(array: &NpyArray) -> usize {
    array.shape.first().copied().unwrap_or(0)
}

/// A row of an array as a line of JSON has it: a number, or a list of all numbers of it.
fn row(array: &NpyArray, index: usize) -> Value {
    let width: usize = array.shape[1..].iter().product();
    let number = |at: usize| match &array.numbers {
        NpyNumbers::Booleans(flags) => Value::from(u8::from(flags[at])),
        NpyNumbers::Integers(numbers) => Value::from(numbers[at]),
        // JSON has no NaN, which an error should name.
        NpyNumbers::Floats(numbers) if !numbers[at].is_finite() => {
            Value::from(numbers[at].to_string())
        }
        NpyNumbers::Floats(numbers) => Value::from(numbers[at]),
    };
    if array.shape.len() == 1 {
        return number(index);
    }
    (index * width..(index + 1) * width).map(number).collect()
}
