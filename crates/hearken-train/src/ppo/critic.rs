//! The network that predicts the return.

use std::path::Path;

use hearken_model::{LoadOptions, Model, Tokenizer};
use hearken_run::error::TrainError;
use hearken_run::run::{Companion, Opening};
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Device;

use super::config::{CriticSource, PpoConfig};
use crate::rollout::session::RolloutSession;
use crate::rollout::{BatchReading, Heads, Sequence, read_together};

/// Adds a head to the policy, or opens the network of its own that `config` asks for: a model whose
/// values share nothing with the policy.
pub(super) fn open<D: Device>(
    config: &PpoConfig,
    policy: &mut Model<D>,
    opening: &Opening<'_>,
) -> Result<Option<Companion<D>>, TrainError> {
    const NAME: &str = "critic";
    match &config.ppo.critic {
        CriticSource::ValueHead => {
            if !policy.load_value_head(&opening.trained_dir())? {
                policy.add_value_head(opening.seeds.derive("value_head", 0, 0));
            }
            Ok(None)
        }
        CriticSource::Checkpoint(path) => {
            let checkpoint = opening.whole_checkpoint();
            let dir = checkpoint.map_or_else(|| path.clone(), |c| c.model_dir(Some(NAME)));
            let precision = config.shared.model.dtype.into();
            let masters = opening.masters();
            let options = LoadOptions { precision, masters, ..LoadOptions::scorer() };
            let (mut model, _) = Model::load(policy.device().clone(), &dir, &options)?;
            check_tokens(path, &model, policy, opening.tokenizer.as_ref())?;
            if let Some(lora) = &config.shared.model.lora {
                // An adapter of its own, as the policy's is made.
                opening.adapt(&mut model, path, Some(NAME), None, lora)?;
            }
            let gradients = model.gradients();
            Ok(Some(Companion {
                name: NAME,
                model,
                gradients,
                lr: config.ppo.critic_lr.map(|lr| *lr),
            }))
        }
    }
}

/// Log-probabilities and values before an iteration's first update. Without a critic of its own,
/// values and log-probabilities share every pass.
pub(super) fn read_both<D: Device>(
    session: &RolloutSession<D>,
    sequences: &[Sequence<'_>],
) -> BatchReading {
    let (policy, ranks) = (&session.run.model, &session.run.ranks);
    let forward = session.forward_options();
    let Some(critic) = &session.run.companion else {
        return read_together(ranks, policy, sequences, Heads::LogProbsAndValues, forward);
    };
    let values = read_together(ranks, &critic.model, sequences, Heads::Values, forward).values;
    BatchReading { values, ..read_together(ranks, policy, sequences, Heads::LogProbs, forward) }
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
