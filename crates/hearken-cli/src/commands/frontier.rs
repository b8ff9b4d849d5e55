//! `hearken frontier`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_report::gold_curve::{Course, Form, GoldCurve, GoldCurves, Named};
use hearken_run::seeds::Seeds;
use serde_json::Value;

use super::analyze::write;
use super::output_file::check_outputs;
use crate::output::print;
use crate::table::table;

/// Gold against the trained score by distance from the start
///
/// Reads what runs measured: KL to the reference, and the mean of every score; the one that --gold names has weight
/// 0, so that nothing is trained on it. Fits R(d) = d·(a − b·ln d) to what gold gained at d = √KL, with intervals, and marks
/// the peak (arXiv:2210.10760). Runs of one trainer, or with one NAME before =, are repetitions: from three on intervals
/// are over runs, else over points. Completions that were scored by both, several of each prompt, give the curve of best-of-N,
/// d·(a − b·d).
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Frontier {
    /// Run directories of ppo, grpo or dpo, each perhaps with the name of what it repeats
    #[arg(value_name = "[NAME=]RUN_DIR", required_unless_present = "best_of")]
    runs: Vec<String>,

    /// The label of the score that is wanted
    #[arg(long, value_name = "LABEL", default_value = "gold")]
    gold: String,

    /// The label of the score that is trained on; without it, the sum of all that count
    #[arg(long, value_name = "LABEL")]
    proxy: Option<String>,

    /// JSON lines with `prompt` and a number in each of the columns --gold and --proxy: completions to choose the best from
    #[arg(long, value_name = "FILE", requires = "proxy")]
    best_of: Option<PathBuf>,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write charts and fits, a page by itself, to FILE
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the chart of the first method to FILE
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  hearken frontier runs/ppo-1 runs/ppo-2 runs/ppo-3 --gold gold \\
      --html frontier.html
  hearken frontier single=runs/one ensemble=runs/three --gold gold
  hearken frontier --best-of scored.jsonl --gold gold --proxy reward";

/// The name of the curve of best-of-N.
const BEST_OF: &str = "best of N";

impl Frontier {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let named: Vec<(Option<&str>, &Path)> = self.runs.iter().map(|one| split(one)).collect();
        let outputs: Vec<&Path> = [&self.json, &self.html, &self.svg]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        let inputs: Vec<&Path> =
            named.iter().map(|one| one.1).chain(self.best_of.as_deref()).collect();
        check_outputs(&outputs, &inputs)?;
        let curves = GoldCurves { curves: self.fits(&named)? };
        print(&table(&GoldCurves::HEADINGS, &curves.rows()))?;
        let sentences: Vec<String> =
            curves.curves.iter().map(|curve| curve.sentence() + "\n").collect();
        print(&format!("\n{}", sentences.concat()))?;
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&curves)? + "\n"))?;
        }
        if let Some(path) = &self.html {
            write(path, &curves.html())?;
        }
        if let Some(path) = &self.svg {
            write(path, &curves.svg()?)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn fits(&self, runs: &[(Option<&str>, &Path)]) -> Result<Vec<GoldCurve>> {
        let mut methods: BTreeMap<String, Vec<Course>> = BTreeMap::new();
        for (name, dir) in runs {
            let records = json_lines(&dir.join("metrics.jsonl"))?;
            let scores = Named { gold: &self.gold, proxy: self.proxy.as_deref() };
            let shown = dir.display().to_string();
            let course = Course::of_run(&shown, &records, &scores).with_context(|| {
                format!(
                    "{shown}: found no record with both a KL and the score {:?}, but the start, expected a run of ppo, grpo or \
                     dpo.online with a [[score]] of that label and weight = 0",
                    self.gold
                )
            })?;
            let method = name.map_or_else(|| trainer(dir, &records), str::to_owned);
            methods.entry(method).or_default().push(course);
        }
        let mut rng = Seeds::new(0).stream("frontier", 0);
        let mut fit = |method: &str, form, courses: Vec<Course>| {
            GoldCurve::fit(method, form, courses, &mut rng).with_context(|| {
                format!(
                    "{method}: found points at fewer than two distances, expected more for a fit"
                )
            })
        };
        let mut curves = Vec::new();
        for (method, courses) in methods {
            curves.push(fit(&method, Form::Policy, courses)?);
        }
        if let (Some(path), Some(proxy)) = (&self.best_of, &self.proxy) {
            let prompts = scored(path, &self.gold, proxy)?;
            let course = Course::of_choices(BEST_OF, &prompts).with_context(|| {
                format!(
                    "{}: found a prompt with one completion, expected at least two of each",
                    path.display()
                )
            })?;
            curves.push(fit(BEST_OF, Form::BestOfN, vec![course])?);
        }
        Ok(curves)
    }
}

/// The name of what a run repeats, and its directory.
fn split(argument: &str) -> (Option<&str>, &Path) {
    match argument.split_once('=') {
        // A folder may have the sign in its name.
        Some((name, dir)) if !Path::new(argument).exists() => (Some(name), Path::new(dir)),
        _ => (None, Path::new(argument)),
    }
}

/// What a run was trained by, as its records and its configuration say.
fn trainer(dir: &Path, records: &[Value]) -> String {
    let has = |key: &str| records.iter().any(|record| record.get(key).is_some());
    let preset = || -> Option<String> {
        let config: toml::Table =
            std::fs::read_to_string(dir.join("config.toml")).ok()?.parse().ok()?;
        Some(config.get("grpo")?.get("preset")?.as_str()?.to_owned())
    };
    if has("frac_reward_zero_std") {
        return preset().unwrap_or_else(|| "grpo".to_owned());
    }
    let has_critic = has("loss/value_avg");
    if has_critic { "ppo" } else { "dpo" }.to_owned()
}

fn json_lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let at = || format!("{}:{}: expected a JSON object", path.display(), index + 1);
            serde_json::from_str(line).with_context(at)
        })
        .collect()
}

/// Gold and proxy of the completions of each prompt.
fn scored(path: &Path, gold: &str, proxy: &str) -> Result<Vec<Vec<(f64, f64)>>> {
    let mut prompts: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (index, record) in json_lines(path)?.iter().enumerate() {
        let number = |column: &str| {
            record.get(column).and_then(Value::as_f64).with_context(|| {
                let found = record.get(column).map_or("nothing".to_owned(), Value::to_string);
                let line = index + 1;
                format!("{}:{line}: found {found} in `{column}`, expected a number", path.display())
            })
        };
        let scores = (number(gold)?, number(proxy)?);
        let Some(prompt) = record.get("prompt") else {
            bail!("{}:{}: found no `prompt`", path.display(), index + 1);
        };
        prompts.entry(prompt.to_string()).or_default().push(scores);
    }
    if prompts.is_empty() {
        bail!("{}: has no line, expected completions with their scores", path.display());
    }
    Ok(prompts.into_values().collect())
}
