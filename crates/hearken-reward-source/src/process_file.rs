//! How a process reward model reads steps, as it is stored beside it.

use std::path::Path;

use hearken_model::steps::STEP_SEPARATOR;
use serde::{Deserialize, Serialize};

use crate::score_normalization::StoredError;

/// The file beside a process reward model.
pub const PROCESS_FILE: &str = "process_reward.json";

/// What a neutral step is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeutralScore {
    /// As much as a good one. Lightman et al. 2023, arXiv:2305.20050, appendix F.
    #[default]
    Good,
    /// As little as a bad one.
    Bad,
}

/// How steps are read. Without the file, as TRL does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRewardFile {
    /// What stands behind each step.
    pub step_separator: String,
    /// What the middle one of three classes is worth.
    #[serde(default)]
    pub neutral: NeutralScore,
}

impl Default for ProcessRewardFile {
    fn default() -> Self {
        Self { step_separator: STEP_SEPARATOR.to_owned(), neutral: NeutralScore::Good }
    }
}

impl ProcessRewardFile {
    /// Reads the file of a model directory; `None` where there is none.
    ///
    /// # Errors
    /// If it is there but not usable.
    pub fn load(dir: &Path) -> Result<Option<Self>, StoredError> {
        let path = dir.join(PROCESS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let failed = |reason: String| StoredError { path: path.clone(), reason };
        let bytes =
            std::fs::read(&path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        if read.step_separator.is_empty() {
            return Err(failed("found an empty `step_separator`, expected a text".into()));
        }
        Ok(Some(read))
    }

    /// The score of a step of which the model gives these probabilities: of bad and good, or of bad, neutral and good.
    pub fn score(&self, probabilities: &[f64]) -> f64 {
        match (probabilities, self.neutral) {
            ([_, neutral, good], NeutralScore::Good) => neutral + good,
            ([.., good], _) => *good,
            ([], _) => f64::NAN,
        }
    }
}
