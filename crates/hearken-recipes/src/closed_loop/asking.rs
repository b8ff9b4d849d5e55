//! Which pairs of candidates are asked about: orders, a random share, and the propensity of every pair.

use hearken_stats::design::Worth;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What makes a pair worth asking about. P is the probability that one reward model gives the first of two candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Nothing: all pairs alike.
    Random,
    /// The entropy of the mean of P over the reward models: how open the answer is.
    Entropy,
    /// The variance of P over the reward models: how far they disagree. Asghari et al. 2026, arXiv:2603.17378, ask about the
    /// pair of several candidates where it is largest.
    Disagreement,
    /// The entropy of the mean of P less the mean of its entropies: what the answer says of which reward model is right (BALD, Houlsby et
    /// al. 2011, arXiv:1112.5745). Open questions on which all reward models agree are worth nothing.
    Information,
    /// What it adds to the determinant of the information of a Bradley–Terry model that is linear in the last hidden state of the first
    /// reward model: answers that together tell most.
    DOptimal,
    /// The distance to all that was asked before, in the same states: answers about what nothing is known of.
    KCenter,
    /// A draw: the best candidates of two reward models that are drawn.
    DoubleThompson,
}

impl Order {
    /// The name in files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Entropy => "entropy",
            Self::Disagreement => "disagreement",
            Self::Information => "information",
            Self::DOptimal => "d_optimal",
            Self::KCenter => "k_center",
            Self::DoubleThompson => "double_thompson",
        }
    }

    /// Whether a pair is worth something by itself, so that asking can end where none is worth enough.
    pub(super) fn has_worth(self) -> bool {
        !matches!(self, Self::Random | Self::DoubleThompson)
    }

    /// How much a pair is worth by itself, given P under each reward model; at least one. Orders that choose pairs together, or by a draw, say
    /// nothing of one alone.
    ///
    /// # Panics
    /// If there is no reward model, and the order is one of those that say something.
    pub(super) fn worth(self, probabilities: &[f64]) -> f64 {
        match self {
            Self::Random | Self::DOptimal | Self::KCenter | Self::DoubleThompson => 0.0,
            Self::Entropy => Worth::Entropy.of(probabilities),
            Self::Disagreement => Worth::Disagreement.of(probabilities),
            Self::Information => Worth::Information.of(probabilities),
        }
    }
}

/// Two candidates of one prompt that could be asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CandidatePair {
    /// The number of the prompt.
    pub(super) prompt: usize,
    /// The numbers of the candidates.
    pub(super) candidates: [usize; 2],
    /// What the order says it is worth.
    pub(super) worth: f64,
    /// The mean over the reward models of the probability of the first candidate.
    pub(super) probability: Option<f64>,
}

/// A pair that is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chosen {
    /// The pair.
    pub(super) pair: CandidatePair,
    /// The probability with which it was to be asked about, above 0.
    pub(super) propensity: f64,
    /// Whether it was drawn at random.
    pub(super) at_random: bool,
}

/// How many of `count` pairs are not drawn at random, if a share of them (rounded up) is.
///
/// # Panics
/// If `random_share` is not in [0, 1].
pub(super) fn certain_of(count: usize, random_share: f64) -> usize {
    assert!((0.0..=1.0).contains(&random_share), "random_share: {random_share}, in [0, 1]");
    count - ((random_share * count as f64).ceil() as usize).min(count)
}

/// The `count` pairs that are worth most, one per prompt at most; equals come in a random order.
pub(super) fn worth_most(
    pairs: &[CandidatePair],
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.shuffle(rng);
    order.sort_by(|a, b| pairs[*b].worth.total_cmp(&pairs[*a].worth));
    let mut asked_of = std::collections::BTreeSet::new();
    order.into_iter().filter(|at| asked_of.insert(pairs[*at].prompt)).take(count).collect()
}

/// Asks about `certain` pairs for certain, and about as many more as are missing to `count`, at random.
///
/// Those are drawn without replacement from all that is left, each with the same probability, so that no pair has a propensity of 0 as long
/// as some are drawn, and what is known of the asked pairs, each divided by its propensity, estimates what holds of all (Horvitz and
/// Thompson 1952). All pairs are asked about where there are no more than `count`.
pub(super) fn with_random(
    pairs: &[CandidatePair],
    certain: &[usize],
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Chosen> {
    let rest: Vec<usize> = (0..pairs.len()).filter(|at| !certain.contains(at)).collect();
    let (drawn, propensity) = drawn(rest, count.min(pairs.len()) - certain.len(), rng);
    let of = |propensity, at_random| {
        move |at: &usize| Chosen { pair: pairs[*at], propensity, at_random }
    };
    let drawn = drawn.iter().map(of(propensity, true));
    certain.iter().map(of(1.0, false)).chain(drawn).collect()
}

/// So many of some pairs, each with the same probability, and that.
fn drawn(mut rest: Vec<usize>, count: usize, rng: &mut ChaCha8Rng) -> (Vec<usize>, f64) {
    let count = count.min(rest.len());
    let propensity = count as f64 / rest.len() as f64;
    for place in 0..count {
        let from = rng.random_range(place..rest.len());
        rest.swap(place, from);
    }
    rest.truncate(count);
    (rest, propensity)
}

/// Asks about a pair of each of `certain_of` prompts, which are drawn alike, by the probability that `weights` give it among the pairs of
/// its prompt; and about as many more as are missing to `count`, at random from all that is left.
///
/// The propensity of a pair is P(prompt)·weight, and, where it is not asked about so, the share of the rest that is drawn.
///
/// # Panics
/// If there is not a weight for each pair.
pub(super) fn drawn_by_weight(
    pairs: &[CandidatePair],
    weights: &[f64],
    (count, random_share): (usize, f64),
    rng: &mut ChaCha8Rng,
) -> Vec<Chosen> {
    assert_eq!(pairs.len(), weights.len(), "weights: one per pair");
    let count = count.min(pairs.len());
    let mut of_prompt: std::collections::BTreeMap<usize, Vec<usize>> =
        std::collections::BTreeMap::new();
    for (at, pair) in pairs.iter().enumerate().filter(|(at, _)| 0.0 < weights[*at]) {
        of_prompt.entry(pair.prompt).or_default().push(at);
    }
    let mut prompts: Vec<Vec<usize>> = of_prompt.into_values().collect();
    let chosen = certain_of(count, random_share).min(prompts.len());
    let of_all = chosen as f64 / prompts.len().max(1) as f64;
    let mut share = vec![0.0; pairs.len()];
    for prompt in &prompts {
        let total: f64 = prompt.iter().map(|at| weights[*at]).sum();
        for at in prompt {
            share[*at] = of_all * weights[*at] / total;
        }
    }
    prompts.shuffle(rng);
    let by_weight: Vec<usize> = prompts[..chosen]
        .iter()
        .filter_map(|prompt| {
            let weights: Vec<f64> = prompt.iter().map(|at| weights[*at]).collect();
            Some(prompt[draw(&weights, rng)?])
        })
        .collect();
    let rest: Vec<usize> = (0..pairs.len()).filter(|at| !by_weight.contains(at)).collect();
    let (drawn, of_rest) = drawn(rest, count - by_weight.len(), rng);
    let of_rest = if of_rest.is_finite() { of_rest } else { 0.0 };
    let of = |at_random| {
        let share = &share;
        move |at: &usize| {
            let propensity = share[*at] + (1.0 - share[*at]) * of_rest;
            Chosen { pair: pairs[*at], propensity, at_random }
        }
    };
    by_weight.iter().map(of(false)).chain(drawn.iter().map(of(true))).collect()
}

/// Draws one of some things with these weights; `None` where all are 0.
fn draw(weights: &[f64], rng: &mut ChaCha8Rng) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    let mut left = rng.random::<f64>() * total;
    let mut last = None;
    for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| 0.0 < **weight) {
        last = Some(at);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Three prompts with three pairs each; the worth rises with the number.
    fn pairs() -> Vec<CandidatePair> {
        let pair = |at: usize| CandidatePair {
            prompt: at / 3,
            candidates: [[0, 1], [0, 2], [1, 2]][at % 3],
            worth: at as f64,
            probability: None,
        };
        (0..9).map(pair).collect()
    }

    /// The pairs that are worth most, and a share at random.
    fn choose(
        pairs: &[CandidatePair],
        count: usize,
        random_share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Vec<Chosen> {
        let certain = certain_of(count.min(pairs.len()), random_share);
        let certain = worth_most(pairs, certain, rng);
        with_random(pairs, &certain, count, rng)
    }

    /// What is drawn by weights is drawn as often as its propensity says.
    #[test]
    fn propensities_of_draws_are_frequencies() {
        let pairs = pairs();
        let weights = [0.7, 0.2, 0.1, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (count, random_share) in [(3, 0.3), (4, 0.75), (2, 0.0), (9, 0.5), (5, 0.2)] {
            let (mut asked, mut said) = ([0.0; 9], [None; 9]);
            for _ in 0..4000 {
                let chosen = drawn_by_weight(&pairs, &weights, (count, random_share), &mut rng);
                assert_eq!(chosen.len(), count);
                for one in chosen {
                    let at = one.pair.worth as usize;
                    asked[at] += 1.0 / 4000.0;
                    said[at] = Some(one.propensity);
                }
            }
            for (asked, said) in asked.iter().zip(said) {
                assert!((asked - said.unwrap_or(0.0)).abs() < 0.035, "{count} {asked} {said:?}");
            }
        }
        assert!(drawn_by_weight(&[], &[], (3, 0.5), &mut rng).is_empty());
    }

    #[test]
    fn the_pairs_worth_most_are_asked_one_per_prompt_and_the_rest_at_random() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let chosen = choose(&pairs(), 4, 0.5, &mut rng);
        let worth: Vec<f64> = chosen.iter().map(|one| one.pair.worth).collect();
        assert_eq!(worth[..2], [8.0, 5.0]);
        assert_eq!(chosen.iter().filter(|one| one.at_random).count(), 2);
        assert!(chosen[..2].iter().all(|one| (one.propensity - 1.0).abs() < 1e-12));
        assert!(chosen[2..].iter().all(|one| (one.propensity - 2.0 / 7.0).abs() < 1e-12));
        // There are three prompts, and so three pairs for certain.
        let chosen = choose(&pairs(), 5, 0.0, &mut rng);
        assert_eq!(chosen.iter().filter(|one| one.at_random).count(), 2);
        let all = choose(&pairs(), 100, 0.2, &mut rng);
        assert!(all.len() == 9 && all.iter().all(|one| 0.0 < one.propensity));
        assert!(choose(&[], 3, 0.5, &mut rng).is_empty());
    }

    /// The propensity is how often a pair is asked about, and dividing by it gives the mean over all pairs.
    #[test]
    fn propensities_are_frequencies_and_undo_the_choice() {
        let (pairs, rounds) = (pairs(), 4000);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut asked, mut said, mut sum) = ([0.0; 9], [0.0; 9], 0.0);
        for _ in 0..rounds {
            for one in choose(&pairs, 4, 0.5, &mut rng) {
                let at = one.pair.worth as usize;
                asked[at] += 1.0 / f64::from(rounds);
                said[at] = one.propensity;
                sum += one.pair.worth / one.propensity / 9.0 / f64::from(rounds);
            }
        }
        for (asked, said) in asked.iter().zip(said) {
            assert!((asked - said).abs() < 0.03, "{asked} {said}");
        }
        assert!((sum - 4.0).abs() < 0.1, "{sum}");
    }

    #[test]
    fn the_random_order_draws_every_pair_equally_often() {
        let even: Vec<CandidatePair> =
            pairs().into_iter().map(|pair| CandidatePair { worth: 0.0, ..pair }).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let chosen = choose(&even, 3, 1.0, &mut rng);
        assert!(
            chosen.iter().all(|one| one.at_random && (one.propensity - 1.0 / 3.0).abs() < 1e-12)
        );
    }
}
