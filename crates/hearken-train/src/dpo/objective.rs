//! `[dpo]`: which loss, against which reference.

use std::path::PathBuf;

use hearken_objective::aggregation::Aggregation;
use hearken_objective::dpo::nll::{Nll, NllTokens};
use hearken_objective::dpo::unpaired::{UnpairedLoss, UnpairedObjective};
use hearken_objective::dpo::{Length, PairLoss, PairObjective, Reference};
use hearken_objective::online::NashMd;

use super::tree::TreeReading;

/// What is minimized, and how its figures are reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The loss.
    pub kind: ObjectiveKind,
    /// Whether pairs are weighted by how likely the policy is to write them.
    pub wpo: bool,
    /// Share of the old δ that stays where BCO's δ runs; `None` where δ is 0.
    pub shift_decay: Option<f64>,
    /// What a reward is multiplied by in the metrics.
    pub reward_scale: f64,
    /// What a reward is in the metrics.
    pub reported: Reported,
    /// Whether the metrics have log-odds.
    pub reports_odds: bool,
    /// XPO's α: weight of log π of what the reference wrote; 0 elsewhere.
    pub exploration: f64,
    /// Logits are divided by it: where completions are sampled, the temperature of that.
    pub temperature: f64,
}

/// A loss of pairs, of single completions, or of what the policy wrote itself.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectiveKind {
    /// Reads chosen and rejected.
    Paired(PairObjective),
    /// Reads a completion and its label.
    Unpaired(UnpairedObjective),
    /// Reads a completion of the policy and how often it wins.
    Nash(NashMd),
    /// Reads completions that were kept, and makes them likelier.
    Likelihood(Nll),
}

/// What the reward of a completion is in the metrics, before its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Σ log π − Σ log π_ref.
    LogRatio,
    /// Σ log π.
    Sum,
    /// The mean of log π over tokens; log-probabilities are reported alike.
    PerToken,
}

/// What the policy is compared with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReferenceConfig {
    /// A model directory; `None` is the model that training starts from.
    pub path: Option<PathBuf>,
    /// The folder of stored log-probabilities; `None` is one in the run directory.
    pub cache: Option<PathBuf>,
    /// Whether, when and how far it follows the policy.
    pub sync: Option<ReferenceSync>,
}

/// A reference that follows the policy: Gorbatovski et al. 2024, arXiv:2404.09656 (TR-DPO).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferenceSync {
    /// Optimizer steps from one update to the next.
    pub every: u64,
    /// The policy's share in the new reference.
    pub mix: f64,
}

/// Supervised fine-tuning on completions.
const IMITATION: Nll =
    Nll { weight: 1.0, tokens: NllTokens::Completion, aggregation: Aggregation::PerToken };

impl Objective {
    /// The objective on pairs, with the figures that TRL reports for it.
    pub(super) fn paired(objective: PairObjective) -> Self {
        let first = objective.terms.first().copied();
        let reports_odds = first.is_some_and(|term| term.loss == PairLoss::OddsRatio);
        let per_token = first.is_some_and(|term| term.length == Length::PerToken);
        Self {
            reward_scale: match first {
                Some(term) if reports_odds => term.weight,
                _ => objective.beta,
            },
            reported: match objective.reference {
                Reference::Model => Reported::LogRatio,
                Reference::Free if per_token => Reported::PerToken,
                Reference::Free => Reported::Sum,
            },
            reports_odds,
            kind: ObjectiveKind::Paired(objective),
            ..Self::plain(ObjectiveKind::Likelihood(IMITATION))
        }
    }

    /// The objective on single completions.
    pub(super) fn unpaired(objective: UnpairedObjective, shift_decay: Option<f64>) -> Self {
        let reward_scale = objective.beta;
        Self { shift_decay, reward_scale, ..Self::plain(ObjectiveKind::Unpaired(objective)) }
    }

    /// Nash-MD's objective.
    pub(super) fn nash(objective: NashMd) -> Self {
        Self { reward_scale: objective.beta, ..Self::plain(ObjectiveKind::Nash(objective)) }
    }

    /// The likelihood of completions that were kept, mean over their tokens.
    pub(super) fn imitation() -> Self {
        Self { reported: Reported::Sum, ..Self::plain(ObjectiveKind::Likelihood(IMITATION)) }
    }

    fn plain(kind: ObjectiveKind) -> Self {
        Self {
            kind,
            wpo: false,
            shift_decay: None,
            reward_scale: 1.0,
            reported: Reported::LogRatio,
            reports_odds: false,
            exploration: 0.0,
            temperature: 1.0,
        }
    }

    /// The scale of the implicit reward; 0 where there is none.
    pub(super) fn beta(&self) -> f64 {
        match &self.kind {
            ObjectiveKind::Paired(objective) => objective.beta,
            ObjectiveKind::Unpaired(objective) => objective.beta,
            ObjectiveKind::Nash(objective) => objective.beta,
            ObjectiveKind::Likelihood(_) => 0.0,
        }
    }

    /// Whether log-probabilities of a reference are read.
    pub fn needs_reference(&self) -> bool {
        match &self.kind {
            ObjectiveKind::Paired(objective) => objective.reference == Reference::Model,
            ObjectiveKind::Unpaired(_) | ObjectiveKind::Nash(_) => true,
            ObjectiveKind::Likelihood(_) => false,
        }
    }

    /// Whether the loss of a record depends on the other records of its optimizer step, so that all
    /// log-probabilities come before the first derivative.
    pub fn couples_batch(&self) -> bool {
        let sorts_or_shifts = match &self.kind {
            ObjectiveKind::Paired(objective) => objective.sorts_batch(),
            ObjectiveKind::Unpaired(objective) => objective.loss == UnpairedLoss::Kto,
            ObjectiveKind::Nash(_) | ObjectiveKind::Likelihood(_) => false,
        };
        sorts_or_shifts || self.shift_decay.is_some()
    }

    /// Whether mismatched completions are read.
    pub fn needs_mismatched(&self) -> bool {
        matches!(&self.kind, ObjectiveKind::Unpaired(objective) if objective.loss == UnpairedLoss::Kto)
    }

    /// The likelihood that joins the loss.
    pub fn nll(&self) -> Option<Nll> {
        match &self.kind {
            ObjectiveKind::Paired(objective) => objective.nll,
            ObjectiveKind::Likelihood(nll) => Some(*nll),
            ObjectiveKind::Unpaired(_) | ObjectiveKind::Nash(_) => None,
        }
    }

    /// What is read of a tree to know its loss.
    pub(super) fn reading(&self) -> TreeReading {
        let covers_prompt = |nll: Nll| nll.tokens == NllTokens::PromptAndCompletion;
        let prompt = self.nll().is_some_and(covers_prompt);
        TreeReading { prompt, branches: 2, temperature: self.temperature }
    }

    /// What is read of a tree for the derivative of its loss.
    pub(super) fn grad_reading(&self) -> TreeReading {
        let branches = match self.kind {
            ObjectiveKind::Paired(_) => 2,
            ObjectiveKind::Unpaired(_) | ObjectiveKind::Nash(_) | ObjectiveKind::Likelihood(_) => 1,
        };
        TreeReading { branches, ..self.reading() }
    }
}
