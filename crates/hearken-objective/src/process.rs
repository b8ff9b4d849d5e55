//! Process and outcome supervision: classes of steps, correctness of whole solutions, and one score of many steps.
//!
//! Lightman et al. 2023, arXiv:2305.20050; Wang et al. 2024, arXiv:2312.08935 (Math-Shepherd).

use crate::numerics::{log_sigmoid, sigmoid};

/// A loss and its derivative with respect to each logit.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassLoss {
    /// Nats.
    pub loss: f64,
    /// ∂loss/∂z, one for each class.
    pub grad_logits: Vec<f64>,
}

/// −Σ_k q_k·log softmax(z)_k: the cross-entropy of the classes of one step.
///
/// | argument | length  | meaning                                   |
/// |----------|---------|-------------------------------------------|
/// | `logits` | classes | z, the model's output at the step's end   |
/// | `target` | classes | q, the probabilities of its label; sum 1  |
///
/// The loss of an optimizer step is the mean of these over all labelled steps in it.
///
/// ```
/// use hearken_objective::process::class_cross_entropy;
/// let loss = class_cross_entropy(&[0.0, 0.0], &[0.0, 1.0]);
/// assert!((loss.loss - 2f64.ln()).abs() < 1e-15);
/// assert_eq!(loss.grad_logits, [0.5, -0.5]);
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn class_cross_entropy(logits: &[f64], target: &[f64]) -> ClassLoss {
    assert_eq!(logits.len(), target.len(), "one probability for each class");
    let log_total = log_sum_exp(logits);
    let of = |(z, q): (&f64, &f64)| if *q == 0.0 { 0.0 } else { q * (log_total - z) };
    let loss = logits.iter().zip(target).map(of).sum();
    let mass: f64 = target.iter().sum();
    let grad = |(z, q): (&f64, &f64)| mass * (z - log_total).exp() - q;
    ClassLoss { loss, grad_logits: logits.iter().zip(target).map(grad).collect() }
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + logits.iter().map(|z| (z - most).exp()).sum::<f64>().ln()
}

/// The probability of each class.
///
/// ```
/// use hearken_objective::process::class_probabilities;
/// let found = class_probabilities(&[1.0, 1.0]);
/// assert!(found.iter().all(|share| (share - 0.5).abs() < 1e-12));
/// ```
pub fn class_probabilities(logits: &[f64]) -> Vec<f64> {
    let log_total = log_sum_exp(logits);
    logits.iter().map(|z| (z - log_total).exp()).collect()
}

/// −y·log σ(s) − (1−y)·log σ(−s) and its derivative with respect to s: the loss of an outcome reward model, whose score
/// s is the log-odds that a whole solution is right. Cobbe et al. 2021, arXiv:2110.14168.
///
/// ```
/// use hearken_objective::process::binary_cross_entropy;
/// let (loss, grad) = binary_cross_entropy(0.0, 1.0);
/// assert!((loss - 2f64.ln()).abs() < 1e-15);
/// assert_eq!(grad, -0.5);
/// ```
pub fn binary_cross_entropy(score: f64, right: f64) -> (f64, f64) {
    let loss = -right * log_sigmoid(score) - (1.0 - right) * log_sigmoid(-score);
    (loss, sigmoid(score) - right)
}

/// How the scores of a solution's steps become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StepAggregation {
    /// Their product: that all steps are right, if they are independent. Longer solutions score lower.
    #[default]
    Product,
    /// The lowest.
    Min,
    /// That of the last step.
    Last,
    /// Their mean.
    Mean,
    /// The n-th root of their product.
    GeometricMean,
}

impl StepAggregation {
    /// Every way, by the name that commands and configurations use.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("product", Self::Product),
        ("min", Self::Min),
        ("last", Self::Last),
        ("mean", Self::Mean),
        ("geometric_mean", Self::GeometricMean),
    ];

    /// One score of those of the steps, each in [0, 1]; `None` of no step.
    ///
    /// ```
    /// use hearken_objective::process::StepAggregation;
    /// let of = |how: StepAggregation| how.of(&[0.9, 0.8, 0.95]).unwrap();
    /// assert!((of(StepAggregation::Product) - 0.684).abs() < 1e-15);
    /// assert_eq!(of(StepAggregation::Min), 0.8);
    /// assert_eq!(of(StepAggregation::Last), 0.95);
    /// assert!((of(StepAggregation::Mean) - 0.883_333).abs() < 1e-6);
    /// assert!((of(StepAggregation::GeometricMean) - 0.881_087).abs() < 1e-6);
    /// ```
    pub fn of(self, scores: &[f64]) -> Option<f64> {
        let last = *scores.last()?;
        let n = scores.len() as f64;
        Some(match self {
            Self::Product => scores.iter().product(),
            Self::Min => scores.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Last => last,
            Self::Mean => scores.iter().sum::<f64>() / n,
            Self::GeometricMean => (scores.iter().map(|score| score.ln()).sum::<f64>() / n).exp(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_gradient, uniform};

    #[test]
    fn gradients_of_classes_are_those_of_central_differences() {
        for (classes, target) in
            [(2, vec![0.0, 1.0]), (2, vec![0.375, 0.625]), (3, vec![0.2, 0.0, 0.8])]
        {
            let logits: Vec<f64> =
                uniform(classes as u64, classes).iter().map(|x| 3.0 * x).collect();
            let of = |z: &[f64]| class_cross_entropy(z, &target);
            assert_gradient(|z| of(z).loss, &logits, &of(&logits).grad_logits);
        }
    }

    #[test]
    fn the_gradient_of_correctness_is_that_of_central_differences() {
        for right in [0.0, 0.3, 1.0] {
            for score in [-40.0, -1.5, 0.0, 2.0, 40.0] {
                let of = |s: &[f64]| binary_cross_entropy(s[0], right);
                assert_gradient(|s| of(s).0, &[score], &[of(&[score]).1]);
            }
        }
    }

    #[test]
    fn logits_that_overflow_give_finite_losses() {
        let loss = class_cross_entropy(&[2000.0, -2000.0], &[0.0, 1.0]);
        assert_eq!((loss.loss, loss.grad_logits), (4000.0, vec![1.0, -1.0]));
        assert_eq!(class_probabilities(&[-2000.0, 2000.0]), [0.0, 1.0]);
    }

    #[test]
    fn two_classes_are_the_correctness_of_their_difference() {
        let loss = class_cross_entropy(&[0.3, 1.1], &[0.25, 0.75]).loss;
        assert!((loss - binary_cross_entropy(0.8, 0.75).0).abs() < 1e-15);
    }

    #[test]
    fn a_step_lowers_the_loss_in_the_direction_of_its_label() {
        let loss = class_cross_entropy(&[0.2, -0.4, 0.1], &[0.0, 0.0, 1.0]);
        let after: Vec<f64> =
            [0.2, -0.4, 0.1].iter().zip(&loss.grad_logits).map(|(z, g)| z - 0.1 * g).collect();
        assert!(class_cross_entropy(&after, &[0.0, 0.0, 1.0]).loss < loss.loss);
        assert!(0.1 < after[2]);
    }

    #[test]
    fn a_step_of_probability_zero_makes_product_and_root_zero() {
        for how in [StepAggregation::Product, StepAggregation::GeometricMean] {
            assert_eq!(how.of(&[0.0, 1.0]), Some(0.0));
        }
        assert_eq!(StepAggregation::Mean.of(&[]), None);
    }
}
