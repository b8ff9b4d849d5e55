//! Learning from a policy's own completions: which of them count, and what is learned of a win.
//!
//! | method      | what is sampled per prompt        | what is minimized                              |
//! |-------------|-----------------------------------|------------------------------------------------|
//! | online DPO  | n of the policy                   | a loss of [`crate::dpo`] on best and worst      |
//! | XPO         | policy, reference                 | the same + [`exploration`]                      |
//! | Nash-MD     | policy, a mixture with reference  | [`NashMd`]                                      |
//! | SPIN        | policy of the iteration before    | DPO, demonstrations against samples             |
//! | best-of-n   | n of the policy                   | −log π of the [`best`] of each prompt           |
//! | RAFT        | n of the policy                   | −log π of the [`top`] of all                    |
//!
//! Not here: sampling, and random choices, which have no formula.

use crate::kl::ReferenceTerms;
use crate::numerics::sigmoid;

/// Probability that a completion of one score is preferred to one of another: σ(score − other), after
/// Bradley and Terry.
///
/// ```
/// use hearken_objective::online::win_probability;
/// assert_eq!(win_probability(1.5, 1.5), 0.5);
/// ```
pub fn win_probability(score: f64, other: f64) -> f64 {
    sigmoid(score - other)
}

/// The first of the best and the last of the worst: two different indices, also where all scores are
/// equal. `None` with fewer than two scores.
///
/// ```
/// use hearken_objective::online::best_and_worst;
/// assert_eq!(best_and_worst(&[0.5, 2.0, -1.0, 2.0]), Some([1, 2]));
/// assert_eq!(best_and_worst(&[3.0, 3.0]), Some([0, 1]));
/// ```
pub fn best_and_worst(scores: &[f64]) -> Option<[usize; 2]> {
    if scores.len() < 2 {
        return None;
    }
    let worst = (0..scores.len()).min_by(|&i, &j| scores[i].total_cmp(&scores[j]).then(j.cmp(&i)));
    Some([best(scores)?, worst?])
}

/// The first of the best; `None` without scores.
///
/// ```
/// use hearken_objective::online::best;
/// assert_eq!(best(&[0.5, 2.0, 2.0]), Some(1));
/// ```
pub fn best(scores: &[f64]) -> Option<usize> {
    top(scores, 1).first().copied()
}

/// The `count` best, by their index; of equal scores the first.
///
/// Dong et al. 2023, arXiv:2304.06767 (RAFT).
///
/// ```
/// use hearken_objective::online::top;
/// assert_eq!(top(&[0.5, 2.0, -1.0, 2.0, 0.5], 3), [0, 1, 3]);
/// ```
pub fn top(scores: &[f64], count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    indices.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    indices.truncate(count);
    indices.sort_unstable();
    indices
}

/// XPO's term and its derivative with respect to Σ log π_θ of the reference's own sample.
///
/// ```text
/// α·Σ_t log π_θ(y_t)        y ~ π_ref
/// ```
///
/// Xie et al. 2024, arXiv:2405.21046, algorithm 1: what the reference writes becomes less likely, which is
/// optimism about all the rest.
///
/// ```
/// use hearken_objective::online::exploration;
/// assert_eq!(exploration(0.5, -3.0), (-1.5, 0.5));
/// ```
pub fn exploration(alpha: f64, logprob: f64) -> (f64, f64) {
    (alpha * logprob, alpha)
}

/// Which later tokens' log-ratios a token answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlCredit {
    /// Its own alone, as in TRL: the KL of later tokens, which depends on this one, has no part.
    Token,
    /// All of the completion: REINFORCE for the KL of whole completions, as in the paper.
    Completion,
}

/// Policy gradient towards the equilibrium of a preference, by mirror descent.
///
/// ```text
/// loss = −(P(y ≻ y′) − ½ + ε)·Σ_t log π(y_t) + β·Σ_t w_t·log π(y_t)
/// w_t  = log π(y_t) − log π_ref(y_t)                      for KlCredit::Token, held constant
/// w_t  = Σ_s (log π(y_s) − log π_ref(y_s))                for KlCredit::Completion, held constant
/// y ~ π,   y′ ~ π^{1−mix}·π_ref^{mix} / Z
/// ```
///
/// Munos et al. 2023, arXiv:2312.00886, with ε = 0. ½ is a control variate. An ε a little above 0 is the affirmative nudge of
/// Asghari et al. 2026, arXiv:2603.17378: it has no part in the expected gradient, and makes what was drawn likelier. They have opponents
/// of the policy itself (mix = 0) and a reference that is a moving mean of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NashMd {
    /// β: pull towards the reference.
    pub beta: f64,
    /// ε: what a completion is worth beyond its wins.
    pub nudge: f64,
    /// How that pull is credited.
    pub credit: KlCredit,
}

/// The loss of one completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NashLoss {
    /// Both terms, with their signs.
    pub loss: f64,
    /// (P − ½ + ε)·Σ log π.
    pub score: f64,
    /// Σ w·log π.
    pub kl: f64,
    /// d loss / d log π of each token.
    pub grad_logprobs: Vec<f64>,
}

impl NashMd {
    /// The loss of a completion that is preferred to its opponent with `probability`.
    ///
    /// # Panics
    /// If the log-probabilities differ in number.
    ///
    /// ```
    /// use hearken_objective::kl::ReferenceTerms;
    /// use hearken_objective::online::{KlCredit, NashMd};
    /// let terms = ReferenceTerms { logprobs: &[-1.0, -2.0], ref_logprobs: &[-1.5, -2.0] };
    /// let nash = NashMd { beta: 0.5, nudge: 0.0, credit: KlCredit::Token };
    /// let found = nash.loss(terms, 0.75);
    /// assert_eq!((found.score, found.kl, found.loss), (-0.75, -0.5, 0.5));
    /// assert_eq!(found.grad_logprobs, [0.0, -0.25]);
    /// ```
    pub fn loss(self, terms: ReferenceTerms<'_>, probability: f64) -> NashLoss {
        let ReferenceTerms { logprobs, ref_logprobs } = terms;
        assert_eq!(logprobs.len(), ref_logprobs.len(), "ref_logprobs: one per token");
        let advantage = probability - 0.5 + self.nudge;
        let ratio = |t: usize| logprobs[t] - ref_logprobs[t];
        let whole: f64 = (0..logprobs.len()).map(ratio).sum();
        let mut found = NashLoss::default();
        for (t, logprob) in logprobs.iter().enumerate() {
            let weight = match self.credit {
                KlCredit::Token => ratio(t),
                KlCredit::Completion => whole,
            };
            found.score += advantage * logprob;
            found.kl += weight * logprob;
            found.grad_logprobs.push(self.beta * weight - advantage);
        }
        found.loss = self.beta * found.kl - found.score;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient};

    const LOGPROBS: [f64; 3] = [-1.0, -0.2, -2.5];
    const REFERENCE: [f64; 3] = [-1.3, -0.4, -1.5];

    /// The weights are constants of the derivative: at the point itself they are taken from it.
    #[test]
    fn gradients_are_those_of_central_differences() {
        for credit in [KlCredit::Token, KlCredit::Completion] {
            let nash = NashMd { beta: 0.3, nudge: 0.05, credit };
            let terms = ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &REFERENCE };
            let found = nash.loss(terms, 0.8);
            let ratios: Vec<f64> = LOGPROBS.iter().zip(REFERENCE).map(|(p, q)| p - q).collect();
            let whole: f64 = ratios.iter().sum();
            let of = |x: &[f64]| -> f64 {
                let weight = |t: usize| if credit == KlCredit::Token { ratios[t] } else { whole };
                (0..3).map(|t| (0.3 * weight(t) - 0.35) * x[t]).sum()
            };
            assert_close(&[of(&LOGPROBS)], &[found.loss], 1e-14);
            assert_gradient(of, &LOGPROBS, &found.grad_logprobs);
        }
    }

    #[test]
    fn a_win_makes_a_completion_likelier_and_a_loss_less_likely() {
        let nash = NashMd { beta: 0.1, nudge: 0.0, credit: KlCredit::Token };
        let terms = ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &LOGPROBS };
        let slopes = |probability| nash.loss(terms, probability).grad_logprobs;
        assert!(slopes(0.9).iter().all(|slope| *slope < 0.0));
        assert!(slopes(0.1).iter().all(|slope| *slope > 0.0));
        assert!(slopes(0.5).iter().all(|slope| *slope == 0.0));
    }

    #[test]
    fn a_completion_of_one_token_has_one_way_to_credit_its_kl() {
        let terms = ReferenceTerms { logprobs: &[-1.0], ref_logprobs: &[-3.0] };
        let by = |credit| NashMd { beta: 0.5, nudge: 0.0, credit }.loss(terms, 0.6);
        assert_eq!(by(KlCredit::Token), by(KlCredit::Completion));
    }

    fn softmax(logits: [f64; 3]) -> [f64; 3] {
        let weights = logits.map(f64::exp);
        weights.map(|weight| weight / weights.iter().sum::<f64>())
    }

    /// Rock, paper, scissors with preferences 1, ½ and 0: the expected gradient of the loss, played
    /// against the mixture, leads from anywhere to the equilibrium. The reference is uniform, and so
    /// is the equilibrium under any β.
    #[test]
    fn nash_md_finds_the_equilibrium_of_a_cycle() {
        let wins = [[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]];
        let (nash, mix) = (NashMd { beta: 0.1, nudge: 0.0, credit: KlCredit::Completion }, 0.5);
        let mut logits = [1.0, 0.0, -0.5];
        for _ in 0..4000 {
            let policy = softmax(logits);
            let opponent = softmax(policy.map(|p: f64| (1.0 - mix) * p.ln()));
            let mut gradient = [0.0; 3];
            for (y, p) in policy.iter().enumerate() {
                let probability: f64 = (0..3).map(|other| opponent[other] * wins[y][other]).sum();
                let logprobs = [p.ln()];
                let terms =
                    ReferenceTerms { logprobs: &logprobs, ref_logprobs: &[(1.0_f64 / 3.0).ln()] };
                let slope = nash.loss(terms, probability).grad_logprobs[0];
                for (arm, sum) in gradient.iter_mut().enumerate() {
                    *sum += p * slope * (f64::from(u8::from(arm == y)) - policy[arm]);
                }
            }
            for (logit, slope) in logits.iter_mut().zip(gradient) {
                *logit -= 0.5 * slope;
            }
        }
        assert_close(&softmax(logits), &[1.0 / 3.0; 3], 1e-9);
    }

    /// With an opponent of its own, half of the completions win, and half of the wins are undone by as many losses: what is left is ε.
    #[test]
    fn a_nudge_is_a_pull_towards_what_was_sampled() {
        let terms = ReferenceTerms { logprobs: &LOGPROBS, ref_logprobs: &LOGPROBS };
        for credit in [KlCredit::Token, KlCredit::Completion] {
            let slopes = |nudge: f64, probability: f64| {
                NashMd { beta: 0.3, nudge, credit }.loss(terms, probability).grad_logprobs
            };
            assert_close(&slopes(0.02, 0.5), &[-0.02; 3], 1e-15);
            assert_close(&slopes(0.02, 0.7), &[-0.22; 3], 1e-15);
            let (won, lost) = (slopes(0.02, 0.9), slopes(0.02, 0.1));
            assert_close(&[won[0] + lost[0]], &[-0.04], 1e-15);
            // A nudge of 0 is Nash-MD, to the last bit.
            assert_eq!(slopes(0.0, 0.9), [-(0.9 - 0.5); 3]);
        }
    }

    #[test]
    fn exploration_lowers_what_the_reference_writes_and_is_nothing_at_zero() {
        assert_eq!(exploration(0.0, -7.0), (0.0, 0.0));
        assert_gradient(|x| exploration(0.3, x[0]).0, &[-2.0], &[exploration(0.3, -2.0).1]);
        assert!(0.0 < exploration(1e-5, -2.0).1);
    }

    #[test]
    fn selections_take_what_scores_highest_and_of_equals_the_first() {
        assert_eq!(top(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert_eq!(top(&[1.0], 5), [0]);
        assert_eq!((best(&[]), best_and_worst(&[1.0])), (None, None));
        assert_eq!(best_and_worst(&[0.0, 0.0, 0.0]), Some([0, 2]));
        assert_close(&[win_probability(2.0, 0.0) + win_probability(0.0, 2.0)], &[1.0], 1e-15);
    }
}
