//! What an iteration starts from: prompts to sample on, or rollouts that were recorded.

use std::{path::Path, sync::Arc};

use hearken_config::Length;
use hearken_model::ModelConfig;
use hearken_run::dataset::Dataset;
use hearken_run::encode::{AnsweredPrompt, PromptExample};
use hearken_run::error::TrainError;
use hearken_run::order::{Cursor, EpochOrder};
use hearken_run::run::Opening;
use hearken_run::seeds::Seeds;
use rand::RngExt;

use super::settings::RolloutSettings;
use super::source::Replay;
use super::{RecordedIteration, ReplayLimits, read_replay};

/// Where rollouts come from.
#[derive(Debug)]
pub enum Feed {
    /// They are sampled.
    Prompts(PromptFeed),
    /// They are read from a file, iteration after iteration, and again from its start.
    Replay(Vec<RecordedIteration>),
}

/// Prompts in the order in which they are asked.
#[derive(Debug)]
pub struct PromptFeed {
    prompts: Vec<Arc<AskedPrompt>>,
    eval: Vec<Arc<PromptExample>>,
    order: EpochOrder,
    /// The most tokens of a completion.
    new_tokens_max: usize,
}

/// A prompt to sample on.
#[derive(Debug)]
pub(crate) struct AskedPrompt {
    pub(crate) prompt: Arc<PromptExample>,
    /// How somebody else completed it; empty where that is not asked for.
    pub(crate) demonstration: Vec<u32>,
}

/// What the records of a run that samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SampledRecords {
    /// Prompts.
    Prompts,
    /// Prompts with completions that are as they should be.
    Demonstrations,
}

impl Feed {
    pub(crate) fn open(
        settings: &RolloutSettings,
        opening: &mut Opening<'_>,
    ) -> Result<Self, TrainError> {
        match &settings.rollout.replay {
            Some(path) => replay(settings, path, opening).map(Self::Replay),
            None => prompts(settings, opening).map(Self::Prompts),
        }
    }

    /// Refuses a place that is not in the prompts.
    pub(crate) fn check(&self, cursor: Cursor) -> Result<(), TrainError> {
        match self {
            Self::Prompts(feed) => Ok(feed.order.check(cursor)?),
            // Iterations are counted, and begin again behind the last one.
            Self::Replay(_) => Ok(()),
        }
    }

    /// Optimizer steps of the run.
    pub(crate) fn steps(&self, settings: &RolloutSettings, length: Option<Length>) -> u64 {
        let per_iteration = (settings.epochs * settings.minibatches) as u64;
        let epochs = match length {
            Some(Length::Steps(steps)) => return steps,
            length => length.map_or(1, |length| length.steps(1)),
        };
        match self {
            Self::Prompts(feed) => {
                let asked = epochs * feed.prompts.len() as u64;
                asked.div_ceil(settings.prompts as u64) * per_iteration
            }
            Self::Replay(iterations) => epochs * iterations.len() as u64 * per_iteration,
        }
    }

    /// What to say where an iteration asks for more prompts than there are, so that some come twice in it.
    pub(crate) fn repeats_note(&self, per_iteration: usize) -> Option<String> {
        let prompts = match self {
            Self::Prompts(feed) => feed.prompts.len(),
            Self::Replay(_) => return None,
        };
        (prompts < per_iteration).then(|| {
            format!(
                "an iteration asks for {per_iteration} prompts and there are {prompts}: \
                 each is in it about {:.1} times",
                per_iteration as f64 / prompts as f64
            )
        })
    }

    /// Prompts to sample on, the first of them; none in replay.
    pub(crate) fn sample_prompts(&self, count: usize) -> Vec<&[u32]> {
        match self {
            Self::Replay(_) => Vec::new(),
            Self::Prompts(feed) => {
                let asked = feed.prompts.iter().map(|asked| &asked.prompt);
                let from = feed.eval.iter().chain(asked.filter(|_| feed.eval.is_empty()));
                from.take(count).map(|prompt| prompt.ids.as_slice()).collect()
            }
        }
    }

    /// Held-out prompts; none in replay.
    pub fn eval(&self) -> &[Arc<PromptExample>] {
        match self {
            Self::Replay(_) => &[],
            Self::Prompts(feed) => &feed.eval,
        }
    }

    /// The next `count` prompts; one pass over all of them follows the other. None in replay.
    pub fn next(&mut self, count: usize, cursor: &mut Cursor) -> Vec<Arc<PromptExample>> {
        self.draw(count, cursor).iter().map(|asked| Arc::clone(&asked.prompt)).collect()
    }

    /// As [`Feed::next`], with demonstrations where there are any.
    pub(crate) fn draw(&mut self, count: usize, cursor: &mut Cursor) -> Vec<Arc<AskedPrompt>> {
        match self {
            Self::Prompts(PromptFeed { prompts, order, .. }) => {
                let drawn = (0..count).flat_map(|_| order.next_batch(cursor));
                drawn.map(|index| Arc::clone(&prompts[index])).collect()
            }
            Self::Replay(_) => Vec::new(),
        }
    }

    /// The recorded rollouts; `None` where they are sampled.
    pub(crate) fn replay(&self) -> Option<Replay<'_>> {
        match self {
            Self::Prompts(_) => None,
            Self::Replay(iterations) => Some(Replay(iterations)),
        }
    }

    /// Tokens of each prompt, or of each prompt with its recorded completions.
    pub fn rows(&self) -> Vec<usize> {
        match self {
            Self::Prompts(feed) => {
                feed.prompts.iter().map(|asked| asked.prompt.ids.len()).collect()
            }
            Self::Replay(iterations) => trees(iterations).collect(),
        }
    }

    /// The most tokens that a completion can have: `most`, or what the model's positions leave the
    /// shortest prompt.
    pub fn new_tokens_max(&self, most: usize) -> usize {
        match self {
            Self::Prompts(feed) => feed.new_tokens_max,
            Self::Replay(_) => most,
        }
    }

    /// Rows that the completions of one prompt may take at most, to plan memory.
    pub(crate) fn rows_max(&self, settings: &RolloutSettings) -> usize {
        match self {
            Self::Prompts(feed) => {
                let sampled = *settings.rollout.completions * feed.new_tokens_max;
                let rows = feed
                    .prompts
                    .iter()
                    .map(|asked| asked.prompt.ids.len() + asked.demonstration.len().max(sampled));
                rows.max().unwrap_or(sampled)
            }
            Self::Replay(iterations) => trees(iterations).max().unwrap_or(0),
        }
    }
}

/// Rows of each recorded prompt with its completions.
fn trees(iterations: &[RecordedIteration]) -> impl Iterator<Item = usize> {
    let all = iterations
        .iter()
        .flat_map(|one| one.rollouts.chunk_by(|(a, _), (b, _)| a.prompt.ids == b.prompt.ids));
    all.map(|tree| {
        let completions = tree.iter().map(|(r, _)| r.completion.ids.len());
        tree[0].0.prompt.ids.len() + completions.sum::<usize>()
    })
}

fn replay(
    settings: &RolloutSettings,
    path: &Path,
    opening: &mut Opening<'_>,
) -> Result<Vec<RecordedIteration>, TrainError> {
    let model = &opening.settings.model.path;
    let model = ModelConfig::read(model).map_err(hearken_model::ModelError::from)?;
    let tokenizer = opening.tokenizer.as_ref();
    let limits = ReplayLimits { vocab: model.vocab, tokens_max: model.max_positions, tokenizer };
    let iterations = read_replay(path, limits)?;
    for one in &iterations {
        let (found, expected) = (one.rollouts.len(), settings.minibatches);
        if found < expected {
            return Err(TrainError::Other(format!(
                "{}: iteration {}: found {found} rollouts, expected at least one for each of the \
                 {expected} of `{}.minibatches`",
                path.display(),
                one.iteration,
                settings.section
            )));
        }
    }
    let rollouts: usize = iterations.iter().map(|one| one.rollouts.len()).sum();
    opening.progress.note(&format!(
        "replay: {rollouts} recorded rollouts in {} iterations from {}; nothing is sampled",
        iterations.len(),
        path.display()
    ));
    Ok(iterations)
}

fn prompts(
    settings: &RolloutSettings,
    opening: &mut Opening<'_>,
) -> Result<PromptFeed, TrainError> {
    let (seeds, data) = (opening.seeds, opening.settings.data.clone());
    let max_new_tokens = *settings.rollout.max_new_tokens;
    let room = room(&opening.settings.model.path, max_new_tokens)?;
    if let Some(note) = room.note(max_new_tokens) {
        opening.progress.note(&note);
    }
    let Room { positions, prompt: room } = room;
    let mut encoder = opening.encoder(&data)?;
    let (asked, eval, mix): (Vec<_>, Vec<_>, _) = match settings.asked {
        SampledRecords::Prompts => {
            encoder.length.tokens_max = encoder.length.tokens_max.min(room);
            let dataset: Dataset<PromptExample> = Dataset::load(&data, &encoder, seeds)?;
            opening.note_data(&dataset, "prompts", "evaluation prompts");
            let asked = dataset.train.into_iter().map(|prompt| (prompt, Vec::new()));
            (asked.collect(), dataset.eval, dataset.mix)
        }
        SampledRecords::Demonstrations => {
            let dataset: Dataset<AnsweredPrompt> = Dataset::load(&data, &encoder, seeds)?;
            opening.note_data(&dataset, "demonstrations", "evaluation demonstrations");
            let part = |examples: Vec<AnsweredPrompt>| -> Result<Vec<_>, TrainError> {
                examples.into_iter().map(|one| parted(one, room)).collect()
            };
            let asked = part(dataset.train)?;
            let (eval, _): (_, Vec<_>) = part(dataset.eval)?.into_iter().unzip();
            (asked, eval, dataset.mix)
        }
    };
    let order = EpochOrder::new(data.shuffle.then_some(seeds), asked.len(), 1).mixed(mix.shares());
    let asked = asked.into_iter().map(|(prompt, demonstration)| {
        Arc::new(AskedPrompt { prompt: Arc::new(prompt), demonstration })
    });
    let prompts: Vec<_> = asked.collect();
    let eval: Vec<_> = eval.into_iter().map(Arc::new).collect();
    let lengths = prompts.iter().map(|asked| &asked.prompt).chain(&eval);
    let lengths = lengths.map(|prompt| prompt.ids.len());
    let new_tokens_max = max_new_tokens.min(positions.saturating_sub(lengths.min().unwrap_or(0)));
    Ok(PromptFeed { prompts, eval, order, new_tokens_max })
}

/// The most tokens of a prompt that the model in `path` completes with `max_new_tokens` more: what these
/// leave of its positions, and half of the positions where they leave less. A completion ends where the
/// positions do.
///
/// # Errors
/// If the model's configuration cannot be read.
pub fn room(path: &Path, max_new_tokens: usize) -> Result<Room, TrainError> {
    let model = ModelConfig::read(path).map_err(hearken_model::ModelError::from)?;
    let positions = model.max_positions;
    let prompt = positions.saturating_sub(max_new_tokens).max(positions / 2).max(1);
    Ok(Room { positions, prompt })
}

/// What a prompt and its completion have of a model's positions.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    positions: usize,
    /// The most tokens of a prompt.
    pub prompt: usize,
}

impl Room {
    /// What to say where completions of `max_new_tokens` do not fit behind every prompt.
    fn note(self, max_new_tokens: usize) -> Option<String> {
        let Self { positions, prompt } = self;
        (positions < prompt + max_new_tokens).then(|| {
            format!(
                "`rollout.max_new_tokens` is {max_new_tokens}, and the model has {positions} positions: \
                 prompts have at most {prompt} tokens, and a completion ends with the positions"
            )
        })
    }
}

/// A demonstration's prompt, of which at most `room` tokens, and its completion.
fn parted(one: AnsweredPrompt, room: usize) -> Result<(PromptExample, Vec<u32>), TrainError> {
    let AnsweredPrompt { prompt, completion } = one;
    let found = prompt.ids.len();
    if found == 0 || room < found {
        return Err(TrainError::Other(format!(
            "{}: found a prompt of {found} tokens, expected 1 to {room}: it is completed anew",
            prompt.source
        )));
    }
    Ok((prompt, completion))
}

/// The rollouts in `minibatches` parts of equal size (to within one), in a fresh order of what stays
/// together: neighbors in `together` with the same number, so that completions of one prompt share it.
/// Each part is in the order of the rollouts. Parts are empty only if there are too few rollouts.
pub(crate) fn minibatches(
    together: &[u64],
    minibatches: usize,
    seeds: Seeds,
    pass: u64,
) -> Vec<Vec<usize>> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, group) in together.iter().enumerate() {
        match members.last_mut() {
            Some(last) if together[last[0]] == *group => last.push(index),
            _ => members.push(vec![index]),
        }
    }
    let mut rng = seeds.stream("minibatches", pass);
    for last in (1..members.len()).rev() {
        members.swap(last, rng.random_range(0..=last));
    }
    let order = members.concat();
    let part = |index: usize| {
        let bounds = [index, index + 1].map(|i| i * order.len() / minibatches);
        let mut part = order[bounds[0]..bounds[1]].to_vec();
        part.sort_unstable();
        part
    };
    (0..minibatches).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minibatches_part_the_rollouts_anew_in_every_pass() {
        let (seeds, apart) = (Seeds::new(5), (0..10).collect::<Vec<u64>>());
        let mut orders = Vec::new();
        for pass in 0..4 {
            let parts = minibatches(&apart, 3, seeds, pass);
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 4]);
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
            assert!(!orders.contains(&parts));
            orders.push(parts);
        }
        assert_eq!(orders[1], minibatches(&apart, 3, seeds, 1));
    }

    #[test]
    fn minibatches_have_whole_groups_and_every_rollout_once() {
        let groups = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        for pass in 0..20 {
            let parts = minibatches(&groups, 2, Seeds::new(5), pass);
            for part in &parts {
                let of = |group: u64| part.iter().filter(|i| groups[**i] == group).count();
                assert!((0..4).all(|group| of(group).is_multiple_of(3)), "{part:?}");
            }
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..12).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_minibatch_is_the_rollouts_in_their_order() {
        assert_eq!(minibatches(&[0, 0, 1, 2, 2], 1, Seeds::new(1), 7), [[0, 1, 2, 3, 4]]);
    }
}
