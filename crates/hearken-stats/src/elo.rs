//! Elo's running ratings.
//!
//! They depend on the order of the votes and carry no interval: a history to look at. To rank, use
//! [`crate::bradley_terry`].

use crate::comparison::{Comparison, Outcome};

/// The constants of Elo's update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elo {
    /// Rating of an item before its first comparison.
    pub initial: f64,
    /// The largest change by one comparison.
    pub k: f64,
}

impl Elo {
    /// Ratings after all comparisons, one per item.
    ///
    /// ```text
    /// E = 1/(1 + 10^((R_right − R_left)/400))     R_left += K·(S − E)     R_right −= K·(S − E)
    /// ```
    ///
    /// S is 1 for left, ½ for a tie, 0 for right; a vote's weight multiplies K.
    ///
    /// # Panics
    /// If a comparison names an item that does not exist.
    ///
    /// ```
    /// # use hearken_stats::{comparison::{Comparison, Outcome}, elo::Elo};
    /// let vote = Comparison { left: 0, right: 1, outcome: Outcome::Left, weight: 1.0 };
    /// assert_eq!(Elo { initial: 1000.0, k: 32.0 }.ratings(2, &[vote]), [1016.0, 984.0]);
    /// ```
    pub fn ratings(self, items: usize, comparisons: &[Comparison]) -> Vec<f64> {
        self.ratings_from(vec![self.initial; items], comparisons)
    }

    /// [`Elo::ratings`] that go on from earlier ones.
    ///
    /// # Panics
    /// If a comparison names an item without a rating.
    pub fn ratings_from(self, earlier: Vec<f64>, comparisons: &[Comparison]) -> Vec<f64> {
        let mut ratings = earlier;
        for c in comparisons {
            let score = match c.outcome {
                Outcome::Left => 1.0,
                Outcome::Tie => 0.5,
                Outcome::Right => 0.0,
            };
            let expected = 1.0 / (1.0 + 10_f64.powf((ratings[c.right] - ratings[c.left]) / 400.0));
            let change = self.k * c.weight * (score - expected);
            ratings[c.left] += change;
            ratings[c.right] -= change;
        }
        ratings
    }
}
