//! The network that predicts the return.

use std::path::Path;

use hearken_model::{Gradients, LoadOptions, Model, Tokenizer};
use hearken_tensor::Device;

use super::config::{CriticSource, PpoConfig};
use crate::checkpoint::Checkpoint;
use crate::error::TrainError;
use crate::rollout::{ForwardOptions, Heads, Reading, Sequence, read};
use crate::seeds::Seeds;
use crate::trained_model::load_tokenizer;

/// Its folder in a checkpoint.
pub(super) const NAME: &str = "critic";

/// Where values come from.
#[derive(Debug)]
pub(super) enum Critic<D: Device> {
    /// A linear head on the policy's trunk: values and log-probabilities share every pass.
    ValueHead,
    /// A network of its own.
    Separate(Box<SeparateCritic<D>>),
}

/// A critic that shares nothing with the policy.
#[derive(Debug)]
pub(super) struct SeparateCritic<D: Device> {
    pub(super) model: Model<D>,
    pub(super) gradients: Gradients<D>,
}

impl<D: Device> Critic<D> {
    /// Opens the critic that `config` asks for; a head is added to the policy.
    pub(super) fn open(
        config: &PpoConfig,
        policy: &mut Model<D>,
        tokenizer: Option<&Tokenizer>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        match &config.ppo.critic {
            CriticSource::ValueHead => {
                let dir =
                    checkpoint.map_or_else(|| config.model.path.clone(), |c| c.model_dir(None));
                if !policy.load_value_head(&dir)? {
                    policy.add_value_head(Seeds::new(config.run.seed).derive("value_head", 0, 0));
                }
                Ok(Self::ValueHead)
            }
            CriticSource::Checkpoint(path) => {
                let dir = checkpoint.map_or_else(|| path.clone(), |c| c.model_dir(Some(NAME)));
                let precision = config.model.dtype.into();
                let options = LoadOptions { precision, ..LoadOptions::scorer() };
                let (model, _) = Model::load(policy.device().clone(), &dir, &options)?;
                check_tokens(path, &model, policy, tokenizer)?;
                let gradients = model.gradients();
                Ok(Self::Separate(Box::new(SeparateCritic { model, gradients })))
            }
        }
    }

    /// The critic's own model; `None` if it lives on the policy's trunk.
    pub(super) fn model(&self) -> Option<&Model<D>> {
        match self {
            Self::ValueHead => None,
            Self::Separate(critic) => Some(&critic.model),
        }
    }

    /// Log-probabilities and values before an iteration's first update.
    pub(super) fn read(
        &self,
        policy: &Model<D>,
        sequences: &[Sequence<'_>],
        forward: ForwardOptions,
    ) -> Reading {
        match self {
            Self::ValueHead => read(policy, sequences, Heads::LogProbsAndValues, forward),
            Self::Separate(critic) => {
                let values = read(&critic.model, sequences, Heads::Values, forward).values;
                Reading { values, ..read(policy, sequences, Heads::LogProbs, forward) }
            }
        }
    }
}

/// A critic reads the policy's token ids, so they must mean the same to both.
fn check_tokens<D: Device>(
    path: &Path,
    critic: &Model<D>,
    policy: &Model<D>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), TrainError> {
    let refuse = |found: String| {
        Err(TrainError::Other(format!(
            "`ppo.critic`: {}: {found}; expected a critic that reads the policy's tokens (a reward \
             model with another tokenizer can be a [[score]])",
            path.display()
        )))
    };
    let (found, expected) = (critic.config().vocab, policy.config().vocab);
    if found != expected {
        return refuse(format!("found a vocabulary of {found}, the policy's is {expected}"));
    }
    let own = load_tokenizer(path)?;
    if let (Some(own), Some(tokenizer)) = (own, tokenizer)
        && own.fingerprint() != tokenizer.fingerprint()
    {
        return refuse("found a tokenizer that is not the policy's".to_owned());
    }
    Ok(())
}
