//! What a piece of work takes.

use std::fs;
use std::path::Path;
use std::time::Instant;

use hearken_report::frontier::FrontierCost;
use serde_json::Value;

use crate::Result;

/// Clock and processor time since a moment.
pub(crate) struct Meter {
    wall: Instant,
    cpu_seconds: Option<f64>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu_seconds: cpu_seconds() }
    }

    /// Adds what has passed.
    pub(crate) fn add_to(&self, cost: &mut FrontierCost) {
        cost.wall_seconds += self.wall.elapsed().as_secs_f64();
        let passed = cpu_seconds().zip(self.cpu_seconds).map(|(now, then)| now - then);
        cost.cpu_seconds = cost.cpu_seconds.zip(passed).map(|(before, passed)| before + passed);
    }
}

/// Processor time of all threads of this process, where Linux says it: user and system time are the 14th
/// and 15th field of /proc/self/stat, in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, in brackets, may hold blanks.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
}

/// Tokens that an online trainer has sampled, from what it wrote down: every iteration's mean length times
/// its rollouts.
pub(crate) fn sampled_tokens(run: &Path, rollouts_per_iteration: f64) -> Result<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl"))?;
    let (mut tokens, mut seen) = (0.0, None);
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        let iteration = record["iteration"].as_u64();
        // What concerns an iteration repeats in each of its steps.
        if let Some(length) = record["completions/mean_length"].as_f64()
            && iteration != seen
        {
            tokens += length * rollouts_per_iteration;
            seen = iteration;
        }
    }
    Ok(tokens)
}
