//! Preferences of a language model behind an API.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hearken_data::{Message, Role};

use super::rules::{Opinion, Question, Rules};
use super::{Comparison, PairwiseJudge, Preferences, Template, read_verdict};
use crate::JudgeError;
use crate::chat::{ChatClient, ChatError, ChatOptions};
use crate::patience::Patience;

const EXPECTED: &str = "[[A]], [[B]], [[C]] or a number from 0 to 1 in double brackets";

/// Which model is asked, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatJudgeOptions {
    /// The model. `retries_max` and `first_pause` hold for broken connections as well, and
    /// `timeouts.total` for a question with all its repetitions.
    pub chat: ChatOptions,
    /// What the model is told before each question; nothing where it is empty.
    pub system: String,
    /// What it is asked; [`read_verdict`] says what it may answer.
    pub question: Template,
    /// Questions at a time; at least one.
    pub parallel: usize,
    /// In which order completions are shown, and what becomes of answers without a winner.
    pub rules: Rules,
}

/// A language model that is asked which of two completions is better.
#[derive(Debug)]
pub struct ChatJudge {
    options: ChatJudgeOptions,
    client: ChatClient,
    name: String,
}

impl ChatJudge {
    /// A judge. Nothing is sent.
    ///
    /// # Errors
    /// If the base URL or the key cannot be used.
    ///
    /// # Panics
    /// If `parallel` is 0.
    pub fn new(options: ChatJudgeOptions) -> Result<Self, JudgeError> {
        assert!(0 < options.parallel, "parallel: at least one question at a time");
        let client = ChatClient::new(options.chat.clone())?;
        let name = format!("the judge {:?}", options.chat.model);
        Ok(Self { options, client, name })
    }

    /// Opinions on the questions, or the first error.
    fn opinions(&self, questions: &[Question<'_>]) -> Result<Vec<Opinion>, JudgeError> {
        let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let found: Mutex<Vec<Option<Opinion>>> = Mutex::new(vec![None; questions.len()]);
        let failure: Mutex<Option<ChatError>> = Mutex::new(None);
        thread::scope(|scope| {
            for _ in 0..self.options.parallel.min(questions.len()) {
                scope.spawn(|| {
                    while !has_failed.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(question) = questions.get(index) else { break };
                        match self.ask(question, &has_failed) {
                            Ok(opinion) => {
                                let mut found =
                                    found.lock().unwrap_or_else(PoisonError::into_inner);
                                found[index] = Some(opinion);
                            }
                            Err(error) => {
                                // Others that are broken off because of it fail as well.
                                let mut first =
                                    failure.lock().unwrap_or_else(PoisonError::into_inner);
                                first.get_or_insert(error);
                                has_failed.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.into());
        }
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(found.into_iter().map(|one| one.expect("every question was answered")).collect())
    }

    /// One question, asked again where the connection breaks.
    fn ask(&self, question: &Question<'_>, is_over: &AtomicBool) -> Result<Opinion, ChatError> {
        let mut conversation = vec![Message::new(Role::User, self.options.question.fill(question))];
        if !self.options.system.is_empty() {
            conversation.insert(0, Message::new(Role::System, self.options.system.clone()));
        }
        let ChatOptions { timeouts, retries_max, first_pause, .. } = &self.options.chat;
        let mut patience = Patience::new(timeouts.total, *retries_max, *first_pause);
        let (start, limit) = (patience.start(), timeouts.total);
        let mut go_on = |_: &str| {
            if is_over.load(Ordering::Relaxed) || limit <= start.elapsed() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        loop {
            let error = match self.client.answer(&conversation, &mut go_on) {
                Ok(answer) => {
                    let verdict = read_verdict(&answer.text);
                    return Ok(verdict.map_or(Opinion::None(answer.text), Opinion::First));
                }
                // The model refuses to say anything.
                Err(ChatError::Empty { .. }) => return Ok(Opinion::None(String::new())),
                Err(error) => error,
            };
            if patience.left().is_zero() {
                return Err(self.late(error));
            }
            if !may_pass(&error) || is_over.load(Ordering::Relaxed) {
                return Err(error);
            }
            wait(patience.next_pause(None).ok_or(error)?, is_over);
        }
    }

    /// What is told of a question whose time is over.
    fn late(&self, error: ChatError) -> ChatError {
        match error {
            ChatError::Cancelled { received } => ChatError::Slow {
                url: self.client.url.clone(),
                stage: "no whole answer",
                limit: self.options.chat.timeouts.total,
                received,
            },
            other => other,
        }
    }
}

impl PairwiseJudge for ChatJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn judge(&mut self, comparisons: &[Comparison<'_>]) -> Result<Preferences, JudgeError> {
        let rules = self.options.rules;
        let questions = rules.questions(comparisons);
        let opinions = self.opinions(&questions)?;
        rules.settle(&self.name, EXPECTED, &questions, &opinions)
    }
}

/// Whether the same question may have an answer a moment later. An error status that may pass has been
/// tried again by the client.
fn may_pass(error: &ChatError) -> bool {
    matches!(
        error,
        ChatError::Unreachable { .. }
            | ChatError::Slow { .. }
            | ChatError::Truncated { .. }
            | ChatError::Reported { .. }
    )
}

fn wait(pause: Duration, is_over: &AtomicBool) {
    const STEP: Duration = Duration::from_millis(100);
    let start = Instant::now();
    while start.elapsed() < pause && !is_over.load(Ordering::Relaxed) {
        thread::sleep(STEP.min(pause));
    }
}
