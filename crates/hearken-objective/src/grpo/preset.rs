//! The published on-policy algorithms, each a row of one table.
//!
//! | name                        | credit                     | ratio      | surrogate             | aggregation        | KL             | paper            |
//! |-----------------------------|----------------------------|------------|-----------------------|--------------------|----------------|------------------|
//! | `ppo`                       | GAE γ 1 λ .95, whitened    | token      | clipped .2            | per token          | k1 in reward .05 | arXiv:1909.08593 |
//! | `rloo`                      | leave-one-out              | token      | REINFORCE             | per completion, sum| k1 in reward .05 | arXiv:2402.14740 |
//! | `remax`                     | greedy baseline            | token      | REINFORCE             | per completion, sum| k1 in reward .05 | arXiv:2310.10505 |
//! | `reinforce_plus_plus`       | rewards to go, whitened    | token      | clipped .2            | per token          | k1 in reward .001 | arXiv:2501.03262 |
//! | `reinforce_plus_plus_baseline` | group mean, whitened    | token      | clipped .2            | per token          | k2 in loss .001 | arXiv:2501.03262 |
//! | `grpo`                      | group, standardized        | token      | clipped .2            | per completion     | k3 in loss .04 | arXiv:2402.03300 |
//! | `dr_grpo`                   | group mean                 | token      | clipped .2            | constant           | none           | arXiv:2503.20783 |
//! | `bnpo`                      | group, standardized        | token      | clipped .2            | per token          | none           | TRL              |
//! | `dapo`                      | group, standardized        | token      | clipped .2, .28       | per token          | none           | arXiv:2503.14476 |
//! | `gspo`                      | group, standardized        | completion, mean | clipped 3e-4, 4e-4 | per completion  | none           | arXiv:2507.18071 |
//! | `luspo`                     | group, standardized        | completion, mean | clipped 3e-4, 4e-4 | per completion, sum | none       | arXiv:2602.05261 |
//! | `cispo`                     | group, standardized        | token      | CISPO ≤ 5             | per token          | none           | arXiv:2506.13585 |
//! | `sapo`                      | group, standardized        | token      | SAPO 1, 1.05          | per completion     | none           | arXiv:2511.20347 |
//! | `gmpo`                      | group, standardized        | token      | GMPO .4               | per completion     | none           | arXiv:2507.20673 |
//! | `vespo`                     | group, standardized        | completion | VESPO (2,3), (3,2)    | per token          | none           | arXiv:2602.10693 |
//!
//! `dapo` drops groups without spread and shapes overlong scores over the last fifth of the length
//! allowed; all others keep every group and completion. "Standardized" adds 1e-4 to a standard deviation
//! with n − 1, as TRL does. `bnpo` is what TRL calls so: GRPO averaged over the tokens of the batch.
//!
//! `rloo` and `remax` are meant for one update per iteration, since REINFORCE has no ratio. TRL's RLOO
//! clips the ratio of the whole completion instead: [`RatioLevel::CompletionSum`] with
//! [`Surrogate::Clipped`], which on policy has the same gradient.

use super::shaping::{Overlong, OverlongPenalty, SamplerCorrection};
use super::{Algorithm, Credit, GroupBaseline, GroupFilter, KlPlacement, KlWeight, ScoreBaseline};
use crate::advantage::gae::Gae;
use crate::advantage::group::Standardization;
use crate::aggregation::Aggregation;
use crate::kl::KlEstimator;
use crate::moments::Variance;
use crate::surrogate::{Clip, RatioLevel, Surrogate, Vespo};

/// All names, in the order of the table above.
pub const NAMES: [&str; 15] = [
    "ppo",
    "rloo",
    "remax",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "grpo",
    "dr_grpo",
    "bnpo",
    "dapo",
    "gspo",
    "luspo",
    "cispo",
    "sapo",
    "gmpo",
    "vespo",
];

/// The algorithm of a name, for completions of at most `completion_tokens_max` tokens; `None` for a name
/// that is not in [`NAMES`].
///
/// ```
/// use hearken_objective::grpo::preset::{NAMES, named};
/// assert!(NAMES.iter().all(|name| named(name, 64).is_some()));
/// assert!(named("trpo", 64).is_none());
/// ```
pub fn named(name: &str, completion_tokens_max: usize) -> Option<Algorithm> {
    let algorithm = match name {
        "ppo" => Algorithm {
            credit: Credit::Gae {
                gae: Gae { gamma: 1.0, lambda: 0.95 },
                variance: Variance::Sample,
            },
            ..per_token(k1_in_reward(0.05))
        },
        "rloo" => reinforce(GroupBaseline::LeaveOneOut),
        "remax" => reinforce(GroupBaseline::Greedy),
        "reinforce_plus_plus" => {
            Algorithm { credit: to_go(ScoreBaseline::None), ..per_token(k1_in_reward(1e-3)) }
        }
        "reinforce_plus_plus_baseline" => Algorithm {
            credit: to_go(ScoreBaseline::GroupMean),
            ..per_token(in_loss(KlEstimator::K2, 1e-3))
        },
        "grpo" => Algorithm { kl: in_loss(KlEstimator::K3, 0.04), ..BASE },
        "dr_grpo" => Algorithm {
            credit: Credit::Group(GroupBaseline::Mean),
            aggregation: Aggregation::Constant { completion_tokens_max },
            ..BASE
        },
        "bnpo" => per_token(KlPlacement::None),
        "dapo" => dapo(completion_tokens_max),
        "gspo" => gspo(Aggregation::PerCompletion),
        "luspo" => gspo(Aggregation::PerCompletionSum),
        "cispo" => Algorithm {
            surrogate: Surrogate::Cispo { min: 0.0, max: 5.0 },
            ..per_token(KlPlacement::None)
        },
        "sapo" => Algorithm { surrogate: SAPO, ..BASE },
        "gmpo" => Algorithm { surrogate: Surrogate::Gmpo { log_range: 0.4 }, ..BASE },
        "vespo" => Algorithm { surrogate: VESPO, ..per_token(KlPlacement::None) },
        _ => return None,
    };
    Some(algorithm)
}

/// GRPO without KL: what most of the others change one or two choices of.
const BASE: Algorithm = Algorithm {
    credit: Credit::Group(GroupBaseline::Standardized(Standardization {
        eps: 1e-4,
        variance: Variance::Sample,
    })),
    ratio: RatioLevel::Token,
    surrogate: Surrogate::Clipped { clip: Clip { low: 0.2, high: 0.2 } },
    aggregation: Aggregation::PerCompletion,
    kl: KlPlacement::None,
    groups: GroupFilter::Keep,
    overlong: Overlong::Keep,
    correction: SamplerCorrection::None,
};

const SAPO: Surrogate = Surrogate::Sapo { positive_temperature: 1.0, negative_temperature: 1.05 };

const VESPO: Surrogate = Surrogate::Vespo {
    positive: Vespo { power: 2.0, decay: 3.0 },
    negative: Vespo { power: 3.0, decay: 2.0 },
};

fn per_token(kl: KlPlacement) -> Algorithm {
    Algorithm { aggregation: Aggregation::PerToken, kl, ..BASE }
}

fn reinforce(baseline: GroupBaseline) -> Algorithm {
    Algorithm {
        credit: Credit::Group(baseline),
        surrogate: Surrogate::Reinforce,
        aggregation: Aggregation::PerCompletionSum,
        kl: k1_in_reward(0.05),
        ..BASE
    }
}

fn to_go(baseline: ScoreBaseline) -> Credit {
    Credit::RewardsToGo { baseline, variance: Variance::Population }
}

fn dapo(completion_tokens_max: usize) -> Algorithm {
    let zone_tokens = (completion_tokens_max / 5).max(1);
    Algorithm {
        surrogate: Surrogate::Clipped { clip: Clip { low: 0.2, high: 0.28 } },
        groups: GroupFilter::DropWithoutSpread,
        overlong: Overlong::Penalize(OverlongPenalty { completion_tokens_max, zone_tokens }),
        ..per_token(KlPlacement::None)
    }
}

fn gspo(aggregation: Aggregation) -> Algorithm {
    Algorithm {
        ratio: RatioLevel::CompletionMean,
        surrogate: Surrogate::Clipped { clip: Clip { low: 3e-4, high: 4e-4 } },
        aggregation,
        ..BASE
    }
}

fn k1_in_reward(beta: f64) -> KlPlacement {
    KlPlacement::InReward { beta, estimator: KlEstimator::K1 }
}

fn in_loss(estimator: KlEstimator, beta: f64) -> KlPlacement {
    KlPlacement::InLoss { beta, estimator, weight: KlWeight::One }
}
