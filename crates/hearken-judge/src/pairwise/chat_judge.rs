//! Preferences of a language model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use hearken_data::{Message, Role};

use super::rules::{Opinion, Question, Rules};
use super::{CompletionPair, PairwiseJudge, Preferences, Template, read_verdict};
use crate::JudgeError;
use crate::choice::{ChoiceOptions, Chooser, named};
use crate::model::{GoOn, LanguageModel};

const EXPECTED: &str = "[[A]], [[B]], [[C]] or a number from 0 to 1 in double brackets";

/// How a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatJudgeOptions {
    /// What the model is told before each question; nothing where it is empty.
    pub system: String,
    /// What it is asked.
    pub question: Template,
    /// The names of the completion that is shown first, of the one that is shown second, and, where there is a third
    /// choice, of a tie; and how one of them is found out. An answer in words may be whatever [`read_verdict`] reads, too.
    pub choice: ChoiceOptions,
    /// Questions at a time; at least one.
    pub parallel: usize,
    /// In which order completions are shown, and what becomes of answers without a winner.
    pub rules: Rules,
}

/// A language model that is asked which of two completions is better.
pub struct ChatJudge {
    model: Arc<dyn LanguageModel>,
    options: ChatJudgeOptions,
    chooser: Chooser,
    name: String,
    is_over: Arc<AtomicBool>,
}

impl ChatJudge {
    /// A judge. Nothing is asked.
    ///
    /// # Panics
    /// If `parallel` is 0, or there are fewer than two choices, or more than three.
    pub fn new(model: Arc<dyn LanguageModel>, options: ChatJudgeOptions) -> Self {
        assert!(0 < options.parallel, "parallel: at least one question at a time");
        let choices = options.choice.choices.len();
        assert!((2..=3).contains(&choices), "{choices} choices, expected 2, or 3 with a tie");
        let name = format!("the judge {:?}", model.name());
        let (chooser, is_over) = (Chooser::default(), Arc::default());
        Self { model, options, chooser, name, is_over }
    }

    /// Breaks off what is being asked once `is_over` is set.
    #[must_use]
    pub fn until(mut self, is_over: Arc<AtomicBool>) -> Self {
        self.is_over = is_over;
        self
    }

    /// Opinions on the questions with their reasons, or the first error.
    fn opinions(
        &self,
        questions: &[Question<'_>],
    ) -> Result<Vec<(Opinion, Option<String>)>, JudgeError> {
        let has_failed = AtomicBool::new(false);
        let go_on = || !has_failed.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed);
        in_parallel(questions, self.options.parallel, &has_failed, |question| {
            self.ask(question, &go_on)
        })
    }

    fn ask(
        &self,
        question: &Question<'_>,
        go_on: &GoOn<'_>,
    ) -> Result<(Opinion, Option<String>), JudgeError> {
        let mut conversation = vec![Message::new(Role::User, self.options.question.fill(question))];
        if !self.options.system.is_empty() {
            conversation.insert(0, Message::new(Role::System, self.options.system.clone()));
        }
        let choice = &self.options.choice;
        let read = |answer: &str| weights(answer, &choice.choices);
        let chosen =
            self.chooser.choose(self.model.as_ref(), conversation, choice, &read, go_on)?;
        let opinion = match chosen.weights {
            Ok(weights) => Opinion::First(weights[0] + weights.get(2).map_or(0.0, |tie| 0.5 * tie)),
            Err(said) => Opinion::None(said),
        };
        Ok((opinion, chosen.rationale))
    }
}

/// An answer in words as a weight of each choice; a probability is one of the first two.
fn weights(answer: &str, choices: &[String]) -> Option<Vec<f64>> {
    let mut weights = vec![0.0; choices.len()];
    if let Some(index) = named(answer, choices) {
        weights[index] = 1.0;
    } else {
        let first = read_verdict(answer)?;
        (weights[0], weights[1]) = (first, 1.0 - first);
    }
    Some(weights)
}

/// What `ask` says to each question, in order, so many at a time; or the first error, behind which nothing more is asked. `has_failed` is
/// then set, so that what is under way can be broken off; a budget that is spent sets it not.
///
/// # Errors
/// The first that `ask` gives.
///
/// # Panics
/// If `ask` does.
pub fn in_parallel<Q: Sync, A: Send>(
    questions: &[Q],
    parallel: usize,
    has_failed: &AtomicBool,
    ask: impl Fn(&Q) -> Result<A, JudgeError> + Sync,
) -> Result<Vec<A>, JudgeError> {
    let (next, is_spent) = (AtomicUsize::new(0), AtomicBool::new(false));
    let may_ask = || !has_failed.load(Ordering::Relaxed) && !is_spent.load(Ordering::Relaxed);
    let found: Mutex<Vec<Option<A>>> = Mutex::new(questions.iter().map(|_| None).collect());
    let failure: Mutex<Option<JudgeError>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..parallel.min(questions.len()) {
            scope.spawn(|| {
                while may_ask() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(question) = questions.get(index) else { break };
                    match ask(question) {
                        Ok(answer) => {
                            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                            found[index] = Some(answer);
                        }
                        Err(error) => {
                            // What is under way is paid for already: it is waited for where nothing but money is missing.
                            let stop = match error {
                                JudgeError::Budget { .. } => &is_spent,
                                _ => has_failed,
                            };
                            // Others that are broken off because of it fail as well.
                            let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                            first.get_or_insert(error);
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(found.into_iter().map(|one| one.expect("every question was answered")).collect())
}

impl PairwiseJudge for ChatJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn judge(&mut self, comparisons: &[CompletionPair<'_>]) -> Result<Preferences, JudgeError> {
        let rules = self.options.rules;
        let questions = rules.questions(comparisons);
        let (opinions, reasons): (Vec<_>, Vec<_>) = self.opinions(&questions)?.into_iter().unzip();
        let mut found = rules.settle(&self.name, EXPECTED, &questions, &opinions)?;
        let each = questions.len() / comparisons.len().max(1);
        found.rationales = reasons.chunks(each.max(1)).map(|reasons| reasons[0].clone()).collect();
        Ok(found)
    }
}
