//! Compute at inference: several answers to a prompt, of which a reward model or a vote chooses one, and search over
//! steps.
//!
//! [`sample()`] draws whole completions, [`search()`] grows them step by step and keeps what a process reward model prefers
//! (beam search, diverse verifier tree search); [`Scorer`] is a reward model of any kind.

mod sample;
mod scorer;
mod tree;

pub use sample::{SampleSettings, sample};
pub use scorer::{Scored, ScoredPrompt, Scorer, ScorerError};
pub use tree::{SearchError, TreeSearch, search};

/// An answer that was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledAnswer {
    /// Its text, without what ended it.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Whether the policy ended it.
    pub ended: bool,
}
