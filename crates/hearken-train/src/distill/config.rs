//! The configuration of distillation.

use hearken_config::{
    AtLeastOne, Complaint, Configuration, Fraction, KlSteering, Named, Positive, RolloutConfig,
    SamplesConfig, ScoreConfig, SharedSections, TeacherPlace, TeacherSection, check_scores,
};
use hearken_objective::distillation::Divergence;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::rollout::feed::SampledRecords;
use crate::rollout::settings::{Configured, Movement, RolloutSettings};

/// What `hearken distill` reads; `configs/distill.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// The sections that every trainer reads.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub shared: SharedSections,
    /// `[rollout]`.
    pub rollout: RolloutConfig,
    /// `[teacher]`.
    pub teacher: TeacherSection,
    /// `[distill]`.
    pub distill: DistillSettings,
    /// `[samples]`.
    pub samples: SamplesConfig,
    /// `[[score]]`: what evaluations measure besides.
    #[serde(default, rename = "score")]
    pub scores: Vec<ScoreConfig>,
}

/// `[distill]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistillSettings {
    /// Which divergence is minimized: 0 is the forward KL, 1 the reverse one, between them the generalized
    /// Jensen–Shannon divergence.
    pub beta: Fraction,
    /// The share of iterations whose completions the student writes; those of the others are the data's, or the teacher's.
    pub lambda: Fraction,
    /// Whether the teacher writes completions in place of the data (sequence-level distillation).
    pub seq_kd: bool,
    /// The logits of both are divided by it before they are compared.
    pub temperature: Positive,
    /// Passes over an iteration's completions.
    pub epochs: AtLeastOne,
    /// Optimizer steps per pass.
    pub minibatches: AtLeastOne,
    /// Whether reward models apply what is stored beside them.
    pub normalize_scores: bool,
}

impl Configuration for DistillConfig {
    const COMMAND: &'static str = "distill";
    const DEFAULTS: &'static str = include_str!("../../../../configs/distill.toml");
    const WITHOUT: &'static [&'static str] = &[
        "data.completion_only",
        "data.step_separator",
        "data.judgements",
        "data.streaming",
        "data.shuffle_buffer",
        "rollout.replay",
        "rollout.ahead",
    ];

    fn named(&mut self) -> Vec<Named<'_>> {
        let teacher = self.teacher.path.iter_mut().map(|path| Named::model("teacher.path", path));
        let named = self.shared.named().chain(teacher);
        named.chain(ScoreConfig::named(&mut self.scores)).collect()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        let place = self.teacher.place()?;
        let is_held = matches!(place, TeacherPlace::Here(_));
        self.shared.settle(is_held)?;
        self.rollout.check()?;
        check_scores(&self.scores)?;
        self.check_completions()?;
        self.shared.check_records()
    }
}

impl DistillConfig {
    /// Where the teacher is.
    pub(super) fn place(&self) -> TeacherPlace<'_> {
        self.teacher.place().expect("a configuration that was settled")
    }

    /// Completions of an iteration.
    pub fn rollouts_per_iteration(&self) -> usize {
        *self.shared.train.batch_size * *self.distill.minibatches
    }

    /// Whether some of the completions are the data's.
    fn reads_completions(&self) -> bool {
        *self.distill.lambda < 1.0 && !self.distill.seq_kd
    }

    fn check_completions(&self) -> Result<(), Complaint> {
        let (rollouts, completions) = (self.rollouts_per_iteration(), *self.rollout.completions);
        if self.distill.seq_kd {
            let is_here = matches!(self.place(), TeacherPlace::Here(_));
            let expected = "a teacher in this process (`teacher.path`): it writes completions";
            Complaint::unless(is_here, "distill.seq_kd", true, expected)?;
        }
        let expected = "1 with `distill.lambda` below 1: the data have one completion of a prompt";
        let holds = completions == 1 || !self.reads_completions();
        Complaint::unless(holds, "rollout.completions", completions, expected)?;
        let expected = format!("a divisor of batch_size · minibatches = {rollouts}");
        let holds = rollouts.is_multiple_of(completions);
        Complaint::unless(holds, "rollout.completions", completions, &expected)
    }

    /// What is minimized, and what is known of the teacher.
    pub(super) fn notes(&self) -> Vec<String> {
        let divergence = match Divergence::of(*self.distill.beta) {
            Divergence::ForwardKl => "KL(teacher ‖ student)".to_owned(),
            Divergence::ReverseKl => "KL(student ‖ teacher)".to_owned(),
            Divergence::JensenShannon { beta } => {
                format!("the generalized Jensen–Shannon divergence with β = {beta}")
            }
        };
        let mut notes = vec![format!("minimized: {divergence}, mean over tokens")];
        match self.place() {
            TeacherPlace::Here(path) => notes.push(format!("teacher: {}", path.display())),
            TeacherPlace::Served(url) => notes.push(format!(
                "teacher: {url}, which says the {} likeliest tokens (`teacher.top_k`); the others count as one, so \
                 that the loss is a lower bound of the divergence",
                *self.teacher.top_k
            )),
        }
        notes
    }
}

impl Configured for DistillConfig {
    fn settings(&self) -> (SharedSections, RolloutSettings) {
        let reference = match self.place() {
            TeacherPlace::Here(path) => Some(path.to_owned()),
            TeacherPlace::Served(_) => None,
        };
        let settings = RolloutSettings {
            section: "distill",
            rollout: self.rollout.clone(),
            samples: self.samples.clone(),
            asked: if self.reads_completions() {
                SampledRecords::Demonstrations
            } else {
                SampledRecords::Prompts
            },
            reference,
            reference_key: "teacher.path",
            movement: Movement::Frozen,
            // There is no penalty beside the divergence.
            beta: 0.0,
            steering: KlSteering { target_nats: None, horizon: 1.0 },
            kl_limit_nats: None,
            prompts: self.rollouts_per_iteration() / *self.rollout.completions,
            epochs: *self.distill.epochs,
            minibatches: *self.distill.minibatches,
            scores: self.scores.clone(),
            guard: None,
            normalize_scores: self.distill.normalize_scores,
            needs_scores: false,
        };
        (self.shared.clone(), settings)
    }
}
