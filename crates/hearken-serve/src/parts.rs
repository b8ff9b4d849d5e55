//! What the command line hands in: models from files, and scores.

use std::path::PathBuf;

use hearken_model::{Adapter, Model, Tokenizer};
use hearken_tensor::AnyDevice;
use serde_json::{Map, Value};

/// Where the weights of a served model are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsPlace {
    /// A model's directory, or what names one.
    pub model: PathBuf,
    /// An adapter of it, which goes beside weights that others use too, or is merged into a copy of them.
    pub adapter: Option<PathBuf>,
}

/// A model that has been read.
#[derive(Debug)]
pub struct LoadedModel {
    /// A language model.
    pub model: Model<AnyDevice>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The directories that it was read from.
    pub directories: Vec<PathBuf>,
}

/// An adapter that has been read.
#[derive(Debug)]
pub struct LoadedAdapter {
    /// The adapter.
    pub adapter: Adapter,
    /// The tokenizer that it is used with.
    pub tokenizer: Tokenizer,
    /// The directory of its model.
    pub base: PathBuf,
}

/// Reads models, when the service starts and when new weights come.
pub trait Loader: Send + Sync {
    /// Reads a model. Called on a thread that may block.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    fn load(&self, place: &WeightsPlace) -> Result<LoadedModel, String>;

    /// Reads the adapter of a place, and no weights of its model; `None` where the place has none. Called on a thread that may block.
    ///
    /// # Errors
    /// As [`Loader::load`].
    fn load_adapter(&self, place: &WeightsPlace) -> Result<Option<LoadedAdapter>, String>;
}

/// What a reward model says of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The score.
    pub score: f64,
    /// The score of each step, where the model reads steps.
    pub steps: Option<Vec<f64>>,
    /// Tokens of prompt and answer together.
    pub tokens: usize,
}

/// A reward model.
pub trait RewardScorer: Send + Sync {
    /// The name that it is served under.
    fn name(&self) -> &str;

    /// What tells its weights from others.
    fn version(&self) -> &str;

    /// The most tokens of prompt and answer together.
    fn positions(&self) -> usize;

    /// Scores answers, each an object as a line of `hearken score`'s input. Called on a thread that may
    /// block, by one at a time.
    ///
    /// # Errors
    /// The index of an answer that cannot be read, and a sentence that says why.
    fn score(&self, answers: Vec<Map<String, Value>>) -> Result<Vec<Scored>, (usize, String)>;
}

/// What the service gets from the program that starts it.
pub struct Parts {
    /// Reads models.
    pub loader: Box<dyn Loader>,
    /// Scores, where there is a reward model.
    pub scores: Option<Box<dyn RewardScorer>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scores = self.scores.as_ref().map(|scores| scores.name().to_owned());
        f.debug_struct("Parts").field("scores", &scores).finish_non_exhaustive()
    }
}
