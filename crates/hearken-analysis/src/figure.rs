//! A number, or the sentence that says why there is none.

use hearken_stats::{Estimate, Significance, corrections};
use serde::{Deserialize, Serialize};

/// A number with its interval, or why it is missing.
///
/// In JSON `{"value": …, "low": …, "high": …, "n": …, "method": …}` or `{"missing": "…"}`; an unbounded end is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Figure {
    /// The number.
    Known(Estimate),
    /// There is none.
    Missing {
        /// Why, as a sentence.
        missing: String,
    },
}

impl Figure {
    /// The estimate, or `why` it is missing; a value that is not a number is missing too.
    pub fn new(estimate: Option<Estimate>, why: &str) -> Self {
        match estimate {
            Some(estimate) if estimate.value.is_finite() => Self::Known(estimate),
            _ => Self::missing(why),
        }
    }

    /// Why there is no number.
    pub fn missing(why: impl Into<String>) -> Self {
        Self::Missing { missing: why.into() }
    }

    /// The estimate, if there is one.
    pub fn known(&self) -> Option<&Estimate> {
        match self {
            Self::Known(estimate) => Some(estimate),
            Self::Missing { .. } => None,
        }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<f64> {
        self.known().map(|estimate| estimate.value)
    }

    /// The same in other units: every number through an increasing function.
    pub(crate) fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Known(estimate) => Self::Known(estimate.map(increasing)),
            missing @ Self::Missing { .. } => missing,
        }
    }
}

impl<E: std::fmt::Display> From<Result<Estimate, E>> for Figure {
    fn from(result: Result<Estimate, E>) -> Self {
        match result {
            Ok(estimate) => Self::new(Some(estimate), "It is not a finite number."),
            Err(error) => Self::missing(sentence(&error.to_string())),
        }
    }
}

/// The first letter large, a period at the end.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let period = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{period}", chars.as_str())
}

/// A test among several that are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The statistic, a z.
    pub z: f64,
    /// Its p-value, alone.
    pub p: f64,
    /// The p-value corrected for all tests of the table, after Holm.
    pub p_holm: f64,
    /// The same after Benjamini and Hochberg: below q, the expected share of false finds is q.
    pub p_bh: f64,
}

impl Test {
    /// Corrects tests that are looked at together; `None` stays `None` and is not counted.
    pub(crate) fn family(tests: &[Option<Significance>]) -> Vec<Option<Self>> {
        let usable = |t: &Significance| t.statistic.is_finite() && t.p_value.is_finite();
        let p: Vec<f64> = tests.iter().flatten().filter(|t| usable(t)).map(|t| t.p_value).collect();
        let mut corrected =
            corrections::holm(&p).into_iter().zip(corrections::benjamini_hochberg(&p));
        let test = |t: &Option<Significance>| {
            let t = t.filter(usable)?;
            let (p_holm, p_bh) = corrected.next().expect("one correction per test");
            Some(Self { z: t.statistic, p: t.p_value, p_holm, p_bh })
        };
        tests.iter().map(test).collect()
    }
}

#[cfg(test)]
mod tests {
    use hearken_stats::{proportion::wilson, significance};

    use super::*;

    #[test]
    fn a_figure_is_an_estimate_or_a_sentence_in_json() {
        let known = Figure::new(wilson(1.0, 2), "never");
        let json = serde_json::to_value(&known).unwrap();
        assert_eq!(json["value"], 0.5);
        assert_eq!(json["method"], "wilson");
        assert_eq!(serde_json::from_value::<Figure>(json).unwrap(), known);
        let missing = Figure::new(None, "Nobody judged.");
        assert_eq!(serde_json::to_string(&missing).unwrap(), r#"{"missing":"Nobody judged."}"#);
        let text = r#"{"missing":"Nobody judged."}"#;
        assert_eq!(serde_json::from_str::<Figure>(text).unwrap(), missing);
    }

    #[test]
    fn what_is_missing_is_not_corrected_for() {
        let test = |z| Some(significance::normal(z));
        let family = Test::family(&[test(2.5), None, test(0.1)]);
        assert!(family[1].is_none());
        let first = family[0].unwrap();
        assert!((first.p_holm - 2.0 * first.p).abs() < 1e-12);
    }
}
