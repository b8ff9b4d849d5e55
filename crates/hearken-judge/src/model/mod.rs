//! A language model that can be asked: behind an API ([`ChatModel`]) or wherever else somebody implements [`LanguageModel`].
//!
//! [`KeptModel`] asks nothing twice and stops at a [`Budget`].
//!
//! Not here: what is asked, and what an answer means.

mod budget;
mod chat_model;
mod kept;

use hearken_data::Message;
use serde::{Deserialize, Serialize};

pub use budget::{Budget, Price, SpendingLimits, Spent};
pub use chat_model::ChatModel;
pub use kept::{KeptAnswers, KeptError, KeptModel};

use crate::JudgeError;

/// Says now and then whether an answer is still wanted.
pub type GoOn<'a> = dyn Fn() -> bool + Sync + 'a;

/// How an answer is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AnswerDraw {
    /// The most tokens of it; the model's own limit where there is none.
    pub max_tokens: Option<u32>,
    /// The sampling temperature; the model's own where there is none.
    pub temperature: Option<f64>,
    /// Which of several answers to the same question: each is drawn anew.
    pub number: u64,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the question.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Whether they are estimated, from the lengths of the texts, since the server counts none.
    pub estimated: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What the model wrote; empty where it would not say anything.
    pub text: String,
    /// What it cost.
    pub usage: Usage,
}

/// How probable each of several choices is as the model's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// One probability per choice, in order, which add up to at most 1; `None` of a model that tells no probabilities.
    pub probabilities: Option<Vec<f64>>,
    /// What it cost.
    pub usage: Usage,
}

/// A language model that can be asked, by several threads at once.
pub trait LanguageModel: Send + Sync {
    /// Names it in errors and judgements.
    fn name(&self) -> &str;

    /// What tells it from every other model: kept answers are looked up by it.
    fn identity(&self) -> String;

    /// Draws the next message of a conversation.
    ///
    /// # Errors
    /// If there is none to be had.
    fn reply(
        &self,
        conversation: &[Message],
        draw: &AnswerDraw,
        go_on: &GoOn<'_>,
    ) -> Result<Reply, JudgeError>;

    /// How probable each choice is as the beginning of the next message.
    ///
    /// # Errors
    /// If the model cannot be asked. One that answers and tells no probabilities is no error.
    fn weigh(
        &self,
        conversation: &[Message],
        choices: &[String],
        go_on: &GoOn<'_>,
    ) -> Result<Weighed, JudgeError>;
}

/// Tokens of a text, where nobody counts them: a token for every four bytes, as English has it.
fn estimated_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}
