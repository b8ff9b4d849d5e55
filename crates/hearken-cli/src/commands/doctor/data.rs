//! Training data as a model will see it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hearken_data::{OnBadRecord, ReadError, ReadOptions, ReadReport, read};
use hearken_model::{ModelConfig, Tokenizer};
use hearken_train::config::Truncation;
use hearken_train::encode::{
    DemonstrationExample, Encoded, Encoder, Example, LengthLimit, PreferenceExample, PromptExample,
};
use hearken_train::trained_model::load_tokenizer;

use super::paint::{Paint, Part, token_text};
use crate::output;

/// Parses `COLUMN=NAME`.
pub(super) fn column(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(column, name)| !column.is_empty() && !name.is_empty());
    let (column, name) = pair.ok_or("expected COLUMN=NAME, as in prompt=question")?;
    Ok((column.to_owned(), name.to_owned()))
}

/// Shows the first examples of a file and counts over all of it.
pub(super) fn show(
    path: &Path,
    model: &Path,
    columns: BTreeMap<String, String>,
    examples: usize,
) -> Result<ExitCode> {
    let config = ModelConfig::read(model)?;
    let tokenizer = load_tokenizer(model)?;
    let positions = config.max_positions;
    let encoder = Encoder {
        tokenizer: tokenizer.as_ref(),
        vocab: config.vocab,
        // Long examples are shown whole, and counted.
        length: LengthLimit { tokens_max: usize::MAX, truncation: Truncation::Error },
        completion_only: true,
    };
    let view = View { path, columns, encoder, positions, examples, paint: Paint::detect() };
    let mut text = view.text()?;
    text.push('\n');
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
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
trait Shown: Example {
    /// What records of this kind are called.
    const KIND: &'static str;

    /// Its tokens.
    fn parts(&self) -> Vec<(u32, Part)>;

    /// Whether what is trained on ends as it should; `None` where that has no meaning.
    fn ends(&self, ends: &[u32]) -> Option<bool>;
}

impl Shown for PreferenceExample {
    const KIND: &'static str = "preferences";

    fn parts(&self) -> Vec<(u32, Part)> {
        let part = |ids: &[u32], part| ids.iter().map(|&id| (id, part)).collect::<Vec<_>>();
        [
            part(&self.prefix, Part::Context),
            part(&self.chosen, Part::Trained),
            part(&self.rejected, Part::Rejected),
        ]
        .concat()
    }

    fn ends(&self, ends: &[u32]) -> Option<bool> {
        let is_end =
            |ids: &[u32]| ids.last().or(self.prefix.last()).is_some_and(|last| ends.contains(last));
        Some(is_end(&self.chosen) && is_end(&self.rejected))
    }
}

impl Shown for DemonstrationExample {
    const KIND: &'static str = "demonstrations";

    fn parts(&self) -> Vec<(u32, Part)> {
        let mut parts: Vec<(u32, Part)> = self.ids.iter().map(|&id| (id, Part::Context)).collect();
        for target in self.targets() {
            parts[target].1 = Part::Trained;
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

impl Shown for PromptExample {
    const KIND: &'static str = "prompts";

    fn parts(&self) -> Vec<(u32, Part)> {
        self.ids.iter().map(|&id| (id, Part::Context)).collect()
    }

    fn ends(&self, _: &[u32]) -> Option<bool> {
        None
    }
}

impl View<'_> {
    /// The kind of record with which the file can be read; the most particular first.
    fn text(&self) -> Result<String> {
        if let Some(text) = self.kind::<PreferenceExample>()? {
            return Ok(text);
        }
        if let Some(text) = self.kind::<DemonstrationExample>()? {
            return Ok(text);
        }
        if let Some(text) = self.kind::<PromptExample>()? {
            return Ok(text);
        }
        // Say what is wrong with the first record, as the trainers would.
        let options = ReadOptions { columns: self.columns.clone(), ..ReadOptions::default() };
        let error = read::<hearken_data::Demonstration>(self.path, &options).err();
        let error = error.context("the file changed while it was read")?;
        Err(anyhow::Error::from(error))
    }

    /// The view of a file of one kind of records; `None` if it holds no such record.
    fn kind<E: Shown>(&self) -> Result<Option<String>> {
        let options = ReadOptions {
            columns: self.columns.clone(),
            on_bad_record: OnBadRecord::Skip,
            ..ReadOptions::default()
        };
        let (records, report) = match read::<E::Record>(self.path, &options) {
            Ok(read) => read,
            Err(ReadError::NoRecords { .. } | ReadError::UnknownField { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut counts = Counts::default();
        let mut text = format!("legend: {}\n", self.paint.legend());
        for record in &records {
            match E::encode(record, &self.encoder) {
                Ok(Encoded::Whole(example) | Encoded::Truncated(example)) => {
                    let parts = example.parts();
                    let ends = self.encoder.tokenizer.and_then(|tokenizer| {
                        let ends = tokenizer.eos();
                        (!ends.is_empty()).then(|| example.ends(ends)).flatten()
                    });
                    if counts.examples < self.examples {
                        let _ = write!(
                            text,
                            "\nexample {}\n{}\n",
                            counts.examples + 1,
                            self.painted(&parts)
                        );
                    }
                    counts.add(&parts, ends, self);
                }
                Ok(Encoded::Dropped) => {}
                Err(error) => counts.refuse(error.to_string()),
            }
        }
        let _ = write!(text, "\n{}", counts.text(E::KIND, &report, self.positions));
        Ok(Some(text))
    }

    fn painted(&self, parts: &[(u32, Part)]) -> String {
        let tokens: Vec<(String, Part)> = parts
            .iter()
            .map(|&(id, part)| (token_text(id, self.encoder.tokenizer), part))
            .collect();
        self.paint.tokens(&tokens)
    }
}

/// Counts over a whole file.
#[derive(Default)]
struct Counts {
    examples: usize,
    tokens: usize,
    trained: usize,
    longest: usize,
    too_long: usize,
    /// Examples of which a turn that is trained on does not end in an end token.
    unended: usize,
    double_bos: usize,
    refused: usize,
    first_refusal: Option<String>,
}

impl Counts {
    fn add(&mut self, parts: &[(u32, Part)], ends: Option<bool>, view: &View<'_>) {
        let count = |wanted| parts.iter().filter(|(_, part)| *part == wanted).count();
        self.examples += 1;
        self.tokens += parts.len();
        self.trained += count(Part::Trained);
        // The two branches of a preference stand beside one another.
        let branches = count(Part::Trained).max(count(Part::Rejected));
        let length = count(Part::Context) + branches;
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

    fn text(&self, kind: &str, report: &ReadReport, positions: usize) -> String {
        let Self { examples, tokens, trained, longest, .. } = *self;
        let share = 100.0 * trained as f64 / tokens.max(1) as f64;
        let mut text = format!(
            "{examples} {kind}, {tokens} tokens, {trained} trained on ({share:.1} %); \
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
        let refused = self.first_refusal.as_deref().unwrap_or_default();
        lint(self.refused, &format!("records make no example; the first: {refused}"));
        text
    }
}
