//! A reward model of two heads, of which one takes what length explains.

/// Scores of both heads and lengths of the completions of an optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct TwoHeads<'a> {
    /// r_Q of each completion: what is kept.
    pub quality: &'a [f64],
    /// r_L of each completion: what is thrown away.
    pub length: &'a [f64],
    /// Tokens of each completion.
    pub tokens: &'a [f64],
}

/// A loss with its derivatives with respect to the scores of both heads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwoHeadLoss {
    /// |ρ(r_Q, length)| − ρ(r_L, length).
    pub loss: f64,
    /// ρ(r_Q, length): 0 where quality says nothing of length.
    pub quality_correlation: f64,
    /// d loss / d r_Q, one per completion.
    pub grad_quality: Vec<f64>,
    /// d loss / d r_L, one per completion.
    pub grad_length: Vec<f64>,
}

/// Pulls quality away from length, and the other head towards it.
///
/// ```text
/// L = |ρ(r_Q, ℓ)| − ρ(r_L, ℓ)
/// ```
///
/// with ρ Pearson's correlation over the completions of an optimizer step and ℓ their lengths in tokens. Chen et
/// al. 2024, arXiv:2402.07319 (ODIN); their preferences are learned by r_Q + r_L, and r_Q alone is the
/// reward model afterwards. ODIN keeps the weights of the two heads orthogonal besides, see [`orthogonality`].
/// Where a head gives all completions one score, or all are of one length, there is no correlation: it counts
/// as 0 and has no gradient.
///
/// | argument       | length | meaning                                        |
/// |----------------|--------|------------------------------------------------|
/// | `quality`      | n      | r_Q of the completions of the step             |
/// | `length`       | n      | r_L of the same                                |
/// | `tokens`       | n      | their lengths                                  |
///
/// # Panics
/// If the three differ in number.
///
/// ```
/// use hearken_objective::decorrelation::{TwoHeads, decorrelation};
/// let heads = TwoHeads { quality: &[1.0, 2.0], length: &[0.0, 5.0], tokens: &[10.0, 30.0] };
/// assert!((decorrelation(heads).loss - 0.0).abs() < 1e-12); // |1| − 1
/// ```
pub fn decorrelation(heads: TwoHeads<'_>) -> TwoHeadLoss {
    let TwoHeads { quality, length, tokens } = heads;
    assert_eq!(quality.len(), tokens.len(), "quality: one score per completion");
    assert_eq!(length.len(), tokens.len(), "length: one score per completion");
    let (of_quality, grad_quality) = correlation(quality, tokens);
    let (of_length, grad_length) = correlation(length, tokens);
    let sign = if of_quality < 0.0 { -1.0 } else { 1.0 };
    TwoHeadLoss {
        loss: of_quality.abs() - of_length,
        quality_correlation: of_quality,
        grad_quality: grad_quality.into_iter().map(|grad| sign * grad).collect(),
        grad_length: grad_length.into_iter().map(|grad| -grad).collect(),
    }
}

/// Pearson's correlation of x with y, and its derivative with respect to x; 0 where either has no spread.
///
/// ```text
/// ρ = Σ a·b / (|a|·|b|)     a = x − x̄, b = y − ȳ
/// dρ/dx = (b/|b| − ρ·a/|a|) / |a|
/// ```
fn correlation(x: &[f64], y: &[f64]) -> (f64, Vec<f64>) {
    let centered = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let centered: Vec<f64> = values.iter().map(|value| value - mean).collect();
        let norm = centered.iter().map(|value| value * value).sum::<f64>().sqrt();
        (centered, norm)
    };
    let ((a, a_norm), (b, b_norm)) = (centered(x), centered(y));
    // Rounding of a mean leaves this much of equal values.
    let spreads = |values: &[f64], norm: f64| {
        let largest = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        1e-12 * largest * (values.len() as f64).sqrt() < norm
    };
    if !spreads(x, a_norm) || !spreads(y, b_norm) {
        return (0.0, vec![0.0; x.len()]);
    }
    let rho = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>() / (a_norm * b_norm);
    let slope = |(a, b): (&f64, &f64)| (b / b_norm - rho * a / a_norm) / a_norm;
    (rho, a.iter().zip(&b).map(slope).collect())
}

/// |w_Q · w_L| of two heads' weights, and its derivative with respect to each of them: they read different
/// directions of the hidden state where it is 0. Chen et al. 2024, arXiv:2402.07319.
///
/// # Panics
/// If the two differ in length.
///
/// ```
/// use hearken_objective::decorrelation::orthogonality;
/// let (loss, of_quality, of_length) = orthogonality(&[1.0, -2.0], &[0.5, 1.0]);
/// assert_eq!((loss, of_quality, of_length), (1.5, vec![-0.5, -1.0], vec![-1.0, 2.0]));
/// ```
pub fn orthogonality(quality: &[f64], length: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
    assert_eq!(quality.len(), length.len(), "weights: of one hidden state");
    let product: f64 = quality.iter().zip(length).map(|(a, b)| a * b).sum();
    let sign = if product < 0.0 { -1.0 } else { 1.0 };
    let times = |weights: &[f64]| weights.iter().map(|weight| sign * weight).collect();
    (product.abs(), times(length), times(quality))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient, uniform};

    const TOKENS: [f64; 5] = [3.0, 9.0, 4.0, 20.0, 7.0];

    fn heads<'a>(quality: &'a [f64], length: &'a [f64]) -> TwoHeads<'a> {
        TwoHeads { quality, length, tokens: &TOKENS }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let scores = uniform(3, 10);
        for turn in [1.0, -1.0] {
            let quality: Vec<f64> = scores[..5].iter().map(|x| turn * x).collect();
            let length = &scores[5..];
            let found = decorrelation(heads(&quality, length));
            assert_gradient(
                |x| decorrelation(heads(x, length)).loss,
                &quality,
                &found.grad_quality,
            );
            assert_gradient(|x| decorrelation(heads(&quality, x)).loss, length, &found.grad_length);
        }
        let (quality, length) = (&scores[..5], &scores[5..]);
        let (_, of_quality, of_length) = orthogonality(quality, length);
        assert_gradient(|x| orthogonality(x, length).0, quality, &of_quality);
        assert_gradient(|x| orthogonality(quality, x).0, length, &of_length);
    }

    /// The best that can be: quality that says nothing of length, and length that says it all.
    #[test]
    fn the_loss_is_least_where_length_is_all_in_its_own_head() {
        let mean = TOKENS.iter().sum::<f64>() / 5.0;
        let [first, second] = [TOKENS[0] - mean, TOKENS[1] - mean];
        // No product with the centered lengths.
        let quality = [second, -first, 0.0, 0.0, 0.0];
        let found = decorrelation(heads(&quality, &TOKENS));
        assert_close(&[found.loss, found.quality_correlation], &[-1.0, 0.0], 1e-12);
        let [other, same] = [[1.0, -1.0, 0.0, 0.0, 0.0], TOKENS];
        for quality in [other, same] {
            assert!(found.loss < decorrelation(heads(&quality, &TOKENS)).loss);
        }
    }

    #[test]
    fn a_step_down_the_gradient_takes_length_out_of_quality() {
        let quality = TOKENS.map(|tokens| 0.1 * tokens + (tokens * 7.0).sin());
        let before = decorrelation(heads(&quality, &TOKENS));
        let moved: Vec<f64> =
            quality.iter().zip(&before.grad_quality).map(|(x, grad)| x - grad).collect();
        let after = decorrelation(heads(&moved, &TOKENS));
        assert!(after.quality_correlation.abs() < before.quality_correlation.abs());
    }

    #[test]
    fn shifts_and_scales_of_scores_and_lengths_change_nothing() {
        let (quality, length) = ([0.3, 0.1, -2.0, 1.0, 0.7], [1.0, 2.0, 0.0, 4.0, 3.0]);
        let loss = decorrelation(heads(&quality, &length)).loss;
        let moved = decorrelation(heads(&quality.map(|x| 3.0 * x - 5.0), &length)).loss;
        assert_close(&[moved], &[loss], 1e-12);
    }

    #[test]
    fn without_spread_there_is_nothing_to_correlate() {
        let equal = decorrelation(heads(&[0.1; 5], &[2.0; 5]));
        assert_eq!((equal.loss, equal.grad_quality), (0.0, vec![0.0; 5]));
        let one = decorrelation(TwoHeads { quality: &[1.0], length: &[2.0], tokens: &[5.0] });
        assert_eq!((one.loss, one.grad_length), (0.0, vec![0.0]));
    }
}
