//! How well a policy predicts held-out demonstrations.

use hearken_model::{Keep, Model};
use hearken_run::encode::{DemonstrationExample, Example};
use hearken_stats::bootstrap::bootstrap;
use hearken_tensor::Device;
use rand::Rng;

use super::{ExampleMicrobatch, STATISTICS, SftEvaluation};
use hearken_model::microbatch::microbatches;

/// Replicates of a bootstrap interval.
const ROUNDS: usize = 500;

/// Sums over the supervised tokens of one example.
#[derive(Clone, Copy, Debug, Default)]
struct ExampleSums {
    loss: f64,
    hits: f64,
    tokens: f64,
}

/// Loss, perplexity and accuracy on `examples`; `None` without any. Forward passes take at most
/// `tokens_max` rows, or one example.
pub fn evaluate<D: Device>(
    model: &Model<D>,
    examples: &[DemonstrationExample],
    tokens_max: usize,
    rng: &mut impl Rng,
) -> Option<SftEvaluation> {
    let sums = example_sums(model, examples, tokens_max);
    let mut ratio = |of: fn(&ExampleSums) -> f64| {
        let statistic = |sample: &[&ExampleSums]| {
            let tokens: f64 = sample.iter().map(|sums| sums.tokens).sum();
            (0.0 < tokens).then(|| sample.iter().map(|sums| of(sums)).sum::<f64>() / tokens)
        };
        bootstrap(&sums, statistic, ROUNDS, rng)
    };
    let eval_loss = ratio(|sums| sums.loss)?;
    Some(SftEvaluation {
        eval_loss,
        eval_perplexity: eval_loss.map(f64::exp),
        eval_mean_token_accuracy: ratio(|sums| sums.hits)?,
    })
}

fn example_sums<D: Device>(
    model: &Model<D>,
    examples: &[DemonstrationExample],
    tokens_max: usize,
) -> Vec<ExampleSums> {
    let rows: Vec<usize> = examples.iter().map(Example::rows).collect();
    let mut sums = Vec::with_capacity(examples.len());
    for group in microbatches(&rows, tokens_max) {
        let group: Vec<&DemonstrationExample> = examples[group].iter().collect();
        let microbatch = ExampleMicrobatch::new(&group);
        let pass = model.forward(&microbatch.batch, Keep::Nothing);
        let output = model.logprobs(&pass, &microbatch.predictions, STATISTICS);
        let mut tokens = output.logprobs.iter().zip(&output.argmax_hit);
        for example in group {
            let mut of = ExampleSums::default();
            for (&logprob, &hit) in tokens.by_ref().take(example.target_count()) {
                of.loss -= f64::from(logprob);
                of.hits += f64::from(u8::from(hit));
                of.tokens += 1.0;
            }
            sums.push(of);
        }
    }
    sums
}
