//! Models in GGUF, the files of llama.cpp: read into Hugging Face directories, and written from them.
//!
//! A file holds weights, many of them in blocks of few bits, what config.json would say, the tokenizer and
//! the chat template. [`read_into`] writes a directory that Transformers loads; [`write_from`] writes a file
//! that llama.cpp loads. Architectures are Llama (which Mistral is called there, too), Qwen2 and Qwen3.
//!
//! Not here: computing with quantized weights; models are trained as what they are read into.
#![deny(missing_docs)]

mod blocks;
mod convert;
mod error;
mod file;
mod names;
mod rope;
mod tokenizer;
mod write;

pub use blocks::BlockFormat;
pub use convert::{Converted, read_into, write_from};
pub use error::GgufError;
pub use file::{GgufFile, TensorInfo, Value};
