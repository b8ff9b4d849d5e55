//! Preferences of a program that reads and writes JSON lines.

use serde_json::{Map, Value};

use super::rules::{Opinion, Question, Rules};
use super::{CompletionPair, PairwiseJudge, Preferences};
use crate::JudgeError;
use crate::item::{excerpt, finite_score, messages_json};
use crate::line_program::{CommandOptions, LineProgram, Protocol};

const FORM: &str = "{\"probability\": NUMBER}";
const PREFERENCES: Protocol = Protocol { what: "preferences", form: FORM };

/// A program that is started once and asked batch after batch.
///
/// Each request is a line on its standard input, `{"id": N, "prompt": …, "completion_a": …,
/// "completion_b": …}`, of a conversation its `messages` too, and the further columns of the prompt's record; each answer a line on its
/// standard output, in the order of the requests: `{"probability": NUMBER}`, from 0 to 1, that A is
/// preferred to B, or `{"probability": null}` where the program has no opinion. All else is as with
/// [`CommandScorer`](crate::CommandScorer).
#[derive(Debug)]
pub struct CommandJudge {
    program: LineProgram,
    rules: Rules,
}

impl CommandJudge {
    /// Starts the program.
    ///
    /// # Errors
    /// [`JudgeError::Start`] if there is no such program or it may not be run.
    pub fn start(options: &CommandOptions, rules: Rules) -> Result<Self, JudgeError> {
        Ok(Self { program: LineProgram::start(options, PREFERENCES)?, rules })
    }
}

impl PairwiseJudge for CommandJudge {
    fn name(&self) -> &str {
        self.program.label()
    }

    fn judge(&mut self, comparisons: &[CompletionPair<'_>]) -> Result<Preferences, JudgeError> {
        let questions = self.rules.questions(comparisons);
        let requests = questions.iter().map(request).collect();
        let opinions = self.program.ask(requests, opinion)?;
        self.rules.settle(self.name(), FORM, &questions, &opinions)
    }
}

fn request(question: &Question<'_>) -> Map<String, Value> {
    let [a, b] = question.completions();
    let own = [("prompt", question.comparison.prompt), ("completion_a", a), ("completion_b", b)];
    let mut request: Map<String, Value> =
        own.iter().map(|&(key, text)| (key.to_owned(), text.into())).collect();
    if let Some(messages) = question.comparison.messages {
        request.insert("messages".to_owned(), messages_json(messages));
    }
    for (key, value) in question.comparison.fields {
        if !request.contains_key(key) {
            request.insert(key.clone(), value.clone());
        }
    }
    request
}

fn opinion(answer: &Map<String, Value>) -> Result<Opinion, String> {
    match answer.get("probability") {
        None => Err("no probability".to_owned()),
        Some(Value::Null) => Ok(Opinion::None(excerpt(&Value::Object(answer.clone()).to_string()))),
        given => match finite_score(given)? {
            p if (0.0..=1.0).contains(&p) => Ok(Opinion::First(p)),
            p => Err(format!("{p} where a number from 0 to 1 is expected")),
        },
    }
}
