//! The form in which every statistic leaves this crate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The coverage of every interval in this crate.
pub const CONFIDENCE: f64 = 0.95;

/// The 97.5 % quantile of the standard normal distribution, which [`CONFIDENCE`] asks for.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// A number with its 95 % interval, the number of observations behind it and the way the interval was found.
///
/// In JSON an unbounded end (one observation says nothing about a spread) is `null`, and so is a value that
/// is not a number.
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
    pub method: Method,
}

/// How an interval was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
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
    /// Normal interval on Fisher's z scale.
    FisherZ,
    /// Order statistics that bracket a quantile, by the binomial distribution.
    OrderStatistics,
    /// Normal interval from the inverse of the information matrix.
    Information,
    /// Normal interval from the sandwich covariance, valid when the model is not.
    Sandwich,
}

impl Estimate {
    /// `value ± Z·standard_error`, labelled with `method`.
    pub(crate) fn symmetric(value: f64, standard_error: f64, n: usize, method: Method) -> Self {
        Self { value, low: value - Z * standard_error, high: value + Z * standard_error, n, method }
    }

    /// The same estimate in other units: every number through an increasing function.
    ///
    /// ```
    /// # use hearken_stats::{Estimate, Method};
    /// let gap = Estimate { value: 0.0, low: -1.0, high: 1.0, n: 9, method: Method::Normal };
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
        write!(f, "{value:.digits$} [{low:.digits$}, {high:.digits$}] n={n}")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wilson => "Wilson",
            Self::Newcombe => "Newcombe",
            Self::StudentT => "Student's t",
            Self::Normal => "normal",
            Self::Bootstrap => "bootstrap",
            Self::FisherZ => "Fisher z",
            Self::OrderStatistics => "order statistics",
            Self::Information => "information",
            Self::Sandwich => "sandwich",
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
            method: Method::StudentT,
        };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"value":3.0,"low":null,"high":null,"n":1,"method":"student_t"}"#);
        assert_eq!(serde_json::from_str::<Estimate>(&text).unwrap(), one);
    }
}
