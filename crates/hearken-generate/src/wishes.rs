//! What a request may want beside how its tokens are sampled.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

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
}

/// Says of each completion which tokens may come next.
pub trait Guide: Debug + Send + Sync {
    /// The guidance of a new completion.
    fn begin(&self) -> Box<dyn Guidance>;
}

/// The guidance of one completion.
pub trait Guidance: Debug + Send + Sync {
    /// Puts −∞ in place of the logit of every token that may not come next; at least one stays.
    fn restrict(&mut self, logits: &mut [f32]);

    /// Takes the token that came.
    fn take(&mut self, id: u32);
}

/// A token under the model itself: at temperature 1, with nothing added or cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenReport {
    /// The token's log-probability in nats.
    pub logprob: f64,
    /// The likeliest tokens with theirs, in order; among equals the lower id comes first.
    pub likeliest: Vec<(u32, f64)>,
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

    /// The logits after all that changes them; `None` where nothing does. `counts` says how often the completion so far has
    /// each of its tokens, where that matters.
    pub(crate) fn shaped(
        &self,
        logits: &[f32],
        counts: &BTreeMap<u32, u32>,
        guidance: Option<&mut (dyn Guidance + 'static)>,
    ) -> Option<Vec<f32>> {
        if self.bias.is_empty() && !self.penalizes() && guidance.is_none() {
            return None;
        }
        let mut shaped = logits.to_vec();
        for (&id, added) in &self.bias {
            shaped[id as usize] += added;
        }
        for (&id, &count) in counts {
            let penalty = self.presence_penalty + self.frequency_penalty * f64::from(count);
            shaped[id as usize] -= penalty as f32;
        }
        if let Some(guidance) = guidance {
            guidance.restrict(&mut shaped);
        }
        Some(shaped)
    }
}
