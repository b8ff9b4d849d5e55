//! How a policy stands to held-out preferences.

use hearken_model::Model;
use hearken_stats::Estimate;
use hearken_stats::accuracy::accuracy;
use hearken_stats::mean::mean;
use hearken_tensor::Device;

use super::batch::read;
use super::loss::{Evidence, RefLogprobs, TreeLoss};
use super::metrics::DpoEvaluation;
use super::objective::Objective;
use super::reference::Portions;
use super::tree::Tree;

/// Evaluates on `trees`, whose reference log-probabilities are `references`; `None` without any.
pub(super) fn evaluate<D: Device>(
    model: &Model<D>,
    trees: &[Tree],
    references: &[RefLogprobs],
    objective: &Objective,
    portions: Portions,
    reward_shift: f64,
) -> Option<DpoEvaluation> {
    let trees: Vec<&Tree> = trees.iter().collect();
    let reading = objective.reading();
    let mut tokens = Vec::with_capacity(trees.len());
    for batch in trees.chunks(portions.batch_size) {
        tokens.extend(read(model, batch, reading, portions.tokens_max).0);
    }
    let evidence: Vec<Evidence<'_>> = trees
        .iter()
        .zip(&tokens)
        .zip(references)
        .map(|((tree, tokens), reference)| Evidence { tree, tokens, reference })
        .collect();
    let found = objective.losses(&evidence, reward_shift);
    let counts = objective.nll_counts(&trees);
    let count = trees.len() as f64;
    // Each record's share, so that their mean is the loss whatever the likelihood's own mean is.
    let share = |(tree, loss): (&&Tree, &TreeLoss)| {
        loss.loss + count * objective.nll_weight(tree, counts) * loss.nll
    };
    let losses: Vec<f64> = trees.iter().zip(&found.trees).map(share).collect();
    let side = |of: fn(&TreeLoss) -> [Option<f64>; 2], side: usize| -> Option<Estimate> {
        let values: Vec<f64> = found.trees.iter().filter_map(|tree| of(tree)[side]).collect();
        mean(&values)
    };
    let margin = |tree: &TreeLoss| match tree.rewards {
        [Some(chosen), Some(rejected)] => Some(chosen - rejected),
        _ => None,
    };
    let margins: Vec<f64> = found.trees.iter().filter_map(margin).collect();
    Some(DpoEvaluation {
        eval_loss: mean(&losses)?,
        chosen_reward: side(|tree| tree.rewards, 0),
        rejected_reward: side(|tree| tree.rewards, 1),
        accuracy: accuracy(&margins),
        margin: mean(&margins),
        chosen_logprob: side(|tree| tree.logprobs, 0),
        rejected_logprob: side(|tree| tree.logprobs, 1),
        kl: None,
    })
}
