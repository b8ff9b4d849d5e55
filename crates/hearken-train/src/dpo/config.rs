//! The configuration of preference optimization.

use hearken_config::{
    Complaint, Configuration, GuardConfig, JudgeConfig, KlSteering, MasterWeights, Named, Positive,
    RolloutConfig, SamplesConfig, ScoreConfig, SharedSections, check_scores,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::objective::{ObjectiveKind, ReferenceConfig};
use super::online::{OnlineSettings, SelectionMethod};
use super::section::{DpoSettings, Resolved};
use crate::records::Configured;
use crate::rollout::feed::SampledRecords;
use crate::rollout::settings::{self as rollout, Movement};

/// What `hearken dpo` reads; `configs/dpo.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DpoConfig {
    /// The sections that every trainer reads.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub shared: SharedSections,
    /// `[dpo]`.
    pub dpo: DpoSettings,
    /// `[online]`: read with `dpo.online`, as the following three.
    pub online: OnlineSettings,
    /// `[judge]`.
    pub judge: JudgeConfig,
    /// `[rollout]`.
    pub rollout: RolloutConfig,
    /// `[guard]`: what is watched.
    pub guard: GuardConfig,
    /// `[samples]`.
    pub samples: SamplesConfig,
    /// `[[score]]`.
    #[serde(default, rename = "score")]
    pub scores: Vec<ScoreConfig>,
    /// What `[dpo]` asks for, and what becomes of it where completions are sampled.
    #[serde(skip)]
    pub resolved: Resolved,
}

impl Configuration for DpoConfig {
    const COMMAND: &'static str = "dpo";
    const DEFAULTS: &'static str = include_str!("../../../../configs/dpo.toml");
    const WITHOUT: &'static [&'static str] =
        &["data.completion_only", "data.step_separator", "rollout.replay"];

    fn named(&mut self) -> Vec<Named<'_>> {
        let reference = self.resolved.reference.path.as_mut();
        let reference = reference.map(|path| Named::model("dpo.reference", path));
        let scores = ScoreConfig::named(&mut self.scores);
        self.shared.named().chain(reference).chain(scores).collect()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.shared.settle(true)?;
        let mut resolved = self.dpo.resolve()?;
        if self.shared.model.lora.is_some() && resolved.reference.sync.is_some() {
            let reason = "a mean of two adapters is no mean of their models; remove one of the two";
            return Err(Complaint::exclusive("dpo.reference_sync_steps", "lora", reason));
        }
        if self.shared.model.masters != MasterWeights::F32 && resolved.reference.sync.is_some() {
            let reason =
                "the mean of reference and policy would be lost in rounding; remove one of the two";
            return Err(Complaint::exclusive("dpo.reference_sync_steps", "model.masters", reason));
        }
        check_scores(&self.scores)?;
        self.guard.check(&self.scores)?;
        match self.method() {
            None => self.check_offline()?,
            Some(method) => {
                self.rollout.check()?;
                self.check_online(method, &resolved.objective)?;
                resolved.objective = self.online.fit(method, resolved.objective);
                // The loss is that of what was sampled.
                resolved.objective.temperature = *self.rollout.temperature;
            }
        }
        if self.shared.data.streaming {
            self.check_streaming(&resolved)?;
        }
        self.resolved = resolved;
        self.shared.model.check_weights(self.holds_frozen_reference())?;
        self.shared.check_records()
    }
}

impl DpoConfig {
    /// Refuses what needs all records before the first step.
    fn check_streaming(&self, resolved: &Resolved) -> Result<(), Complaint> {
        if self.method().is_some() {
            let reason = "prompts of a run that samples are read before its first step; set `data.streaming = false`";
            return Err(Complaint::exclusive("data.streaming", "dpo.online", reason));
        }
        if matches!(resolved.objective.kind, ObjectiveKind::Unpaired(_)) {
            let reason = "losses of single completions read completions of other prompts, and the order of all; set \
                          `data.streaming = false`";
            return Err(Complaint::exclusive("data.streaming", "dpo.loss", reason));
        }
        if resolved.reference.cache.is_some() {
            let reason = "log-probabilities of records that are read as they are wanted are stored nowhere; remove one \
                          of the two";
            return Err(Complaint::exclusive("data.streaming", "dpo.reference_cache", reason));
        }
        Ok(())
    }

    /// Whether the reference is a model beside the policy, and stays as it is.
    fn holds_frozen_reference(&self) -> bool {
        let ReferenceConfig { path, sync, .. } = &self.resolved.reference;
        match self.method() {
            None => path.is_some() && sync.is_none(),
            Some(method) => !self.moves_reference(method),
        }
    }

    /// Whether a run that samples has a reference that follows the policy.
    fn moves_reference(&self, method: SelectionMethod) -> bool {
        self.resolved.reference.sync.is_some() || method == SelectionMethod::Spin
    }

    /// What a run that samples reads between two iterations.
    pub(super) fn sampling_settings(&self, method: SelectionMethod) -> rollout::RolloutSettings {
        let path = &self.resolved.reference.path;
        let moves = self.moves_reference(method);
        rollout::RolloutSettings {
            section: "online",
            rollout: self.rollout.clone(),
            samples: self.samples.clone(),
            asked: match method {
                SelectionMethod::Spin => SampledRecords::Demonstrations,
                _ => SampledRecords::Prompts,
            },
            reference: Some(path.clone().unwrap_or_else(|| self.shared.model.path.clone())),
            reference_key: "dpo.reference",
            movement: if moves { Movement::Following } else { Movement::Frozen },
            // The pull towards the reference is part of the loss, and stays.
            beta: 0.0,
            steering: KlSteering { target_nats: None, horizon: 1.0 },
            kl_limit_nats: self.online.learning.kl_limit_nats.map(Positive::get),
            prompts: self.prompts(method),
            epochs: *self.online.learning.epochs,
            minibatches: *self.online.learning.minibatches,
            scores: self.scores.clone(),
            guard: Some(self.guard.clone()),
            normalize_scores: self.online.learning.normalize_scores,
            needs_scores: method != SelectionMethod::Spin && self.judge.who.is_none(),
        }
    }
}

impl Configured for DpoConfig {
    fn settings(&self) -> (SharedSections, Option<SamplesConfig>) {
        (self.shared.clone(), Some(self.samples.clone()))
    }
}
