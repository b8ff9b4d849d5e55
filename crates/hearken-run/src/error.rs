//! Why a trainer stops.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use hearken_config::ConfigError;
use hearken_data::{ReadError, Source, SplitError};
use hearken_judge::JudgeError;
use hearken_model::ModelError;
use hearken_model::checkpoint::CheckpointError;
use hearken_model::tokenizer::TokenizerError;
use hearken_reward_source::RewardError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::order::FewerExamples;
use crate::ranks::Ranks;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run directory is not usable.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A file of records is not usable.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There are fewer records than the run has been through.
    #[error(transparent)]
    FewerExamples(#[from] FewerExamples),
    /// Records cannot be split.
    #[error("`data.eval_fraction`: {0}")]
    Split(#[from] SplitError),
    /// A record does not make an example.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A model cannot be loaded or saved.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model's config.json is not usable.
    #[error(transparent)]
    ModelConfig(#[from] hearken_model::config::ConfigError),
    /// A tokenizer cannot be loaded or saved.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The state of the optimizer cannot be loaded or saved.
    #[error(transparent)]
    State(#[from] StateError),
    /// A number that is not one.
    #[error("step {step}: {reason}; the last checkpoint is kept")]
    NonFinite {
        /// The optimizer step.
        step: u64,
        /// Where it shows first.
        reason: NonFinite,
    },
    /// A pattern of frozen parameters that names none.
    #[error("`model.freeze`: the pattern {pattern:?} matches no parameter; there are {examples}")]
    FreezeMatchesNothing {
        /// The pattern.
        pattern: String,
        /// A few names of parameters.
        examples: String,
    },
    /// Every parameter is frozen.
    #[error("`model.freeze` leaves no parameter to train")]
    NothingToTrain,
    /// No example is left to train on.
    #[error("{}: found no usable example{reasons}, expected at least one", path.display())]
    NoExamples {
        /// The first file of records.
        path: PathBuf,
        /// What happened to the records.
        reasons: String,
    },
    /// There are no scores.
    #[error(transparent)]
    Reward(Box<RewardError>),
    /// There are no preferences.
    #[error("judge: {0}")]
    Judge(Box<JudgeError>),
    /// A teacher behind a server says nothing.
    #[error("`teacher.server`: {0}")]
    Teacher(String),
    /// There are no scores or preferences in the midst of a run, which is kept.
    #[error(
        "{error}; nothing is lost: {} has a checkpoint of step {step}; when the cause is removed, the \
         same command, without --fresh, goes on from there", run.display()
    )]
    Kept {
        /// What failed.
        error: Box<TrainError>,
        /// The run directory.
        run: PathBuf,
        /// Optimizer steps that the run has made.
        step: u64,
    },
    /// There are no scores or preferences in the midst of a run, which cannot be kept.
    #[error("{error}; and what was trained since the last checkpoint is lost: {checkpoint}")]
    NotKept {
        /// What failed.
        error: Box<TrainError>,
        /// Why no checkpoint was written.
        checkpoint: Box<TrainError>,
    },
    /// Another process of the run cannot go on.
    #[error("rank {rank}: {message}")]
    Elsewhere {
        /// Its number.
        rank: usize,
        /// What it says.
        message: String,
        /// Whether it has no scores or preferences.
        is_of_opinions: bool,
    },
    /// Another process of the run has read something else.
    #[error(
        "rank {rank}: found another {what} than rank 0, expected the same: all ranks run one command, and see \
         the same files"
    )]
    Differs {
        /// Its number.
        rank: usize,
        /// What differs.
        what: &'static str,
    },
    /// Sampling failed.
    #[error("sampling: {0}")]
    Generate(String),
    /// A part of the run that has its own errors.
    #[error("{0}")]
    Other(String),
}

impl TrainError {
    /// Whether there are no scores or preferences, or nothing of a teacher, here or elsewhere.
    pub fn is_of_opinions(&self) -> bool {
        matches!(
            self,
            Self::Reward(_)
                | Self::Judge(_)
                | Self::Teacher(_)
                | Self::Elsewhere { is_of_opinions: true, .. }
        )
    }

    /// What the others say of it.
    fn elsewhere(rank: usize, (message, is_of_opinions): (String, bool)) -> Self {
        Self::Elsewhere { rank, message, is_of_opinions }
    }
}

impl Ranks {
    /// What came of some work that all processes did: an error everywhere if it is one anywhere, so that none waits
    /// for another that has given up.
    ///
    /// # Errors
    /// This process's own, or [`TrainError::Elsewhere`].
    pub fn agree<T>(&self, own: Result<T, TrainError>) -> Result<T, TrainError> {
        let told = own.as_ref().err().map(|error| (error.to_string(), error.is_of_opinions()));
        let mut told = self.gather(told).into_iter().enumerate();
        match (own, told.find_map(|(rank, told)| Some((rank, told?)))) {
            (Ok(_), Some((rank, told))) => Err(TrainError::elsewhere(rank, told)),
            (Err(_), Some((rank, told))) if rank != self.rank() => {
                Err(TrainError::elsewhere(rank, told))
            }
            (own, _) => own,
        }
    }

    /// What the first process's work gives, which it alone does.
    ///
    /// # Errors
    /// Those of its work.
    pub fn lead<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let (value, error) = match self.is_first().then(work) {
            Some(Ok(value)) => (Some(value), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let told = error.as_ref().map(|error| (error.to_string(), error.is_of_opinions()));
        let first = self.gather((value, told)).into_iter().next();
        match (first, error) {
            (_, Some(error)) => Err(error),
            (Some((Some(value), _)), None) => Ok(value),
            (Some((None, Some(told))), None) => Err(TrainError::elsewhere(0, told)),
            _ => unreachable!("the first process has a value or an error"),
        }
    }
}

impl From<RewardError> for TrainError {
    fn from(error: RewardError) -> Self {
        Self::Reward(Box::new(error))
    }
}

impl From<JudgeError> for TrainError {
    fn from(error: JudgeError) -> Self {
        Self::Judge(Box::new(error))
    }
}

/// Why a run directory is not usable.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refuses.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as in "cannot …".
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Another process works here.
    #[error("{}: in use by process {pid}; wait for it, or choose another `run.dir`", dir.display())]
    Locked {
        /// The run directory.
        dir: PathBuf,
        /// The process, as it wrote itself down.
        pid: String,
    },
    /// The run there has another configuration.
    #[error(
        "{}: holds a run with `{key}` = {stored}, found {given}; --fresh moves that run aside and \
         starts anew", dir.display()
    )]
    Different {
        /// The run directory.
        dir: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value there.
        stored: String,
        /// Its value now.
        given: String,
    },
    /// Something has the name of what a run writes, in a folder that is no run's.
    #[error(
        "{}: holds {name}, and is not the folder of a run; nothing there is replaced: choose another \
         `run.dir`", dir.display()
    )]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// What is there.
        name: &'static str,
    },
    /// What a run reads lies where it writes.
    #[error(
        "`{key}`: {} lies in the run directory {}, which the run writes; move it, or choose another \
         `run.dir`", path.display(), dir.display()
    )]
    InputInside {
        /// The key that names it.
        key: String,
        /// The input.
        path: PathBuf,
        /// The run directory.
        dir: PathBuf,
    },
    /// A finished run that cannot go on.
    #[error(
        "{}: holds the model of a finished run (final/) and no checkpoint to go on from; --fresh moves \
         it aside and starts anew", dir.display()
    )]
    NoCheckpoint {
        /// The run directory.
        dir: PathBuf,
    },
    /// The run there was made from other inputs.
    #[error(
        "{}: {change} than when the checkpoint of step {step} was made; put it back as it was, or start \
         anew with --fresh, which moves this run aside", dir.display()
    )]
    OtherInput {
        /// The run directory.
        dir: PathBuf,
        /// What has changed.
        change: String,
        /// Steps of the checkpoint.
        step: u64,
    },
    /// A stored file that does not parse.
    #[error("{}: {message}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A log that is shorter than when the checkpoint was made.
    #[error(
        "{}: found {found} bytes, expected at least the {expected} of the last checkpoint; --fresh \
         starts anew", path.display()
    )]
    ShortLog {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// Its length at the checkpoint.
        expected: u64,
    },
    /// The checkpoint would take more room than allowed.
    #[error(
        "{}: a checkpoint of {needed} bytes beside {used} bytes is above `run.disk_limit_gb` \
         ({limit} bytes); raise it and run the same command again to go on from the last \
         checkpoint", dir.display()
    )]
    DiskLimit {
        /// The run directory.
        dir: PathBuf,
        /// Bytes of the checkpoint.
        needed: u64,
        /// Bytes that are there.
        used: u64,
        /// The limit.
        limit: u64,
    },
}

impl RunDirError {
    /// The error of an operation on `path`: "`path`: cannot `action`: …".
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.into(), action, source }
    }
}

/// Where a number that is NaN or infinite shows first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found NaN or infinity in {suspect}")]
pub struct NonFinite {
    /// The first thing that has one.
    pub suspect: Suspect,
}

/// What holds a number that is NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// The loss, while all parameters are finite.
    Loss,
    /// The gradient of a parameter.
    Gradient {
        /// The parameter.
        name: String,
    },
    /// The norm of the gradients, while each of them is finite.
    GradientNorm,
    /// The values of a parameter.
    Value {
        /// The parameter.
        name: String,
    },
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss => write!(f, "the loss"),
            Self::Gradient { name } => write!(f, "the gradient of `{name}`"),
            Self::GradientNorm => write!(f, "the norm of the gradients"),
            Self::Value { name } => write!(f, "the values of `{name}`"),
        }
    }
}

impl NonFinite {
    /// The error of step `step`.
    pub fn at(self, step: u64) -> TrainError {
        TrainError::NonFinite { step, reason: self }
    }
}

/// Why a record does not make an example.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The tokenizer refuses the text.
    #[error("{at}: {source}")]
    Tokenizer {
        /// The record.
        at: Source,
        /// What the tokenizer says.
        source: Box<TokenizerError>,
    },
    /// Text or messages, but no tokenizer.
    #[error(
        "{at}: found text, but the model's folder has no tokenizer.json; expected token ids \
         (columns that end in `_ids`) or a tokenizer"
    )]
    NoTokenizer {
        /// The record.
        at: Source,
    },
    /// A token that the model does not have.
    #[error("{at}: found token id {id}, expected less than the model's vocabulary of {vocab}")]
    UnknownToken {
        /// The record.
        at: Source,
        /// The token.
        id: u32,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// More tokens than allowed.
    #[error(
        "{at}: found {found} tokens, expected at most {limit}; set `data.truncation` to \"drop\", \
         \"left\" or \"right\" to go on without the rest"
    )]
    TooLong {
        /// The record.
        at: Source,
        /// Its number of tokens.
        found: usize,
        /// `data.max_tokens`, or the model's positions.
        limit: usize,
    },
    /// An example of which nothing is trained on.
    #[error(
        "{at}: found no supervised token among {found}, expected at least one behind the first \
         token"
    )]
    NothingSupervised {
        /// The record.
        at: Source,
        /// Its number of tokens.
        found: usize,
    },
    /// A sequence of a pair of which nothing is predicted.
    #[error(
        "{at}: found {found} tokens in {field}, expected at least one behind the prompt and the first \
         token: nothing of this completion is predicted"
    )]
    NothingPredicted {
        /// The record.
        at: Source,
        /// Which of the two.
        field: &'static str,
        /// Its number of tokens, the prompt's included.
        found: usize,
    },
    /// A solution of whose steps nothing is said.
    #[error("{at}: found {steps} steps and no label that is not null, expected at least one")]
    NoStepLabel {
        /// The record.
        at: Source,
        /// How many steps it has.
        steps: usize,
    },
    /// A step that holds what separates steps.
    #[error(
        "{at}: found the separator {separator:?} within step {}, expected steps without it, or another \
         `data.step_separator`",
        step + 1
    )]
    Separator {
        /// The record.
        at: Source,
        /// The step, from 0.
        step: usize,
        /// `data.step_separator`.
        separator: String,
    },
    /// A sequence without tokens.
    #[error("{at}: found no token in {field}, expected at least one")]
    NoTokens {
        /// The record.
        at: Source,
        /// What is empty.
        field: &'static str,
    },
    /// A pair whose two sequences are the same tokens.
    #[error("{at}: chosen and rejected are the same {found} tokens; expected two different ones")]
    IdenticalPair {
        /// The record.
        at: Source,
        /// Their number of tokens.
        found: usize,
    },
}

/// Why the state of an optimizer or trainer cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what a checkpoint holds.
    #[error("{}: not the state of this run: {message}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        message: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
