//! The configuration of reward-model training.

use std::path::PathBuf;

use hearken_config::{
    AtLeastTwo, BelowHalf, Complaint, Configuration, MasterWeights, Named, NonNegative, Positive,
    SamplesConfig, SharedSections,
};
use hearken_data::StepScale;
use hearken_model::ParticleShape;
use hearken_objective::bradley_terry::{BradleyTerry, LabelNoise};
use hearken_run::encode::PreferenceExample;
use schemars::JsonSchema;
use serde::Deserialize;

use super::process::StepLabels;
use super::two_heads::LengthHead;
use crate::records::Configured;

/// What `hearken reward` reads; `configs/reward.toml` says what each key does.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// The sections that every trainer reads.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub shared: SharedSections,
    /// `[reward]`.
    pub reward: RewardObjective,
}

/// What a reward model learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Pairs of completions, one of them preferred.
    Preference,
    /// Completions that are right or wrong as a whole.
    Outcome,
    /// Solutions whose steps are right or wrong.
    Process,
}

/// What becomes of neutral steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeutralSteps {
    /// They are as good as good ones.
    Good,
    /// They are as bad as bad ones.
    Bad,
    /// They are left out.
    Drop,
}

/// Which labels count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelledSteps {
    /// Those of all steps.
    Every,
    /// Those up to the first bad step.
    FirstError,
}

/// What numbers say as labels of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// 0 is bad, 1 good, and what lies between the probability of good.
    Binary,
    /// −1 is bad, 0 neutral, 1 good.
    Ternary,
}

/// What is made of labels that may be turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flips {
    /// The likelihood of what was said: a label that is surely wrong pulls little.
    Likelihood,
    /// The loss whose expectation is that of the labels as they were.
    Unbiased,
}

/// `[reward]`: what is learned, and how scores are measured afterwards.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardObjective {
    /// What is learned from.
    pub kind: Kind,
    /// Weight of (score of chosen + score of rejected)².
    pub center_coef: NonNegative,
    /// Probability with which a label is taken to be wrong.
    pub label_smoothing: BelowHalf,
    /// Share of the labels that are taken to be turned round.
    pub flip_rate: BelowHalf,
    /// What is made of labels that may be turned round.
    pub flips: Flips,
    /// Weight of what takes length out of the score, into a head of its own.
    pub length_coef: NonNegative,
    /// Weight of what keeps the two heads' weights orthogonal.
    pub orthogonal_coef: NonNegative,
    /// Particles beside the score head.
    pub particles: usize,
    /// Width of the hidden layers of a particle's networks.
    pub particle_width: AtLeastTwo,
    /// How far priors are apart at first.
    pub prior_scale: Positive,
    /// Whether the margin of a record counts.
    pub use_margin: bool,
    /// Whether the probability of a record counts.
    pub use_probability: bool,
    /// Completions on which mean and deviation of the scores are measured.
    pub normalize_on: Option<PathBuf>,
    /// The most completions measured.
    pub normalize_count: AtLeastTwo,
    /// Of "process": two classes, bad and good, or three, with neutral between them.
    pub classes: Option<usize>,
    /// Of "process": what becomes of neutral steps.
    pub neutral: Option<NeutralSteps>,
    /// Of "process": which labels count.
    pub steps: Option<LabelledSteps>,
    /// Of "process": what labels that are numbers say.
    pub scale: Option<Scale>,
}

impl RewardObjective {
    /// The loss of a pair.
    pub fn objective(&self) -> BradleyTerry {
        let (epsilon, rate) = (*self.label_smoothing, *self.flip_rate);
        let noise = match self.flips {
            _ if 0.0 < epsilon => LabelNoise::Smoothing { epsilon },
            _ if rate == 0.0 => LabelNoise::None,
            Flips::Likelihood => LabelNoise::flips(rate),
            Flips::Unbiased => LabelNoise::Unbiased { epsilon: rate },
        };
        BradleyTerry { noise, centering: *self.center_coef }
    }

    /// The weights of what takes length out of the score; `None` where nothing does.
    pub(super) fn length_head(&self) -> Option<LengthHead> {
        let (length, orthogonal) = (*self.length_coef, *self.orthogonal_coef);
        (0.0 < length).then_some(LengthHead { length, orthogonal })
    }

    /// The particles that are trained beside the score; `None` where there are none.
    pub(super) fn particles(&self) -> Option<ParticleShape> {
        let (width, prior_scale) = (*self.particle_width, *self.prior_scale);
        (0 < self.particles).then_some(ParticleShape { count: self.particles, width, prior_scale })
    }

    /// Refuses keys that say nothing to the kind.
    fn check(&self) -> Result<(), Complaint> {
        let of_process = [
            ("classes", self.classes.is_some()),
            ("neutral", self.neutral.is_some()),
            ("steps", self.steps.is_some()),
            ("scale", self.scale.is_some()),
        ];
        let of_pairs = [
            ("center_coef", 0.0 < *self.center_coef),
            ("label_smoothing", 0.0 < *self.label_smoothing),
            ("flip_rate", 0.0 < *self.flip_rate),
            ("length_coef", 0.0 < *self.length_coef),
            ("particles", 0 < self.particles),
        ];
        let of_scores = [("normalize_on", self.normalize_on.is_some())];
        let (others, reason): (Vec<_>, _) = match self.kind {
            Kind::Preference => (of_process.to_vec(), "only `kind = \"process\"` reads it"),
            Kind::Outcome => {
                ([&of_process[..], &of_pairs].concat(), "`kind = \"outcome\"` does not read it")
            }
            Kind::Process => {
                ([&of_pairs[..], &of_scores].concat(), "`kind = \"process\"` does not read it")
            }
        };
        if let Some((key, _)) = others.iter().find(|(_, given)| *given) {
            return Err(Complaint::exclusive(&format!("reward.{key}"), "reward.kind", reason));
        }
        if 0.0 < *self.label_smoothing && 0.0 < *self.flip_rate {
            let reason = "both say how often labels are wrong";
            return Err(Complaint::exclusive("reward.label_smoothing", "reward.flip_rate", reason));
        }
        let expected = "0, or at least 2: they say how sure a score is by how far they are apart";
        Complaint::unless(self.particles != 1, "reward.particles", self.particles, expected)?;
        if 0 < self.particles && self.length_head().is_some() {
            let reason = "particles are beside one score, and a head for the length is thrown away";
            return Err(Complaint::exclusive("reward.particles", "reward.length_coef", reason));
        }
        let classes = self.classes.unwrap_or(2);
        Complaint::unless([2, 3].contains(&classes), "reward.classes", classes, "2 or 3")?;
        if classes == 3 && self.neutral == Some(NeutralSteps::Drop) {
            let reason = "three classes have one for neutral steps: at scoring it counts as \"good\" or \"bad\"";
            return Err(Complaint::exclusive("reward.neutral", "reward.classes", reason));
        }
        if classes == 3 && self.scale == Some(Scale::Binary) {
            let reason = "three classes are labelled -1, 0 and 1, which is \"ternary\"";
            return Err(Complaint::exclusive("reward.scale", "reward.classes", reason));
        }
        Ok(())
    }

    /// How the labels of steps are read, for `kind = "process"`.
    pub(super) fn step_labels(&self) -> StepLabels {
        let classes = self.classes.unwrap_or(2);
        StepLabels {
            classes,
            neutral: self.neutral.unwrap_or(NeutralSteps::Good),
            steps: self.steps.unwrap_or(LabelledSteps::Every),
            scale: match (self.scale, classes) {
                (None, 3) | (Some(Scale::Ternary), _) => StepScale::Ternary,
                _ => StepScale::Binary,
            },
        }
    }

    /// Forgets the columns that are not used.
    pub(super) fn apply_columns(&self, example: &mut PreferenceExample) {
        if !self.use_margin {
            example.margin = 0.0;
        }
        if !self.use_probability {
            example.probability = 1.0;
        }
    }
}

impl Configuration for RewardConfig {
    const COMMAND: &'static str = "reward";
    const DEFAULTS: &'static str = include_str!("../../../../configs/reward.toml");
    const WITHOUT: &'static [&'static str] = &["data.completion_only", "train.sample_every"];

    fn named(&mut self) -> Vec<Named<'_>> {
        let normalize = self.reward.normalize_on.as_mut();
        let normalize = normalize.map(|path| Named::records("reward.normalize_on", path));
        self.shared.named().chain(normalize).collect()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        self.reward.check()?;
        self.shared.settle(false)?;
        if self.reward.length_head().is_some() && self.shared.model.lora.is_some() {
            let reason = "a head for the length is trained with the whole model";
            return Err(Complaint::exclusive("reward.length_coef", "lora", reason));
        }
        let model = &self.shared.model;
        if self.reward.particles().is_some() && model.lora.is_some() {
            let reason = "particles are trained with the whole model";
            return Err(Complaint::exclusive("reward.particles", "lora", reason));
        }
        if self.reward.particles().is_some() && model.masters != MasterWeights::F32 {
            let reason = "particles are trained in f32";
            return Err(Complaint::exclusive("reward.particles", "model.masters", reason));
        }
        self.shared.check_records()
    }
}

impl Configured for RewardConfig {
    fn settings(&self) -> (SharedSections, Option<SamplesConfig>) {
        (self.shared.clone(), None)
    }
}
