//! Whether the side on which something is shown decides.

use serde::{Deserialize, Serialize};

use crate::significance::{self, Significance};
use crate::{Estimate, proportion};

/// The share of decisive votes for the left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideBias {
    /// Share of left among left and right, Wilson's interval.
    pub left_share: Estimate,
    /// Exact binomial test against one half; the statistic is z. Where sides were not randomized it tests position and
    /// content together.
    pub significance: Significance,
}

/// Counts of decisive votes by side; ties are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// Votes for the item on the left.
    pub left: u32,
    /// Votes for the item on the right.
    pub right: u32,
}

impl Sides {
    /// Tests the sides against a fair coin; `None` without votes.
    ///
    /// ```
    /// # use hearken_stats::side_bias::Sides;
    /// let bias = Sides { left: 204, right: 86 }.bias().unwrap();
    /// assert!((bias.significance.statistic - 6.93).abs() < 0.005);
    /// ```
    pub fn bias(self) -> Option<SideBias> {
        let n = self.left + self.right;
        Some(SideBias {
            left_share: proportion::wilson(f64::from(self.left), n as usize)?,
            significance: significance::fair_coin(u64::from(self.left), u64::from(n))?,
        })
    }
}

/// What a judge says who sees the same pair in both orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapCounts {
    /// The same item both times (or a tie both times).
    pub consistent: usize,
    /// The first position both times.
    pub first: usize,
    /// The second position both times.
    pub second: usize,
    /// A tie in one order only.
    pub mixed: usize,
}

impl SwapCounts {
    /// Share of consistent verdicts, Wilson's interval; `None` without verdicts.
    pub fn consistency(self) -> Option<Estimate> {
        let n = self.consistent + self.first + self.second + self.mixed;
        proportion::wilson(self.consistent as f64, n)
    }
}
