//! How fast annotators are.

use hearken_stats::quantile::{self, middle};
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::index::Index;

/// Time per judgement of one annotator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Seconds that half of the judgements took at most.
    pub median_seconds: Figure,
    /// How far the logarithm of the median is from that of the other annotators, in robust standard deviations (0.6745·(x −
    /// median)/MAD; Iglewicz and Hoaglin 1993). `None` with fewer than five annotators who have ten durations.
    pub robust_z: Option<f64>,
    /// Judgements whose time is as unusual among all (beyond 3.5 on the same scale) and short.
    pub very_fast: usize,
    /// The same, long.
    pub very_slow: usize,
}

/// Beyond this a robust z is an outlier, after Iglewicz and Hoaglin.
pub(crate) const OUTLIER: f64 = 3.5;
const DURATIONS_MIN: usize = 10;
const ANNOTATORS_MIN: usize = 5;

pub(crate) fn speeds(index: &Index<'_>) -> Vec<Speed> {
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); index.annotators.len()];
    for entry in index.by_people() {
        if let Some(ms) = entry.judgement.duration_ms {
            // A duration of 0 has no logarithm; a millisecond is as impossible.
            seconds[entry.annotator].push(ms.max(1) as f64 / 1000.0);
        }
    }
    let logs = |values: &[f64]| values.iter().map(|s| s.ln()).collect::<Vec<f64>>();
    let all = Robust::of(&logs(&seconds.concat()));
    let medians: Vec<Option<f64>> = seconds
        .iter()
        .map(|s| (s.len() >= DURATIONS_MIN).then(|| middle(&logs(s))).flatten())
        .collect();
    let known: Vec<f64> = medians.iter().flatten().copied().collect();
    let annotators = Robust::of(&known).filter(|_| known.len() >= ANNOTATORS_MIN);
    let speed = |(own, median): (&Vec<f64>, &Option<f64>)| {
        let z = |s: &&f64| all.as_ref().map_or(0.0, |all| all.z(s.ln()));
        let shown = quantile::median(own);
        Speed {
            median_seconds: Figure::new(shown, "No judgement of the annotator has a duration."),
            robust_z: annotators.as_ref().zip(*median).map(|(robust, m)| robust.z(m)),
            very_fast: own.iter().filter(|s| z(s) < -OUTLIER).count(),
            very_slow: own.iter().filter(|s| z(s) > OUTLIER).count(),
        }
    };
    seconds.iter().zip(&medians).map(speed).collect()
}

/// Median and median absolute deviation.
struct Robust {
    median: f64,
    deviation: f64,
}

impl Robust {
    /// `None` without values, or where half of them are equal.
    fn of(values: &[f64]) -> Option<Self> {
        let median = middle(values)?;
        let deviations: Vec<f64> = values.iter().map(|x| (x - median).abs()).collect();
        let deviation = middle(&deviations)?;
        (deviation > 0.0).then_some(Self { median, deviation })
    }

    fn z(&self, x: f64) -> f64 {
        // 0.6745 is the third quartile of the standard normal distribution.
        0.6745 * (x - self.median) / self.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_mostly_alike_have_no_deviation() {
        assert!(Robust::of(&[1.0, 1.0, 1.0, 2.0]).is_none());
    }
}
