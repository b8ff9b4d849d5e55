//! The form in which every statistic leaves this crate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The coverage of every interval in this crate.
pub const CONFIDENCE: f64 = 0.95;

/// The 97.5 % quantile of the standard normal distribution, which [`CONFIDENCE`] asks for.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// A number with its 95 % interval, the number of observations behind it and the way the interval was found.
///
/// An end that the observations do not bound is infinite: one observation, or several that are all alike, say nothing about a
/// spread, so no interval in this crate has a width of 0. In JSON an unbounded end is `null`, and so is a value that is not a
/// number.
///
/// ```
/// let share = hearken_stats::proportion::wilson(8.0, 10).expect("ten observations");
/// assert_eq!(share.to_string(), "0.8000 [0.4902, 0.9433] n=10");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The point estimate.
    #[serde(with = "value_or_null")]
    pub value: f64,
    /// Lower end of the interval.
    #[serde(with = "low_or_null")]
    pub low: f64,
    /// Upper end of the interval.
    #[serde(with = "high_or_null")]
    pub high: f64,
    /// Number of observations.
    pub n: usize,
    /// Where the interval comes from.
    pub method: IntervalMethod,
}

/// How an interval was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// Wilson's score interval of a proportion, or of a mean of values in [0, 1].
    Wilson,
    /// Newcombe's interval of a difference of proportions.
    Newcombe,
    /// Student's t.
    StudentT,
    /// Normal quantile times a standard error.
    Normal,
    /// Percentiles of bootstrap replicates.
    Bootstrap,
    /// Order statistics that bracket a quantile, by the binomial distribution.
    OrderStatistics,
    /// Normal interval from the inverse of the information matrix.
    Information,
    /// Normal interval from the sandwich covariance, valid when the model is not.
    Sandwich,
    /// Few labels by people and many by a judge, with Student's t.
    PredictionPowered,
    /// Bets against every other value: one of a sequence of intervals that hold all at once.
    Betting,
}

impl Estimate {
    /// `value ± Z·standard_error`, labelled with `method`; unbounded without a standard error above 0.
    pub(crate) fn symmetric(
        value: f64,
        standard_error: f64,
        n: usize,
        method: IntervalMethod,
    ) -> Self {
        Self::around(value, Z * standard_error, n, method)
    }

    /// `value ± half`; unbounded unless `half` is above 0. A spread of 0 is that of observations that are all alike, and
    /// says nothing about those that were not made.
    pub(crate) fn around(value: f64, half: f64, n: usize, method: IntervalMethod) -> Self {
        if half > 0.0 {
            Self { value, low: value - half, high: value + half, n, method }
        } else {
            Self::unbounded(value, n, method)
        }
    }

    /// A value of which no interval can be said.
    pub(crate) fn unbounded(value: f64, n: usize, method: IntervalMethod) -> Self {
        Self { value, low: f64::NEG_INFINITY, high: f64::INFINITY, n, method }
    }

    /// Whether neither end is bounded.
    ///
    /// ```
    /// assert!(hearken_stats::mean::mean(&[3.0]).is_some_and(|e| e.is_unbounded()));
    /// ```
    pub fn is_unbounded(&self) -> bool {
        self.low == f64::NEG_INFINITY && self.high == f64::INFINITY
    }

    /// The same estimate in other units: every number through an increasing function.
    ///
    /// ```
    /// # use hearken_stats::{Estimate, IntervalMethod};
    /// let gap = Estimate { value: 0.0, low: -1.0, high: 1.0, n: 9, method: IntervalMethod::Normal };
    /// let percent = gap.map(|x| 100.0 * x);
    /// assert_eq!((percent.low, percent.high), (-100.0, 100.0));
    /// ```
    #[must_use]
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        Self {
            value: increasing(self.value),
            low: increasing(self.low),
            high: increasing(self.high),
            ..self
        }
    }

    /// Whether `x` lies in the interval, ends included.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// Half the interval's width.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(4);
        let Self { value, low, high, n, .. } = self;
        write!(f, "{value:.digits$} {} n={n}", Interval { low: *low, high: *high, digits })
    }
}

/// An interval as text: `[0.49, 0.94]`, `[0.49, unbounded]`, `[unbounded]`.
///
/// ```
/// # use hearken_stats::estimate::Interval;
/// let open = Interval { low: 0.5, high: f64::INFINITY, digits: 2 };
/// assert_eq!(open.to_string(), "[0.50, unbounded]");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Digits after the point.
    pub digits: usize,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, high, digits } = *self;
        let end = |x: f64| if x.is_finite() { format!("{x:.digits$}") } else { UNBOUNDED.into() };
        if low == f64::NEG_INFINITY && high == f64::INFINITY {
            return write!(f, "[{UNBOUNDED}]");
        }
        write!(f, "[{}, {}]", end(low), end(high))
    }
}

/// What stands for an end that the observations do not bound.
pub const UNBOUNDED: &str = "unbounded";

impl fmt::Display for IntervalMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wilson => "Wilson",
            Self::Newcombe => "Newcombe",
            Self::StudentT => "Student's t",
            Self::Normal => "normal",
            Self::Bootstrap => "bootstrap",
            Self::OrderStatistics => "order statistics",
            Self::Information => "information",
            Self::Sandwich => "sandwich",
            Self::PredictionPowered => "prediction-powered",
            Self::Betting => "betting",
        })
    }
}

/// JSON has no infinities and no NaN: each of the three fields reads `null` as the only one it can mean.
macro_rules! number_or_null {
    ($name:ident, $null:expr) => {
        mod $name {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            // serde's `with` fixes this signature.
            #[allow(clippy::trivially_copy_pass_by_ref)]
            pub(super) fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
                x.is_finite().then_some(*x).serialize(s)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
                Ok(Option::<f64>::deserialize(d)?.unwrap_or($null))
            }
        }
    };
}
number_or_null!(value_or_null, f64::NAN);
number_or_null!(low_or_null, f64::NEG_INFINITY);
number_or_null!(high_or_null, f64::INFINITY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbounded_interval_survives_json() {
        let one = Estimate {
            value: 3.0,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            n: 1,
            method: IntervalMethod::StudentT,
        };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"value":3.0,"low":null,"high":null,"n":1,"method":"student_t"}"#);
        assert_eq!(serde_json::from_str::<Estimate>(&text).unwrap(), one);
        assert_eq!(one.to_string(), "3.0000 [unbounded] n=1");
    }
}
