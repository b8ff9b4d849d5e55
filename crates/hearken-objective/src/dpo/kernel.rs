//! Losses of two scores.

use crate::numerics::{at_most, log_one_minus_exp, log_sigmoid, sigmoid};

/// The loss of a pair as a function of its scores c (chosen) and r (rejected), with z = β(c − r).
///
/// All but the two AOT losses are losses of one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PairLoss {
    /// −(1−ε)·ln σ(z) − ε·ln σ(−z). DPO at ε = 0: Rafailov et al. 2023, arXiv:2305.18290, eq. 7;
    /// conservative DPO otherwise: Mitchell 2023, "A note on DPO with noisy preferences".
    Sigmoid {
        /// ε: probability that a label is wrong.
        label_smoothing: f64,
    },
    /// [−(1−ε)·ln σ(z) + ε·ln σ(−z)] / (1 − 2ε): with labels flipped at rate ε its expectation is the
    /// loss of clean labels. Chowdhury et al. 2024, arXiv:2403.00409.
    Robust {
        /// ε: rate of flipped labels, below ½.
        label_smoothing: f64,
    },
    /// (c − r − 1/(2β))². Azar et al. 2023, arXiv:2310.12036, eq. 17, where β is τ.
    Ipo,
    /// max(0, 1 − z). Zhao et al. 2023, arXiv:2305.10425 (SLiC-HF).
    Hinge,
    /// KL([σ(z), σ(−z)] ‖ [1−ε, ε]). Ji et al. 2024, arXiv:2402.00856, eq. 16.
    Exo {
        /// ε, above 0.
        label_smoothing: f64,
    },
    /// −ln σ(βc) − ½·ln σ(−βc) − ½·ln σ(−βr). Chen et al. 2024, arXiv:2402.05369.
    Nca,
    /// −ln σ(βc − δ) − ln σ(δ − βr). Jung et al. 2024, arXiv:2404.04656. TRL's pairs have δ = 0.
    Bco {
        /// δ: mean implicit reward so far; see [`RewardShift`](super::unpaired::RewardShift).
        shift: f64,
    },
    /// (c − 1/(2β))² + (r + 1/(2β))². Wu et al. 2024, arXiv:2405.00675, eq. 4.7 with hard
    /// probabilities.
    Sppo,
    /// As [`PairLoss::Sigmoid`], of the k-th smallest log π(y_w) − log π(y_l) of the batch minus the
    /// k-th smallest of the reference. Melnyk et al. 2024, arXiv:2406.05882 (AOT).
    Aot {
        /// ε.
        label_smoothing: f64,
    },
    /// As [`PairLoss::Sigmoid`], of the k-th smallest chosen score of the batch minus the k-th smallest
    /// rejected one.
    AotUnpaired {
        /// ε.
        label_smoothing: f64,
    },
    /// 1 − σ(βc) + σ(βr): chosen up, rejected down. D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7.
    ApoZero,
    /// σ(βc) + 1 − σ(z): both down, rejected more. There, eq. 8.
    ApoDown,
    /// (1−m)·(−ln σ(z)) + m·e^{−z}, m = σ(z/τ). Lu et al. 2024, arXiv:2406.08414, eq. 5.
    DiscoPop {
        /// τ: 0.05 in the paper.
        temperature: f64,
    },
    /// −ln σ(β·(odds(c) − odds(r))), odds(x) = x − ln(1 − e^x), of mean log-probabilities. Hong et al.
    /// 2024, arXiv:2403.07691, eq. 7, at β = 1.
    OddsRatio,
}

/// Loss and derivatives with respect to both scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ScoreValue {
    pub(super) loss: f64,
    pub(super) chosen: f64,
    pub(super) rejected: f64,
}

impl ScoreValue {
    /// From a function of the difference.
    fn of_difference((loss, slope): (f64, f64)) -> Self {
        Self { loss, chosen: slope, rejected: -slope }
    }
}

/// Largest mean log-probability whose odds are computed: those of a probability of exactly 1 are
/// infinite.
pub(super) const MEAN_LOGPROB_MAX: f64 = -1e-9;

impl PairLoss {
    /// Whether the loss sorts the batch, so that margin, probability and weight of a single pair have
    /// no meaning and are not used.
    ///
    /// ```
    /// use hearken_objective::dpo::PairLoss;
    /// assert!(PairLoss::Aot { label_smoothing: 0.0 }.sorts_batch());
    /// assert!(!PairLoss::Ipo.sorts_batch());
    /// ```
    pub fn sorts_batch(self) -> bool {
        matches!(self, Self::Aot { .. } | Self::AotUnpaired { .. })
    }

    /// Loss of one pair's scores. For the AOT losses: of one rank.
    pub(super) fn at(self, beta: f64, c: f64, r: f64) -> ScoreValue {
        let (a, b, z) = (beta * c, beta * r, beta * (c - r));
        let of_z = |(loss, slope): (f64, f64)| ScoreValue::of_difference((loss, beta * slope));
        let of_rewards = |loss: f64, da: f64, db: f64| ScoreValue {
            loss,
            chosen: beta * da,
            rejected: beta * db,
        };
        match self {
            Self::Sigmoid { label_smoothing }
            | Self::Aot { label_smoothing }
            | Self::AotUnpaired { label_smoothing } => of_z(logistic(z, label_smoothing)),
            Self::Robust { label_smoothing } => of_z(robust(z, label_smoothing)),
            Self::Ipo => {
                let error = c - r - 0.5 / beta;
                ScoreValue::of_difference((error * error, 2.0 * error))
            }
            Self::Hinge => of_z(if 1.0 <= z { (0.0, 0.0) } else { (1.0 - z, -1.0) }),
            Self::Exo { label_smoothing } => of_z(exo(z, label_smoothing)),
            Self::Nca => of_rewards(
                -log_sigmoid(a) - 0.5 * log_sigmoid(-a) - 0.5 * log_sigmoid(-b),
                0.5 * sigmoid(a) - sigmoid(-a),
                0.5 * sigmoid(b),
            ),
            Self::Bco { shift } => of_rewards(
                -log_sigmoid(a - shift) - log_sigmoid(shift - b),
                -sigmoid(shift - a),
                sigmoid(b - shift),
            ),
            Self::Sppo => {
                let (over, under) = (c - 0.5 / beta, r + 0.5 / beta);
                let loss = over * over + under * under;
                ScoreValue { loss, chosen: 2.0 * over, rejected: 2.0 * under }
            }
            Self::ApoZero => of_rewards(sigmoid(-a) + sigmoid(b), -bump(a), bump(b)),
            Self::ApoDown => of_rewards(sigmoid(a) + sigmoid(-z), bump(a) - bump(z), bump(z)),
            Self::DiscoPop { temperature } => of_z(discopop(z, temperature)),
            Self::OddsRatio => odds_ratio(beta, c, r),
        }
    }
}

/// σ′.
fn bump(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

fn logistic(z: f64, epsilon: f64) -> (f64, f64) {
    (
        -(1.0 - epsilon) * log_sigmoid(z) - epsilon * log_sigmoid(-z),
        epsilon * sigmoid(z) - (1.0 - epsilon) * sigmoid(-z),
    )
}

fn robust(z: f64, epsilon: f64) -> (f64, f64) {
    let scale = 1.0 / (1.0 - 2.0 * epsilon);
    (
        scale * (epsilon * log_sigmoid(-z) - (1.0 - epsilon) * log_sigmoid(z)),
        -scale * ((1.0 - epsilon) * sigmoid(-z) + epsilon * sigmoid(z)),
    )
}

fn exo(z: f64, epsilon: f64) -> (f64, f64) {
    let (log_p, log_q) = ((-epsilon).ln_1p(), epsilon.ln());
    let loss = sigmoid(z) * (log_sigmoid(z) - log_p) + sigmoid(-z) * (log_sigmoid(-z) - log_q);
    // The derivatives of the logarithms cancel; ln σ(z) − ln σ(−z) = z.
    (loss, bump(z) * (z - (log_p - log_q)))
}

fn discopop(z: f64, temperature: f64) -> (f64, f64) {
    let share = sigmoid(z / temperature);
    // m·e^{−z} and its like in log space: e^{−z} alone overflows where m is 0.
    let exponential = (log_sigmoid(z / temperature) - z).exp();
    let loss = -(1.0 - share) * log_sigmoid(z) + exponential;
    let mixing = (1.0 - share) * (exponential + share * log_sigmoid(z)) / temperature;
    (loss, mixing - (1.0 - share) * sigmoid(-z) - exponential)
}

/// Log-odds of a completion, from the mean log-probability x of its tokens: x − ln(1 − e^x).
///
/// Hong et al. 2024, arXiv:2403.07691, eq. 4. A mean above −1e-9 counts as −1e-9: the odds of a probability
/// of exactly 1 are infinite.
///
/// ```
/// use hearken_objective::dpo::log_odds;
/// assert!((log_odds(0.75f64.ln()) - 3f64.ln()).abs() < 1e-12);
/// ```
pub fn log_odds(mean_logprob: f64) -> f64 {
    let x = at_most(mean_logprob, MEAN_LOGPROB_MAX);
    x - log_one_minus_exp(x)
}

fn odds_ratio(beta: f64, c: f64, r: f64) -> ScoreValue {
    let (c, r) = (at_most(c, MEAN_LOGPROB_MAX), at_most(r, MEAN_LOGPROB_MAX));
    let z = beta * (log_odds(c) - log_odds(r));
    let slope = -beta * sigmoid(-z);
    // d log-odds / dx = 1/(1 − e^x).
    ScoreValue {
        loss: -log_sigmoid(z),
        chosen: slope / -c.exp_m1(),
        rejected: -slope / -r.exp_m1(),
    }
}
