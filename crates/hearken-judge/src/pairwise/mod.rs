//! Which of two completions is preferred.
//!
//! | the preference comes from | judge |
//! |---|---|
//! | a language model | [`ChatJudge`] |
//! | a program that reads and writes JSON lines | [`CommandJudge`] |
//!
//! A judge that sees two texts has a taste for a position as well. [`Orders`] says what is done against
//! it, [`Unreadable`] what becomes of an answer that names no winner.
//!
//! Not here: what a preference is used for.

mod rules;

mod template;

mod verdict;

mod chat_judge;

mod command_judge;

use hearken_data::Message;
use serde_json::{Map, Value};

pub use chat_judge::{ChatJudge, ChatJudgeOptions, in_parallel};
pub use command_judge::CommandJudge;
pub(crate) use rules::ending;
pub use rules::{Orders, Rules, Unreadable};
pub(crate) use template::filled;
pub use template::{Template, TemplateError};
pub use verdict::read_verdict;

use crate::JudgeError;

/// Two completions of one prompt.
#[derive(Clone, Copy, Debug)]
pub struct CompletionPair<'a> {
    /// The text given to the policy, all of it: of a conversation as it was rendered.
    pub prompt: &'a str,
    /// The messages of the conversation, where the prompt is one and the policy saw all of it.
    pub messages: Option<&'a [Message]>,
    /// What is compared, without end tokens.
    pub completions: [&'a str; 2],
    /// Further columns of the prompt's record.
    pub fields: &'a Map<String, Value>,
}

/// What a judge says of a batch of comparisons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preferences {
    /// The probability that the first completion is preferred to the second, one per comparison;
    /// `None` where the comparison is dropped.
    pub probabilities: Vec<Option<f64>>,
    /// Questions asked.
    pub asked: usize,
    /// Answers that named no winner.
    pub unreadable: usize,
    /// Comparisons of which both orders had readable answers.
    pub both_read: usize,
    /// Those of them in which both orders prefer the same completion, or neither.
    pub agreed: usize,
    /// One per comparison: the probability that its first completion is preferred where that is shown first, and where it
    /// is shown second; `None` where it was not asked, or the answer names no winner. Empty of judges that do not look at
    /// two texts in an order.
    pub shown: Vec<[Option<f64>; 2]>,
    /// One per comparison: the reasons that the judge gave. Empty of judges that give none.
    pub rationales: Vec<Option<String>>,
}

/// Says which of two completions is preferred.
pub trait PairwiseJudge: Send {
    /// Names the judge in errors.
    fn name(&self) -> &str;

    /// One preference per comparison, in order. Callers go through [`preferences`].
    ///
    /// # Errors
    /// If there are none to be had.
    fn judge(&mut self, comparisons: &[CompletionPair<'_>]) -> Result<Preferences, JudgeError>;
}

/// The preferences of a judge: one probability, or none, per comparison. Two completions with the same
/// text are a toss-up, of which nobody is asked.
///
/// # Errors
/// The judge's own, or that it gave too few or too many preferences, or one that is no probability.
pub fn preferences(
    judge: &mut dyn PairwiseJudge,
    comparisons: &[CompletionPair<'_>],
) -> Result<Preferences, JudgeError> {
    let differ =
        |comparison: &&CompletionPair<'_>| comparison.completions[0] != comparison.completions[1];
    let asked: Vec<CompletionPair<'_>> = comparisons.iter().filter(differ).copied().collect();
    let mut found = if asked.is_empty() { Preferences::default() } else { judge.judge(&asked)? };
    let broken = |reason| JudgeError::Broken { judge: judge.name().to_owned(), reason };
    if found.probabilities.len() != asked.len() {
        let (count, expected) = (found.probabilities.len(), asked.len());
        return Err(broken(format!("found {count} preferences for {expected} comparisons")));
    }
    let outside = found.probabilities.iter().flatten().find(|p| !(0.0..=1.0).contains(*p));
    if let Some(outside) = outside {
        return Err(broken(format!("found the probability {outside}, expected one from 0 to 1")));
    }
    let mut judged = std::mem::take(&mut found.probabilities).into_iter();
    let probability = |comparison: &CompletionPair<'_>| {
        if differ(&comparison) { judged.next().flatten() } else { Some(0.5) }
    };
    found.probabilities = comparisons.iter().map(probability).collect();
    found.shown = for_all(comparisons, differ, std::mem::take(&mut found.shown));
    found.rationales = for_all(comparisons, differ, std::mem::take(&mut found.rationales));
    Ok(found)
}

/// What was found of the comparisons that were asked about, one per comparison; nothing where nothing was.
fn for_all<T: Default>(
    comparisons: &[CompletionPair<'_>],
    is_asked: impl Fn(&&CompletionPair<'_>) -> bool,
    found: Vec<T>,
) -> Vec<T> {
    if found.is_empty() {
        return found;
    }
    let mut found = found.into_iter();
    let own = |one| if is_asked(&one) { found.next().unwrap_or_default() } else { T::default() };
    comparisons.iter().map(own).collect()
}
