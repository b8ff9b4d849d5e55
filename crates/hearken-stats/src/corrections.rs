//! Adjusted p-values when many hypotheses are tested at once.

/// Holm's step-down adjustment (1979): rejecting where the result is below α keeps the chance of any false
/// rejection below α. In the order of the input.
///
/// ```
/// let adjusted = hearken_stats::corrections::holm(&[0.01, 0.04, 0.03, 0.005]);
/// assert_eq!(adjusted, [0.03, 0.06, 0.06, 0.02]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let n = p_values.len();
    let mut adjusted = vec![0.0; n];
    let mut largest = 0.0_f64;
    for (rank, &i) in ascending(p_values).iter().enumerate() {
        largest = largest.max(((n - rank) as f64 * p_values[i]).min(1.0));
        adjusted[i] = largest;
    }
    adjusted
}

/// Benjamini and Hochberg's step-up adjustment (1995): rejecting where the result is below q keeps the expected share
/// of false rejections below q, for independent tests. In the order of the input.
///
/// ```
/// let adjusted = hearken_stats::corrections::benjamini_hochberg(&[0.01, 0.04, 0.03, 0.005]);
/// assert_eq!(adjusted, [0.02, 0.04, 0.04, 0.02]);
/// ```
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let n = p_values.len() as f64;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut smallest = 1.0_f64;
    for (rank, &i) in ascending(p_values).iter().enumerate().rev() {
        smallest = smallest.min(p_values[i] * n / (rank + 1) as f64);
        adjusted[i] = smallest;
    }
    adjusted
}

fn ascending(p_values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    order
}
