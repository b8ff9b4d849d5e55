//! Files of records as examples to train and evaluate on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearken_config::DataConfig;
use hearken_data::{PromptKey, Prompted as _, ReadReport, held_out};
use hearken_store::open_records;

use crate::data_report::{DataReport, RecordFate, kept, outcome};
use crate::encode::{Encoder, Example};
use crate::error::TrainError;
use crate::mix::Mix;
use crate::seeds::Seeds;
use crate::stream::{Beginning, Stream};

/// Examples to train on and to evaluate on.
pub struct Dataset<E: Example> {
    /// At least one: all of them, or the first of a stream, which stand for it before the first step.
    pub train: Vec<E>,
    /// Where they are read as they are wanted, the others.
    pub stream: Option<Stream<E>>,
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
        if config.streaming {
            return Self::stream(config, encoder, seeds);
        }
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
        let mix = Mix::new(&config.mix, &sizes);
        let found = Self { train, stream: None, eval, mix, train_report, eval_report };
        found.check(config)?;
        found.mix.check()?;
        Ok(found)
    }

    /// The beginning of what is read as it is wanted.
    fn stream(
        config: &DataConfig,
        encoder: &Encoder<'_>,
        seeds: Seeds,
    ) -> Result<Self, TrainError> {
        let stream = Stream::new(config, encoder, seeds)?;
        let Beginning { sample, mut eval, report, mut eval_report } = stream.beginning(encoder)?;
        if !config.eval.is_empty() {
            let read = Encoding { config, encoder, columns: None };
            let (_, of_eval) = read.encoded::<E>(&config.eval, None, &mut eval_report)?;
            eval = kept(of_eval, &mut eval_report);
        }
        let (train, train_report, mix) = (sample, report, Mix::default());
        let found = Self { train, stream: Some(stream), eval, mix, train_report, eval_report };
        found.check(config)?;
        if 0.0 < *config.eval_fraction && found.eval.is_empty() {
            return Err(TrainError::Other(format!(
                "`data.eval_fraction`: found no prompt that is held out among the first {} records, expected a larger \
                 share, a larger `data.shuffle_buffer`, or files of their own, `data.eval`",
                *config.shuffle_buffer
            )));
        }
        Ok(found)
    }

    /// Refuses to go without examples.
    fn check(&self, config: &DataConfig) -> Result<(), TrainError> {
        let wanted = [
            (config.training_files().next(), &self.train, &self.train_report),
            (config.eval.first(), &self.eval, &self.eval_report),
        ];
        for (file, examples, report) in wanted {
            if let (Some(path), true) = (file, examples.is_empty()) {
                let reasons = format!(" ({})", report.note("what there is"));
                return Err(TrainError::NoExamples { path: path.clone(), reasons });
            }
        }
        Ok(())
    }

    /// The training example with this number: of all, or of the batch that a stream gave last.
    pub fn training(&self, index: usize) -> &E {
        match self.stream.as_ref().map(Stream::batch).filter(|batch| !batch.is_empty()) {
            Some(batch) => &batch[index],
            None => &self.train[index],
        }
    }

    /// Rows of each training example.
    pub fn train_rows(&self) -> Vec<usize> {
        self.train.iter().map(Example::rows).collect()
    }
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
    ) -> Result<(Vec<PromptKey>, Vec<RecordFate<E>>), TrainError> {
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
                outcomes.push(outcome(self.config, self.encoder, &record)?);
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
}
