//! One record as a tree of tokens: what its sequences begin with, and where they part.

use hearken_model::Batch;
use hearken_objective::dpo::unpaired::Desirability;
use hearken_run::encode::{PreferenceExample, UnpairedExample};
use hearken_tensor::device::{HeadOptions, HeadOutput, Prediction};
use serde::{Deserialize, Serialize};

/// Statistics are wanted of every prediction.
const STATISTICS: HeadOptions =
    HeadOptions { temperature: 1.0, chunk_bytes: 16 << 20, statistics: true, softcap: None };

/// A prompt with one or two completions, as segments of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    /// What all sequences begin with: the prompt, and what completions share behind it.
    pub(super) prefix: Vec<u32>,
    /// Tokens of the prompt, at most as many as `prefix`.
    pub(super) prompt_len: usize,
    /// The rest of each sequence. Chosen and rejected, either of which may be empty; or a judged
    /// completion and, if there is one, the mismatched completion of the KL term.
    pub(super) branches: Vec<Vec<u32>>,
    /// What was said of them.
    pub(super) label: TreeLabel,
    /// The branch that the reference wrote, where the loss asks who did.
    pub(super) explored: Option<usize>,
}

/// What was said of the first sequence of a tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TreeLabel {
    /// That it is better than the second one, or than an opponent that the tree does not have, or that it
    /// is good where nothing is compared.
    pub(super) probability: f64,
    /// By how much it is better than the second, in units of reward.
    pub(super) margin: f64,
}

impl TreeLabel {
    /// It was preferred, found good, or kept.
    pub(super) const GOOD: Self = Self { probability: 1.0, margin: 0.0 };

    /// What was said of a sequence that nothing is compared with.
    pub(super) fn verdict(self) -> Desirability {
        if self.probability < 0.5 { Desirability::Undesirable } else { Desirability::Desirable }
    }
}

/// Which tokens of a tree are predicted, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TreeReading {
    /// Whether those of the prompt are, too.
    pub(super) prompt: bool,
    /// How many branches are part of the batch.
    pub(super) branches: usize,
    /// Logits are divided by it.
    pub(super) temperature: f64,
}

impl TreeReading {
    /// The head's options.
    pub(super) fn head(self) -> HeadOptions {
        HeadOptions { temperature: self.temperature as f32, ..STATISTICS }
    }
}

impl Tree {
    /// Two completions of a prompt, the first preferred; what both begin with is kept once.
    pub(super) fn pair(prompt: &[u32], completions: [&[u32]; 2], label: TreeLabel) -> Self {
        let [a, b] = completions;
        let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        Self {
            prefix: [prompt, &a[..shared]].concat(),
            prompt_len: prompt.len(),
            branches: vec![a[shared..].to_vec(), b[shared..].to_vec()],
            label,
            explored: None,
        }
    }

    /// One completion of a prompt.
    pub(super) fn single(prompt: &[u32], completion: &[u32], label: TreeLabel) -> Self {
        Self {
            prefix: prompt.to_vec(),
            prompt_len: prompt.len(),
            branches: vec![completion.to_vec()],
            label,
            explored: None,
        }
    }

    pub(super) fn rows(&self, branches: usize) -> usize {
        self.prefix.len() + self.branches.iter().take(branches).map(Vec::len).sum::<usize>()
    }

    pub(super) fn prompt(&self) -> &[u32] {
        &self.prefix[..self.prompt_len]
    }

    /// The index in a sequence of its completion's first predicted token: nothing predicts the very
    /// first token of a sequence.
    fn first(&self) -> usize {
        self.prompt_len.max(1)
    }

    /// Predicted tokens of the prompt.
    pub(super) fn prompt_tokens(&self) -> usize {
        self.prompt_len.saturating_sub(1)
    }

    /// Predicted tokens of a branch's completion, those that it shares with another one included.
    pub(super) fn completion_tokens(&self, branch: usize) -> usize {
        (self.prefix.len() + self.branches[branch].len()).saturating_sub(self.first())
    }

    fn push(&self, batch: &mut Batch, reading: TreeReading, predictions: &mut Vec<Prediction>) {
        let prefix = (!self.prefix.is_empty()).then(|| batch.push(None, &self.prefix));
        let shared = self.prefix.len();
        if reading.prompt {
            predictions.extend((1..self.prompt_len).map(|index| {
                let segment = prefix.expect("a prompt has tokens");
                let row = batch.row(segment, index - 1) as u32;
                Prediction { row, token: self.prefix[index] }
            }));
        }
        for branch in self.branches.iter().take(reading.branches) {
            let segment = batch.push(prefix, branch);
            predictions.extend((self.first()..shared + branch.len()).map(|index| {
                let row = match (prefix, index - 1 < shared) {
                    (Some(prefix), true) => batch.row(prefix, index - 1),
                    _ => batch.row(segment, index - 1 - shared),
                };
                let token =
                    if index < shared { self.prefix[index] } else { branch[index - shared] };
                Prediction { row: row as u32, token }
            }));
        }
    }
}

/// Trees side by side, and what is predicted of them.
pub(super) struct TreeMicrobatch {
    pub(super) batch: Batch,
    pub(super) predictions: Vec<Prediction>,
}

impl TreeMicrobatch {
    pub(super) fn new(trees: &[&Tree], reading: TreeReading) -> Self {
        let mut batch = Batch::new();
        let mut predictions = Vec::new();
        for tree in trees {
            tree.push(&mut batch, reading, &mut predictions);
        }
        Self { batch, predictions }
    }
}

/// What the head says of some consecutive predictions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PredictedTokens {
    /// log π of each token, in nats.
    pub(super) logprobs: Vec<f64>,
    /// log Σ π² of the distribution that predicted it; empty without statistics.
    pub(super) log_square_sums: Vec<f64>,
    /// Sum of the entropies of those distributions.
    pub(super) entropy: f64,
    /// How many tokens were the most probable ones.
    pub(super) hits: usize,
}

/// What the head says of a tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TreeTokens {
    /// Of the prompt; empty where it is not read.
    pub(super) prompt: PredictedTokens,
    /// Of each branch's completion.
    pub(super) branches: Vec<PredictedTokens>,
}

/// Deals out the head's output of [`TreeMicrobatch::predictions`] to the trees.
pub(super) fn deal(trees: &[&Tree], reading: TreeReading, output: &HeadOutput) -> Vec<TreeTokens> {
    let mut start = 0;
    let mut take = |count: usize| {
        let range = start..start + count;
        start += count;
        PredictedTokens {
            logprobs: output.logprobs[range.clone()].iter().map(|&x| x.into()).collect(),
            log_square_sums: output
                .sum_squares
                .get(range.clone())
                .map_or_else(Vec::new, |sums| sums.iter().map(|&x| f64::from(x).ln()).collect()),
            entropy: output
                .entropy
                .get(range.clone())
                .map_or(0.0, |of| of.iter().map(|&entropy| f64::from(entropy)).sum()),
            hits: output.argmax_hit.get(range).map_or(0, |of| of.iter().filter(|&&x| x).count()),
        }
    };
    let mut of_tree = |tree: &&Tree| {
        let prompt = take(if reading.prompt { tree.prompt_tokens() } else { 0 });
        let branches = 0..reading.branches.min(tree.branches.len());
        let branches = branches.map(|branch| take(tree.completion_tokens(branch))).collect();
        TreeTokens { prompt, branches }
    };
    trees.iter().map(&mut of_tree).collect()
}

impl From<PreferenceExample> for Tree {
    fn from(pair: PreferenceExample) -> Self {
        let PreferenceExample { prefix, chosen, rejected, prompt_len, .. } = pair;
        let label = TreeLabel { probability: pair.probability, margin: pair.margin };
        Self { prefix, prompt_len, branches: vec![chosen, rejected], label, explored: None }
    }
}

impl From<UnpairedExample> for Tree {
    fn from(judged: UnpairedExample) -> Self {
        let probability = f64::from(u8::from(judged.desirable));
        let mut branches = vec![judged.completion];
        branches.extend(judged.kl_completion);
        Self {
            prompt_len: judged.prompt.len(),
            prefix: judged.prompt,
            branches,
            label: TreeLabel { probability, margin: 0.0 },
            explored: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(prefix: &[u32], prompt_len: usize, branches: [&[u32]; 2]) -> Tree {
        Tree {
            prefix: prefix.to_vec(),
            prompt_len,
            branches: branches.iter().map(|branch| branch.to_vec()).collect(),
            label: TreeLabel::GOOD,
            explored: None,
        }
    }

    fn predictions(tree: &Tree, prompt: bool) -> Vec<(u32, u32)> {
        let microbatch =
            TreeMicrobatch::new(&[tree], TreeReading { prompt, branches: 2, temperature: 1.0 });
        microbatch.predictions.iter().map(|found| (found.row, found.token)).collect()
    }

    /// Completions 7 8 and 7 9 of the prompt 5 6: what they share is computed once and counts twice.
    #[test]
    fn shared_tokens_of_completions_count_for_both() {
        let tree = pair(&[5, 6, 7], 2, [&[8], &[9]]);
        assert_eq!(predictions(&tree, false), [(1, 7), (2, 8), (1, 7), (2, 9)]);
        assert_eq!(predictions(&tree, true)[0], (0, 6));
        assert_eq!((tree.rows(2), tree.completion_tokens(0), tree.prompt_tokens()), (5, 2, 1));
    }

    #[test]
    fn a_completion_that_is_a_prefix_of_the_other_has_an_empty_branch() {
        let tree = pair(&[5, 6, 7], 2, [&[], &[8, 9]]);
        assert_eq!(predictions(&tree, false), [(1, 7), (1, 7), (2, 8), (3, 9)]);
    }

    #[test]
    fn the_first_token_of_a_sequence_without_prompt_is_not_predicted() {
        let tree = pair(&[], 0, [&[5, 6], &[7, 8]]);
        assert_eq!(predictions(&tree, false), [(0, 6), (2, 8)]);
    }

    #[test]
    fn what_the_head_says_is_dealt_out_in_order() {
        let trees = [pair(&[5, 6, 7], 2, [&[8], &[]]), pair(&[1], 1, [&[2], &[3, 4]])];
        let trees: Vec<&Tree> = trees.iter().collect();
        let reading = TreeReading { prompt: true, branches: 2, temperature: 1.0 };
        let count = TreeMicrobatch::new(&trees, reading).predictions.len();
        let logprobs = (0..count).map(|index| index as f32).collect();
        let dealt = deal(&trees, reading, &HeadOutput { logprobs, ..HeadOutput::default() });
        assert_eq!(dealt[0].prompt.logprobs, [0.0]);
        assert_eq!(dealt[0].branches[0].logprobs, [1.0, 2.0]);
        assert_eq!(dealt[0].branches[1].logprobs, [3.0]);
        assert_eq!(dealt[1].branches[0].logprobs, [4.0]);
        assert_eq!(dealt[1].branches[1].logprobs, [5.0, 6.0]);
    }
}
