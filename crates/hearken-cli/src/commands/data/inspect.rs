//! Training data as a model will see it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use hearken_config::Truncation;
use hearken_data::feedback::formats::{detect, holds_judgements};
use hearken_data::feedback::{Judgement, Verdict};
use hearken_data::{OnBadRecord, ReadError, ReadOptions, ReadReport, RecordKind, kind_of, read};
use hearken_hub::ModelPart;
use hearken_model::chat::BUILT_IN_FORMAT;
use hearken_model::steps::STEP_SEPARATOR;
use hearken_model::{ModelConfig, Tokenizer};
use hearken_run::encode::{
    DemonstrationExample, Encoded, Encoder, Example, LengthLimit, PreferenceExample, PromptExample,
    StepsExample, UnpairedExample,
};
use hearken_run::trained_model::load_tokenizer;
use hearken_store::read_records;

use super::paint::{Paint, TokenRole, token_text};
use crate::records::{self, StoredRecords};
use crate::{hub, output};

/// What the records of a file may be.
const EXPECTED: &str = "preferences (`chosen` + `rejected`), unpaired preferences (`prompt` + \
     `completion` + `label`), demonstrations (`messages`, `prompt` + `completion`, or `text`), \
     judged steps (`prompt` + `completions` + `labels`) or prompts (`prompt`)";

/// Parses `COLUMN=NAME`.
pub(in crate::commands) fn column(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(column, name)| !column.is_empty() && !name.is_empty());
    let (column, name) = pair.ok_or("expected COLUMN=NAME, as in prompt=question")?;
    Ok((column.to_owned(), name.to_owned()))
}

/// Shows the first examples of a file and counts over all of it.
pub(in crate::commands) fn show(
    path: &Path,
    model: &Path,
    columns: BTreeMap<String, String>,
    examples: usize,
) -> Result<ExitCode> {
    let (path, model) = (&hub::records(path)?, &hub::model(model, ModelPart::Tokenizer)?);
    let config = ModelConfig::read(model)?;
    let tokenizer = load_tokenizer(model)?;
    let positions = config.max_positions;
    let encoder = Encoder {
        tokenizer: tokenizer.as_ref(),
        vocab: config.vocab,
        // Long examples are shown whole, and counted.
        length: LengthLimit { tokens_max: usize::MAX, truncation: Truncation::Error },
        completion_only: true,
        step_separator: STEP_SEPARATOR,
    };
    let view = View { path, columns, encoder, positions, examples, paint: Paint::detect() };
    let (mut text, is_usable) = view.text()?;
    if tokenizer.as_ref().is_some_and(Tokenizer::uses_built_in_format) {
        let _ = write!(text, "\nlook: {BUILT_IN_FORMAT}");
    }
    text.push('\n');
    output::print(&text)?;
    Ok(if is_usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct View<'a> {
    path: &'a Path,
    columns: BTreeMap<String, String>,
    encoder: Encoder<'a>,
    positions: usize,
    examples: usize,
    paint: Paint,
}

/// An example as the view shows it.
trait Inspectable: Example {
    /// What records of this kind are called.
    const KIND: RecordKind;

    /// Its tokens.
    fn parts(&self) -> Vec<(u32, TokenRole)>;

    /// Whether what is trained on ends as it should; `None` where that has no meaning.
    fn ends(&self, ends: &[u32]) -> Option<bool>;

    /// Whether it is a single completion that was judged bad.
    fn is_bad(&self) -> bool {
        false
    }
}

impl Inspectable for UnpairedExample {
    const KIND: RecordKind = RecordKind::UnpairedPreferences;

    fn parts(&self) -> Vec<(u32, TokenRole)> {
        let judged = if self.desirable { TokenRole::Trained } else { TokenRole::Rejected };
        let prompt = self.prompt.iter().map(|&id| (id, TokenRole::Context));
        prompt.chain(self.completion.iter().map(|&id| (id, judged))).collect()
    }

    fn ends(&self, ends: &[u32]) -> Option<bool> {
        Some(self.completion.last().is_some_and(|last| ends.contains(last)))
    }

    fn is_bad(&self) -> bool {
        !self.desirable
    }
}

impl Inspectable for PreferenceExample {
    const KIND: RecordKind = RecordKind::Preferences;

    fn parts(&self) -> Vec<(u32, TokenRole)> {
        let part = |ids: &[u32], part| ids.iter().map(|&id| (id, part)).collect::<Vec<_>>();
        [
            part(&self.prefix, TokenRole::Context),
            part(&self.chosen, TokenRole::Trained),
            part(&self.rejected, TokenRole::Rejected),
        ]
        .concat()
    }

    fn ends(&self, ends: &[u32]) -> Option<bool> {
        let is_end =
            |ids: &[u32]| ids.last().or(self.prefix.last()).is_some_and(|last| ends.contains(last));
        Some(is_end(&self.chosen) && is_end(&self.rejected))
    }
}

impl Inspectable for DemonstrationExample {
    const KIND: RecordKind = RecordKind::Demonstrations;

    fn parts(&self) -> Vec<(u32, TokenRole)> {
        let mut parts: Vec<(u32, TokenRole)> =
            self.ids.iter().map(|&id| (id, TokenRole::Context)).collect();
        for target in self.targets() {
            parts[target].1 = TokenRole::Trained;
        }
        parts
    }

    fn ends(&self, ends: &[u32]) -> Option<bool> {
        // Every run of trained tokens is a turn that has to learn to stop.
        let is_last = |target: &usize| self.supervised.get(target + 1) != Some(&true);
        let mut lasts = self.targets().filter(is_last);
        Some(lasts.all(|last| ends.contains(&self.ids[last])))
    }
}

impl Inspectable for PromptExample {
    const KIND: RecordKind = RecordKind::Prompts;

    fn parts(&self) -> Vec<(u32, TokenRole)> {
        self.ids.iter().map(|&id| (id, TokenRole::Context)).collect()
    }

    fn ends(&self, _: &[u32]) -> Option<bool> {
        None
    }
}

impl Inspectable for StepsExample {
    const KIND: RecordKind = RecordKind::JudgedSteps;

    /// What is trained on are the last tokens of steps that have labels.
    fn parts(&self) -> Vec<(u32, TokenRole)> {
        let mut parts: Vec<(u32, TokenRole)> =
            self.ids.iter().map(|&id| (id, TokenRole::Context)).collect();
        for step in &self.steps {
            if let Some(label) = step.label {
                parts[step.row].1 =
                    if label <= 0.0 { TokenRole::Rejected } else { TokenRole::Trained };
            }
        }
        parts
    }

    fn ends(&self, _: &[u32]) -> Option<bool> {
        None
    }
}

/// What is known of a file before its records are read.
pub(super) struct FileFacts {
    /// What the records are.
    pub(super) kind: RecordKind,
    /// What told it, as a sentence.
    pub(super) form: String,
}

impl View<'_> {
    /// The view of a file, and whether it has a usable record.
    fn text(&self) -> Result<(String, bool)> {
        let FileFacts { kind, form } = told(self.path, &self.columns)?;
        match kind {
            RecordKind::Preferences => self.of::<PreferenceExample>(&form),
            RecordKind::UnpairedPreferences => self.of::<UnpairedExample>(&form),
            RecordKind::Demonstrations => self.of::<DemonstrationExample>(&form),
            RecordKind::Prompts => self.of::<PromptExample>(&form),
            RecordKind::JudgedSteps => self.of::<StepsExample>(&form),
            RecordKind::RecordedRollouts => bail!(
                "{}: found recorded rollouts, which are token ids already; expected preferences, \
                 demonstrations or prompts",
                hearken_store::shown(self.path).display()
            ),
        }
    }

    fn of<E: Inspectable>(&self, form: &str) -> Result<(String, bool)> {
        let options = ReadOptions {
            columns: self.columns.clone(),
            on_bad_record: OnBadRecord::Skip,
            ..ReadOptions::default()
        };
        let (records, report) = match read_records::<E::Record>(self.path, &options) {
            Ok(read) => read,
            Err(ReadError::NoRecords { report, .. }) => (Vec::new(), report),
            Err(error) => return Err(error.into()),
        };
        let mut counts = FileCounts::default();
        let mut text = format!("{form}\nlegend: {}\n", self.paint.legend());
        for record in &records {
            match E::encode(record, &self.encoder) {
                Ok(Encoded::Whole(example) | Encoded::Truncated(example)) => {
                    let parts = example.parts();
                    let ends = self.encoder.tokenizer.and_then(|tokenizer| {
                        let ends = tokenizer.eos();
                        (!ends.is_empty()).then(|| example.ends(ends)).flatten()
                    });
                    if counts.examples < self.examples {
                        let gap = if counts.examples == 0 { "" } else { "\n" };
                        let number = counts.examples + 1;
                        let _ = writeln!(text, "{gap}example {number}\n{}", self.painted(&parts));
                    }
                    counts.bad_completions += usize::from(example.is_bad());
                    counts.add(&parts, ends, self);
                }
                Ok(Encoded::Dropped) => {}
                Err(error) => counts.refuse(error.to_string()),
            }
        }
        let _ = write!(text, "\n{}", counts.text(E::KIND, &report, self.positions));
        Ok((text, 0 < counts.examples))
    }

    fn painted(&self, parts: &[(u32, TokenRole)]) -> String {
        let tokens: Vec<(String, TokenRole)> = parts
            .iter()
            .map(|&(id, part)| (token_text(id, self.encoder.tokenizer), part))
            .collect();
        self.paint.tokens(&tokens)
    }
}

/// The columns of the first row tell what all of them are.
pub(super) fn told(path: &Path, columns: &BTreeMap<String, String>) -> Result<FileFacts> {
    let place = path;
    let path = hearken_store::shown(place);
    let path = path.display();
    let options = ReadOptions { columns: columns.clone(), ..ReadOptions::default() };
    let store = place.to_str().filter(|place| hearken_store::is_database(place));
    if store.is_some() || holds_judgements(place, &options)?.is_some() {
        return told_by_judgements(place);
    }
    match kind_of(place, &options)? {
        Some((Some(kind), columns)) => {
            Ok(FileFacts { kind, form: format!("{path}: {kind}, by the columns {columns}") })
        }
        Some((None, columns)) => {
            if let Ok(format) = detect(place) {
                bail!(
                    "{path}: found judgements in the format {format}, of which no trainer takes \
                     a record as it stands; `hearken import` brings them into a store, and a \
                     store is training data"
                );
            }
            bail!("{path}:1: found the columns {columns}; expected those of {EXPECTED}")
        }
        None => {
            // Say what is wrong with the first row, as the trainers would.
            let error = read::<hearken_data::Prompt>(place, &options).err();
            let error = error.context("the file changed while it was read")?;
            Err(error.into())
        }
    }
}

/// A store is read as pairs, or as single completions where nothing else was judged.
fn told_by_judgements(path: &Path) -> Result<FileFacts> {
    let StoredRecords { judgements, items, .. } = records::load(&path.to_string_lossy())?;
    let single = |judgement: &Judgement| matches!(judgement.verdict, Verdict::Approval { .. });
    let steps = |judgement: &Judgement| matches!(judgement.verdict, Verdict::Steps { .. });
    let kind = match judgements.as_slice() {
        [] => RecordKind::Prompts,
        all if all.iter().all(steps) => RecordKind::JudgedSteps,
        all if all.iter().all(single) => RecordKind::UnpairedPreferences,
        _ => RecordKind::Preferences,
    };
    let (items, judgements) = (items.len(), judgements.len());
    let place = hearken_store::shown(path);
    let place = place.display();
    let form = format!("{place}: a store of {items} items and {judgements} judgements");
    Ok(FileFacts { kind, form: format!("{form}, read as {kind}") })
}

/// Counts over a whole file.
#[derive(Default)]
struct FileCounts {
    examples: usize,
    tokens: usize,
    trained: usize,
    longest: usize,
    too_long: usize,
    /// Examples of which a turn that is trained on does not end in an end token.
    unended: usize,
    double_bos: usize,
    /// Single completions that were judged bad.
    bad_completions: usize,
    refused: usize,
    first_refusal: Option<String>,
}

impl FileCounts {
    fn add(&mut self, parts: &[(u32, TokenRole)], ends: Option<bool>, view: &View<'_>) {
        let count = |wanted| parts.iter().filter(|(_, part)| *part == wanted).count();
        self.examples += 1;
        self.tokens += parts.len();
        // Of a pair, the rejected branch stands beside what is trained on; a single bad completion is
        // itself what is trained on.
        let is_bad_alone = 0 == count(TokenRole::Trained);
        self.trained +=
            if is_bad_alone { count(TokenRole::Rejected) } else { count(TokenRole::Trained) };
        // The two branches of a preference stand beside one another.
        let branches = count(TokenRole::Trained).max(count(TokenRole::Rejected));
        let length = count(TokenRole::Context) + branches;
        self.longest = self.longest.max(length);
        self.too_long += usize::from(view.positions < length);
        self.unended += usize::from(ends == Some(false));
        let bos = view
            .encoder
            .tokenizer
            .filter(|tokenizer| tokenizer.adds_bos())
            .and_then(Tokenizer::bos);
        let starts_twice =
            bos.is_some_and(|bos| parts.len() > 1 && parts[0].0 == bos && parts[1].0 == bos);
        self.double_bos += usize::from(starts_twice);
    }

    fn refuse(&mut self, reason: String) {
        self.refused += 1;
        self.first_refusal.get_or_insert(reason);
    }

    fn text(&self, kind: RecordKind, report: &ReadReport, positions: usize) -> String {
        let Self { examples, tokens, trained, longest, bad_completions, .. } = *self;
        let share = 100.0 * trained as f64 / tokens.max(1) as f64;
        let sides = match kind {
            RecordKind::UnpairedPreferences => {
                let good = examples - bad_completions;
                format!(" ({good} good and {bad_completions} bad, as KTO and BCO read them)")
            }
            _ => String::new(),
        };
        let mut text = format!(
            "{examples} {kind}{sides}, {tokens} tokens, {trained} trained on ({share:.1} %); \
             the longest has {longest}"
        );
        let mut lint = |count: usize, what: &str| {
            if 0 < count {
                let _ = write!(text, "\nlook: {count} {what}");
            }
        };
        lint(self.too_long, &format!("are longer than the model's {positions} positions"));
        lint(
            self.unended,
            "do not end what is trained on with an end token: nothing teaches the model to stop there",
        );
        lint(self.double_bos, "start with two BOS tokens");
        let bad = report.reasons.first().map_or("", String::as_str);
        lint(report.skipped, &format!("records are bad; the first: {bad}"));
        for (what, count) in &report.left_out {
            lint(*count, &format!("judgements or pairs make no record: {what}"));
        }
        let refused = self.first_refusal.as_deref().unwrap_or_default();
        lint(self.refused, &format!("records make no example; the first: {refused}"));
        text
    }
}
