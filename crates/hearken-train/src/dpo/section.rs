//! Reads `[dpo]`: published names and the keys that change them.

use std::path::PathBuf;

use hearken_objective::aggregation::Aggregation;
use hearken_objective::dpo::nll::{Nll, NllTokens};
use hearken_objective::dpo::preset::{NAMES, Preset, named};
use hearken_objective::dpo::{Divergence, Length, PairLoss, PairObjective, Reference};
use serde::Deserialize;

use super::objective::{Kind, Objective, ReferenceConfig, ReferenceSync};
use super::online::MethodName;
use crate::config::{ConfigError, Layers};

/// `[dpo]`: what is minimized, and against what.
#[derive(Clone, Debug, PartialEq)]
pub struct DpoSection {
    /// The loss.
    pub objective: Objective,
    /// What the policy is compared with.
    pub reference: ReferenceConfig,
    /// Whether the margin of a record counts.
    pub use_margin: bool,
    /// Whether the probability of a record counts.
    pub use_probability: bool,
    /// Prompts that are completed at each evaluation to measure the distance from the reference.
    pub kl_prompts: usize,
    /// Whether completions are sampled during training, and how they are learned from.
    pub(super) online: Option<MethodName>,
    /// Keys that were given and mean nothing to this loss.
    pub unused: Vec<String>,
}

/// BCO's share of the old δ that stays, where the configuration names none.
const BCO_DECAY: f64 = 0.9;

/// Losses that cannot be one of several: each has a β, a reference or records of its own.
const ALONE: [&str; 6] = ["orpo", "cpo", "simpo", "kto", "bco", "apo_zero_unpaired"];

/// Losses of the difference of both scores, in which the constant that a divergence leaves open
/// cancels.
const OF_DIFFERENCE: [&str; 8] =
    ["sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"];

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "the name of a loss or a list of names")]
enum Names {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DivergenceName {
    ReverseKl,
    ForwardKl,
    JsDivergence,
    AlphaDivergence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NllTokensName {
    Completion,
    PromptAndCompletion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NllMean {
    Token,
    Completion,
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IpoLength {
    Token,
    Sum,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    online: Option<MethodName>,
    loss: Names,
    loss_weights: Option<Vec<f64>>,
    beta: Option<f64>,
    label_smoothing: Option<f64>,
    divergence: DivergenceName,
    divergence_alpha: f64,
    ld_alpha: f64,
    wpo: bool,
    use_margin: bool,
    use_probability: bool,
    ipo_length: Option<IpoLength>,
    discopop_tau: Option<f64>,
    bco_decay: Option<f64>,
    simpo_gamma: Option<f64>,
    cpo_alpha: Option<f64>,
    rpo_alpha: Option<f64>,
    nll_tokens: Option<NllTokensName>,
    nll_mean: Option<NllMean>,
    desirable_weight: f64,
    undesirable_weight: f64,
    reference: Option<PathBuf>,
    reference_cache: Option<PathBuf>,
    reference_sync_steps: u64,
    reference_mix: f64,
    kl_prompts: usize,
}

impl DpoSection {
    /// Reads the section.
    ///
    /// # Errors
    /// Names the key that is unknown, out of range, or contradicts another.
    pub(super) fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let raw: Raw = layers.section("dpo")?;
        raw.check(layers)?;
        let names = raw.names(layers)?;
        let mut unused = Vec::new();
        let objective = raw.objective(layers, &names, &mut unused)?;
        let reference = raw.reference(layers, &objective, &mut unused)?;
        Ok(Self {
            objective,
            reference,
            use_margin: raw.use_margin,
            use_probability: raw.use_probability,
            kl_prompts: raw.kl_prompts,
            online: raw.online,
            unused: unused.into_iter().map(|key| format!("dpo.{key}")).collect(),
        })
    }
}

impl Raw {
    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        let positive = |x: f64| x.is_finite() && 0.0 < x;
        let from_zero = |x: f64| x.is_finite() && 0.0 <= x;
        let share = |x: f64| (0.0..=1.0).contains(&x);
        for (key, value, holds, expected) in [
            ("beta", self.beta, self.beta.is_none_or(positive), "a number above 0"),
            (
                "label_smoothing",
                self.label_smoothing,
                self.label_smoothing.is_none_or(|x| (0.0..0.5).contains(&x)),
                "a number from 0 to below 0.5",
            ),
            (
                "divergence_alpha",
                Some(self.divergence_alpha),
                self.divergence_alpha.is_finite(),
                "a number",
            ),
            ("ld_alpha", Some(self.ld_alpha), share(self.ld_alpha), "a number from 0 to 1"),
            (
                "discopop_tau",
                self.discopop_tau,
                self.discopop_tau.is_none_or(positive),
                "a number above 0",
            ),
            (
                "bco_decay",
                self.bco_decay,
                self.bco_decay.is_none_or(|x| (0.0..1.0).contains(&x)),
                "a number from 0 to below 1",
            ),
            (
                "simpo_gamma",
                self.simpo_gamma,
                self.simpo_gamma.is_none_or(f64::is_finite),
                "a number",
            ),
            ("cpo_alpha", self.cpo_alpha, self.cpo_alpha.is_none_or(from_zero), "a number from 0"),
            ("rpo_alpha", self.rpo_alpha, self.rpo_alpha.is_none_or(from_zero), "a number from 0"),
            (
                "desirable_weight",
                Some(self.desirable_weight),
                from_zero(self.desirable_weight),
                "a number from 0",
            ),
            (
                "undesirable_weight",
                Some(self.undesirable_weight),
                from_zero(self.undesirable_weight),
                "a number from 0",
            ),
            (
                "reference_mix",
                Some(self.reference_mix),
                share(self.reference_mix),
                "a number from 0 to 1",
            ),
        ] {
            layers.check(&format!("dpo.{key}"), value.unwrap_or(0.0), holds, expected)?;
        }
        Ok(())
    }

    /// The names of the losses with their weights.
    fn names(&self, layers: &Layers) -> Result<Vec<(String, f64)>, ConfigError> {
        let names = match &self.loss {
            Names::One(name) => vec![name.clone()],
            Names::Many(names) => names.clone(),
        };
        layers.check("dpo.loss", "an empty list", !names.is_empty(), "at least one loss")?;
        if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            let expected = format!("one of {}", NAMES.map(|name| format!("{name:?}")).join(", "));
            return Err(layers.unexpected("dpo.loss", &format!("{unknown:?}"), &expected));
        }
        if let (Some(alone), true) =
            (names.iter().find(|name| ALONE.contains(&name.as_str())), 1 < names.len())
        {
            let expected = "a loss of pairs against a reference; this one stands alone";
            return Err(layers.unexpected("dpo.loss", &format!("{alone:?} in a list"), expected));
        }
        let weights = self.loss_weights.clone().unwrap_or_else(|| vec![1.0; names.len()]);
        let key = "dpo.loss_weights";
        let found = format!("{} numbers", weights.len());
        let expected = format!("one for each of the {} losses", names.len());
        layers.check(key, found, weights.len() == names.len(), &expected)?;
        for &weight in &weights {
            layers.check(key, weight, weight.is_finite(), "finite numbers")?;
        }
        Ok(names.into_iter().zip(weights).collect())
    }

    fn objective(
        &self,
        layers: &Layers,
        names: &[(String, f64)],
        unused: &mut Vec<&'static str>,
    ) -> Result<Objective, ConfigError> {
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
            objective.beta = self.beta.unwrap_or(objective.beta);
            objective.desirable_weight = weight * self.desirable_weight;
            objective.undesirable_weight = weight * self.undesirable_weight;
            self.check_unpaired(layers, unused)?;
            let decay = (name == "bco").then_some(self.bco_decay.unwrap_or(BCO_DECAY));
            return Ok(Objective::unpaired(objective, decay));
        }
        for (key, value) in [
            ("desirable_weight", self.desirable_weight),
            ("undesirable_weight", self.undesirable_weight),
        ] {
            unused.extend(((value - 1.0).abs() > 0.0).then_some(key));
        }
        self.paired(layers, names, unused)
    }

    fn check_unpaired(
        &self,
        layers: &Layers,
        unused: &mut Vec<&'static str>,
    ) -> Result<(), ConfigError> {
        let reason = "single completions have no pair; remove one of the two";
        for (key, given) in [
            ("dpo.wpo", self.wpo),
            ("dpo.divergence", self.divergence != DivergenceName::ReverseKl),
            ("dpo.ld_alpha", self.ld_alpha < 1.0),
            ("dpo.rpo_alpha", self.rpo_alpha.is_some_and(|alpha| 0.0 < alpha)),
        ] {
            if given {
                return Err(layers.exclusive("dpo.loss", key, reason));
            }
        }
        let smooths = self.label_smoothing.is_some_and(|epsilon| 0.0 < epsilon);
        unused.extend(smooths.then_some("label_smoothing"));
        unused.extend(self.nll_tokens.map(|_| "nll_tokens"));
        unused.extend(self.nll_mean.map(|_| "nll_mean"));
        Ok(())
    }

    fn paired(
        &self,
        layers: &Layers,
        names: &[(String, f64)],
        unused: &mut Vec<&'static str>,
    ) -> Result<Objective, ConfigError> {
        let mut objective = sum_of(names);
        let orpo = names[0].0 == "orpo";
        match self.beta {
            Some(beta) if orpo => objective.terms[0].weight = names[0].1 * beta,
            Some(beta) => objective.beta = beta,
            None => {}
        }
        if let Some(epsilon) = self.label_smoothing {
            let exo = names.iter().any(|(name, _)| name == "exo_pair");
            let expected =
                "a number above 0 for the loss \"exo_pair\", which has a logarithm of it";
            layers.check("dpo.label_smoothing", epsilon, !exo || 0.0 < epsilon, expected)?;
            match objective.clone().with_label_smoothing(epsilon) {
                Some(smoothed) => objective = smoothed,
                None if 0.0 < epsilon => unused.push("label_smoothing"),
                None => {}
            }
        }
        self.shape_terms(&mut objective);
        if names[0].0 == "simpo" {
            objective.margin = self.simpo_gamma.unwrap_or(objective.margin);
        }
        objective.tail_weight = self.ld_alpha;
        objective.divergence = self.divergence(layers, names)?;
        self.add_nll(layers, names, &mut objective, unused)?;
        let sorts = objective.sorts_batch();
        for (key, given) in [("dpo.wpo", self.wpo), ("dpo.use_margin", self.use_margin)] {
            if given && sorts {
                let reason = "the AOT losses sort the batch, after which no weight or margin \
                              belongs to a pair; remove one of the two";
                return Err(layers.exclusive("dpo.loss", key, reason));
            }
        }
        let bco = names.iter().any(|(name, _)| name == "bco_pair");
        let shift_decay = self.bco_decay.filter(|_| bco);
        Ok(Objective { wpo: self.wpo, shift_decay, ..Objective::paired(objective) })
    }

    fn shape_terms(&self, objective: &mut PairObjective) {
        for term in &mut objective.terms {
            match (&mut term.loss, self.ipo_length, self.discopop_tau) {
                (PairLoss::Ipo, Some(IpoLength::Sum), _) => term.length = Length::Sum,
                (PairLoss::DiscoPop { temperature }, _, Some(tau)) => *temperature = tau,
                _ => {}
            }
        }
    }

    fn divergence(
        &self,
        layers: &Layers,
        names: &[(String, f64)],
    ) -> Result<Divergence, ConfigError> {
        let divergence = match self.divergence {
            DivergenceName::ReverseKl => return Ok(Divergence::ReverseKl),
            DivergenceName::ForwardKl => Divergence::ForwardKl,
            DivergenceName::JsDivergence => Divergence::JensenShannon,
            DivergenceName::AlphaDivergence => Divergence::Alpha { alpha: self.divergence_alpha },
        };
        match names.iter().find(|(name, _)| !OF_DIFFERENCE.contains(&name.as_str())) {
            None => Ok(divergence),
            Some((name, _)) => {
                let reason = format!(
                    "a divergence other than \"reverse_kl\" leaves a constant open that cancels in \
                     losses of the difference alone, and {name:?} is none; they are {}",
                    OF_DIFFERENCE.join(", ")
                );
                Err(layers.exclusive("dpo.loss", "dpo.divergence", &reason))
            }
        }
    }

    fn add_nll(
        &self,
        layers: &Layers,
        names: &[(String, f64)],
        objective: &mut PairObjective,
        unused: &mut Vec<&'static str>,
    ) -> Result<(), ConfigError> {
        let (name, weight) = (&names[0].0, names[0].1);
        let nll =
            |weight: f64, aggregation| Nll { weight, tokens: NllTokens::Completion, aggregation };
        if let (Some(alpha), "cpo" | "simpo") = (self.cpo_alpha, name.as_str()) {
            objective.nll = Some(nll(weight * alpha, Aggregation::PerToken));
        }
        if let Some(alpha) = self.rpo_alpha.filter(|alpha| 0.0 < *alpha) {
            if objective.nll.is_some_and(|nll| 0.0 < nll.weight) {
                let reason = "this loss has a likelihood of its own; remove one of the two";
                return Err(layers.exclusive("dpo.loss", "dpo.rpo_alpha", reason));
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
        layers: &Layers,
        objective: &Objective,
        unused: &mut Vec<&'static str>,
    ) -> Result<ReferenceConfig, ConfigError> {
        let every = self.reference_sync_steps;
        if !objective.needs_reference() && self.online.is_none() {
            unused.extend(self.reference.as_ref().map(|_| "reference"));
            unused.extend(self.reference_cache.as_ref().map(|_| "reference_cache"));
            unused.extend((0 < every).then_some("reference_sync_steps"));
            return Ok(ReferenceConfig::default());
        }
        if let (Some(_), true) = (&self.reference_cache, 0 < every) {
            let reason = "log-probabilities of a reference that moves cannot be stored; remove one \
                          of the two";
            return Err(layers.exclusive(
                "dpo.reference_cache",
                "dpo.reference_sync_steps",
                reason,
            ));
        }
        let sync = (0 < every).then_some(ReferenceSync { every, mix: self.reference_mix });
        Ok(ReferenceConfig {
            path: self.reference.clone(),
            cache: self.reference_cache.clone(),
            sync,
        })
    }
}

/// The weighted sum of losses of pairs; β is that of the first that has one.
fn sum_of(names: &[(String, f64)]) -> PairObjective {
    let mut sum: Option<PairObjective> = None;
    let mut likelihood: Option<Nll> = None;
    for (name, weight) in names {
        let Some(Preset::Paired(mut objective)) = named(name) else {
            unreachable!("names are checked, and losses of single completions stand alone")
        };
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

impl DpoSection {
    /// Whether the loss reads single completions.
    pub(super) fn is_unpaired(&self) -> bool {
        matches!(self.objective.kind, Kind::Unpaired(_))
    }

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
