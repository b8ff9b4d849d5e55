//! The configuration of group-relative training.

use hearken_config::{
    Complaint, Configuration, GuardConfig, Layers, Named, Positive, RolloutConfig, SamplesConfig,
    ScoreConfig, SharedSections, check_scores, one_of,
};
use hearken_objective::grpo::preset;
use hearken_objective::grpo::preset::NAMES;
use hearken_objective::grpo::{Algorithm, Credit, GroupBaseline, ScoreBaseline};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Value;

use super::kl::PresetKl;
use super::section::{Groups, GrpoSettings, Resolved};
use crate::rollout::feed::SampledRecords;
use crate::rollout::settings::{Configured, Movement, RolloutSettings, UNREAD, named};

/// What `hearken grpo` reads; `configs/grpo.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpoConfig {
    /// The sections that every trainer reads.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub shared: SharedSections,
    /// `[rollout]`; its completions are those of a group.
    pub rollout: RolloutConfig,
    /// `[kl]`.
    pub kl: PresetKl,
    /// `[grpo]`.
    pub grpo: GrpoSettings,
    /// `[guard]`: what is watched.
    pub guard: GuardConfig,
    /// `[samples]`.
    pub samples: SamplesConfig,
    /// `[[score]]`.
    #[serde(default, rename = "score")]
    pub scores: Vec<ScoreConfig>,
    /// The preset with what `[grpo]` and `[kl]` change.
    #[serde(skip)]
    pub resolved: Resolved,
}

impl Configuration for GrpoConfig {
    const COMMAND: &'static str = "grpo";
    const DEFAULTS: &'static str = include_str!("../../../../configs/grpo.toml");
    const WITHOUT: &'static [&'static str] = UNREAD;

    fn prepare(layers: &mut Layers) -> Result<(), Complaint> {
        same_completions(layers)?;
        derive_batch_size(layers);
        Ok(())
    }

    fn named(&mut self) -> Vec<Named<'_>> {
        named(&mut self.shared, &mut self.rollout, &mut self.scores)
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.shared.settle(true)?;
        self.rollout.check()?;
        self.resolved = self.resolve()?;
        check_scores(&self.scores)?;
        self.guard.check(&self.scores)?;
        if self.rollout.replay.is_some() {
            return Ok(());
        }
        self.check_group()?;
        self.check_batch_size()?;
        self.shared.check_records()
    }
}

impl GrpoConfig {
    fn resolve(&self) -> Result<Resolved, Complaint> {
        let completion_tokens_max = *self.rollout.max_new_tokens;
        let name = &self.grpo.preset;
        let preset = preset::named(name, completion_tokens_max).ok_or_else(|| {
            Complaint::unexpected("grpo.preset", format!("{name:?}"), &one_of(&NAMES))
        })?;
        let resolved = self.grpo.resolve(preset, &self.rollout)?;
        let kl = self.kl.placed(preset.kl)?;
        Ok(Resolved { algorithm: Algorithm { kl, ..resolved.algorithm }, ..resolved })
    }

    /// A group compares completions, so that there must be two.
    fn check_group(&self) -> Result<(), Complaint> {
        let compares = match self.resolved.algorithm.credit {
            Credit::Group(baseline) => baseline != GroupBaseline::Greedy,
            Credit::RewardsToGo { baseline, .. } => baseline == ScoreBaseline::GroupMean,
            Credit::Gae { .. } => false,
        };
        let compares = compares || self.resolved.groups != Groups::Keep || self.grpo.normalize_each;
        let completions = *self.rollout.completions;
        let expected = "at least 2: completions of one prompt are compared with one another";
        let holds = !compares || 1 < completions;
        Complaint::unless(holds, "rollout.completions", completions, expected)
    }

    /// A minibatch is a share of the iteration's rollouts.
    fn check_batch_size(&self) -> Result<(), Complaint> {
        let (prompts, completions) = (*self.grpo.prompts, *self.rollout.completions);
        let (rollouts, minibatches) = (prompts * completions, *self.grpo.learning.minibatches);
        let expected = format!("a divisor of prompts · completions = {rollouts}");
        let holds = rollouts.is_multiple_of(minibatches);
        Complaint::unless(holds, "grpo.minibatches", minibatches, &expected)?;
        let (found, batch_size) = (*self.shared.train.batch_size, rollouts / minibatches);
        let expected = format!(
            "prompts · completions / minibatches = {prompts} · {completions} / {minibatches} = \
             {batch_size}; without this key it is that"
        );
        Complaint::unless(found == batch_size, "train.batch_size", found, &expected)
    }
}

impl Configured for GrpoConfig {
    fn settings(&self) -> (SharedSections, RolloutSettings) {
        let settings = RolloutSettings {
            section: "grpo",
            rollout: self.rollout.clone(),
            samples: self.samples.clone(),
            asked: SampledRecords::Prompts,
            reference: Some(self.shared.model.path.clone()),
            reference_key: "model.path",
            movement: Movement::Frozen,
            beta: self.resolved.algorithm.kl.beta().unwrap_or(0.0),
            steering: self.kl.steering(),
            kl_limit_nats: self.grpo.learning.kl_limit_nats.map(Positive::get),
            prompts: *self.grpo.prompts,
            epochs: *self.grpo.learning.epochs,
            minibatches: *self.grpo.learning.minibatches,
            scores: self.scores.clone(),
            guard: Some(self.guard.clone()),
            normalize_scores: self.grpo.learning.normalize_scores,
            needs_scores: true,
        };
        (self.shared.clone(), settings)
    }
}

/// `grpo.completions` is another name of `rollout.completions`: both may be given if they agree.
fn same_completions(layers: &mut Layers) -> Result<(), Complaint> {
    let Some(completions) = layers.value("grpo", "completions").cloned() else { return Ok(()) };
    let differ = layers.value("rollout", "completions") != Some(&completions);
    if differ && layers.is_given("rollout.completions") {
        let reason = "both say how many completions a prompt has, and not the same";
        return Err(Complaint::exclusive("grpo.completions", "rollout.completions", reason));
    }
    layers.derive("rollout", "completions", completions);
    Ok(())
}

/// Writes down `train.batch_size`, which nobody needs to say: prompts · completions / minibatches. Where
/// those are no counts, they are complained of when they are read.
fn derive_batch_size(layers: &mut Layers) {
    if layers.value("train", "batch_size").is_some() {
        return;
    }
    let count = |section, key| layers.value(section, key).and_then(Value::as_integer);
    let of_prompts = count("grpo", "prompts").zip(count("rollout", "completions"));
    let rollouts = of_prompts.and_then(|(prompts, completions)| prompts.checked_mul(completions));
    let minibatches = count("grpo", "minibatches").filter(|count| 0 < *count);
    let batch_size = rollouts.zip(minibatches).map(|(rollouts, count)| (rollouts / count).max(1));
    // A recorded iteration has the rollouts that it has.
    let is_recorded = layers.value("rollout", "replay").is_some();
    layers.derive("train", "batch_size", if is_recorded { 1 } else { batch_size.unwrap_or(1) });
}
