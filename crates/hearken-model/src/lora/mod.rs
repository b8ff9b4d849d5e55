//! Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): y = x·Wᵀ + s·dropout(x)·Aᵀ·Bᵀ, of which only A and
//! B are trained. What they are made of, which linear maps have one, and PEFT's directories of them.
//!
//! Not here: how a model computes with them, which is the transformer's business.

mod error;
mod peft;
mod targets;

pub use error::{AdapterError, Misfit};
pub use peft::Adapter;
pub use targets::{LayerChoice, Targets};

pub(crate) use peft::{A_SUFFIX, ADAPTER_WEIGHTS, AdapterFile, B_SUFFIX, PREFIX};
pub(crate) use targets::Linears;

/// How an adapter is made: PEFT's `LoraConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// r: the rows of A and the columns of B.
    pub rank: usize,
    /// The product is multiplied by alpha/r, or by alpha/√r with `rslora`.
    pub alpha: f64,
    /// The probability with which an element of the input is dropped in training, below 1.
    pub dropout: f64,
    /// Scaling by 1/√r (Kalajdzievski 2023, arXiv:2312.03732).
    pub rslora: bool,
    /// Which linear maps have an adapter.
    pub targets: Targets,
    /// Which of them have none after all.
    pub exclude: Option<Targets>,
    /// In which layers.
    pub layers: Option<LayerChoice>,
    /// Other ranks for modules that a pattern names; the first that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Other alphas, likewise.
    pub alpha_pattern: Vec<(String, f64)>,
}

impl LoraConfig {
    /// An adapter of one rank and alpha, without dropout.
    pub fn new(rank: usize, alpha: f64, targets: Targets) -> Self {
        Self {
            rank,
            alpha,
            dropout: 0.0,
            rslora: false,
            targets,
            exclude: None,
            layers: None,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
        }
    }
}

/// The adapter of one linear map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    /// The linear map's place in the list that was chosen from.
    pub(crate) index: usize,
    pub(crate) rank: usize,
    /// What the product is multiplied by.
    pub(crate) scale: f64,
}
