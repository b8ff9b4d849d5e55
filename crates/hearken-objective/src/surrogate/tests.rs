use super::*;
use crate::finite_difference::{assert_close, assert_gradient, uniform};

const PPO: Surrogate = Surrogate::Clipped { clip: Clip { low: 0.2, high: 0.2 } };
const DUAL: Surrogate = Surrogate::DualClipped { clip: Clip { low: 0.2, high: 0.2 }, bound: 3.0 };
const SAPO: Surrogate = Surrogate::Sapo { positive_temperature: 1.0, negative_temperature: 1.05 };
const GMPO: Surrogate = Surrogate::Gmpo { log_range: 0.4 };
const VESPO: Surrogate = Surrogate::Vespo {
    positive: Vespo { power: 2.0, decay: 3.0 },
    negative: Vespo { power: 3.0, decay: 2.0 },
};
const CISPO: Surrogate = Surrogate::Cispo { min: 0.0, max: 5.0 };
const LEVELS: [RatioLevel; 3] =
    [RatioLevel::Token, RatioLevel::CompletionMean, RatioLevel::CompletionSum];

fn at_ratio(surrogate: Surrogate, ratio: f64, advantage: f64) -> TokenLoss {
    let terms = PolicyTerms {
        logprobs: &[ratio.ln() - 2.0],
        old_logprobs: &[-2.0],
        advantages: &[advantage],
    };
    surrogate.loss(RatioLevel::Token, terms)
}

fn check(surrogate: Surrogate, ratio: f64, advantage: f64, expected: f64) {
    assert_close(&[at_ratio(surrogate, ratio, advantage).sum], &[expected], 5e-7);
}

#[test]
fn the_clipped_surrogate_has_its_known_values() {
    check(PPO, 1.5, 1.0, -1.2);
    check(PPO, 1.5, -1.0, 1.5);
    check(PPO, 0.5, 1.0, -0.5);
    check(PPO, 0.5, -1.0, 0.8);
}

#[test]
fn the_dual_clip_bounds_the_loss_of_bad_tokens_only() {
    check(DUAL, 5.0, -1.0, 3.0);
    check(DUAL, 2.0, -1.0, 2.0);
    check(DUAL, 5.0, 1.0, -1.2);
    assert_eq!(at_ratio(DUAL, 5.0, -1.0).grad_logprobs, [0.0]);
}

#[test]
fn cispo_has_its_known_value_and_never_loses_its_gradient() {
    let terms =
        PolicyTerms { logprobs: &[-2.0], old_logprobs: &[-2.0 - 6f64.ln()], advantages: &[1.0] };
    let loss = CISPO.loss(RatioLevel::Token, terms);
    assert_close(&[loss.sum], &[10.0], 1e-12);
    assert_close(&loss.grad_logprobs, &[-5.0], 1e-12);
    assert_eq!(loss.clipped_high, 1);
}

#[test]
fn sapo_gates_have_their_known_values() {
    for (ratio, one, other) in
        [(0.5, 1.510_163, 1.415_938), (1.0, 2.0, 1.904_762), (1.5, 2.489_837, 2.393_585)]
    {
        check(SAPO, ratio, 1.0, -one);
        check(SAPO, ratio, -1.0, other);
    }
    check(SAPO, 1.2, 1.0, -2.199_336);
    assert_close(&at_ratio(SAPO, 1.0, 1.0).grad_logprobs, &[-1.0], 1e-14);
}

#[test]
fn vespo_weights_have_their_known_values() {
    let positive = Vespo { power: 2.0, decay: 3.0 };
    let negative = Vespo { power: 3.0, decay: 2.0 };
    assert_eq!(positive.weight(0.0), 1.0);
    assert_close(&[positive.weight(2f64.ln())], &[0.199_148], 5e-7);
    assert_close(&[negative.weight(0.5f64.ln())], &[0.339_785], 5e-7);
    let terms = PolicyTerms {
        logprobs: &[-1.0, -1.0],
        old_logprobs: &[-1.0 - 2f64.ln(), -1.0],
        advantages: &[1.0; 2],
    };
    let loss = VESPO.loss(RatioLevel::Token, terms);
    assert_close(&loss.grad_logprobs, &[-0.199_148, -0.199_148], 5e-7);
}

#[test]
fn gspo_has_its_known_ratio() {
    let terms =
        PolicyTerms { logprobs: &[-1.0, -2.0], old_logprobs: &[-1.1, -2.3], advantages: &[1.0; 2] };
    let wide = Surrogate::Clipped { clip: Clip::symmetric(1.0) };
    let loss = wide.loss(RatioLevel::CompletionMean, terms);
    assert_close(&[loss.sum / 2.0], &[-1.221_403], 5e-7);
    let narrow = Surrogate::Clipped { clip: Clip { low: 3e-4, high: 4e-4 } };
    let clipped = narrow.loss(RatioLevel::CompletionMean, terms);
    assert_close(&[clipped.sum / 2.0], &[-1.0004], 1e-12);
    assert_eq!((clipped.grad_logprobs, clipped.clipped_high), (vec![0.0; 2], 2));
}

#[test]
fn a_completion_ratio_of_sums_is_the_ratio_of_probabilities() {
    let terms =
        PolicyTerms { logprobs: &[-1.0, -2.0], old_logprobs: &[-1.1, -2.3], advantages: &[1.0; 2] };
    let wide = Surrogate::Clipped { clip: Clip::symmetric(1.0) };
    let loss = wide.loss(RatioLevel::CompletionSum, terms);
    assert_close(&[loss.sum], &[-0.4f64.exp()], 1e-14);
    assert_close(&loss.grad_logprobs, &[-0.4f64.exp(); 2], 1e-14);
}

/// On the first minibatch ρ = 1, so the gradient of every surrogate is REINFORCE's: −Â.
#[test]
fn on_policy_every_surrogate_has_the_gradient_of_reinforce() {
    let logprobs = [-1.0, -2.0, -0.3];
    let terms = PolicyTerms { logprobs: &logprobs, old_logprobs: &logprobs, advantages: &[0.7; 3] };
    for surrogate in [Surrogate::Reinforce, PPO, DUAL, CISPO, SAPO, GMPO, VESPO] {
        for level in LEVELS {
            let expected = match (level, surrogate) {
                // The completion is one action here, and CISPO's log-probabilities share it.
                (RatioLevel::CompletionSum, Surrogate::Cispo { .. }) => [-0.7 / 3.0; 3],
                _ => [-0.7; 3],
            };
            let loss = surrogate.loss(level, terms);
            assert_close(&loss.grad_logprobs, &expected, 1e-14);
            assert_eq!((loss.clipped_low, loss.clipped_high), (0, 0));
        }
    }
    let mixed = PolicyTerms { advantages: &[0.5, -3.0, 0.0], ..terms };
    assert_eq!(PPO.loss(RatioLevel::Token, mixed).grad_logprobs, [-0.5, 3.0, 0.0]);
}

#[test]
fn gradients_are_those_of_central_differences() {
    for seed in 0..20 {
        let n = 4;
        let old: Vec<f64> = uniform(seed, n).iter().map(|x| x - 2.0).collect();
        let new: Vec<f64> =
            uniform(seed + 100, n).iter().zip(&old).map(|(x, o)| o + 0.6 * x).collect();
        let advantages: Vec<f64> = uniform(seed + 200, n).iter().map(|x| 2.0 * x).collect();
        for surrogate in [PPO, DUAL, SAPO, GMPO] {
            for level in LEVELS {
                let of = |logprobs: &[f64]| {
                    let terms =
                        PolicyTerms { logprobs, old_logprobs: &old, advantages: &advantages };
                    surrogate.loss(level, terms)
                };
                assert_gradient(|x| of(x).sum, &new, &of(&new).grad_logprobs);
            }
        }
    }
}

/// REINFORCE, CISPO and VESPO hold their weight constant: the derivative is that of Σ w_t·log π_t.
#[test]
fn detached_weights_take_no_part_in_the_derivative() {
    let (old, new, advantages) = ([-1.0, -2.0], [-1.3, -1.2], [1.0, -0.5]);
    let terms = PolicyTerms { logprobs: &new, old_logprobs: &old, advantages: &advantages };
    for surrogate in [Surrogate::Reinforce, CISPO, VESPO] {
        let loss = surrogate.loss(RatioLevel::Token, terms);
        let linear: f64 = loss.grad_logprobs.iter().zip(new).map(|(g, x)| g * x).sum();
        assert_close(&[loss.sum], &[linear], 1e-14);
    }
}

#[test]
fn gmpo_stops_the_tokens_that_ran_ahead_and_lets_the_others_move() {
    let terms =
        PolicyTerms { logprobs: &[0.5, -0.5, 0.1], old_logprobs: &[0.0; 3], advantages: &[1.0; 3] };
    let loss = GMPO.loss(RatioLevel::Token, terms);
    assert_close(&[loss.sum], &[-3.0], 1e-14);
    assert_close(&loss.grad_logprobs, &[0.0, -1.0, -1.0], 1e-14);
    assert_eq!((loss.clipped_low, loss.clipped_high), (0, 1));
}

#[test]
fn an_empty_completion_has_no_loss() {
    let terms = PolicyTerms { logprobs: &[], old_logprobs: &[], advantages: &[] };
    for surrogate in [Surrogate::Reinforce, PPO, DUAL, CISPO, SAPO, GMPO, VESPO] {
        for level in LEVELS {
            assert_eq!(surrogate.loss(level, terms), TokenLoss::default());
        }
    }
}

#[test]
#[should_panic(expected = "old_logprobs: one per token")]
fn lengths_that_differ_are_a_bug() {
    PPO.loss(
        RatioLevel::Token,
        PolicyTerms { logprobs: &[0.0], old_logprobs: &[], advantages: &[0.0] },
    );
}
