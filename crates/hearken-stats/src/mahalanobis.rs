//! How far a point is from a cloud of points, and from where on that is rare.

use crate::linear::{Cholesky, Symmetric};
use crate::quantile::sorted;

/// A cloud of points: its center, its shape, and the distance that most points of its kind stay within.
///
/// ```text
/// d(x)² = (x − μ)ᵀ·Σ⁻¹·(x − μ)
/// Σ = (1 − δ)·S + δ·m·I          m = tr S / k
/// ```
///
/// Mahalanobis 1936. μ and S are mean and covariance (divisor n) of every other point, from the first on. There may
/// be fewer of them than dimensions, so S is shrunk to a multiple of the identity, by as much as expects the least
/// squared error: Ledoit and Wolf 2004, *A well-conditioned estimator for large-dimensional covariance matrices*.
/// The limit is a quantile of the distances of the points in between, which had no part in the fit: the ⌈(n + 1)·q⌉-th
/// smallest of them, so that a further point of the same kind is beyond it with a probability of at most 1 − q,
/// whatever the cloud's distribution is (split conformal prediction: Papadopoulos et al. 2002).
#[derive(Debug)]
pub struct Cloud {
    center: Vec<f64>,
    shape: Cholesky,
    limit: f64,
}

impl Cloud {
    /// The fewest points for a limit that a share `within` stays within.
    ///
    /// # Panics
    /// If the share is not above 0 and below 1.
    ///
    /// ```
    /// assert_eq!(hearken_stats::mahalanobis::Cloud::points_min(0.95), 38);
    /// ```
    pub fn points_min(within: f64) -> usize {
        assert!(0.0 < within && within < 1.0, "{within} is not between 0 and 1");
        // The smallest n with ⌈(n + 1)·q⌉ ≤ n; twice as many for the two halves.
        let mut held_out = 1;
        while held_out < rank(held_out, within) {
            held_out += 1;
        }
        2 * held_out
    }

    /// The cloud of `points`. `None` if they are fewer than [`Cloud::points_min`], or all alike.
    ///
    /// # Panics
    /// If the share `within` is not above 0 and below 1, or points differ in their dimensions or have NaN.
    pub fn fit(points: &[Vec<f64>], within: f64) -> Option<Self> {
        if points.len() < Self::points_min(within) {
            return None;
        }
        let fitted: Vec<&Vec<f64>> = points.iter().step_by(2).collect();
        let center = mean(&fitted);
        let centered: Vec<Vec<f64>> = fitted.iter().map(|point| less(point, &center)).collect();
        let shape = shrunk_covariance(&centered)?.cholesky()?;
        let mut cloud = Self { center, shape, limit: f64::INFINITY };
        let held_out = points.iter().skip(1).step_by(2).map(|point| cloud.distance(point));
        let distances = sorted(&held_out.collect::<Vec<_>>());
        cloud.limit = distances[rank(distances.len(), within) - 1];
        Some(cloud)
    }

    /// The distance of a point from the center.
    ///
    /// # Panics
    /// If it has other dimensions than the cloud.
    pub fn distance(&self, point: &[f64]) -> f64 {
        let offset = less(point, &self.center);
        let solved = self.shape.solve(&offset);
        offset.iter().zip(solved).map(|(a, b)| a * b).sum::<f64>().max(0.0).sqrt()
    }

    /// The distance that the share of points stays within.
    pub fn limit(&self) -> f64 {
        self.limit
    }
}

/// The place, from 1, of the distance that bounds the next one with probability q.
// A count of points times a share.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
fn rank(points: usize, within: f64) -> usize {
    // A product such as 20·0.95 must not be rounded up for its last bit.
    ((points + 1) as f64 * within - 1e-9).ceil() as usize
}

fn mean(points: &[&Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; points[0].len()];
    for point in points {
        assert_eq!(point.len(), mean.len(), "points of one dimension");
        mean.iter_mut().zip(point.iter()).for_each(|(sum, x)| *sum += x);
    }
    mean.into_iter().map(|sum| sum / points.len() as f64).collect()
}

fn less(point: &[f64], center: &[f64]) -> Vec<f64> {
    assert_eq!(point.len(), center.len(), "points of one dimension");
    point.iter().zip(center).map(|(x, mean)| x - mean).collect()
}

/// Ledoit and Wolf's estimate of a covariance from points whose mean is 0; `None` where there is no variance.
fn shrunk_covariance(points: &[Vec<f64>]) -> Option<Symmetric> {
    let (n, k) = (points.len() as f64, points[0].len());
    let mut sample = Symmetric::zeros(k);
    for point in points {
        for (i, a) in point.iter().enumerate() {
            for (j, b) in point.iter().enumerate() {
                sample.add(i, j, a * b / n);
            }
        }
    }
    let scale = (0..k).map(|i| sample.at(i, i)).sum::<f64>() / k as f64;
    if scale.is_nan() || scale <= 0.0 {
        return None;
    }
    let squared: f64 = sample.entries.iter().map(|entry| entry * entry).sum();
    // ‖S − m·I‖² and the mean of ‖x·xᵀ − S‖² over n: how far S is from round, and how much of that is chance.
    let spread = squared - k as f64 * scale * scale;
    let fourth = |point: &Vec<f64>| point.iter().map(|x| x * x).sum::<f64>().powi(2);
    let chance = (points.iter().map(fourth).sum::<f64>() / n - squared) / n;
    let share = if spread <= 0.0 { 1.0 } else { (chance / spread).clamp(0.0, 1.0) };
    sample.entries.iter_mut().for_each(|entry| *entry *= 1.0 - share);
    (0..k).for_each(|i| sample.add(i, i, share * scale));
    Some(sample)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Sums of twelve uniform numbers less 6, stretched along the first axis.
    fn normal(rng: &mut ChaCha8Rng, dimensions: usize) -> Vec<f64> {
        let mut one = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let mut point: Vec<f64> = (0..dimensions).map(|_| one()).collect();
        point[0] *= 10.0;
        point
    }

    fn normals(seed: u64, n: usize, dimensions: usize) -> Vec<Vec<f64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| normal(&mut rng, dimensions)).collect()
    }

    #[test]
    fn distances_are_in_deviations_of_each_direction() {
        let cloud = Cloud::fit(&normals(1, 4000, 2), 0.95).unwrap();
        let along = cloud.distance(&[10.0, 0.0]);
        let across = cloud.distance(&[0.0, 1.0]);
        assert!((along - 1.0).abs() < 0.1 && (across - 1.0).abs() < 0.1, "{along} {across}");
        // √χ²(0.95) of two dimensions.
        assert!((cloud.limit() - 2.448).abs() < 0.15, "{}", cloud.limit());
    }

    /// As many dimensions as points, where S itself has no inverse.
    #[test]
    fn a_further_point_of_the_same_kind_is_an_outlier_as_rarely_as_was_said() {
        let (mut beyond, mut all) = (0, 0);
        for seed in 0..40 {
            let cloud = Cloud::fit(&normals(seed, 80, 40), 0.9).unwrap();
            let others = normals(1000 + seed, 50, 40);
            beyond += others.iter().filter(|point| cloud.limit() < cloud.distance(point)).count();
            all += others.len();
        }
        let share = beyond as f64 / all as f64;
        assert!((0.05..0.13).contains(&share), "{share}");
    }

    #[test]
    fn a_point_of_another_kind_is_an_outlier() {
        let cloud = Cloud::fit(&normals(3, 200, 8), 0.95).unwrap();
        let mut point = vec![0.0; 8];
        assert!(cloud.distance(&point) < cloud.limit());
        point[1] = 12.0;
        assert!(cloud.limit() < cloud.distance(&point));
        // Just as far where the cloud itself is wide.
        let wide: Vec<f64> = std::iter::once(12.0).chain(vec![0.0; 7]).collect();
        assert!(cloud.distance(&wide) < cloud.limit());
    }

    #[test]
    fn too_few_points_and_points_that_are_alike_make_no_cloud() {
        assert!(Cloud::fit(&normals(1, 37, 3), 0.95).is_none());
        assert!(Cloud::fit(&normals(1, 38, 3), 0.95).is_some());
        assert!(Cloud::fit(&vec![vec![1.0, 2.0]; 100], 0.95).is_none());
    }
}
