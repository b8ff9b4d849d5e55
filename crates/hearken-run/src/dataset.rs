//! Files of records as examples to train and evaluate on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearken_config::{BadRecords, DataConfig};
use hearken_data::{PromptKey, Prompted as _, ReadReport, held_out};
use hearken_store::open_records;

use crate::encode::{Encoded, Encoder, Example};
use crate::error::{EncodeError, TrainError};
use crate::mix::Mix;
use crate::seeds::Seeds;

/// What became of the records of some files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataReport {
    /// Examples made.
    pub examples: usize,
    /// Of these, examples that lost tokens.
    pub truncated: usize,
    /// Records left out because they are too long.
    pub dropped: usize,
    /// Records left out because they are bad.
    pub skipped: usize,
    /// Why, for the first of them.
    pub reasons: Vec<String>,
    /// Of stores of judgements, what no record came of, and how often.
    pub left_out: Vec<(String, usize)>,
}

impl DataReport {
    fn skip(&mut self, reason: String) {
        self.skipped += 1;
        if self.reasons.len() < ReadReport::REASONS_MAX {
            self.reasons.push(reason);
        }
    }

    /// What a reader should know, in a sentence.
    pub fn note(&self, what: &str) -> String {
        let Self { examples, truncated, dropped, skipped, reasons, left_out } = self;
        let mut parts = vec![format!("{what}: {examples} examples")];
        let counts = [
            (truncated, "truncated"),
            (dropped, "too long and dropped"),
            (skipped, "bad and skipped"),
        ];
        let counted = counts.into_iter().filter(|(count, _)| 0 < **count);
        parts.extend(counted.map(|(count, of)| format!("{count} {of}")));
        parts.extend(left_out.iter().map(|(what, count)| format!("{count} left out ({what})")));
        let note = parts.join(", ");
        match reasons.first() {
            Some(first) => format!("{note}; the first: {first}"),
            None => note,
        }
    }
}

/// Examples to train on and to evaluate on.
#[derive(Clone, Debug)]
pub struct Dataset<E> {
    /// At least one.
    pub train: Vec<E>,
    /// None where the configuration asks for none.
    pub eval: Vec<E>,
    /// Where the training examples came from, source after source, if they are mixed.
    pub mix: Mix,
    /// What became of the training records.
    pub train_report: DataReport,
    /// What became of the evaluation records.
    pub eval_report: DataReport,
}

impl<E: Example> Dataset<E> {
    /// Reads, splits and encodes what `[data]` names.
    ///
    /// # Errors
    /// If a file cannot be read, a record is bad and the configuration does not skip it, or no
    /// example is left.
    pub fn load(
        config: &DataConfig,
        encoder: &Encoder<'_>,
        seeds: Seeds,
    ) -> Result<Self, TrainError> {
        let (mut train_report, mut eval_report) = Default::default();
        let read = Encoding { config, encoder, columns: None };
        let (mut keys, mut all) =
            read.encoded::<E>(&config.train, config.limit, &mut train_report)?;
        let mut ends = Vec::with_capacity(config.mix.len());
        for source in &config.mix {
            let read = Encoding { columns: source.columns.as_ref(), ..read };
            let found = read.encoded::<E>(&source.path, source.limit, &mut train_report)?;
            keys.extend(found.0);
            all.extend(found.1);
            ends.push(all.len());
        }
        let seed = seeds.derive("split", 0, 0);
        let mut of_train: Vec<Vec<_>> = Vec::new();
        of_train.resize_with(config.mix.len().max(1), Vec::new);
        let mut of_eval = Vec::new();
        let held_out = held_out(&keys, *config.eval_fraction, seed)?;
        for (index, (outcome, is_held_out)) in all.into_iter().zip(held_out).enumerate() {
            let source = ends.partition_point(|end| *end <= index);
            let side = if is_held_out { &mut of_eval } else { &mut of_train[source] };
            side.push(outcome);
        }
        if !config.eval.is_empty() {
            (_, of_eval) = read.encoded::<E>(&config.eval, None, &mut eval_report)?;
        }
        let parts: Vec<Vec<E>> =
            of_train.into_iter().map(|part| kept(part, &mut train_report)).collect();
        let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
        let train: Vec<E> = parts.into_iter().flatten().collect();
        let eval = kept(of_eval, &mut eval_report);
        let wanted = [
            (config.training_files().next(), &train, &train_report),
            (config.eval.first(), &eval, &eval_report),
        ];
        for (file, examples, report) in wanted {
            if let (Some(path), true) = (file, examples.is_empty()) {
                let reasons = format!(" ({})", report.note("what there is"));
                return Err(TrainError::NoExamples { path: path.clone(), reasons });
            }
        }
        let mix = Mix::new(&config.mix, &sizes);
        mix.check()?;
        Ok(Self { train, eval, mix, train_report, eval_report })
    }

    /// Rows of each training example.
    pub fn train_rows(&self) -> Vec<usize> {
        self.train.iter().map(Example::rows).collect()
    }
}

/// What became of one record.
enum Outcome<E> {
    Encoded(Encoded<E>),
    /// Why it was skipped.
    Bad(String),
}

/// How records become examples.
#[derive(Clone, Copy)]
struct Encoding<'a> {
    config: &'a DataConfig,
    encoder: &'a Encoder<'a>,
    /// A source's own names for columns.
    columns: Option<&'a BTreeMap<String, String>>,
}

impl Encoding<'_> {
    /// The records of several files or stores, in order, at most `limit` together. Each is encoded as it
    /// is read; of the record itself only the key of its prompt is kept.
    fn encoded<E: Example>(
        self,
        places: &[PathBuf],
        limit: Option<usize>,
        report: &mut DataReport,
    ) -> Result<(Vec<PromptKey>, Vec<Outcome<E>>), TrainError> {
        let (mut keys, mut outcomes) = (Vec::new(), Vec::new());
        for place in places {
            let left = limit.map(|limit| limit - outcomes.len());
            if left == Some(0) {
                break;
            }
            let mut options = self.config.read_options();
            options.limit = left;
            if let Some(columns) = self.columns {
                options.columns.clone_from(columns);
            }
            let mut records = open_records::<E::Record>(place, &options)?;
            for record in records.by_ref() {
                let record = record?;
                keys.push(record.prompt_key());
                outcomes.push(self.outcome(&record)?);
            }
            records.expect_some()?;
            let read = records.into_report();
            report.skipped += read.skipped;
            report.reasons.extend(read.reasons);
            report.reasons.truncate(ReadReport::REASONS_MAX);
            report.left_out.extend(read.left_out);
        }
        Ok((keys, outcomes))
    }

    fn outcome<E: Example>(self, record: &E::Record) -> Result<Outcome<E>, TrainError> {
        match E::encode(record, self.encoder) {
            Ok(encoded) => Ok(Outcome::Encoded(encoded)),
            // Neither a missing tokenizer nor the length is the record's fault.
            Err(error @ (EncodeError::NoTokenizer { .. } | EncodeError::TooLong { .. })) => {
                Err(error.into())
            }
            Err(error) if self.config.bad_records == BadRecords::Skip => {
                Ok(Outcome::Bad(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The examples among some outcomes, which the report counts.
fn kept<E>(outcomes: Vec<Outcome<E>>, report: &mut DataReport) -> Vec<E> {
    let mut examples = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Outcome::Encoded(Encoded::Whole(example)) => examples.push(example),
            Outcome::Encoded(Encoded::Truncated(example)) => {
                report.truncated += 1;
                examples.push(example);
            }
            Outcome::Encoded(Encoded::Dropped) => report.dropped += 1,
            Outcome::Bad(reason) => report.skip(reason),
        }
    }
    report.examples += examples.len();
    examples
}
