//! Scores from a checkpoint with a score head.

use std::path::{Path, PathBuf};

use hearken_model::{
    Batch, Keep, LoadOptions, Masters, Model, Tokenizer,
    tokenizer::{Bos, SpecialText},
};
use hearken_objective::reward::ScoreNormalization;
use hearken_tensor::Device;

use super::{Pace, RewardError, RewardSource, RolloutView};
use crate::microbatch::microbatches;
use crate::score_normalization::ScoreNormalizationFile;

/// Which reward model scores, and how it reads.
#[derive(Clone, Debug)]
pub struct RewardModelOptions {
    /// Names the source in metrics and errors.
    pub name: String,
    /// A Hugging Face directory of a `*ForSequenceClassification` model with one output.
    pub path: PathBuf,
    /// What matrix products read.
    pub precision: hearken_tensor::device::Precision,
    /// Whether the mean and deviation stored beside the model are applied, where they are.
    pub normalize: bool,
    /// The most rows of one forward pass.
    pub microbatch_tokens: usize,
}

/// A reward model, read at the last token of prompt and completion.
///
/// With the policy's own tokenizer it reads the very tokens that were sampled. With another one the
/// texts are encoded again, prompt and completion apart, and the completion gets the reward model's
/// end token where the policy ended it.
#[derive(Debug)]
pub struct RewardModel<D: Device> {
    name: String,
    model: Model<D>,
    reads: Reads,
    normalization: ScoreNormalization,
    microbatch_tokens: usize,
}

#[derive(Debug)]
enum Reads {
    /// The policy's token ids.
    Ids,
    /// Text, with a tokenizer of its own.
    Text(Box<Tokenizer>),
}

impl<D: Device> RewardModel<D> {
    /// Loads a reward model that scores what a policy with `policy_tokenizer` samples.
    ///
    /// # Errors
    /// If the checkpoint, its tokenizer or its stored normalization cannot be used, or if there is
    /// no telling whether its token ids are the policy's.
    pub fn load(
        device: D,
        options: &RewardModelOptions,
        policy_tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, RewardError> {
        let path = &options.path;
        let failed = |reason: String| RewardError::Load { path: path.clone(), reason };
        let (precision, masters) = (options.precision, Masters::Drop);
        let load = LoadOptions { precision, masters, ..LoadOptions::scorer() };
        let (model, _) =
            Model::load(device, path, &load).map_err(|error| failed(error.to_string()))?;
        let own = if path.join("tokenizer.json").exists() {
            Some(Tokenizer::load(path).map_err(|error| failed(error.to_string()))?)
        } else {
            None
        };
        let reads = match (own, policy_tokenizer) {
            (Some(own), Some(policy)) if own.fingerprint() == policy.fingerprint() => Reads::Ids,
            (Some(own), Some(_)) => Reads::Text(Box::new(own)),
            (Some(_), None) => {
                let reason = "it has a tokenizer and the policy has none: found no text to encode";
                return Err(failed(reason.to_owned()));
            }
            // Models of bare token ids: the vocabulary is all there is to compare, at use.
            (None, _) => Reads::Ids,
        };
        let normalization = match options.normalize {
            true => stored_normalization(path).map_err(failed)?,
            false => ScoreNormalization::IDENTITY,
        };
        let microbatch_tokens = options.microbatch_tokens;
        Ok(Self { name: options.name.clone(), model, reads, normalization, microbatch_tokens })
    }

    fn ids(&self, rollout: &RolloutView<'_>) -> Result<(Vec<u32>, Vec<u32>), RewardError> {
        let unreadable = |reason: String| RewardError::unreadable(&self.name, reason, rollout);
        let (prompt, completion) = match &self.reads {
            Reads::Ids => (rollout.prompt_ids.to_vec(), rollout.completion_ids.to_vec()),
            Reads::Text(tokenizer) => encode(tokenizer, rollout).map_err(unreadable)?,
        };
        let config = self.model.config();
        let (found, limit) = (prompt.len() + completion.len(), config.max_positions);
        if limit < found {
            return Err(unreadable(format!("found {found} tokens, expected at most {limit}")));
        }
        if found == 0 {
            return Err(unreadable("found no token, expected at least one".to_owned()));
        }
        let vocab = config.vocab;
        match prompt.iter().chain(&completion).find(|id| vocab <= **id as usize) {
            Some(id) => Err(unreadable(format!("found token id {id}, expected less than {vocab}"))),
            None => Ok((prompt, completion)),
        }
    }

    /// Raw scores of sequences, one forward pass.
    fn forward(&self, sequences: &[(Vec<u32>, Vec<u32>)]) -> Vec<f32> {
        let mut batch = Batch::new();
        let mut last_prompt: Option<(&[u32], usize)> = None;
        let mut rows = Vec::with_capacity(sequences.len());
        for (prompt, completion) in sequences {
            // Completions of one prompt follow one another: it is computed once.
            let root = match last_prompt {
                Some((ids, root)) if ids == prompt.as_slice() => root,
                _ => batch.push(None, prompt),
            };
            last_prompt = Some((prompt, root));
            let segment = batch.push(Some(root), completion);
            rows.push(batch.last_row(segment).expect("a sequence has at least one token"));
        }
        let pass = self.model.forward(&batch, Keep::Nothing);
        self.model.scalars(&pass, &rows)
    }
}

impl<D: Device> RewardSource for RewardModel<D> {
    fn name(&self) -> &str {
        &self.name
    }

    /// It wants the device that samples, and its batches are the same whatever ends first.
    fn pace(&self) -> Pace {
        Pace::Afterwards
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<f64>, RewardError> {
        let sequences: Vec<_> =
            rollouts.iter().map(|rollout| self.ids(rollout)).collect::<Result<_, _>>()?;
        let rows: Vec<usize> = sequences.iter().map(|(p, c)| p.len() + c.len()).collect();
        let groups = microbatches(&rows, self.microbatch_tokens);
        let raw = groups.into_iter().flat_map(|group| self.forward(&sequences[group]));
        Ok(raw.map(|score| self.normalization.apply(f64::from(score))).collect())
    }
}

/// Prompt and completion in the reward model's own tokens.
fn encode(
    tokenizer: &Tokenizer,
    rollout: &RolloutView<'_>,
) -> Result<(Vec<u32>, Vec<u32>), String> {
    let prompt = tokenizer.encode(rollout.prompt, Bos::AsConfigured);
    // What the policy wrote is text: it cannot end its turn by spelling an end token.
    let completion = tokenizer.encode_continuation(rollout.completion, SpecialText::Literal);
    let prompt = prompt.map_err(|error| error.to_string())?;
    let mut completion = completion.map_err(|error| error.to_string())?;
    if rollout.ended {
        completion.extend(tokenizer.eos_for_training());
    }
    Ok((prompt, completion))
}

/// The normalization stored beside a model; the identity where there is none.
fn stored_normalization(path: &Path) -> Result<ScoreNormalization, String> {
    let stored = ScoreNormalizationFile::load(path).map_err(|error| error.to_string())?;
    Ok(stored.map_or(ScoreNormalization::IDENTITY, |stored| ScoreNormalization {
        shift: stored.mean,
        scale: stored.std,
    }))
}
