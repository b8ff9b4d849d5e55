//! Completions that are made ahead of the training on them: `[rollout] ahead`.
//!
//! With S iterations ahead, the completions of iteration i are by the policy that iteration i − S starts with (by the first
//! policy where there is none), always: which policy wrote what does not depend on anybody's speed, so that a
//! run is the same whenever it is made, and goes on bit for bit from a checkpoint, which has the completions that wait. What was
//! completed since the checkpoint stands in a journal, so that it is not asked for again: servers would write the same tokens,
//! but their probabilities may differ in last bits.
//! Servers complete the prompts of iteration i + S while this process trains on iteration i; a model in this process
//! completes them before.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::{fs, io};

use hearken_data::{Completion, JsonLinesAppender};
use hearken_generate::SamplingRequest;
use hearken_run::error::TrainError;
use hearken_run::ranks::Ranks;
use hearken_run::run_dir::checkpoint::{Checkpoint, StateFile};
use serde::{Deserialize, Serialize};

use super::sample::{Observer, tell};

/// The file of a checkpoint.
const FILE: &str = "ahead.json";
/// The journal of a run.
const JOURNAL: &str = "ahead.jsonl";

/// Completions by prompt.
pub(crate) type Groups = Vec<Vec<Completion>>;

/// The completions of an iteration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeAhead {
    /// Optimizer steps that the policy had made.
    pub(crate) version: u64,
    /// In the order of the prompts.
    groups: Groups,
}

/// Completions by iteration.
pub(crate) type MadeByIteration = BTreeMap<u64, MadeAhead>;

/// An iteration that is being completed.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) iteration: u64,
    pub(crate) version: u64,
    /// Prompts of the iteration, those of other processes among them.
    pub(crate) prompts: usize,
    /// Completes those of this process.
    pub(crate) thread: JoinHandle<Result<Groups, TrainError>>,
}

/// What waits to be trained on.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Iterations between sampling and training; 0 is none.
    pub(crate) iterations: u64,
    pub(crate) made: MadeByIteration,
    pub(crate) pending: Option<Pending>,
    journal: Journal,
}

/// What was completed since the last checkpoint, a line an iteration.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    /// Whether what stands in it is of no use any more.
    is_done: bool,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JournalLine {
    iteration: u64,
    made: MadeAhead,
}

impl Journal {
    fn append(&mut self, line: &JournalLine) -> Result<(), TrainError> {
        if std::mem::take(&mut self.is_done) {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.unusable(&error));
                }
                _ => {}
            }
        }
        let appended = JsonLinesAppender::open(&self.path).and_then(|mut file| file.append(line));
        appended.map_err(|error| TrainError::Other(error.to_string()))
    }

    /// The lines that are whole; the last one may have been cut off.
    fn read(&self) -> Result<Vec<JournalLine>, TrainError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| self.unusable(&error))?,
        };
        Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
    }

    fn unusable(&self, error: &io::Error) -> TrainError {
        TrainError::Other(format!("{}: {error}", self.path.display()))
    }
}

impl MadeAhead {
    /// Whether these are completions of so many prompts.
    pub(crate) fn fits(&self, prompts: usize, completions: usize) -> bool {
        self.groups.len() == prompts && self.groups.iter().all(|group| group.len() == completions)
    }

    /// Gives what was made as whoever samples does.
    pub(crate) fn sampler(
        &self,
        ranks: &Ranks,
    ) -> impl FnMut(&[SamplingRequest], Observer<'_>) -> Result<Groups, TrainError> + use<> {
        let own = ranks.shares(&vec![1; self.groups.len()]).pick(&self.groups);
        move |_, observer| {
            let told = own
                .iter()
                .enumerate()
                .try_for_each(|(request, group)| tell(request, group, observer));
            match told {
                ControlFlow::Continue(()) => Ok(own.clone()),
                ControlFlow::Break(()) => {
                    Err(TrainError::Generate("sampling was stopped".to_owned()))
                }
            }
        }
    }
}

impl Ahead {
    /// What waits in a run in `dir` that goes on from `checkpoint`, where there is one.
    ///
    /// # Errors
    /// If what the checkpoint has cannot be read.
    pub(crate) fn open(
        iterations: u64,
        dir: &Path,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let journal = Journal { path: dir.join(JOURNAL), is_done: checkpoint.is_none() };
        let mut made = MadeByIteration::new();
        if let Some(checkpoint) = checkpoint.filter(|_| 0 < iterations) {
            made = checkpoint.state_file(FILE)?.unwrap_or_default();
            for JournalLine { iteration, made: since } in journal.read()? {
                made.entry(iteration).or_insert(since);
            }
        }
        Ok(Self { iterations, made, pending: None, journal })
    }

    /// Whether an iteration's completions are there, or are being made.
    pub(crate) fn has(&self, iteration: u64) -> bool {
        let is_pending = self.pending.as_ref().is_some_and(|one| one.iteration == iteration);
        is_pending || self.made.contains_key(&iteration)
    }

    /// Waits for what is being made.
    ///
    /// # Errors
    /// If a prompt could not be completed.
    pub(crate) fn settle(&mut self, ranks: &Ranks) -> Result<(), TrainError> {
        let Some(Pending { iteration, version, prompts, thread }) = self.pending.take() else {
            return Ok(());
        };
        let own = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.keep(iteration, version, prompts, own, ranks)
    }

    /// Keeps the completions of an iteration's `prompts`, of which this process has made `own`.
    ///
    /// # Errors
    /// If a prompt could not be completed.
    pub(crate) fn keep(
        &mut self,
        iteration: u64,
        version: u64,
        prompts: usize,
        own: Result<Groups, TrainError>,
        ranks: &Ranks,
    ) -> Result<(), TrainError> {
        let own = ranks.agree(own)?;
        let groups = ranks.whole(&ranks.shares(&vec![1; prompts]), own);
        let line = JournalLine { iteration, made: MadeAhead { version, groups } };
        if ranks.is_first() {
            self.journal.append(&line)?;
        }
        self.made.insert(iteration, line.made);
        Ok(())
    }

    /// What a checkpoint between two iterations has; the journal begins anew behind it.
    pub(crate) fn file(&mut self) -> Option<StateFile> {
        self.journal.is_done = true;
        let json = || serde_json::to_vec(&self.made).expect("completions are plain structs");
        (!self.made.is_empty()).then(|| StateFile { name: FILE, json: json() })
    }
}
