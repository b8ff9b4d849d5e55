//! Proportions and their differences.

use crate::significance::{self, Significance};
use crate::{Estimate, IntervalMethod, estimate::Z};

/// Hits out of a number of trials; half a hit is allowed, so that a tie can count as half a win.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Sum of the outcomes, each in [0, 1].
    pub hits: f64,
    /// Number of trials.
    pub n: usize,
}

/// Wilson's score interval.
///
/// ```text
/// center ± half = (p + z²/2n ± z√(p(1−p)/n + z²/4n²)) / (1 + z²/n)
/// ```
///
/// Wilson 1927. With fractional hits (ties as half) it is conservative: no variable in [0, 1] with mean p
/// varies more than the 0/1 variable, p(1−p). `None` without trials.
///
/// # Panics
/// If `hits` is not in [0, n].
///
/// ```
/// let share = hearken_stats::proportion::wilson(0.0, 20).unwrap();
/// assert_eq!(share.low, 0.0);
/// assert!((share.high - 0.161_125).abs() < 1e-6);
/// ```
pub fn wilson(hits: f64, n: usize) -> Option<Estimate> {
    assert!((0.0..=n as f64).contains(&hits), "{hits} hits out of {n}");
    if n == 0 {
        return None;
    }
    let trials = n as f64;
    let p = hits / trials;
    let shrink = 1.0 / (1.0 + Z * Z / trials);
    let center = shrink * (p + Z * Z / (2.0 * trials));
    let half = shrink * Z * (p * (1.0 - p) / trials + Z * Z / (4.0 * trials * trials)).sqrt();
    // Rounding must not push the end that is exactly 0 or 1 past it, nor past the value.
    let (low, high) = ((center - half).max(0.0).min(p), (center + half).min(1.0).max(p));
    let low = if hits == 0.0 { 0.0 } else { low };
    Some(Estimate { value: p, low, high, n, method: IntervalMethod::Wilson })
}

/// A difference of two proportions with its interval and its test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareDifference {
    /// First share minus second; Newcombe's interval. `n` is the smaller number of trials.
    pub difference: Estimate,
    /// z test with the pooled variance.
    pub significance: Significance,
}

impl Share {
    /// [`wilson`].
    pub fn estimate(self) -> Option<Estimate> {
        wilson(self.hits, self.n)
    }

    /// `self − other` for independent samples: Newcombe 1998, method 10 (square-and-add of the two Wilson
    /// intervals), and the pooled z test. `None` if either is empty.
    ///
    /// ```
    /// # use hearken_stats::proportion::Share;
    /// // Newcombe's example (a): 56/70 − 48/80 = 0.2, interval 0.0524 to 0.3339.
    /// let gap = Share { hits: 56.0, n: 70 }.minus(Share { hits: 48.0, n: 80 }).unwrap();
    /// assert!((gap.difference.low - 0.0524).abs() < 5e-5);
    /// assert!((gap.difference.high - 0.3339).abs() < 5e-5);
    /// ```
    pub fn minus(self, other: Self) -> Option<ShareDifference> {
        let (a, b) = (self.estimate()?, other.estimate()?);
        let value = a.value - b.value;
        let difference = Estimate {
            value,
            low: value - (a.value - a.low).hypot(b.high - b.value),
            high: value + (a.high - a.value).hypot(b.value - b.low),
            n: a.n.min(b.n),
            method: IntervalMethod::Newcombe,
        };
        let (n, m) = (self.n as f64, other.n as f64);
        let pooled = (self.hits + other.hits) / (n + m);
        let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
        // Both shares 0 or both 1: no difference and no spread.
        let z = if variance > 0.0 { value / variance.sqrt() } else { 0.0 };
        Some(ShareDifference { difference, significance: significance::normal(z) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_stays_inside_the_unit_interval_and_around_the_value() {
        for n in [1_u32, 2, 7, 1000] {
            for hits in 0..=n {
                let e = wilson(f64::from(hits), n as usize).unwrap();
                assert!(0.0 <= e.low && e.low <= e.value && e.value <= e.high && e.high <= 1.0);
            }
        }
        assert!(wilson(0.0, 0).is_none());
    }

    #[test]
    fn wilson_is_symmetric_under_exchange_of_hits_and_misses() {
        let (a, b) = (wilson(3.0, 11).unwrap(), wilson(8.0, 11).unwrap());
        assert!((a.low - (1.0 - b.high)).abs() < 1e-15);
    }

    #[test]
    fn equal_shares_differ_by_nothing() {
        let share = Share { hits: 5.0, n: 10 };
        let gap = share.minus(share).unwrap();
        assert_eq!(gap.difference.value, 0.0);
        assert!((gap.significance.p_value - 1.0).abs() < 1e-12);
        assert!(share.minus(Share { hits: 0.0, n: 0 }).is_none());
    }
}
