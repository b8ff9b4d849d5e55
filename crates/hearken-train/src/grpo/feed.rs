//! What an iteration starts from: prompts to sample on, or rollouts that were recorded.

use std::{path::Path, sync::Arc};

use hearken_model::{ModelConfig, Tokenizer};
use rand::RngExt;

use super::config::GrpoConfig;
use crate::config::{DataConfig, Length};
use crate::dataset::Dataset;
use crate::encode::{Encoder, PromptExample};
use crate::error::TrainError;
use crate::order::{Cursor, Order};
use crate::progress::Progress;
use crate::rollout::{RecordedIteration, ReplayLimits, read_replay};
use crate::seeds::Seeds;

/// Where rollouts come from.
#[derive(Debug)]
pub(super) enum Feed {
    /// They are sampled.
    Prompts(PromptFeed),
    /// They are read from a file, iteration after iteration, and again from its start.
    Replay(Vec<RecordedIteration>),
}

/// Prompts in the order in which they are asked.
#[derive(Debug)]
pub(super) struct PromptFeed {
    prompts: Vec<Arc<PromptExample>>,
    eval: Vec<Arc<PromptExample>>,
    order: Order,
    per_iteration: usize,
}

impl Feed {
    pub(super) fn open(
        config: &GrpoConfig,
        tokenizer: Option<&Tokenizer>,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        match (&config.rollout.replay, &config.data) {
            (Some(path), _) => replay(config, path, tokenizer, progress).map(Self::Replay),
            (None, Some(data)) => prompts(config, data, tokenizer, progress).map(Self::Prompts),
            (None, None) => unreachable!("[data] is read unless rollouts are replayed"),
        }
    }

    /// Optimizer steps of the run.
    pub(super) fn steps(&self, config: &GrpoConfig) -> u64 {
        let per_iteration = config.steps_per_iteration();
        let epochs = match config.length {
            Some(Length::Steps(steps)) => return steps,
            length => length.map_or(1, |length| length.steps(1)),
        };
        match self {
            Self::Prompts(feed) => {
                let asked = epochs * feed.prompts.len() as u64;
                asked.div_ceil(feed.per_iteration as u64) * per_iteration
            }
            Self::Replay(iterations) => epochs * iterations.len() as u64 * per_iteration,
        }
    }

    /// Prompts to sample on, the first of them; none in replay.
    pub(super) fn sample_prompts(&self, count: usize) -> Vec<&[u32]> {
        match self {
            Self::Replay(_) => Vec::new(),
            Self::Prompts(feed) => {
                let from = if feed.eval.is_empty() { &feed.prompts } else { &feed.eval };
                from.iter().take(count).map(|prompt| prompt.ids.as_slice()).collect()
            }
        }
    }

    /// Held-out prompts; none in replay.
    pub(super) fn eval(&self) -> &[Arc<PromptExample>] {
        match self {
            Self::Replay(_) => &[],
            Self::Prompts(feed) => &feed.eval,
        }
    }

    /// Rows that a group may take at most, to plan memory.
    pub(super) fn rows_max(&self, config: &GrpoConfig) -> usize {
        match self {
            Self::Prompts(feed) => {
                let longest = feed.prompts.iter().map(|prompt| prompt.ids.len()).max();
                let completions = config.rollout.completions * config.rollout.max_new_tokens;
                longest.unwrap_or(0) + completions
            }
            Self::Replay(iterations) => {
                let rows = |iteration: &RecordedIteration| -> usize {
                    let rollouts = iteration.rollouts.iter();
                    rollouts.map(|(r, _)| r.prompt.ids.len() + r.completion.ids.len()).sum()
                };
                iterations.iter().map(rows).max().unwrap_or(0)
            }
        }
    }
}

impl PromptFeed {
    /// The next `count` prompts; one pass over all of them follows the other.
    pub(super) fn next(&mut self, count: usize, cursor: &mut Cursor) -> Vec<Arc<PromptExample>> {
        (0..count)
            .flat_map(|_| self.order.next_batch(cursor))
            .map(|index| Arc::clone(&self.prompts[index]))
            .collect()
    }
}

fn replay(
    config: &GrpoConfig,
    path: &Path,
    tokenizer: Option<&Tokenizer>,
    progress: &mut dyn Progress,
) -> Result<Vec<RecordedIteration>, TrainError> {
    let model = ModelConfig::read(&config.model.path).map_err(hearken_model::ModelError::from)?;
    let limits = ReplayLimits { vocab: model.vocab, tokens_max: model.max_positions, tokenizer };
    let iterations = read_replay(path, limits)?;
    for one in &iterations {
        let (found, expected) = (one.rollouts.len(), config.grpo.minibatches);
        if found < expected {
            return Err(TrainError::Other(format!(
                "{}: iteration {}: found {found} rollouts, expected at least one for each of the \
                 {expected} of `grpo.minibatches`",
                path.display(),
                one.iteration
            )));
        }
    }
    let rollouts: usize = iterations.iter().map(|one| one.rollouts.len()).sum();
    progress.note(&format!(
        "replay: {rollouts} recorded rollouts in {} iterations from {}; nothing is sampled",
        iterations.len(),
        path.display()
    ));
    Ok(iterations)
}

fn prompts(
    config: &GrpoConfig,
    data: &DataConfig,
    tokenizer: Option<&Tokenizer>,
    progress: &mut dyn Progress,
) -> Result<PromptFeed, TrainError> {
    let seeds = Seeds::new(config.run.seed);
    let model = ModelConfig::read(&config.model.path).map_err(hearken_model::ModelError::from)?;
    let (positions, new) = (model.max_positions, config.rollout.max_new_tokens);
    let room = positions.saturating_sub(new);
    if room == 0 {
        return Err(TrainError::Other(format!(
            "`rollout.max_new_tokens`: found {new}, expected less than the model's {positions} \
             positions"
        )));
    }
    let mut encoder = Encoder::for_model(&config.model.path, tokenizer, data)?;
    encoder.length.tokens_max = encoder.length.tokens_max.min(room);
    let dataset: Dataset<PromptExample> = Dataset::load(data, &encoder, seeds)?;
    progress.note(&dataset.train_report.note("prompts"));
    if !dataset.eval.is_empty() {
        progress.note(&dataset.eval_report.note("evaluation prompts"));
    }
    let shared = |prompts: Vec<PromptExample>| prompts.into_iter().map(Arc::new).collect();
    let count = dataset.train.len();
    let order = match data.shuffle {
        true => Order::shuffled(count, 1, seeds),
        false => Order::sequential(count, 1),
    };
    Ok(PromptFeed {
        prompts: shared(dataset.train),
        eval: shared(dataset.eval),
        order,
        per_iteration: config.grpo.prompts,
    })
}

/// The rollouts in `minibatches` parts of equal size (to within one), in a fresh order of their
/// groups, so that a part has whole groups but at its ends: completions of one prompt share it. Each
/// part is in the order of the rollouts. Parts are empty only if there are too few rollouts.
pub(super) fn minibatches(
    groups: &[u64],
    minibatches: usize,
    seeds: Seeds,
    pass: u64,
) -> Vec<Vec<usize>> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        match members.last_mut() {
            Some(last) if groups[last[0]] == *group => last.push(index),
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
    fn minibatches_have_whole_groups_and_every_rollout_once() {
        let groups = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        let mut orders = Vec::new();
        for pass in 0..20 {
            let parts = minibatches(&groups, 2, Seeds::new(5), pass);
            for part in &parts {
                let of = |group: u64| part.iter().filter(|i| groups[**i] == group).count();
                assert!((0..4).all(|group| of(group).is_multiple_of(3)), "{part:?}");
            }
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..12).collect::<Vec<_>>());
            orders.push(parts);
        }
        assert!(orders.iter().any(|parts| *parts != orders[0]));
        assert_eq!(orders[1], minibatches(&groups, 2, Seeds::new(5), 1));
    }

    #[test]
    fn one_minibatch_is_the_rollouts_in_their_order() {
        assert_eq!(minibatches(&[0, 0, 1, 2, 2], 1, Seeds::new(1), 7), [[0, 1, 2, 3, 4]]);
    }
}
