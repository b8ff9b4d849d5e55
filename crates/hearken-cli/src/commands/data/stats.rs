//! `hearken data stats`: what is in files of records.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use hearken_config::Truncation;
use hearken_data::{
    Demonstration, JudgedSteps, OnBadRecord, Preference, Prompt, PromptKey, Prompted, ReadOptions,
    ReadReport, Record, RecordKind, UnpairedPreference,
};
use hearken_hub::ModelPart;
use hearken_model::chat::BUILT_IN_FORMAT;
use hearken_model::steps::STEP_SEPARATOR;
use hearken_model::{ModelConfig, Tokenizer};
use hearken_run::encode::{
    DemonstrationExample, Encoded, Encoder, Example, LengthLimit, PreferenceExample, PromptExample,
    StepsExample, UnpairedExample,
};
use hearken_run::trained_model::load_tokenizer;
use hearken_store::open_records;
use serde::Serialize;
use serde_json::Value;

use super::inspect::{FileFacts, column, told};
use super::speed::tokens_per_s;
use crate::time_left::shown;
use crate::{hub, output};

/// Count over files of records: what is in them, what would be dropped and why, lengths, duplicates
#[derive(Args, Debug)]
pub(super) struct Stats {
    /// Records: a file, a pattern, a folder, or a store of judgements
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,

    /// Evaluation records: how many of their prompts are trained on, too
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,

    /// The model whose tokenizer measures lengths in tokens; without it they are in characters
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// The most tokens of an example: how many are longer; without it the model's positions
    #[arg(long, value_name = "N", requires = "model")]
    max_tokens: Option<usize>,

    /// The file's name for a column, as in prompt=question; may be repeated
    #[arg(long, value_name = "COLUMN=NAME", value_parser = column)]
    column: Vec<(String, String)>,

    /// Read the model's weights, too, and time training on the first records: tokens a second to expect here
    #[arg(long, requires = "model")]
    speed: bool,

    /// Write the counts as one JSON object
    #[arg(long)]
    json: bool,
}

/// What measures the length of a record.
struct Ruler {
    /// The model's folder, where training on it is timed.
    timed: Option<PathBuf>,
    config: ModelConfig,
    tokenizer: Option<Tokenizer>,
}

/// What is in a file.
#[derive(Debug, Serialize)]
struct FileContents {
    path: PathBuf,
    kind: String,
    records: usize,
    /// Records that cannot be used, and why the first of them.
    bad: usize,
    reasons: Vec<String>,
    /// Of a store, what no record came of.
    left_out: Vec<(String, usize)>,
    /// Records that are the same as an earlier one.
    duplicates: usize,
    /// Different prompts.
    prompts: usize,
    /// Of the evaluation records' prompts, those that are here too.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompts_in_eval: Option<usize>,
    /// "tokens" or "characters".
    unit: &'static str,
    lengths: Lengths,
    /// Examples longer than the limit, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    longer: Option<Longer>,
    /// Of training all weights on this machine, an update with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_s: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Longer {
    limit: usize,
    examples: usize,
}

/// Lengths of examples.
#[derive(Debug, Serialize)]
struct Lengths {
    total: usize,
    mean: f64,
    median: usize,
    percentile_95: usize,
    longest: usize,
    /// Examples with lengths from this one to below its double.
    histogram: Vec<(usize, usize)>,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |share: f64| {
            let place = (share * lengths.len().saturating_sub(1) as f64).round() as usize;
            lengths.get(place).copied().unwrap_or(0)
        };
        let total: usize = lengths.iter().sum();
        let mut histogram: BTreeMap<usize, usize> = BTreeMap::new();
        for &length in &lengths {
            *histogram.entry(length.checked_ilog2().map_or(0, |power| 1 << power)).or_default() +=
                1;
        }
        // What lies between two that are there is there with 0.
        let (first, last) = (histogram.keys().next().copied(), histogram.keys().last().copied());
        let mut start = first.unwrap_or(0).max(1);
        while start < last.unwrap_or(0) {
            histogram.entry(start).or_default();
            start *= 2;
        }
        Self {
            total,
            mean: total as f64 / lengths.len().max(1) as f64,
            median: at(0.5),
            percentile_95: at(0.95),
            longest: at(1.0),
            histogram: histogram.into_iter().collect(),
        }
    }
}

impl Stats {
    pub(super) fn run(self) -> Result<ExitCode> {
        let ruler = match &self.model {
            Some(model) => {
                let part = if self.speed { ModelPart::Whole } else { ModelPart::Tokenizer };
                let model = &hub::model(model, part)?;
                Some(Ruler {
                    timed: self.speed.then(|| model.clone()),
                    config: ModelConfig::read(model)?,
                    tokenizer: load_tokenizer(model)?,
                })
            }
            None => None,
        };
        let columns: BTreeMap<String, String> = self.column.iter().cloned().collect();
        let options =
            ReadOptions { columns, on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() };
        let eval = match &self.eval {
            Some(path) => Some(prompts_of(&hub::records(path)?, &options)?),
            None => None,
        };
        let count = Count {
            options: &options,
            ruler: ruler.as_ref(),
            eval: eval.as_ref(),
            limit: self.max_tokens,
        };
        let mut all = Vec::new();
        for path in &self.paths {
            all.push(count.file(&hub::records(path)?)?);
        }
        let text = match self.json {
            true => serde_json::to_string_pretty(&all)? + "\n",
            false => all.iter().map(FileContents::text).collect::<Vec<_>>().join("\n"),
        };
        output::print(&text)?;
        let tokenizer = ruler.as_ref().and_then(|ruler| ruler.tokenizer.as_ref());
        if tokenizer.is_some_and(Tokenizer::uses_built_in_format) {
            output::say(BUILT_IN_FORMAT);
        }
        Ok(match all.iter().all(|found| 0 < found.records) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// The prompts of evaluation records.
fn prompts_of(path: &Path, options: &ReadOptions) -> Result<HashSet<PromptKey>> {
    fn of<R: Record + Prompted>(path: &Path, options: &ReadOptions) -> Result<HashSet<PromptKey>> {
        let mut keys = HashSet::new();
        for record in open_records::<R>(path, options)? {
            keys.insert(record?.prompt_key());
        }
        Ok(keys)
    }
    match told(path, &options.columns)?.kind {
        RecordKind::Preferences => of::<Preference>(path, options),
        RecordKind::UnpairedPreferences => of::<UnpairedPreference>(path, options),
        RecordKind::Demonstrations => of::<Demonstration>(path, options),
        RecordKind::JudgedSteps => of::<JudgedSteps>(path, options),
        RecordKind::Prompts | RecordKind::RecordedRollouts => of::<Prompt>(path, options),
    }
}

#[derive(Clone, Copy)]
struct Count<'a> {
    options: &'a ReadOptions,
    ruler: Option<&'a Ruler>,
    eval: Option<&'a HashSet<PromptKey>>,
    limit: Option<usize>,
}

impl Count<'_> {
    fn file(self, path: &Path) -> Result<FileContents> {
        let told = told(path, &self.options.columns)?;
        match told.kind {
            RecordKind::Preferences => self.of::<PreferenceExample>(path, told),
            RecordKind::UnpairedPreferences => self.of::<UnpairedExample>(path, told),
            RecordKind::Demonstrations => self.of::<DemonstrationExample>(path, told),
            RecordKind::JudgedSteps => self.of::<StepsExample>(path, told),
            RecordKind::Prompts | RecordKind::RecordedRollouts => {
                self.of::<PromptExample>(path, told)
            }
        }
    }

    fn of<E>(self, path: &Path, told: FileFacts) -> Result<FileContents>
    where
        E: Example,
        E::Record: Serialize,
    {
        let encoder = self.ruler.map(|ruler| Encoder {
            tokenizer: ruler.tokenizer.as_ref(),
            vocab: ruler.config.vocab,
            length: LengthLimit { tokens_max: usize::MAX, truncation: Truncation::Error },
            completion_only: true,
            step_separator: STEP_SEPARATOR,
        });
        let (mut seen, mut prompts) = (HashSet::new(), HashSet::new());
        let (mut lengths, mut duplicates, mut refused) = (Vec::new(), 0, ReadReport::default());
        let mut records = open_records::<E::Record>(path, self.options)?;
        for record in records.by_ref() {
            let record = record?;
            let json = serde_json::to_value(&record)?;
            let length = match &encoder {
                None => characters(&json),
                Some(encoder) => match E::encode(&record, encoder) {
                    Ok(Encoded::Whole(example) | Encoded::Truncated(example)) => example.rows(),
                    Ok(Encoded::Dropped) => continue,
                    Err(error) => {
                        refused.skipped += 1;
                        refused.reasons.push(error.to_string());
                        continue;
                    }
                },
            };
            duplicates += usize::from(!seen.insert(PromptKey::of_text(&json.to_string())));
            prompts.insert(record.prompt_key());
            lengths.push(length);
        }
        let report = records.into_report();
        let timed = self.ruler.and_then(|ruler| ruler.timed.as_deref());
        let tokens_per_s = match timed.filter(|_| !lengths.is_empty()) {
            Some(model) => tokens_per_s(path, told.kind, model, &self.options.columns, &lengths)?,
            None => None,
        };
        let limit = self.limit.or(self.ruler.map(|ruler| ruler.config.max_positions));
        let longer = limit.map(|limit| Longer {
            limit,
            examples: lengths.iter().filter(|length| limit < **length).count(),
        });
        let reasons = report.reasons.into_iter().chain(refused.reasons);
        Ok(FileContents {
            path: hearken_store::shown(path),
            kind: told.form,
            records: lengths.len(),
            bad: report.skipped + refused.skipped,
            reasons: reasons.take(ReadReport::REASONS_MAX).collect(),
            left_out: report.left_out,
            duplicates,
            prompts: prompts.len(),
            prompts_in_eval: self.eval.map(|eval| eval.intersection(&prompts).count()),
            unit: if encoder.is_some() { "tokens" } else { "characters" },
            lengths: Lengths::of(lengths),
            longer,
            tokens_per_s,
        })
    }
}

/// Characters of all texts in a value, names of roles aside.
fn characters(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(values) => values.iter().map(characters).sum(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "role")
            .map(|(_, value)| characters(value))
            .sum(),
        _ => 0,
    }
}

impl FileContents {
    fn text(&self) -> String {
        const BAR: usize = 30;
        let Self { records, bad, duplicates, prompts, unit, .. } = self;
        let share = |count: usize| 100.0 * count as f64 / (*records).max(1) as f64;
        let mut text = format!("{}\n{records} records", self.kind);
        let _ = match self.reasons.first() {
            Some(first) => writeln!(text, ", and {bad} bad ones; the first: {first}"),
            None => writeln!(text),
        };
        for (what, count) in &self.left_out {
            let _ = writeln!(text, "{count} judgements or pairs make no record: {what}");
        }
        let _ = writeln!(
            text,
            "{prompts} different prompts; {duplicates} records ({:.1} %) are the same as an earlier one",
            share(*duplicates)
        );
        if let Some(shared) = self.prompts_in_eval {
            let _ = writeln!(text, "{shared} of these prompts are in the evaluation records too");
        }
        let Lengths { total, mean, median, percentile_95, longest, histogram } = &self.lengths;
        let _ = writeln!(
            text,
            "{unit} of an example: mean {mean:.1}, median {median}, 95 % up to {percentile_95}, longest {longest}; {total} in all"
        );
        if let Some(Longer { limit, examples }) = &self.longer {
            let _ = writeln!(
                text,
                "{examples} ({:.1} %) are longer than {limit} tokens",
                share(*examples)
            );
        }
        if let Some(speed) = &self.tokens_per_s {
            let epoch = Duration::try_from_secs_f64((*total as f64 / speed).max(1.0));
            let epoch = shown(epoch.unwrap_or(Duration::MAX));
            let _ = writeln!(
                text,
                "about {speed:.0} tokens/s in training all weights here: a pass over all in about {epoch}"
            );
        }
        let most = histogram.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        for (start, count) in histogram {
            let range = match start {
                0 => "0".to_owned(),
                start => format!("{start} to {}", 2 * start - 1),
            };
            let bar = "█".repeat((count * BAR).div_ceil(most));
            let _ = writeln!(text, "{range:>16}  {count:>7}  {bar}");
        }
        text
    }
}
