//! Files of one JSON object per line that can be cut back to a checkpoint, and the fields that every
//! trainer's records share.
//!
//! What a trainer measures is a struct beside its loop, each field documented; `docs/metrics.md`
//! lists them.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hearken_model::{Batch, Model};
use hearken_tensor::Device;
use serde::Serialize;
use serde_json::Value;

use crate::error::RunDirError;
use crate::event_file::EventFile;

/// Fields whose values depend on the machine's clock: they alone may differ between two runs of one
/// configuration.
pub const TIME_FIELDS: [&str; 3] = ["seconds", "tokens_per_s", "wall_time"];

/// A file that grows by one JSON object per line.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// `None` before the first line of this session: until then the file is as it was.
    file: Option<File>,
    bytes: u64,
    /// The last records appended here, at most [`RECENT`].
    recent: VecDeque<Value>,
    /// How many of them nobody has asked for.
    news: usize,
    /// The same for TensorBoard, where that is asked for.
    events: Option<Events>,
    /// Whether another process writes the file.
    follows: bool,
}

/// Event files that follow a log.
#[derive(Debug)]
struct Events {
    folder: PathBuf,
    /// `None` as long as the log has no file.
    file: Option<EventFile>,
}

/// Records that a log remembers.
const RECENT: usize = 16;

impl Log {
    /// A log that goes on after its first `bytes` bytes: it is cut back to them, or made, when it first has
    /// something to write.
    ///
    /// # Errors
    /// If the file cannot be read, or is shorter than `bytes`.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, RunDirError> {
        let found = match std::fs::metadata(path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(RunDirError::io(path, "be read")(error)),
        };
        if found < bytes {
            return Err(RunDirError::ShortLog { path: path.into(), found, expected: bytes });
        }
        let recent = VecDeque::new();
        Ok(Self {
            path: path.into(),
            file: None,
            bytes,
            recent,
            news: 0,
            events: None,
            follows: false,
        })
    }

    /// The log, whose numbers TensorBoard finds in `folder` from when it first has something to write.
    pub fn with_events(mut self, folder: PathBuf) -> Self {
        self.events = Some(Events { folder, file: None });
        self
    }

    /// The log, which another process writes: this one remembers what would be in it.
    pub(crate) fn of_follower(self) -> Self {
        Self { follows: true, ..self }
    }

    /// The records that the log has, one by one.
    ///
    /// # Errors
    /// If the file cannot be read; so is a record if its line is none.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Value, RunDirError>>, RunDirError> {
        let file = match File::open(&self.path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(RunDirError::io(&self.path, "be read")(error)),
        };
        // What is behind was written after the checkpoint that the run goes on from.
        let lines = file.into_iter().flat_map(|file| file.take(self.bytes).lines()).enumerate();
        Ok(lines.map(|(index, line)| {
            let line = line.map_err(RunDirError::io(&self.path, "be read"))?;
            serde_json::from_str(&line).map_err(|error| RunDirError::Broken {
                path: self.path.clone(),
                message: format!("line {}: not a record: {error}", index + 1),
            })
        }))
    }

    /// The file, cut back.
    fn file(&mut self) -> Result<&mut File, RunDirError> {
        let opened = if let Some(file) = self.file.take() {
            file
        } else {
            let at = |action| RunDirError::io(&self.path, action);
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            let mut file = options.open(&self.path).map_err(at("be opened"))?;
            file.set_len(self.bytes).map_err(at("be cut back"))?;
            file.seek(SeekFrom::End(0)).map_err(at("be read"))?;
            file
        };
        Ok(self.file.insert(opened))
    }

    /// Appends one record as a line.
    ///
    /// # Errors
    /// If the line cannot be written.
    ///
    /// # Panics
    /// If the record cannot be JSON: records are this crate's own structs.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), RunDirError> {
        let mut line = serde_json::to_vec(record).expect("records are plain structs");
        self.remember(&line);
        if self.follows {
            return Ok(());
        }
        line.push(b'\n');
        let written = self.file()?.write_all(&line);
        written.map_err(RunDirError::io(&self.path, "be written"))?;
        self.bytes += line.len() as u64;
        self.pass_on()
    }

    /// Gives the record that was just appended to TensorBoard; at first all that there are.
    fn pass_on(&mut self) -> Result<(), RunDirError> {
        let folder = match &mut self.events {
            None => return Ok(()),
            Some(Events { file: Some(file), .. }) => {
                return file.append(self.recent.back().expect("a record was appended"));
            }
            Some(Events { folder, .. }) => folder.clone(),
        };
        let file = Some(EventFile::replace(&folder, || self.records())?);
        self.events = Some(Events { folder, file });
        Ok(())
    }

    fn remember(&mut self, line: &[u8]) {
        let record = serde_json::from_slice(line).expect("it was just written as JSON");
        if RECENT <= self.recent.len() {
            self.recent.pop_front();
        }
        self.recent.push_back(record);
        self.news = (self.news + 1).min(RECENT);
    }

    /// The last records appended since the log was opened.
    pub(crate) fn recent(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.recent.iter()
    }

    /// The records appended since the last call, of those that are remembered.
    pub(crate) fn take_news(&mut self) -> Vec<Value> {
        let news = std::mem::take(&mut self.news);
        self.recent.iter().skip(self.recent.len() - news).cloned().collect()
    }

    /// Makes sure that what was appended is on the disk, and returns the length in bytes.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn sync(&mut self) -> Result<u64, RunDirError> {
        let synced = self.file()?.sync_all();
        synced.map_err(RunDirError::io(&self.path, "be written"))?;
        Ok(self.bytes)
    }
}

/// Measures the time of optimizer steps.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    start: Instant,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The time fields of a record of `tokens`.
    pub fn timing(&self, tokens: u64) -> Timing {
        let seconds = self.seconds();
        // A clock that did not move says nothing about speed.
        let tokens_per_s = if 0.0 < seconds { tokens as f64 / seconds } else { 0.0 };
        Timing { seconds, tokens_per_s }
    }
}

/// The time fields of a metrics record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Seconds that the step took.
    pub seconds: f64,
    /// Tokens through the model per second of the step.
    pub tokens_per_s: f64,
}

/// What a run has used up, over all its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Cost {
    /// Tokens trained on, forward and backward.
    pub tokens: u64,
    /// Floating-point operations, estimated from the model's dimensions.
    pub flops: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Cost {
    /// Adds another cost.
    pub fn add(&mut self, other: Cost) {
        self.tokens += other.tokens;
        self.flops += other.flops;
        self.seconds += other.seconds;
    }
}

/// Floating-point operations of a forward and a backward pass over `batch`: three forward passes, or two
/// where an adapter alone is trained. Other frozen parameters and recomputation are not accounted for.
pub fn training_flops<D: Device>(model: &Model<D>, batch: &Batch) -> f64 {
    let passes = if model.adapter().is_some() { 2.0 } else { 3.0 };
    passes * inference_flops(model, batch)
}

/// Floating-point operations of a forward pass over `batch`, as if every row were predicted from.
pub fn inference_flops<D: Device>(model: &Model<D>, batch: &Batch) -> f64 {
    let rows = batch.rows() as f64;
    let seen: u64 = batch.forest.positions().iter().map(|&position| u64::from(position) + 1).sum();
    if batch.rows() == 0 { 0.0 } else { rows * model.forward_flops(seen as f64 / rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Record {
        step: u64,
    }

    #[test]
    fn a_log_that_is_cut_back_goes_on_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::open(&path, 0).unwrap();
        log.append(&Record { step: 1 }).unwrap();
        let kept = log.sync().unwrap();
        log.append(&Record { step: 2 }).unwrap();
        drop(log);
        let mut log = Log::open(&path, kept).unwrap();
        log.append(&Record { step: 3 }).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":3}\n");
    }

    #[test]
    fn a_log_that_lost_lines_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(matches!(Log::open(&path, 10), Err(RunDirError::ShortLog { found: 3, .. })));
    }
}
