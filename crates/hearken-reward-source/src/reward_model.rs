//! Scores from a checkpoint with a score head.

use std::path::{Path, PathBuf};

use hearken_model::chat::{Conversation, encode_prompt};
use hearken_model::config::model_dir;
use hearken_model::{
    Batch, Keep, LoadOptions, Masters, Model, Pass, Tokenizer,
    tokenizer::{Bos, SpecialText},
};
use hearken_objective::reward::ScoreNormalization;
use hearken_tensor::Device;

use super::{Pace, RewardError, RewardSource, RolloutView, Score};
use crate::score_normalization::ScoreNormalizationFile;
use hearken_model::microbatch::microbatches;

/// Which reward model scores, and how it reads.
#[derive(Clone, Debug)]
pub struct RewardModelOptions {
    /// Names the source in metrics and errors.
    pub name: String,
    /// A Hugging Face directory of a `*ForSequenceClassification` model with one output.
    pub path: PathBuf,
    /// What matrix products read.
    pub precision: hearken_tensor::device::Precision,
    /// How its weights are held; they are only read.
    pub masters: Masters,
    /// Whether the mean and deviation stored beside the model are applied, where they are.
    pub normalize: bool,
    /// The most rows of one forward pass.
    pub microbatch_tokens: usize,
}

/// A reward model, read at the last token of prompt and completion.
///
/// It reads what it read in training: a completion that the policy ended, whatever ended it, stands
/// before the reward model's end token, without a stop sequence. With the policy's own tokenizer the
/// very tokens are read that were sampled; with another one prompt and completion are encoded again,
/// apart, a conversation message by message.
#[derive(Debug)]
pub struct RewardModel<D: Device> {
    name: String,
    path: PathBuf,
    model: Model<D>,
    reads: ScoreReader,
    normalization: ScoreNormalization,
    microbatch_tokens: usize,
}

/// Prompt and completion in a model's tokens.
pub(super) type ScoredSequence = (Vec<u32>, Vec<u32>);

#[derive(Debug)]
enum ScoreReader {
    /// The policy's token ids, of a model without a tokenizer.
    Ids,
    /// The policy's token ids, and its text where a stop sequence ended it.
    OwnIds(Box<Tokenizer>),
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
        let (precision, masters) = (options.precision, options.masters);
        let load = LoadOptions { precision, masters, ..LoadOptions::scorer() };
        let (model, _) =
            Model::load(device, path, &load).map_err(|error| failed(error.to_string()))?;
        // An adapter that brings no tokenizer reads with that of its base.
        let is_there = |dir: &Path| dir.join("tokenizer.json").exists();
        let own = if is_there(path) || model_dir(path).is_ok_and(|base| is_there(&base)) {
            Some(Tokenizer::load(path).map_err(|error| failed(error.to_string()))?)
        } else {
            None
        };
        let reads = match (own, policy_tokenizer) {
            (Some(own), Some(policy)) if are_alike(&own, policy) => {
                ScoreReader::OwnIds(Box::new(own))
            }
            (Some(own), Some(_)) => ScoreReader::Text(Box::new(own)),
            (Some(_), None) => {
                let reason = "it has a tokenizer and the policy has none: found no text to encode";
                return Err(failed(reason.to_owned()));
            }
            // Models of bare token ids: the vocabulary is all there is to compare, at use.
            (None, _) => ScoreReader::Ids,
        };
        let normalization = match options.normalize {
            true => stored_normalization(path).map_err(failed)?,
            false => ScoreNormalization::IDENTITY,
        };
        let microbatch_tokens = options.microbatch_tokens;
        let (name, path) = (options.name.clone(), path.clone());
        Ok(Self { name, path, model, reads, normalization, microbatch_tokens })
    }

    /// Prompt and completion of rollouts, in its own tokens.
    pub(super) fn sequences(
        &self,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<ScoredSequence>, RewardError> {
        rollouts.iter().map(|rollout| self.ids(rollout)).collect()
    }

    fn ids(&self, rollout: &RolloutView<'_>) -> Result<ScoredSequence, RewardError> {
        let unreadable = |reason: String| RewardError::unreadable(&self.name, reason, rollout);
        let (prompt, completion) = match &self.reads {
            ScoreReader::Ids if is_text(rollout) => {
                let reason = "it has no tokenizer, expected one: the completion is a text";
                return Err(unreadable(reason.to_owned()));
            }
            ScoreReader::Ids => (rollout.prompt_ids.to_vec(), rollout.completion_ids.to_vec()),
            ScoreReader::OwnIds(tokenizer) => {
                let completion = own_completion(tokenizer, rollout).map_err(unreadable)?;
                let prompt = match rollout.prompt_ids {
                    [] => encoded_prompt(tokenizer, rollout).map_err(unreadable)?,
                    ids => ids.to_vec(),
                };
                (prompt, completion)
            }
            ScoreReader::Text(tokenizer) => (
                encoded_prompt(tokenizer, rollout).map_err(unreadable)?,
                encoded_completion(tokenizer, rollout).map_err(unreadable)?,
            ),
        };
        self.checked(rollout, prompt, completion)
    }

    /// Refuses what the model cannot read.
    fn checked(
        &self,
        rollout: &RolloutView<'_>,
        prompt: Vec<u32>,
        completion: Vec<u32>,
    ) -> Result<ScoredSequence, RewardError> {
        let unreadable = |reason: String| RewardError::unreadable(&self.name, reason, rollout);
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
            None => Ok(without_padding(prompt, completion, config.pad)),
        }
    }

    /// The model.
    pub(super) fn model(&self) -> &Model<D> {
        &self.model
    }

    /// One number, or a few, of the last row of each sequence.
    pub(super) fn read(
        &self,
        sequences: &[ScoredSequence],
        of: impl Fn(&Pass<D>, &[usize]) -> Vec<f32>,
    ) -> Vec<f32> {
        let rows: Vec<usize> = sequences.iter().map(|(p, c)| p.len() + c.len()).collect();
        let groups = microbatches(&rows, self.microbatch_tokens);
        groups.into_iter().flat_map(|group| self.forward(&sequences[group], &of)).collect()
    }

    /// The scores of sequences.
    pub(super) fn scores(&self, sequences: &[ScoredSequence]) -> Vec<f64> {
        let raw = self.read(sequences, |pass, rows| self.model.scalars(pass, rows));
        raw.into_iter().map(|score| self.normalization.apply(score.into())).collect()
    }

    /// Where it was read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the particles beside the model too; says how many there are.
    ///
    /// # Errors
    /// If their file cannot be used.
    pub fn load_particles(&mut self) -> Result<usize, RewardError> {
        let failed = |reason: String| RewardError::Load { path: self.path.clone(), reason };
        self.model.load_particles(&self.path).map_err(|error| failed(error.to_string()))?;
        Ok(self.model.particle_count())
    }

    /// What each particle says of sequences; of a model without particles, or whose particles were not read, its score.
    pub(super) fn opinions(&self, sequences: &[ScoredSequence]) -> Vec<Vec<f64>> {
        let normalized = |score: &f32| self.normalization.apply((*score).into());
        let each = match self.model.particle_count() {
            0 => return self.scores(sequences).into_iter().map(|score| vec![score]).collect(),
            count => count,
        };
        let raw = self.read(sequences, |pass, rows| self.model.particle_scores(pass, rows));
        raw.chunks_exact(each).map(|own| own.iter().map(normalized).collect()).collect()
    }

    /// What `of` reads of the last rows of sequences, in one forward pass.
    fn forward(
        &self,
        sequences: &[ScoredSequence],
        of: impl Fn(&Pass<D>, &[usize]) -> Vec<f32>,
    ) -> Vec<f32> {
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
        of(&self.model.forward(&batch, Keep::Nothing), &rows)
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

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let sequences = self.sequences(rollouts)?;
        Ok(self.scores(&sequences).into_iter().map(Score::from).collect())
    }
}

/// A sequence up to its last token that is not the padding token, where Transformers reads the score of
/// a classifier. In a model whose padding token ends texts too that is the token before the end, and
/// so it was in training.
fn without_padding(
    mut prompt: Vec<u32>,
    mut completion: Vec<u32>,
    pad: Option<u32>,
) -> (Vec<u32>, Vec<u32>) {
    let is_pad = |id: &u32| Some(*id) == pad;
    let kept = |ids: &[u32]| ids.iter().rposition(|id| !is_pad(id)).map_or(0, |last| last + 1);
    // Transformers reads the first token of a row of nothing but padding.
    completion.truncate(kept(&completion).max(usize::from(prompt.is_empty())));
    if completion.is_empty() {
        prompt.truncate(kept(&prompt).max(1));
    }
    (prompt, completion)
}

/// A completion in the policy's tokens as the reward model was trained to read it.
fn own_completion(tokenizer: &Tokenizer, rollout: &RolloutView<'_>) -> Result<Vec<u32>, String> {
    let ids = rollout.completion_ids;
    match ids.split_last() {
        // There may be several end tokens, and training knows one.
        Some((last, before)) if rollout.ended && tokenizer.eos().contains(last) => {
            Ok(before.iter().copied().chain(end_token(tokenizer, rollout)).collect())
        }
        // A stop sequence ended it, which is not part of its text.
        Some(_) if rollout.ended => encoded_completion(tokenizer, rollout),
        None if is_text(rollout) => encoded_completion(tokenizer, rollout),
        _ => Ok(ids.to_vec()),
    }
}

/// Whether a completion is known as text alone: one that no policy sampled here.
fn is_text(rollout: &RolloutView<'_>) -> bool {
    rollout.completion_ids.is_empty() && !rollout.completion.is_empty()
}

/// A prompt in the reward model's own tokens.
pub(super) fn encoded_prompt(
    tokenizer: &Tokenizer,
    rollout: &RolloutView<'_>,
) -> Result<Vec<u32>, String> {
    let ids = match rollout.messages {
        Some(messages) => {
            encode_prompt(tokenizer, Conversation { messages, columns: rollout.fields })
        }
        None => tokenizer.encode(rollout.prompt, Bos::AsConfigured),
    };
    ids.map_err(|error| error.to_string())
}

/// A completion in the reward model's own tokens.
fn encoded_completion(
    tokenizer: &Tokenizer,
    rollout: &RolloutView<'_>,
) -> Result<Vec<u32>, String> {
    // What the policy wrote is text: it cannot end its turn by spelling an end token.
    let ids = tokenizer.encode_continuation(rollout.completion, SpecialText::Literal);
    let mut ids = ids.map_err(|error| error.to_string())?;
    if rollout.ended {
        ids.extend(end_token(tokenizer, rollout));
    }
    Ok(ids)
}

/// The token that ended completions in training: of a conversation, that of the assistant's turns.
fn end_token(tokenizer: &Tokenizer, rollout: &RolloutView<'_>) -> Option<u32> {
    let of_turn = rollout.messages.and_then(|_| tokenizer.end_of_turn());
    of_turn.or_else(|| tokenizer.eos_for_training())
}

/// Whether two tokenizers make the same tokens of a text, and the same text of a conversation.
fn are_alike(own: &Tokenizer, policy: &Tokenizer) -> bool {
    let template = |tokenizer: &Tokenizer| {
        tokenizer.chat_templates().and_then(|of| of.text()).map(str::to_owned)
    };
    own.fingerprint() == policy.fingerprint() && template(own) == template(policy)
}

/// The normalization stored beside a model; the identity where there is none.
fn stored_normalization(path: &Path) -> Result<ScoreNormalization, String> {
    let stored = ScoreNormalizationFile::load(path).map_err(|error| error.to_string())?;
    Ok(stored.map_or(ScoreNormalization::IDENTITY, |stored| ScoreNormalization {
        shift: stored.mean,
        scale: stored.std,
    }))
}
