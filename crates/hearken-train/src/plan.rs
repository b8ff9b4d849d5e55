//! What a run is about to do, in sentences: batch arithmetic and memory.

use hearken_model::Model;
use hearken_tensor::Device;

use crate::microbatch::microbatches;

/// The sizes that a run's batches follow from.
#[derive(Clone, Copy, Debug)]
pub struct BatchPlan<'a> {
    /// Rows of each training example.
    pub rows: &'a [usize],
    /// Examples per optimizer step.
    pub batch_size: usize,
    /// The most rows of a microbatch.
    pub microbatch_tokens: usize,
    /// Optimizer steps of the run.
    pub steps: u64,
}

impl BatchPlan<'_> {
    /// Rows of the largest microbatch that can occur.
    pub fn microbatch_rows_max(&self) -> usize {
        let largest = self.rows.iter().copied().max().unwrap_or(0);
        let mut descending = self.rows.to_vec();
        descending.sort_unstable_by(|a, b| b.cmp(a));
        let batch: usize = descending.iter().take(self.batch_size).sum();
        batch.min(self.microbatch_tokens.max(largest))
    }

    /// Examples, tokens and microbatches per step, and how often each example is seen.
    pub fn note(&self) -> String {
        let examples = self.rows.len();
        let per_step = self.batch_size.min(examples);
        let tokens = self.rows.iter().sum::<usize>() as f64 / examples.max(1) as f64;
        let groups: usize = self
            .rows
            .chunks(self.batch_size)
            .map(|batch| microbatches(batch, self.microbatch_tokens).len())
            .sum();
        let steps_per_epoch = examples.div_ceil(self.batch_size).max(1);
        let microbatches = groups as f64 / steps_per_epoch as f64;
        format!(
            "{} steps of {per_step} examples (about {:.0} tokens in {microbatches:.1} microbatches \
             of at most {}); {examples} examples, each seen about {:.2} times",
            self.steps,
            tokens * per_step as f64,
            self.microbatch_tokens,
            self.steps as f64 / steps_per_epoch as f64,
        )
    }
}

/// What the parts of a run take in memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Master weights.
    pub weights: u64,
    /// Rounded copies of weights, of which bf16 products read one forward and one backward.
    pub copies: u64,
    /// Gradients of the trained parameters.
    pub gradients: u64,
    /// Moments of the optimizer.
    pub optimizer: u64,
    /// Activations of the largest microbatch.
    pub activations: u64,
}

impl MemoryPlan {
    /// The plan for one model whose largest microbatch has `rows` rows. With `recompute`, only the
    /// inputs of the blocks and one block are held.
    pub fn new<D: Device>(model: &Model<D>, rows: usize, recompute: Recompute) -> Self {
        let (trained, _) = model.parameter_counts();
        let per_row = model.activation_bytes_per_row();
        let layers = model.config().layers.max(1);
        let held = match recompute {
            Recompute::Never => per_row,
            Recompute::Blocks => per_row / layers + 4 * layers * model.config().width,
        };
        Self {
            weights: model.master_bytes() as u64,
            copies: model.copy_bytes() as u64,
            gradients: 4 * trained as u64,
            optimizer: 8 * trained as u64,
            activations: (held * rows) as u64,
        }
    }

    /// Everything together.
    pub fn total(&self) -> u64 {
        self.weights + self.copies + self.gradients + self.optimizer + self.activations
    }

    /// The plan of two models that are trained together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            copies: self.copies + other.copies,
            gradients: self.gradients + other.gradients,
            optimizer: self.optimizer + other.optimizer,
            activations: self.activations + other.activations,
        }
    }

    /// The plan with a model that is read only.
    #[must_use]
    pub fn beside<D: Device>(self, model: &Model<D>) -> Self {
        Self {
            weights: self.weights + model.master_bytes() as u64,
            copies: self.copies + model.copy_bytes() as u64,
            ..self
        }
    }

    /// The parts in a sentence.
    pub fn note(&self) -> String {
        format!(
            "memory: about {} (weights {}, copies {}, gradients {}, optimizer {}, activations {})",
            megabytes(self.total()),
            megabytes(self.weights),
            megabytes(self.copies),
            megabytes(self.gradients),
            megabytes(self.optimizer),
            megabytes(self.activations),
        )
    }
}

/// Whether the backward pass computes blocks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompute {
    /// All activations are held.
    Never,
    /// The inputs of blocks are held.
    Blocks,
}

impl From<bool> for Recompute {
    fn from(recompute: bool) -> Self {
        if recompute { Self::Blocks } else { Self::Never }
    }
}

/// How many parameters are trained, in a sentence.
pub fn parameters_note<D: Device>(model: &Model<D>) -> String {
    let (trained, all) = model.parameter_counts();
    format!("{trained} parameters trained, {} frozen", all - trained)
}

fn megabytes(bytes: u64) -> String {
    if bytes < 10_000_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_microbatch_is_bounded_by_batch_budget_and_tree() {
        let plan = |rows, batch_size, microbatch_tokens| {
            BatchPlan { rows, batch_size, microbatch_tokens, steps: 1 }.microbatch_rows_max()
        };
        assert_eq!(plan(&[10, 20, 30], 2, 1000), 50);
        assert_eq!(plan(&[10, 20, 30], 3, 40), 40);
        assert_eq!(plan(&[10, 20, 300], 2, 40), 300);
    }

    #[test]
    fn the_note_counts_batches() {
        let plan =
            BatchPlan { rows: &[10, 10, 10, 10], batch_size: 2, microbatch_tokens: 10, steps: 4 };
        let expected = "4 steps of 2 examples (about 20 tokens in 2.0 microbatches of at most 10); \
                        4 examples, each seen about 2.00 times";
        assert_eq!(plan.note(), expected);
    }
}
