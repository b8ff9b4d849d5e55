//! Orders that choose pairs together, or by a draw: D-optimal, k-center, double Thompson sampling.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Coordinates of a pair: the difference of the last hidden states of its two candidates in a reward model.
pub(super) type Difference = Vec<f64>;

/// Chooses pairs one after the other, each time the one whose answer would shrink the uncertainty of a linear reward the most: the largest
/// gain of
///
/// ```text
/// ln det V,   V = λI + Σ w x xᵀ,   w = p(1 − p),   gain = ln(1 + w xᵀ V⁻¹ x)
/// ```
///
/// over the pairs that are asked about, with the difference x of a pair's last hidden states and the probability p of its first
/// candidate: the Fisher information of a Bradley–Terry model that is linear in them, so that this is a greedy D-optimal design
/// (Chaloner and Verdinelli 1995; of preferences Das et al. 2024, arXiv:2402.10500). V begins with the pairs of earlier rounds, `known`, and λ is the
/// mean of w x² over pairs and coordinates, which makes the choice independent of the scale of x. At most one pair of each prompt.
///
/// Gives at most `count` pairs with their gains, in the order in which they are chosen.
///
/// # Panics
/// If the lengths differ.
pub(super) fn d_optimal(
    pairs: &[Difference],
    probabilities: &[f64],
    prompts: &[usize],
    known: &[(Difference, f64)],
    count: usize,
) -> Vec<(usize, f64)> {
    assert_eq!(pairs.len(), probabilities.len(), "probabilities: one per pair");
    assert_eq!(pairs.len(), prompts.len(), "prompts: one per pair");
    let Some(d) = pairs.first().map(Vec::len) else { return Vec::new() };
    let weighted = |x: &Difference, p: f64| -> Difference {
        let root = (p * (1.0 - p)).sqrt();
        x.iter().map(|value| root * value).collect()
    };
    let xs: Vec<Difference> =
        pairs.iter().zip(probabilities).map(|(x, p)| weighted(x, *p)).collect();
    let squares: f64 = xs.iter().flatten().map(|value| value * value).sum();
    let ridge = squares / (xs.len() * d) as f64;
    if ridge <= 0.0 {
        return Vec::new();
    }
    let mut inverse = vec![0.0; d * d];
    (0..d).for_each(|at| inverse[at * d + at] = 1.0 / ridge);
    for (x, p) in known {
        add(&mut inverse, &weighted(x, *p));
    }
    let mut gains: Vec<f64> = xs.iter().map(|x| dot(x, &times(&inverse, x))).collect();
    let mut left: Vec<usize> = (0..xs.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let best = left.iter().copied().max_by(|a, b| gains[*a].total_cmp(&gains[*b]));
        let Some(best) = best else { break };
        chosen.push((best, gains[best].ln_1p()));
        let direction = add(&mut inverse, &xs[best]);
        let scale = 1.0 + gains[best];
        for (x, gain) in xs.iter().zip(&mut gains) {
            // Rounding must not make a gain negative.
            *gain = (*gain - dot(x, &direction).powi(2) / scale).max(0.0);
        }
        left.retain(|at| prompts[*at] != prompts[best]);
    }
    chosen
}

/// Adds x xᵀ to the matrix whose inverse is given (Sherman and Morrison 1950); gives V⁻¹x of before.
fn add(inverse: &mut [f64], x: &[f64]) -> Vec<f64> {
    let direction = times(inverse, x);
    let scale = 1.0 + dot(x, &direction);
    for (row, left) in inverse.chunks_exact_mut(x.len()).zip(&direction) {
        for (value, right) in row.iter_mut().zip(&direction) {
            *value -= left * right / scale;
        }
    }
    direction
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Chooses pairs one after the other, each time the one that is farthest from all that are chosen or `known`: greedy k-center, whose largest
/// distance is at most twice the least possible (Gonzalez 1985; core-sets of Sener and Savarese 2018, arXiv:1708.00489). The distance of two pairs is that of their
/// differences, whichever candidate comes first. A pair of two alike states, the origin, is known from the beginning. At most one pair
/// of each prompt.
///
/// Gives at most `count` pairs with their distances, in the order in which they are chosen.
pub(super) fn k_center(
    pairs: &[Difference],
    prompts: &[usize],
    known: &[Difference],
    count: usize,
) -> Vec<(usize, f64)> {
    assert_eq!(pairs.len(), prompts.len(), "prompts: one per pair");
    let distance = |a: &Difference, b: &Difference| {
        let of = |sign: f64| -> f64 {
            a.iter().zip(b).map(|(a, b)| (a - sign * b) * (a - sign * b)).sum::<f64>().sqrt()
        };
        of(1.0).min(of(-1.0))
    };
    let to_known = |x: &Difference| {
        let origin = dot(x, x).sqrt();
        known.iter().map(|other| distance(x, other)).fold(origin, f64::min)
    };
    let mut nearest: Vec<f64> = pairs.iter().map(to_known).collect();
    let mut left: Vec<usize> = (0..pairs.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let best = left.iter().copied().max_by(|a, b| nearest[*a].total_cmp(&nearest[*b]));
        let Some(best) = best else { break };
        chosen.push((best, nearest[best]));
        for (x, nearest) in pairs.iter().zip(&mut nearest) {
            *nearest = nearest.min(distance(x, &pairs[best]));
        }
        left.retain(|at| prompts[*at] != prompts[best]);
    }
    chosen
}

/// How often a reward model is drawn anew whose best candidate is the first one's, before the second is drawn from all others.
const TRIES: i32 = 100;

/// The probability of each pair of candidates of one prompt under double Thompson sampling: a reward model is drawn, and its best candidate is the first; models are
/// drawn until the best of one is another, the second; after [`TRIES`] draws the second is drawn from all others alike (Wu and Liu 2016,
/// arXiv:1604.07101; of language models Dwaracherla et al. 2024, arXiv:2402.00396).
///
/// `scores` are `[member][candidate]`, and those that are NaN are no candidates; the probabilities are those of `pairs`, whichever of the two comes
/// first, and add up to 1 where all pairs are among them.
pub(super) fn double_thompson(scores: &[&[f64]], pairs: &[[usize; 2]]) -> Vec<f64> {
    let n = scores.first().map_or(0, |one| one.len());
    let there: Vec<bool> = (0..n).map(|at| !scores[0][at].is_nan()).collect();
    let others = there.iter().filter(|there| **there).count().saturating_sub(1).max(1) as f64;
    let mut best = vec![0.0; n];
    for one in scores {
        let known = (0..n).filter(|at| there[*at]);
        if let Some(at) = known.max_by(|a, b| one[*a].total_cmp(&one[*b]).then(b.cmp(a))) {
            best[at] += 1.0 / scores.len() as f64;
        }
    }
    let after = |first: usize, second: usize| {
        let same = best[first].powi(TRIES);
        // (1 − rᵗ)/(1 − r) draws on average; with r = 1 there is no other best one.
        let draws = if best[first] < 1.0 { (1.0 - same) / (1.0 - best[first]) } else { 0.0 };
        best[second] * draws + same / others
    };
    let of = |&[a, b]: &[usize; 2]| best[a] * after(a, b) + best[b] * after(b, a);
    pairs.iter().map(of).collect()
}

/// Draws one of some things with these weights; `None` where all are 0.
pub(super) fn draw(weights: &[f64], rng: &mut ChaCha8Rng) -> Option<usize> {
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
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    /// By hand: w = ¼ for all, so that √w x = (2, 0), (1.9, 0), (0, 1), λ = (4 + 3.61 + 1)/6. The second question is about the other
    /// coordinate, though its pair is shorter.
    #[test]
    fn a_d_optimal_design_asks_about_what_is_not_known_yet() {
        let pairs = [vec![4.0, 0.0], vec![3.8, 0.0], vec![0.0, 2.0]];
        let half = [0.5; 3];
        let chosen = d_optimal(&pairs, &half, &[0, 1, 2], &[], 3);
        let ridge = 8.61 / 6.0;
        assert_eq!(chosen.iter().map(|one| one.0).collect::<Vec<_>>(), [0, 2, 1]);
        let gains: Vec<f64> = chosen.iter().map(|one| one.1).collect();
        let first = (1.0_f64 + 4.0 / ridge).ln();
        let last = (1.0_f64 + 3.61 / (ridge + 4.0)).ln();
        close(&gains, &[first, (1.0 + 1.0 / ridge).ln(), last]);
        // What earlier rounds have asked about is known.
        let known = [(vec![40.0, 0.0], 0.5)];
        assert_eq!(d_optimal(&pairs, &half, &[0, 1, 2], &known, 1)[0].0, 2);
        // An answer that is certain says nothing.
        assert_eq!(d_optimal(&pairs, &[1.0, 1.0, 0.5], &[0, 1, 2], &[], 1)[0].0, 2);
        // One pair per prompt.
        assert_eq!(d_optimal(&pairs, &half, &[0, 0, 0], &[], 3).len(), 1);
        assert!(d_optimal(&[], &[], &[], &[], 3).is_empty());
        assert!(d_optimal(&[vec![0.0]], &[0.5], &[0], &[], 3).is_empty());
    }

    /// The gains are those of determinants.
    #[test]
    fn gains_of_a_d_optimal_design_add_up_to_the_determinant() {
        let pairs = [vec![1.0, 2.0], vec![-3.0, 0.5], vec![0.7, 0.7], vec![2.0, -1.0]];
        let p = [0.5, 0.2, 0.9, 0.6];
        let chosen = d_optimal(&pairs, &p, &[0, 1, 2, 3], &[], 4);
        let sum: f64 = chosen.iter().map(|one| one.1).sum();
        let w = |at: usize| p[at] * (1.0 - p[at]);
        let ridge: f64 = (0..4).map(|at| w(at) * dot(&pairs[at], &pairs[at])).sum::<f64>() / 8.0;
        let entry = |i: usize, j: usize| -> f64 {
            let sum: f64 = (0..4).map(|at| w(at) * pairs[at][i] * pairs[at][j]).sum();
            sum + if i == j { ridge } else { 0.0 }
        };
        let det = entry(0, 0) * entry(1, 1) - entry(0, 1) * entry(1, 0);
        close(&[sum], &[(det / (ridge * ridge)).ln()]);
    }

    #[test]
    fn k_center_goes_to_the_farthest_whichever_candidate_comes_first() {
        let pairs = [vec![3.0, 0.0], vec![-3.0, 0.1], vec![0.0, 2.0], vec![1.0, 0.0]];
        let chosen = k_center(&pairs, &[0, 1, 2, 3], &[], 3);
        assert_eq!(chosen.iter().map(|one| one.0).collect::<Vec<_>>(), [1, 2, 3]);
        close(&[chosen[0].1, chosen[1].1], &[(9.01_f64).sqrt(), 2.0]);
        // The origin is known, and so is what was asked before.
        close(&[chosen[2].1], &[1.0]);
        assert_eq!(k_center(&pairs, &[0, 1, 2, 3], &[vec![3.0, 0.0]], 1)[0].0, 2);
        assert_eq!(k_center(&pairs, &[0; 4], &[], 3).len(), 1);
    }

    /// Three of four models prefer candidate 0, one prefers 2: the pair of the two has ¾·1 + ¼·1 but for what 100 draws leave.
    #[test]
    fn double_thompson_sampling_draws_what_models_think_best() {
        let scores: [&[f64]; 4] =
            [&[3.0, 1.0, 0.0], &[2.0, 1.0, 0.0], &[2.0, 0.0, 1.0], &[0.0, 1.0, 2.0]];
        let pairs = [[0, 1], [0, 2], [1, 2]];
        let found = double_thompson(&scores, &pairs);
        let (often, seldom) = (0.75_f64.powi(100), 0.25_f64.powi(100));
        let to = |best: f64, same: f64| best * ((1.0 - same) + same / 2.0);
        close(
            &found,
            &[0.75 * often / 2.0, to(0.75, often) + to(0.25, seldom), 0.25 * seldom / 2.0],
        );
        close(&[found.iter().sum()], &[1.0]);
        // Models that agree leave the second to chance.
        close(&double_thompson(&[&[2.0, 1.0, 0.0]], &pairs), &[0.5, 0.5, 0.0]);
        // An answer that is empty is none.
        close(&double_thompson(&[&[2.0, 1.0, f64::NAN]], &pairs[..1]), &[1.0]);
    }
}
