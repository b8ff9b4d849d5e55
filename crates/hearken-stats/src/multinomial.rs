//! Draws with replacement, counted: what a bootstrap of counted data needs.

use rand::{Rng, RngExt};
use rand_distr::{Binomial, Distribution as _};

/// Up to so many draws are made one by one; more by a binomial number for each cell, whose time does not grow with it.
const SINGLE_DRAWS_MAX: usize = 5_000;

/// `draws` draws from cells with probabilities proportional to `weights`, counted per cell.
///
/// # Panics
/// If no weight is positive and there is something to draw.
pub(crate) fn multinomial(draws: usize, weights: &[f64], rng: &mut impl Rng) -> Vec<f64> {
    if draws <= SINGLE_DRAWS_MAX {
        return one_by_one(draws, weights, rng);
    }
    let mut left = draws;
    let mut weight_left: f64 = weights.iter().sum();
    let last = weights.iter().rposition(|&w| w > 0.0).expect("a cell to draw from");
    let draw = |(cell, &weight): (usize, &f64)| {
        let drawn = if cell == last {
            left
        } else {
            let share = (weight / weight_left).clamp(0.0, 1.0);
            let hits = Binomial::new(left as u64, share).expect("invariant: a share");
            hits.sample(rng) as usize
        };
        left -= drawn;
        weight_left -= weight;
        drawn as f64
    };
    weights.iter().enumerate().map(draw).collect()
}

fn one_by_one(draws: usize, weights: &[f64], rng: &mut impl Rng) -> Vec<f64> {
    let ends: Vec<f64> = weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let mut counts = vec![0.0; weights.len()];
    if draws == 0 {
        return counts;
    }
    let total = *ends.last().expect("a cell to draw from");
    for _ in 0..draws {
        let draw = rng.random::<f64>() * total;
        counts[ends.partition_point(|&end| end <= draw).min(ends.len() - 1)] += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Means and variances of many rounds against n·p and n·p·(1 − p), for both ways of drawing and every kind of cell.
    #[test]
    fn counts_have_the_moments_of_the_multinomial_distribution() {
        let weights = [1.0, 0.0, 5.0, 60.0, 4000.0, 3934.0];
        let total: f64 = weights.iter().sum();
        for draws in [2000, 10_000, 100_000] {
            let mut rng = ChaCha8Rng::seed_from_u64(4);
            let rounds = 1500;
            let drawn: Vec<Vec<f64>> =
                (0..rounds).map(|_| multinomial(draws, &weights, &mut rng)).collect();
            assert!(drawn.iter().all(|d| d.iter().sum::<f64>() == draws as f64));
            for (cell, weight) in weights.iter().enumerate() {
                let p = weight / total;
                let expected = draws as f64 * p;
                let variance = expected * (1.0 - p);
                let mean = drawn.iter().map(|d| d[cell]).sum::<f64>() / f64::from(rounds);
                let spread = drawn.iter().map(|d| (d[cell] - expected).powi(2)).sum::<f64>()
                    / f64::from(rounds);
                let error = (variance / f64::from(rounds)).sqrt();
                assert!((mean - expected).abs() <= 4.0 * error, "{draws} {cell}: {mean}");
                assert!((spread - variance).abs() <= 0.2 * variance, "{draws} {cell}: {spread}");
            }
        }
    }
}
