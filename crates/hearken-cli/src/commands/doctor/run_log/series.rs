//! The records of a run as sequences of numbers.

use hearken_stats::quantile::middle;
use serde_json::Value;

/// All lines of metrics.jsonl.
pub(super) struct MetricRecords {
    all: Vec<Value>,
}

impl MetricRecords {
    pub(super) fn new(all: Vec<Value>) -> Self {
        Self { all }
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> &[Value] {
        &self.all
    }

    /// Records of optimizer steps: those with a loss.
    pub(super) fn of_steps(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.all.iter().filter(|record| record.get("loss").is_some())
    }

    pub(super) fn steps(&self) -> usize {
        self.of_steps().count()
    }

    /// The values of `key` in order, wherever it is; what is no number is NaN.
    pub(super) fn series(&self, key: &str) -> Series {
        let values = self.all.iter().filter_map(|record| record.get(key));
        Series(values.map(|value| value.as_f64().unwrap_or(f64::NAN)).collect())
    }

    /// The values of `key`, whatever they are.
    pub(super) fn evaluations(&self, key: &str) -> Vec<&Value> {
        self.all.iter().filter_map(|record| record.get(key)).collect()
    }

    /// The last value of `key`, whatever it is.
    pub(super) fn last(&self, key: &str) -> Option<&Value> {
        self.all.iter().rev().find_map(|record| record.get(key))
    }
}

/// Numbers in the order of the steps.
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn values(&self) -> &[f64] {
        &self.0
    }

    pub(super) fn first(&self) -> Option<f64> {
        self.0.first().copied()
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.0.last().copied()
    }

    pub(super) fn mean(&self) -> Option<f64> {
        mean(&self.0)
    }

    /// Means over the first and the last tenth; `None` below two values.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        let n = self.0.len();
        if n < 2 {
            return None;
        }
        let part = (n / 10).max(1);
        Some((mean(&self.0[..part])?, mean(&self.0[n - part..])?))
    }

    pub(super) fn median(&self) -> Option<f64> {
        middle(&self.0.iter().copied().filter(|x| x.is_finite()).collect::<Vec<_>>())
    }

    pub(super) fn max(&self) -> Option<f64> {
        self.0.iter().copied().filter(|x| x.is_finite()).max_by(f64::total_cmp)
    }

    pub(super) fn min(&self) -> Option<f64> {
        self.0.iter().copied().filter(|x| x.is_finite()).min_by(f64::total_cmp)
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
