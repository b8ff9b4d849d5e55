//! How often a reward model agrees with the people it learned from.

use crate::{Estimate, proportion};

/// Share of positive margins, score(chosen) − score(rejected); a margin of 0 counts half, one that is not a
/// number counts as wrong. Wilson's interval; `None` without margins.
///
/// ```
/// let e = hearken_stats::accuracy::accuracy(&[1.5, -0.2, 0.0, 0.3]).unwrap();
/// assert_eq!((e.value, e.n), (0.625, 4));
/// ```
pub fn accuracy(margins: &[f64]) -> Option<Estimate> {
    proportion::wilson(margins.iter().map(|&m| credit(m)).sum(), margins.len())
}

/// 1 for a positive margin, ½ for none, 0 otherwise.
fn credit(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin == 0.0 {
        0.5
    } else {
        0.0
    }
}

/// One preference as a length-aware evaluation sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthMargin {
    /// score(chosen) − score(rejected).
    pub margin: f64,
    /// Length of chosen − length of rejected, in whatever unit the caller counts.
    pub length_difference: i64,
}

/// The accuracy on preferences whose length difference lies in [from, below).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthBucket {
    /// Smallest length difference; `None` for the first bucket.
    pub from: Option<i64>,
    /// First length difference past the bucket; `None` for the last.
    pub below: Option<i64>,
    /// [`accuracy`] in the bucket; `None` if it is empty.
    pub accuracy: Option<Estimate>,
}

/// [`accuracy`] in the `edges.len() + 1` buckets that the ascending edges make. A model that scores length shows
/// as high accuracy where chosen is longer and low accuracy where it is shorter.
///
/// # Panics
/// If the edges do not ascend strictly.
///
/// ```
/// # use hearken_stats::accuracy::{LengthMargin, accuracy_by_length_difference};
/// // The margin is the length difference: right where chosen is longer, wrong elsewhere.
/// let margins = [-9, -1, 2, 7].map(|d| LengthMargin { margin: d as f64, length_difference: d });
/// let buckets = accuracy_by_length_difference(&margins, &[0]);
/// let values: Vec<_> = buckets.iter().map(|b| b.accuracy.unwrap().value).collect();
/// assert_eq!(values, [0.0, 1.0]);
/// ```
pub fn accuracy_by_length_difference(margins: &[LengthMargin], edges: &[i64]) -> Vec<LengthBucket> {
    assert!(edges.is_sorted_by(|a, b| a < b), "edges must ascend: {edges:?}");
    let mut buckets = vec![Vec::new(); edges.len() + 1];
    for m in margins {
        buckets[edges.partition_point(|&edge| edge <= m.length_difference)].push(m.margin);
    }
    let bucket = |(i, inside): (usize, &Vec<f64>)| LengthBucket {
        from: i.checked_sub(1).map(|i| edges[i]),
        below: edges.get(i).copied(),
        accuracy: accuracy(inside),
    };
    buckets.iter().enumerate().map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_that_is_not_a_number_is_wrong() {
        assert_eq!(accuracy(&[f64::NAN, 1.0]).unwrap().value, 0.5);
        assert!(accuracy(&[]).is_none());
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_above() {
        let at_edge = [LengthMargin { margin: 1.0, length_difference: 10 }];
        let buckets = accuracy_by_length_difference(&at_edge, &[-10, 10]);
        assert_eq!(buckets.len(), 3);
        assert!(buckets[1].accuracy.is_none());
        assert_eq!(buckets[2].from, Some(10));
        assert_eq!(buckets[2].accuracy.unwrap().n, 1);
    }
}
