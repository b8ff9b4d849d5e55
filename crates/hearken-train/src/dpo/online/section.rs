//! `[online]`: what is sampled during training, and what is learned of it.

use hearken_config::{Complaint, Fraction, NonNegative, Share};
use hearken_objective::online::{KlCredit, NashMd};
use hearken_objective::reward::MissingEnd;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::dpo::config::DpoConfig;
use crate::dpo::objective::{Objective, ObjectiveKind};
use crate::rollout::settings::LearningSettings;

/// `[online]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlineSettings {
    /// How an iteration is learned from, and what its scores are.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub learning: LearningSettings,
    /// What scores say of a comparison; without it what the method's authors let them say.
    pub labels: Option<Labels>,
    /// Which completions are kept in "best_of_n" and "raft".
    pub selection: Selection,
    /// The share of an iteration's completions that "raft" keeps.
    pub raft_share: Share,
    /// The weight of log π of what the reference wrote in "xpo".
    pub xpo_alpha: NonNegative,
    /// The reference's share in the opponent of "nash_md".
    pub nash_mixture: Fraction,
    /// What a token of "nash_md" answers for.
    pub nash_kl: KlCreditName,
    /// What a completion of "nash_md" is worth beyond its wins.
    pub nash_nudge: NonNegative,
}

/// What is sampled for a prompt, and what is learned of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SelectionMethod {
    /// The best and the worst of several completions are a pair: Guo et al. 2024, arXiv:2402.04792.
    Dpo,
    /// Each completion of the policy meets one of somebody else.
    Against(Opponent),
    /// A demonstration and a completion of the policy before the iteration are a pair: Chen et al.
    /// 2024, arXiv:2401.01335.
    Spin,
    /// One completion per prompt is imitated.
    BestOfN {
        /// Which.
        selection: Selection,
    },
    /// A share of the iteration's completions is imitated: Dong et al. 2023, arXiv:2304.06767.
    Raft {
        /// The share, above 0.
        share: f64,
        /// Which.
        selection: Selection,
    },
}

/// Whose completions those of the policy meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Opponent {
    /// The reference's, with exploration: XPO, Xie et al. 2024, arXiv:2405.21046.
    Reference {
        /// α: weight of log π of what the reference wrote.
        alpha: f64,
    },
    /// Those of a mixture of policy and reference: Nash-MD, Munos et al. 2023, arXiv:2312.00886.
    Mixture {
        /// The reference's share in it.
        share: f64,
    },
}

/// Which completions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Those that score highest.
    Score,
    /// As many, at random: what is gained then is not gained by the scores.
    Random,
}

/// What two scores say of which completion is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// The higher score is; equal ones are a toss-up.
    Hard,
    /// The probability is σ of their difference.
    Soft,
}

/// A method by its name in `dpo.online`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// [`SelectionMethod::Dpo`].
    Dpo,
    /// A completion of the policy and one of the reference are a pair.
    Xpo,
    /// A completion of the policy meets one of a mixture.
    NashMd,
    /// [`SelectionMethod::Spin`].
    Spin,
    /// [`SelectionMethod::BestOfN`].
    BestOfN,
    /// [`SelectionMethod::Raft`].
    Raft,
}

/// What a token answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlCreditName {
    /// Its own log-ratio, as in TRL.
    Token,
    /// All of the completion, as in the paper.
    Completion,
}

impl SelectionMethod {
    /// Whether two completions of a prompt are compared, which a judge could do.
    fn compares(self) -> bool {
        !matches!(self, Self::Spin | Self::Raft { .. })
    }

    /// Whether a judge, if there is one, is asked: as many completions at random need none.
    pub(super) fn is_judged(self) -> bool {
        !matches!(self, Self::BestOfN { selection: Selection::Random })
    }
}

impl OnlineSettings {
    /// The method with the keys that are its own.
    pub(in crate::dpo) fn method(&self, name: MethodName) -> SelectionMethod {
        let selection = self.selection;
        match name {
            MethodName::Dpo => SelectionMethod::Dpo,
            MethodName::Xpo => {
                SelectionMethod::Against(Opponent::Reference { alpha: *self.xpo_alpha })
            }
            MethodName::NashMd => {
                SelectionMethod::Against(Opponent::Mixture { share: *self.nash_mixture })
            }
            MethodName::Spin => SelectionMethod::Spin,
            MethodName::BestOfN => SelectionMethod::BestOfN { selection },
            MethodName::Raft => SelectionMethod::Raft { share: *self.raft_share, selection },
        }
    }

    /// What scores say of a comparison.
    pub(super) fn labels(&self, method: SelectionMethod) -> Labels {
        self.labels.unwrap_or(match method {
            SelectionMethod::Against(Opponent::Mixture { .. }) => Labels::Soft,
            _ => Labels::Hard,
        })
    }

    /// The objective of the method, made of the section's own.
    pub(in crate::dpo) fn fit(&self, method: SelectionMethod, objective: Objective) -> Objective {
        match method {
            SelectionMethod::Dpo | SelectionMethod::Spin => objective,
            SelectionMethod::Against(Opponent::Reference { alpha }) => {
                Objective { exploration: alpha, ..objective }
            }
            SelectionMethod::Against(Opponent::Mixture { .. }) => {
                let credit = match self.nash_kl {
                    KlCreditName::Token => KlCredit::Token,
                    KlCreditName::Completion => KlCredit::Completion,
                };
                Objective::nash(NashMd { beta: objective.beta(), nudge: *self.nash_nudge, credit })
            }
            SelectionMethod::BestOfN { .. } | SelectionMethod::Raft { .. } => {
                Objective::imitation()
            }
        }
    }
}

impl DpoConfig {
    /// What is sampled and learned; `None` where pairs come from files.
    pub fn method(&self) -> Option<SelectionMethod> {
        self.dpo.online.map(|name| self.online.method(name))
    }

    /// Optimizer steps' records of an iteration.
    fn records(&self) -> usize {
        *self.shared.train.batch_size * *self.online.learning.minibatches
    }

    /// Prompts of an iteration.
    pub(in crate::dpo) fn prompts(&self, method: SelectionMethod) -> usize {
        let (records, completions) = (self.records(), *self.rollout.completions);
        match method {
            SelectionMethod::Dpo | SelectionMethod::BestOfN { .. } => records,
            SelectionMethod::Against(_) | SelectionMethod::Spin => records.div_ceil(completions),
            SelectionMethod::Raft { share, .. } => {
                (records as f64 / (share * completions as f64)).round().max(1.0) as usize
            }
        }
    }

    /// Refuses what says nothing without samples.
    pub(in crate::dpo) fn check_offline(&self) -> Result<(), Complaint> {
        let refuse = |key, what| {
            let reason = format!("without `dpo.online` nothing is sampled that could be {what}");
            Complaint::exclusive(key, "dpo.loss without dpo.online", &reason)
        };
        if !self.scores.is_empty() {
            return Err(refuse("score", "scored"));
        }
        if self.judge.who.is_some() { Err(refuse("judge", "compared")) } else { Ok(()) }
    }

    /// Refuses what contradicts the method; `dpo` is what `[dpo]` asks for.
    pub(in crate::dpo) fn check_online(
        &self,
        method: SelectionMethod,
        objective: &Objective,
    ) -> Result<(), Complaint> {
        self.check_judge(method)?;
        let (completions, key) = (*self.rollout.completions, "rollout.completions");
        let expected = "at least 2: the best and the worst are compared";
        Complaint::unless(
            method != SelectionMethod::Dpo || 1 < completions,
            key,
            completions,
            expected,
        )?;
        let records = self.records();
        let divides = match method {
            SelectionMethod::Dpo | SelectionMethod::BestOfN { .. } => true,
            SelectionMethod::Against(_) | SelectionMethod::Spin => {
                records.is_multiple_of(completions)
            }
            SelectionMethod::Raft { share, .. } => {
                let kept = share * (self.prompts(method) * completions) as f64;
                (kept - records as f64).abs() < 1e-6
            }
        };
        let expected = format!(
            "a number with which batch_size · minibatches = {records} records come from whole \
             prompts"
        );
        Complaint::unless(divides, key, completions, &expected)?;
        let reads_pairs = matches!(
            method,
            SelectionMethod::Dpo
                | SelectionMethod::Against(Opponent::Reference { .. })
                | SelectionMethod::Spin
        );
        if reads_pairs && matches!(objective.kind, ObjectiveKind::Unpaired(_)) {
            let reason = "what is sampled are pairs, and this loss reads single completions";
            return Err(Complaint::exclusive("dpo.loss", "dpo.online", reason));
        }
        if self.dpo.reference_cache.is_some() {
            let reason = "nothing is known of completions before they are sampled";
            return Err(Complaint::exclusive("dpo.reference_cache", "dpo.online", reason));
        }
        if method == SelectionMethod::Spin && self.dpo.reference_sync_steps.is_some() {
            let reason = "the reference of SPIN is the policy before each iteration";
            return Err(Complaint::exclusive("dpo.reference_sync_steps", "dpo.online", reason));
        }
        Ok(())
    }

    fn check_judge(&self, method: SelectionMethod) -> Result<(), Complaint> {
        if self.judge.who.is_none() {
            return Ok(());
        }
        if !method.compares() {
            let reason = "it compares no two completions of one prompt: a judge says nothing to it";
            return Err(Complaint::exclusive("judge", "dpo.online", reason));
        }
        let completions = *self.rollout.completions;
        let is_alone = matches!(method, SelectionMethod::BestOfN { .. }) && completions < 2;
        let expected = "at least 2: a judge compares two";
        Complaint::unless(!is_alone, "rollout.completions", completions, expected)?;
        if self.online.learning.missing_end != MissingEnd::Keep {
            let reason = "a judge gives no score that a penalty could be taken from";
            return Err(Complaint::exclusive("judge", "online.missing_end_penalty", reason));
        }
        Ok(())
    }
}
