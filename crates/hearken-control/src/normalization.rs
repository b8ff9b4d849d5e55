//! Running moments by which observations and rewards are brought to scale.

use serde::{Deserialize, Serialize};

/// Added to a variance under the root, so that a number that never changes becomes 0 and not NaN.
const VARIANCE_EPS: f64 = 1e-8;
/// Normalized numbers beyond it are cut to it.
const CLIP: f64 = 10.0;

/// Count, mean and sum of squared deviations of each of several numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunningMoments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl RunningMoments {
    /// Of `len` numbers, none of which has been seen.
    pub fn new(len: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; len], squares: vec![0.0; len] }
    }

    /// How many numbers there are of each.
    pub fn len(&self) -> usize {
        self.mean.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mean.is_empty()
    }

    /// Counts one more of each (Welford 1962).
    pub fn push(&mut self, numbers: impl Iterator<Item = f64>) {
        self.count += 1.0;
        for ((mean, squares), x) in self.mean.iter_mut().zip(&mut self.squares).zip(numbers) {
            let gap = x - *mean;
            *mean += gap / self.count;
            *squares += gap * (x - *mean);
        }
    }

    /// The mean of number `index`.
    pub fn mean(&self, index: usize) -> f64 {
        self.mean[index]
    }

    /// The standard deviation of number `index`; 1 where fewer than two have been seen.
    pub fn std(&self, index: usize) -> f64 {
        if self.count < 2.0 {
            1.0
        } else {
            (self.squares[index] / self.count + VARIANCE_EPS).sqrt()
        }
    }

    /// Writes `(x − mean)/std`, cut to ±10.
    pub fn normalize(&self, x: &[f32], y: &mut [f32]) {
        for (index, (y, x)) in y.iter_mut().zip(x).enumerate() {
            let normalized = (f64::from(*x) - self.mean[index]) / self.std(index);
            *y = normalized.clamp(-CLIP, CLIP) as f32;
        }
    }
}

/// What was seen as a network reads it.
pub fn normalize(moments: Option<&RunningMoments>, seen: &[f32], row: &mut [f32]) {
    match moments {
        Some(moments) => moments.normalize(seen, row),
        None => row.copy_from_slice(seen),
    }
}

/// Divides rewards by the standard deviation of the discounted sums of those before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardScale {
    moments: RunningMoments,
    /// The discounted sum of each copy's episode so far.
    sums: Vec<f64>,
}

impl RewardScale {
    /// For so many copies of an environment.
    pub fn new(copies: usize) -> Self {
        Self { moments: RunningMoments::new(1), sums: vec![0.0; copies] }
    }

    /// The scaled reward of copy `index`, cut to ±10; `is_end` says that its episode is over.
    pub fn scale(&mut self, index: usize, reward: f64, gamma: f64, is_end: bool) -> f64 {
        self.sums[index] = gamma * self.sums[index] + reward;
        self.moments.push(std::iter::once(self.sums[index]));
        if is_end {
            self.sums[index] = 0.0;
        }
        (reward / self.moments.std(0)).clamp(-CLIP, CLIP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_numbers_have_mean_0_and_deviation_1() {
        let mut moments = RunningMoments::new(2);
        let rows: Vec<[f32; 2]> = (0..50_u8).map(|i| [f32::from(i), 7.0]).collect();
        for row in &rows {
            moments.push(row.iter().map(|&x| f64::from(x)));
        }
        let mut sums = [0.0_f64; 2];
        for row in &rows {
            let mut y = [0.0; 2];
            moments.normalize(row, &mut y);
            assert!(y[1].abs() < 1e-6, "what never changes is 0");
            sums[0] += f64::from(y[0]);
            sums[1] += f64::from(y[0] * y[0]);
        }
        assert!(sums[0].abs() < 1e-4 && (sums[1] / 50.0 - 1.0).abs() < 1e-5);
    }
}
