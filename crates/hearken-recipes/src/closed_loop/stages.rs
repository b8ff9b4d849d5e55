//! The configurations of a round's trainers: their defaults, what follows from the round, the user's keys.

use std::path::{Path, PathBuf};

use hearken_config::{
    Complaint, ConfigError, Configuration, Frozen, Layers, LoadedConfig, LogConfig, RunConfig,
};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::reward::RewardConfig;
use toml::{Table, Value};

use super::config::PromptFiles;
use crate::rlhf::Sampled;
use crate::rlhf::stage_config::{StageOfRun, set, text};

/// What updates the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyKind {
    Ppo,
    Grpo,
    Dpo,
}

impl PolicyKind {
    /// The section, which is named as the command.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Ppo => PpoConfig::COMMAND,
            Self::Grpo => GrpoConfig::COMMAND,
            Self::Dpo => DpoConfig::COMMAND,
        }
    }
}

/// A round, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundPlace<'a> {
    /// From 1.
    pub(super) number: u64,
    pub(super) dir: &'a Path,
}

/// What becomes the configurations of a round's trainers.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    pub(super) layers: Layers,
    pub(super) run: RunConfig,
    pub(super) log: LogConfig,
    /// The policy that the first round begins with: every reward model starts from it, and KL is measured from it.
    pub(super) start: PathBuf,
    pub(super) prompts: PromptFiles,
    /// Whether judgements by models are learned from.
    pub(super) takes_ai: bool,
    /// The user's keys.
    pub(super) reward: Table,
    /// The user's keys.
    pub(super) policy: (PolicyKind, Table),
}

/// The trainer of a policy.
#[derive(Clone, Debug)]
pub(super) enum PolicyStage {
    Ppo(Box<LoadedConfig<PpoConfig>>),
    Grpo(Box<LoadedConfig<GrpoConfig>>),
    Dpo(Box<LoadedConfig<DpoConfig>>),
}

impl PolicyStage {
    pub(super) fn sampled(&self) -> Sampled<'_> {
        macro_rules! of {
            ($config:expr) => {
                Sampled {
                    data: &$config.shared.data,
                    model: &$config.shared.model,
                    rollout: &$config.rollout,
                    microbatch_tokens: $config.shared.train.microbatch_tokens,
                    seed: $config.shared.run.seed,
                }
            };
        }
        match self {
            Self::Ppo(loaded) => of!(loaded.config),
            Self::Grpo(loaded) => of!(loaded.config),
            Self::Dpo(loaded) => of!(loaded.config),
        }
    }

    pub(super) fn frozen(&self) -> &Frozen {
        match self {
            Self::Ppo(loaded) => &loaded.frozen,
            Self::Grpo(loaded) => &loaded.frozen,
            Self::Dpo(loaded) => &loaded.frozen,
        }
    }

    /// Trains it.
    pub(super) fn run<D: Device>(
        &self,
        device: D,
        start: Start,
        progress: &mut dyn Progress,
    ) -> Result<RunOutcome, TrainError> {
        match self {
            Self::Ppo(loaded) => ppo::run(device, loaded, start, progress),
            Self::Grpo(loaded) => grpo::run(device, loaded, start, progress),
            Self::Dpo(loaded) => dpo::run(device, loaded, start, progress),
        }
    }
}

impl Stages {
    /// Whether the stages of a round can be configured, before there is one.
    pub(super) fn check(&self, members: usize) -> Result<(), ConfigError> {
        let dir = &self.run.dir.join("rounds/001");
        let round = RoundPlace { number: 1, dir };
        self.reward(round, 1, &[dir.join("judged.jsonl")])?;
        let rewards: Vec<PathBuf> = (1..=members).map(|member| reward_dir(dir, member)).collect();
        self.policy(round, &self.start, &rewards, None).map(drop)
    }

    /// The reward model number `member` of a round, fit to the judgements of these files.
    pub(super) fn reward(
        &self,
        round: RoundPlace<'_>,
        member: usize,
        judged: &[PathBuf],
    ) -> Result<LoadedConfig<RewardConfig>, ConfigError> {
        let mut inputs = Table::new();
        set(&mut inputs, "model", "path", text(&self.start));
        let files = judged.iter().map(|file| text(file)).collect();
        set(&mut inputs, "data", "train", Value::Array(files));
        // Every judgement counts, those of models too where they are asked.
        let judgements =
            [("votes", Value::from("each")), ("min_votes", 1.into()), ("gold", false.into())];
        let more = [("min_agreement", Value::from(0.0)), ("ai", self.takes_ai.into())];
        let none = [("exclude_annotators", Value::Array(Vec::new()))];
        let judgements = judgements.into_iter().chain(more).chain(none);
        let judgements = judgements.map(|(key, value)| (key.to_owned(), value)).collect();
        set(&mut inputs, "data", "judgements", Value::Table(judgements));
        let stage = self.stage_of_run(self.seed("loop/reward", round.number, member));
        stage.configuration(&reward_dir(round.dir, member), inputs, self.reward.clone())
    }

    /// The update of the policy `current` by the scores of these reward models, on the prompts of the data and of `captured`.
    pub(super) fn policy(
        &self,
        round: RoundPlace<'_>,
        current: &Path,
        rewards: &[PathBuf],
        captured: Option<&Path>,
    ) -> Result<PolicyStage, ConfigError> {
        let mut inputs = Table::new();
        set(&mut inputs, "model", "path", text(current));
        let train = text(&self.prompts.train);
        let train = match captured {
            Some(captured) => Value::Array(vec![train, text(captured)]),
            None => train,
        };
        set(&mut inputs, "data", "train", train);
        set(&mut inputs, "data", "eval", text(&self.prompts.eval));
        let (kind, mut user) = self.policy.clone();
        fill_scores(&mut user, rewards);
        let stage = self.stage_of_run(self.seed("loop/policy", round.number, 0));
        let dir = policy_dir(round.dir);
        Ok(match kind {
            PolicyKind::Ppo => PolicyStage::Ppo(Box::new(stage.configuration(&dir, inputs, user)?)),
            PolicyKind::Grpo => {
                PolicyStage::Grpo(Box::new(stage.configuration(&dir, inputs, user)?))
            }
            PolicyKind::Dpo => {
                let samples =
                    user.get("dpo").is_some_and(|section| section.get("online").is_some());
                if !samples {
                    let expected = "one of the methods that sample, as \"dpo\"";
                    return Err(self.layers.error(Complaint::missing("dpo.dpo.online", expected)));
                }
                PolicyStage::Dpo(Box::new(stage.configuration(&dir, inputs, user)?))
            }
        })
    }

    fn stage_of_run(&self, seed: u64) -> StageOfRun<'_> {
        StageOfRun { layers: &self.layers, run: &self.run, log: self.log, seed }
    }

    /// The seed of a stage, which a file can hold.
    fn seed(&self, stage: &str, round: u64, member: usize) -> u64 {
        Seeds::new(self.run.seed).derive(stage, round, member as u64) >> 1
    }
}

/// Where the reward model number `member` of a round is trained.
pub(super) fn reward_dir(round: &Path, member: usize) -> PathBuf {
    round.join(format!("reward-{member}"))
}

/// Where the policy of a round is trained.
pub(super) fn policy_dir(round: &Path) -> PathBuf {
    round.join("policy")
}

/// A score of kind "model" without a path is the mean of the round's reward models; so is everything where no score is given.
fn fill_scores(user: &mut Table, rewards: &[PathBuf]) {
    let plain = || Value::Table(Table::from_iter([("kind".to_owned(), "model".into())]));
    let scores = user.entry("score").or_insert_with(|| Value::Array(vec![plain()]));
    let Value::Array(scores) = scores else { return };
    *scores = std::mem::take(scores).into_iter().flat_map(|score| spread(score, rewards)).collect();
}

/// One score for each reward model that it is the mean of.
fn spread(score: Value, rewards: &[PathBuf]) -> Vec<Value> {
    let Value::Table(table) = &score else { return vec![score] };
    let is_model = table.get("kind").and_then(Value::as_str) == Some("model");
    if !is_model || table.contains_key("path") {
        return vec![score];
    }
    let number = |value: &Value| value.as_float().or_else(|| Some(value.as_integer()? as f64));
    let weight = table.get("weight").map_or(Some(1.0), number);
    let label = table.get("label").and_then(Value::as_str).unwrap_or("model").to_owned();
    let of = |(at, reward): (usize, &PathBuf)| {
        let mut table = table.clone();
        table.insert("path".to_owned(), text(&reward.join("final")));
        // A weight that is no number is complained of as it stands.
        if let Some(weight) = weight {
            table.insert("weight".to_owned(), Value::Float(weight / rewards.len() as f64));
        }
        if 1 < rewards.len() {
            table.insert("label".to_owned(), Value::String(format!("{label}-{}", at + 1)));
        }
        Value::Table(table)
    };
    rewards.iter().enumerate().map(of).collect()
}
