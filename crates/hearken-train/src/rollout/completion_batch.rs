//! Completions as a batch: a forest of prompts with their completions, and what is read from it.

use std::ops::Range;

use hearken_model::{Batch, Keep, Model};
use hearken_objective::Mean;
use hearken_run::ranks::Ranks;
use hearken_tensor::Device;
use hearken_tensor::device::{HeadOptions, Prediction};

use hearken_model::microbatch::microbatches;

/// A prompt with a completion, as tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence<'a> {
    /// At least one token.
    pub prompt: &'a [u32],
    /// At least one token.
    pub completion: &'a [u32],
}

impl Sequence<'_> {
    /// Tokens of both.
    pub fn tokens(self) -> usize {
        self.prompt.len() + self.completion.len()
    }
}

/// A batch of completions.
///
/// Neighbors with the same prompt share it: the prompt is one segment, each completion a branch. The
/// last token of a completion is predicted but nothing is predicted from it, so it has no row.
#[derive(Clone, Debug)]
pub struct CompletionBatch {
    /// The tokens.
    pub batch: Batch,
    /// One per token of each completion: the row it is predicted from is where its state s_t is
    /// read.
    pub predictions: Vec<Prediction>,
    /// For each sequence, its predictions.
    pub spans: Vec<Range<usize>>,
}

impl CompletionBatch {
    /// The batch of `sequences`, in order.
    ///
    /// # Panics
    /// If a prompt or a completion has no token.
    pub fn new(sequences: &[Sequence<'_>]) -> Self {
        let mut this = Self { batch: Batch::new(), predictions: vec![], spans: vec![] };
        let mut root = None;
        for (index, sequence) in sequences.iter().enumerate() {
            let Sequence { prompt, completion } = *sequence;
            assert!(!prompt.is_empty() && !completion.is_empty(), "prompt and completion: tokens");
            if index == 0 || sequences[index - 1].prompt != prompt {
                root = Some(this.batch.push(None, prompt));
            }
            let (read, last) = (&completion[..completion.len() - 1], completion.len() - 1);
            let segment = this.batch.push(root, read);
            let first_row = root.and_then(|root| this.batch.last_row(root));
            let first_row = first_row.expect("a prompt has a last row");
            let start = this.predictions.len();
            this.predictions.push(Prediction { row: first_row as u32, token: completion[0] });
            this.predictions.extend((0..last).map(|index| Prediction {
                row: this.batch.row(segment, index) as u32,
                token: completion[index + 1],
            }));
            this.spans.push(start..this.predictions.len());
        }
        this
    }

    /// The rows of the predictions: where values are read.
    pub fn rows(&self) -> Vec<usize> {
        self.predictions.iter().map(|prediction| prediction.row as usize).collect()
    }

    /// One slice of `values` per sequence, as f64.
    pub fn split(&self, values: &[f32]) -> Vec<Vec<f64>> {
        assert_eq!(values.len(), self.predictions.len(), "values: one per prediction");
        let slice = |span: &Range<usize>| {
            values[span.clone()].iter().map(|value| f64::from(*value)).collect()
        };
        self.spans.iter().map(slice).collect()
    }
}

/// Consecutive sequences whose batches have at most `tokens_max` rows each. Neighbors with the same
/// prompt stay together: they are one tree, which is never split.
pub fn completion_microbatches(sequences: &[Sequence<'_>], tokens_max: usize) -> Vec<Range<usize>> {
    let mut trees: Vec<Range<usize>> = Vec::new();
    let mut tree_rows: Vec<usize> = Vec::new();
    for (index, Sequence { prompt, completion }) in sequences.iter().enumerate() {
        let branch = completion.len().saturating_sub(1);
        match (trees.last_mut(), tree_rows.last_mut()) {
            (Some(tree), Some(rows)) if sequences[index - 1].prompt == *prompt => {
                tree.end = index + 1;
                *rows += branch;
            }
            _ => {
                trees.push(index..index + 1);
                tree_rows.push(prompt.len() + branch);
            }
        }
    }
    let groups = microbatches(&tree_rows, tokens_max);
    groups.into_iter().map(|group| trees[group.start].start..trees[group.end - 1].end).collect()
}

/// How sequences go through a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForwardOptions {
    /// Logits are divided by it.
    pub temperature: f64,
    /// The most rows of one forward pass.
    pub microbatch_tokens: usize,
    /// The most bytes of logits that a forward pass leaves to its backward pass.
    pub logits_bytes: usize,
}

impl ForwardOptions {
    /// For the log-probability head. `statistics` as in [`HeadOptions::statistics`].
    pub fn head(self, statistics: bool) -> HeadOptions {
        HeadOptions { temperature: self.temperature as f32, statistics, ..HeadOptions::default() }
    }
}

/// Which heads are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// Log-probabilities.
    LogProbs,
    /// The value or score head.
    Values,
    /// Both, from one pass.
    LogProbsAndValues,
}

/// What a model says of completions, without gradients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchReading {
    /// log π of each token, per sequence; empty if not asked for.
    pub logprobs: Vec<Vec<f64>>,
    /// V(s_t) where each token is predicted, per sequence; empty if not asked for.
    pub values: Vec<Vec<f64>>,
    /// Entropy of the distributions that the tokens were drawn from, in nats; of nothing if
    /// log-probabilities were not asked for.
    pub entropy: Mean,
}

/// Reads completions with a model, microbatch by microbatch.
pub fn read<D: Device>(
    model: &Model<D>,
    sequences: &[Sequence<'_>],
    heads: Heads,
    options: ForwardOptions,
) -> BatchReading {
    let mut reading = BatchReading::default();
    for group in completion_microbatches(sequences, options.microbatch_tokens) {
        let completions = CompletionBatch::new(&sequences[group]);
        let pass = model.forward(&completions.batch, Keep::Nothing);
        if heads != Heads::Values {
            let output = model.logprobs(&pass, &completions.predictions, options.head(true));
            reading.logprobs.extend(completions.split(&output.logprobs));
            reading.entropy += output.entropy.iter().map(|entropy| f64::from(*entropy)).collect();
        }
        if heads != Heads::LogProbs {
            let values = model.scalars(&pass, &completions.rows());
            reading.values.extend(completions.split(&values));
        }
    }
    reading
}

/// [`read`] by several processes, of which each reads its share, and all have everything then.
pub fn read_together<D: Device>(
    ranks: &Ranks,
    model: &Model<D>,
    sequences: &[Sequence<'_>],
    heads: Heads,
    options: ForwardOptions,
) -> BatchReading {
    let mut tree = 0;
    let of_tree = |(index, sequence): (usize, &Sequence<'_>)| {
        tree += u64::from(0 < index && sequences[index - 1].prompt != sequence.prompt);
        (tree, sequence.tokens())
    };
    let parts: Vec<(u64, usize)> = sequences.iter().enumerate().map(of_tree).collect();
    let shares = ranks.shares_together(&parts);
    let BatchReading { logprobs, values, entropy } =
        read(model, &shares.pick(sequences), heads, options);
    // What is not asked for is empty on all ranks.
    let whole = |own: Vec<Vec<f64>>, asked: bool| match asked {
        true => ranks.whole(&shares, own),
        false => own,
    };
    BatchReading {
        logprobs: whole(logprobs, heads != Heads::Values),
        values: whole(values, heads != Heads::LogProbs),
        entropy: ranks.mean(entropy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn sequence(prompt: &'static [u32], completion: &'static [u32]) -> Sequence<'static> {
        Sequence { prompt, completion }
    }

    #[test]
    fn neighbors_with_one_prompt_share_it() {
        let sequences =
            [sequence(&[1, 2], &[3, 4, 5]), sequence(&[1, 2], &[6]), sequence(&[7], &[8, 9])];
        let batch = CompletionBatch::new(&sequences);
        assert_eq!(batch.batch.tokens, [1, 2, 3, 4, 7, 8]);
        let pairs: Vec<_> = batch.predictions.iter().map(|p| (p.row, p.token)).collect();
        assert_eq!(pairs, [(1, 3), (2, 4), (3, 5), (1, 6), (4, 8), (5, 9)]);
        assert_eq!(batch.spans, [0..3, 3..4, 4..6]);
        let split = batch.split(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(split, [vec![0.0, 1.0, 2.0], vec![3.0], vec![4.0, 5.0]]);
    }

    #[test]
    fn microbatches_keep_trees_whole() {
        let sequences = [
            sequence(&[1, 2], &[3, 4, 5]),
            sequence(&[1, 2], &[6, 7, 8]),
            sequence(&[7], &[8, 9]),
            sequence(&[7, 7], &[8]),
        ];
        assert_eq!(completion_microbatches(&sequences, 1), [0..2, 2..3, 3..4]);
        assert_eq!(completion_microbatches(&sequences, 4), [0..2, 2..4]);
        assert_eq!(completion_microbatches(&sequences, 8), [0..3, 3..4]);
        assert_eq!(completion_microbatches(&sequences, 100), std::slice::from_ref(&(0..4)));
    }
}
