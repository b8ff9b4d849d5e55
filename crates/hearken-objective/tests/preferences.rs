//! Losses on preferences against their population optima.

mod support;

use hearken_objective::bradley_terry::{BradleyTerry, ScoredComparison};
use hearken_objective::dpo::{
    CompletionSums, PairLoss, PairObjective, PairTerms, PairValue, Reference,
};
use hearken_objective::numerics::sigmoid;
use support::finite_difference::{assert_close, uniform};
use support::{REFERENCE, SCORES, descend, gibbs};

fn arm(probability: f64, reference: f64) -> CompletionSums {
    CompletionSums { logprob: probability.ln(), ref_logprob: reference.ln(), tokens: 1 }
}

/// Expected derivative over all pairs of arms drawn from the reference and labelled by Bradley–Terry.
fn expected_gradient(objective: &PairObjective, probabilities: &[f64]) -> Vec<f64> {
    let mut gradient = vec![0.0; 4];
    for i in 0..4 {
        for j in 0..4 {
            let mut pair = PairTerms::new(
                arm(probabilities[i], REFERENCE[i]),
                arm(probabilities[j], REFERENCE[j]),
            );
            pair.probability = sigmoid(SCORES[i] - SCORES[j]);
            pair.weight = REFERENCE[i] * REFERENCE[j];
            let PairValue { grad_chosen, grad_rejected, .. } = objective.losses(&[pair])[0];
            gradient[i] += grad_chosen;
            gradient[j] += grad_rejected;
        }
    }
    gradient
}

#[test]
fn dpo_on_all_pairs_ends_at_gibbs() {
    let dpo = PairObjective::new(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.5);
    let found = descend(&REFERENCE, 20.0, 20_000, |p| expected_gradient(&dpo, p));
    assert_close(&found, &gibbs(&REFERENCE, &SCORES, 0.5), 1e-13);
}

#[test]
fn correcting_soft_labels_for_flips_again_overshoots() {
    // Soft labels are flips at known rates, which the plain loss already averages over.
    let robust = PairObjective::new(PairLoss::Robust { label_smoothing: 0.1 }, 0.5);
    let found = descend(&REFERENCE, 10.0, 5_000, |p| expected_gradient(&robust, p));
    assert!(gibbs(&REFERENCE, &SCORES, 0.5)[3] + 0.01 < found[3]);
}

#[test]
fn ipo_ends_at_its_closed_form() {
    // One pair with P(chosen is better) = 0.7 and τ = 0.1: the difference of log-ratios is 2.
    let ipo = PairObjective::new(PairLoss::Ipo, 0.1);
    let found = descend(&[0.5, 0.5], 0.05, 5_000, |p| {
        let mut pair = PairTerms::new(arm(p[0], 0.5), arm(p[1], 0.5));
        pair.probability = 0.7;
        let value = ipo.losses(&[pair])[0];
        vec![value.grad_chosen, value.grad_rejected]
    });
    assert_close(&[(found[0] / found[1]).ln()], &[2.0], 1e-12);
}

/// Without a reference the same loss ends at π ∝ e^{r/β}.
#[test]
fn a_loss_without_reference_forgets_the_reference() {
    let mut free = PairObjective::new(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.5);
    free.reference = Reference::Free;
    let found = descend(&REFERENCE, 20.0, 20_000, |p| expected_gradient(&free, p));
    assert_close(&found, &gibbs(&[0.25; 4], &SCORES, 0.5), 1e-12);
}

/// Fits utilities by gradient descent on (i, j, number of wins of i, number of comparisons).
fn fit(items: usize, comparisons: &[(usize, usize, f64, f64)]) -> Vec<f64> {
    let total: f64 = comparisons.iter().map(|c| c.3).sum();
    let mut utilities = vec![0.0; items];
    for _ in 0..3_000 {
        let mut gradient = vec![0.0; items];
        for &(i, j, wins, n) in comparisons {
            let pair = ScoredComparison {
                chosen: utilities[i],
                rejected: utilities[j],
                margin: 0.0,
                probability: wins / n,
            };
            let loss = BradleyTerry::PLAIN.loss(pair);
            gradient[i] += n / total * loss.grad_chosen;
            gradient[j] += n / total * loss.grad_rejected;
        }
        for (u, g) in utilities.iter_mut().zip(&gradient) {
            *u -= 3.0 * items as f64 / 4.0 * g;
        }
    }
    let mean = utilities.iter().sum::<f64>() / items as f64;
    utilities.iter().map(|u| u - mean).collect()
}

const UTILITIES: [f64; 5] = [-1.0, -0.4, 0.1, 0.4, 0.9];

fn all_pairs(wins: impl Fn(usize, usize) -> (f64, f64)) -> Vec<(usize, usize, f64, f64)> {
    (0..5)
        .flat_map(|i| (i + 1..5).map(move |j| (i, j)))
        .map(|(i, j)| {
            let (won, n) = wins(i, j);
            (i, j, won, n)
        })
        .collect()
}

#[test]
fn bradley_terry_recovers_utilities_up_to_their_mean() {
    let exact = all_pairs(|i, j| (sigmoid(UTILITIES[i] - UTILITIES[j]), 1.0));
    assert_close(&fit(5, &exact), &UTILITIES, 1e-10);
}

#[test]
fn sixteen_times_the_comparisons_leave_a_quarter_of_the_error() {
    let mean_square_error = |per_pair: usize| {
        let errors: Vec<f64> = (0..20)
            .map(|seed| {
                let draws = uniform(1_000 + seed, 25 * per_pair);
                let comparisons = all_pairs(|i, j| {
                    let p = sigmoid(UTILITIES[i] - UTILITIES[j]);
                    let draws = &draws[(5 * i + j) * per_pair..][..per_pair];
                    let wins = draws.iter().filter(|u| 0.5 * (**u + 1.0) < p).count();
                    (wins as f64, per_pair as f64)
                });
                let found = fit(5, &comparisons);
                found.iter().zip(UTILITIES).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
            })
            .collect();
        errors.iter().sum::<f64>() / errors.len() as f64
    };
    let ratio = (mean_square_error(40) / mean_square_error(640)).sqrt();
    assert!((3.0..5.3).contains(&ratio), "{ratio}");
}

/// Independent N(0,1) utilities differ by N(0,2): what the best possible reward model reaches.
#[test]
fn the_floor_of_the_loss_and_the_ceiling_of_accuracy_are_known() {
    let step = 1e-3;
    let (mut loss, mut accuracy) = (0.0, 0.0);
    for i in -14_000..=14_000 {
        let gap = f64::from(i) * step;
        let density = (-gap * gap / 4.0).exp() / (4.0 * std::f64::consts::PI).sqrt();
        let probability = sigmoid(gap);
        let pair = ScoredComparison { chosen: gap, rejected: 0.0, margin: 0.0, probability };
        loss += step * density * BradleyTerry::PLAIN.loss(pair).loss;
        accuracy += step * density * probability.max(1.0 - probability);
    }
    assert_close(&[loss, accuracy], &[0.539_500, 0.725_213], 5e-7);
}
