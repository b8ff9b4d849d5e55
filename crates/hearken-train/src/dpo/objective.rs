//! `[dpo]`: which loss, against which reference.

use std::path::PathBuf;

use hearken_objective::dpo::nll::{Nll, NllTokens};
use hearken_objective::dpo::unpaired::{UnpairedLoss, UnpairedObjective};
use hearken_objective::dpo::{Length, PairLoss, PairObjective, Reference};

use super::tree::Reading;

/// What is minimized, and how its figures are reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The loss.
    pub kind: Kind,
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
}

/// A loss of pairs or of single completions.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Reads chosen and rejected.
    Paired(PairObjective),
    /// Reads a completion and its label.
    Unpaired(UnpairedObjective),
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

impl Objective {
    /// The objective on pairs, with the figures that TRL reports for it.
    pub(super) fn paired(objective: PairObjective) -> Self {
        let first = objective.terms.first().copied();
        let reports_odds = first.is_some_and(|term| term.loss == PairLoss::OddsRatio);
        let per_token = first.is_some_and(|term| term.length == Length::PerToken);
        Self {
            wpo: false,
            shift_decay: None,
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
            kind: Kind::Paired(objective),
        }
    }

    /// The objective on single completions.
    pub(super) fn unpaired(objective: UnpairedObjective, shift_decay: Option<f64>) -> Self {
        Self {
            wpo: false,
            shift_decay,
            reward_scale: objective.beta,
            reported: Reported::LogRatio,
            reports_odds: false,
            kind: Kind::Unpaired(objective),
        }
    }

    /// Whether log-probabilities of a reference are read.
    pub fn needs_reference(&self) -> bool {
        match &self.kind {
            Kind::Paired(objective) => objective.reference == Reference::Model,
            Kind::Unpaired(_) => true,
        }
    }

    /// Whether the loss of a record depends on the other records of its optimizer step, so that all
    /// log-probabilities come before the first derivative.
    pub fn couples_batch(&self) -> bool {
        let sorts_or_shifts = match &self.kind {
            Kind::Paired(objective) => objective.sorts_batch(),
            Kind::Unpaired(objective) => objective.loss == UnpairedLoss::Kto,
        };
        sorts_or_shifts || self.shift_decay.is_some()
    }

    /// Whether mismatched completions are read.
    pub fn needs_mismatched(&self) -> bool {
        matches!(&self.kind, Kind::Unpaired(objective) if objective.loss == UnpairedLoss::Kto)
    }

    /// The likelihood that joins the loss.
    pub fn nll(&self) -> Option<Nll> {
        match &self.kind {
            Kind::Paired(objective) => objective.nll,
            Kind::Unpaired(_) => None,
        }
    }

    /// What is read of a tree to know its loss.
    pub(super) fn reading(&self) -> Reading {
        let covers_prompt = |nll: Nll| nll.tokens == NllTokens::PromptAndCompletion;
        Reading { prompt: self.nll().is_some_and(covers_prompt), branches: 2 }
    }

    /// What is read of a tree for the derivative of its loss.
    pub(super) fn grad_reading(&self) -> Reading {
        let branches = match self.kind {
            Kind::Paired(_) => 2,
            Kind::Unpaired(_) => 1,
        };
        Reading { branches, ..self.reading() }
    }
}
