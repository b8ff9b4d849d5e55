//! Token-level credit on all sequences of a small vocabulary: the optimum of reward minus KL factorizes
//! into token conditionals π*(a|s) ∝ ref·exp((V(s·a) − V(s))/β), and credit per token must find them.

mod support;

use std::collections::BTreeMap;

use hearken_objective::advantage::gae::{Gae, gae, rewards_to_go};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_objective::reward::{KlPenalty, with_kl_penalty};
use hearken_objective::surrogate::{Clip, PolicyTerms, RatioLevel, Surrogate};
use support::finite_difference::{assert_close, uniform};
use support::{gibbs, softmax, through_softmax};

const TOKENS: usize = 3;

/// A policy on sequences of [`TOKENS`] tokens: one row of logits per prefix.
type Table = BTreeMap<Vec<usize>, Vec<f64>>;

fn sequences(vocabulary: usize, tokens: usize) -> Vec<Vec<usize>> {
    (0..tokens).fold(vec![Vec::new()], |prefixes, _| {
        prefixes
            .iter()
            .flat_map(|p| (0..vocabulary).map(move |a| [p.as_slice(), &[a]].concat()))
            .collect()
    })
}

fn uniform_table(reference: &[f64]) -> Table {
    let logits: Vec<f64> = reference.iter().map(|p| p.ln()).collect();
    (0..TOKENS).flat_map(|t| sequences(reference.len(), t)).map(|s| (s, logits.clone())).collect()
}

fn conditionals(table: &Table) -> Table {
    table.iter().map(|(s, logits)| (s.clone(), softmax(logits))).collect()
}

fn logprobs(policy: &Table, sequence: &[usize]) -> Vec<f64> {
    (0..TOKENS).map(|t| policy[&sequence[..t]][sequence[t]].ln()).collect()
}

/// V(s) = β·ln Σ_{y ⊃ s} ref(y|s)·e^{R(y)/β}.
fn soft_value(reference: &[f64], reward: &dyn Fn(&[usize]) -> f64, s: &[usize], beta: f64) -> f64 {
    if s.len() == TOKENS {
        return reward(s);
    }
    let sum: f64 = (0..reference.len())
        .map(|a| {
            let next = [s, &[a]].concat();
            reference[a] * (soft_value(reference, reward, &next, beta) / beta).exp()
        })
        .sum();
    beta * sum.ln()
}

/// How the rewards of a sequence become advantages.
enum Credit {
    RewardsToGo,
    /// GAE with λ = 1 around arbitrary values: the baseline must not matter in expectation.
    Gae,
}

/// Exact policy gradient, each prefix's row divided by how often it is visited.
fn train(reference: &[f64], reward: &dyn Fn(&[usize]) -> f64, beta: f64, credit: &Credit) -> Table {
    let base = conditionals(&uniform_table(reference));
    let mut table = uniform_table(reference);
    let penalty = KlPenalty { beta, estimator: KlEstimator::K1 };
    let surrogate = Surrogate::Clipped { clip: Clip::symmetric(0.2) };
    for _ in 0..1_500 {
        let policy = conditionals(&table);
        let mut gradient: Table =
            policy.iter().map(|(s, p)| (s.clone(), vec![0.0; p.len()])).collect();
        let mut visits: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
        for y in sequences(reference.len(), TOKENS) {
            let (new, old) = (logprobs(&policy, &y), logprobs(&base, &y));
            let terms = ReferenceTerms { logprobs: &new, ref_logprobs: &old };
            let rewards = with_kl_penalty(reward(&y), terms, penalty);
            let advantages = match credit {
                Credit::RewardsToGo => rewards_to_go(&rewards, 1.0),
                Credit::Gae => {
                    let values: Vec<f64> = (0..TOKENS)
                        .map(|t| y[..t].iter().map(|a| *a as f64).sum::<f64>() - 0.5)
                        .collect();
                    gae(&rewards, &values, 0.0, Gae { gamma: 1.0, lambda: 1.0 })
                }
            };
            let loss = surrogate.loss(
                RatioLevel::Token,
                PolicyTerms { logprobs: &new, old_logprobs: &new, advantages: &advantages },
            );
            let probability = new.iter().sum::<f64>().exp();
            for t in 0..TOKENS {
                let row = gradient.get_mut(&y[..t]).expect("every prefix has a row");
                row[y[t]] += probability * loss.grad_logprobs[t];
                *visits.entry(y[..t].to_vec()).or_default() += probability;
            }
        }
        for (s, logits) in &mut table {
            let step = through_softmax(&gradient[s], &policy[s]);
            for (x, g) in logits.iter_mut().zip(step) {
                *x -= 1.0 / beta * g / visits[s];
            }
        }
    }
    conditionals(&table)
}

#[test]
fn counting_ones_has_its_known_optimum() {
    let reference = [0.7, 0.3];
    let ones = |y: &[usize]| y.iter().sum::<usize>() as f64;
    assert_close(&[soft_value(&reference, &ones, &[], 1.0)], &[1.247_206], 5e-7);
    let policy = train(&reference, &ones, 1.0, &Credit::RewardsToGo);
    for row in policy.values() {
        assert_close(&[row[1]], &[0.538_102], 5e-7);
    }
    let distance: f64 = sequences(2, TOKENS)
        .iter()
        .map(|y| {
            let base = conditionals(&uniform_table(&reference));
            let (new, old) = (logprobs(&policy, y), logprobs(&base, y));
            let log_ratio = new.iter().sum::<f64>() - old.iter().sum::<f64>();
            new.iter().sum::<f64>().exp() * log_ratio
        })
        .sum();
    assert_close(&[distance], &[0.367_099], 5e-7);
}

#[test]
fn random_rewards_end_at_the_soft_value_conditionals() {
    let reference = [0.5, 0.3, 0.2];
    for (seed, credit) in [(5, Credit::RewardsToGo), (6, Credit::Gae)] {
        let table: BTreeMap<Vec<usize>, f64> =
            sequences(3, TOKENS).into_iter().zip(uniform(seed, 27)).collect();
        let reward = |y: &[usize]| table[y];
        let beta = 0.7;
        for (s, found) in train(&reference, &reward, beta, &credit) {
            let next: Vec<f64> = (0..3)
                .map(|a| soft_value(&reference, &reward, &[s.as_slice(), &[a]].concat(), beta))
                .collect();
            assert_close(&found, &gibbs(&reference, &next, beta), 1e-12);
        }
    }
}
