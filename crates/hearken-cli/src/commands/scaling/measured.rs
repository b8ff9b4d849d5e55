//! Speeds of one rank as docs/results has them: of two cores, on a model of 27.8 million parameters in bfloat16.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Written by bench/side_by_side.py and bench/scaling.py.
const PERFORMANCE: &str = include_str!("../../../../../docs/results/performance.json");
const SCALING: &str = include_str!("../../../../../docs/results/scaling.json");
/// The model, by its name there, and its parameters.
const SHAPE: &str = "small30";
const PARAMETERS: usize = 27_795_968;

/// What a rank does in a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) parameters: usize,
    /// Tokens that are trained on, forward and backward.
    pub(super) train_tokens_per_s: f64,
    /// Seconds of a step of sampling whatever runs: a token for each sequence.
    pub(super) step_s: f64,
    /// Seconds that each running sequence adds to it.
    pub(super) sequence_s: f64,
}

impl Measured {
    /// What was measured of the program.
    pub(super) fn of_this_program() -> Result<Self> {
        let performance: Value = serde_json::from_str(PERFORMANCE).context("performance.json")?;
        let scaling: Value = serde_json::from_str(SCALING).context("scaling.json")?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let is_sft =
            |row: &&Value| row["work"] == "sft" && row["shape"] == SHAPE && row["dtype"] == "bf16";
        let results = list(&performance["results"]);
        let sft = results
            .iter()
            .find(is_sft)
            .and_then(|row| row["hearken"]["tokens_per_s"]["median"].as_f64());
        let train_tokens_per_s = sft.context("performance.json: no speed of sft")?;
        let series = list(&scaling["series"]);
        let is_batches =
            |one: &&Value| one["work"] == "generate" && one["varied"] == "sequences of a step";
        let batches =
            series.iter().find(is_batches).map(|one| list(&one["rows"])).unwrap_or_default();
        let points: Option<Vec<(f64, f64)>> = batches.iter().map(point).collect();
        let points = points.context("scaling.json: a speed of sampling is no number")?;
        let (step_s, sequence_s) = line(&points).context("scaling.json: no speeds of sampling")?;
        Ok(Self { parameters: PARAMETERS, train_tokens_per_s, step_s, sequence_s })
    }
}

/// Sequences that ran together, and seconds of a step of theirs, prompts included.
fn point(row: &Value) -> Option<(f64, f64)> {
    let steps = row["completion_tokens"].as_f64()?;
    Some((row["x"].as_f64()?, row["step_s"].as_f64()? / steps))
}

/// The line through the points, by least squares: where it begins, not below 0, and its slope.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = covariance / variance;
    slope.is_finite().then(|| ((y - slope * x).max(0.0), slope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_have_what_is_read_of_them() {
        let found = Measured::of_this_program().unwrap();
        assert!((1e3..1e5).contains(&found.train_tokens_per_s), "{found:?}");
        assert!(0.0 < found.step_s && found.step_s < 0.01, "{found:?}");
        assert!(0.0 < found.sequence_s && found.sequence_s < found.step_s, "{found:?}");
    }

    #[test]
    fn a_line_is_found_again() {
        let (start, slope) = line(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]).unwrap();
        assert!((start - 3.0).abs() < 1e-12 && (slope - 2.0).abs() < 1e-12);
        assert_eq!(line(&[(1.0, 5.0)]), None);
    }
}
