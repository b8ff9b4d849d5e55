//! Mean and deviation of a reward model's scores, as they are stored beside it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file beside a reward model.
pub const NORMALIZATION_FILE: &str = "score_normalization.json";

/// Mean and deviation of the scores of reference completions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreNormalizationFile {
    /// Mean score.
    pub mean: f64,
    /// Sample standard deviation of the scores, divisor n − 1.
    pub std: f64,
    /// Completions measured.
    pub n: usize,
}

/// Why a file beside a reward model is not usable.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct StoredError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl ScoreNormalizationFile {
    /// Reads the file of a model directory; `None` where there is none.
    ///
    /// # Errors
    /// If it is there but not usable.
    pub fn load(dir: &Path) -> Result<Option<Self>, StoredError> {
        let path = dir.join(NORMALIZATION_FILE);
        let failed = |reason: String| StoredError { path: path.clone(), reason };
        if !path.exists() {
            return Ok(None);
        }
        let bytes =
            std::fs::read(&path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        if !(read.mean.is_finite() && read.std.is_finite() && 0.0 < read.std) {
            let (mean, std) = (read.mean, read.std);
            return Err(failed(format!(
                "found mean {mean} and std {std}, expected finite numbers and a deviation above 0"
            )));
        }
        Ok(Some(read))
    }
}
