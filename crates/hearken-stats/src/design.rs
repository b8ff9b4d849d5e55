//! What to ask next: what a pair is worth by itself, and orders that choose pairs together, or by a draw.
//!
//! P is the probability that one reward model gives the first of two candidates.

/// What makes a pair worth asking about by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// The entropy of the mean of P over the reward models: how open the answer is.
    Entropy,
    /// The variance of P over the reward models: how far they disagree. Asghari et al. 2026, arXiv:2603.17378, ask about the
    /// pair of several candidates where it is largest.
    Disagreement,
    /// The entropy of the mean of P less the mean of its entropies: what the answer says of which reward model is right (BALD, Houlsby et
    /// al. 2011, arXiv:1112.5745). Open questions on which all reward models agree are worth nothing.
    Information,
}

impl Worth {
    /// How much a pair is worth, given P under each reward model: nats, or a variance.
    ///
    /// # Panics
    /// If there is no reward model.
    ///
    /// ```
    /// use hearken_stats::design::Worth;
    ///
    /// assert_eq!(Worth::Disagreement.of(&[0.0, 1.0]), 0.25);
    /// assert_eq!(Worth::Information.of(&[0.5, 0.5]), 0.0);
    /// ```
    pub fn of(self, probabilities: &[f64]) -> f64 {
        assert!(!probabilities.is_empty(), "probabilities: at least one");
        let n = probabilities.len() as f64;
        let mean = probabilities.iter().sum::<f64>() / n;
        match self {
            Self::Entropy => entropy(mean),
            Self::Disagreement => {
                probabilities.iter().map(|p| (p - mean) * (p - mean)).sum::<f64>() / n
            }
            Self::Information => {
                entropy(mean) - probabilities.iter().map(|p| entropy(*p)).sum::<f64>() / n
            }
        }
    }
}

/// Of a coin that falls on one side with probability `p`, in nats.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p <= 0.0 { 0.0 } else { -p * p.ln() };
    term(p) + term(1.0 - p)
}

/// Coordinates of a pair: the difference of the last hidden states of its two candidates in a reward model.
pub type Difference = Vec<f64>;

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
pub fn d_optimal(
    pairs: &[Difference],
    probabilities: &[f64],
    prompts: &[usize],
    known: &[(Difference, f64)],
    count: usize,
) -> Vec<(usize, f64)> {
    assert_eq!(pairs.len(), probabilities.len(), "probabilities: one per pair");
    assert_eq!(pairs.len(), prompts.len(), "prompts: one per pair");
    let Some(d) = pairs.first().map(Vec::len) else { return Vec::new() };
    let xs: Vec<Difference> =
        pairs.iter().zip(probabilities).map(|(x, p)| weighted(x, *p)).collect();
    let Some(mut information) = Information::of_ridge(d, ridge(&xs)) else { return Vec::new() };
    for (x, p) in known {
        information.add(&weighted(x, *p));
    }
    let mut gains: Vec<f64> = xs.iter().map(|x| information.quadratic(x)).collect();
    let mut left: Vec<usize> = (0..xs.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let best = left.iter().copied().max_by(|a, b| gains[*a].total_cmp(&gains[*b]));
        let Some(best) = best else { break };
        chosen.push((best, gains[best].ln_1p()));
        let direction = information.add(&xs[best]);
        let scale = 1.0 + gains[best];
        for (x, gain) in xs.iter().zip(&mut gains) {
            // Rounding must not make a gain negative.
            *gain = (*gain - dot(x, &direction).powi(2) / scale).max(0.0);
        }
        left.retain(|at| prompts[*at] != prompts[best]);
    }
    chosen
}

/// √(p(1 − p))·x, whose outer product is the information of one answer.
pub fn weighted(x: &[f64], p: f64) -> Difference {
    let root = (p * (1.0 - p)).sqrt();
    x.iter().map(|value| root * value).collect()
}

/// The mean square over weighted differences and their coordinates: with it as λ a design does not depend on the scale of x.
pub fn ridge<X: AsRef<[f64]>>(weighted: impl IntoIterator<Item = X>) -> f64 {
    let (mut squares, mut count) = (0.0, 0_usize);
    for x in weighted {
        squares += x.as_ref().iter().map(|value| value * value).sum::<f64>();
        count += x.as_ref().len();
    }
    squares / count.max(1) as f64
}

/// V = λI + Σ x xᵀ over weighted differences, as its inverse.
#[derive(Clone, Debug, PartialEq)]
pub struct Information {
    inverse: Vec<f64>,
    d: usize,
}

impl Information {
    /// λI in `d` coordinates; `None` unless λ is above 0.
    pub fn of_ridge(d: usize, ridge: f64) -> Option<Self> {
        if !(0.0 < ridge && ridge.is_finite()) {
            return None;
        }
        let mut inverse = vec![0.0; d * d];
        (0..d).for_each(|at| inverse[at * d + at] = 1.0 / ridge);
        Some(Self { inverse, d })
    }

    /// Of how many coordinates.
    pub fn coordinates(&self) -> usize {
        self.d
    }

    /// xᵀV⁻¹x: of a weighted difference the gain of ln det V is ln(1 + that).
    ///
    /// # Panics
    /// If x has another number of coordinates.
    pub fn quadratic(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.d, "x: its coordinates");
        dot(x, &times(&self.inverse, x))
    }

    /// Adds x xᵀ (Sherman and Morrison 1950); gives V⁻¹x of before.
    ///
    /// # Panics
    /// If x has another number of coordinates.
    pub fn add(&mut self, x: &[f64]) -> Difference {
        assert_eq!(x.len(), self.d, "x: its coordinates");
        let direction = times(&self.inverse, x);
        let scale = 1.0 + dot(x, &direction);
        for (row, left) in self.inverse.chunks_exact_mut(self.d).zip(&direction) {
            for (value, right) in row.iter_mut().zip(&direction) {
                *value -= left * right / scale;
            }
        }
        direction
    }
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// How far two pairs are from each other, whichever candidate of each comes first.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    let of = |sign: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - sign * b) * (a - sign * b)).sum::<f64>().sqrt()
    };
    of(1.0).min(of(-1.0))
}

/// Chooses pairs one after the other, each time the one that is farthest from all that are chosen or `known`: greedy k-center, whose largest
/// distance is at most twice the least possible (Gonzalez 1985; core-sets of Sener and Savarese 2018, arXiv:1708.00489). The distance of two pairs is that of their
/// differences, whichever candidate comes first. A pair of two alike states, the origin, is known from the beginning. At most one pair
/// of each prompt.
///
/// Gives at most `count` pairs with their distances, in the order in which they are chosen.
///
/// # Panics
/// If the lengths differ.
pub fn k_center(
    pairs: &[Difference],
    prompts: &[usize],
    known: &[Difference],
    count: usize,
) -> Vec<(usize, f64)> {
    assert_eq!(pairs.len(), prompts.len(), "prompts: one per pair");
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
/// drawn until the best of one is another, the second; after 100 draws the second is drawn from all others alike (Wu and Liu 2016,
/// arXiv:1604.07101; of language models Dwaracherla et al. 2024, arXiv:2402.00396).
///
/// `scores` are `[member][candidate]`, and those that are NaN are no candidates; the probabilities are those of `pairs`, whichever of the two comes
/// first, and add up to 1 where all pairs are among them.
pub fn double_thompson(scores: &[&[f64]], pairs: &[[usize; 2]]) -> Vec<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn orders_tell_open_questions_from_disputed_ones() {
        let (open, disputed, settled) = ([0.5, 0.5], [0.0, 1.0], [0.99, 0.99]);
        let ln_2 = std::f64::consts::LN_2;
        assert!((Worth::Entropy.of(&open) - ln_2).abs() < 1e-12);
        assert!((Worth::Entropy.of(&disputed) - ln_2).abs() < 1e-12);
        assert!((Worth::Disagreement.of(&disputed) - 0.25).abs() < 1e-12);
        assert!(Worth::Disagreement.of(&open) < 1e-12);
        assert!((Worth::Information.of(&disputed) - ln_2).abs() < 1e-12);
        assert!(Worth::Information.of(&open).abs() < 1e-12);
        assert!(Worth::Entropy.of(&settled) < 0.06);
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
