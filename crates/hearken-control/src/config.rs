//! What `hearken control` reads; `configs/control.toml` says what each key does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearken_config::{
    AtLeastOne, BelowOne, Complaint, Configuration, Finite, LogConfig, Named, NonNegative,
    OptimizerConfig, Positive, RunConfig, Share, Steps, count_unless_zero, unless_zero,
};
use hearken_env::{
    ActionSpace, ControlTask, EnvironmentId, EnvironmentSetup, Making, ServedBy, ServerOptions,
    expected_names,
};
use hearken_objective::adversarial::AdversarialReward;
use hearken_tensor::dense::Nonlinearity;
use schemars::JsonSchema;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::convolution::Convolution;
use crate::network::Trunk;
use crate::query::Selection;
use crate::schedule::LabelSchedule;
use crate::teacher::Teacher;

/// The configuration of `hearken control train`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[environment]`.
    pub environment: EnvironmentConfig,
    /// `[network]`.
    pub network: NetworkConfig,
    /// `[train]`.
    pub train: TrainConfig,
    /// `[ppo]`.
    pub ppo: PpoConfig,
    /// `[sac]`.
    pub sac: SacConfig,
    /// `[preference]`: rewards that are learned from comparisons.
    pub preference: PreferenceConfig,
    /// `[imitation]`: policies that do as demonstrations do.
    pub imitation: ImitationConfig,
    /// `[optimizer]`.
    pub optimizer: OptimizerConfig,
    /// `[log]`.
    pub log: LogConfig,
}

/// `[environment]`: what is acted in.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// The environment, by Gymnasium's id, or as `gymnasium:NAME` or `served:NAME` one of another process.
    #[serde(deserialize_with = "environment_id")]
    #[schemars(with = "String")]
    pub id: EnvironmentId,
    /// Copies that are stepped side by side.
    pub copies: AtLeastOne,
    /// A reward that a run of imitation has left, in place of the environment's: its folder.
    pub reward: Option<PathBuf>,
    /// `[environment.server]`: of environments of another process.
    pub server: ServerConfig,
}

/// `[environment.server]`: how environments of another process are started and made.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The Python that has Gymnasium, for `gymnasium:NAME`.
    pub python: String,
    /// The program that serves `served:NAME`, and its arguments.
    pub command: Vec<String>,
    /// Seconds that an answer may take.
    pub timeout_s: Positive,
    /// Whether the same seed and actions always lead to the same state.
    pub deterministic: bool,
    /// Python modules that are imported first, for the environments that they register.
    pub modules: Vec<String>,
    /// Arguments of the environment, as a JSON object.
    #[serde(deserialize_with = "json_object")]
    #[schemars(with = "String")]
    pub options: Map<String, Value>,
    /// Observations that are seen at once: the last ones.
    pub frame_stack: AtLeastOne,
    /// How often an action is done.
    pub frame_skip: AtLeastOne,
    /// Whether images lose their colors.
    pub grayscale: bool,
    /// Height and width that images are brought to.
    #[serde(default, deserialize_with = "sides")]
    #[schemars(with = "Option<[AtLeastOne; 2]>")]
    pub resize: Option<[usize; 2]>,
}

fn json_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let text = String::deserialize(deserializer)?;
    serde_json::from_str(&text).map_err(|_| {
        D::Error::invalid_value(
            Unexpected::Str(&text),
            &"a JSON object, such as '{\"frameskip\": 1}'",
        )
    })
}

fn sides<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[usize; 2]>, D::Error> {
    const SIDE_MAX: usize = 1024;
    let sides = <[AtLeastOne; 2]>::deserialize(deserializer)?.map(AtLeastOne::get);
    match sides.into_iter().find(|&side| SIDE_MAX < side) {
        None => Ok(Some(sides)),
        Some(side) => {
            let found = side.to_string();
            Err(D::Error::invalid_value(Unexpected::Other(&found), &"at most 1024 pixels"))
        }
    }
}

impl EnvironmentConfig {
    /// The environment, and how it is started.
    pub fn setup(&self) -> EnvironmentSetup {
        let ServerConfig { python, command, timeout_s, deterministic, modules, .. } = &self.server;
        let making = Making {
            modules: modules.clone(),
            options: self.server.options.clone(),
            frame_stack: *self.server.frame_stack,
            frame_skip: *self.server.frame_skip,
            grayscale: self.server.grayscale,
            resize: self.server.resize,
        };
        let server = ServerOptions {
            python: python.clone(),
            command: command.clone(),
            timeout: std::time::Duration::from_secs_f64(**timeout_s),
            is_deterministic: *deterministic,
            making,
        };
        EnvironmentSetup { id: self.id.clone(), server }
    }
}

fn environment_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EnvironmentId, D::Error> {
    let name = String::deserialize(deserializer)?;
    let expected = expected_names();
    name.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&name), &expected.as_str()))
}

/// What stands between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    Relu,
    /// max(x, 0.01·x).
    LeakyRelu,
}

impl From<Activation> for Nonlinearity {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Tanh => Self::Tanh,
            Activation::Relu => Self::Relu,
            Activation::LeakyRelu => Self::LeakyRelu,
        }
    }
}

/// `[network]`: policy and critic.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Convolutions of images, first to last: outputs, pixels of a kernel's side, and from one place to the next.
    #[serde(deserialize_with = "convolutions")]
    #[schemars(with = "Vec<[AtLeastOne; 3]>")]
    pub convolutions: Vec<Convolution>,
    /// Widths of the layers between observation and output.
    #[serde(deserialize_with = "widths")]
    #[schemars(with = "Vec<AtLeastOne>")]
    pub hidden: Vec<usize>,
    /// What stands between layers.
    pub activation: Activation,
    /// Whether observations are brought to scale by their running mean and deviation.
    pub normalize_observations: bool,
    /// Whether rewards are brought to scale by the running deviation of discounted returns.
    pub normalize_rewards: bool,
}

fn convolutions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Convolution>, D::Error> {
    let layers = Vec::<[AtLeastOne; 3]>::deserialize(deserializer)?;
    let layer = |[outputs, kernel, stride]: [AtLeastOne; 3]| Convolution {
        outputs: *outputs,
        kernel: *kernel,
        stride: *stride,
    };
    Ok(layers.into_iter().map(layer).collect())
}

impl NetworkConfig {
    /// The inside of a network.
    pub fn trunk(&self) -> Trunk<'_> {
        Trunk {
            convolutions: &self.convolutions,
            hidden: &self.hidden,
            nonlinearity: self.activation.into(),
        }
    }
}

fn widths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    let widths = Vec::<AtLeastOne>::deserialize(deserializer)?;
    Ok(widths.into_iter().map(AtLeastOne::get).collect())
}

/// How a policy is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Proximal policy optimization.
    Ppo,
    /// Soft actor-critic, for continuous actions.
    Sac,
}

/// `[train]`: how long a run is, and when something is written.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// How the policy is learned.
    pub algorithm: Algorithm,
    /// Steps in all copies together.
    pub environment_steps: Steps,
    /// Minutes of work from one checkpoint to the next; 0 makes none but at the end.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub save_minutes: Option<NonNegative>,
    /// Environment steps from one evaluation to the next; 0 evaluates at both ends of the run.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub eval_every: Option<u64>,
    /// Episodes of an evaluation.
    pub eval_episodes: AtLeastOne,
    /// The most pictures of the clips of before and after; 0 makes none, nor are there any of environments of other processes.
    pub clip_frames: usize,
}

/// `[ppo]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PpoConfig {
    /// Steps of each copy in an iteration.
    pub steps: AtLeastOne,
    /// Steps that an update is made from.
    pub minibatch: AtLeastOne,
    /// Passes over an iteration's steps.
    pub epochs: Steps,
    /// Discount.
    pub gamma: Share,
    /// Trace decay of the advantages.
    pub gae_lambda: hearken_config::Fraction,
    /// Ratios between 1 − clip and 1 + clip are inside.
    pub clip: Positive,
    /// Whether the clip range falls with the learning rate.
    pub clip_decays: bool,
    /// Largest change of a value that counts, within an iteration; 0 is any.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub value_clip: Option<NonNegative>,
    /// What the mean entropy is multiplied by; subtracted from the loss.
    pub entropy_coef: NonNegative,
    /// What the critic's loss is multiplied by.
    pub value_coef: NonNegative,
}

/// `[sac]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SacConfig {
    /// Steps that are kept to learn from.
    pub replay: AtLeastOne,
    /// Steps at random before the first update.
    pub start_steps: Steps,
    /// Steps that an update is made from.
    pub batch: AtLeastOne,
    /// Updates for every step of all copies together.
    pub updates: Steps,
    /// Discount.
    pub gamma: BelowOne,
    /// How far the target critics move towards the critics with every update.
    pub mix: Share,
    /// For each dimension of an action, in nats: the temperature is tuned to it.
    pub target_entropy: Finite,
}

/// `[preference]`: rewards that are learned from comparisons of segments.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceConfig {
    /// Queries over the whole run, skipped ones among them; 0 leaves the environment's own reward.
    pub labels: usize,
    /// Who compares.
    pub teacher: Teacher,
    /// What the teacher goes by, in place of the task: how much each of the state's numbers counts, by its name.
    pub utility: Option<BTreeMap<String, Finite>>,
    /// Which pairs are asked about.
    pub selection: Selection,
    /// Candidates for every pair that is asked about.
    pub candidates: AtLeastOne,
    /// When it is asked.
    pub schedule: LabelSchedule,
    /// The least queries at once, but for the first and the last; never more than a tenth of all.
    pub round: AtLeastOne,
    /// The share of the queries that is made at once, about the first iteration.
    pub initial: hearken_config::Fraction,
    /// Steps of a segment.
    pub segment: AtLeastOne,
    /// Convolutions of its networks, where images are seen.
    #[serde(deserialize_with = "convolutions")]
    #[schemars(with = "Vec<[AtLeastOne; 3]>")]
    pub convolutions: Vec<Convolution>,
    /// Networks of the reward model.
    #[serde(deserialize_with = "members")]
    #[schemars(with = "AtLeastOne")]
    pub members: AtLeastOne,
    /// Widths of their layers between rows and reward.
    #[serde(deserialize_with = "widths")]
    #[schemars(with = "Vec<AtLeastOne>")]
    pub hidden: Vec<usize>,
    /// Learning rate of their Adam.
    pub lr: Positive,
    /// Passes over the comparisons after every round of queries.
    pub epochs: Steps,
    /// Environment steps before the first query in which SAC looks for new states.
    pub unsupervised_steps: u64,
    /// Comparisons that an update is made from.
    pub batch: AtLeastOne,
    /// Pairs without a label beside each that has one, in an update; a member's own word is the label of those that it is sure of.
    pub pseudo_labels: usize,
    /// How sure it must be.
    pub confidence: BelowOne,
    /// What such a pair counts beside one with a label.
    pub pseudo_weight: NonNegative,
    /// The most steps by which an update shortens its segments.
    pub crop: usize,
    /// How often a label is taken to be given at random.
    pub label_error: BelowOne,
    /// λ of ½λ‖θ‖² at first; it is adapted.
    pub penalty: Positive,
    /// `[preference.people]`: of `teacher = "people"`.
    pub people: PeopleConfig,
}

/// `[preference.people]`: how people are asked, in a store of the labelling service.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeopleConfig {
    /// A store of the labelling service.
    pub store: Option<String>,
    /// What is to be seen in a clip, in a sentence that stands above the clips; empty for none.
    pub wish: String,
    /// Pictures per second of a clip.
    pub clip_fps: AtLeastOne,
    /// The share of the queries that must be answered before the policy goes on.
    pub enough: hearken_config::Fraction,
    /// The most seconds that are waited for that, each time; 0 is as long as it takes.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "NonNegative")]
    pub wait_s: Option<NonNegative>,
    /// Seconds between two looks into the store.
    pub poll_s: Positive,
}

fn members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AtLeastOne, D::Error> {
    const MEMBERS_MAX: usize = 10;
    let members = AtLeastOne::deserialize(deserializer)?;
    if *members <= MEMBERS_MAX {
        return Ok(members);
    }
    let found = members.to_string();
    Err(D::Error::invalid_value(Unexpected::Other(&found), &"an integer from 1 to 10"))
}

/// How a policy learns from demonstrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Not at all: by the environment's reward.
    None,
    /// Behavior cloning.
    Bc,
    /// Behavior cloning of what an expert would do wherever the policy gets.
    Dagger,
    /// Generative adversarial imitation.
    Gail,
    /// Adversarial inverse reinforcement learning.
    Airl,
    /// SAC, with a reward of 1 for demonstrated steps and of 0 for its own.
    Sqil,
}

impl Method {
    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bc => "bc",
            Self::Dagger => "dagger",
            Self::Gail => "gail",
            Self::Airl => "airl",
            Self::Sqil => "sqil",
        }
    }
}

/// How the expert's share of the actions falls in DAgger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpertSchedule {
    /// In a line, to 0 after `expert_rounds` rounds.
    Linear,
    /// By the factor `expert_decay` with every round.
    Exponential,
}

/// What a policy is paid by a discriminator's logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RewardForm {
    /// softplus(L).
    Positive,
    /// −softplus(−L).
    Negative,
    /// L.
    Logit,
}

impl From<RewardForm> for AdversarialReward {
    fn from(form: RewardForm) -> Self {
        match form {
            RewardForm::Positive => Self::Positive,
            RewardForm::Negative => Self::Negative,
            RewardForm::Logit => Self::Logit,
        }
    }
}

/// `[imitation]`: policies that do as demonstrations do.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImitationConfig {
    /// How; `none` leaves the environment's reward.
    pub method: Method,
    /// A file of whole episodes.
    pub demonstrations: Option<PathBuf>,
    /// How many of them are used, from the first; 0 is all.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub episodes: Option<u64>,
    /// The folder of the policy that DAgger asks.
    pub expert: Option<PathBuf>,
    /// Passes of BC over the demonstrations.
    pub epochs: Steps,
    /// Steps that an update is made from; of a discriminator, half of them demonstrated.
    pub batch: hearken_config::AtLeastTwo,
    /// Share of the episodes that BC is checked on and does not learn from.
    pub held_out: BelowOne,
    /// Epochs without a better loss on what is held out after which BC ends, with the policy that was best; 0 never.
    #[serde(deserialize_with = "count_unless_zero")]
    #[schemars(with = "u64")]
    pub patience: Option<u64>,
    /// Rounds of DAgger, which are all of its run.
    pub rounds: Steps,
    /// Steps of each copy in a round.
    pub steps: AtLeastOne,
    /// Passes over all that was labelled, in every round.
    pub round_epochs: Steps,
    /// How the expert's share of a round's actions falls.
    pub expert_schedule: ExpertSchedule,
    /// Rounds after which it is 0, if linear.
    pub expert_rounds: Steps,
    /// What it is multiplied by with every round, if exponential.
    pub expert_decay: BelowOne,
    /// What GAIL's policy is paid by the discriminator's logit; without it `positive`, and of AIRL `logit`.
    pub reward: Option<RewardForm>,
    /// Whether AIRL's reward is one of states alone.
    pub state_only: bool,
    /// Widths of the layers of discriminator, reward and potential.
    #[serde(deserialize_with = "widths")]
    #[schemars(with = "Vec<AtLeastOne>")]
    pub hidden: Vec<usize>,
    /// Learning rate of their Adam.
    pub lr: Positive,
    /// Updates of the discriminator in every iteration.
    pub updates: Steps,
    /// λ of ½λ‖θ‖² on their weights.
    pub penalty: NonNegative,
}

impl ControlConfig {
    fn check_imitation(&self) -> Result<(), Complaint> {
        let (method, imitation) = (self.imitation.method, &self.imitation);
        let named = format!("{:?}", method.name());
        if 0 < self.preference.labels {
            let reason = "a run learns from comparisons or from demonstrations";
            return Err(Complaint::exclusive("preference.labels", "imitation.method", reason));
        }
        if method != Method::Dagger && imitation.demonstrations.is_none() {
            let expected = format!("a file of episodes, from which {named} learns");
            return Err(Complaint::missing("imitation.demonstrations", &expected));
        }
        if method == Method::Dagger && imitation.expert.is_none() {
            let expected = "the folder of a policy, which \"dagger\" asks";
            return Err(Complaint::missing("imitation.expert", expected));
        }
        if imitation.patience.is_some() && *imitation.held_out == 0.0 {
            let expected = "a share above 0: `imitation.patience` goes by what is held out";
            return Err(Complaint::unexpected("imitation.held_out", 0, expected));
        }
        if method == Method::Airl && imitation.reward.is_some_and(|form| form != RewardForm::Logit)
        {
            let expected = "\"logit\", which is what AIRL's reward is";
            return Err(Complaint::unexpected("imitation.reward", "another form", expected));
        }
        self.check_server()?;
        let actions = self.environment.id.task().map(ControlTask::actions);
        let is_discrete = matches!(actions, Some(ActionSpace::Discrete { .. }));
        if method == Method::Sqil && is_discrete {
            let expected = format!(
                "another method: SQIL is SAC, for continuous actions, and {} has discrete ones",
                self.environment.id
            );
            return Err(Complaint::unexpected("imitation.method", named, &expected));
        }
        let algorithm = if method == Method::Sqil { Algorithm::Sac } else { Algorithm::Ppo };
        if self.train.algorithm != algorithm {
            let (found, expected) = match algorithm {
                Algorithm::Sac => ("\"ppo\"", "\"sac\", which SQIL is"),
                Algorithm::Ppo => ("\"sac\"", "\"ppo\": of imitation, only \"sqil\" is SAC"),
            };
            return Err(Complaint::unexpected("train.algorithm", found, expected));
        }
        Ok(())
    }

    fn check_reward(&self) -> Result<(), Complaint> {
        if self.environment.reward.is_none() {
            return Ok(());
        }
        let reason = "a run has one reward";
        if self.imitation.method != Method::None {
            return Err(Complaint::exclusive("environment.reward", "imitation.method", reason));
        }
        if 0 < self.preference.labels {
            return Err(Complaint::exclusive("environment.reward", "preference.labels", reason));
        }
        let expected = "\"ppo\": rewards that are learned train PPO alone";
        let holds = self.train.algorithm == Algorithm::Ppo;
        Complaint::unless(holds, "train.algorithm", "\"sac\"", expected)
    }
}

/// What an environment's settings are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recipe {
    /// PPO on the environment's reward.
    #[default]
    Ppo,
    /// A reward that is learned from comparisons: by PPO, or by SAC where actions are continuous.
    Comparisons,
    /// SAC on the environment's reward.
    Sac,
}

impl ControlConfig {
    /// The commented file of an environment, where one has been found to work; that of a recipe where there is one.
    pub fn tuned(id: &EnvironmentId, recipe: Recipe) -> &'static str {
        let task = match id {
            EnvironmentId::Native { task, .. } => *task,
            EnvironmentId::Served { by: ServedBy::Gymnasium, name } => {
                let own = ControlTask::ALL.into_iter().find(|task| task.id() == name);
                match own {
                    Some(task) => task,
                    None if name.starts_with("ALE/") => {
                        return include_str!("../../../configs/control/atari.toml");
                    }
                    None => return include_str!("../../../configs/control/gymnasium.toml"),
                }
            }
            EnvironmentId::Served { by: ServedBy::Program, .. } => {
                return include_str!("../../../configs/control/gymnasium.toml");
            }
        };
        match task {
            ControlTask::Pendulum if recipe == Recipe::Sac => {
                include_str!("../../../configs/control/Pendulum-v1-sac.toml")
            }
            ControlTask::Pendulum if recipe == Recipe::Comparisons => {
                include_str!("../../../configs/control/Pendulum-v1-comparisons.toml")
            }
            ControlTask::CartPole if recipe == Recipe::Comparisons => {
                include_str!("../../../configs/control/CartPole-v1-comparisons.toml")
            }
            ControlTask::CartPole => include_str!("../../../configs/control/CartPole-v1.toml"),
            ControlTask::Pendulum => include_str!("../../../configs/control/Pendulum-v1.toml"),
            ControlTask::MountainCar => {
                include_str!("../../../configs/control/MountainCar-v0.toml")
            }
            ControlTask::MountainCarContinuous => {
                include_str!("../../../configs/control/MountainCarContinuous-v0.toml")
            }
            ControlTask::Acrobot => include_str!("../../../configs/control/Acrobot-v1.toml"),
            ControlTask::MovingDot => include_str!("../../../configs/control/MovingDot-v0.toml"),
            ControlTask::Catch => include_str!("../../../configs/control/Catch-v0.toml"),
            ControlTask::Gridworld | ControlTask::GridworldWall => {
                include_str!("../../../configs/control/Gridworld-v0.toml")
            }
        }
    }
}

impl ControlConfig {
    fn check_server(&self) -> Result<(), Complaint> {
        let EnvironmentId::Served { by, .. } = &self.environment.id else { return Ok(()) };
        if *by == ServedBy::Program && self.environment.server.command.is_empty() {
            let expected = "a program and its arguments, which serves environments of served:";
            return Err(Complaint::missing("environment.server.command", expected));
        }
        Ok(())
    }

    fn check_utility(&self) -> Result<(), Complaint> {
        let (key, id) = ("preference.utility", &self.environment.id);
        let Some(weights) = &self.preference.utility else { return Ok(()) };
        let Some(task) = id.task() else {
            let expected = format!("no such key: the state of {id} is not known here");
            return Err(Complaint::unexpected(key, "weights", &expected));
        };
        let names = task.state_names();
        let expected = format!("some of {}, the numbers of a state of {id}", names.join(", "));
        if weights.is_empty() {
            return Err(Complaint::unexpected(key, "no weight", &expected));
        }
        let unknown = weights.keys().find(|name| !names.contains(&name.as_str()));
        unknown
            .map_or(Ok(()), |name| Err(Complaint::unexpected(key, format!("{name:?}"), &expected)))
    }

    fn check_people(&self) -> Result<(), Complaint> {
        if self.preference.teacher != Teacher::People {
            return Ok(());
        }
        if self.preference.people.store.is_none() {
            let expected = "a store of the labelling service, in which people compare";
            return Err(Complaint::missing("preference.people.store", expected));
        }
        let fps = *self.preference.people.clip_fps;
        let expected = "at most 1000 pictures per second";
        Complaint::unless(fps <= 1000, "preference.people.clip_fps", fps, expected)?;
        if self.preference.utility.is_some() {
            let reason = "people go by what they see";
            let (teacher, utility) = ("preference.teacher", "preference.utility");
            return Err(Complaint::exclusive(utility, teacher, reason));
        }
        let id = &self.environment.id;
        let expected =
            format!("a simulated one: clips are drawn of this program's environments, not of {id}");
        let holds = id.task().is_some();
        Complaint::unless(holds, "preference.teacher", "\"people\"", &expected)
    }

    fn check_preference(&self) -> Result<(), Complaint> {
        let (crop, segment) = (self.preference.crop, *self.preference.segment);
        if segment <= crop {
            let expected = format!("less than the {segment} steps of a segment");
            return Err(Complaint::unexpected("preference.crop", crop, &expected));
        }
        self.check_utility()?;
        self.check_people()?;
        let unsupervised = self.preference.unsupervised_steps;
        if self.train.algorithm == Algorithm::Sac {
            let steps = *self.train.environment_steps;
            let expected = format!("fewer than the {steps} steps of the run");
            let found = unsupervised.to_string();
            let holds = unsupervised < steps;
            return Complaint::unless(holds, "preference.unsupervised_steps", &found, &expected);
        }
        if 0 < unsupervised {
            let expected = "0 with train.algorithm = \"ppo\", which has no replay";
            let key = "preference.unsupervised_steps";
            return Err(Complaint::unexpected(key, unsupervised, expected));
        }
        let segments = *self.ppo.steps / *self.preference.segment * *self.environment.copies;
        if segments < 2 {
            let expected = format!(
                "at most {}: an iteration needs two segments to compare",
                (*self.ppo.steps * *self.environment.copies / 2).min(*self.ppo.steps)
            );
            let found = *self.preference.segment;
            return Err(Complaint::unexpected("preference.segment", found, &expected));
        }
        Ok(())
    }
}

impl Configuration for ControlConfig {
    const COMMAND: &'static str = "control train";
    const DEFAULTS: &'static str = include_str!("../../../configs/control.toml");
    const WITHOUT: &'static [&'static str] =
        &["run.memory_limit_gb", "run.save_dtype", "run.shard_size_gb"];

    fn named(&mut self) -> Vec<Named<'_>> {
        Vec::new()
    }

    fn settle(&mut self) -> Result<(), Complaint> {
        if self.imitation.method != Method::None {
            self.check_imitation()?;
        }
        self.check_server()?;
        let actions = self.environment.id.task().map(ControlTask::actions);
        let is_discrete = matches!(actions, Some(ActionSpace::Discrete { .. }));
        if self.train.algorithm == Algorithm::Sac && is_discrete {
            let expected = format!(
                "\"ppo\": SAC is for continuous actions, and {} has discrete ones",
                self.environment.id
            );
            return Err(Complaint::unexpected("train.algorithm", "\"sac\"", &expected));
        }
        if 0 < self.preference.labels {
            self.check_preference()?;
        }
        self.check_reward()?;
        // Cloning makes no use of `[ppo]`.
        if [Method::Bc, Method::Dagger].contains(&self.imitation.method) {
            return Ok(());
        }
        let in_iteration = *self.ppo.steps * *self.environment.copies;
        if in_iteration < *self.ppo.minibatch {
            let expected = format!(
                "at most the {in_iteration} steps of an iteration (ppo.steps × environment.copies)"
            );
            return Err(Complaint::unexpected("ppo.minibatch", *self.ppo.minibatch, &expected));
        }
        Ok(())
    }
}
