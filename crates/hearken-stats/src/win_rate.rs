//! Win rates: how often one model is preferred to another.

use serde::{Deserialize, Serialize};

use crate::{Estimate, mean, proportion};

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

    /// Wins over decisive comparisons; ties are left out. `None` without decisive comparisons.
    pub fn decisive_win_rate(self) -> Option<Estimate> {
        proportion::wilson(self.wins as f64, self.wins + self.losses)
    }
}

/// Win rate of graded preferences, each the probability in [0, 1] that the side looked at is better: their mean
/// with the normal interval, so that half the width is 1.96 standard errors as `AlpacaEval` reports them (there in percent, and
/// each preference plus one). `None` with fewer than two.
pub fn graded_win_rate(preferences: &[f64]) -> Option<Estimate> {
    mean::normal_mean(preferences)
}

/// Graded preferences as outcomes: above one half a win, exactly one half a tie. `AlpacaEval`'s discrete win rate is
/// [`Outcomes::win_rate`] of this.
pub fn discrete(preferences: &[f64]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for &p in preferences {
        match p.total_cmp(&0.5) {
            std::cmp::Ordering::Greater => outcomes.wins += 1,
            std::cmp::Ordering::Equal => outcomes.ties += 1,
            std::cmp::Ordering::Less => outcomes.losses += 1,
        }
    }
    outcomes
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

    #[test]
    fn graded_preferences_round_to_outcomes() {
        let preferences = [0.9, 0.5, 0.2, 0.51];
        assert_eq!(discrete(&preferences), Outcomes { wins: 2, ties: 1, losses: 1 });
        let e = graded_win_rate(&preferences).unwrap();
        assert!((e.value - 0.5275).abs() < 1e-12);
        // Sample standard deviation 0.286982, n = 4.
        assert!((e.half_width() / 1.959_963_985 - 0.143_491).abs() < 1e-6);
    }
}
