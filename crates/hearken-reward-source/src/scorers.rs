//! Opens what a configuration names to say which completions are good: the sources of `[[score]]`, and
//! the `[judge]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearken_config::{
    Allowance, ApiJudge, Base, Dtype, Heuristics, JudgeConfig, Judges, ScoreConfig, SourceConfig,
    UnreadableAnswer,
};
use hearken_judge::chat::Api;
use hearken_judge::model::AnswerDraw;
use hearken_judge::pairwise::{
    ChatJudge, ChatJudgeOptions, CommandJudge, Orders, PairwiseJudge, Rules, Unreadable,
};
use hearken_judge::{ChoiceMethod, ChoiceOptions, CommandOptions, HttpOptions, JudgeError};
use hearken_model::Tokenizer;
use hearken_tensor::Device;

use crate::api::{Conduct, open_api};
use crate::judging::JudgeSource;
use crate::{
    Bounded, CodeSource, CommandSource, Distance, Ensemble, Heuristic, HttpSource, ProcessReward,
    ProcessRewardOptions, RewardError, RewardModel, RewardModelOptions, RewardSource, Sandbox,
    SandboxLimits, VerifierSource, WeightedSum,
};

/// How reward models read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreReading {
    /// Whether what is stored beside a model is applied to its scores; a source's own key can only
    /// turn it off.
    pub normalize: bool,
    /// The most rows of one forward pass.
    pub microbatch_tokens: usize,
}

/// Opens the sources of a configuration, for a policy with `tokenizer`.
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
        sum.push(open(score, device, tokenizer, reading)?, *score.weight);
        sum.label_last(score.label());
    }
    Ok(sum)
}

/// Opens the sources of a configuration one by one and closes them, but for programs that are there: these
/// are not started, and nobody is sent anything.
///
/// # Errors
/// As [`open_scores`], but for programs that are there and do not work.
pub fn look_at_scores<D: Device>(
    scores: &[ScoreConfig],
    device: &D,
    tokenizer: Option<&Tokenizer>,
    reading: ScoreReading,
) -> Result<(), RewardError> {
    for score in scores {
        match &score.source {
            SourceConfig::Code { program, .. } | SourceConfig::Command { program, .. }
                if is_program(program) => {}
            _ => drop(open(score, device, tokenizer, reading)?),
        }
    }
    Ok(())
}

/// The same for the judge.
///
/// # Errors
/// As [`open_judge`], but for a program that is there and does not work.
pub fn look_at_judge(judge: &JudgeConfig) -> Result<(), JudgeError> {
    match &judge.who {
        Some(Judges::Command { program, .. }) if is_program(program) => Ok(()),
        _ => open_judge(judge).map(drop),
    }
}

/// Whether a file is there by this path, or by this name in the search path.
fn is_program(program: &str) -> bool {
    if Path::new(program).components().count() != 1 {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Opens a source, within its bound if it has one.
fn open<D: Device>(
    score: &ScoreConfig,
    device: &D,
    tokenizer: Option<&Tokenizer>,
    reading: ScoreReading,
) -> Result<Box<dyn RewardSource>, RewardError> {
    let source = open_unbounded(score, device, tokenizer, reading)?;
    let Some((bound, column)) = score.bound() else { return Ok(source) };
    Ok(Box::new(Bounded::new(source, bound, column)))
}

fn open_unbounded<D: Device>(
    score: &ScoreConfig,
    device: &D,
    tokenizer: Option<&Tokenizer>,
    reading: ScoreReading,
) -> Result<Box<dyn RewardSource>, RewardError> {
    let name = score.label();
    let load = |name: &str, path: &Path, (dtype, base): (Dtype, Base), normalize: bool| {
        let options = RewardModelOptions {
            name: name.to_owned(),
            path: path.to_owned(),
            precision: dtype.into(),
            masters: base.into(),
            normalize: normalize && reading.normalize,
            microbatch_tokens: reading.microbatch_tokens,
        };
        RewardModel::load(device.clone(), &options, tokenizer)
    };
    Ok(match &score.source {
        SourceConfig::Model { path, dtype, base, normalize } => {
            Box::new(load(name, path, (*dtype, *base), *normalize)?)
        }
        SourceConfig::Ensemble { paths, combine, uncertainty, dtype, base, normalize } => {
            let member = |path: &PathBuf| {
                load(&format!("{name} {}", path.display()), path, (*dtype, *base), *normalize)
            };
            let members = paths.iter().map(member).collect::<Result<_, _>>()?;
            Box::new(Ensemble::of_particles(name, members, combine.with(*uncertainty))?)
        }
        SourceConfig::Distance { path, baseline, within, dtype, base } => {
            Box::new(Distance::new(load(name, path, (*dtype, *base), false)?, baseline, **within)?)
        }
        SourceConfig::Process { path, dtype, base, aggregate, rewards } => {
            let options = ProcessRewardOptions {
                name: name.to_owned(),
                path: path.clone(),
                precision: (*dtype).into(),
                masters: (*base).into(),
                aggregate: (*aggregate).into(),
                rewards: *rewards,
                microbatch_tokens: reading.microbatch_tokens,
            };
            Box::new(ProcessReward::load(device.clone(), options, tokenizer)?)
        }
        SourceConfig::Heuristic { name } => Box::new(match name {
            Heuristics::LengthDiversity => Heuristic::LengthDiversity,
            Heuristics::QuickstartGold => Heuristic::QuickstartGold,
        }),
        SourceConfig::Regex { pattern } => Box::new(Heuristic::regex(pattern.as_str())?),
        SourceConfig::Contains { text } => Box::new(Heuristic::Contains(text.clone())),
        SourceConfig::Verifier { name, answer } => Box::new(VerifierSource::new(*name, answer)),
        SourceConfig::Code { program, args, tests, timeout_s, memory_mb, disk_mb, processes } => {
            let bytes = |megabytes: &Allowance| megabytes.get() << 20;
            let limits = SandboxLimits {
                deadline: timeout_s.duration(),
                memory_bytes: bytes(memory_mb),
                disk_bytes: bytes(disk_mb),
                processes: processes.get(),
            };
            let sandbox = Sandbox { program: program.clone(), args: args.clone(), limits };
            Box::new(CodeSource::new(name, tests, sandbox)?)
        }
        SourceConfig::Command { program, args, timeout_s } => {
            let deadline = timeout_s.duration();
            let options = CommandOptions { program: program.clone(), args: args.clone(), deadline };
            Box::new(CommandSource::start(name, &options)?)
        }
        SourceConfig::Http { url, timeout_s } => {
            let deadline = timeout_s.duration();
            let options = HttpOptions { deadline, ..HttpOptions::new(url.clone()) };
            Box::new(HttpSource::new(name, options)?)
        }
        SourceConfig::Judge { config, answers } => {
            Box::new(JudgeSource::open(device, name, config, answers.as_deref())?)
        }
    })
}

/// Starts the program, or reads the key and makes the client; nothing is sent. `None` where nobody is
/// asked.
///
/// # Errors
/// If the program cannot be started, the URL not be used, or the variable is not set.
pub fn open_judge(judge: &JudgeConfig) -> Result<Option<Box<dyn PairwiseJudge>>, JudgeError> {
    Ok(Some(match &judge.who {
        None => return Ok(None),
        Some(Judges::Openai(api)) => Box::new(chat_judge(judge, api, Api::OpenAi)?),
        Some(Judges::Anthropic(api)) => Box::new(chat_judge(judge, api, Api::Anthropic)?),
        Some(Judges::Command { program, args }) => {
            let deadline = judge.timeout_s.duration();
            let options = CommandOptions { program: program.clone(), args: args.clone(), deadline };
            Box::new(CommandJudge::start(&options, rules(judge))?)
        }
    }))
}

fn rules(judge: &JudgeConfig) -> Rules {
    Rules {
        orders: if judge.both_orders { Orders::Both } else { Orders::Alternating },
        unreadable: match judge.on_unreadable {
            UnreadableAnswer::Tie => Unreadable::Tie,
            UnreadableAnswer::Drop => Unreadable::Drop,
            UnreadableAnswer::Error => Unreadable::Fail,
        },
    }
}

fn chat_judge(judge: &JudgeConfig, api: &ApiJudge, kind: Api) -> Result<ChatJudge, JudgeError> {
    let conduct = Conduct { limit: judge.timeout_s.duration(), retries: judge.retries };
    let model = open_api(api, kind, conduct)?;
    let choice = ChoiceOptions {
        choices: ["A", "B", "C"].map(str::to_owned).into(),
        method: ChoiceMethod::Verdict,
        votes: 1,
        draw: AnswerDraw { max_tokens: Some(*judge.max_tokens), ..AnswerDraw::default() },
        reasoning: None,
    };
    let options = ChatJudgeOptions {
        system: judge.system.clone(),
        question: judge.question.clone(),
        choice,
        parallel: *judge.parallel,
        rules: rules(judge),
    };
    Ok(ChatJudge::new(Arc::new(model), options))
}
