//! How two quantities go together.

/// Pearson's correlation of pairs of numbers; `None` where one of the two does not vary.
///
/// ```
/// use hearken_stats::correlation::pearson;
/// let found = pearson([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]).unwrap();
/// assert!((found - 1.0_f64).abs() < 1e-12);
/// assert_eq!(pearson([(1.0, 2.0), (1.0, 4.0)]), None);
/// ```
pub fn pearson(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
    // Welford's updates: no difference of large sums.
    let (mut n, mut means, mut xx, mut yy, mut xy) = (0.0, (0.0, 0.0), 0.0, 0.0, 0.0);
    for (x, y) in pairs {
        n += 1.0;
        let (dx, dy) = (x - means.0, y - means.1);
        means = (means.0 + dx / n, means.1 + dy / n);
        xx += dx * (x - means.0);
        yy += dy * (y - means.1);
        xy += dx * (y - means.1);
    }
    (0.0 < xx && 0.0 < yy).then(|| xy / (xx.sqrt() * yy.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_have_their_known_values() {
        // (1, 2, 3, 4) with (1, 3, 2, 4): 4/5.
        let found = pearson([(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)]).unwrap();
        assert!((found - 0.8).abs() < 1e-15, "{found}");
        let turned = pearson([(-1.0, 1.0), (-2.0, 3.0), (-3.0, 2.0), (-4.0, 4.0)]).unwrap();
        assert!((turned + 0.8).abs() < 1e-15, "{turned}");
        assert_eq!(pearson([]), None);
    }
}
