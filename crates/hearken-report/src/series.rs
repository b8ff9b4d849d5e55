//! Numbers over the course of a run, from its `metrics.jsonl`.

use std::{collections::BTreeSet, path::Path};

use hearken_page::{ChartSeries, Point};
use serde_json::{Map, Value};

use super::{ReportError, read_if_there};

/// The records of one `metrics.jsonl`.
#[derive(Debug, Default)]
pub(super) struct Curves {
    records: Vec<Map<String, Value>>,
}

impl Curves {
    /// Reads a file; a missing one is empty.
    pub(super) fn read(path: &Path) -> Result<Self, ReportError> {
        let objects = json_lines(path)?.into_iter().filter_map(|value| match value {
            Value::Object(record) => Some(record),
            _ => None,
        });
        Ok(Self { records: objects.collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// `y` over `x` in the records that have both as finite numbers, thinned for drawing.
    pub(super) fn series(&self, x: &str, y: &str) -> ChartSeries {
        ChartSeries { name: y.to_owned(), points: thin(self.all(x, y)) }
    }

    /// `y` over `x` in the records that have both as finite numbers.
    pub(super) fn all(&self, x: &str, y: &str) -> Vec<Point> {
        // An estimate is an object with its interval; its value is drawn.
        let number = |record: &Map<String, Value>, key| {
            let value = record.get(key)?;
            let number = value.as_f64().or_else(|| value.get("value")?.as_f64());
            number.filter(|v| v.is_finite())
        };
        let point = |record| Some(Point::new(number(record, x)?, number(record, y)?));
        self.records.iter().filter_map(point).collect()
    }

    /// The keys that begin with `prefix`, sorted.
    pub(super) fn keys_with(&self, prefix: &str) -> BTreeSet<&str> {
        let keys = self.records.iter().flat_map(Map::keys).map(String::as_str);
        keys.filter(|key| key.starts_with(prefix)).collect()
    }
}

/// At most `POINTS_MAX` points: means of runs of neighbors.
fn thin(points: Vec<Point>) -> Vec<Point> {
    const POINTS_MAX: usize = 400;
    if points.len() <= POINTS_MAX {
        return points;
    }
    let run = points.len().div_ceil(POINTS_MAX);
    let mean = |run: &[Point]| {
        let n = run.len() as f64;
        let (x, y) = run.iter().fold((0.0, 0.0), |(x, y), point| (x + point.x, y + point.y));
        Point::new(x / n, y / n)
    };
    points.chunks(run).map(mean).collect()
}

/// The values of a file of JSON lines; a missing one has none.
pub(super) fn json_lines(path: &Path) -> Result<Vec<Value>, ReportError> {
    let text = read_if_there(path)?.unwrap_or_default();
    let line = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| ReportError::Format {
            path: path.to_owned(),
            line: index + 1,
            reason: error.to_string(),
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_mean_and_the_order() {
        let points: Vec<_> =
            (0..1000).map(|i| Point::new(f64::from(i), f64::from(i % 7))).collect();
        let thinned = thin(points.clone());
        assert!(thinned.len() <= 400);
        assert!(thinned.is_sorted_by(|a, b| a.x < b.x));
        assert_eq!(thin(points[..400].to_vec()), points[..400]);
    }
}
