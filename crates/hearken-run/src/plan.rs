//! What a run is about to do, in sentences: batch arithmetic and memory.

use hearken_model::{Footprint, Model};
use hearken_tensor::Device;

use hearken_model::microbatch::microbatches;

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
    /// Whether an epoch has shares of several sources, and not every example once.
    pub is_mixed: bool,
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
        let fewer = match examples < self.batch_size {
            true => format!(
                "; `train.batch_size` is {}, and every step takes all {examples} there are",
                self.batch_size
            ),
            false => String::new(),
        };
        let passes = self.steps as f64 / steps_per_epoch as f64;
        let seen = match self.is_mixed {
            true => format!("an epoch of {examples} examples, about {passes:.2} of it"),
            false => format!("{examples} examples, each seen about {passes:.2} times"),
        };
        format!(
            "{} steps of {per_step} examples (about {:.0} tokens in {microbatches:.1} microbatches \
             of at most {}); {seen}{fewer}",
            self.steps,
            tokens * per_step as f64,
            self.microbatch_tokens,
        )
    }
}

/// What a process takes besides models and what goes through them: the program, its threads' stacks,
/// tokenizer and records, the logits of one chunk, and what the pool of buffers keeps in any case.
const PROGRAM_BYTES: u64 = 96 << 20;

/// Bytes that are held for each byte that goes through a model: lengths of buffers are rounded up to
/// classes, and the pool keeps buffers of one microbatch's classes while another of other sizes runs.
pub(crate) const BUFFERS_PER_BYTE: f64 = 1.25;

/// What the parts of a run take in memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Master weights.
    pub weights: u64,
    /// Rounded copies of weights, of which bf16 products read one forward and one backward.
    pub copies: u64,
    /// Gradients of the trained parameters.
    pub gradients: u64,
    /// Moments of the optimizer, those of this process.
    pub optimizer: u64,
    /// Activations of the largest microbatch.
    pub activations: u64,
    /// Logits that its backward pass need not compute again.
    pub logits: u64,
    /// Keys and values while completions are sampled. The buffers of activations wait at that time.
    pub cache: u64,
}

impl MemoryPlan {
    /// The plan of one model that is trained, nothing going through it.
    pub fn trained(model: &Footprint) -> Self {
        Self {
            gradients: 4 * model.trained as u64,
            optimizer: 8 * model.trained as u64,
            ..Self::default()
        }
        .beside(model)
    }

    /// The plan with a model that is read only.
    #[must_use]
    pub fn beside(self, model: &Footprint) -> Self {
        Self {
            weights: self.weights + model.master_bytes as u64,
            copies: self.copies + model.copy_bytes as u64,
            ..self
        }
    }

    /// The plan with a running mean of what is trained of a model, of which products may read copies.
    #[must_use]
    pub fn with_average(self, model: &Footprint) -> Self {
        let masters = 4 * model.trained as u64;
        Self {
            weights: self.weights + masters,
            copies: self.copies + masters.min(model.copy_bytes as u64),
            ..self
        }
    }

    /// The plan of each of so many processes, which share the optimizer's moments.
    #[must_use]
    pub fn shared_by(self, processes: usize) -> Self {
        Self { optimizer: self.optimizer.div_ceil(processes as u64), ..self }
    }

    /// The plan of two models that are trained together: their microbatches follow one another.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            copies: self.copies + other.copies,
            gradients: self.gradients + other.gradients,
            optimizer: self.optimizer + other.optimizer,
            activations: self.activations.max(other.activations),
            logits: self.logits.max(other.logits),
            cache: self.cache.max(other.cache),
        }
    }

    /// The plan with a microbatch of `rows` rows of a model.
    #[must_use]
    pub fn with_rows(self, model: &Footprint, rows: usize, recompute: Recompute) -> Self {
        let activations = (bytes_per_row(model, recompute) * rows as f64) as u64;
        Self { activations: self.activations.max(activations), ..self }
    }

    /// The plan with as many logits of those rows as fit into so many bytes.
    #[must_use]
    pub fn with_logits(self, model: &Footprint, rows: usize, logits_bytes: usize) -> Self {
        let logits = rows * model.logits_bytes_per_row;
        let logits = logits.min(logits_bytes) as f64 * BUFFERS_PER_BYTE;
        Self { logits: self.logits.max(logits as u64), ..self }
    }

    /// The plan with a cache of keys and values of so many bytes.
    #[must_use]
    pub fn with_cache(self, cache: u64) -> Self {
        Self { cache, ..self }
    }

    /// What is held all the time.
    pub fn held(&self) -> u64 {
        self.models() + self.program()
    }

    fn models(&self) -> u64 {
        self.weights + self.copies + self.gradients + self.optimizer
    }

    /// What a process takes besides; the pool of buffers keeps a part of what has been in use.
    fn program(&self) -> u64 {
        PROGRAM_BYTES + self.models() / 32
    }

    /// The most that is held at a time.
    pub fn total(&self) -> u64 {
        self.held() + self.activations + self.logits + self.cache
    }

    /// The parts in a sentence.
    pub fn note(&self) -> String {
        let some = |name: &str, bytes| match bytes {
            0 => String::new(),
            bytes => format!("{name}{}", megabytes(bytes)),
        };
        let logits = some(", logits ", self.logits);
        let cache = some(", cache ", self.cache);
        format!(
            "memory: about {} (weights {}, copies {}, gradients {}, optimizer {}, activations \
             {}{logits}{cache}, program {})",
            megabytes(self.total()),
            megabytes(self.weights),
            megabytes(self.copies),
            megabytes(self.gradients),
            megabytes(self.optimizer),
            megabytes(self.activations),
            megabytes(self.program()),
        )
    }
}

/// Bytes of one row of a microbatch.
pub(crate) fn bytes_per_row(model: &Footprint, recompute: Recompute) -> f64 {
    let bytes = match recompute {
        Recompute::Never => model.kept_bytes_per_row(),
        Recompute::Blocks => model.recomputed_bytes_per_row(),
    };
    bytes as f64 * BUFFERS_PER_BYTE
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

/// A number of bytes for people: "12.3 MB", from ten thousand of them "12.3 GB".
pub fn megabytes(bytes: u64) -> String {
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
            BatchPlan { rows, batch_size, microbatch_tokens, steps: 1, is_mixed: false }
                .microbatch_rows_max()
        };
        assert_eq!(plan(&[10, 20, 30], 2, 1000), 50);
        assert_eq!(plan(&[10, 20, 30], 3, 40), 40);
        assert_eq!(plan(&[10, 20, 300], 2, 40), 300);
    }

    #[test]
    fn the_note_counts_batches() {
        let plan = BatchPlan {
            rows: &[10, 10, 10, 10],
            batch_size: 2,
            microbatch_tokens: 10,
            steps: 4,
            is_mixed: false,
        };
        let expected = "4 steps of 2 examples (about 20 tokens in 2.0 microbatches of at most 10); \
                        4 examples, each seen about 2.00 times";
        assert_eq!(plan.note(), expected);
        let mixed = BatchPlan { is_mixed: true, ..plan }.note();
        assert!(mixed.ends_with("; an epoch of 4 examples, about 2.00 of it"), "{mixed}");
        let note = BatchPlan { batch_size: 64, ..plan }.note();
        assert!(note.ends_with("`train.batch_size` is 64, and every step takes all 4 there are"));
    }
}
