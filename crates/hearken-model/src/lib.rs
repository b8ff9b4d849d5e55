//! Transformers forward and backward, written once over `hearken-tensor`'s device trait; Hugging
//! Face checkpoints and tokenizers in and out.
//!
//! Read in this order: [`config`] (what config.json says), [`params`] (named parameters and their
//! gradients), [`architecture`] (what each family's
//! parameters are called and how they connect), [`lora`] (adapters on disk and what they are for), [`transformer`] ([`Model`]: forward, head, backward),
//! [`cached`] (the forward pass of sampling), [`checkpoint`], [`template`], [`tokenizer`], [`chat`].
//!
//! Not here: losses, optimizers, sampling, files of training data.
#![deny(missing_docs)]

pub mod config;

pub mod params;

pub mod mlp;

pub mod architecture;

pub mod lora;

pub mod transformer;

pub mod microbatch;

pub mod cached;

pub mod checkpoint;

pub mod template;

pub mod tokenizer;

pub mod chat;
pub mod steps;

pub use architecture::Head;
pub use cached::KvCache;
pub use config::ModelConfig;
pub use lora::{Adapter, AdapterError, LoraConfig, Targets};
pub use mlp::{Mlp, MlpPass, MlpShape};
pub use params::{Gradients, Init, Param, ParamId, ParamSpec, ParamStore};
pub use tokenizer::Tokenizer;
pub use transformer::{
    AdaptedRows, Batch, Footprint, Keep, LoadOptions, LoadReport, LogitLoss, Masters, Model,
    ModelError, OutputGrads, ParticleShape, Pass, stored_head,
};
