//! What becomes of records: examples, or why there is none.

use hearken_config::{BadRecords, DataConfig};
use hearken_data::ReadReport;

use crate::encode::{Encoded, Encoder, Example};
use crate::error::{EncodeError, TrainError};

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
    pub(crate) fn skip(&mut self, reason: String) {
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

/// What became of one record.
pub(crate) enum RecordFate<E> {
    Encoded(Encoded<E>),
    /// Why it was skipped.
    Bad(String),
}

impl<E> RecordFate<E> {
    /// The example, if there is one; the report counts what became of the record.
    pub(crate) fn kept(self, report: &mut DataReport) -> Option<E> {
        let example = match self {
            Self::Encoded(Encoded::Whole(example)) => example,
            Self::Encoded(Encoded::Truncated(example)) => {
                report.truncated += 1;
                example
            }
            Self::Encoded(Encoded::Dropped) => {
                report.dropped += 1;
                return None;
            }
            Self::Bad(reason) => {
                report.skip(reason);
                return None;
            }
        };
        report.examples += 1;
        Some(example)
    }
}

/// Makes an example of a record.
pub(crate) fn outcome<E: Example>(
    config: &DataConfig,
    encoder: &Encoder<'_>,
    record: &E::Record,
) -> Result<RecordFate<E>, TrainError> {
    match E::encode(record, encoder) {
        Ok(encoded) => Ok(RecordFate::Encoded(encoded)),
        // Neither a missing tokenizer nor the length is the record's fault.
        Err(error @ (EncodeError::NoTokenizer { .. } | EncodeError::TooLong { .. })) => {
            Err(error.into())
        }
        Err(error) if config.bad_records == BadRecords::Skip => {
            Ok(RecordFate::Bad(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The examples among some outcomes, which the report counts.
pub(crate) fn kept<E>(outcomes: Vec<RecordFate<E>>, report: &mut DataReport) -> Vec<E> {
    outcomes.into_iter().filter_map(|outcome| outcome.kept(report)).collect()
}
