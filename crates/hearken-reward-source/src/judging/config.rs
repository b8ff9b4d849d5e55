//! What `hearken judge` reads; `configs/judge.toml` says what each key does.

use std::path::PathBuf;

use hearken_config::{
    ApiJudge, AtLeastOne, AtLeastTwo, Base, Complaint, Configuration, Dtype, Limit, Named,
    NonNegative, Parallel, Positive, Seconds, Tokens, UnreadableAnswer, unless_zero,
};
use hearken_judge::ChoiceMethod;
use schemars::JsonSchema;
use serde::Deserialize;

/// The configuration of `hearken judge`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgingConfig {
    /// `[[judge]]`: who judges; of several the weighted mean counts.
    #[serde(default, rename = "judge")]
    pub judges: Vec<MemberConfig>,
    /// `[ask]`: how they are asked.
    pub ask: AskConfig,
    /// `[template]`: in which words.
    pub template: TemplateConfig,
    /// `[[axis]]`: what they are asked about, each by itself; none is the whole.
    #[serde(default, rename = "axis")]
    pub axes: Vec<AxisConfig>,
    /// `[budget]`: what it may cost.
    pub budget: BudgetConfig,
}

/// One `[[judge]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// What its judgements are signed with; without it the model.
    pub name: Option<String>,
    /// Its weight among several.
    #[serde(default = "defaults::one")]
    pub weight: Positive,
    /// What a million tokens of questions cost.
    #[serde(default = "defaults::free")]
    pub prompt_price: NonNegative,
    /// What a million tokens of answers cost.
    #[serde(default = "defaults::free")]
    pub completion_price: NonNegative,
    /// Who it is.
    #[serde(rename = "*")]
    #[schemars(flatten)]
    pub who: MemberKind,
}

/// Who judges.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(tag = "kind")]
pub enum MemberKind {
    /// A language model behind an API of OpenAI's kind.
    Openai(ApiJudge),
    /// A language model behind Anthropic's API.
    Anthropic(ApiJudge),
    /// A language model in this process.
    Local {
        /// A folder with a language model.
        path: PathBuf,
        /// What matrix products read.
        #[serde(default)]
        dtype: Dtype,
        /// How its weights are held.
        #[serde(default)]
        base: Base,
    },
    /// A reward model in this process.
    Reward {
        /// A folder with a reward model.
        path: PathBuf,
        /// What matrix products read.
        #[serde(default)]
        dtype: Dtype,
        /// How its weights are held.
        #[serde(default)]
        base: Base,
    },
    /// A program.
    Command {
        /// A program to start.
        program: String,
        /// Its arguments; no shell is involved.
        #[serde(default)]
        args: Vec<String>,
    },
}

mod defaults {
    use super::{NonNegative, Positive};

    pub(super) fn one() -> Positive {
        const { Positive::new(1.0).expect("in range") }
    }

    pub(super) fn free() -> NonNegative {
        const { NonNegative::new(0.0).expect("in range") }
    }
}

/// `[ask]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskConfig {
    /// Which of two answers is better, how good each is, or how all are ordered.
    pub task: AskedTask,
    /// Whether every pair is asked about in both orders; else every other one the other way round.
    pub both_orders: bool,
    /// How a language model's choice is found out.
    pub method: MethodName,
    /// Answers of which the choice is the mean, where it is found out by votes.
    pub votes: AtLeastOne,
    /// Whether a model first gives reasons, in a step of its own.
    pub reasons: bool,
    /// The most tokens of the reasons.
    pub reason_tokens: Tokens,
    /// The most tokens of an answer in words.
    pub max_tokens: Tokens,
    /// What becomes of an answer without a winner, or without a number.
    pub on_unreadable: UnreadableAnswer,
    /// Questions to an API at a time.
    pub parallel: Parallel,
    /// Seconds for an API's answer, repetitions included, or for a program's batch.
    pub timeout_s: Seconds,
    /// Repetitions of a question after an error that may pass.
    pub retries: usize,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskedTask {
    /// Which of two answers is better.
    Compare,
    /// How good each answer is, on a scale.
    Rate,
    /// How all answers are ordered, in one question.
    Rank,
}

/// How a choice is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// By log-probabilities where the model tells them, else by votes.
    Auto,
    /// By log-probabilities.
    Logprobs,
    /// By votes.
    Votes,
    /// By one answer in words.
    Verdict,
}

impl From<MethodName> for ChoiceMethod {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Auto => Self::Auto,
            MethodName::Logprobs => Self::Probabilities,
            MethodName::Votes => Self::Votes,
            MethodName::Verdict => Self::Verdict,
        }
    }
}

/// `[template]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// A TOML file with any of the other keys of this section, which it replaces.
    pub file: Option<PathBuf>,
    /// What a model is told before every question; nothing where it is empty.
    pub system: String,
    /// What is asked of two answers, with places for {prompt}, {a}, {b} and {axis}.
    pub question: String,
    /// The names of the two answers, and of a tie where a model may say so.
    pub choices: Vec<String>,
    /// What is asked of one answer, with places for {prompt}, {answer} and {axis}.
    pub rating: String,
    /// What is asked of all answers, with places for {prompt}, {answers} and {axis}.
    pub ranking: String,
    /// The end of the scale, which begins at 1.
    pub scale: AtLeastTwo,
    /// Stands behind a question that is to be answered with reasons first.
    pub ask_reasons: String,
    /// Asks for the choice between two answers behind the reasons.
    pub then_choose: String,
    /// Asks for the number behind the reasons.
    pub then_rate: String,
    /// Asks for the order behind the reasons.
    pub then_rank: String,
}

/// One `[[axis]]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AxisConfig {
    /// Its name.
    pub name: String,
    /// What stands in the place {axis}.
    pub text: String,
    /// Its weight where axes become one number.
    #[serde(default = "defaults::one")]
    pub weight: Positive,
}

/// `[budget]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// The most tokens of questions and answers together; 0 is no limit.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "Limit")]
    pub tokens: Option<Limit>,
    /// The most money, in the unit of the prices; 0 is no limit.
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "Limit")]
    pub money: Option<Limit>,
}

impl Configuration for JudgingConfig {
    const COMMAND: &'static str = "judge";
    const DEFAULTS: &'static str = include_str!("../../../../configs/judge.toml");

    fn settle(&mut self) -> Result<(), Complaint> {
        if self.judges.is_empty() {
            return Err(Complaint::missing("judge", "at least one [[judge]] with a kind"));
        }
        self.check_template()?;
        if self.ask.task != AskedTask::Compare {
            let is_program = |one: &MemberConfig| matches!(one.who, MemberKind::Command { .. });
            if let Some(at) = self.judges.iter().position(is_program) {
                return Err(program_compares(&format!("judge[{at}].kind"), self.ask.task));
            }
        }
        if self.ask.task == AskedTask::Rank && self.ask.method == MethodName::Logprobs {
            return Err(Complaint::unexpected(
                "ask.method",
                "\"logprobs\" with ask.task = \"rank\"".to_owned(),
                "\"votes\", \"verdict\" or \"auto\": an order is written out",
            ));
        }
        if self.ask.task == AskedTask::Rate {
            let is_reward = |one: &MemberConfig| matches!(one.who, MemberKind::Reward { .. });
            let rewards = self.judges.iter().filter(|one| is_reward(one)).count();
            if 0 < rewards && (1 < self.judges.len() || !self.axes.is_empty()) {
                return Err(Complaint::unexpected(
                    "judge",
                    "a reward model beside other judges, or axes, with ask.task = \"rate\""
                        .to_owned(),
                    "a reward model alone: its scores have a scale of their own",
                ));
            }
        }
        Ok(())
    }

    fn named(&mut self) -> Vec<Named<'_>> {
        MemberConfig::named(&mut self.judges)
    }
}

/// A program that is to do something else than compare, which is said of the key, or the judge, that names it.
pub fn program_compares(named: &str, task: AskedTask) -> Complaint {
    let task = match task {
        AskedTask::Compare => "compare",
        AskedTask::Rate => "rate",
        AskedTask::Rank => "rank",
    };
    Complaint::unexpected(
        named,
        format!("\"command\" with ask.task = \"{task}\""),
        "a model: a program compares (`hearken score` and [[score]] have programs that score)",
    )
}

impl JudgingConfig {
    /// Checks what the keys of the template say together; also once a file of it has replaced some.
    ///
    /// # Errors
    /// Names the key.
    pub fn check_template(&self) -> Result<(), Complaint> {
        let TemplateConfig { question, choices, rating, ranking, .. } = &self.template;
        let lacks = |key: &str, text: &str, place: &str| {
            let found = format!("no `{place}`");
            (!text.contains(place)).then(|| {
                Complaint::unexpected(&format!("template.{key}"), found, "one in the text")
            })
        };
        let mut needed = match self.ask.task {
            AskedTask::Compare => {
                vec![("question", question, "{a}"), ("question", question, "{b}")]
            }
            AskedTask::Rate => vec![("rating", rating, "{answer}")],
            AskedTask::Rank => vec![("ranking", ranking, "{answers}")],
        };
        if !self.axes.is_empty() {
            let (key, text) = (needed[0].0, needed[0].1);
            needed.push((key, text, "{axis}"));
        }
        for (key, text, place) in needed {
            lacks(key, text, place).map_or(Ok(()), Err)?;
        }
        let distinct = |of: &[String]| {
            let mut lower: Vec<String> = of.iter().map(|one| one.to_ascii_lowercase()).collect();
            lower.sort();
            lower.dedup();
            lower.len() == of.len() && of.iter().all(|one| !one.trim().is_empty())
        };
        if !(2..=3).contains(&choices.len()) || !distinct(choices) {
            let expected = "two different names, or three with that of a tie";
            return Err(Complaint::unexpected(
                "template.choices",
                format!("{choices:?}"),
                expected,
            ));
        }
        let names: Vec<String> = self.axes.iter().map(|axis| axis.name.clone()).collect();
        if !distinct(&names) {
            return Err(Complaint::unexpected("axis", format!("{names:?}"), "names that differ"));
        }
        Ok(())
    }
}

impl MemberConfig {
    /// What every `[[judge]]` names.
    pub fn named(judges: &mut [Self]) -> Vec<Named<'_>> {
        let of = |(at, judge): (usize, _)| {
            let judge: &mut Self = judge;
            match &mut judge.who {
                MemberKind::Local { path, .. } | MemberKind::Reward { path, .. } => {
                    Some(Named::model(format!("judge[{at}].path"), path))
                }
                _ => None,
            }
        };
        judges.iter_mut().enumerate().filter_map(of).collect()
    }
}
