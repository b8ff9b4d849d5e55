//! Win rates: how often one model is preferred to another.

use serde::{Deserialize, Serialize};

use crate::{Estimate, proportion};

/// Outcomes of comparisons from one side's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Comparisons won.
    pub wins: usize,
    /// Comparisons tied.
    pub ties: usize,
    /// Comparisons lost.
    pub losses: usize,
}

impl Outcomes {
    /// Wins plus half the ties over all comparisons, with Wilson's interval. `None` without comparisons.
    ///
    /// ```
    /// # use hearken_stats::win_rate::Outcomes;
    /// let e = Outcomes { wins: 3, ties: 2, losses: 1 }.win_rate().unwrap();
    /// assert_eq!((e.value, e.n), (4.0 / 6.0, 6));
    /// ```
    pub fn win_rate(self) -> Option<Estimate> {
        let n = self.wins + self.ties + self.losses;
        proportion::wilson(self.wins as f64 + self.ties as f64 / 2.0, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapping_sides_reflects_the_win_rate() {
        let ours = Outcomes { wins: 5, ties: 3, losses: 2 }.win_rate().unwrap();
        let theirs = Outcomes { wins: 2, ties: 3, losses: 5 }.win_rate().unwrap();
        assert!((ours.value + theirs.value - 1.0).abs() < 1e-15);
        assert!((ours.low + theirs.high - 1.0).abs() < 1e-15);
    }
}
