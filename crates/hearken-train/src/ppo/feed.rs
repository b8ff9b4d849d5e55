//! What an iteration starts from: prompts to sample on, or rollouts that were recorded.

use std::{path::Path, sync::Arc};

use hearken_model::{ModelConfig, Tokenizer};
use rand::RngExt;

use super::config::PpoConfig;
use crate::config::{DataConfig, Length};
use crate::dataset::Dataset;
use crate::encode::{Encoder, PromptExample};
use crate::error::TrainError;
use crate::order::{Cursor, Order};
use crate::progress::Progress;
use crate::rollout::{RecordedIteration, ReplayLimits, Rollout, read_replay};
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
    pub(super) eval: Vec<Arc<PromptExample>>,
    order: Order,
    per_iteration: usize,
}

impl Feed {
    pub(super) fn open(
        config: &PpoConfig,
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
    pub(super) fn steps(&self, config: &PpoConfig) -> u64 {
        let per_iteration = config.steps_per_iteration();
        match (self, config.length) {
            (_, Some(Length::Steps(steps))) => steps,
            (Self::Prompts(feed), length) => {
                let epochs = length.map_or(1, |length| length.steps(1));
                let asked = epochs * feed.prompts.len() as u64;
                asked.div_ceil(feed.per_iteration as u64) * per_iteration
            }
            (Self::Replay(iterations), length) => {
                let epochs = length.map_or(1, |length| length.steps(1));
                epochs * iterations.len() as u64 * per_iteration
            }
        }
    }

    /// Prompts to evaluate and to sample on, the first of them; none in replay.
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

    /// Rows that a rollout may take at most, to plan memory.
    pub(super) fn rows_max(&self, config: &PpoConfig) -> usize {
        match self {
            Self::Prompts(feed) => {
                let longest = feed.prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
                longest + config.rollout.max_new_tokens
            }
            Self::Replay(iterations) => {
                let all = iterations.iter().flat_map(|iteration| &iteration.rollouts);
                let rows = all.map(|(r, _)| r.prompt.ids.len() + r.completion.ids.len());
                rows.max().unwrap_or(0)
            }
        }
    }
}

impl PromptFeed {
    /// The prompts of the next iteration; one pass over all of them follows the other.
    pub(super) fn next(&mut self, cursor: &mut Cursor) -> Vec<Arc<PromptExample>> {
        (0..self.per_iteration)
            .flat_map(|_| self.order.next_batch(cursor))
            .map(|index| Arc::clone(&self.prompts[index]))
            .collect()
    }
}

/// The recorded rollouts of an iteration, and their scores.
pub(super) fn recorded(
    iterations: &[RecordedIteration],
    iteration: u64,
) -> (Vec<Rollout>, Vec<f64>) {
    let index = (iteration % iterations.len() as u64) as usize;
    iterations[index].rollouts.iter().cloned().unzip()
}

fn replay(
    config: &PpoConfig,
    path: &Path,
    tokenizer: Option<&Tokenizer>,
    progress: &mut dyn Progress,
) -> Result<Vec<RecordedIteration>, TrainError> {
    let model = ModelConfig::read(&config.model.path).map_err(hearken_model::ModelError::from)?;
    let limits = ReplayLimits { vocab: model.vocab, tokens_max: model.max_positions, tokenizer };
    let iterations = read_replay(path, limits)?;
    for one in &iterations {
        let (found, expected) = (one.rollouts.len(), config.ppo.minibatches);
        if found < expected {
            return Err(TrainError::Other(format!(
                "{}: iteration {}: found {found} rollouts, expected at least one for each of the \
                 {expected} of `ppo.minibatches`",
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
    config: &PpoConfig,
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
        per_iteration: config.rollouts_per_iteration() / config.rollout.completions,
    })
}

/// A fresh permutation of `rollouts` in `minibatches` parts of equal size (to within one), each part
/// in the order of the rollouts: completions of one prompt then share it.
pub(super) fn minibatches(
    rollouts: usize,
    minibatches: usize,
    seeds: Seeds,
    pass: u64,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rollouts).collect();
    let mut rng = seeds.stream("minibatches", pass);
    for last in (1..rollouts).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    let part = |index: usize| {
        let bounds = [index, index + 1].map(|i| i * rollouts / minibatches);
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
        let seeds = Seeds::new(5);
        let mut orders = Vec::new();
        for pass in 0..4 {
            let parts = minibatches(10, 3, seeds, pass);
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 4]);
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
            assert!(!orders.contains(&parts));
            orders.push(parts);
        }
        assert_eq!(orders[1], minibatches(10, 3, seeds, 1));
    }

    #[test]
    fn one_minibatch_is_the_rollouts_in_their_order() {
        assert_eq!(minibatches(5, 1, Seeds::new(1), 7), [[0, 1, 2, 3, 4]]);
    }
}
