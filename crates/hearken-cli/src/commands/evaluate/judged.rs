//! `hearken evaluate judge`: what judges are worth beside people.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_analysis::judge_report::{JudgeReport, JudgeReports, Leaning, judge_reports};
use hearken_analysis::{Figure, JudgedItems, Options};
use hearken_data::feedback::Origin;

use super::super::analyze;
use crate::table::table;
use crate::{output, sources};

/// Models whose win rates are printed of each judge.
const MODELS_SHOWN: usize = 10;

/// What judges are worth beside people
///
/// Reads verdicts of language models (`origin` is `ai`) and of people from stores and files, and says of every judge how
/// often it agrees with people and people among themselves, whether its probabilities are what they say, what it is biased
/// towards, and how often models win when people's labels correct the judge's.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct JudgedArguments {
    /// Stores or files of judgements; a folder stands for its files of comparisons
    #[arg(long, value_name = "STORE_OR_FILE", num_args = 1.., required = true)]
    input: Vec<String>,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Seed of intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Example:
  hearken evaluate judge --input crowd-comparisons.csv \\
      gpt4-crowd-comparisons.csv gpt3-crowd-comparisons.csv";

impl JudgedArguments {
    pub(super) fn run(self) -> Result<ExitCode> {
        analyze::check_results([&self.json, &None], &self.input)?;
        let records = sources::load(&self.input)?;
        if !records.judgements.iter().any(|one| one.origin == Origin::Ai) {
            bail!(
                "{}: found no judgement of a language model, expected some beside those of people \
                 (`hearken judge` makes them)",
                self.input.join(", ")
            );
        }
        print(&records, self.seed, self.json.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what the judges among some records are worth, and writes it.
pub(in super::super) fn print(records: &JudgedItems, seed: u64, json: Option<&Path>) -> Result<()> {
    let options = Options { seed, ..Options::default() };
    let reports = judge_reports(records, &options);
    output::print(&text(&reports))?;
    if let Some(path) = json {
        analyze::write(path, &(serde_json::to_string_pretty(&reports)? + "\n"))?;
    }
    Ok(())
}

/// A figure in percent, with its interval.
fn percent(of: &Figure) -> String {
    match analyze::figure(of, 100.0, 1) {
        [value, interval, n] if !n.is_empty() => format!("{value} {interval} n={n}"),
        [value, ..] => value,
    }
}

/// What a row of the table is about, and where a judge's report has it.
type LeaningRow = (&'static str, fn(&JudgeReport) -> &Leaning);

const LEANINGS: [LeaningRow; 4] = [
    ("longer wins, %", |judge| &judge.length),
    ("empty wins, %", |judge| &judge.empty),
    ("constant wins, %", |judge| &judge.constant),
    ("own wins, %", |judge| &judge.own),
];

fn text(reports: &JudgeReports) -> String {
    let JudgeReports { people, judges } = reports;
    let mut header = vec![""];
    header.extend(judges.iter().map(|judge| judge.name.as_str()));
    header.push("");
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&JudgeReport) -> String| {
        let cells = judges.iter().map(of);
        rows.push([name.to_owned()].into_iter().chain(cells).chain([String::new()]).collect());
    };
    row("pairs", &|judge| judge.pairs.to_string());
    row("ties", &|judge| judge.ties.to_string());
    row("pairs that people judged too", &|judge| judge.labelled.to_string());
    row("agreement with people, %", &|judge| percent(&judge.agreement));
    row("kappa, %", &|judge| percent(&judge.kappa));
    row("calibration error, %", &|judge| percent(&judge.calibration_error));
    row("both orders say the same, %", &|judge| percent(&judge.position.consistency));
    row("lean to what is first, %", &|judge| percent(&judge.position.lean));
    row("first is chosen, %", &|judge| percent(&judge.position.first_share));
    row("… more than by people", &|judge| percent(&judge.position.more_than_people));
    for (name, of) in LEANINGS {
        if judges.iter().all(|judge| of(judge).judge.known().is_none()) {
            continue;
        }
        row(name, &|judge| percent(&of(judge).judge));
        row("… with people", &|judge| percent(&of(judge).people));
        row("… more than with people", &|judge| percent(&of(judge).difference));
    }
    let mut text = table(&header, &rows);
    let _ = writeln!(
        text,
        "\npeople among themselves, on {} pairs, in %: two decisive votes are the same {}; one is what most others decide {}",
        people.pairs,
        percent(&people.pairwise),
        percent(&people.one_against_others)
    );
    for judge in judges {
        text += &of_judge(judge);
    }
    text
}

fn of_judge(judge: &JudgeReport) -> String {
    let mut text = String::new();
    for finding in &judge.findings {
        let _ = writeln!(text, "{}: {finding}", judge.name);
    }
    if let (Some(first), n) = (judge.ask_people.first(), judge.ask_people.len()) {
        let _ = writeln!(
            text,
            "{}: least sure of {n} pairs that nobody has judged, first of {first}",
            judge.name
        );
    }
    let corrected: Vec<_> = judge
        .win_rates
        .iter()
        .filter(|rate| 0 < rate.others && rate.corrected.known().is_some())
        .take(MODELS_SHOWN)
        .collect();
    if !corrected.is_empty() {
        let header =
            ["wins, %", "by people", "by the judge", "corrected by people", "worth of labels"];
        let rows: Vec<Vec<String>> = corrected
            .into_iter()
            .map(|rate| {
                let worth = rate.worth.map_or_else(String::new, |worth| format!("{worth:.2}"));
                let model = rate.model.clone();
                vec![
                    model,
                    percent(&rate.people),
                    percent(&rate.judge),
                    percent(&rate.corrected),
                    worth,
                ]
            })
            .collect();
        let _ = write!(text, "\n{}", table(&header, &rows));
    }
    text
}
