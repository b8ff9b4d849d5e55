//! The published objectives on preferences, by the names they have in TRL.
//!
//! | name               | scores        | loss                       | defaults             | paper            |
//! |--------------------|---------------|----------------------------|----------------------|------------------|
//! | `sigmoid`          | h             | −ln σ(z)                   | β 0.1                | arXiv:2305.18290 |
//! | `robust`           | h             | unbiased under flips       | β 0.1, ε 0.1         | arXiv:2403.00409 |
//! | `ipo`              | h/tokens      | (c − r − 1/(2β))²          | β 0.1                | arXiv:2310.12036 |
//! | `hinge`            | h             | max(0, 1 − z)              | β 0.1                | arXiv:2305.10425 |
//! | `exo_pair`         | h             | KL to [1−ε, ε]             | β 0.1, ε 0.001       | arXiv:2402.00856 |
//! | `nca_pair`         | h             | noise-contrastive          | β 0.1 (paper 0.01)   | arXiv:2402.05369 |
//! | `bco_pair`         | h             | two classifiers, δ = 0     | β 0.1 (paper 0.01)   | arXiv:2404.04656 |
//! | `sppo_hard`        | h             | two squares                | β 0.1 (paper 0.001)  | arXiv:2405.00675 |
//! | `aot`              | h             | sorted differences         | β 0.1                | arXiv:2406.05882 |
//! | `aot_unpaired`     | h             | sorted scores              | β 0.1                | arXiv:2406.05882 |
//! | `apo_zero`         | h             | chosen up, rejected down   | β 0.1                | arXiv:2408.06266 |
//! | `apo_down`         | h             | both down                  | β 0.1                | arXiv:2408.06266 |
//! | `discopop`         | h             | logistic and exponential   | β 0.1, τ 0.05        | arXiv:2406.08414 |
//! | `sigmoid_norm`     | h/tokens      | −ln σ(z)                   | β 0.1 (paper 2 to 5) | arXiv:2411.15124 |
//! | `sft`              |               | NLL                        |                      |                  |
//! | `orpo`             | log π/tokens  | 0.1·odds ratio + NLL       | weight 0.1           | arXiv:2403.07691 |
//! | `cpo`              | log π         | −ln σ(z) + NLL             | β 0.1, α 1           | arXiv:2401.08417 |
//! | `simpo`            | log π/tokens  | −ln σ(z − γ)               | β 0.1 (paper 2), γ 0.5 | arXiv:2405.14734 |
//! | `kto`              | h             | prospect theory, unpaired  | β 0.1, λ 1           | arXiv:2402.01306 |
//! | `apo_zero_unpaired`| h             | as `apo_zero`              | β 0.1, λ 1           | arXiv:2408.06266 |
//! | `bco`              | h             | as `bco_pair`, with δ      | β 0.1, λ 1           | arXiv:2404.04656 |
//! | `outcome`          | h             | as `bco`, with δ = 0       | β 0.1, λ 1           | arXiv:2412.01981 |
//!
//! Where TRL and a paper differ, the preset does as TRL: β is 0.1 throughout; `ipo` divides by the number of tokens (the
//! paper's sums are [`Length::Sum`]); the NLL of `orpo` covers the prompt too (the paper's is
//! [`NllTokens::Completion`]). TRL calls the weight of ORPO's odds ratio `beta`; here it is the term's
//! weight.

use super::nll::{Nll, NllTokens};
use super::unpaired::{UnpairedLoss, UnpairedObjective};
use super::{Length, PairLoss, PairObjective, Reference, Term};
use crate::aggregation::Aggregation;

/// An objective on pairs or on single completions.
#[derive(Clone, Debug, PartialEq)]
pub enum Preset {
    /// Needs chosen and rejected.
    Paired(PairObjective),
    /// Needs a completion and a verdict.
    Unpaired(UnpairedObjective),
}

/// All names, in the order of the table above.
pub const NAMES: [&str; 22] = [
    "sigmoid",
    "robust",
    "ipo",
    "hinge",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
    "sft",
    "orpo",
    "cpo",
    "simpo",
    "kto",
    "apo_zero_unpaired",
    "bco",
    "outcome",
];

/// The objective of a name; `None` for a name that is not in [`NAMES`].
///
/// ```
/// use hearken_objective::dpo::preset::{NAMES, named};
/// assert!(NAMES.iter().all(|name| named(name).is_some()));
/// assert!(named("dpo").is_none());
/// ```
pub fn named(name: &str) -> Option<Preset> {
    let summed = |loss, beta| Preset::Paired(PairObjective::new(loss, beta));
    let preset = match name {
        "sigmoid" => summed(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.1),
        "robust" => summed(PairLoss::Robust { label_smoothing: 0.1 }, 0.1),
        "ipo" => Preset::Paired(averaged(PairLoss::Ipo, 0.1)),
        "hinge" => summed(PairLoss::Hinge, 0.1),
        "exo_pair" => summed(PairLoss::Exo { label_smoothing: 1e-3 }, 0.1),
        "nca_pair" => summed(PairLoss::Nca, 0.1),
        "bco_pair" => summed(PairLoss::Bco { shift: 0.0 }, 0.1),
        "sppo_hard" => summed(PairLoss::Sppo, 0.1),
        "aot" => summed(PairLoss::Aot { label_smoothing: 0.0 }, 0.1),
        "aot_unpaired" => summed(PairLoss::AotUnpaired { label_smoothing: 0.0 }, 0.1),
        "apo_zero" => summed(PairLoss::ApoZero, 0.1),
        "apo_down" => summed(PairLoss::ApoDown, 0.1),
        "discopop" => summed(PairLoss::DiscoPop { temperature: 0.05 }, 0.1),
        "sigmoid_norm" => Preset::Paired(averaged(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.1)),
        "sft" => Preset::Paired(sft()),
        "orpo" => Preset::Paired(orpo()),
        "cpo" => Preset::Paired(cpo()),
        "simpo" => Preset::Paired(simpo()),
        "kto" => unpaired(UnpairedLoss::Kto, 0.1),
        "apo_zero_unpaired" => unpaired(UnpairedLoss::ApoZero, 0.1),
        "bco" => unpaired(UnpairedLoss::Bco, 0.1),
        "outcome" => unpaired(UnpairedLoss::Outcome, 0.1),
        _ => return None,
    };
    Some(preset)
}

fn averaged(loss: PairLoss, beta: f64) -> PairObjective {
    let term = Term { loss, length: Length::PerToken, weight: 1.0 };
    PairObjective { terms: vec![term], ..PairObjective::new(loss, beta) }
}

fn nll_over(tokens: NllTokens) -> Nll {
    Nll { weight: 1.0, tokens, aggregation: Aggregation::PerToken }
}

fn sft() -> PairObjective {
    PairObjective {
        terms: Vec::new(),
        reference: Reference::Free,
        nll: Some(nll_over(NllTokens::Completion)),
        ..PairObjective::new(PairLoss::Ipo, 1.0)
    }
}

fn orpo() -> PairObjective {
    let term = Term { loss: PairLoss::OddsRatio, length: Length::PerToken, weight: 0.1 };
    PairObjective {
        terms: vec![term],
        reference: Reference::Free,
        nll: Some(nll_over(NllTokens::PromptAndCompletion)),
        ..PairObjective::new(PairLoss::OddsRatio, 1.0)
    }
}

fn cpo() -> PairObjective {
    PairObjective {
        reference: Reference::Free,
        nll: Some(nll_over(NllTokens::Completion)),
        ..PairObjective::new(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.1)
    }
}

fn simpo() -> PairObjective {
    PairObjective {
        reference: Reference::Free,
        margin: 0.5,
        ..averaged(PairLoss::Sigmoid { label_smoothing: 0.0 }, 0.1)
    }
}

fn unpaired(loss: UnpairedLoss, beta: f64) -> Preset {
    Preset::Unpaired(UnpairedObjective {
        loss,
        beta,
        desirable_weight: 1.0,
        undesirable_weight: 1.0,
    })
}
