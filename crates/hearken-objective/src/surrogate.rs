//! Policy losses of one completion.
//!
//! A [`Surrogate`] says what is done with the ratio ρ = π_θ / π_old and the advantage; a [`RatioLevel`]
//! says what one ratio covers: a token, or the completion. Losses are sums over the completion's
//! tokens; what a token weighs is [`crate::aggregation`]'s business.
//!
//! What is not here: KL penalties ([`crate::kl`]), the estimation of advantages
//! ([`crate::advantage`]), the published combinations ([`crate::grpo`]).

mod geometric;
mod kernel;
pub mod metrics;

use kernel::Point;

/// What a policy loss reads, one entry per token of one completion.
#[derive(Clone, Copy, Debug)]
pub struct PolicyTerms<'a> {
    /// log π_θ(a_t | s_t), the policy being updated.
    pub logprobs: &'a [f64],
    /// log π_old(a_t | s_t), the policy before this iteration's first update.
    pub old_logprobs: &'a [f64],
    /// Â_t.
    pub advantages: &'a [f64],
}

impl PolicyTerms<'_> {
    fn assert_lengths(&self) -> usize {
        let n = self.logprobs.len();
        assert_eq!(self.old_logprobs.len(), n, "old_logprobs: one per token");
        assert_eq!(self.advantages.len(), n, "advantages: one per token");
        n
    }

    /// log π_θ − log π_old, token by token.
    fn log_ratios(&self) -> impl Iterator<Item = f64> {
        self.logprobs.iter().zip(self.old_logprobs).map(|(new, old)| new - old)
    }
}

/// A completion's loss: the sum over its tokens, and the derivative of that sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// Σ_t of the tokens' losses.
    pub sum: f64,
    /// d sum / d log π_θ(a_t | s_t).
    pub grad_logprobs: Vec<f64>,
    /// Tokens whose ratio left the range below, where that stops the gradient.
    pub clipped_low: usize,
    /// Tokens whose ratio left the range above, likewise.
    pub clipped_high: usize,
}

/// Clip range: ratios between 1 − `low` and 1 + `high` are inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// ε_low.
    pub low: f64,
    /// ε_high.
    pub high: f64,
}

impl Clip {
    /// The same ε on both sides.
    pub fn symmetric(epsilon: f64) -> Self {
        Self { low: epsilon, high: epsilon }
    }
}

/// Exponents of VESPO's weight φ(w; k, λ) = w^k·e^{λ(1 − w)}.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vespo {
    /// k.
    pub power: f64,
    /// λ.
    pub decay: f64,
}

/// What one ratio covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatioLevel {
    /// ρ_t = π_θ(a_t) / π_old(a_t).
    Token,
    /// ρ = exp(mean_t log ρ_t), the same for every token. Zheng et al. 2025, arXiv:2507.18071 (GSPO).
    CompletionMean,
    /// ρ = exp(Σ_t log ρ_t): the completion is one action, whose loss is shared equally by its
    /// tokens.
    CompletionSum,
}

/// What is done with ratio and advantage. Every formula is the loss of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// −Â·log π_θ. Williams 1992. The ratio level has no effect.
    Reinforce,
    /// max(−Â·ρ, −Â·clip(ρ, 1−low, 1+high)). Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    Clipped {
        /// The clip range.
        clip: Clip,
    },
    /// As [`Surrogate::Clipped`], but at most −Â·`bound` where Â < 0. Ye et al. 2020,
    /// arXiv:1912.09729.
    DualClipped {
        /// The clip range.
        clip: Clip,
        /// c, above 1; 3 in the paper.
        bound: f64,
    },
    /// −sg(clip(ρ, min, max))·Â·log π_θ: every token keeps a gradient. `MiniMax` 2025,
    /// arXiv:2506.13585 (CISPO). TRL clips above only (min 0, max 5); verl to [1 − ε, 1 + ε].
    Cispo {
        /// Least weight.
        min: f64,
        /// Largest weight, absolute.
        max: f64,
    },
    /// −(4/τ)·σ(τ(ρ − 1))·Â, with τ chosen by the sign of Â. Gao et al. 2025, arXiv:2511.20347 (SAPO).
    Sapo {
        /// τ where Â > 0.
        positive_temperature: f64,
        /// τ elsewhere.
        negative_temperature: f64,
    },
    /// −Â·exp(mean_t log ρ_t), where a token whose log ρ_t leaves ±`log_range` in the direction the
    /// advantage pushes enters with the bound and no gradient. Zhao et al. 2025, arXiv:2507.20673
    /// (GMPO). One advantage per completion: the mean of `advantages`. The ratio level has no effect.
    Gmpo {
        /// Bound on |log ρ_t|; 0.4 in the paper.
        log_range: f64,
    },
    /// −sg(φ(w))·Â·log π_θ with w = exp(Σ_t log ρ_t) of the whole completion, whatever the ratio
    /// level. arXiv:2602.10693 (VESPO).
    Vespo {
        /// φ where Â ≥ 0; (2, 3) in TRL.
        positive: Vespo,
        /// φ where Â < 0; (3, 2) in TRL.
        negative: Vespo,
    },
}

impl Surrogate {
    /// The loss of one completion.
    ///
    /// ```text
    /// sum = Σ_t ℓ(ρ_t, Â_t)        ρ_t by `level`
    /// ```
    ///
    /// With [`RatioLevel::CompletionSum`] the tokens share one loss: sum = mean_t ℓ(ρ, Â_t).
    ///
    /// | field          | length | meaning           |
    /// |----------------|--------|-------------------|
    /// | `logprobs`     | T      | log π_θ(a_t\|s_t) |
    /// | `old_logprobs` | T      | log π_old(a_t\|s_t) |
    /// | `advantages`   | T      | Â_t               |
    ///
    /// # Panics
    /// If the lengths differ.
    ///
    /// ```
    /// use hearken_objective::surrogate::{Clip, PolicyTerms, RatioLevel, Surrogate};
    /// let surrogate = Surrogate::Clipped { clip: Clip::symmetric(0.2) };
    /// let terms = PolicyTerms {
    ///     logprobs: &[1.5f64.ln() - 2.0],
    ///     old_logprobs: &[-2.0],
    ///     advantages: &[1.0],
    /// };
    /// let loss = surrogate.loss(RatioLevel::Token, terms);
    /// assert_eq!((loss.sum, loss.clipped_high), (-1.2, 1));
    /// ```
    pub fn loss(self, level: RatioLevel, terms: PolicyTerms<'_>) -> TokenLoss {
        let n = terms.assert_lengths();
        match self {
            Self::Gmpo { log_range } => geometric::loss(log_range, terms),
            Self::Vespo { .. } => {
                let log_weight: f64 = terms.log_ratios().sum();
                let mut loss = TokenLoss::with_capacity(n);
                for t in 0..n {
                    let point = Point { log_ratio: log_weight, ..terms.point(t) };
                    loss.push(self.at(point), 1.0);
                }
                loss
            }
            Self::Reinforce => terms.token_level(self),
            _ => match level {
                RatioLevel::Token => terms.token_level(self),
                RatioLevel::CompletionMean => terms.completion_level(self, 1.0 / n as f64, 1.0),
                RatioLevel::CompletionSum => terms.completion_level(self, 1.0, 1.0 / n as f64),
            },
        }
    }
}

impl PolicyTerms<'_> {
    fn point(&self, t: usize) -> Point {
        Point {
            log_ratio: self.logprobs[t] - self.old_logprobs[t],
            logprob: self.logprobs[t],
            advantage: self.advantages[t],
        }
    }

    fn token_level(self, surrogate: Surrogate) -> TokenLoss {
        let mut loss = TokenLoss::with_capacity(self.logprobs.len());
        for t in 0..self.logprobs.len() {
            loss.push(surrogate.at(self.point(t)), 1.0);
        }
        loss
    }

    /// One log-ratio, `slope`·Σ_t log ρ_t, for all tokens; each token's loss counts `share`.
    fn completion_level(self, surrogate: Surrogate, slope: f64, share: f64) -> TokenLoss {
        let n = self.logprobs.len();
        let log_ratio = slope * self.log_ratios().sum::<f64>();
        let mut loss = TokenLoss::with_capacity(n);
        let mut grad_log_ratio = 0.0;
        for t in 0..n {
            let value = surrogate.at(Point { log_ratio, ..self.point(t) });
            grad_log_ratio += share * value.grad_log_ratio;
            loss.push(kernel::Value { grad_log_ratio: 0.0, ..value }, share);
        }
        for grad in &mut loss.grad_logprobs {
            *grad += slope * grad_log_ratio;
        }
        loss
    }
}

impl TokenLoss {
    fn with_capacity(n: usize) -> Self {
        Self { grad_logprobs: Vec::with_capacity(n), ..Self::default() }
    }

    fn push(&mut self, value: kernel::Value, share: f64) {
        self.sum += share * value.loss;
        self.grad_logprobs.push(share * (value.grad_log_ratio + value.grad_logprob));
        self.clipped_low += usize::from(value.side == kernel::FlatSide::Low);
        self.clipped_high += usize::from(value.side == kernel::FlatSide::High);
    }
}

#[cfg(test)]
mod tests;
