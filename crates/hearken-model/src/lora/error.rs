//! What can be wrong with an adapter, as facts.

use std::path::PathBuf;

use super::peft::{A_SUFFIX, B_SUFFIX, PREFIX};
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;

/// Why an adapter cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The directory holds no adapter.
    #[error(
        "{}: no adapter; expected a PEFT directory with adapter_config.json and adapter_model.safetensors",
        dir.display()
    )]
    NoAdapter {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The only weights are a Python pickle, which can run code when it is read.
    #[error(
        "{}: found adapter_model.bin but no adapter_model.safetensors; pickled weights are not read, \
         save the adapter once more with PEFT: save_pretrained(DIR, safe_serialization=True)",
        dir.display()
    )]
    OnlyPickledWeights {
        /// The directory.
        dir: PathBuf,
    },
    /// adapter_config.json cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A target matches no linear map.
    #[error("{target:?} names no linear map of the model; it has {examples}")]
    MatchesNothing {
        /// The target as it was given.
        target: String,
        /// What could be meant.
        examples: String,
    },
    /// A target matches a part of the model that is no linear map of a block.
    #[error("{target:?} names {module}; adapters are for the linear maps of blocks: {examples}")]
    NotLinear {
        /// The target as it was given.
        target: String,
        /// What it matched.
        module: String,
        /// What could be meant.
        examples: String,
    },
    /// A pattern is no regular expression.
    #[error("{pattern:?} is no regular expression: {reason}")]
    Pattern {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The targets are wrong, in the file that gives them.
    #[error("{}: target_modules: {source}", path.display())]
    Targets {
        /// adapter_config.json.
        path: PathBuf,
        /// What is wrong.
        source: Box<AdapterError>,
    },
    /// A tensor of the adapter does not fit the model.
    #[error(transparent)]
    Shape(Box<Misfit>),
    /// The adapter holds a tensor that would replace one of the base, which others use too.
    #[error("{}: holds {name}; expected nothing but tensors {A_SUFFIX} and {B_SUFFIX}", path.display())]
    Whole {
        /// The adapter's file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The names in the adapter's file are not those of the model.
    #[error(
        "{}: {problem}; the model is {}, and the adapter may have been made for another one",
        path.display(), base.display()
    )]
    Names {
        /// The adapter's file.
        path: PathBuf,
        /// Which tensors are missing, and which are unknown.
        problem: String,
        /// Where the model was read.
        base: PathBuf,
    },
    /// The adapter holds an embedding or a head apart, which the model ties to each other.
    #[error(
        "{}: holds {name} of its own, but config.json of {} says tie_word_embeddings = true; expected \
         {PREFIX}lm_head.weight and {embedding}, equal to each other",
        path.display(), base.display()
    )]
    Tied {
        /// The adapter's file.
        path: PathBuf,
        /// The tensor that is there.
        name: String,
        /// The embedding.
        embedding: String,
        /// Where the model was read.
        base: PathBuf,
    },
    /// Weights cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A tensor of an adapter that does not fit the weight that it is for.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: tensor {name} has shape {found:?}; expected {expected:?}, since {weight} of {} has shape {shape:?}; \
     the adapter was made for another model",
    path.display(), base.display()
)]
pub struct Misfit {
    /// The adapter's file.
    pub path: PathBuf,
    /// The tensor.
    pub name: String,
    /// As stored.
    pub found: Vec<usize>,
    /// What fits.
    pub expected: Vec<usize>,
    /// The weight that it adapts.
    pub weight: String,
    /// That weight's shape.
    pub shape: Vec<usize>,
    /// Where the model was read.
    pub base: PathBuf,
}
