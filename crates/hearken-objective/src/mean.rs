//! A sum with its count.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// A sum with its count: the only form in which a mean travels.
///
/// ```
/// use hearken_objective::Mean;
/// let both = Mean::of(&[1.0, 2.0]) + Mean::of(&[6.0]);
/// assert_eq!(both.value(), Some(3.0));
/// assert_eq!(Mean::default().value(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Σ of what was counted.
    pub sum: f64,
    /// How many terms the sum has.
    pub count: usize,
}

impl Mean {
    /// The sum and count of `values`.
    pub fn of(values: &[f64]) -> Self {
        Self { sum: values.iter().sum(), count: values.len() }
    }

    /// Counts one more value.
    pub fn push(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// Sum over count; `None` where nothing was counted.
    pub fn value(self) -> Option<f64> {
        (0 < self.count).then(|| self.sum / self.count as f64)
    }
}

impl Add for Mean {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum, count: self.count + other.count }
    }
}

impl AddAssign for Mean {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Mean {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

impl Extend<f64> for Mean {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        for value in values {
            self.push(value);
        }
    }
}

impl FromIterator<f64> for Mean {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut mean = Self::default();
        mean.extend(values);
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_nothing_is_none() {
        assert_eq!(Mean::default().value(), None);
        assert_eq!(Mean::of(&[]).value(), None);
    }

    #[test]
    fn any_split_gives_the_same_mean() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        for cut in 0..=values.len() {
            let (left, right) = values.split_at(cut);
            let parts: Mean = [Mean::of(left), right.iter().copied().collect()].into_iter().sum();
            assert_eq!(parts, Mean::of(&values));
        }
    }
}
