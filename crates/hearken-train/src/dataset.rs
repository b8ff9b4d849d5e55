//! Files of records as examples to train and evaluate on.

use std::path::PathBuf;

use hearken_data::{ReadReport, read, split_by_prompt};

use crate::config::{BadRecords, DataConfig};
use crate::encode::{Encoded, Encoder, Example};
use crate::error::{EncodeError, TrainError};
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
        let Self { examples, truncated, dropped, skipped, reasons } = self;
        let mut parts = vec![format!("{what}: {examples} examples")];
        let counts = [
            (truncated, "truncated"),
            (dropped, "too long and dropped"),
            (skipped, "bad and skipped"),
        ];
        let counted = counts.into_iter().filter(|(count, _)| 0 < **count);
        parts.extend(counted.map(|(count, of)| format!("{count} {of}")));
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
        let records = read_all::<E>(config, &config.train, config.limit, &mut train_report)?;
        let split = split_by_prompt(records, *config.eval_fraction, seeds.derive("split", 0, 0))?;
        let mut held_out = split.eval;
        if !config.eval.is_empty() {
            held_out = read_all::<E>(config, &config.eval, None, &mut eval_report)?;
        }
        let train = encode_all(&split.train, config, encoder, &mut train_report)?;
        let eval = encode_all(&held_out, config, encoder, &mut eval_report)?;
        let wanted = [(&config.train, &train, &train_report), (&config.eval, &eval, &eval_report)];
        for (files, examples, report) in wanted {
            if let (Some(path), true) = (files.first(), examples.is_empty()) {
                let reasons = format!(" ({})", report.note("what there is"));
                return Err(TrainError::NoExamples { path: path.clone(), reasons });
            }
        }
        Ok(Self { train, eval, train_report, eval_report })
    }

    /// Rows of each training example.
    pub fn train_rows(&self) -> Vec<usize> {
        self.train.iter().map(Example::rows).collect()
    }
}

/// The records of several files, in order, at most `limit` together.
fn read_all<E: Example>(
    config: &DataConfig,
    files: &[PathBuf],
    limit: Option<usize>,
    report: &mut DataReport,
) -> Result<Vec<E::Record>, TrainError> {
    let mut records: Vec<E::Record> = Vec::new();
    for file in files {
        let left = limit.map(|limit| limit - records.len());
        if left == Some(0) {
            break;
        }
        let mut options = config.read_options();
        options.limit = left;
        let (more, read) = read::<E::Record>(file, &options)?;
        records.extend(more);
        report.skipped += read.skipped;
        report.reasons.extend(read.reasons);
        report.reasons.truncate(ReadReport::REASONS_MAX);
    }
    Ok(records)
}

fn encode_all<E: Example>(
    records: &[E::Record],
    config: &DataConfig,
    encoder: &Encoder<'_>,
    report: &mut DataReport,
) -> Result<Vec<E>, TrainError> {
    let mut examples = Vec::with_capacity(records.len());
    for record in records {
        match E::encode(record, encoder) {
            Ok(Encoded::Whole(example)) => examples.push(example),
            Ok(Encoded::Truncated(example)) => {
                report.truncated += 1;
                examples.push(example);
            }
            Ok(Encoded::Dropped) => report.dropped += 1,
            // Neither a missing tokenizer nor the length is the record's fault.
            Err(error @ (EncodeError::NoTokenizer { .. } | EncodeError::TooLong { .. })) => {
                return Err(error.into());
            }
            Err(error) if config.bad_records == BadRecords::Skip => report.skip(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    report.examples = examples.len();
    Ok(examples)
}
