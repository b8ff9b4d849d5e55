//! When a teacher is asked.

use schemars::JsonSchema;
use serde::Deserialize;

/// How queries are spread over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LabelSchedule {
    /// As many in every step.
    Constant,
    /// At a rate of c/(t + c) with c a fifth of the run: more at first. Christiano et al. 2017, section 2.2.
    Hyperbolic,
}

impl LabelSchedule {
    /// How many of `total` queries have been made when `share` of the run is over; `initial` of them, as a share, at once.
    ///
    /// ```text
    /// constant:    f(s) = s
    /// hyperbolic:  f(s) = ln(1 + 5s)/ln 6
    /// n = total·(initial + (1 − initial)·f(s))
    /// ```
    pub fn due(self, total: usize, initial: f64, share: f64) -> usize {
        const RATE: f64 = 5.0;
        let share = share.clamp(0.0, 1.0);
        let spread = match self {
            Self::Constant => share,
            Self::Hyperbolic => (RATE * share).ln_1p() / RATE.ln_1p(),
        };
        // A little is added so that rounding loses none at the end.
        (total as f64 * (initial + (1.0 - initial) * spread) + 1e-9) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_queries_are_made_and_the_first_at_once() {
        for schedule in [LabelSchedule::Constant, LabelSchedule::Hyperbolic] {
            assert_eq!(schedule.due(200, 0.25, 0.0), 50);
            assert_eq!(schedule.due(200, 0.25, 1.0), 200);
        }
        let half = |schedule: LabelSchedule| schedule.due(1000, 0.0, 0.5);
        assert_eq!(half(LabelSchedule::Constant), 500);
        assert!(600 < half(LabelSchedule::Hyperbolic));
    }
}
