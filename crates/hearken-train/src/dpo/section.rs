//! `[dpo]`: published names and the keys that change them.

use std::path::PathBuf;

use hearken_config::{
    BelowHalf, BelowOne, Complaint, Finite, Fraction, NonNegative, Positive, count_unless_zero,
    one_of,
};
use hearken_objective::aggregation::Aggregation;
use hearken_objective::dpo::nll::{Nll, NllTokens};
use hearken_objective::dpo::preset::{NAMES, Preset, named};
use hearken_objective::dpo::{Divergence, Length, PairLoss, PairObjective, Reference};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::objective::{Objective, ReferenceConfig, ReferenceSync};
use super::online::MethodName;

/// BCO's share of the old δ that stays, where the configuration names none.
const BCO_DECAY: f64 = 0.9;

/// Losses that cannot be one of several: each has a β, a reference or records of its own.
const ALONE: [&str; 7] = ["orpo", "cpo", "simpo", "kto", "bco", "apo_zero_unpaired", "outcome"];

/// Losses of the difference of both scores, in which the constant that a divergence leaves open
/// cancels.
const OF_DIFFERENCE: [&str; 8] =
    ["sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"];

/// One name, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "the name of a loss or a list of names")]
enum Names {
    One(String),
    Many(Vec<String>),
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}

/// How far the policy is from the reference is measured by this divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceName {
    /// KL(policy ‖ reference).
    ReverseKl,
    /// KL(reference ‖ policy).
    ForwardKl,
    /// Jensen's and Shannon's.
    JsDivergence,
    /// Of order α.
    AlphaDivergence,
}

/// What the likelihood covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NllTokensName {
    /// The chosen completion.
    Completion,
    /// The prompt too.
    PromptAndCompletion,
}

/// The mean of the likelihood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NllMean {
    /// Over all tokens of the step.
    Token,
    /// Per completion and then over completions.
    Completion,
    /// Of sums.
    Sum,
}

/// What "ipo" sees of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpoLength {
    /// The mean over its tokens.
    Token,
    /// The sum, as in the paper.
    Sum,
}

/// `[dpo]`: what is minimized, and against what. What is not given is the loss's own.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DpoSettings {
    /// Whether completions are sampled during training, and how they are learned from.
    pub online: Option<MethodName>,
    /// The names of losses whose weighted sum is minimized.
    #[serde(deserialize_with = "names")]
    #[schemars(with = "Names")]
    pub loss: Vec<String>,
    /// One weight for each loss; without it each weighs 1.
    pub loss_weights: Option<Vec<Finite>>,
    /// The scale of the implicit reward; of "orpo" the weight of its odds ratio.
    pub beta: Option<Positive>,
    /// The probability that a label is wrong.
    pub label_smoothing: Option<BelowHalf>,
    /// How the distance from the reference is measured.
    pub divergence: DivergenceName,
    /// The order of "alpha_divergence".
    pub divergence_alpha: Finite,
    /// The weight of tokens beyond the shorter completion; 1 is all alike.
    pub ld_alpha: Fraction,
    /// Whether pairs are weighted by how likely the policy is to write them.
    pub wpo: bool,
    /// Whether the margin of a record counts.
    pub use_margin: bool,
    /// Whether the probability of a record counts.
    pub use_probability: bool,
    /// What "ipo" sees of a completion.
    pub ipo_length: Option<IpoLength>,
    /// The temperature of "discopop".
    pub discopop_tau: Option<Positive>,
    /// The share of the old running mean of rewards that stays in "bco" and "bco_pair".
    pub bco_decay: Option<BelowOne>,
    /// The margin of "simpo".
    pub simpo_gamma: Option<Finite>,
    /// The weight of the likelihood in "cpo" and "simpo".
    pub cpo_alpha: Option<NonNegative>,
    /// The weight of the chosen completions' −log π beside any loss of pairs.
    pub rpo_alpha: Option<NonNegative>,
    /// What the likelihood covers.
    pub nll_tokens: Option<NllTokensName>,
    /// The mean of the likelihood.
    pub nll_mean: Option<NllMean>,
    /// The weight of completions labelled true in losses of single completions.
    pub desirable_weight: NonNegative,
    /// The weight of those labelled false.
    pub undesirable_weight: NonNegative,
    /// What the policy is compared with; without it the model that training starts from.
    pub reference: Option<PathBuf>,
    /// The folder of the reference's log-probabilities; without it one in the run directory.
    pub reference_cache: Option<PathBuf>,
    /// Optimizer steps after which the reference moves towards the policy; 0 is never.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub reference_sync_steps: Option<u64>,
    /// The policy's share in the new reference.
    pub reference_mix: Fraction,
    /// Prompts that are completed at each evaluation to measure the distance from the reference.
    pub kl_prompts: usize,
}

/// What a section asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The loss.
    pub objective: Objective,
    /// What the policy is compared with.
    pub reference: ReferenceConfig,
    /// Keys that were given and mean nothing to this loss.
    pub unused: Vec<String>,
}

/// The likelihood alone: what stands there until the keys are resolved.
impl Default for Resolved {
    fn default() -> Self {
        let (objective, reference) = (Objective::imitation(), ReferenceConfig::default());
        Self { objective, reference, unused: Vec::new() }
    }
}

impl Resolved {
    /// What a reader should know before the first step: keys without meaning, for one.
    pub(super) fn notes(&self) -> Vec<String> {
        let coupled = self
            .objective
            .couples_batch()
            .then(|| "the loss couples the records of a step: each goes forward twice".to_owned());
        let unused = self.unused.iter();
        let unused =
            unused.map(|key| format!("`{key}` means nothing to this loss and is not used"));
        coupled.into_iter().chain(unused).collect()
    }
}

impl DpoSettings {
    /// What the section asks for.
    pub(super) fn resolve(&self) -> Result<Resolved, Complaint> {
        let names = self.names()?;
        let mut unused = Vec::new();
        let objective = self.objective(&names, &mut unused)?;
        let reference = self.reference(&objective, &mut unused)?;
        let unused = unused.into_iter().map(|key| format!("dpo.{key}")).collect();
        Ok(Resolved { objective, reference, unused })
    }

    /// The names of the losses with their weights.
    fn names(&self) -> Result<Vec<(String, f64)>, Complaint> {
        let names = &self.loss;
        Complaint::unless(!names.is_empty(), "dpo.loss", "an empty list", "at least one loss")?;
        if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(Complaint::unexpected("dpo.loss", format!("{unknown:?}"), &one_of(&NAMES)));
        }
        if let (Some(alone), true) =
            (names.iter().find(|name| ALONE.contains(&name.as_str())), 1 < names.len())
        {
            let expected = "a loss of pairs against a reference; this one stands alone";
            return Err(Complaint::unexpected(
                "dpo.loss",
                format!("{alone:?} in a list"),
                expected,
            ));
        }
        let weights: Vec<f64> = match &self.loss_weights {
            Some(weights) => weights.iter().map(|weight| **weight).collect(),
            None => vec![1.0; names.len()],
        };
        let found = format!("{} numbers", weights.len());
        let expected = format!("one for each of the {} losses", names.len());
        let holds = weights.len() == names.len();
        Complaint::unless(holds, "dpo.loss_weights", found, &expected)?;
        Ok(names.iter().cloned().zip(weights).collect())
    }

    fn objective(
        &self,
        names: &[(String, f64)],
        unused: &mut Vec<&'static str>,
    ) -> Result<Objective, Complaint> {
        let (name, weight) = &names[0];
        let has = |name: &str| names.iter().any(|(found, _)| found == name);
        let decays = has("bco") || has("bco_pair");
        let unread = [
            ("ipo_length", self.ipo_length.is_some() && !has("ipo")),
            ("discopop_tau", self.discopop_tau.is_some() && !has("discopop")),
            ("bco_decay", self.bco_decay.is_some() && !decays),
            ("simpo_gamma", self.simpo_gamma.is_some() && !has("simpo")),
            ("cpo_alpha", self.cpo_alpha.is_some() && !has("simpo") && !has("cpo")),
        ];
        unused.extend(unread.into_iter().filter(|(_, unread)| *unread).map(|(key, _)| key));
        if let Some(Preset::Unpaired(mut objective)) = named(name) {
            objective.beta = self.beta.map_or(objective.beta, Positive::get);
            objective.desirable_weight = weight * *self.desirable_weight;
            objective.undesirable_weight = weight * *self.undesirable_weight;
            self.check_unpaired(unused)?;
            let decay = (name == "bco").then_some(self.bco_decay.map_or(BCO_DECAY, BelowOne::get));
            return Ok(Objective::unpaired(objective, decay));
        }
        for (key, value) in [
            ("desirable_weight", self.desirable_weight),
            ("undesirable_weight", self.undesirable_weight),
        ] {
            unused.extend(((*value - 1.0).abs() > 0.0).then_some(key));
        }
        self.paired(names, unused)
    }

    fn check_unpaired(&self, unused: &mut Vec<&'static str>) -> Result<(), Complaint> {
        let reason = "single completions have no pair; remove one of the two";
        for (key, given) in [
            ("dpo.wpo", self.wpo),
            ("dpo.divergence", self.divergence != DivergenceName::ReverseKl),
            ("dpo.ld_alpha", *self.ld_alpha < 1.0),
            ("dpo.rpo_alpha", self.rpo_alpha.is_some_and(|alpha| 0.0 < *alpha)),
        ] {
            if given {
                return Err(Complaint::exclusive("dpo.loss", key, reason));
            }
        }
        let smooths = self.label_smoothing.is_some_and(|epsilon| 0.0 < *epsilon);
        unused.extend(smooths.then_some("label_smoothing"));
        unused.extend(self.nll_tokens.map(|_| "nll_tokens"));
        unused.extend(self.nll_mean.map(|_| "nll_mean"));
        Ok(())
    }

    fn paired(
        &self,
        names: &[(String, f64)],
        unused: &mut Vec<&'static str>,
    ) -> Result<Objective, Complaint> {
        let mut objective = sum_of(names);
        let orpo = names[0].0 == "orpo";
        match self.beta.map(Positive::get) {
            Some(beta) if orpo => objective.terms[0].weight = names[0].1 * beta,
            Some(beta) => objective.beta = beta,
            None => {}
        }
        if let Some(epsilon) = self.label_smoothing.map(BelowHalf::get) {
            let exo = names.iter().any(|(name, _)| name == "exo_pair");
            let expected =
                "a number above 0 for the loss \"exo_pair\", which has a logarithm of it";
            let holds = !exo || 0.0 < epsilon;
            Complaint::unless(holds, "dpo.label_smoothing", epsilon, expected)?;
            match objective.clone().with_label_smoothing(epsilon) {
                Some(smoothed) => objective = smoothed,
                None if 0.0 < epsilon => unused.push("label_smoothing"),
                None => {}
            }
        }
        self.shape_terms(&mut objective);
        if names[0].0 == "simpo" {
            objective.margin = self.simpo_gamma.map_or(objective.margin, Finite::get);
        }
        objective.tail_weight = *self.ld_alpha;
        objective.divergence = self.divergence(names)?;
        self.add_nll(names, &mut objective, unused)?;
        let sorts = objective.sorts_batch();
        for (key, given) in [("dpo.wpo", self.wpo), ("dpo.use_margin", self.use_margin)] {
            if given && sorts {
                let reason = "the AOT losses sort the batch, after which no weight or margin \
                              belongs to a pair; remove one of the two";
                return Err(Complaint::exclusive("dpo.loss", key, reason));
            }
        }
        let bco = names.iter().any(|(name, _)| name == "bco_pair");
        let shift_decay = self.bco_decay.map(BelowOne::get).filter(|_| bco);
        Ok(Objective { wpo: self.wpo, shift_decay, ..Objective::paired(objective) })
    }

    fn shape_terms(&self, objective: &mut PairObjective) {
        for term in &mut objective.terms {
            match (&mut term.loss, self.ipo_length, self.discopop_tau) {
                (PairLoss::Ipo, Some(IpoLength::Sum), _) => term.length = Length::Sum,
                (PairLoss::DiscoPop { temperature }, _, Some(tau)) => *temperature = *tau,
                _ => {}
            }
        }
    }

    fn divergence(&self, names: &[(String, f64)]) -> Result<Divergence, Complaint> {
        let divergence = match self.divergence {
            DivergenceName::ReverseKl => return Ok(Divergence::ReverseKl),
            DivergenceName::ForwardKl => Divergence::ForwardKl,
            DivergenceName::JsDivergence => Divergence::JensenShannon,
            DivergenceName::AlphaDivergence => Divergence::Alpha { alpha: *self.divergence_alpha },
        };
        match names.iter().find(|(name, _)| !OF_DIFFERENCE.contains(&name.as_str())) {
            None => Ok(divergence),
            Some((name, _)) => {
                let reason = format!(
                    "a divergence other than \"reverse_kl\" leaves a constant open that cancels in \
                     losses of the difference alone, and {name:?} is none; they are {}",
                    OF_DIFFERENCE.join(", ")
                );
                Err(Complaint::exclusive("dpo.loss", "dpo.divergence", &reason))
            }
        }
    }

    fn add_nll(
        &self,
        names: &[(String, f64)],
        objective: &mut PairObjective,
        unused: &mut Vec<&'static str>,
    ) -> Result<(), Complaint> {
        let (name, weight) = (&names[0].0, names[0].1);
        let nll =
            |weight: f64, aggregation| Nll { weight, tokens: NllTokens::Completion, aggregation };
        if let (Some(alpha), "cpo" | "simpo") =
            (self.cpo_alpha.map(NonNegative::get), name.as_str())
        {
            objective.nll = Some(nll(weight * alpha, Aggregation::PerToken));
        }
        if let Some(alpha) = self.rpo_alpha.map(NonNegative::get).filter(|alpha| 0.0 < *alpha) {
            if objective.nll.is_some_and(|nll| 0.0 < nll.weight) {
                let reason = "this loss has a likelihood of its own; remove one of the two";
                return Err(Complaint::exclusive("dpo.loss", "dpo.rpo_alpha", reason));
            }
            objective.nll = Some(nll(alpha, Aggregation::PerCompletion));
        }
        objective.nll = objective.nll.filter(|nll| nll.weight != 0.0);
        let Some(nll) = &mut objective.nll else {
            unused.extend(self.nll_tokens.map(|_| "nll_tokens"));
            unused.extend(self.nll_mean.map(|_| "nll_mean"));
            return Ok(());
        };
        nll.tokens = match self.nll_tokens {
            None => nll.tokens,
            Some(NllTokensName::Completion) => NllTokens::Completion,
            Some(NllTokensName::PromptAndCompletion) => NllTokens::PromptAndCompletion,
        };
        nll.aggregation = match self.nll_mean {
            None => nll.aggregation,
            Some(NllMean::Token) => Aggregation::PerToken,
            Some(NllMean::Completion) => Aggregation::PerCompletion,
            Some(NllMean::Sum) => Aggregation::PerCompletionSum,
        };
        Ok(())
    }

    fn reference(
        &self,
        objective: &Objective,
        unused: &mut Vec<&'static str>,
    ) -> Result<ReferenceConfig, Complaint> {
        let every = self.reference_sync_steps;
        if !objective.needs_reference() && self.online.is_none() {
            unused.extend(self.reference.as_ref().map(|_| "reference"));
            unused.extend(self.reference_cache.as_ref().map(|_| "reference_cache"));
            unused.extend(every.map(|_| "reference_sync_steps"));
            return Ok(ReferenceConfig::default());
        }
        if let (Some(_), Some(_)) = (&self.reference_cache, every) {
            let reason = "log-probabilities of a reference that moves cannot be stored; remove one \
                          of the two";
            return Err(Complaint::exclusive(
                "dpo.reference_cache",
                "dpo.reference_sync_steps",
                reason,
            ));
        }
        let sync = every.map(|every| ReferenceSync { every, mix: *self.reference_mix });
        Ok(ReferenceConfig {
            path: self.reference.clone(),
            cache: self.reference_cache.clone(),
            sync,
        })
    }
}

/// The weighted sum of losses of pairs; β is that of the first that has one.
fn sum_of(names: &[(String, f64)]) -> PairObjective {
    let paired = |(name, weight): &(String, f64)| match named(name)? {
        Preset::Paired(objective) => Some((objective, *weight)),
        // A loss of single completions stands alone, and is no pair's.
        Preset::Unpaired(_) => None,
    };
    let mut sum: Option<PairObjective> = None;
    let mut likelihood: Option<Nll> = None;
    for (mut objective, weight) in names.iter().filter_map(paired) {
        for term in &mut objective.terms {
            term.weight *= weight;
        }
        if let Some(nll) = objective.nll.take() {
            let added = likelihood.map_or(0.0, |found| found.weight);
            likelihood = Some(Nll { weight: added + weight * nll.weight, ..nll });
        }
        match &mut sum {
            Some(sum) if sum.reference == Reference::Model => sum.terms.extend(objective.terms),
            // What stands there is likelihood alone: it has neither β nor reference.
            _ => sum = Some(objective),
        }
    }
    let mut sum = sum.expect("at least one loss");
    sum.nll = likelihood;
    sum
}
