//! One of several short answers: by probabilities where the model tells them, else by votes, else by what it says.

use std::sync::{Mutex, PoisonError};

use hearken_data::{Message, Role};

use crate::JudgeError;
use crate::model::{AnswerDraw, GoOn, LanguageModel};

/// The least probability that all choices have together where a model is about to name one of them. Below it, it is about
/// to say something else, and which choice is the likeliest beginning of that means nothing.
const MASS_MIN: f64 = 0.05;

/// How a choice is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChoiceMethod {
    /// By probabilities where the model tells them, which is found out once; else by votes.
    #[default]
    Auto,
    /// By the probabilities of the choices as the first token.
    Probabilities,
    /// By votes: the same question several times, each answer drawn at temperature 1.
    Votes,
    /// By one answer in words.
    Verdict,
}

/// What a model is told before it chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasoning {
    /// Stands behind the question, and asks for reasons.
    pub ask: String,
    /// Asks for the choice once there are reasons.
    pub then: String,
    /// The most tokens of the reasons.
    pub max_tokens: u32,
}

/// How a model is asked to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceOptions {
    /// What it may answer.
    pub choices: Vec<String>,
    /// How the choice is found out.
    pub method: ChoiceMethod,
    /// How many answers are a vote.
    pub votes: u32,
    /// How an answer in words is drawn.
    pub draw: AnswerDraw,
    /// Asked first, in a step of its own.
    pub reasoning: Option<Reasoning>,
}

/// How probable each choice is, as far as there is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    /// Probabilities that add up to 1, or what was said in place of a choice.
    pub(crate) weights: Result<Vec<f64>, String>,
    /// The reasons.
    pub(crate) rationale: Option<String>,
}

/// Asks for choices; knows whether the model tells probabilities once it has been asked.
#[derive(Debug, Default)]
pub(crate) struct Chooser {
    tells: Mutex<Option<bool>>,
}

impl Chooser {
    /// The choice in answer to a conversation; `read` says what an answer in words means: a weight for each choice. A question
    /// that is longer than the model's context has none.
    pub(crate) fn choose(
        &self,
        model: &dyn LanguageModel,
        conversation: Vec<Message>,
        options: &ChoiceOptions,
        read: &dyn Fn(&str) -> Option<Vec<f64>>,
        go_on: &GoOn<'_>,
    ) -> Result<Chosen, JudgeError> {
        match self.asked(model, conversation, options, read, go_on) {
            Err(error @ JudgeError::TooLong { .. }) => {
                Ok(Chosen { weights: Err(error.to_string()), rationale: None })
            }
            other => other,
        }
    }

    fn asked(
        &self,
        model: &dyn LanguageModel,
        mut conversation: Vec<Message>,
        options: &ChoiceOptions,
        read: &dyn Fn(&str) -> Option<Vec<f64>>,
        go_on: &GoOn<'_>,
    ) -> Result<Chosen, JudgeError> {
        let mut rationale = None;
        if let Some(Reasoning { ask, then, max_tokens }) = &options.reasoning {
            if let Some(question) = conversation.last_mut() {
                question.content.push_str(ask);
            }
            let draw = AnswerDraw { max_tokens: Some(*max_tokens), ..options.draw };
            let reasons = model.reply(&conversation, &draw, go_on)?.text;
            conversation.push(Message::new(Role::Assistant, reasons.clone()));
            conversation.push(Message::new(Role::User, then.clone()));
            rationale = Some(reasons);
        }
        let by_probability = match options.method {
            ChoiceMethod::Auto | ChoiceMethod::Probabilities => {
                self.weigh(model, &conversation, options, go_on)?
            }
            ChoiceMethod::Votes | ChoiceMethod::Verdict => None,
        };
        let weights = match (by_probability, options.method) {
            (Some(weights), _) => Ok(weights),
            (None, ChoiceMethod::Probabilities) => {
                Err("no probability of any choice among those that are told".to_owned())
            }
            (None, ChoiceMethod::Verdict) => {
                let reply = model.reply(&conversation, &options.draw, go_on)?;
                read(&reply.text).ok_or(reply.text)
            }
            (None, ChoiceMethod::Auto | ChoiceMethod::Votes) => {
                vote(model, &conversation, options, read, go_on)?
            }
        };
        Ok(Chosen { weights, rationale })
    }

    fn weigh(
        &self,
        model: &dyn LanguageModel,
        conversation: &[Message],
        options: &ChoiceOptions,
        go_on: &GoOn<'_>,
    ) -> Result<Option<Vec<f64>>, JudgeError> {
        // Who is first finds out for everybody; the others wait, so that it is asked once.
        let mut tells = self.tells.lock().unwrap_or_else(PoisonError::into_inner);
        let weighed = match *tells {
            Some(false) => return Ok(None),
            Some(true) => {
                drop(tells);
                model.weigh(conversation, &options.choices, go_on)?
            }
            None => {
                let weighed = model.weigh(conversation, &options.choices, go_on)?;
                *tells = Some(weighed.probabilities.is_some());
                weighed
            }
        };
        let Some(weights) = weighed.probabilities else { return Ok(None) };
        let mass: f64 = weights.iter().sum();
        let least = if options.method == ChoiceMethod::Auto { MASS_MIN } else { 0.0 };
        let is_choice = 0.0 < mass && least <= mass;
        Ok(is_choice.then(|| weights.iter().map(|weight| weight / mass).collect()))
    }
}

/// The mean of several answers, those aside that name no choice.
fn vote(
    model: &dyn LanguageModel,
    conversation: &[Message],
    options: &ChoiceOptions,
    read: &dyn Fn(&str) -> Option<Vec<f64>>,
    go_on: &GoOn<'_>,
) -> Result<Result<Vec<f64>, String>, JudgeError> {
    let (mut sums, mut count) = (Vec::new(), 0_u32);
    let mut last = String::new();
    for number in 0..u64::from(options.votes.max(1)) {
        let draw = AnswerDraw { temperature: Some(1.0), number, ..options.draw };
        let reply = model.reply(conversation, &draw, go_on)?;
        match read(&reply.text) {
            Some(weights) => {
                count += 1;
                sums.resize(weights.len(), 0.0);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += weight;
                }
            }
            None => last = reply.text,
        }
    }
    Ok(match count {
        0 => Err(last),
        _ => Ok(sums.into_iter().map(|sum| sum / f64::from(count)).collect()),
    })
}

/// Which of several labels an answer in words names: what stands in its last double brackets, or the whole answer,
/// punctuation aside. Small letters are as good as capitals.
pub(crate) fn named(answer: &str, labels: &[String]) -> Option<usize> {
    let is = |word: &str| labels.iter().position(|label| label.eq_ignore_ascii_case(word.trim()));
    if let Some((before, _)) = answer.rsplit_once("]]") {
        return is(before.rsplit_once("[[")?.1);
    }
    is(answer.trim_matches(|c: char| !c.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_double_brackets_or_the_whole_answer_name_a_choice() {
        let labels = ["1", "2", "10"].map(str::to_owned);
        for (answer, expected) in [
            ("[[2]]", Some(1)),
            ("I say [[1]], no: [[ 10 ]].", Some(2)),
            ("**1**.", Some(0)),
            (" 10\n", Some(2)),
            ("1 of 2", None),
            ("[[3]]", None),
            ("]]", None),
            ("", None),
        ] {
            assert_eq!(named(answer, &labels), expected, "{answer}");
        }
    }
}
