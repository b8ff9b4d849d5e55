//! `hearken evaluate`: what reward models and judges are worth, on labelled steps, on sampled answers, beside people.

mod benchmarks;
pub(super) mod judged;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use hearken_config::{Truncation, Verifier};
use hearken_data::{Form, JudgedSteps, ReadOptions, Record, Row, Source, StepScale, record_files};
use hearken_hub::ModelPart;
use hearken_model::steps::StepTokens;
use hearken_model::{LoadOptions, Masters};
use hearken_recipes::search::Scorer;
use hearken_report::reranking::{AccuracyCurve, AccuracyCurves};
use hearken_reward_source::{answer_of, groups_of, verify};
use hearken_run::encode::{Encoder, LengthLimit};
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::load_tokenizer;
use hearken_stats::Estimate;
use hearken_stats::bootstrap::bootstrap;
use hearken_stats::calibration::{Prediction, expected_calibration_error};
use hearken_stats::first_error::{FirstError, first_error_scores};
use hearken_stats::reranking::{
    Candidate, RerankingRule, accuracy, accuracy_of_choice, mean_share,
};
use hearken_store::read_records;
use serde::Serialize;
use serde_json::{Map, Value};

use super::analyze;
use super::best_of::VerifierArgument;
use crate::output::print;
use crate::table::table;
use crate::{device, hub};

/// What reward models and judges are worth
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Evaluate {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  echo '{\"prompt\": \"1+2+3\", \"answer\": 6}' > sums.jsonl
  hearken generate --model runs/quickstart/sft/final --input sums.jsonl \\
      --output answers.jsonl -n 4 --max-new-tokens 8 --keep
  hearken score --model runs/quickstart/reward/final --input answers.jsonl \\
      --output scored.jsonl --keep
  hearken evaluate best-of --input scored.jsonl --score score --log-odds score";

#[derive(Debug, Subcommand)]
enum What {
    Steps(Steps),
    BestOf(BestOf),
    #[command(name = "judge")]
    Judged(judged::JudgedArguments),
    #[command(name = "reward-bench")]
    RewardBenchmark(benchmarks::RewardBenchmark),
    #[command(name = "judge-bench")]
    JudgeBenchmark(benchmarks::JudgeBenchmark),
}

impl Evaluate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Steps(steps) => steps.run(),
            What::BestOf(best_of) => best_of.run(),
            What::Judged(judged) => judged.run(),
            What::RewardBenchmark(benchmark) => benchmark.run(),
            What::JudgeBenchmark(benchmark) => benchmark.run(),
        }
    }
}

/// How well a process reward model finds wrong steps
///
/// Reads judged steps in any of the columns of docs/data.md, ProcessBench's among them, and says how often the first
/// wrong step is found (of solutions with one, and of those without; F1 is the harmonic mean of both), F1 of wrong steps,
/// and whether scores are the share of right ones. A step is called wrong where its score is below --threshold.
#[derive(Args, Debug)]
#[command(after_help = STEPS_EXAMPLES)]
struct Steps {
    /// A process reward model
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: PathBuf,

    /// Files of judged steps, or stores in which people judged them; each is a row of the table
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<PathBuf>,

    /// Below which score a step is called wrong
    #[arg(long, default_value_t = 0.5, value_name = "X")]
    threshold: f64,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const STEPS_EXAMPLES: &str = "\
Example:
  hearken evaluate steps --model runs/process/final \\
      --input gsm8k.json math.json --json found.json";

/// How often the right answer is chosen among N, by each way of choosing
///
/// Every line of the input is an answer: its `prompt` (or `messages`), a `completion`, the right answer, and one column for
/// each reward model that scored it (`hearken generate -n`, then `hearken score --keep --column`). Answers to the same
/// prompt belong together. Accuracies over all subsets of N are exact for the highest score, and means over random
/// subsets for votes.
#[derive(Args, Debug)]
#[command(after_help = BEST_OF_EXAMPLES)]
struct BestOf {
    /// Answers with their scores
    #[arg(long, value_name = "FILE")]
    input: PathBuf,

    /// The columns with scores; without any, votes alone
    #[arg(long, value_name = "COLUMN")]
    score: Vec<String>,

    /// Columns of --score whose numbers are log-odds: votes are weighted by the probabilities that they stand for
    #[arg(long, value_name = "COLUMN")]
    log_odds: Vec<String>,

    /// The column with the right answer
    #[arg(long, default_value = "answer", value_name = "COLUMN")]
    answer: String,

    /// What is compared
    #[arg(long, value_enum, default_value = "numeric")]
    verifier: VerifierArgument,

    /// The most answers that are chosen among
    #[arg(long, default_value_t = 256, value_name = "N")]
    max_n: usize,

    /// Random subsets for each number of answers
    #[arg(long, default_value_t = 200, value_name = "N")]
    rounds: usize,

    /// Seed of the subsets and of intervals
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the curves, a page by itself, to FILE
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const BEST_OF_EXAMPLES: &str = "\
Examples:
  hearken score --model runs/process/final --input answers.jsonl \\
      --output a.jsonl --keep --column process
  hearken score --model runs/outcome/final --input a.jsonl \\
      --output b.jsonl --keep --column outcome
  hearken evaluate best-of --input b.jsonl --score process \\
      --score outcome --log-odds outcome --html curves.html";

/// Replicates of bootstrap intervals.
const ROUNDS: usize = 1000;

/// The figures of a file of judged steps.
#[derive(Serialize)]
struct StepFigures {
    file: String,
    solutions: usize,
    steps: usize,
    first_error_f1: Option<Estimate>,
    first_error: Option<Estimate>,
    all_good: Option<Estimate>,
    step_f1: Option<Estimate>,
    calibration_error: Option<Estimate>,
}

impl Steps {
    fn run(self) -> Result<ExitCode> {
        let names: Vec<String> = self.input.iter().map(|path| path.display().to_string()).collect();
        analyze::check_results([&self.json, &None], &names)?;
        let place = hub::model(&self.model, ModelPart::Whole)?;
        let options = LoadOptions { masters: Masters::Drop, ..LoadOptions::scorer() };
        let scorer = Scorer::load(device::open(), &place, &options)?;
        let Some(scorer) = scorer.filter(|scorer| scorer.separator().is_some()) else {
            bail!("{}: expected a process reward model", place.display());
        };
        let tokenizer = load_tokenizer(&place)?;
        let config = scorer.model().config();
        let encoder = Encoder {
            tokenizer: tokenizer.as_ref(),
            vocab: config.vocab,
            length: LengthLimit { tokens_max: config.max_positions, truncation: Truncation::Error },
            completion_only: true,
            step_separator: scorer.separator().unwrap_or_default(),
        };
        let mut all = Vec::new();
        for path in &self.input {
            let (records, _) =
                read_records::<JudgedSteps>(&hub::records(path)?, &ReadOptions::default())?;
            let mut tokens: Vec<StepTokens> = Vec::with_capacity(records.len());
            for record in &records {
                let JudgedSteps { solution, extra, source, .. } = record;
                let found = encoder.solution(solution, extra, source)?;
                super::logprobs::check_ids(&found.ids, source, config.vocab, config.max_positions)?;
                tokens.push(found);
            }
            let scored = scorer.scores(&tokens, <_>::default(), 4096);
            let scores = scored.into_iter().map(|one| one.steps.unwrap_or_default());
            all.push(self.figures(path, &records, &scores.collect::<Vec<_>>()));
        }
        print(&step_table(&all))?;
        if let Some(path) = &self.json {
            analyze::write(path, &(serde_json::to_string_pretty(&all)? + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn figures(&self, path: &Path, records: &[JudgedSteps], scores: &[Vec<f64>]) -> StepFigures {
        let rng = &mut Seeds::new(0).stream("bootstrap", 0);
        let (mut firsts, mut predictions) = (Vec::new(), Vec::new());
        for (record, scores) in records.iter().zip(scores) {
            let good: Vec<Option<f64>> = record
                .labels
                .iter()
                .map(|label| label.map(|label| goodness(label, record.scale)))
                .collect();
            let expected = good.iter().position(|good| good.is_some_and(|good| good < 0.5));
            let ends = expected.map_or(good.len(), |first| first + 1);
            if good[..ends].iter().all(Option::is_some) {
                let found = scores.iter().position(|score| *score < self.threshold);
                firsts.push(FirstError { expected, found });
            }
            let labelled = good.iter().zip(scores);
            predictions.extend(labelled.filter_map(|(good, score)| {
                Some(Prediction { probability: score.clamp(0.0, 1.0), outcome: (*good)? })
            }));
        }
        let found = first_error_scores(&firsts, ROUNDS, rng);
        let threshold = self.threshold;
        let f1 = |steps: &[&Prediction]| {
            let (mut both, mut either) = (0, 0);
            for step in steps {
                let (called, bad) = (step.probability < threshold, step.outcome < 0.5);
                both += usize::from(called && bad);
                either += usize::from(called) + usize::from(bad);
            }
            (0 < either).then(|| 2.0 * both as f64 / either as f64)
        };
        StepFigures {
            file: path.display().to_string(),
            solutions: records.len(),
            steps: predictions.len(),
            first_error_f1: found.f1,
            first_error: found.erroneous,
            all_good: found.correct,
            step_f1: bootstrap(&predictions, f1, ROUNDS, rng),
            calibration_error: expected_calibration_error(&predictions, 10, ROUNDS, rng),
        }
    }
}

/// The probability that a labelled step is good; a neutral one is.
fn goodness(label: f64, scale: Option<StepScale>) -> f64 {
    match scale {
        Some(StepScale::Ternary) => f64::from(u8::from(0.0 <= label)),
        _ => label.clamp(0.0, 1.0),
    }
}

/// A share in percent with its interval.
fn shown(of: Option<&Estimate>) -> String {
    of.map_or("–".to_owned(), |of| {
        format!(
            "{:.1} [{:.1}, {:.1}]",
            100.0 * of.value,
            100.0 * of.low.max(0.0),
            100.0 * of.high.min(1.0)
        )
    })
}

fn step_table(all: &[StepFigures]) -> String {
    let row = |one: &StepFigures| {
        vec![
            one.file.clone(),
            one.solutions.to_string(),
            one.steps.to_string(),
            shown(one.first_error_f1.as_ref()),
            shown(one.first_error.as_ref()),
            shown(one.all_good.as_ref()),
            shown(one.step_f1.as_ref()),
            shown(one.calibration_error.as_ref()),
        ]
    };
    let header = [
        "file",
        "solutions",
        "steps",
        "first error, F1 %",
        "of wrong %",
        "of right %",
        "step F1 %",
        "calibration error %",
    ];
    table(&header, &all.iter().map(row).collect::<Vec<_>>())
}

/// An answer with all of its columns.
struct Sampled {
    prompt: String,
    completion: String,
    columns: Map<String, Value>,
    source: Source,
}

impl Record for Sampled {
    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["prompt", "completion"],
            optional: &[],
            parse: |row| Self::new(row, "prompt"),
        },
        Form {
            required: &["messages", "completion"],
            optional: &[],
            parse: |row| Self::new(row, "messages"),
        },
        Form {
            required: &["prompt_ids", "completion"],
            optional: &[],
            parse: |row| Self::new(row, "prompt_ids"),
        },
    ];
}

impl Sampled {
    fn new(row: &Row<'_>, prompt: &str) -> Result<Self, hearken_data::FieldError> {
        let completion = match row.value("completion")? {
            // Nothing is an answer too, and no right one.
            Value::String(text) if text.is_empty() => String::new(),
            _ => row.text("completion")?,
        };
        let prompt = row.value(prompt)?.to_string();
        Ok(Self { prompt, completion, columns: row.all_but(&[]), source: row.source() })
    }
}

impl BestOf {
    fn run(self) -> Result<ExitCode> {
        analyze::check_results([&self.json, &self.html], &[self.input.display().to_string()])?;
        if let Some(column) = self.log_odds.iter().find(|column| !self.score.contains(column)) {
            bail!("--log-odds: found {column:?}, expected one of --score");
        }
        let problems = self.problems()?;
        let least = problems.iter().map(Vec::len).min().unwrap_or(0);
        let most = least.min(self.max_n);
        let mut ns: Vec<usize> =
            std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|n| *n <= most).collect();
        if ns.last() != Some(&most) {
            ns.push(most);
        }
        let rng = &mut Seeds::new(self.seed).stream("reranking", 0);
        let mut curves = Vec::new();
        let mut curve = |name: String, column: Option<&str>, choice: RerankingRule| -> Result<()> {
            let candidates = self.candidates(&problems, column, choice)?;
            let points = ns
                .iter()
                .filter_map(|&n| Some((n, accuracy(&candidates, choice, n, self.rounds, rng)?)));
            let points = points.collect();
            curves.push(AccuracyCurve { choice: name, points });
            Ok(())
        };
        curve("majority".to_owned(), None, RerankingRule::Majority)?;
        for column in &self.score {
            curve(format!("best by {column}"), Some(column), RerankingRule::Best)?;
            curve(format!("weighted by {column}"), Some(column), RerankingRule::Weighted)?;
        }
        curve("any is right".to_owned(), None, RerankingRule::Oracle)?;
        let figures = AccuracyCurves { problems: problems.len(), answers_each: least, curves };
        print(&self.text(&figures, &problems)?)?;
        if let Some(path) = &self.json {
            analyze::write(path, &(serde_json::to_string_pretty(&figures)? + "\n"))?;
        }
        if let Some(path) = &self.html {
            analyze::write(path, &figures.html())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Answers by their prompts, in the order in which these first occur.
    fn problems(&self) -> Result<Vec<Vec<Sampled>>> {
        let place = hub::records(&self.input)?;
        if !record_files(&place)?.iter().any(|file| file.exists()) {
            bail!("{}: there is no such file", self.input.display());
        }
        let (answers, _) = read_records::<Sampled>(&place, &ReadOptions::default())?;
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut problems: Vec<Vec<Sampled>> = Vec::new();
        for answer in answers {
            let index = *known.entry(answer.prompt.clone()).or_insert(problems.len());
            if index == problems.len() {
                problems.push(Vec::new());
            }
            problems[index].push(answer);
        }
        Ok(problems)
    }

    fn candidates(
        &self,
        problems: &[Vec<Sampled>],
        column: Option<&str>,
        choice: RerankingRule,
    ) -> Result<Vec<Vec<Candidate>>> {
        let verifier: Verifier = self.verifier.into();
        let is_log_odds =
            column.is_some_and(|column| self.log_odds.iter().any(|one| one == column));
        let mut all = Vec::with_capacity(problems.len());
        for answers in problems {
            let said: Vec<Option<String>> =
                answers.iter().map(|answer| answer_of(verifier, &answer.completion)).collect();
            let groups = groups_of(verifier, &said);
            let mut candidates = Vec::with_capacity(answers.len());
            for (answer, group) in answers.iter().zip(groups) {
                let score = column.map_or(Ok(1.0), |column| answer.number(column))?;
                let weighs = choice == RerankingRule::Weighted && is_log_odds;
                let score = if weighs { 1.0 / (1.0 + (-score).exp()) } else { score };
                let expected = answer.expected(&self.answer)?;
                let right = 1.0 <= verify(verifier, &answer.completion, &expected);
                candidates.push(Candidate { group, score, right });
            }
            all.push(candidates);
        }
        Ok(all)
    }

    fn text(&self, figures: &AccuracyCurves, problems: &[Vec<Sampled>]) -> Result<String> {
        let shown_ns: Vec<usize> = figures.curves[0].points.iter().map(|(n, _)| *n).collect();
        let mut header = vec!["chosen by".to_owned()];
        header.extend(shown_ns.iter().map(|n| format!("N = {n}")));
        header.push(String::new());
        let row = |curve: &AccuracyCurve| {
            let mut cells = vec![curve.choice.clone()];
            cells.extend(curve.points.iter().map(|(_, of)| shown(Some(of))));
            cells.push(String::new());
            cells
        };
        let rows: Vec<Vec<String>> = figures.curves.iter().map(row).collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut text = format!(
            "{} problems, {} answers each; percent right, 95 % interval over problems\n\n{}",
            figures.problems,
            figures.answers_each,
            table(&header, &rows)
        );
        let most = shown_ns.last().copied().unwrap_or(1);
        for column in &self.score {
            let found = self.over_majority(problems, column, most)?;
            let shown = found.map_or("–".to_owned(), |of| {
                let [value, low, high] = [of.value, of.low, of.high].map(|share| 100.0 * share);
                format!("{value:+.1} [{low:+.1}, {high:+.1}] points")
            });
            let _ = write!(text, "\nweighted by {column} less majority at N = {most}: {shown}");
        }
        Ok(text.trim_end().to_owned() + "\n")
    }

    /// What weighing votes is worth, problem by problem.
    fn over_majority(
        &self,
        problems: &[Vec<Sampled>],
        column: &str,
        n: usize,
    ) -> Result<Option<Estimate>> {
        let rng = &mut Seeds::new(self.seed).stream("reranking", 0);
        let weighted = self.candidates(problems, Some(column), RerankingRule::Weighted)?;
        let mut of = |candidates: &[Candidate], choice| {
            accuracy_of_choice(candidates, choice, n, self.rounds, rng)
        };
        let differences = weighted.iter().map(|candidates| {
            Some(
                of(candidates, RerankingRule::Weighted)? - of(candidates, RerankingRule::Majority)?,
            )
        });
        // From -1 to 1, as a share of that range.
        let shares = differences.map(|difference| Some(0.5 + 0.5 * difference?));
        let Some(shares) = shares.collect::<Option<Vec<f64>>>() else { return Ok(None) };
        let rng = &mut Seeds::new(self.seed).stream("bootstrap", 0);
        Ok(mean_share(&shares, rng).map(|share| share.map(|share| 2.0 * share - 1.0)))
    }
}

impl Sampled {
    fn number(&self, column: &str) -> Result<f64> {
        let at = &self.source;
        let found = self.columns.get(column).with_context(|| {
            let known: Vec<&str> = self.columns.keys().map(String::as_str).collect();
            format!("{at}: found no column `{column}`, only {}", known.join(", "))
        })?;
        found
            .as_f64()
            .with_context(|| format!("{at}: found {found} in `{column}`, expected a number"))
    }

    fn expected(&self, column: &str) -> Result<String> {
        match self.columns.get(column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => bail!(
                "{}: found no text or number in the column `{column}`, expected the right answer",
                self.source
            ),
        }
    }
}
