//! The configuration of the closed loop.

use std::path::{Path, PathBuf};

use hearken_config::{
    AtLeastOne, AtLeastTwo, Complaint, ConfigError, Configuration, Fraction, Layers, Limit,
    LoadedConfig, LogConfig, Named, NonNegative, Pattern, RunConfig, SchemaKeys, ScoreConfig,
    Share, check_scores, unless_zero,
};
use hearken_reward_source::judging::{AskedTask, JudgingConfig};
use hearken_train::dpo::DpoConfig;
use hearken_train::grpo::GrpoConfig;
use hearken_train::ppo::PpoConfig;
use hearken_train::reward::RewardConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::asking::Order;
use super::stages::{PolicyKind, Stages};

/// The file that lists every key; what stands in its sections that are the loop's own are their defaults.
const EXAMPLE: &str = include_str!("../../../../configs/loop.toml");

/// What every run has by default where a file says nothing.
const DEFAULTS: &str = "[run]\n# dir = required\nseed = 0\ndisk_limit_gb = 0\nmemory_limit_gb = 0\n\
                        # save_dtype = as the model's\nshard_size_gb = 5\n\
                        [log]\ntensorboard = false\ncsv = false\n";

/// The sections that the loop itself reads, with defaults.
const OWN: [&str; 5] = ["rounds", "candidates", "ask", "labels", "gate"];

/// What `hearken loop` reads.
#[derive(Clone, Debug)]
pub struct LoopConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[rounds]`.
    pub rounds: RoundsConfig,
    /// `[candidates]`.
    pub candidates: CandidatesConfig,
    /// `[ask]`.
    pub ask: AskConfig,
    /// `[labels]`.
    pub labels: LabelsConfig,
    /// `[judge]`: who labels, or decides at the gate, as `hearken judge` reads it.
    pub judge: Option<LoadedConfig<JudgingConfig>>,
    /// `[gate]`.
    pub gate: GateConfig,
    /// `[serve]`: the server that gets what is promoted.
    pub serve: Option<ServeConfig>,
    /// `[capture]`: conversations with the served model.
    pub capture: Option<CaptureConfig>,
    /// What becomes the configurations of a round's trainers.
    pub(super) stages: Stages,
}

/// The sections of a file; those of a stage are `Judge`, `Reward`, `Ppo`, `Grpo` and `Dpo`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sections<Judge, Reward, Ppo, Grpo, Dpo> {
    /// `[run]`.
    run: RunConfig,
    /// `[log]`: what every trainer writes beside `metrics.jsonl`.
    log: LogConfig,
    /// `[model]`: the policy that the first round begins with.
    model: StartModel,
    /// `[data]`: prompts.
    data: PromptFiles,
    /// `[rounds]`.
    rounds: RoundsConfig,
    /// `[candidates]`.
    candidates: CandidatesConfig,
    /// `[ask]`.
    ask: AskConfig,
    /// `[labels]`.
    labels: LabelsConfig,
    /// `[judge]`: a judge, with the sections of `hearken judge`.
    judge: Option<Judge>,
    /// `[reward]`: the sections of reward-model training.
    reward: Reward,
    /// `[ppo]`: the sections of PPO.
    ppo: Option<Ppo>,
    /// `[grpo]`: the sections of group-relative training.
    grpo: Option<Grpo>,
    /// `[dpo]`: the sections of preference optimization, online.
    dpo: Option<Dpo>,
    /// `[gate]`.
    gate: GateConfig,
    /// `[serve]`.
    serve: Option<ServeConfig>,
    /// `[capture]`.
    capture: Option<CaptureConfig>,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartModel {
    /// A folder with config.json and model.safetensors.
    pub(super) path: PathBuf,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptFiles {
    /// A file of prompts to ask about and to train on.
    pub(super) train: PathBuf,
    /// A file of prompts for the gate, which nothing is trained on.
    pub(super) eval: PathBuf,
}

/// `[rounds]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundsConfig {
    /// How many rounds there are.
    pub count: AtLeastOne,
    /// Of which rounds that were rolled back the labels are learned from no more.
    pub set_aside: SetAside,
}

/// Of which rounds that were rolled back the labels are learned from no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetAside {
    /// Of none.
    Never,
    /// Of those whose policy is worse than the one before it, as the bets of the gate say.
    Worse,
    /// Of all.
    Always,
}

/// `[candidates]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidatesConfig {
    /// Prompts of a round.
    pub prompts: AtLeastOne,
    /// Completions of each, of which pairs are asked about.
    pub completions: AtLeastTwo,
}

/// `[ask]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskConfig {
    /// Pairs that are asked about in a round.
    pub pairs: AtLeastOne,
    /// Which ones.
    pub order: Order,
    /// The share of them that is drawn at random.
    pub random_share: Fraction,
    /// The least that the order must find a pair worth to be asked about for certain; the loop ends where it finds none. 0 = whatever it
    /// is worth.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub worth_min: Option<Limit>,
    /// Reward models that are fit to the labels, each from a seed of its own.
    pub members: AtLeastOne,
}

/// `[labels]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// Who says which of two completions is better.
    pub by: Labeller,
    /// Of simulated users, how sure they are.
    pub sharpness: NonNegative,
    /// Of simulated users, the share of their labels that is turned round.
    pub noise: Fraction,
    /// The rounds in which it is; none are all.
    pub noise_rounds: Vec<usize>,
    /// A store of the labelling service.
    pub store: Option<String>,
    /// The share of the pairs that must be judged in the store before the round goes on.
    pub enough: Share,
    /// Seconds between two looks into the store; 0 ends the command until it is started again.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub poll_s: Option<Limit>,
}

/// Who labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Labeller {
    /// The hidden preference of the quickstart, with noise.
    Simulated,
    /// The judges of `[judge]`.
    Judge,
    /// People, through a store of the labelling service.
    Store,
}

/// `[gate]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// Who says which of two policies has the better completion.
    pub by: Decider,
    /// The most held-out prompts that both policies complete.
    pub prompts: AtLeastTwo,
    /// The most rounds that promote a policy which is not better, as a share.
    pub alpha: Share,
    /// The most KL divergence to the first policy, in nats per completion; 0 is no limit.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub kl_max: Option<Limit>,
    /// The most times as long as those of the current policy that completions are on average; 0 is no limit.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub length_ratio_max: Option<Limit>,
    /// The least share of completions that differ from all before them.
    pub distinct_min: Fraction,
    /// A pattern whose first group names the category of a prompt.
    pub category: Option<Pattern>,
    /// A pattern of completions that refuse.
    pub refusal: Option<Pattern>,
    /// The most by which the share of refusals may rise.
    pub refusal_rise_max: Fraction,
    /// Who promotes a policy that has passed.
    pub approve: Approval,
    /// `[[gate.score]]`: what decides by scores.
    #[serde(default, rename = "score")]
    pub scores: Vec<ScoreConfig>,
}

/// Who says which of two policies has the better completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// The weighted sum of `[[gate.score]]`.
    Score,
    /// The judges of `[judge]`.
    Judge,
    /// People, through the store of `[labels]`.
    People,
}

/// Who promotes a policy that has passed the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody: the gate does.
    Auto,
    /// Somebody who says so.
    Manual,
}

/// `[serve]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// The URL of a running `hearken serve`.
    pub url: String,
    /// The environment variable that has its key, if one is needed.
    pub key_env: Option<String>,
    /// The name of the served model; without it the server's first.
    pub model: Option<String>,
    /// `[serve.canary]`: what has passed the gate answers a share of the conversations before it is promoted.
    pub canary: Option<CanaryConfig>,
}

/// `[serve.canary]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryConfig {
    /// The share of the conversations.
    pub share: Share,
    /// Comparisons by what users say after which it is promoted, unless they find it worse before.
    pub comparisons: AtLeastOne,
    /// Seconds between two looks; 0 ends the command until it is started again.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub poll_s: Option<Limit>,
}

/// `[capture]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureConfig {
    /// The file that `hearken serve --log` writes: what people ask becomes prompts, what they say of answers labels.
    pub log: Option<PathBuf>,
    /// A store of the labelling service: the same of conversations on its page *Live*.
    pub store: Option<String>,
    /// The days after which neither is read; 0 = all are.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub days: Option<Limit>,
}

impl LoopConfig {
    /// The commented file.
    pub const EXAMPLE: &'static str = EXAMPLE;

    /// Reads `file`, with `overrides` over it, and checks the stages of a round before the first begins.
    ///
    /// # Errors
    /// Names the file, the line and the key that is not usable.
    pub fn load(file: &Path, overrides: &[String]) -> Result<LoadedConfig<Self>, ConfigError> {
        let mut layers = Layers::read(DEFAULTS, file, overrides)?.of_program("loop");
        let given = layers.table().clone();
        layers.merge(own_defaults());
        layers.merge(given);
        let keys = Self::keys();
        layers.check(&keys)?;
        let error = |complaint| layers.error(complaint);
        let (sections, missing): (Sections<Table, Table, Table, Table, Table>, _) =
            layers.parse(&keys)?;
        missing.map_or(Ok(()), Err).map_err(error)?;
        let policies = [
            (PolicyKind::Ppo, sections.ppo),
            (PolicyKind::Grpo, sections.grpo),
            (PolicyKind::Dpo, sections.dpo),
        ];
        let mut policies = policies.into_iter().filter_map(|(kind, table)| Some((kind, table?)));
        let policy = policies.next().ok_or_else(|| {
            let expected = "[grpo.…], [ppo.…] or [dpo.…]: what updates the policy";
            error(Complaint::missing("grpo", expected))
        })?;
        if let Some((other, _)) = policies.next() {
            let reason = "one of the two updates the policy; remove the other";
            let (one, other) = (policy.0.command(), other.command());
            return Err(error(Complaint::exclusive(one, other, reason)));
        }
        let judge = sections.judge.map(|user| {
            let defaults = JudgingConfig::defaults(layers.file());
            JudgingConfig::from_layers(layers.stage("judge", defaults, user))
        });
        let stages = Stages {
            layers: layers.clone(),
            run: sections.run.clone(),
            log: sections.log,
            start: sections.model.path,
            prompts: sections.data,
            takes_ai: sections.labels.by == Labeller::Judge,
            reward: sections.reward,
            policy,
        };
        let config = Self {
            judge: judge.transpose()?,
            run: sections.run,
            rounds: sections.rounds,
            candidates: sections.candidates,
            ask: sections.ask,
            labels: sections.labels,
            gate: sections.gate,
            serve: sections.serve,
            capture: sections.capture,
            stages,
        };
        config.check().map_err(error)?;
        config.stages.check(*config.ask.members)?;
        Ok(LoadedConfig { config, frozen: layers.freeze("loop") })
    }

    /// What several keys say together.
    fn check(&self) -> Result<(), Complaint> {
        let Self { labels, gate, .. } = self;
        let asks_judge = labels.by == Labeller::Judge || gate.by == Decider::Judge;
        match &self.judge {
            None if asks_judge => {
                return Err(Complaint::missing("judge.judge", "[[judge.judge]]: who is asked"));
            }
            Some(judge) => {
                let compares = judge.config.ask.task != AskedTask::Rate;
                let expected = "\"compare\": pairs are asked about";
                Complaint::unless(compares, "judge.ask.task", "\"rate\"", expected)?;
            }
            None => {}
        }
        let asks_people = labels.by == Labeller::Store || gate.by == Decider::People;
        if asks_people && labels.store.is_none() {
            let expected = "a store of the labelling service, in which people judge";
            return Err(Complaint::missing("labels.store", expected));
        }
        if gate.by == Decider::Score && gate.scores.is_empty() {
            let expected = "[[gate.score]]: what decides between two policies";
            return Err(Complaint::missing("gate.score", expected));
        }
        check_scores(&gate.scores)?;
        let ask = &self.ask;
        if ask.worth_min.is_some() && !ask.order.has_worth() {
            let expected = "0: this order finds nothing that a pair is worth by itself";
            let found = ask.worth_min.map_or(0.0, |worth| *worth);
            return Complaint::unless(false, "ask.worth_min", found, expected);
        }
        let holds = *gate.alpha < 0.5;
        Complaint::unless(holds, "gate.alpha", *gate.alpha, "a number above 0, below 0.5")?;
        if self.capture.as_ref().is_some_and(|from| from.log.is_none() && from.store.is_none()) {
            let expected = "the file that `hearken serve --log` writes, or `capture.store`";
            return Err(Complaint::missing("capture.log", expected));
        }
        let count = *self.rounds.count;
        let outside = labels.noise_rounds.iter().find(|round| **round == 0);
        let expected = format!("numbers of rounds, from 1 to {count}");
        Complaint::unless(outside.is_none(), "labels.noise_rounds", "0", &expected)
    }

    /// The models and records that are read: whoever knows the hub puts the folders there that names of it lead to.
    pub fn named(&mut self) -> Vec<Named<'_>> {
        let Stages { start, prompts, .. } = &mut self.stages;
        vec![
            Named::model("model.path", start),
            Named::records("data.train", &mut prompts.train),
            Named::records("data.eval", &mut prompts.eval),
        ]
    }

    fn keys() -> SchemaKeys {
        type All = Sections<JudgingConfig, RewardConfig, PpoConfig, GrpoConfig, DpoConfig>;
        SchemaKeys::of::<All>("loop", &[])
    }

    /// The JSON schema of its files.
    pub fn schema() -> serde_json::Value {
        let parsed = |text: &str| -> Table { text.parse().expect("embedded defaults are TOML") };
        let mut defaults = parsed(DEFAULTS);
        for (stage, text) in [
            ("reward", RewardConfig::DEFAULTS),
            ("ppo", PpoConfig::DEFAULTS),
            ("grpo", GrpoConfig::DEFAULTS),
            ("dpo", DpoConfig::DEFAULTS),
            ("judge", JudgingConfig::DEFAULTS),
        ] {
            defaults.insert(stage.to_owned(), Value::Table(parsed(text)));
        }
        defaults.extend(own_defaults());
        Self::keys().to_json_schema(&defaults)
    }
}

/// The defaults of the sections that the loop itself reads: those of its file, but for the scores of the gate, which are an example.
fn own_defaults() -> Table {
    let mut defaults: Table = EXAMPLE.parse().expect("embedded defaults are valid TOML");
    defaults.retain(|section, _| OWN.contains(&section));
    if let Some(Value::Table(gate)) = defaults.get_mut("gate") {
        gate.remove("score");
    }
    defaults
}
