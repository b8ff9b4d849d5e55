//! Shifting and scaling numbers that were estimated over a whole iteration.
//!
//! Rows are ragged, one per completion; the moments are those of all tokens of all rows. Where several
//! ranks share an iteration they merge their [`Moments`] first and each calls [`whiten_by`].

use crate::moments::{Moments, Variance};

/// Added to the variance under the root, so that equal numbers become 0 and not NaN.
pub const VARIANCE_EPS: f64 = 1e-8;

/// Subtracts the mean of all numbers and divides by their standard deviation.
///
/// ```text
/// x ← (x − mean) / √(variance + 1e-8)
/// ```
///
/// The variance is that of `variance`; fewer numbers than it needs count as variance 0.
///
/// | argument | length                  | meaning                     |
/// |----------|-------------------------|-----------------------------|
/// | `rows`   | completions, each T_i   | numbers, changed in place   |
///
/// ```
/// use hearken_objective::advantage::whiten::whiten;
/// use hearken_objective::moments::Variance;
/// let mut rows = [vec![1.0, 3.0], vec![5.0]];
/// whiten(&mut rows, Variance::Sample);
/// assert!((rows[0][0] + 1.0).abs() < 1e-8 && rows[0][1] == 0.0);
/// ```
pub fn whiten(rows: &mut [Vec<f64>], variance: Variance) {
    let moments = moments_of(rows);
    whiten_by(rows, moments, variance);
}

/// [`whiten`] by moments that were computed elsewhere.
pub fn whiten_by(rows: &mut [Vec<f64>], moments: Moments, variance: Variance) {
    let scale = scale_of(moments, variance);
    for x in rows.iter_mut().flatten() {
        *x = (*x - moments.mean) * scale;
    }
}

/// Moments of all numbers of all rows.
pub fn moments_of(rows: &[Vec<f64>]) -> Moments {
    Moments::of_rows(rows)
}

fn scale_of(moments: Moments, variance: Variance) -> f64 {
    (moments.variance(variance).unwrap_or(0.0) + VARIANCE_EPS).sqrt().recip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    const ADVANTAGES: [f64; 4] = [0.604_637_5, 0.752_25, 0.455, 0.3];

    fn check(variance: Variance, expected: [f64; 4]) {
        let mut rows = [ADVANTAGES[..1].to_vec(), vec![], ADVANTAGES[1..].to_vec()];
        whiten(&mut rows, variance);
        assert_close(&rows.concat(), &expected, 1e-6);
    }

    #[test]
    fn whitened_advantages_have_their_known_values() {
        check(Variance::Sample, [0.394_196, 1.153_184, -0.375_204, -1.172_176]);
        check(Variance::Population, [0.455_178, 1.331_582, -0.433_248, -1.353_513]);
    }

    #[test]
    fn whitened_numbers_have_mean_zero_and_variance_one() {
        let mut rows = [vec![3.0, -1.0, 8.0], vec![2.5], vec![40.0, 0.0]];
        whiten(&mut rows, Variance::Population);
        let after = moments_of(&rows);
        assert_close(
            &[after.mean, after.variance(Variance::Population).unwrap()],
            &[0.0, 1.0],
            1e-9,
        );
    }

    #[test]
    fn whitening_forgets_shift_and_scale() {
        let mut one = [vec![3.0, -1.0, 8.0, 2.5]];
        let mut other = [one[0].iter().map(|x| 7.0 * x - 100.0).collect()];
        whiten(&mut one, Variance::Sample);
        whiten(&mut other, Variance::Sample);
        assert_close(&one[0], &other[0], 1e-8);
    }

    #[test]
    fn equal_numbers_become_zero() {
        let mut rows = [vec![2.0, 2.0]];
        whiten(&mut rows, Variance::Sample);
        assert_eq!(rows[0], [0.0, 0.0]);
        let mut single = [vec![5.0]];
        whiten(&mut single, Variance::Sample);
        assert_eq!(single[0], [0.0]);
    }

    #[test]
    fn ranks_that_merge_moments_whiten_as_one() {
        let (mut left, mut right) = (vec![vec![1.0, 4.0]], vec![vec![-2.0], vec![0.5, 9.0]]);
        let mut whole = [left.clone(), right.clone()].concat();
        let moments = moments_of(&left).merge(moments_of(&right));
        whiten_by(&mut left, moments, Variance::Sample);
        whiten_by(&mut right, moments, Variance::Sample);
        whiten(&mut whole, Variance::Sample);
        assert_close(&[left, right].concat().concat(), &whole.concat(), 1e-14);
    }
}
