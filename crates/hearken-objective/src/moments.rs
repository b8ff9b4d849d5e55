//! Mean and variance that merge: one pass, any split.

/// What the sum of squared deviations is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variance {
    /// n: the spread of these very numbers.
    Population,
    /// n − 1: the unbiased estimate from a sample.
    Sample,
}

/// Count, mean and sum of squared deviations of a set of numbers.
///
/// ```
/// use hearken_objective::moments::{Moments, Variance};
/// let m = Moments::of(&[1.0, 2.0, 3.0, 6.0]);
/// assert_eq!(m.mean(), Some(3.0));
/// assert_eq!(m.variance(Variance::Population), Some(3.5));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many numbers.
    pub count: usize,
    /// Their mean; 0 where there are none.
    pub mean: f64,
    /// Σ (x − mean)².
    pub squares: f64,
}

impl Moments {
    /// Moments of `values`, in two passes.
    pub fn of(values: &[f64]) -> Self {
        Self::of_rows(&[values])
    }

    /// Moments of all numbers of several slices taken together, in two passes.
    pub fn of_rows<R: AsRef<[f64]>>(rows: &[R]) -> Self {
        let each = || rows.iter().flat_map(AsRef::as_ref);
        let (count, sum) = each().fold((0, 0.0), |(n, sum), x| (n + 1, sum + x));
        let mean = if count == 0 { 0.0 } else { sum / count as f64 };
        Self { count, mean, squares: each().map(|x| (x - mean).powi(2)).sum() }
    }

    /// Moments of both sets together.
    ///
    /// ```text
    /// M = M_a + M_b + (mean_b − mean_a)²·n_a·n_b / n
    /// ```
    ///
    /// Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
    /// variances".
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.count == 0 {
            return other;
        }
        if other.count == 0 {
            return self;
        }
        let count = self.count + other.count;
        let gap = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        Self {
            count,
            mean: self.mean + gap * share,
            squares: self.squares + other.squares + gap * gap * self.count as f64 * share,
        }
    }

    /// Counts one more number.
    pub fn push(&mut self, x: f64) {
        *self = self.merge(Self { count: 1, mean: x, squares: 0.0 });
    }

    /// The mean; `None` of nothing.
    pub fn mean(self) -> Option<f64> {
        (0 < self.count).then_some(self.mean)
    }

    /// The variance; `None` of nothing, and of one number with n − 1.
    pub fn variance(self, variance: Variance) -> Option<f64> {
        let divisor = match variance {
            Variance::Population => self.count,
            Variance::Sample => self.count.saturating_sub(1),
        };
        (0 < divisor).then(|| self.squares / divisor as f64)
    }

    /// Square root of [`Moments::variance`].
    pub fn std(self, variance: Variance) -> Option<f64> {
        self.variance(variance).map(f64::sqrt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    #[test]
    fn any_split_merges_to_the_same_moments() {
        let values = [3.0, -1.0, 4.0, 1.5, 5.0, -9.0];
        let whole = Moments::of(&values);
        for cut in 0..=values.len() {
            let (left, right) = values.split_at(cut);
            let merged = Moments::of(left).merge(Moments::of(right));
            assert_eq!(merged.count, whole.count);
            assert_close(&[merged.mean, merged.squares], &[whole.mean, whole.squares], 1e-14);
        }
    }

    #[test]
    fn pushing_one_by_one_is_merging() {
        let mut moments = Moments::default();
        for x in [2.0, 7.0, 7.0] {
            moments.push(x);
        }
        assert_close(&[moments.mean, moments.squares], &[16.0 / 3.0, 50.0 / 3.0], 1e-14);
    }

    #[test]
    fn a_large_offset_does_not_swallow_the_variance() {
        let variance = Moments::of(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]).variance(Variance::Sample);
        assert_eq!(variance, Some(1.0));
    }

    #[test]
    fn variance_needs_enough_numbers() {
        assert_eq!(Moments::of(&[]).variance(Variance::Population), None);
        assert_eq!(Moments::of(&[4.0]).variance(Variance::Population), Some(0.0));
        assert_eq!(Moments::of(&[4.0]).variance(Variance::Sample), None);
    }
}
