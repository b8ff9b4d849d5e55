//! Distillation: how far a student's distribution of the next token is from a teacher's, and which way is
//! nearer.
//!
//! Not here: temperatures, which divide logits before anything of this, and means over tokens.

use crate::numerics::log_sum_exp;

/// The least probability that is told apart from none where the rest of a distribution is what some of its
/// tokens leave over: log-probabilities of f32 logits have no more digits.
pub const REST_MIN: f64 = 1e-6;

/// How the distance between a student p_S and a teacher p_T is measured.
///
/// ```text
/// KL(p_T ‖ p_S) = Σ_v p_T(v) [log p_T(v) − log p_S(v)]                    forward: β = 0
/// KL(p_S ‖ p_T) = Σ_v p_S(v) [log p_S(v) − log p_T(v)]                    reverse: β = 1
/// JSD_β = β KL(p_T ‖ M) + (1 − β) KL(p_S ‖ M)      M = β p_T + (1 − β) p_S
/// ```
///
/// Agarwal et al. 2024, arXiv:2306.13649, eq. 1; both ends are conventions: JSD_β itself goes to 0 there, and
/// what JSD_β/β goes to for β → 0 is the forward KL, JSD_β/(1 − β) for β → 1 the reverse one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divergence {
    /// The student has to cover all that the teacher does.
    ForwardKl,
    /// The student has to do nothing that the teacher does not.
    ReverseKl,
    /// Something of both, and bounded.
    JensenShannon {
        /// β, in (0, 1).
        beta: f64,
    },
}

/// How far two distributions of one token are from each other, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    /// The divergence that is minimized.
    pub loss: f64,
    /// KL(p_T ‖ p_S).
    pub forward_kl: f64,
    /// KL(p_S ‖ p_T).
    pub reverse_kl: f64,
    /// The entropy of p_S.
    pub entropy: f64,
}

impl Divergence {
    /// The divergence of a β.
    ///
    /// # Panics
    /// If β is not in [0, 1].
    pub fn of(beta: f64) -> Self {
        assert!((0.0..=1.0).contains(&beta), "β is {beta}, expected 0 to 1");
        match beta {
            0.0 => Self::ForwardKl,
            1.0 => Self::ReverseKl,
            beta => Self::JensenShannon { beta },
        }
    }

    /// The distance of whole distributions, and the derivative of the loss with respect to the student's logits.
    ///
    /// ```text
    /// ∂loss/∂z(v) = g(v) − p_S(v) Σ_w g(w)        g(v) = ∂loss/∂log p_S(v)
    /// g: −p_T (forward);  p_S (log p_S − log p_T) (reverse);  (1 − β) p_S (log p_S − log M)
    /// ```
    ///
    /// g is up to a multiple of p_S, which the second term takes away again.
    ///
    /// | argument  | length | meaning                              |
    /// |-----------|--------|--------------------------------------|
    /// | `student` | V      | log p_S                              |
    /// | `teacher` | V      | log p_T                              |
    /// | `grad`    | V      | ∂loss/∂z, overwritten                |
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// ```
    /// use hearken_objective::distillation::Divergence;
    /// // A coin against one that falls heads three times of four.
    /// let (student, teacher) = ([0.5_f64.ln(); 2], [0.75_f64.ln(), 0.25_f64.ln()]);
    /// let mut grad = [0.0; 2];
    /// let distance = Divergence::ForwardKl.whole(&student, &teacher, &mut grad);
    /// let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
    /// assert!((distance.loss - expected).abs() < 1e-15);
    /// assert!((grad[0] + 0.25).abs() < 1e-15 && (grad[1] - 0.25).abs() < 1e-15);
    /// ```
    pub fn whole(self, student: &[f64], teacher: &[f64], grad: &mut [f64]) -> Distance {
        let lengths = [teacher.len(), grad.len()];
        assert_eq!(lengths, [student.len(); 2], "teacher and grad: one per token of the student's");
        let distance = self.slopes(student, teacher, grad);
        let total: f64 = grad.iter().sum();
        for (grad, log_s) in grad.iter_mut().zip(student) {
            *grad -= log_s.exp() * total;
        }
        distance
    }

    /// The distance where the teacher is known of some tokens only: all others count as one event, in both. It is
    /// at most that of the whole distributions, and all of it where the others have no probability.
    ///
    /// ```text
    /// p(rest) = 1 − Σ_k p(k), at least REST_MIN
    /// ∂loss/∂log p_S(k) = g(k) − g(rest) p_S(k)/p_S(rest)
    /// ```
    ///
    /// The second term is 0 where p_S(rest) is held at [`REST_MIN`]. Where it is not, TRL's server distillation
    /// has the same events (`loss_add_tail`), held at 1e-7.
    ///
    /// | argument  | length | meaning                              |
    /// |-----------|--------|--------------------------------------|
    /// | `student` | K      | log p_S of distinct tokens           |
    /// | `teacher` | K      | log p_T of the same                  |
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// ```
    /// use hearken_objective::distillation::Divergence;
    /// // The first of three tokens: a half against three quarters.
    /// let (distance, grad) = Divergence::ForwardKl.partial(&[0.5_f64.ln()], &[0.75_f64.ln()]);
    /// let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
    /// assert!((distance.loss - expected).abs() < 1e-12);
    /// assert!((grad[0] - (-0.75 + 0.25)).abs() < 1e-12);
    /// ```
    pub fn partial(self, student: &[f64], teacher: &[f64]) -> (Distance, Vec<f64>) {
        assert_eq!(teacher.len(), student.len(), "teacher: one per token of the student's");
        let known = student.len();
        let events = |logprobs: &[f64]| {
            let rest = -log_sum_exp(logprobs).exp_m1();
            let logs: Vec<f64> =
                logprobs.iter().copied().chain([rest.max(REST_MIN).ln()]).collect();
            (logs, rest)
        };
        let ((student, rest), (teacher, _)) = (events(student), events(teacher));
        let mut grad = vec![0.0; known + 1];
        let distance = self.slopes(&student, &teacher, &mut grad);
        let of_rest = grad.pop().expect("there is the rest");
        if REST_MIN < rest {
            for (grad, log_s) in grad.iter_mut().zip(&student) {
                *grad -= of_rest * log_s.exp() / rest;
            }
        }
        (distance, grad)
    }

    /// The distance of two distributions over the same events, and ∂loss/∂log p_S of each as if the others did not
    /// depend on it, up to a multiple of p_S that is the same for all: what normalization takes away.
    fn slopes(self, student: &[f64], teacher: &[f64], slopes: &mut [f64]) -> Distance {
        let mut distance = Distance::default();
        for ((&log_s, &log_t), slope) in student.iter().zip(teacher).zip(slopes) {
            let (s, t) = (log_s.exp(), log_t.exp());
            let (forward, reverse) = (t * (log_t - log_s), s * (log_s - log_t));
            distance.forward_kl += forward;
            distance.reverse_kl += reverse;
            distance.entropy -= s * log_s;
            match self {
                Self::ForwardKl => {
                    *slope = -t;
                    distance.loss += forward;
                }
                Self::ReverseKl => {
                    *slope = reverse;
                    distance.loss += reverse;
                }
                Self::JensenShannon { beta } => {
                    let mixture = beta * t + (1.0 - beta) * s;
                    // Where neither has any probability that a number can hold, there is nothing to learn.
                    let log_m = if mixture == 0.0 { log_s.max(log_t) } else { mixture.ln() };
                    *slope = (1.0 - beta) * s * (log_s - log_m);
                    distance.loss += beta * t * (log_t - log_m) + *slope;
                }
            }
        }
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::log_softmax;
    use crate::finite_difference::{assert_close, assert_gradient, uniform};

    const DIVERGENCES: [Divergence; 5] = [
        Divergence::ForwardKl,
        Divergence::JensenShannon { beta: 0.1 },
        Divergence::JensenShannon { beta: 0.5 },
        Divergence::JensenShannon { beta: 0.9 },
        Divergence::ReverseKl,
    ];

    fn logprobs(logits: &[f64]) -> Vec<f64> {
        let mut logprobs = vec![0.0; logits.len()];
        log_softmax(logits, &mut logprobs);
        logprobs
    }

    fn logits(seed: u64, n: usize) -> Vec<f64> {
        uniform(seed, n).iter().map(|x| 3.0 * x).collect()
    }

    fn whole(divergence: Divergence, logits: &[f64], teacher: &[f64]) -> (Distance, Vec<f64>) {
        let mut grad = vec![9.0; logits.len()];
        let distance = divergence.whole(&logprobs(logits), teacher, &mut grad);
        (distance, grad)
    }

    #[test]
    fn a_student_that_is_the_teacher_has_nothing_to_learn() {
        let student = logits(1, 7);
        let teacher = logprobs(&student);
        for divergence in DIVERGENCES {
            let (distance, grad) = whole(divergence, &student, &teacher);
            assert_close(&[distance.loss], &[0.0], 1e-15);
            assert_close(&grad, &[0.0; 7], 1e-15);
        }
    }

    #[test]
    fn divergences_are_positive_and_bounded_where_they_should_be() {
        for seed in 0..20 {
            let (student, teacher) = (logits(seed, 9), logprobs(&logits(seed + 50, 9)));
            for divergence in DIVERGENCES {
                let (distance, grad) = whole(divergence, &student, &teacher);
                assert!(0.0 < distance.loss && 0.0 < distance.forward_kl, "{distance:?}");
                assert_close(&[grad.iter().sum()], &[0.0], 1e-14);
                if let Divergence::JensenShannon { beta } = divergence {
                    let entropy = -beta * beta.ln() - (1.0 - beta) * (1.0 - beta).ln();
                    assert!(distance.loss < entropy, "{distance:?}");
                }
            }
        }
    }

    /// Swapping the two swaps the ends.
    #[test]
    fn forward_and_reverse_are_each_other_with_the_two_swapped() {
        let (one, other) = (logits(3, 6), logits(4, 6));
        let there = whole(Divergence::of(0.3), &one, &logprobs(&other)).0;
        let back = whole(Divergence::of(0.7), &other, &logprobs(&one)).0;
        assert_close(&[there.loss, there.forward_kl], &[back.loss, back.reverse_kl], 1e-13);
    }

    #[test]
    fn a_vanishing_beta_is_the_forward_kl_and_one_near_1_the_reverse() {
        let (student, teacher) = (logits(5, 8), logprobs(&logits(6, 8)));
        let small = 1e-6;
        for (divergence, end) in [
            (Divergence::of(small), Divergence::of(0.0)),
            (Divergence::of(1.0 - small), Divergence::of(1.0)),
        ] {
            let (near, near_grad) = whole(divergence, &student, &teacher);
            let (at, at_grad) = whole(end, &student, &teacher);
            assert_close(&[near.loss / small], &[at.loss], 1e-4);
            let scaled: Vec<f64> = near_grad.iter().map(|x| x / small).collect();
            assert_close(&scaled, &at_grad, 1e-4);
        }
        assert_eq!(Divergence::of(0.0), Divergence::ForwardKl);
        assert_eq!(Divergence::of(1.0), Divergence::ReverseKl);
    }

    /// A step against the gradient brings the student nearer, and raises what the teacher finds likelier.
    #[test]
    fn a_step_brings_the_student_nearer() {
        for divergence in DIVERGENCES {
            let (student, teacher) = (vec![0.0; 4], logprobs(&[2.0, 0.0, -1.0, 0.5]));
            let (before, grad) = whole(divergence, &student, &teacher);
            let moved: Vec<f64> = student.iter().zip(&grad).map(|(z, g)| z - 0.1 * g).collect();
            let (after, _) = whole(divergence, &moved, &teacher);
            assert!(after.loss < before.loss && 0.0 < moved[0] && moved[2] < 0.0, "{moved:?}");
        }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        for seed in 0..10 {
            let (student, teacher) = (logits(seed, 8), logprobs(&logits(seed + 20, 8)));
            for divergence in DIVERGENCES {
                let (_, grad) = whole(divergence, &student, &teacher);
                assert_gradient(|z| whole(divergence, z, &teacher).0.loss, &student, &grad);

                let known = &logprobs(&student)[..3];
                let (_, grad) = divergence.partial(known, &teacher[..3]);
                let of = |x: &[f64]| divergence.partial(x, &teacher[..3]).0.loss;
                assert_gradient(of, known, &grad);
            }
        }
    }

    /// Events that are put together tell less, and all tokens tell everything.
    #[test]
    fn what_is_known_of_a_part_is_a_lower_bound_of_the_whole() {
        for seed in 0..10 {
            let (student, teacher) = (logits(seed, 8), logprobs(&logits(seed + 20, 8)));
            let own = logprobs(&student);
            for divergence in DIVERGENCES {
                let (all, grad) = whole(divergence, &student, &teacher);
                let mut before = 0.0;
                for known in 1..8 {
                    let (part, _) = divergence.partial(&own[..known], &teacher[..known]);
                    assert!(before - 1e-12 < part.loss && part.loss < all.loss + 1e-12);
                    before = part.loss;
                }
                let (part, slopes) = divergence.partial(&own, &teacher);
                assert_close(&[part.loss], &[all.loss], 1e-4);
                let total: f64 = slopes.iter().sum();
                let through: Vec<f64> =
                    slopes.iter().zip(&own).map(|(g, log_s)| g - log_s.exp() * total).collect();
                assert_close(&through, &grad, 1e-12);
            }
        }
    }

    #[test]
    fn tokens_that_nobody_would_say_do_no_harm() {
        for divergence in DIVERGENCES {
            let (student, teacher) = (vec![0.0, -900.0, 5.0], logprobs(&[1.0, -2000.0, -3.0]));
            let (distance, grad) = whole(divergence, &student, &teacher);
            assert!(
                distance.loss.is_finite() && grad.iter().all(|g| g.is_finite()),
                "{distance:?}"
            );
        }
    }
}
