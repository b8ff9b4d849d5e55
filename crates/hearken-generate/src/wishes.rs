//! What a request may want beside how its tokens are sampled.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

pub use hearken_tensor::draw::{Allowed, TokenReport};

use crate::error::GenerateError;

/// What a request wants beside its [`crate::Sampling`]. The default wants nothing.
///
/// What changes logits does so before the temperature divides them, and the completion's
/// log-probabilities are of the distribution that it leaves.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Report every token's log-probability under the model itself, and this many of the likeliest
    /// tokens in its place.
    pub likeliest: Option<usize>,
    /// What is added to the logits of tokens.
    pub bias: BTreeMap<u32, f32>,
    /// Taken from the logit of a token for each time that the completion has it.
    pub frequency_penalty: f64,
    /// Taken from the logit of a token that the completion has.
    pub presence_penalty: f64,
    /// Says which tokens may come next.
    pub guide: Option<Arc<dyn Guide>>,
    /// The adapter of the engine that completes the prompt; without it the model as it is.
    pub adapter: Option<AdapterId>,
}

/// Names an adapter of an engine; no other one of that engine has had the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub(crate) u64);

/// Says of each completion which tokens may come next.
pub trait Guide: Debug + Send + Sync {
    /// The guidance of a new completion.
    fn begin(&self) -> Box<dyn Guidance>;
}

/// The guidance of one completion.
pub trait Guidance: Debug + Send + Sync {
    /// The tokens that may come next, and what ends the completion where none of them can.
    fn allowed(&mut self) -> Allowed;

    /// Takes the token that came.
    fn take(&mut self, id: u32);
}

impl Wishes {
    /// Checks that every number is in its range and every token among the model's `vocab`.
    pub(crate) fn validate(&self, vocab: usize) -> Result<(), GenerateError> {
        let penalties = [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ];
        for (option, found) in penalties {
            if !found.is_finite() {
                return Err(GenerateError::Option { option, found, expected: "a finite number" });
            }
        }
        match self.bias.iter().find(|(id, added)| vocab <= **id as usize || added.is_nan()) {
            Some((&id, _)) => Err(GenerateError::Bias { id, vocab }),
            None => Ok(()),
        }
    }

    /// Whether it matters how often the completion has a token.
    pub(crate) fn penalizes(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// What is added to logits, one after the other. `counts` says how often the completion so far has each of its tokens,
    /// where that matters.
    pub(crate) fn added(&self, counts: &BTreeMap<u32, u32>) -> Vec<(u32, f32)> {
        let biases = self.bias.iter().map(|(&id, &added)| (id, added));
        let penalties = counts.iter().map(|(&id, &count)| {
            let penalty = self.presence_penalty + self.frequency_penalty * f64::from(count);
            (id, -(penalty as f32))
        });
        biases.chain(penalties).collect()
    }
}
