//! Opens what a configuration names to say which completions are good: the sources of `[[score]]`, and
//! the `[judge]`.

use hearken_judge::JudgeError;
use hearken_judge::chat::Key;
use hearken_judge::pairwise::{ChatJudge, ChatJudgeOptions, CommandJudge, PairwiseJudge};
use hearken_model::Tokenizer;
use hearken_tensor::Device;

use crate::config::{JudgeConfig, ScoreConfig, SourceConfig};
use crate::reward_source::{
    CodeSource, CommandSource, Heuristic, HttpSource, RewardError, RewardModel, RewardModelOptions,
    VerifierSource, WeightedSum,
};

/// How reward models read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreReading {
    /// Whether what is stored beside a model is applied to its scores.
    pub normalize: bool,
    /// The most rows of one forward pass.
    pub microbatch_tokens: usize,
}

/// Opens the sources of a configuration, for a policy with `tokenizer`. `normalize` is whether reward
/// models may apply what is stored beside them; a source's own key can only turn it off.
///
/// # Errors
/// If a model cannot be loaded, a program not started, or a URL not used.
pub fn open_scores<D: Device>(
    scores: &[ScoreConfig],
    device: &D,
    tokenizer: Option<&Tokenizer>,
    reading: ScoreReading,
) -> Result<WeightedSum<'static>, RewardError> {
    let mut sum = WeightedSum::new();
    for score in scores {
        let name = score.label.as_str();
        match &score.source {
            SourceConfig::Model { path, dtype, normalize } => {
                let options = RewardModelOptions {
                    name: name.to_owned(),
                    path: path.clone(),
                    precision: (*dtype).into(),
                    normalize: *normalize && reading.normalize,
                    microbatch_tokens: reading.microbatch_tokens,
                };
                let model = RewardModel::load(device.clone(), &options, tokenizer)?;
                sum.push(Box::new(model), score.weight);
            }
            SourceConfig::LengthDiversity => {
                sum.push(Box::new(Heuristic::LengthDiversity), score.weight);
            }
            SourceConfig::QuickstartGold => {
                sum.push(Box::new(Heuristic::QuickstartGold), score.weight);
            }
            SourceConfig::Regex { pattern } => {
                sum.push(Box::new(Heuristic::regex(pattern)?), score.weight);
            }
            SourceConfig::Contains { text } => {
                sum.push(Box::new(Heuristic::Contains(text.clone())), score.weight);
            }
            SourceConfig::Verifier { verifier, answer } => {
                sum.push(Box::new(VerifierSource::new(*verifier, answer)), score.weight);
            }
            SourceConfig::Code { tests, sandbox } => {
                let source = CodeSource::new(name, tests, sandbox.clone())?;
                sum.push(Box::new(source), score.weight);
            }
            SourceConfig::Command(options) => {
                sum.push(Box::new(CommandSource::start(name, options)?), score.weight);
            }
            SourceConfig::Http(options) => {
                sum.push(Box::new(HttpSource::new(name, options.clone())?), score.weight);
            }
        }
        sum.label_last(name);
    }
    Ok(sum)
}

/// Starts the program of a `[judge]`, or reads the key and makes the client; nothing is sent.
///
/// # Errors
/// If the program cannot be started, the URL not be used, or the variable is not set.
pub fn open_judge(config: &JudgeConfig) -> Result<Box<dyn PairwiseJudge>, JudgeError> {
    match config {
        JudgeConfig::Command { options, rules } => {
            Ok(Box::new(CommandJudge::start(options, *rules)?))
        }
        JudgeConfig::Chat { options, key_env } => {
            let mut options = ChatJudgeOptions::clone(options);
            options.chat.key = key_env.as_deref().map(key).transpose()?;
            Ok(Box::new(ChatJudge::new(options)?))
        }
    }
}

fn key(variable: &str) -> Result<Key, JudgeError> {
    std::env::var(variable).map(Key::from).map_err(|_| JudgeError::Broken {
        judge: "`judge.key_env`".to_owned(),
        reason: format!(
            "found no environment variable {variable}, expected one that has the key of the API"
        ),
    })
}
