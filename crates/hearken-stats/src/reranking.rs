//! Choosing one of several answers, and how often the choice is right.
//!
//! Answers that say the same are one group. The accuracy of a choice among n answers is estimated from m ≥ n of them:
//! exactly over all subsets where there is a formula, and over random subsets where there is none.

use rand::Rng;
use rand::seq::index::sample;

use crate::proportion::wilson;
use crate::{Estimate, bootstrap};

/// An answer to choose from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which answers say the same; `None` of an answer that says nothing, which no vote counts.
    pub group: Option<usize>,
    /// What the answer is worth: the probability that it is right, where votes are weighted.
    pub score: f64,
    /// Whether it is right.
    pub right: bool,
}

/// How one answer is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RerankingRule {
    /// The one with the highest score.
    Best,
    /// One of the largest group. Wang et al. 2023, arXiv:2203.11171.
    Majority,
    /// One of the group with the largest sum of scores. Li et al. 2023, arXiv:2206.02336.
    Weighted,
    /// A right one, where there is one: no choice can be better.
    Oracle,
}

/// The index of the answer that is chosen; `None` of no answers. Of equals, the first.
///
/// ```
/// use hearken_stats::reranking::{Candidate, RerankingRule, choose};
/// let one = |group, score| Candidate { group: Some(group), score, right: false };
/// let answers = [one(0, 0.9), one(1, 0.5), one(1, 0.6)];
/// assert_eq!(choose(&answers, RerankingRule::Best), Some(0));
/// assert_eq!(choose(&answers, RerankingRule::Majority), Some(1));
/// assert_eq!(choose(&answers, RerankingRule::Weighted), Some(2)); // The best of its group.
/// ```
pub fn choose(candidates: &[Candidate], choice: RerankingRule) -> Option<usize> {
    match choice {
        RerankingRule::Best => best(candidates, |_| true),
        RerankingRule::Oracle => {
            candidates.iter().position(|one| one.right).or((!candidates.is_empty()).then_some(0))
        }
        RerankingRule::Majority => {
            let group = leading(candidates, |_| 1.0);
            match group {
                Some(group) => candidates.iter().position(|one| one.group == Some(group)),
                None => (!candidates.is_empty()).then_some(0),
            }
        }
        RerankingRule::Weighted => match leading(candidates, |one| one.score) {
            Some(group) => best(candidates, |one| one.group == Some(group)),
            None => best(candidates, |_| true),
        },
    }
}

/// The first of those with the highest score.
fn best(candidates: &[Candidate], counts: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let counted = candidates.iter().enumerate().filter(|(_, one)| counts(one));
    let found = counted.reduce(|best, one| if best.1.score < one.1.score { one } else { best });
    found.map(|(index, _)| index)
}

/// The group with the largest sum of weights; of equals, the one that comes first.
fn leading(candidates: &[Candidate], weight: impl Fn(&Candidate) -> f64) -> Option<usize> {
    let mut sums: Vec<(usize, f64)> = Vec::new();
    for candidate in candidates {
        let Some(group) = candidate.group else { continue };
        match sums.iter_mut().find(|(known, _)| *known == group) {
            Some((_, sum)) => *sum += weight(candidate),
            None => sums.push((group, weight(candidate))),
        }
    }
    sums.into_iter()
        .reduce(|best, one| if best.1 < one.1 { one } else { best })
        .map(|(group, _)| group)
}

/// The probability that the choice among n of these answers, drawn without replacement, is right. Exact for
/// [`RerankingRule::Best`] and [`RerankingRule::Oracle`], and where n is all of them; otherwise the mean over `rounds` draws. `None`
/// if there are fewer than n, or n is 0.
///
/// ```
/// # use rand::SeedableRng;
/// use hearken_stats::reranking::{Candidate, RerankingRule, accuracy_of_choice};
/// let one = |score, right| Candidate { group: None, score, right };
/// let answers = [one(0.9, false), one(0.8, true), one(0.1, false)];
/// let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// // Of three pairs, the right one leads in that without the first.
/// let found = accuracy_of_choice(&answers, RerankingRule::Best, 2, 0, rng).unwrap();
/// assert!((found - 1.0 / 3.0).abs() < 1e-12);
/// ```
pub fn accuracy_of_choice(
    candidates: &[Candidate],
    choice: RerankingRule,
    n: usize,
    rounds: usize,
    rng: &mut impl Rng,
) -> Option<f64> {
    let m = candidates.len();
    if n == 0 || m < n {
        return None;
    }
    let is_right =
        |chosen: &[Candidate]| choose(chosen, choice).is_some_and(|index| chosen[index].right);
    match choice {
        RerankingRule::Best => Some(best_of(candidates, n)),
        RerankingRule::Oracle => {
            let wrong = candidates.iter().filter(|one| !one.right).count();
            // C(wrong, n) / C(m, n): all n are wrong.
            let none =
                (0..n).map(|i| if i < wrong { (wrong - i) as f64 / (m - i) as f64 } else { 0.0 });
            Some(1.0 - none.product::<f64>())
        }
        RerankingRule::Majority | RerankingRule::Weighted if n == m => {
            Some(f64::from(u8::from(is_right(candidates))))
        }
        RerankingRule::Majority | RerankingRule::Weighted => {
            let mut hits = 0;
            for _ in 0..rounds {
                let drawn: Vec<Candidate> =
                    sample(rng, m, n).into_iter().map(|index| candidates[index]).collect();
                hits += usize::from(is_right(&drawn));
            }
            (0 < rounds).then(|| hits as f64 / rounds as f64)
        }
    }
}

/// Over all subsets of n: answers of equal score share their place.
fn best_of(candidates: &[Candidate], n: usize) -> f64 {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let m = order.len();
    // C(m−k, n−1)/C(m, n), the probability that the k-th best is the best of n, is n/m at k = 1 and shrinks by
    // (m−k−n+1)/(m−k) from k to k+1.
    let mut probability = n as f64 / m as f64;
    let mut weights = Vec::with_capacity(m);
    for index in 0..m {
        weights.push(probability);
        let left = (m - index - 1) as f64;
        probability *= if 0.0 < left { ((left - (n - 1) as f64) / left).max(0.0) } else { 0.0 };
    }
    let (mut sum, mut from) = (0.0, 0);
    while from < m {
        let is_tie = |one: &&&Candidate| one.score.total_cmp(&order[from].score).is_eq();
        let ties = order[from..].iter().take_while(is_tie).count();
        let mass: f64 = weights[from..from + ties].iter().sum();
        let right = order[from..from + ties].iter().filter(|one| one.right).count();
        sum += mass * right as f64 / ties as f64;
        from += ties;
    }
    sum
}

/// The mean over problems of [`accuracy_of_choice`], with the interval of [`mean_share`]; `None` where a problem has fewer than n
/// answers.
pub fn accuracy(
    problems: &[Vec<Candidate>],
    choice: RerankingRule,
    n: usize,
    rounds: usize,
    rng: &mut impl Rng,
) -> Option<Estimate> {
    let of = |problem: &Vec<Candidate>| accuracy_of_choice(problem, choice, n, rounds, rng);
    let shares: Vec<f64> = problems.iter().map(of).collect::<Option<_>>()?;
    mean_share(&shares, rng)
}

/// The mean of shares, each from 0 to 1, with a bootstrap interval. Shares that are all alike have no spread to draw from: theirs
/// is Wilson's, of as many trials, since no share varies more than a trial. `None` of none.
///
/// ```
/// # use rand::SeedableRng;
/// use hearken_stats::reranking::mean_share;
/// let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let all_right = mean_share(&[1.0; 20], rng).unwrap();
/// assert!((all_right.low - 0.838_875).abs() < 1e-6 && all_right.high == 1.0);
/// ```
pub fn mean_share(shares: &[f64], rng: &mut impl Rng) -> Option<Estimate> {
    let mean = |sample: &[&f64]| {
        (!sample.is_empty()).then(|| sample.iter().copied().sum::<f64>() / sample.len() as f64)
    };
    let found = bootstrap::bootstrap(shares, mean, 1000, rng)?;
    match found.is_unbounded() {
        true => wilson(found.value * shares.len() as f64, shares.len()),
        false => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn one(group: usize, score: f64, right: bool) -> Candidate {
        Candidate { group: Some(group), score, right }
    }

    /// Every subset of n, by counting in binary.
    fn exactly(candidates: &[Candidate], choice: RerankingRule, n: usize) -> f64 {
        let (mut hits, mut all) = (0.0, 0.0);
        for bits in 0_u32..1 << candidates.len() {
            if bits.count_ones() as usize != n {
                continue;
            }
            let drawn: Vec<Candidate> = candidates
                .iter()
                .enumerate()
                .filter(|(index, _)| bits >> index & 1 == 1)
                .map(|(_, one)| *one)
                .collect();
            all += 1.0;
            hits += f64::from(u8::from(drawn[choose(&drawn, choice).unwrap()].right));
        }
        hits / all
    }

    #[test]
    fn estimates_are_means_over_all_subsets() {
        // Votes that cannot tie, so that the order of draws says nothing.
        let answers = [
            one(0, 0.9, false),
            one(1, 0.87, true),
            one(2, 0.71, false),
            one(1, 0.33, true),
            one(0, 0.21, false),
            one(1, 0.1, true),
        ];
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        for n in 1..=6 {
            for choice in [RerankingRule::Best, RerankingRule::Oracle] {
                let found = accuracy_of_choice(&answers, choice, n, 0, rng).unwrap();
                assert!((found - exactly(&answers, choice, n)).abs() < 1e-12, "{choice:?} {n}");
            }
            let found =
                accuracy_of_choice(&answers, RerankingRule::Weighted, n, 20_000, rng).unwrap();
            assert!(
                (found - exactly(&answers, RerankingRule::Weighted, n)).abs() < 0.02,
                "{n} {found}"
            );
        }
        assert_eq!(accuracy_of_choice(&answers, RerankingRule::Best, 7, 9, rng), None);
    }

    #[test]
    fn equal_scores_share_their_place() {
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let answers = [one(0, 0.5, true), one(0, 0.5, false), one(0, 0.5, false)];
        let found = accuracy_of_choice(&answers, RerankingRule::Best, 2, 0, rng).unwrap();
        assert!((found - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn answers_that_say_nothing_have_no_vote() {
        let silent = Candidate { group: None, score: 0.9, right: false };
        let answers = [silent, silent, one(3, 0.1, true)];
        assert_eq!(choose(&answers, RerankingRule::Majority), Some(2));
        assert_eq!(choose(&answers, RerankingRule::Weighted), Some(2));
        assert_eq!(choose(&answers[..2], RerankingRule::Majority), Some(0));
        assert_eq!(choose(&[], RerankingRule::Best), None);
    }

    #[test]
    fn scores_can_outvote_a_majority() {
        let answers = [one(0, 0.2, false), one(0, 0.2, false), one(1, 0.9, true)];
        assert_eq!(choose(&answers, RerankingRule::Majority), Some(0));
        assert_eq!(choose(&answers, RerankingRule::Weighted), Some(2));
    }
}
