//! Training examples out of files that do not fit into memory: records are read as they are wanted, and shuffled
//! over a buffer.
//!
//! ```text
//! files ─► records ─► (held out by prompt?) ─► buffer ─► drawn at random ─► tokens ─► batch
//! ```
//!
//! What is drawn follows from the seed, the epoch and the number of records drawn in it, and from nothing else: a run
//! that goes on reads the files again up to there and draws as before, without making tokens.

use hearken_config::DataConfig;
use hearken_data::{Prompted as _, ReadReport};
use hearken_model::Tokenizer;

use crate::data_report::{DataReport, outcome};
use crate::encode::{Encoder, Example, LengthLimit};
use crate::error::TrainError;
use crate::order::Cursor;
use crate::seeds::Seeds;

mod pass;

use pass::{Pass, Shuffle, Source};

/// Examples that stand for all before the first step: the first of the files.
const SAMPLE_MAX: usize = 1024;

/// Training examples that are read as they are wanted.
pub struct Stream<E: Example> {
    config: DataConfig,
    sources: Vec<Source>,
    seeds: Seeds,
    vocab: usize,
    length: LengthLimit,
    pass: Option<Pass<E::Record>>,
    /// The examples of the batch that was drawn last.
    batch: Vec<E>,
    /// What became of the records that this process drew.
    report: DataReport,
    /// Bad records of the passes before this one.
    skipped_before: usize,
    /// Whether it has been said that there are truncated, dropped and skipped ones.
    said: [bool; 3],
}

/// A batch that was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// How many examples it has.
    pub examples: usize,
    /// What a reader should know.
    pub note: Option<String>,
}

impl<E: Example> std::fmt::Debug for Stream<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// The first examples of a stream, and those that are held out.
pub(crate) struct Beginning<E> {
    pub(crate) sample: Vec<E>,
    pub(crate) eval: Vec<E>,
    pub(crate) report: DataReport,
    pub(crate) eval_report: DataReport,
}

impl<E: Example> Stream<E> {
    /// The stream of the files that `[data]` names. Nothing is read.
    ///
    /// # Errors
    /// If a pattern or folder has no files, or one of them is a store.
    pub(crate) fn new(
        config: &DataConfig,
        encoder: &Encoder<'_>,
        seeds: Seeds,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            config: config.clone(),
            sources: Source::all(config)?,
            seeds,
            vocab: encoder.vocab,
            length: encoder.length,
            pass: None,
            batch: Vec::new(),
            report: DataReport::default(),
            skipped_before: 0,
            said: [false; 3],
        })
    }

    /// The first examples, and those of prompts that are held out among as many records as the buffer has.
    ///
    /// # Errors
    /// If a file cannot be read, or has a record that is bad and is not skipped.
    pub(crate) fn beginning(&self, encoder: &Encoder<'_>) -> Result<Beginning<E>, TrainError> {
        let mut begun = Beginning {
            sample: Vec::new(),
            eval: Vec::new(),
            report: DataReport::default(),
            eval_report: DataReport::default(),
        };
        let mut pass = Pass::new(&self.sources, None, 0);
        let held_out = self.held_out();
        while pass.read() < *self.config.shuffle_buffer {
            let Some(record) = pass.next_in_order()? else { break };
            let is_eval = held_out(&record);
            let (kept, report) = match is_eval {
                true => (&mut begun.eval, &mut begun.eval_report),
                false if begun.sample.len() == SAMPLE_MAX => continue,
                false => (&mut begun.sample, &mut begun.report),
            };
            let found = outcome(&self.config, encoder, &record)?;
            kept.extend(found.kept(report));
        }
        begun.report.skipped += pass.skipped();
        Ok(begun)
    }

    /// Whether a record's prompt is held out: its share of all prompts is `data.eval_fraction`, whatever else there
    /// is, since how many there are is not known.
    fn held_out(&self) -> impl Fn(&E::Record) -> bool + use<E> {
        let (fraction, seed) = (*self.config.eval_fraction, self.seeds.derive("split", 0, 0));
        move |record| 0.0 < fraction && record.prompt_key().lies_below(fraction, seed)
    }

    /// Draws the next batch, which lies within one epoch, and moves the cursor behind it.
    ///
    /// # Errors
    /// If a file cannot be read or has become shorter, a record is bad and is not skipped, or a whole epoch has no
    /// example.
    pub fn draw(
        &mut self,
        tokenizer: Option<&Tokenizer>,
        cursor: &mut Cursor,
        batch_size: usize,
    ) -> Result<Drawn, TrainError> {
        let (vocab, length) = (self.vocab, self.length);
        let DataConfig { completion_only, step_separator, .. } = &self.config.clone();
        let encoder =
            Encoder { tokenizer, vocab, length, completion_only: *completion_only, step_separator };
        self.batch.clear();
        let mut pass = self.pass_at(*cursor)?;
        let first = cursor.epoch;
        while self.batch.len() < batch_size {
            let Some(record) = pass.draw(&self.held_out())? else {
                self.skipped_before += pass.skipped();
                *cursor = Cursor { epoch: cursor.epoch + 1, index: 0 };
                pass = self.pass(cursor.epoch);
                if !self.batch.is_empty() {
                    break;
                }
                if first + 1 < cursor.epoch {
                    return Err(self.no_examples());
                }
                continue;
            };
            cursor.index = pass.drawn;
            let found = outcome(&self.config, &encoder, &record)?;
            self.batch.extend(found.kept(&mut self.report));
        }
        let note = self.news(&pass);
        self.pass = Some(pass);
        Ok(Drawn { examples: self.batch.len(), note })
    }

    /// What became of the records, when something became of one that had become of none before.
    fn news(&mut self, pass: &Pass<E::Record>) -> Option<String> {
        let mut report = self.report.clone();
        report.skipped += self.skipped_before + pass.skipped();
        if report.reasons.is_empty() {
            report.reasons = pass.reasons();
            report.reasons.truncate(ReadReport::REASONS_MAX);
        }
        let seen = [report.truncated, report.dropped, report.skipped].map(|count| 0 < count);
        let is_new = seen != self.said;
        self.said = seen;
        is_new.then(|| report.note("training, so far"))
    }

    /// How the examples come, in words.
    pub(crate) fn note(&self) -> String {
        let files: usize = self.sources.iter().map(Source::files).sum();
        let buffer = *self.config.shuffle_buffer;
        let plural = if files == 1 { "" } else { "s" };
        let order = match self.config.shuffle {
            true if 1 < self.sources.len() => {
                format!("each source shuffled over a buffer of {buffer} records")
            }
            true => format!("shuffled over a buffer of {buffer} records"),
            false => "in their order".to_owned(),
        };
        let note = |source: &Source| source.note(&self.sources);
        let shares = match self.sources.as_slice() {
            [_] => String::new(),
            several => format!("; {}", several.iter().map(note).collect::<Vec<_>>().join(", ")),
        };
        format!("{files} file{plural}, read as they are wanted, {order}{shares}")
    }

    /// Takes the batch that was drawn last.
    pub fn take_batch(&mut self) -> Vec<E> {
        std::mem::take(&mut self.batch)
    }

    /// The examples of the batch that was drawn last.
    pub fn batch(&self) -> &[E] {
        &self.batch
    }

    /// The same, to be changed before they are learned from.
    pub fn batch_mut(&mut self) -> &mut [E] {
        &mut self.batch
    }

    /// The most rows of a sequence.
    pub fn tokens_max(&self) -> usize {
        self.length.tokens_max
    }

    fn no_examples(&self) -> TrainError {
        let path = self.config.training_files().next().cloned().unwrap_or_default();
        let reasons = format!(" ({})", self.report.note("what there is"));
        TrainError::NoExamples { path, reasons }
    }

    /// An epoch from its beginning.
    fn pass(&self, epoch: u64) -> Pass<E::Record> {
        let (seeds, buffer) = (self.seeds, *self.config.shuffle_buffer);
        let shuffle = self.config.shuffle.then_some(Shuffle { seeds, epoch, buffer });
        Pass::new(&self.sources, shuffle, epoch)
    }

    /// The pass that a cursor is in: that of the last batch, or one that is read again up to there.
    fn pass_at(&mut self, cursor: Cursor) -> Result<Pass<E::Record>, TrainError> {
        let here =
            |pass: &Pass<E::Record>| (pass.epoch, pass.drawn) == (cursor.epoch, cursor.index);
        if let Some(pass) = self.pass.take().filter(here) {
            return Ok(pass);
        }
        let mut pass = self.pass(cursor.epoch);
        let held_out = self.held_out();
        while pass.drawn < cursor.index {
            if pass.draw(&held_out)?.is_none() {
                let found = FewerRecords { found: pass.drawn, used: cursor.index };
                return Err(TrainError::Other(found.to_string()));
            }
        }
        Ok(pass)
    }
}

/// Records that are not there any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "`data.train`: found {found} records, expected at least the {used} that the checkpoint has been through: the run \
     cannot go on with other data"
)]
struct FewerRecords {
    found: usize,
    used: usize,
}
