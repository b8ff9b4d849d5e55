//! `hearken evaluate reward-bench` and `judge-bench`: benchmarks of others, from local files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_config::Configuration as _;
use hearken_data::feedback::{Candidate, Item, Task, Verdict};
use hearken_data::{FieldError, Form, Message, ReadOptions, Record, Role, Row, Source, read};
use hearken_judge::model::KeptAnswers;
use hearken_recipes::judging::{JudgedItem, Panel};
use hearken_reward_source::judging::{Asking, JudgingConfig};
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_stats::Estimate;
use hearken_stats::proportion::wilson;
use hearken_stats::reward_bench::{RewardBench, ScoredPrompt, reward_bench};
use serde::Serialize;
use serde_json::Value;

use super::super::analyze;
use crate::counter::Counter;
use crate::hub::HubNames;
use crate::screen::Screen;
use crate::table::table;
use crate::{device, hub, output};

/// Replicates of bootstrap intervals.
const ROUNDS: usize = 1000;

/// Items that are judged together.
const TOGETHER: usize = 32;

/// Who is measured, and on what.
#[derive(Args, Debug)]
struct MeasuredModel {
    /// The judge or reward model, as `hearken judge` reads it; configs/judge.toml lists every key
    #[arg(value_name = "CONFIG.toml")]
    config: Option<PathBuf>,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", requires = "config")]
    overrides: Vec<String>,

    /// The file of the benchmark, in any of the forms of docs/data.md
    #[arg(long, value_name = "FILE")]
    input: PathBuf,

    /// Where answers of models are kept, so that nothing is asked twice
    #[arg(long, value_name = "FILE", requires = "config")]
    answers: Option<PathBuf>,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// `RewardBench` 2: the right answer among wrong ones
///
/// Every row has `id`, `prompt`, `chosen` and `rejected` (lists of texts), `subset`, as the authors publish them; a judge rates
/// every answer (ask.task is "rate"), or rows have the scores of all answers, right ones first, as `scores` beside `num_correct`.
/// Subsets, ties and the total are counted as the authors do.
#[derive(Args, Debug)]
#[command(after_help = REWARD_EXAMPLES)]
pub(super) struct RewardBenchmark {
    #[command(flatten)]
    measured: MeasuredModel,
}

const REWARD_EXAMPLES: &str = "\
Example:
  hearken evaluate reward-bench configs/judge.toml --input rewardbench2.jsonl \\
      --set 'judge=[{kind=\"reward\", path=\"runs/reward/final\"}]'";

/// `JudgeBench`: which of two answers is right
///
/// Every row has `question`, `response_A`, `response_B`, `label` ("A>B" or "B>A") and `source`, as the authors publish them. The
/// judge sees each pair in both orders; a pair counts where it is right more often than wrong, as the authors count.
#[derive(Args, Debug)]
#[command(after_help = JUDGE_EXAMPLES)]
pub(super) struct JudgeBenchmark {
    #[command(flatten)]
    measured: MeasuredModel,
}

const JUDGE_EXAMPLES: &str = "\
Example:
  hearken evaluate judge-bench configs/judge.toml --input judgebench.jsonl \\
      --set 'judge=[{kind=\"openai\", base_url=\"http://h/v1\", model=\"m\"}]'";

/// A row of `RewardBench` 2.
struct RewardRow {
    id: String,
    subset: String,
    prompt: Vec<Message>,
    answers: Vec<String>,
    num_correct: usize,
    scores: Option<Vec<f64>>,
    source: Source,
}

impl Record for RewardRow {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["id", "prompt", "chosen", "rejected", "subset"],
            optional: &["num_correct", "scores"],
            parse: Self::new,
        },
        Form {
            required: &["id", "subset", "num_correct", "scores"],
            optional: &[],
            parse: Self::new,
        },
    ];
}

impl RewardRow {
    fn new(row: &Row<'_>) -> Result<Self, FieldError> {
        let name = |key: &str| {
            row.value(key).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        };
        let texts = |key: &str| -> Result<Vec<String>, FieldError> {
            match row.has(key) {
                true => row.parsed(key, "a list of texts"),
                false => Ok(Vec::new()),
            }
        };
        let (chosen, rejected) = (texts("chosen")?, texts("rejected")?);
        let prompt = match row.has("prompt") {
            false => Vec::new(),
            true => match row.value("prompt")? {
                Value::String(text) => vec![Message::new(Role::User, text)],
                _ => row.messages("prompt")?,
            },
        };
        let num_correct = match row.has("num_correct") {
            true => row.parsed("num_correct", "a count")?,
            false => chosen.len(),
        };
        let scores = match row.has("scores") {
            true => Some(row.parsed::<Vec<WrittenScore>>("scores", "a list of numbers")?),
            false => None,
        };
        Ok(Self {
            id: name("id")?,
            subset: name("subset")?,
            prompt,
            answers: chosen.into_iter().chain(rejected).collect(),
            num_correct,
            scores: scores.map(|scores| scores.into_iter().map(WrittenScore::number).collect()),
            source: row.source(),
        })
    }
}

/// A score, alone or in a list of its own, as some pipelines write it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum WrittenScore {
    Alone(f64),
    Listed([f64; 1]),
}

impl WrittenScore {
    fn number(self) -> f64 {
        match self {
            Self::Alone(number) | Self::Listed([number]) => number,
        }
    }
}

impl RewardBenchmark {
    pub(super) fn run(self) -> Result<ExitCode> {
        let rows: Vec<RewardRow> = self.measured.read()?;
        let scores = if self.measured.config.is_some() {
            self.rated(&rows)?
        } else if let Some(row) = rows.iter().find(|row| row.scores.is_none()) {
            bail!("{}: found no `scores`, expected them or a CONFIG.toml", row.source);
        } else {
            rows.iter().filter_map(|row| row.scores.clone()).collect()
        };
        let prompts: Vec<ScoredPrompt> = rows
            .into_iter()
            .zip(scores)
            .map(|(row, scores)| ScoredPrompt {
                id: row.id,
                subset: row.subset,
                scores,
                num_correct: row.num_correct,
            })
            .collect();
        let rng = &mut Seeds::new(0).stream("bootstrap", 0);
        let found = reward_bench(&prompts, ROUNDS, rng)?;
        output::print(&reward_table(&found))?;
        self.measured.write(&found)
    }

    fn rated(&self, rows: &[RewardRow]) -> Result<Vec<Vec<f64>>> {
        let mut items = Vec::new();
        for row in rows {
            if row.answers.is_empty() {
                bail!("{}: found no answers, expected `chosen` and `rejected`", row.source);
            }
            let candidates = row.answers.iter().map(Candidate::text).collect();
            items.push(Item::new(Task::Rating, row.prompt.clone(), candidates));
        }
        let judged = self.measured.judge(&items, "rate")?;
        let mut all = Vec::new();
        for (row, judged) in rows.iter().zip(judged) {
            let Some(Verdict::Ratings { axes }) = judged.verdict else {
                bail!("{}: the judge names no number for any answer", row.source);
            };
            // The mean of the axes; an answer without a number is worth less than any with one.
            let score = |at: usize| {
                let of: Vec<f64> = axes.values().filter_map(|scores| scores[at]).collect();
                if of.is_empty() { UNRATED } else { of.iter().sum::<f64>() / of.len() as f64 }
            };
            all.push((0..row.answers.len()).map(score).collect());
        }
        Ok(all)
    }
}

/// The score of an answer for which the judge names no number: below every scale.
const UNRATED: f64 = -1e9;

/// A row of `JudgeBench`.
struct JudgeRow {
    question: String,
    answers: [String; 2],
    first_is_right: bool,
    source_name: String,
}

/// Which answer is right.
#[derive(serde::Deserialize)]
enum RightAnswer {
    #[serde(rename = "A>B")]
    First,
    #[serde(rename = "B>A")]
    Second,
}

impl Record for JudgeRow {
    const FORMS: &'static [Form<Self>] = &[Form {
        required: &["question", "response_A", "response_B", "label"],
        optional: &["source"],
        parse: |row| {
            let label: RightAnswer = row.parsed("label", "\"A>B\" or \"B>A\"")?;
            Ok(Self {
                question: row.text("question")?,
                answers: [row.text("response_A")?, row.text("response_B")?],
                first_is_right: matches!(label, RightAnswer::First),
                source_name: if row.has("source") { row.text("source")? } else { String::new() },
            })
        },
    }];
}

/// The share of pairs that are judged rightly.
#[derive(Serialize)]
struct JudgeBench {
    overall: Estimate,
    by_source: BTreeMap<String, Estimate>,
    /// Pairs of which both orders say the same.
    consistent: Option<Estimate>,
}

impl JudgeBenchmark {
    pub(super) fn run(self) -> Result<ExitCode> {
        let rows: Vec<JudgeRow> = self.measured.read()?;
        if self.measured.config.is_none() {
            bail!(
                "found no CONFIG.toml, expected that of a judge; configs/judge.toml lists every key"
            );
        }
        let item = |row: &JudgeRow| {
            let prompt = vec![Message::new(Role::User, row.question.clone())];
            Item::new(Task::Pairwise, prompt, row.answers.iter().map(Candidate::text).collect())
        };
        let items: Vec<Item> = rows.iter().map(item).collect();
        let judged = self.measured.judge(&items, "compare")?;
        let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut overall = Vec::new();
        let (mut consistent, mut both) = (0_u32, 0);
        for (row, judged) in rows.iter().zip(&judged) {
            let decisions = decisions(judged);
            if let [one, other] = decisions[..] {
                both += 1;
                consistent += u32::from(one == other);
            }
            let of = |decision: &i32| if row.first_is_right { *decision } else { -decision };
            let balance: i32 = decisions.iter().map(of).sum();
            let right = f64::from(u8::from(0 < balance));
            overall.push(right);
            if !row.source_name.is_empty() {
                all.entry(group_of(&row.source_name).to_owned()).or_default().push(right);
            }
        }
        let share = |of: &Vec<f64>| wilson(of.iter().sum(), of.len()).expect("a group has pairs");
        if overall.is_empty() {
            bail!("{}: found no row, expected at least one", self.measured.input.display());
        }
        let overall = share(&overall);
        let by_source = all.iter().map(|(name, of)| (name.clone(), share(of))).collect();
        let consistent = wilson(f64::from(consistent), both);
        let found = JudgeBench { overall, by_source, consistent };
        output::print(&judge_table(&found))?;
        self.measured.write(&found)
    }
}

/// The part of the benchmark that a source belongs to, as the authors print it: "mmlu-pro-math" is of "mmlu-pro".
fn group_of(source: &str) -> &str {
    let groups = ["mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench"];
    groups.into_iter().find(|group| source.starts_with(group)).unwrap_or(source)
}

/// In each order 1 for the first answer, −1 for the second, 0 for neither.
fn decisions(judged: &JudgedItem) -> Vec<i32> {
    let decided = |p: f64| i32::from(0.5 < p) - i32::from(p < 0.5);
    let mut sums = [(0.0, 0_u32); 2];
    let mut alone = None;
    for opinion in &judged.opinions {
        for (sum, shown) in sums.iter_mut().zip(opinion.shown) {
            if let Some(shown) = shown {
                *sum = (sum.0 + shown, sum.1 + 1);
            }
        }
        alone = alone.or(opinion.probability);
    }
    let shown: Vec<i32> = sums
        .into_iter()
        .filter(|(_, count)| 0 < *count)
        .map(|(sum, count)| decided(sum / f64::from(count)))
        .collect();
    if shown.is_empty() { alone.into_iter().map(decided).collect() } else { shown }
}

impl MeasuredModel {
    fn read<T: Record>(&self) -> Result<Vec<T>> {
        analyze::check_results([&self.json, &self.answers], &[self.input.display().to_string()])?;
        let (rows, _) = read(&hub::records(&self.input)?, &ReadOptions::default())?;
        Ok(rows)
    }

    /// Asks the judge of the configuration.
    fn judge(&self, items: &[Item], task: &str) -> Result<Vec<JudgedItem>> {
        let config = self.config.as_ref().expect("there is one");
        let mut overrides = self.overrides.clone();
        overrides.push(format!("ask.task={task}"));
        overrides.push("ask.both_orders=true".to_owned());
        let mut loaded = JudgingConfig::load(config, &overrides)?;
        HubNames::new(&mut Screen::without_interrupts())
            .configuration(&mut loaded, Start::Fresh)?;
        let kept = match &self.answers {
            Some(path) => KeptAnswers::open(path)?,
            None => KeptAnswers::in_memory(),
        };
        let asking = Asking::new(&loaded.config.budget, kept);
        let mut panel = Panel::open(&device::open(), &loaded.config, &asking)?;
        let mut counter = Counter::new(items.len());
        let mut judged = Vec::new();
        for chunk in items.chunks(TOGETHER) {
            judged.extend(panel.judge(&chunk.iter().collect::<Vec<_>>())?);
            counter.add(chunk.len(), 0);
        }
        counter.finish("item");
        Ok(judged)
    }

    fn write(&self, found: &impl Serialize) -> Result<ExitCode> {
        if let Some(path) = &self.json {
            analyze::write(path, &(serde_json::to_string_pretty(found)? + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn reward_table(found: &RewardBench) -> String {
    let row = |name: &str, of: &Estimate| {
        vec![name.to_owned(), super::shown(Some(of)), of.n.to_string(), String::new()]
    };
    let mut rows: Vec<Vec<String>> = found.subsets.iter().map(|(name, of)| row(name, of)).collect();
    rows.push(row("total", &found.total));
    table(&["subset", "score, %", "n", ""], &rows)
}

fn judge_table(found: &JudgeBench) -> String {
    let row = |name: &str, of: &Estimate| {
        vec![name.to_owned(), super::shown(Some(of)), of.n.to_string(), String::new()]
    };
    let mut rows: Vec<Vec<String>> =
        found.by_source.iter().map(|(name, of)| row(name, of)).collect();
    rows.push(row("overall", &found.overall));
    rows.extend(found.consistent.as_ref().map(|of| row("both orders say the same", of)));
    table(&["source", "right, %", "n", ""], &rows)
}
