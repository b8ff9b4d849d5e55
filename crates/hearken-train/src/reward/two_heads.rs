//! A reward model that learns with a head for the length, which takes what length explains and is thrown away.
//!
//! ```text
//! L = −ln σ(Σ of both heads of chosen − that of rejected) + a·(|ρ(r_Q, ℓ)| − ρ(r_L, ℓ)) + b·|w_Q·w_L|
//! ```
//!
//! Chen et al. 2024, arXiv:2402.07319. The correlations are over all completions of an optimizer step, so
//! that these are read before the first derivative, whoever reads them.

use hearken_model::{Head, Keep, OutputGrads};
use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
use hearken_objective::decorrelation::{TwoHeadLoss, TwoHeads, decorrelation, orthogonality};
use hearken_run::encode::{Example, PreferenceExample};
use hearken_run::metrics::inference_flops;
use hearken_run::ranks::Shares;
use hearken_run::run::{Nothing, Run};
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::{PairFindings, PairMicrobatch};
use hearken_model::microbatch::microbatches;

/// How much it counts that length is in its own head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LengthHead {
    /// a: of the correlations.
    pub(super) length: f64,
    /// b: of the product of the weights.
    pub(super) orthogonal: f64,
}

/// What both heads say of one completion, and how long it is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct HeadScores {
    quality: f64,
    length: f64,
    tokens: usize,
}

impl LengthHead {
    /// Leaves the gradients of this process's share of a step over `batch`.
    pub(super) fn learn<D: Device>(
        self,
        run: &mut Run<D, Nothing>,
        objective: BradleyTerry,
        batch: &[&PreferenceExample],
        shares: &Shares,
    ) -> PairFindings {
        assert_eq!(run.model.head(), Head::ScoreAndLength, "a head for the length");
        let own = shares.pick(batch);
        let rows: Vec<usize> = own.iter().map(|pair| pair.rows()).collect();
        let tokens_max = run.settings.train.microbatch_tokens;
        let mut said: Vec<[HeadScores; 2]> = Vec::with_capacity(own.len());
        for group in microbatches(&rows, tokens_max) {
            said.extend(read(run, &own[group]));
        }
        let whole = run.ranks.whole(shares, said.clone());
        let coupled = of_heads(&whole.concat());
        let (correlation, count) = (coupled.quality_correlation, batch.len());
        let (mut loss, mut comparisons) = (0.0, Vec::with_capacity(own.len()));
        let own_places = shares.own();
        for group in microbatches(&rows, tokens_max) {
            let microbatch = PairMicrobatch::new(&own[group.clone()]);
            let pass = run.forward(&microbatch.batch);
            let mut scalar_grads = Vec::with_capacity(4 * group.len());
            for at in group {
                let (pair, of) = (own[at], said[at]);
                let sum = |one: HeadScores| one.quality + one.length;
                let (margin, probability) = (pair.margin, pair.probability);
                let both = ScoredComparison {
                    chosen: sum(of[0]),
                    rejected: sum(of[1]),
                    margin,
                    probability,
                };
                let found = objective.loss(both);
                loss += found.loss;
                // What is kept is what is counted.
                let [chosen, rejected] = of.map(|one| one.quality);
                comparisons.push(ScoredComparison { chosen, rejected, ..both });
                let place = 2 * own_places[at];
                for (side, grad) in [found.grad_chosen, found.grad_rejected].into_iter().enumerate()
                {
                    let of_pair = grad / count as f64;
                    let quality = self.length * coupled.grad_quality[place + side];
                    let length = self.length * coupled.grad_length[place + side];
                    scalar_grads.extend([of_pair + quality, of_pair + length].map(|x| x as f32));
                }
            }
            let scalar_rows = &microbatch.rows;
            let grads = OutputGrads { scalar_rows, scalar_grads: &scalar_grads, ..<_>::default() };
            run.backward(pass, &grads);
        }
        let mut coupled_loss = self.length * coupled.loss;
        coupled_loss += self.push_apart(run);
        // The terms of the whole step are added once, and the mean over pairs divides them.
        if run.ranks.is_first() {
            loss += count as f64 * coupled_loss;
        }
        PairFindings {
            loss,
            comparisons,
            length_correlation: Some(correlation),
            particles: Vec::new(),
        }
    }

    /// Adds the gradient of the weights' product, which one process has; gives its loss.
    fn push_apart<D: Device>(self, run: &mut Run<D, Nothing>) -> f64 {
        let (index, width) = (run.model.scalar_weight_index(), run.model.config().width);
        if self.orthogonal == 0.0 || !run.model.params().is_trained(index) {
            return 0.0;
        }
        let weights: Vec<f64> = run.model.values(index).into_iter().map(f64::from).collect();
        let (loss, of_quality, of_length) = orthogonality(&weights[..width], &weights[width..]);
        if run.ranks.is_first() {
            let mut grads = vec![0.0; 2 * width];
            run.gradients.read(index, 0, &mut grads);
            let added = of_quality.iter().chain(&of_length);
            for (grad, more) in grads.iter_mut().zip(added) {
                *grad += (self.orthogonal * more) as f32;
            }
            run.gradients.write(index, 0, &grads);
        }
        self.orthogonal * loss
    }
}

/// What both heads say of pairs, without derivatives.
fn read<D: Device>(
    run: &mut Run<D, Nothing>,
    pairs: &[&PreferenceExample],
) -> Vec<[HeadScores; 2]> {
    let mut microbatch = PairMicrobatch::new(pairs);
    // The passes with gradients drop the same.
    microbatch.batch.dropout = Some(run.dropout());
    run.book_reading(inference_flops(&run.model, &microbatch.batch));
    let pass = run.model.forward(&microbatch.batch, Keep::Nothing);
    let scores = run.model.scalars(&pass, &microbatch.rows);
    let of_pair = |(pair, scores): (&&PreferenceExample, &[f32])| {
        let tokens = pair.completion_tokens();
        let said = |at: usize| HeadScores {
            quality: scores[2 * at].into(),
            length: scores[2 * at + 1].into(),
            tokens: tokens[at],
        };
        [said(0), said(1)]
    };
    pairs.iter().zip(scores.chunks_exact(4)).map(of_pair).collect()
}

fn of_heads(said: &[HeadScores]) -> TwoHeadLoss {
    let of = |of: fn(&HeadScores) -> f64| said.iter().map(of).collect::<Vec<f64>>();
    let (quality, length) = (of(|one| one.quality), of(|one| one.length));
    let tokens = of(|one| one.tokens as f64);
    decorrelation(TwoHeads { quality: &quality, length: &length, tokens: &tokens })
}
