use super::credit::ScoredCompletion;
use super::preset::{NAMES, named};
use super::*;
use crate::aggregation::StepCounts;
use crate::finite_difference::{assert_close, assert_gradient, uniform};
use crate::surrogate::Clip;

const LEVELS: [RatioLevel; 3] =
    [RatioLevel::Token, RatioLevel::CompletionMean, RatioLevel::CompletionSum];

fn preset(name: &str) -> Algorithm {
    named(name, 8).unwrap()
}

/// Log-probabilities of completions of 3, 1, 4 and 2 tokens; the first two and the last two are groups.
struct Batch {
    logprobs: Vec<Vec<f64>>,
    ref_logprobs: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
    scores: [f64; 4],
}

impl Batch {
    fn new() -> Self {
        let rows = |seed: u64| {
            [3, 1, 4, 2].iter().map(|&n| uniform(seed + n as u64, n)).collect::<Vec<_>>()
        };
        let below = |seed: u64| {
            rows(seed).into_iter().map(|r| r.iter().map(|x| x - 1.5).collect()).collect()
        };
        Self {
            logprobs: below(10),
            ref_logprobs: below(20),
            values: rows(30),
            scores: [1.0, 0.0, 0.25, 2.0],
        }
    }

    fn scored(&self) -> Vec<ScoredCompletion<'_>> {
        (0..4)
            .map(|i| ScoredCompletion {
                group: i / 2,
                score: self.scores[i],
                greedy_score: 0.5,
                token_scores: &[],
                old_logprobs: &self.logprobs[i],
                ref_logprobs: &self.ref_logprobs[i],
                values: &self.values[i],
            })
            .collect()
    }

    fn terms<'a>(&'a self, i: usize, advantages: &'a [f64]) -> CompletionTerms<'a> {
        CompletionTerms {
            logprobs: &self.logprobs[i],
            old_logprobs: &self.logprobs[i],
            sampled_logprobs: &self.logprobs[i],
            ref_logprobs: &self.ref_logprobs[i],
            advantages,
        }
    }

    /// Gradient of the optimizer step, row by row.
    fn step_gradient(&self, algorithm: &Algorithm) -> Vec<Vec<f64>> {
        let advantages = algorithm.credit(&self.scored()).advantages;
        let step = StepCounts::of(self.logprobs.iter().map(Vec::len));
        (0..4)
            .map(|i| {
                let loss = algorithm.loss(self.terms(i, &advantages[i]));
                let n = self.logprobs[i].len();
                let weight = algorithm.aggregation.token_weight(n, step);
                loss.grad_logprobs.iter().map(|g| weight * g).collect()
            })
            .collect()
    }
}

#[test]
fn a_constant_added_to_all_scores_changes_no_group_relative_advantage() {
    let mut batch = Batch::new();
    for name in NAMES {
        let algorithm = preset(name);
        if name == "ppo" || name == "remax" {
            continue;
        }
        let before = algorithm.credit(&batch.scored()).advantages.concat();
        batch.scores = batch.scores.map(|r| r + 3.0);
        let after = algorithm.credit(&batch.scored()).advantages.concat();
        assert_close(&after, &before, 1e-12);
        batch.scores = batch.scores.map(|r| r - 3.0);
    }
}

#[test]
fn on_policy_gspo_has_the_gradient_of_grpo() {
    let batch = Batch::new();
    let grpo = Algorithm { kl: KlPlacement::None, ..preset("grpo") };
    let expected = batch.step_gradient(&grpo).concat();
    assert_close(&batch.step_gradient(&preset("gspo")).concat(), &expected, 1e-14);
    assert_close(&batch.step_gradient(&preset("sapo")).concat(), &expected, 1e-14);
    assert_close(&batch.step_gradient(&preset("gmpo")).concat(), &expected, 1e-14);
}

#[test]
fn dr_grpo_is_a_fixed_share_of_rloo_over_the_greatest_length() {
    let batch = Batch::new();
    let rloo = Algorithm { kl: KlPlacement::None, ..preset("rloo") };
    // G = 2: (G−1)/G is ½; the constant is 8.
    let expected: Vec<f64> =
        batch.step_gradient(&rloo).concat().iter().map(|g| g / 2.0 / 8.0).collect();
    assert_close(&batch.step_gradient(&preset("dr_grpo")).concat(), &expected, 1e-14);
}

#[test]
fn rloo_takes_the_kl_of_the_whole_completion_from_its_score() {
    let batch = Batch::new();
    let penalized: Vec<f64> = (0..4)
        .map(|i| {
            let kl: f64 =
                batch.logprobs[i].iter().zip(&batch.ref_logprobs[i]).map(|(p, q)| p - q).sum();
            batch.scores[i] - 0.05 * kl
        })
        .collect();
    let found = preset("rloo").credit(&batch.scored()).advantages;
    let expected = penalized[0] - penalized[1];
    assert_close(&[found[0][0], found[0][2], found[1][0]], &[expected, expected, -expected], 1e-14);
}

#[test]
fn on_policy_the_clipped_ratio_of_whole_completions_is_rloo() {
    let batch = Batch::new();
    let rloo = preset("rloo");
    let clipped = Algorithm {
        ratio: RatioLevel::CompletionSum,
        surrogate: Surrogate::Clipped { clip: Clip::symmetric(0.2) },
        ..rloo
    };
    let expected = batch.step_gradient(&rloo).concat();
    assert_close(&batch.step_gradient(&clipped).concat(), &expected, 1e-14);
}

#[test]
fn ppo_credits_tokens_and_gives_returns_before_whitening() {
    let batch = Batch::new();
    let credited = preset("ppo").credit(&batch.scored());
    let all = credited.advantages.concat();
    assert_close(&[all.iter().sum::<f64>()], &[0.0], 1e-12);
    // One token: its return is its reward, whatever the value.
    let kl = batch.logprobs[1][0] - batch.ref_logprobs[1][0];
    assert_close(&credited.returns[1], &[0.0 - 0.05 * kl], 1e-14);
}

#[test]
fn reinforce_plus_plus_whitens_over_all_tokens() {
    let batch = Batch::new();
    for name in ["reinforce_plus_plus", "reinforce_plus_plus_baseline"] {
        let all = preset(name).credit(&batch.scored()).advantages.concat();
        let squares: f64 = all.iter().map(|a| a * a).sum();
        assert_close(&[all.iter().sum(), squares / 10.0], &[0.0, 1.0], 1e-6);
    }
}

#[test]
fn remax_credits_the_greedy_completion_with_nothing() {
    let mut batch = Batch::new();
    batch.scores[3] = 0.5;
    let remax = Algorithm { kl: KlPlacement::None, ..preset("remax") };
    let advantages = remax.credit(&batch.scored()).advantages;
    assert_eq!(advantages[3], [0.0; 2]);
    assert_eq!(advantages[0], [0.5; 3]);
}

#[test]
fn groups_may_be_interleaved() {
    let batch = Batch::new();
    let mut scored = batch.scored();
    scored.swap(1, 2);
    let found = preset("grpo").credit(&scored).advantages;
    let mut expected = preset("grpo").credit(&batch.scored()).advantages;
    expected.swap(1, 2);
    assert_eq!(found, expected);
}

#[test]
fn an_equal_group_has_no_gradient() {
    let batch = Batch { scores: [1.0, 1.0, 0.0, 0.0], ..Batch::new() };
    for name in ["grpo", "dr_grpo", "dapo", "gspo", "bnpo"] {
        let algorithm = Algorithm { kl: KlPlacement::None, ..preset(name) };
        assert!(batch.step_gradient(&algorithm).concat().iter().all(|g| *g == 0.0), "{name}");
    }
}

#[test]
fn a_completion_with_positive_advantage_rises() {
    let batch = Batch::new();
    for name in NAMES {
        let algorithm = Algorithm { kl: KlPlacement::None, ..preset(name) };
        for (sign, advantages) in [(1.0, [0.8; 3]), (-1.0, [-0.8; 3])] {
            let gradient = algorithm.loss(batch.terms(0, &advantages)).grad_logprobs;
            assert!(gradient.iter().all(|g| sign * g < 0.0), "{name}");
        }
    }
}

#[test]
fn gradients_are_those_of_central_differences() {
    let old = [-1.0, -2.0, -0.7, -1.4];
    let new = [-1.1, -1.8, -0.75, -1.0];
    let reference = [-1.5, -1.5, -1.0, -1.2];
    let sampled = [-1.0, -2.1, -0.6, -1.5];
    let advantages = [0.7, -0.4, 0.9, 1.2];
    let wide = Surrogate::Clipped { clip: Clip::symmetric(0.25) };
    let corrections = [
        SamplerCorrection::None,
        SamplerCorrection::Truncate { level: RatioLevel::Token, max: 1.05 },
        SamplerCorrection::Mask { level: RatioLevel::CompletionMean, min: 0.5, max: 2.0 },
        SamplerCorrection::Ratio,
        SamplerCorrection::Ratio,
        SamplerCorrection::Ratio,
    ];
    for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
        for weight in [KlWeight::One, KlWeight::Ratio] {
            let levels = LEVELS.into_iter().chain(LEVELS);
            for (ratio, correction) in levels.zip(corrections) {
                let kl = KlPlacement::InLoss { beta: 0.3, estimator, weight };
                let algorithm =
                    Algorithm { kl, ratio, correction, surrogate: wide, ..preset("grpo") };
                let of = |logprobs: &[f64]| {
                    algorithm.loss(CompletionTerms {
                        logprobs,
                        old_logprobs: &old,
                        sampled_logprobs: &sampled,
                        ref_logprobs: &reference,
                        advantages: &advantages,
                    })
                };
                assert_gradient(|x| of(x).sum, &new, &of(&new).grad_logprobs);
            }
        }
    }
}

/// k1 times the ratio is the penalty whose expected gradient is that of the KL itself; on policy its
/// derivative is 1 + k1.
#[test]
fn the_ratio_gives_k1_a_gradient() {
    let batch = Batch::new();
    let kl = KlPlacement::InLoss { beta: 1.0, estimator: KlEstimator::K1, weight: KlWeight::Ratio };
    let algorithm = Algorithm { kl, ..preset("grpo") };
    let gradient = algorithm.loss(batch.terms(0, &[0.0; 3])).grad_logprobs;
    let expected: Vec<f64> =
        batch.logprobs[0].iter().zip(&batch.ref_logprobs[0]).map(|(p, q)| 1.0 + p - q).collect();
    assert_close(&gradient, &expected, 1e-14);
}

#[test]
fn a_truncated_correction_weighs_each_token() {
    let batch = Batch::new();
    let correction = SamplerCorrection::Truncate { level: RatioLevel::Token, max: 2.0 };
    let algorithm = Algorithm { correction, kl: KlPlacement::None, ..preset("grpo") };
    let sampled: Vec<f64> =
        batch.logprobs[0].iter().zip([0.0, -5.0, 0.5]).map(|(x, d)| x + d).collect();
    let terms = CompletionTerms { sampled_logprobs: &sampled, ..batch.terms(0, &[1.0; 3]) };
    let expected = [-1.0, -2.0, -(-0.5f64).exp()];
    assert_close(&algorithm.loss(terms).grad_logprobs, &expected, 1e-14);
}

/// The policy has moved by 1.5 since the sampler and by nothing since π_old: a ratio to the sampler has left the range.
#[test]
fn a_ratio_to_the_sampler_counts_how_far_the_policy_has_moved_since() {
    let batch = Batch::new();
    let algorithm = Algorithm { kl: KlPlacement::None, ..preset("grpo") };
    let to_sampler = Algorithm { correction: SamplerCorrection::Ratio, ..algorithm };
    let mut sampled = batch.logprobs[0].clone();
    sampled[1] -= 1.5f64.ln();
    sampled[2] += 1.5f64.ln();
    for (advantage, expected) in [(1.0, [-1.0, 0.0, -1.0 / 1.5]), (-1.0, [1.0, 1.5, 0.0])] {
        let advantages = [advantage; 3];
        let terms = CompletionTerms { sampled_logprobs: &sampled, ..batch.terms(0, &advantages) };
        let loss = to_sampler.loss(terms);
        assert_close(&loss.grad_logprobs, &expected, 1e-14);
        assert_eq!(loss.clipped_high + loss.clipped_low, 1);
        // Its value is that of the plain loss whose π_old is the sampler.
        let plain = CompletionTerms { old_logprobs: &sampled, ..terms };
        assert_eq!(loss, algorithm.loss(plain));
    }
    let agrees = batch.terms(0, &[1.0; 3]);
    assert_eq!(to_sampler.loss(agrees), algorithm.loss(agrees));
}

#[test]
fn vespo_takes_the_correction_into_its_weight() {
    let batch = Batch::new();
    let correction = SamplerCorrection::Truncate { level: RatioLevel::Token, max: 2.0 };
    let algorithm = Algorithm { correction, ..preset("vespo") };
    let mut sampled = batch.logprobs[0].clone();
    sampled[1] -= 2f64.ln();
    let terms = CompletionTerms { sampled_logprobs: &sampled, ..batch.terms(0, &[1.0; 3]) };
    assert_close(&algorithm.loss(terms).grad_logprobs, &[-0.199_148; 3], 5e-7);
}

#[test]
fn a_nan_stays_visible() {
    let bad = [-1.0, f64::NAN, -2.0];
    let fine = [-1.0, -1.0, -2.0];
    for name in NAMES {
        let terms = CompletionTerms {
            logprobs: &bad,
            old_logprobs: &fine,
            sampled_logprobs: &fine,
            ref_logprobs: &fine,
            advantages: &[1.0; 3],
        };
        assert!(preset(name).loss(terms).sum.is_nan(), "{name}");
        let truncate = SamplerCorrection::Truncate { level: RatioLevel::Token, max: 2.0 };
        let corrected = Algorithm { correction: truncate, ..preset(name) };
        let terms = CompletionTerms { logprobs: &fine, sampled_logprobs: &bad, ..terms };
        assert!(corrected.loss(terms).sum.is_nan(), "{name}");
    }
}

#[test]
fn with_beta_keeps_the_placement() {
    for name in NAMES {
        let kl = preset(name).kl;
        assert_eq!(kl.with_beta(0.7).beta(), kl.beta().map(|_| 0.7));
        assert_eq!(kl.needs_reference(), kl.beta().is_some());
    }
}
