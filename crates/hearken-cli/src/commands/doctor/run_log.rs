//! Whether the numbers of a run are plausible.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use hearken_config::{Configuration, GuardConfig};
use hearken_report::signs::signs;
use hearken_train::ppo::PpoConfig;
use serde_json::Value;
use toml::Table;

use crate::output;

mod checks;
mod foreign;
mod series;

use checks::{CheckVerdict, Finding};
use series::MetricRecords;

/// The log of a run.
const METRICS: &str = "metrics.jsonl";
/// Folders of the stages inside the directory of an `rlhf` run.
const STAGES: [&str; 5] = ["sft", "reward", "ppo", "dpo", "grpo"];

/// Examines a run directory, or each stage in it; or the log of another program. `held_out` names the number that
/// nothing is trained on.
pub(super) fn examine(place: &Path, held_out: Option<&str>) -> Result<ExitCode> {
    let folders = [place.to_owned()].into_iter().chain(STAGES.map(|stage| place.join(stage)));
    let folders: Vec<_> = folders.filter(|dir| dir.join(METRICS).exists()).collect();
    let mut text = String::new();
    for folder in &folders {
        let config = configuration(&folder.join("config.toml"))?;
        text += &about(folder, foreign::lines(&folder.join(METRICS))?, &config, held_out)?;
    }
    if folders.is_empty() {
        text = about(place, foreign::read(place)?, &Table::new(), held_out)?;
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn about(
    place: &Path,
    records: Vec<Value>,
    config: &Table,
    held_out: Option<&str>,
) -> Result<String> {
    let records = MetricRecords::new(records);
    if let Some(key) = held_out
        && records.last(key).is_none()
    {
        bail!("{}: found no {key:?} in any record (--held-out)", place.display());
    }
    let mut findings = checks::all(&records, config);
    findings.extend(over_optimization(&records, config, held_out));
    let mut text = format!("{}: {} steps\n", place.display(), records.steps());
    for Finding { verdict, text: sentence } in findings {
        let mark = match verdict {
            CheckVerdict::Fine => "fine",
            CheckVerdict::Look => "look",
        };
        let _ = writeln!(text, "  {mark}  {sentence}");
    }
    Ok(text)
}

/// Whether the policy has begun to exploit what scores it; nothing of a log that is too short, or has no completions.
fn over_optimization(
    records: &MetricRecords,
    config: &Table,
    held_out: Option<&str>,
) -> Vec<Finding> {
    let limits = GuardConfig::limits_of(config, PpoConfig::DEFAULTS);
    let held_out = held_out.map_or_else(|| held_out_of(config), |key| vec![key.to_owned()]);
    let found = signs(records.all(), &limits, &held_out);
    if found.iterations < limits.window {
        return Vec::new();
    }
    if found.alarms.is_empty() {
        let names: Vec<&str> = found.watched.iter().map(|signal| signal.name()).collect();
        let text = format!(
            "no sign of over-optimization in {} iterations, by {}",
            found.iterations,
            names.join(", ")
        );
        return vec![Finding { verdict: CheckVerdict::Fine, text }];
    }
    let look = |text| Finding { verdict: CheckVerdict::Look, text };
    found.alarms.iter().map(|alarm| look(format!("step {}: {alarm}", alarm.step))).collect()
}

/// The names in the metrics of the score that a run holds out.
fn held_out_of(config: &Table) -> Vec<String> {
    let named = config.get("guard").and_then(|guard| guard.get("held_out"));
    let label = named.and_then(toml::Value::as_str).or_else(|| only_unweighted(config));
    label.map_or_else(Vec::new, |label| {
        vec![format!("scores/{label}"), format!("rewards/{label}/mean")]
    })
}

/// The label of the only score of weight 0, as training finds it.
fn only_unweighted(config: &Table) -> Option<&str> {
    let scores = config.get("score")?.as_array()?.iter().filter_map(toml::Value::as_table);
    let is_unweighted = |score: &&Table| {
        let weight = score.get("weight");
        let is_zero =
            weight.is_some_and(|of| of.as_float() == Some(0.0) || of.as_integer() == Some(0));
        is_zero && score.get("kind").and_then(toml::Value::as_str) != Some("distance")
    };
    let mut unweighted = scores.filter(is_unweighted);
    let only = unweighted.next().filter(|_| unweighted.next().is_none())?;
    ["label", "name", "kind"].iter().find_map(|key| only.get(*key)?.as_str())
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
