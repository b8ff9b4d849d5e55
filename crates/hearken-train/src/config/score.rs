//! `[[score]]`: where scores come from.

use std::path::PathBuf;
use std::time::Duration;

use hearken_judge::{CommandOptions, HttpOptions};
use serde::Deserialize;

use super::error::ConfigError;
use super::layers::Layers;
use super::sections::Dtype;
use crate::reward_source::{Heuristic, Limits, Sandbox, Verifier};

/// One `[[score]]`: a source with its weight in the sum.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreConfig {
    /// Names the source in metrics.
    pub label: String,
    /// Multiplies its scores; 0 only measures.
    pub weight: f64,
    /// What it is.
    pub source: SourceConfig,
}

/// What a source is.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    /// A checkpoint with a score head.
    Model {
        /// Its directory.
        path: PathBuf,
        /// What matrix products read.
        dtype: Dtype,
        /// Whether the stored mean and deviation are applied.
        normalize: bool,
    },
    /// [`Heuristic::LengthDiversity`].
    LengthDiversity,
    /// [`Heuristic::QuickstartGold`].
    QuickstartGold,
    /// [`Heuristic::Regex`].
    Regex {
        /// The regular expression.
        pattern: String,
    },
    /// [`Heuristic::Contains`].
    Contains {
        /// The text.
        text: String,
    },
    /// A right answer.
    Verifier {
        /// What is compared.
        verifier: Verifier,
        /// The column of the prompts that has the answer.
        answer: String,
    },
    /// Tests that a completion's program must pass.
    Code {
        /// The column of the prompts that has the tests.
        tests: String,
        /// How programs are run.
        sandbox: Sandbox,
    },
    /// A program.
    Command(CommandOptions),
    /// A server.
    Http(HttpOptions),
}

/// What a file may say of a source; which keys are meant depends on `kind`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScore {
    kind: Option<String>,
    label: Option<String>,
    weight: Option<f64>,
    name: Option<String>,
    path: Option<PathBuf>,
    dtype: Option<Dtype>,
    normalize: Option<bool>,
    pattern: Option<String>,
    text: Option<String>,
    program: Option<String>,
    args: Option<Vec<String>>,
    url: Option<String>,
    timeout_s: Option<f64>,
    answer: Option<String>,
    tests: Option<String>,
    memory_mb: Option<u64>,
    disk_mb: Option<u64>,
    processes: Option<u64>,
}

const KINDS: &str = "\"model\", \"heuristic\", \"regex\", \"contains\", \"verifier\", \"code\", \
                     \"command\" or \"http\"";
const HEURISTICS: &str = "\"length_diversity\" or \"quickstart_gold\"";
const VERIFIERS: &str = "\"exact\", \"numeric\", \"boxed\" or \"arithmetic_steps\"";
/// Seconds that a run of a program in the sandbox has, where nothing is said.
const CODE_TIMEOUT_S: f64 = 5.0;
/// What such a run may use, where nothing is said: megabytes, megabytes, processes.
const CODE_LIMITS: (u64, u64, u64) = (1024, 16, 32);
/// Seconds that a program has for a batch, or a server for a request, where nothing is said.
const TIMEOUT_S: f64 = 60.0;

/// Reads every `[[score]]`.
///
/// # Errors
/// Names the key that is unknown, missing, out of range, or does not belong to the kind.
pub fn read_scores(layers: &Layers) -> Result<Vec<ScoreConfig>, ConfigError> {
    let raw: Vec<RawScore> = layers.sections("score")?;
    let mut scores: Vec<ScoreConfig> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let score = Reader { layers, section: format!("score[{index}]") }.read(raw)?;
        if scores.iter().any(|earlier| earlier.label == score.label) {
            let found = format!("{:?} a second time", score.label);
            let expected = "labels that differ: they name the metrics";
            return Err(layers.unexpected(&format!("score[{index}].label"), &found, expected));
        }
        scores.push(score);
    }
    Ok(scores)
}

struct Reader<'a> {
    layers: &'a Layers,
    section: String,
}

impl Reader<'_> {
    fn read(&self, mut raw: RawScore) -> Result<ScoreConfig, ConfigError> {
        let kind = self.required("kind", raw.kind.take(), KINDS)?;
        let weight = raw.weight.take().unwrap_or(1.0);
        let (layers, key) = (self.layers, self.key("weight"));
        layers.check(&key, weight, weight.is_finite(), "a finite number")?;
        let (label, source) = match kind.as_str() {
            "model" => ("model".to_owned(), self.model(&mut raw)?),
            "heuristic" => {
                let name = self.required("name", raw.name.take(), HEURISTICS)?;
                let source = match name.as_str() {
                    "length_diversity" => SourceConfig::LengthDiversity,
                    "quickstart_gold" => SourceConfig::QuickstartGold,
                    _ => return Err(self.unexpected("name", &name, HEURISTICS)),
                };
                (name, source)
            }
            "regex" => {
                let pattern = self.required("pattern", raw.pattern.take(), "an expression")?;
                Heuristic::regex(&pattern)
                    .map_err(|error| self.unexpected("pattern", &pattern, &error.to_string()))?;
                ("regex".to_owned(), SourceConfig::Regex { pattern })
            }
            "contains" => {
                let text = self.required("text", raw.text.take(), "a text to look for")?;
                ("contains".to_owned(), SourceConfig::Contains { text })
            }
            "verifier" => {
                let name = self.required("name", raw.name.take(), VERIFIERS)?;
                let verifier = match name.as_str() {
                    "exact" => Verifier::Exact,
                    "numeric" => Verifier::Numeric,
                    "boxed" => Verifier::Boxed,
                    "arithmetic_steps" => Verifier::ArithmeticSteps,
                    _ => return Err(self.unexpected("name", &name, VERIFIERS)),
                };
                let answer = raw.answer.take().unwrap_or_else(|| "answer".to_owned());
                (name, SourceConfig::Verifier { verifier, answer })
            }
            "code" => ("code".to_owned(), self.code(&mut raw)?),
            "command" => ("command".to_owned(), self.command(&mut raw)?),
            "http" => ("http".to_owned(), self.http(&mut raw)?),
            _ => return Err(self.unexpected("kind", &kind, KINDS)),
        };
        let label = raw.label.take().unwrap_or(label);
        self.nothing_left(&raw, &kind)?;
        Ok(ScoreConfig { label, weight, source })
    }

    fn model(&self, raw: &mut RawScore) -> Result<SourceConfig, ConfigError> {
        Ok(SourceConfig::Model {
            path: self.required("path", raw.path.take(), "a folder with a reward model")?,
            dtype: raw.dtype.take().unwrap_or(Dtype::F32),
            normalize: raw.normalize.take().unwrap_or(true),
        })
    }

    fn command(&self, raw: &mut RawScore) -> Result<SourceConfig, ConfigError> {
        Ok(SourceConfig::Command(CommandOptions {
            program: self.required("program", raw.program.take(), "a program to start")?,
            args: raw.args.take().unwrap_or_default(),
            deadline: self.timeout(raw, TIMEOUT_S)?,
        }))
    }

    fn code(&self, raw: &mut RawScore) -> Result<SourceConfig, ConfigError> {
        let program =
            self.required("program", raw.program.take(), "an interpreter, as \"python3\"")?;
        let count = |name: &str, given: &mut Option<u64>, default: u64| {
            let value = given.take().unwrap_or(default);
            let holds = (1..=1 << 30).contains(&value);
            self.layers.check(&self.key(name), value, holds, "an integer from 1")?;
            Ok::<u64, ConfigError>(value)
        };
        let (memory, disk, processes) = CODE_LIMITS;
        let memory_bytes = count("memory_mb", &mut raw.memory_mb, memory)? << 20;
        let disk_bytes = count("disk_mb", &mut raw.disk_mb, disk)? << 20;
        let processes = count("processes", &mut raw.processes, processes)?;
        let deadline = self.timeout(raw, CODE_TIMEOUT_S)?;
        let limits = Limits { deadline, memory_bytes, disk_bytes, processes };
        let args = raw.args.take().unwrap_or_default();
        let tests = raw.tests.take().unwrap_or_else(|| "tests".to_owned());
        Ok(SourceConfig::Code { tests, sandbox: Sandbox { program, args, limits } })
    }

    fn http(&self, raw: &mut RawScore) -> Result<SourceConfig, ConfigError> {
        let url = self.required("url", raw.url.take(), "an http or https URL")?;
        Ok(SourceConfig::Http(HttpOptions {
            deadline: self.timeout(raw, TIMEOUT_S)?,
            ..HttpOptions::new(url)
        }))
    }

    fn timeout(&self, raw: &mut RawScore, default_s: f64) -> Result<Duration, ConfigError> {
        const SECONDS_MAX: f64 = 1e6;
        let seconds = raw.timeout_s.take().unwrap_or(default_s);
        let holds = 0.0 < seconds && seconds <= SECONDS_MAX;
        self.layers.check(&self.key("timeout_s"), seconds, holds, "seconds above 0")?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Keys of other kinds say nothing to this one.
    fn nothing_left(&self, raw: &RawScore, kind: &str) -> Result<(), ConfigError> {
        let left = [
            ("name", raw.name.is_some()),
            ("path", raw.path.is_some()),
            ("dtype", raw.dtype.is_some()),
            ("normalize", raw.normalize.is_some()),
            ("pattern", raw.pattern.is_some()),
            ("text", raw.text.is_some()),
            ("program", raw.program.is_some()),
            ("args", raw.args.is_some()),
            ("url", raw.url.is_some()),
            ("timeout_s", raw.timeout_s.is_some()),
            ("answer", raw.answer.is_some()),
            ("tests", raw.tests.is_some()),
            ("memory_mb", raw.memory_mb.is_some()),
            ("disk_mb", raw.disk_mb.is_some()),
            ("processes", raw.processes.is_some()),
        ];
        match left.iter().find(|(_, is_left)| *is_left) {
            None => Ok(()),
            Some((key, _)) => {
                let expected = format!("no such key for kind = \"{kind}\"");
                Err(self.layers.unexpected(&self.key(key), "a value", &expected))
            }
        }
    }

    fn required<T>(&self, name: &str, value: Option<T>, expected: &str) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.layers.missing(&self.key(name), expected))
    }

    fn unexpected(&self, name: &str, found: &str, expected: &str) -> ConfigError {
        self.layers.unexpected(&self.key(name), &format!("{found:?}"), expected)
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.section)
    }
}
