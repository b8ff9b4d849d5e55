//! `[[score]]`: where scores come from. What opens a source is in `reward_source`.

use std::path::PathBuf;

use hearken_objective::bounded::Bound;
use hearken_objective::ensemble::Combination;
use hearken_objective::process::StepAggregation;
use regex::Regex;
use schemars::JsonSchema;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

use super::error::Complaint;
use super::model::{Base, Dtype};
use super::number::{Allowance, Finite, NonNegative, Seconds, Share};

/// One `[[score]]`: a source with its weight in the sum.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct ScoreConfig {
    /// What names the source in metrics; without it the kind, or the name of the heuristic or verifier.
    label: Option<String>,
    /// Multiplies its scores; 0 only measures.
    #[serde(default = "defaults::weight")]
    pub weight: Finite,
    /// What flattens its scores above those of the reference.
    #[serde(default)]
    pub bound: BoundName,
    /// The column of the prompts that has the reference's completion, or a list of them; without it the reference's
    /// score is 0.
    reference: Option<String>,
    /// What it is.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub source: SourceConfig,
}

/// What flattens the scores of a source above those of the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoundName {
    /// Nothing.
    #[default]
    None,
    /// The sigmoid of what it is above the reference's score.
    Sigmoid,
    /// The logarithm of that.
    LogSigmoid,
}

/// How the scores of several reward models become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Their mean.
    #[default]
    Mean,
    /// The lowest.
    Worst,
    /// The mean less `uncertainty` times the variance.
    Uncertainty,
}

/// What a source is.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum SourceConfig {
    /// A checkpoint with a score head.
    Model {
        /// A folder with a reward model.
        path: PathBuf,
        /// What matrix products read.
        #[serde(default)]
        dtype: Dtype,
        /// How its weights are held.
        #[serde(default)]
        base: Base,
        /// Whether the stored mean and deviation are applied.
        #[serde(default = "defaults::yes")]
        normalize: bool,
    },
    /// Several of these, or one with particles, whose scores become one.
    Ensemble {
        /// Folders with reward models.
        #[schemars(length(min = 1))]
        paths: Vec<PathBuf>,
        /// How their scores become one.
        #[serde(default)]
        combine: Combine,
        /// Of "uncertainty": what the variance is multiplied by before it is subtracted.
        uncertainty: Option<NonNegative>,
        /// What matrix products read.
        #[serde(default)]
        dtype: Dtype,
        /// How their weights are held.
        #[serde(default)]
        base: Base,
        /// Whether the stored means and deviations are applied.
        #[serde(default = "defaults::yes")]
        normalize: bool,
    },
    /// How far completions are from those of a baseline, in the last hidden state of a reward model.
    Distance {
        /// A folder with a reward model.
        path: PathBuf,
        /// Records with the prompts and completions that distances are measured from.
        baseline: PathBuf,
        /// The share of the baseline's completions that are no outliers.
        #[serde(default = "defaults::within")]
        within: Share,
        /// What matrix products read.
        #[serde(default)]
        dtype: Dtype,
        /// How its weights are held.
        #[serde(default)]
        base: Base,
    },
    /// A checkpoint that scores the steps of a completion.
    Process {
        /// A folder with a process reward model.
        path: PathBuf,
        /// What matrix products read.
        #[serde(default)]
        dtype: Dtype,
        /// How its weights are held.
        #[serde(default)]
        base: Base,
        /// How the scores of steps become one.
        #[serde(default)]
        aggregate: Aggregate,
        /// Where rewards fall.
        #[serde(default)]
        rewards: StepRewards,
    },
    /// A function of the text that needs no model.
    Heuristic {
        /// Which function.
        name: Heuristics,
    },
    /// 1 where a regular expression matches, else 0.
    Regex {
        /// An expression.
        pattern: Pattern,
    },
    /// 1 where a text occurs, else 0.
    Contains {
        /// A text to look for.
        text: String,
    },
    /// A right answer.
    Verifier {
        /// What is compared.
        name: Verifier,
        /// The column of the prompts that has the answer.
        #[serde(default = "defaults::answer")]
        answer: String,
    },
    /// Tests that a completion's program must pass.
    Code {
        /// An interpreter, as "python3".
        program: String,
        /// Its arguments before the file with the program.
        #[serde(default)]
        args: Vec<String>,
        /// The column of the prompts that has the tests.
        #[serde(default = "defaults::tests")]
        tests: String,
        /// Seconds for one run.
        #[serde(default = "defaults::code_timeout_s")]
        timeout_s: Seconds,
        /// Megabytes of address space of a process.
        #[serde(default = "defaults::memory_mb")]
        memory_mb: Allowance,
        /// Megabytes of the working folder.
        #[serde(default = "defaults::disk_mb")]
        disk_mb: Allowance,
        /// Processes and threads at the same time.
        #[serde(default = "defaults::processes")]
        processes: Allowance,
    },
    /// A program.
    Command {
        /// A program to start.
        program: String,
        /// Its arguments; no shell is involved.
        #[serde(default)]
        args: Vec<String>,
        /// Seconds for the scores of one batch.
        #[serde(default = "defaults::timeout_s")]
        timeout_s: Seconds,
    },
    /// Language models that say how good a completion is.
    Judge {
        /// A configuration of `hearken judge` with `ask.task` = "rate".
        config: PathBuf,
        /// Where answers are kept, so that nothing is asked twice; without it for as long as the run lasts.
        answers: Option<PathBuf>,
    },
    /// A server.
    Http {
        /// An http or https URL.
        url: String,
        /// Seconds for one request with its repetitions.
        #[serde(default = "defaults::timeout_s")]
        timeout_s: Seconds,
    },
}

/// What keys of a source are where nothing is said.
mod defaults {
    use super::{Allowance, Finite, Seconds, Share};

    pub(super) fn weight() -> Finite {
        const { Finite::new(1.0).expect("in range") }
    }

    pub(super) fn within() -> Share {
        const { Share::new(0.95).expect("in range") }
    }

    pub(super) fn yes() -> bool {
        true
    }

    pub(super) fn answer() -> String {
        "answer".to_owned()
    }

    pub(super) fn tests() -> String {
        "tests".to_owned()
    }

    pub(super) fn timeout_s() -> Seconds {
        const { Seconds::new(60.0).expect("in range") }
    }

    pub(super) fn code_timeout_s() -> Seconds {
        const { Seconds::new(5.0).expect("in range") }
    }

    pub(super) fn memory_mb() -> Allowance {
        const { Allowance::new(1024).expect("in range") }
    }

    pub(super) fn disk_mb() -> Allowance {
        const { Allowance::new(16).expect("in range") }
    }

    pub(super) fn processes() -> Allowance {
        const { Allowance::new(32).expect("in range") }
    }
}

/// How the scores of steps become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Their product.
    #[default]
    Product,
    /// The lowest.
    Min,
    /// The last.
    Last,
    /// Their mean.
    Mean,
    /// The n-th root of their product.
    GeometricMean,
}

impl From<Aggregate> for StepAggregation {
    fn from(aggregate: Aggregate) -> Self {
        match aggregate {
            Aggregate::Product => Self::Product,
            Aggregate::Min => Self::Min,
            Aggregate::Last => Self::Last,
            Aggregate::Mean => Self::Mean,
            Aggregate::GeometricMean => Self::GeometricMean,
        }
    }
}

/// Where the rewards of a process reward model fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepRewards {
    /// At the end of each step, by how much it changes the score of what stands up to there: their sum is the score of
    /// the whole, however many steps there are.
    #[default]
    Differences,
    /// At the end of each step, its score: the sum grows with the number of steps.
    Steps,
    /// On the whole: its score.
    Whole,
}

/// Functions of the text by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heuristics {
    /// Length up to 20 words and diversity of words, averaged.
    LengthDiversity,
    /// The hidden preference of the quickstart's small world.
    QuickstartGold,
}

/// What is compared with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// The whole completion, but for white space at its ends and runs of white space inside.
    Exact,
    /// The number behind the last `####`, else the last number of the text: GSM8K's form.
    Numeric,
    /// What stands in the last `\boxed{}`, compared by what it says.
    Boxed,
    /// Nothing: the share of the completion's own steps `a op b = c` that are right.
    ArithmeticSteps,
}

impl Verifier {
    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Numeric => "numeric",
            Self::Boxed => "boxed",
            Self::ArithmeticSteps => "arithmetic_steps",
        }
    }
}

/// The text of a regular expression.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Pattern(String);

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Regex::new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => {
                let expected = format!("a regular expression: {error}");
                Err(D::Error::invalid_value(Unexpected::Str(&text), &expected.as_str()))
            }
        }
    }
}

impl ScoreConfig {
    /// The name of the source in metrics.
    pub fn label(&self) -> &str {
        let own = match &self.source {
            SourceConfig::Model { .. } => "model",
            SourceConfig::Ensemble { .. } => "ensemble",
            SourceConfig::Distance { .. } => "distance",
            SourceConfig::Process { .. } => "process",
            SourceConfig::Heuristic { name: Heuristics::LengthDiversity } => "length_diversity",
            SourceConfig::Heuristic { name: Heuristics::QuickstartGold } => "quickstart_gold",
            SourceConfig::Regex { .. } => "regex",
            SourceConfig::Contains { .. } => "contains",
            SourceConfig::Verifier { name, .. } => name.name(),
            SourceConfig::Code { .. } => "code",
            SourceConfig::Command { .. } => "command",
            SourceConfig::Judge { .. } => "judge",
            SourceConfig::Http { .. } => "http",
        };
        self.label.as_deref().unwrap_or(own)
    }

    /// What flattens its scores, with the column of the reference's completions; `None` where nothing does.
    pub fn bound(&self) -> Option<(Bound, Option<&str>)> {
        let bound = match self.bound {
            BoundName::None => return None,
            BoundName::Sigmoid => Bound::Sigmoid,
            BoundName::LogSigmoid => Bound::LogSigmoid,
        };
        Some((bound, self.reference.as_deref()))
    }

    /// Refuses keys that say nothing, or not enough.
    fn check(&self, at: &str) -> Result<(), Complaint> {
        let key = |name: &str| format!("{at}.{name}");
        if self.bound == BoundName::None && self.reference.is_some() {
            let reason = "without a bound nothing is compared with a reference";
            return Err(Complaint::exclusive(&key("reference"), &key("bound"), reason));
        }
        match &self.source {
            SourceConfig::Ensemble { paths, combine, uncertainty, .. } => {
                let expected = "two reward models or more, or one with particles";
                Complaint::unless(!paths.is_empty(), &key("paths"), paths.len(), expected)?;
                match (combine, uncertainty) {
                    (Combine::Uncertainty, None) => {
                        let expected = "a number from 0, with combine = \"uncertainty\"";
                        Err(Complaint::missing(&key("uncertainty"), expected))
                    }
                    (Combine::Mean | Combine::Worst, Some(_)) => {
                        let reason = "only combine = \"uncertainty\" reads it";
                        Err(Complaint::exclusive(&key("uncertainty"), &key("combine"), reason))
                    }
                    _ => Ok(()),
                }
            }
            SourceConfig::Distance { .. } => {
                if self.bound != BoundName::None {
                    let reason = "a distance has no bound: what is far away is to be seen";
                    return Err(Complaint::exclusive(&key("bound"), &key("kind"), reason));
                }
                let expected = "a number up to 0: far from the baseline is no better";
                Complaint::unless(*self.weight <= 0.0, &key("weight"), *self.weight, expected)
            }
            SourceConfig::Process { .. } if self.bound != BoundName::None => {
                let reason = "scores of steps have no bound";
                Err(Complaint::exclusive(&key("bound"), &key("kind"), reason))
            }
            _ => Ok(()),
        }
    }
}

impl Combine {
    /// The same with what the variance is multiplied by.
    pub fn with(self, uncertainty: Option<NonNegative>) -> Combination {
        match self {
            Self::Mean => Combination::Mean,
            Self::Worst => Combination::WorstCase,
            Self::Uncertainty => Combination::UncertaintyWeighted {
                weight: uncertainty.map_or(0.0, NonNegative::get),
            },
        }
    }
}

/// Refuses sources that contradict themselves, and two sources with one label.
///
/// # Errors
/// Names the key, or the second of the two.
pub fn check_scores(scores: &[ScoreConfig]) -> Result<(), Complaint> {
    for (index, score) in scores.iter().enumerate() {
        score.check(&format!("score[{index}]"))?;
        if scores[..index].iter().any(|earlier| earlier.label() == score.label()) {
            let found = format!("{:?} a second time", score.label());
            let expected = "labels that differ: they name the metrics";
            return Err(Complaint::unexpected(&format!("score[{index}].label"), found, expected));
        }
    }
    Ok(())
}
