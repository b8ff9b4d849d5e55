//! Whether the numbers of a run are plausible.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use toml::Table;

use crate::output;

mod checks;
mod series;

use checks::{Finding, Verdict};
use series::Records;

/// Folders of the stages inside the directory of an `rlhf` run.
const STAGES: [&str; 5] = ["sft", "reward", "ppo", "dpo", "grpo"];

/// Examines a run directory, or each stage in it.
pub(super) fn examine(dir: &Path) -> Result<ExitCode> {
    let folders = [dir.to_owned()].into_iter().chain(STAGES.map(|stage| dir.join(stage)));
    let folders: Vec<_> = folders.filter(|dir| dir.join("metrics.jsonl").exists()).collect();
    if folders.is_empty() {
        bail!("{}: has no metrics.jsonl, expected a run directory", dir.display());
    }
    let mut text = String::new();
    for folder in folders {
        text += &about(&folder)?;
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn about(dir: &Path) -> Result<String> {
    let records = Records::new(read(&dir.join("metrics.jsonl"))?);
    let config = configuration(&dir.join("config.toml"))?;
    let findings = checks::all(&records, &config);
    let mut text = format!("{}: {} steps\n", dir.display(), records.steps());
    for Finding { verdict, text: sentence } in findings {
        let mark = match verdict {
            Verdict::Fine => "fine",
            Verdict::Look => "look",
        };
        let _ = writeln!(text, "  {mark}  {sentence}");
    }
    Ok(text)
}

fn read(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let lines = text.lines().enumerate();
    let records = lines.map(|(index, line)| {
        let at = || format!("{}:{}: expected a JSON object", path.display(), index + 1);
        serde_json::from_str(line).with_context(at)
    });
    records.collect()
}

/// The resolved configuration; empty where there is none.
fn configuration(path: &Path) -> Result<Table> {
    if !path.exists() {
        return Ok(Table::new());
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    text.parse().with_context(|| format!("{}: expected TOML", path.display()))
}
