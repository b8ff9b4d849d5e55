//! The configuration of several stages.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::{ConfigError, Frozen, Layers, Loaded, RunConfig};
use crate::ppo::PpoConfig;
use crate::quickstart::{BaseOptions, CorpusFiles, CorpusOptions};
use crate::reward::RewardConfig;
use crate::sft::SftConfig;

/// What a run of several stages has by default where a file says nothing.
const DEFAULTS: &str = "[run]\n# dir = required\nseed = 0\ndisk_limit_gb = 0\nmemory_limit_gb = 0\n\
                        [evaluation]\nprompts = 256\n# win_by = a label\nexamples = 8\n";

/// The defaults of `[quickstart]`, for files that have that section.
const QUICKSTART: &str = include_str!("../../../../configs/quickstart.toml");

/// What `hearken rlhf` reads.
#[derive(Clone, Debug)]
pub struct RlhfConfig {
    /// `[run]`.
    pub run: RunConfig,
    /// `[quickstart]`: a small world to learn in; without it every stage names its own data.
    pub quickstart: Option<QuickstartConfig>,
    /// `[sft]`, as its trainer reads it.
    pub sft: Option<Loaded<SftConfig>>,
    /// `[reward]`, likewise.
    pub reward: Option<Loaded<RewardConfig>>,
    /// `[ppo]`, likewise.
    pub ppo: Option<Loaded<PpoConfig>>,
    /// `[evaluation]`.
    pub evaluation: EvaluationConfig,
    /// The policy that reinforcement learning starts from, and is compared with.
    pub start: PathBuf,
}

/// `[quickstart]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuickstartConfig {
    /// How much there is to learn from.
    pub corpus: CorpusOptions,
    /// What learns.
    pub base: BaseOptions,
}

/// `[evaluation]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// The most held-out prompts that both policies complete.
    pub prompts: usize,
    /// The label of the score that decides a win; without it the sum that is optimized.
    pub win_by: Option<String>,
    /// Completions shown side by side.
    pub examples: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuickstart {
    demonstrations: usize,
    preferences: usize,
    preferences_eval: usize,
    prompts_eval: usize,
    sharpness: f64,
    model: BaseOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    path: Option<PathBuf>,
}

impl RlhfConfig {
    /// Reads `file`, with `overrides` over it, and checks every stage before the first begins.
    ///
    /// # Errors
    /// Names the file and the key that is not usable.
    pub fn load(file: &Path, overrides: &[String]) -> Result<Loaded<Self>, ConfigError> {
        let mut layers = Layers::read(DEFAULTS, file, overrides)?;
        if layers.has("quickstart") {
            // The section's defaults are its file; the user's keys are laid over them once more.
            let defaults: Table = QUICKSTART.parse().expect("embedded defaults are valid TOML");
            let given = layers.table().clone();
            layers.merge(only(&defaults, "quickstart"));
            layers.merge(only(&given, "quickstart"));
        }
        layers.check_sections(&[
            "run",
            "model",
            "quickstart",
            "sft",
            "reward",
            "ppo",
            "evaluation",
        ])?;
        let run = RunConfig::read(&layers)?;
        let evaluation: EvaluationConfig = layers.section("evaluation")?;
        let holds = 1 < evaluation.prompts;
        layers.check("evaluation.prompts", evaluation.prompts, holds, "an integer from 2")?;
        let quickstart =
            if layers.has("quickstart") { Some(read_quickstart(&layers)?) } else { None };
        let stages = Stages::new(&layers, &run, quickstart.is_some())?;
        let config = Self {
            sft: stages.sft()?,
            reward: stages.reward()?,
            ppo: stages.ppo()?,
            start: stages.start(),
            run,
            quickstart,
            evaluation,
        };
        if config.sft.is_none() && config.reward.is_none() && config.ppo.is_none() {
            return Err(layers.missing("sft, reward or ppo", "at least one stage to run"));
        }
        Ok(Loaded { config, frozen: layers.freeze() })
    }
}

/// The section `name` of a table, alone.
fn only(table: &Table, name: &str) -> Table {
    table.iter().filter(|(key, _)| *key == name).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn read_quickstart(layers: &Layers) -> Result<QuickstartConfig, ConfigError> {
    let raw: RawQuickstart = layers.section("quickstart")?;
    for (key, value) in [
        ("quickstart.demonstrations", raw.demonstrations),
        ("quickstart.preferences", raw.preferences),
        ("quickstart.preferences_eval", raw.preferences_eval),
    ] {
        layers.check(key, value, 0 < value, "an integer from 1")?;
    }
    let (found, most) = (raw.prompts_eval, CorpusOptions::prompts_eval_max());
    let expected = format!("an integer from 2 to {most}");
    layers.check("quickstart.prompts_eval", found, (2..=most).contains(&found), &expected)?;
    let holds = raw.sharpness.is_finite() && 0.0 <= raw.sharpness;
    layers.check("quickstart.sharpness", raw.sharpness, holds, "a number from 0")?;
    let heads = raw.model.heads;
    let holds = 0 < heads && raw.model.width.is_multiple_of(2 * heads);
    layers.check("quickstart.model.heads", heads, holds, "a divisor of half the width")?;
    Ok(QuickstartConfig {
        corpus: CorpusOptions {
            demonstrations: raw.demonstrations,
            preferences: raw.preferences,
            preferences_eval: raw.preferences_eval,
            prompts_eval: raw.prompts_eval,
            sharpness: raw.sharpness,
        },
        base: raw.model,
    })
}

/// Puts the configuration of each stage together: the trainer's defaults, what follows from the run
/// (folders, seed, the models of earlier stages, the quickstart's files), the user's own keys.
struct Stages<'a> {
    layers: &'a Layers,
    run: &'a RunConfig,
    base: PathBuf,
    files: Option<CorpusFiles>,
}

impl<'a> Stages<'a> {
    fn new(layers: &'a Layers, run: &'a RunConfig, quickstart: bool) -> Result<Self, ConfigError> {
        let model: RawModel = layers.section("model")?;
        let base = match (model.path, quickstart) {
            (Some(_), true) => {
                let reason = "the quickstart makes its own model; remove one of the two";
                return Err(layers.exclusive("model.path", "[quickstart]", reason));
            }
            (None, false) => {
                let expected = "a folder with config.json and model.safetensors, to start from";
                return Err(layers.missing("model.path", expected));
            }
            (Some(path), false) => path,
            (None, true) => run.dir.join("base"),
        };
        let files = quickstart.then(|| CorpusFiles::under(&run.dir.join("data")));
        Ok(Self { layers, run, base, files })
    }

    /// The policy before reinforcement learning.
    fn start(&self) -> PathBuf {
        if self.layers.has("sft") { self.run.dir.join("sft/final") } else { self.base.clone() }
    }

    fn sft(&self) -> Result<Option<Loaded<SftConfig>>, ConfigError> {
        let Some(user) = self.user("sft")? else { return Ok(None) };
        let mut inputs = self.inputs(&self.base, |files| (&files.demonstrations, None));
        if self.files.is_some() {
            // As many held-out demonstrations as are worth their time.
            set(&mut inputs, "data", "eval_fraction", Value::Float(0.05));
        }
        let layers = self.stage(SftConfig::defaults(self.layers.file()), inputs, user, "sft");
        SftConfig::from_layers(layers).map(Some).map_err(|error| within("sft", error))
    }

    fn reward(&self) -> Result<Option<Loaded<RewardConfig>>, ConfigError> {
        let Some(user) = self.user("reward")? else { return Ok(None) };
        let inputs =
            self.inputs(&self.start(), |files| (&files.preferences, Some(&files.preferences_eval)));
        let layers = self.stage(RewardConfig::defaults(self.layers.file()), inputs, user, "reward");
        RewardConfig::from_layers(layers).map(Some).map_err(|error| within("reward", error))
    }

    fn ppo(&self) -> Result<Option<Loaded<PpoConfig>>, ConfigError> {
        let Some(mut user) = self.user("ppo")? else { return Ok(None) };
        let inputs =
            self.inputs(&self.start(), |files| (&files.prompts, Some(&files.prompts_eval)));
        self.fill_scores(&mut user);
        let layers = self.stage(PpoConfig::defaults(self.layers.file()), inputs, user, "ppo");
        PpoConfig::from_layers(layers).map(Some).map_err(|error| within("ppo", error))
    }

    /// A score of kind "model" without a path is this run's reward model; so is everything where no
    /// score is given.
    fn fill_scores(&self, user: &mut Table) {
        if !self.layers.has("reward") {
            return;
        }
        let path = Value::String(self.run.dir.join("reward/final").display().to_string());
        let model = || Value::Table(Table::from_iter([("kind".to_owned(), "model".into())]));
        let scores = user.entry("score").or_insert_with(|| Value::Array(vec![model()]));
        let Value::Array(scores) = scores else { return };
        for score in scores.iter_mut().filter_map(Value::as_table_mut) {
            let is_model = score.get("kind").and_then(Value::as_str) == Some("model");
            if is_model && !score.contains_key("path") {
                score.insert("path".to_owned(), path.clone());
            }
        }
    }

    /// The user's table of a stage; `None` if the stage is not asked for.
    fn user(&self, stage: &str) -> Result<Option<Table>, ConfigError> {
        match self.layers.table().get(stage) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(table.clone())),
            Some(other) => {
                let expected = "a section, with the trainer's sections inside";
                Err(self.layers.unexpected(stage, &other.to_string(), expected))
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

    /// Defaults, then what follows from the run, then the user's keys, then what is the run's alone.
    fn stage(&self, mut layers: Layers, inputs: Table, user: Table, name: &str) -> Layers {
        layers.merge(inputs);
        layers.merge(user);
        let mut run = Table::new();
        set(&mut run, "run", "dir", text(&self.run.dir.join(name)));
        set(&mut run, "run", "seed", Value::Integer(self.run.seed.cast_signed()));
        if let Some(bytes) = self.run.disk_bytes_max {
            set(&mut run, "run", "disk_limit_gb", Value::Float(bytes as f64 / 1e9));
        }
        if let Some(bytes) = self.run.memory_bytes_max {
            set(&mut run, "run", "memory_limit_gb", Value::Float(bytes as f64 / 1e9));
        }
        layers.merge(run);
        layers
    }
}

fn text(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

fn set(table: &mut Table, section: &str, key: &str, value: Value) {
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = entry {
        section.insert(key.to_owned(), value);
    }
}

/// The error of a stage's key, with the stage before it.
fn within(stage: &str, error: ConfigError) -> ConfigError {
    let at = |key: String| format!("{stage}.{key}");
    match error {
        ConfigError::UnknownKey { file, key, nearest } => {
            ConfigError::UnknownKey { file, key: at(key), nearest: nearest.map(at) }
        }
        ConfigError::Missing { file, key, expected } => {
            ConfigError::Missing { file, key: at(key), expected }
        }
        ConfigError::Unexpected { file, key, found, expected } => {
            ConfigError::Unexpected { file, key: at(key), found, expected }
        }
        ConfigError::Exclusive { file, first, second, reason } => {
            ConfigError::Exclusive { file, first: at(first), second: at(second), reason }
        }
        other => other,
    }
}

/// The frozen configuration of a stage without the keys that name its folder or change no result.
pub(super) fn fingerprint_text(frozen: &Frozen) -> String {
    let mut table = frozen.table().clone();
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
    section("run", &["dir", "disk_limit_gb"], &["memory_limit_gb"]);
    section("train", &["save_minutes", "keep_optimizer"], &["save_every", "microbatch_tokens"]);
    toml::to_string(&table).expect("a table that was read can be written")
}
