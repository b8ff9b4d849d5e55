//! The configuration of several stages.

use std::path::{Path, PathBuf};

use hearken_config::{
    AtLeastOne, AtLeastTwo, Complaint, ConfigError, Configuration, Frozen, Layers, LoadedConfig,
    LogConfig, NonNegative, RunConfig, SchemaKeys, as_before,
};
use hearken_reward_source::judging::{AskedTask, JudgingConfig};
use hearken_train::ppo::PpoConfig;
use hearken_train::reward::RewardConfig;
use hearken_train::sft::SftConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table, Value};

use super::stage_config::{StageOfRun, set, text};
use crate::quickstart::{BaseOptions, CorpusFiles, CorpusOptions};

/// What a run of several stages has by default where a file says nothing.
const DEFAULTS: &str = "[run]\n# dir = required\nseed = 0\ndisk_limit_gb = 0\nmemory_limit_gb = 0\n\
                        # save_dtype = as the model's\nshard_size_gb = 5\n\
                        [log]\ntensorboard = false\ncsv = false\n\
                        [evaluation]\nprompts = 256\n# win_by = a label\nexamples = 8\n";

/// The defaults of `[quickstart]`, for files that have that section.
const QUICKSTART: &str = include_str!("../../../../configs/quickstart.toml");

/// The file with the labels of models, in the folder of their stage.
pub(super) const LABELS: &str = "preferences.jsonl";

/// The defaults of `[labels]`, likewise.
const LABELLED: &str = include_str!("../../../../configs/rlaif.toml");

/// What `hearken rlhf` reads.
#[derive(Clone, Debug)]
pub struct RlhfConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[quickstart]`: a small world to learn in; without it every stage names its own data.
    pub quickstart: Option<QuickstartConfig>,
    /// `[sft]`, as its trainer reads it.
    pub sft: Option<LoadedConfig<SftConfig>>,
    /// `[labels]`: pairs that models label, for the reward model.
    pub labels: Option<LabelsConfig>,
    /// `[judge]`: who labels them, as `hearken judge` reads it.
    pub judge: Option<LoadedConfig<JudgingConfig>>,
    /// `[reward]`, as its trainer reads it.
    pub reward: Option<LoadedConfig<RewardConfig>>,
    /// `[ppo]`, likewise.
    pub ppo: Option<LoadedConfig<PpoConfig>>,
    /// `[evaluation]`.
    pub evaluation: EvaluationConfig,
    /// The policy that reinforcement learning starts from, and is compared with.
    pub start: PathBuf,
    /// The model that the first stage starts from.
    pub base: PathBuf,
}

/// The sections of a file; those of a stage are `Sft`, `Judge`, `Reward` and `Ppo`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sections<Sft, Judge, Reward, Ppo> {
    /// `[run]`.
    run: RunConfig,
    /// `[log]`: what every stage writes beside `metrics.jsonl`.
    log: LogConfig,
    /// `[model]`: the model that the first stage starts from.
    model: Option<StartModel>,
    /// `[quickstart]`.
    quickstart: Option<QuickstartConfig>,
    /// `[sft]`: the sections of supervised fine-tuning.
    sft: Option<Sft>,
    /// `[labels]`.
    labels: Option<LabelsConfig>,
    /// `[judge]`: who labels, with the sections of `hearken judge`.
    judge: Option<Judge>,
    /// `[reward]`: the sections of reward-model training.
    reward: Option<Reward>,
    /// `[ppo]`: the sections of PPO.
    ppo: Option<Ppo>,
    /// `[evaluation]`.
    evaluation: EvaluationConfig,
}

/// `[model]`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StartModel {
    /// A folder with config.json and model.safetensors, to start from.
    path: Option<PathBuf>,
}

/// `[quickstart]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuickstartConfig {
    /// Reviews to imitate.
    pub demonstrations: AtLeastOne,
    /// Comparisons to learn the reward model from.
    pub preferences: AtLeastOne,
    /// Comparisons to evaluate it on.
    pub preferences_eval: AtLeastOne,
    /// Prompts that nothing is learned on.
    pub prompts_eval: usize,
    /// How sure the comparisons are.
    pub sharpness: NonNegative,
    /// What learns.
    pub model: BaseOptions,
}

/// `[labels]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// Files with pairs, whose own labels are not read but compared with; none are the quickstart's comparisons.
    pub pairs: Vec<PathBuf>,
    /// In place of these, so many pairs of completions that the policy samples for the prompts of PPO.
    pub sampled: usize,
    /// The most pairs; 0 is no limit.
    pub limit: usize,
}

/// `[evaluation]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// The most held-out prompts that both policies complete.
    pub prompts: AtLeastTwo,
    /// The label of the score that decides a win; without it the sum that is optimized.
    pub win_by: Option<String>,
    /// Completions shown side by side.
    pub examples: usize,
}

impl QuickstartConfig {
    fn check(&self) -> Result<(), Complaint> {
        let (found, most) = (self.prompts_eval, CorpusOptions::prompts_eval_max());
        let expected = format!("an integer from 2 to {most}");
        let holds = (2..=most).contains(&found);
        Complaint::unless(holds, "quickstart.prompts_eval", found, &expected)?;
        let heads = self.model.heads;
        let holds = 0 < heads && self.model.width.is_multiple_of(2 * heads);
        Complaint::unless(holds, "quickstart.model.heads", heads, "a divisor of half the width")
    }

    /// How much there is to learn from.
    pub fn corpus(&self) -> CorpusOptions {
        CorpusOptions {
            demonstrations: *self.demonstrations,
            preferences: *self.preferences,
            preferences_eval: *self.preferences_eval,
            prompts_eval: self.prompts_eval,
            sharpness: *self.sharpness,
        }
    }
}

impl RlhfConfig {
    /// A commented file to start from.
    pub const EXAMPLE: &'static str = QUICKSTART;

    /// One with labels of models.
    pub const LABELLED_EXAMPLE: &'static str = LABELLED;

    /// Reads `file`, with `overrides` over it, and checks every stage before the first begins.
    ///
    /// # Errors
    /// Names the file, the line and the key that is not usable.
    pub fn load(file: &Path, overrides: &[String]) -> Result<LoadedConfig<Self>, ConfigError> {
        let mut layers = Layers::read(DEFAULTS, file, overrides)?;
        if layers.has("quickstart") {
            // The section's defaults are its file; the user's keys are laid over them once more.
            let defaults: Table = QUICKSTART.parse().expect("embedded defaults are valid TOML");
            let given = layers.table().clone();
            layers.merge(only(&defaults, "quickstart"));
            layers.merge(only(&given, "quickstart"));
        }
        if layers.has("labels") {
            let defaults: Table = LABELLED.parse().expect("embedded defaults are valid TOML");
            let given = layers.table().clone();
            layers.merge(only(&defaults, "labels"));
            layers.merge(only(&given, "labels"));
        }
        let keys = Self::keys();
        layers.check(&keys)?;
        let error = |complaint| layers.error(complaint);
        let (sections, missing): (Sections<Table, Table, Table, Table>, _) = layers.parse(&keys)?;
        missing.map_or(Ok(()), Err).map_err(error)?;
        sections.quickstart.as_ref().map_or(Ok(()), QuickstartConfig::check).map_err(error)?;
        let stages = Stages::new(&layers, &sections).map_err(error)?;
        let labels = sections.labels.map(|labels| stages.labels(labels, sections.ppo.is_some()));
        let config = Self {
            labels: labels.transpose().map_err(error)?,
            judge: sections.judge.map(|user| stages.judge(user)).transpose()?,
            sft: sections.sft.map(|user| stages.sft(user)).transpose()?,
            reward: sections.reward.map(|user| stages.reward(user)).transpose()?,
            ppo: sections.ppo.map(|user| stages.ppo(user)).transpose()?,
            start: stages.start(),
            base: stages.base.clone(),
            run: sections.run.clone(),
            quickstart: sections.quickstart.clone(),
            evaluation: sections.evaluation.clone(),
        };
        if config.sft.is_none() && config.reward.is_none() && config.ppo.is_none() {
            let missing = Complaint::missing("sft, reward or ppo", "at least one stage to run");
            return Err(error(missing));
        }
        config.check_labels().map_err(error)?;
        Ok(LoadedConfig { config, frozen: layers.freeze("rlhf") })
    }

    /// Whether labels, judges and a reward model go together.
    fn check_labels(&self) -> Result<(), Complaint> {
        let Some(judge) = &self.judge else {
            let missing = || Complaint::missing("judge.judge", "[[judge.judge]]: who labels");
            return self.labels.is_none().then_some(()).ok_or_else(missing);
        };
        if self.labels.is_none() {
            return Err(Complaint::missing("labels", "[labels]: what the judges of [judge] label"));
        }
        if self.reward.is_none() {
            return Err(Complaint::missing("reward", "[reward]: what learns from the labels"));
        }
        let is_comparison = judge.config.ask.task != AskedTask::Rate;
        let expected = "\"compare\": a reward model learns from pairs";
        Complaint::unless(is_comparison, "judge.ask.task", "\"rate\"", expected)
    }

    /// Models that stages make, or the quickstart.
    pub fn made(&self) -> Vec<PathBuf> {
        let base = self.quickstart.as_ref().map(|_| self.run.dir.join("base"));
        let stages = [SftConfig::COMMAND, RewardConfig::COMMAND, PpoConfig::COMMAND];
        let of_stages = stages.map(|stage| self.run.dir.join(stage).join("final"));
        of_stages.into_iter().chain(base).collect()
    }

    fn keys() -> SchemaKeys {
        SchemaKeys::of::<Sections<SftConfig, JudgingConfig, RewardConfig, PpoConfig>>("rlhf", &[])
    }

    /// The JSON schema of its files.
    pub fn schema() -> serde_json::Value {
        let mut defaults: Table = DEFAULTS.parse().expect("embedded defaults are valid TOML");
        let of_trainer = |text: &str| text.parse().expect("embedded defaults are valid TOML");
        for (stage, text) in [
            ("sft", SftConfig::DEFAULTS),
            ("reward", RewardConfig::DEFAULTS),
            ("ppo", PpoConfig::DEFAULTS),
            ("judge", JudgingConfig::DEFAULTS),
        ] {
            defaults.insert(stage.to_owned(), Value::Table(of_trainer(text)));
        }
        defaults.extend(only(&of_trainer(QUICKSTART), "quickstart"));
        defaults.extend(only(&of_trainer(LABELLED), "labels"));
        Self::keys().to_json_schema(&defaults)
    }
}

/// The section `name` of a table, alone.
fn only(table: &Table, name: &str) -> Table {
    table.iter().filter(|(key, _)| *key == name).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Puts the configuration of each stage together: the trainer's defaults, what follows from the run
/// (folders, seed, the models of earlier stages, the quickstart's files), the user's own keys.
struct Stages<'a> {
    layers: &'a Layers,
    run: RunConfig,
    log: LogConfig,
    base: PathBuf,
    files: Option<CorpusFiles>,
}

impl<'a> Stages<'a> {
    fn new<S, J, R, P>(layers: &'a Layers, file: &Sections<S, J, R, P>) -> Result<Self, Complaint> {
        let (run, log, is_quickstart) = (file.run.clone(), file.log, file.quickstart.is_some());
        let path = file.model.as_ref().and_then(|model| model.path.clone());
        let base = match (path, is_quickstart) {
            (Some(_), true) => {
                let reason = "the quickstart makes its own model; remove one of the two";
                return Err(Complaint::exclusive("model.path", "[quickstart]", reason));
            }
            (None, false) => {
                let expected = "a folder with config.json and model.safetensors, to start from";
                return Err(Complaint::missing("model.path", expected));
            }
            (Some(path), false) => path,
            (None, true) => run.dir.join("base"),
        };
        let files = is_quickstart.then(|| CorpusFiles::under(&run.dir.join("data")));
        Ok(Self { layers, run, log, base, files })
    }

    /// The policy before reinforcement learning.
    fn start(&self) -> PathBuf {
        if self.layers.has("sft") { self.run.dir.join("sft/final") } else { self.base.clone() }
    }

    fn sft(&self, user: Table) -> Result<LoadedConfig<SftConfig>, ConfigError> {
        let mut inputs = self.inputs(&self.base, |files| (&files.demonstrations, None));
        if self.files.is_some() {
            // As many held-out demonstrations as are worth their time.
            set(&mut inputs, "data", "eval_fraction", Value::Float(0.05));
        }
        self.stage(inputs, user)
    }

    /// What is labelled.
    fn labels(&self, mut labels: LabelsConfig, has_ppo: bool) -> Result<LabelsConfig, Complaint> {
        match (labels.pairs.is_empty(), labels.sampled, &self.files) {
            (false, 1.., _) => {
                let reason = "pairs are there, or are sampled; remove one of the two";
                Err(Complaint::exclusive("labels.sampled", "`labels.pairs`", reason))
            }
            (true, 1.., _) if !has_ppo => {
                Err(Complaint::missing("ppo", "[ppo]: `labels.sampled` is about its prompts"))
            }
            (true, 0, None) => {
                let expected = "files with pairs; or `labels.sampled`, a number of them";
                Err(Complaint::missing("labels.pairs", expected))
            }
            (true, 0, Some(files)) => {
                labels.pairs.push(files.preferences.clone());
                Ok(labels)
            }
            _ => Ok(labels),
        }
    }

    /// Who labels it.
    fn judge(&self, user: Table) -> Result<LoadedConfig<JudgingConfig>, ConfigError> {
        let defaults = JudgingConfig::defaults(self.layers.file());
        JudgingConfig::from_layers(self.layers.stage(JudgingConfig::COMMAND, defaults, user))
    }

    fn reward(&self, user: Table) -> Result<LoadedConfig<RewardConfig>, ConfigError> {
        let mut inputs =
            self.inputs(&self.start(), |files| (&files.preferences, Some(&files.preferences_eval)));
        if self.layers.has("labels") {
            let labels = self.run.dir.join("labels").join(LABELS);
            set(&mut inputs, "data", "train", text(&labels));
        }
        self.stage(inputs, user)
    }

    fn ppo(&self, mut user: Table) -> Result<LoadedConfig<PpoConfig>, ConfigError> {
        let inputs =
            self.inputs(&self.start(), |files| (&files.prompts, Some(&files.prompts_eval)));
        self.fill_scores(&mut user);
        self.stage(inputs, user)
    }

    /// A score of the kind that this run's reward model gives, "model" or "process", without a path is that model;
    /// so is everything where no score is given.
    fn fill_scores(&self, user: &mut Table) {
        let Some(stage) = self.layers.table().get("reward") else { return };
        let trained = |key: &str| stage.get("reward")?.get(key)?.as_str();
        let kind = if trained("kind") == Some("process") { "process" } else { "model" };
        let path = Value::String(self.run.dir.join("reward/final").display().to_string());
        let model = || Value::Table(Table::from_iter([("kind".to_owned(), kind.into())]));
        let scores = user.entry("score").or_insert_with(|| Value::Array(vec![model()]));
        let Value::Array(scores) = scores else { return };
        for score in scores.iter_mut().filter_map(Value::as_table_mut) {
            let is_trained = score.get("kind").and_then(Value::as_str) == Some(kind);
            if is_trained && !score.contains_key("path") {
                score.insert("path".to_owned(), path.clone());
            }
        }
    }

    fn inputs(
        &self,
        model: &Path,
        pick: impl FnOnce(&CorpusFiles) -> (&PathBuf, Option<&PathBuf>),
    ) -> Table {
        let mut inputs = Table::new();
        set(&mut inputs, "model", "path", text(model));
        if let Some((train, eval)) = self.files.as_ref().map(pick) {
            set(&mut inputs, "data", "train", text(train));
            if let Some(eval) = eval {
                set(&mut inputs, "data", "eval", text(eval));
            }
        }
        inputs
    }

    fn stage<C: Configuration>(
        &self,
        inputs: Table,
        user: Table,
    ) -> Result<LoadedConfig<C>, ConfigError> {
        let seed = self.run.seed;
        let stage = StageOfRun { layers: self.layers, run: &self.run, log: self.log, seed };
        stage.configuration(&self.run.dir.join(C::COMMAND), inputs, user)
    }
}

/// The frozen configuration of a stage without the keys that name its folder or change no result.
pub(crate) fn fingerprint_text(frozen: &Frozen) -> String {
    let mut table = as_before(frozen.table());
    table.remove("log");
    let patience = |train: &Value| train.get("early_stopping_patience")?.as_integer();
    let watches = table.get("train").and_then(patience).is_some_and(|patience| 0 < patience);
    let mut section = |name: &str, without: &[&str], as_if: &[&str]| {
        let Some(Value::Table(section)) = table.get_mut(name) else { return };
        for key in without {
            section.remove(*key);
        }
        for key in as_if {
            section.insert((*key).to_owned(), Value::Integer(0));
        }
    };
    // Keys that stages have been told apart by have their default instead, so that what is done stays so.
    section("run", &["dir", "disk_limit_gb", "shard_size_gb"], &["memory_limit_gb"]);
    if !watches {
        // A default that came later.
        section("train", &["early_stopping_patience"], &[]);
    }
    section("train", &["save_minutes", "keep_optimizer"], &["save_every", "microbatch_tokens"]);
    toml::to_string(&table).expect("a table that was read can be written")
}
