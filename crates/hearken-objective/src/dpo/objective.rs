//! A loss of a batch of pairs, composed of choices.

use super::aot::{self, SortedScores};
use super::kernel::{PairLoss, ScoreValue};
use super::{CompletionSums, Divergence, Nll, PairTerms, PairValue, Reference};

/// Whether a completion's score is divided by its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The sum over tokens.
    Sum,
    /// The mean over tokens; an empty completion counts as one token.
    PerToken,
}

/// One of the losses that add up to an objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// What is done with the scores.
    pub loss: PairLoss,
    /// What a score is.
    pub length: Length,
    /// Multiplies the loss.
    pub weight: f64,
}

/// An objective on preferences. Its loss over an optimizer step is the mean of [`PairObjective::losses`]
/// over the step's pairs, plus the NLL.
#[derive(Clone, Debug, PartialEq)]
pub struct PairObjective {
    /// Losses, added with their weights; empty for NLL alone.
    pub terms: Vec<Term>,
    /// β: scale of the implicit reward; τ of IPO.
    pub beta: f64,
    /// What a log-probability is compared with.
    pub reference: Reference,
    /// Map from log-ratios to scores; the paired AOT loss reads plain log-ratios.
    pub divergence: Divergence,
    /// γ: required of β times every difference of scores, added to each pair's own margin.
    pub margin: f64,
    /// α of LD-DPO: weight of tokens beyond the shorter completion, 1 for all others. The sums passed to
    /// [`PairObjective::losses`] already have it; see [`super::weights::length_desensitized`].
    pub tail_weight: f64,
    /// Likelihood of the chosen completions.
    pub nll: Option<Nll>,
}

impl PairObjective {
    /// One loss of sums of log-ratios against a reference model; nothing else.
    pub fn new(loss: PairLoss, beta: f64) -> Self {
        Self {
            terms: vec![Term { loss, length: Length::Sum, weight: 1.0 }],
            beta,
            reference: Reference::Model,
            divergence: Divergence::ReverseKl,
            margin: 0.0,
            tail_weight: 1.0,
            nll: None,
        }
    }

    /// Loss and derivatives of every pair, NLL excluded.
    ///
    /// ```text
    /// s_y  = score(h_y) / length                     h_y = Σ log π_θ − Σ log π_ref
    /// c, r = s_w − m/(2β), s_l + m/(2β)              m = the objective's margin + the pair's
    /// loss = weight·Σ_k weight_k·[p·ℓ_k(c, r) + (1−p)·ℓ_k(r, c)]
    /// ```
    ///
    /// For losses of the difference the margin is that of Amini et al. 2024, arXiv:2402.10571; the
    /// others share it between both completions. `p` is the label's probability. Losses that sort the
    /// batch need the whole optimizer step at once and use neither margin, probability nor weight.
    ///
    /// | argument | length | meaning                                                    |
    /// |----------|--------|------------------------------------------------------------|
    /// | `pairs`  | B      | all pairs of the step if a loss sorts it, else any part    |
    ///
    /// # Panics
    /// If a probability lies outside of \[0, 1\].
    ///
    /// ```
    /// use hearken_objective::dpo::{CompletionSums, PairLoss, PairObjective, PairTerms};
    /// let dpo = PairObjective::new(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.1);
    /// let pair = PairTerms::new(
    ///     CompletionSums { logprob: -10.0, ref_logprob: -11.0, tokens: 10 },
    ///     CompletionSums { logprob: -12.0, ref_logprob: -11.0, tokens: 10 },
    /// );
    /// assert!((dpo.losses(&[pair])[0].loss - 0.598139).abs() < 1e-6);
    /// ```
    pub fn losses(&self, pairs: &[PairTerms]) -> Vec<PairValue> {
        let mut totals = vec![PairValue::default(); pairs.len()];
        for term in &self.terms {
            for (total, value) in totals.iter_mut().zip(self.term_losses(*term, pairs)) {
                total.loss += term.weight * value.loss;
                total.grad_chosen += term.weight * value.grad_chosen;
                total.grad_rejected += term.weight * value.grad_rejected;
            }
        }
        totals
    }

    /// The same objective with another ε in each loss that has one; `None` if none has.
    pub fn with_label_smoothing(mut self, epsilon: f64) -> Option<Self> {
        let mut changed = 0;
        for term in &mut self.terms {
            match &mut term.loss {
                PairLoss::Sigmoid { label_smoothing }
                | PairLoss::Robust { label_smoothing }
                | PairLoss::Exo { label_smoothing }
                | PairLoss::Aot { label_smoothing }
                | PairLoss::AotUnpaired { label_smoothing } => {
                    *label_smoothing = epsilon;
                    changed += 1;
                }
                _ => {}
            }
        }
        (0 < changed).then_some(self)
    }

    /// The same objective with another δ in each BCO loss.
    #[must_use]
    pub fn with_reward_shift(mut self, delta: f64) -> Self {
        for term in &mut self.terms {
            if let PairLoss::Bco { shift } = &mut term.loss {
                *shift = delta;
            }
        }
        self
    }

    /// Whether some loss needs all pairs of the optimizer step at once.
    pub fn sorts_batch(&self) -> bool {
        self.terms.iter().any(|term| term.loss.sorts_batch())
    }

    fn term_losses(&self, term: Term, pairs: &[PairTerms]) -> Vec<PairValue> {
        match term.loss {
            PairLoss::Aot { .. } => aot::paired(term.loss, self.beta, pairs, self.reference),
            PairLoss::AotUnpaired { .. } => {
                let scored: Vec<_> = pairs.iter().map(|p| self.scores(term.length, p)).collect();
                let scores = SortedScores {
                    chosen: scored.iter().map(|s| s[0].0).collect(),
                    rejected: scored.iter().map(|s| s[1].0).collect(),
                };
                let values = aot::unpaired(term.loss, self.beta, &scores);
                values.into_iter().zip(scored).map(|(v, s)| through(v, s)).collect()
            }
            _ => pairs.iter().map(|pair| self.pair_loss(term, pair)).collect(),
        }
    }

    fn pair_loss(&self, term: Term, pair: &PairTerms) -> PairValue {
        let scores = self.scores(term.length, pair);
        let shift = 0.5 * (self.margin + pair.margin) / self.beta;
        let (c, r) = (scores[0].0 - shift, scores[1].0 + shift);
        let (p, weight) = (pair.probability, pair.weight);
        assert!((0.0..=1.0).contains(&p), "probability of a pair's label is {p}");
        // Without doubt the swapped loss is not computed: 0 times infinity is not 0.
        let mut sum = ScoreValue::default();
        if 0.0 < p {
            let v = term.loss.at(self.beta, c, r);
            sum = ScoreValue { loss: p * v.loss, chosen: p * v.chosen, rejected: p * v.rejected };
        }
        if p < 1.0 {
            let v = term.loss.at(self.beta, r, c);
            sum.loss += (1.0 - p) * v.loss;
            sum.chosen += (1.0 - p) * v.rejected;
            sum.rejected += (1.0 - p) * v.chosen;
        }
        let value = through(sum, scores);
        PairValue {
            loss: weight * value.loss,
            grad_chosen: weight * value.grad_chosen,
            grad_rejected: weight * value.grad_rejected,
        }
    }

    /// Scores of chosen and rejected, each with its derivative with respect to Σ log π_θ.
    fn scores(&self, length: Length, pair: &PairTerms) -> [(f64, f64); 2] {
        [pair.chosen, pair.rejected].map(|completion| self.score(length, completion))
    }

    fn score(&self, length: Length, completion: CompletionSums) -> (f64, f64) {
        let (score, slope) = self.divergence.score(match self.reference {
            Reference::Model => completion.log_ratio(),
            Reference::Free => completion.logprob,
        });
        let divisor = match length {
            Length::Sum => 1.0,
            Length::PerToken => completion.tokens.max(1) as f64,
        };
        (score / divisor, slope / divisor)
    }
}

/// Chain rule from scores to sums of log-probabilities.
fn through(value: ScoreValue, scores: [(f64, f64); 2]) -> PairValue {
    PairValue {
        loss: value.loss,
        grad_chosen: value.chosen * scores[0].1,
        grad_rejected: value.rejected * scores[1].1,
    }
}
