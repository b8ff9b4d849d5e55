//! On-policy algorithms on a bandit of four arms, with exact expectations in the place of samples:
//! where they end is known in closed form.

mod support;

use hearken_objective::grpo::{
    Algorithm, CompletionTerms, KlPlacement, KlWeight, credit::ScoredCompletion, preset,
};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_objective::reward::{KlPenalty, with_kl_penalty};
use support::finite_difference::assert_close;
use support::{REFERENCE, SCORES, descend, expect, gibbs, kl, logs, softmax, through_softmax};

fn algorithm(name: &str, kl: KlPlacement) -> Algorithm {
    Algorithm { kl, ..preset::named(name, 1).expect("a published name") }
}

fn in_loss(beta: f64, estimator: KlEstimator, weight: KlWeight) -> KlPlacement {
    KlPlacement::InLoss { beta, estimator, weight }
}

/// Expected on-policy derivative: each arm is a completion of one token, drawn with its probability.
fn expected_gradient(algorithm: &Algorithm, probabilities: &[f64], advantages: &[f64]) -> Vec<f64> {
    let (logprobs, ref_logprobs) = (logs(probabilities), logs(&REFERENCE));
    (0..probabilities.len())
        .map(|a| {
            let loss = algorithm.loss(CompletionTerms {
                logprobs: &logprobs[a..=a],
                old_logprobs: &logprobs[a..=a],
                sampled_logprobs: &[],
                ref_logprobs: &ref_logprobs[a..=a],
                advantages: &advantages[a..=a],
            });
            probabilities[a] * loss.grad_logprobs[0]
        })
        .collect()
}

fn centered(probabilities: &[f64], x: &[f64]) -> Vec<f64> {
    let mean = expect(probabilities, x);
    x.iter().map(|x| x - mean).collect()
}

fn standardized(probabilities: &[f64], x: &[f64]) -> Vec<f64> {
    let centered = centered(probabilities, x);
    let squares: Vec<f64> = centered.iter().map(|x| x * x).collect();
    let std = expect(probabilities, &squares).sqrt();
    centered.iter().map(|x| x / std).collect()
}

#[test]
fn the_gibbs_policy_has_its_known_numbers() {
    let optimum = gibbs(&REFERENCE, &SCORES, 0.5);
    assert_close(&optimum, &[0.097_017, 0.158_231, 0.215_059, 0.529_693], 5e-7);
    let (reward, distance) = (expect(&optimum, &SCORES), kl(&optimum, &REFERENCE));
    assert_close(&[reward, distance], &[1.353_561, 1.067_397], 5e-7);
    assert_close(&[reward - 0.5 * distance], &[0.819_862], 5e-7);
}

#[test]
fn ppo_with_the_kl_in_the_reward_ends_at_gibbs() {
    let ppo = algorithm("ppo", KlPlacement::None);
    let penalty = KlPenalty { beta: 0.5, estimator: KlEstimator::K1 };
    let found = descend(&REFERENCE, 4.0, 2000, |probabilities| {
        let (logprobs, ref_logprobs) = (logs(probabilities), logs(&REFERENCE));
        let rewards: Vec<f64> = (0..4)
            .map(|a| {
                let terms = ReferenceTerms {
                    logprobs: &logprobs[a..=a],
                    ref_logprobs: &ref_logprobs[a..=a],
                };
                with_kl_penalty(SCORES[a], terms, penalty)[0]
            })
            .collect();
        expected_gradient(&ppo, probabilities, &centered(probabilities, &rewards))
    });
    assert_close(&found, &gibbs(&REFERENCE, &SCORES, 0.5), 1e-14);
}

#[test]
fn k2_and_k1_times_the_ratio_in_the_loss_end_at_gibbs_too() {
    for (estimator, weight) in
        [(KlEstimator::K2, KlWeight::One), (KlEstimator::K1, KlWeight::Ratio)]
    {
        let grpo = algorithm("dr_grpo", in_loss(0.5, estimator, weight));
        let found = descend(&REFERENCE, 4.0, 2000, |probabilities| {
            expected_gradient(&grpo, probabilities, &centered(probabilities, &SCORES))
        });
        assert_close(&found, &gibbs(&REFERENCE, &SCORES, 0.5), 1e-13);
    }
}

/// k3 in the loss pulls towards the reference by the reverse KL: π = β·ref / (λ − r).
#[test]
fn k3_in_the_loss_ends_elsewhere() {
    for (beta, lambda, expected) in [
        (0.5, 2.035_359, [0.122_828, 0.097_697, 0.072_439, 0.707_036]),
        (3.0, 3.523_959, [0.425_658, 0.297_623, 0.178_291, 0.098_428]),
    ] {
        let grpo = algorithm("dr_grpo", in_loss(beta, KlEstimator::K3, KlWeight::One));
        let found = descend(&REFERENCE, 0.5, 20_000, |probabilities| {
            expected_gradient(&grpo, probabilities, &centered(probabilities, &SCORES))
        });
        assert_close(&found, &expected, 5e-7);
        assert_close(&[beta + expect(&found, &SCORES)], &[lambda], 5e-7);
    }
}

fn standardized_grpo(beta: f64, start: &[f64]) -> Vec<f64> {
    let grpo = algorithm("grpo", in_loss(beta, KlEstimator::K1, KlWeight::Ratio));
    descend(start, 0.5, 20_000, |probabilities| {
        expected_gradient(&grpo, probabilities, &standardized(probabilities, &SCORES))
    })
}

/// Standardizing divides the reward by its spread under the policy: π ∝ ref·e^{r/(βσ)}.
#[test]
fn standardized_advantages_end_where_the_spread_feeds_back() {
    let found = standardized_grpo(1.0, &REFERENCE);
    assert_close(&found, &[0.213_249, 0.247_669, 0.239_704, 0.299_379], 5e-7);
    let squares: Vec<f64> = centered(&found, &SCORES).iter().map(|x| x * x).collect();
    let sigma = expect(&found, &squares).sqrt();
    assert_close(&[sigma], &[0.757_049], 5e-7);
    assert_close(&found, &gibbs(&REFERENCE, &SCORES, sigma), 1e-9);
}

#[test]
fn standardized_advantages_collapse_when_the_penalty_is_too_weak() {
    assert!(0.99 < standardized_grpo(0.5, &REFERENCE)[3]);
    assert!(0.99 < standardized_grpo(1.0, &[0.002, 0.003, 0.005, 0.99])[3]);
}

/// Σ over all groups of two, weighted by their probability, of the mean of advantage times ∇log π.
fn expected_over_pairs(name: &str, probabilities: &[f64]) -> Vec<f64> {
    let algorithm = algorithm(name, KlPlacement::None);
    let logprobs = logs(probabilities);
    let mut gradient = vec![0.0; probabilities.len()];
    for a in 0..4 {
        for b in 0..4 {
            let of = |arm: usize| ScoredCompletion {
                group: 0,
                score: SCORES[arm],
                greedy_score: 0.0,
                token_scores: &[],
                old_logprobs: &logprobs[arm..=arm],
                ref_logprobs: &[],
                values: &[],
            };
            let advantages = algorithm.credit(&[of(a), of(b)]).advantages;
            for (arm, advantage) in [(a, &advantages[0]), (b, &advantages[1])] {
                let loss = algorithm.loss(CompletionTerms {
                    logprobs: &logprobs[arm..=arm],
                    old_logprobs: &logprobs[arm..=arm],
                    sampled_logprobs: &[],
                    ref_logprobs: &[],
                    advantages: advantage,
                });
                gradient[arm] += 0.5 * probabilities[a] * probabilities[b] * loss.grad_logprobs[0];
            }
        }
    }
    through_softmax(&gradient, probabilities)
}

#[test]
fn leave_one_out_is_unbiased_and_the_group_mean_a_fixed_share_of_it() {
    let probabilities = softmax(&[0.1, -0.4, 0.3, 0.0]);
    let exact: Vec<f64> =
        centered(&probabilities, &SCORES).iter().zip(&probabilities).map(|(a, p)| -a * p).collect();
    assert_close(&expected_over_pairs("rloo", &probabilities), &exact, 1e-14);
    assert_close(&expected_over_pairs("remax", &probabilities), &exact, 1e-14);
    let half: Vec<f64> = exact.iter().map(|g| g / 2.0).collect();
    assert_close(&expected_over_pairs("dr_grpo", &probabilities), &half, 1e-14);
}
