//! Model weights on disk: safetensors in and out, and files that are whole or not there.
//!
//! Reading goes from the file to the parameter: a safetensors file is mapped and its header checked,
//! the files of one model become one set of named tensors ([`TensorFiles`]), and [`read_params`]
//! matches these names with those that an architecture wants. Writing goes through
//! [`write_atomically`], so that a crash leaves the old file or the new one.
//!
//! Not here: what config.json means, and which parameters a model has.

mod atomic;
mod error;
mod params;
mod safetensors_file;
mod save;
mod tensor_files;

pub use atomic::{write_atomically, write_json_atomically};
pub use error::{CheckpointError, MissingTensor};
pub use params::{NameRules, read_params};
pub use save::{
    Described, NoRoom, NumberFormat, SHARD_BYTES, WeightFormat, save_tensors, save_tensors_as,
    save_tensors_with, save_weights,
};
pub use tensor_files::TensorFiles;
