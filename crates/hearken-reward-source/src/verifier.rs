//! Scores from right answers: 1 where a completion has the answer that its prompt's record knows.
//!
//! A verifier is a function of the text, linear in its length: it needs no deadline.

mod answer;
mod arithmetic;
mod boxed;
mod expression;
mod latex;
mod notation;
mod number;

use hearken_config::Verifier;
use serde_json::Value;

use super::{RewardError, RewardSource, RolloutView, Score};

pub use answer::same_answer;
pub use arithmetic::{share_of_right_steps, step_is_right};
pub use boxed::last_boxed;
pub use number::final_number;

/// The score of a completion from 0 to 1. `answer` is not read by [`Verifier::ArithmeticSteps`].
///
/// ```
/// use hearken_config::Verifier;
/// use hearken_reward_source::verify;
/// let steps = "48/2 = <<48/2=24>>24 clips in May, 48+24 = 72 together.\n#### 72";
/// assert_eq!(verify(Verifier::Numeric, steps, "So it is 72.\n#### 72"), 1.0);
/// assert_eq!(verify(Verifier::Boxed, r"Thus \boxed{\frac{1}{2}}.", "0.5"), 1.0);
/// assert_eq!(verify(Verifier::ArithmeticSteps, steps, ""), 1.0);
/// ```
pub fn verify(verifier: Verifier, completion: &str, answer: &str) -> f64 {
    let indicator = |right: bool| f64::from(u8::from(right));
    match verifier {
        Verifier::Exact => indicator(completion.split_whitespace().eq(answer.split_whitespace())),
        Verifier::Numeric => indicator(match (final_number(completion), final_number(answer)) {
            (Some(found), Some(expected)) => same_answer(found, expected),
            _ => false,
        }),
        Verifier::Boxed => indicator(
            last_boxed(completion)
                .is_some_and(|found| same_answer(found, last_boxed(answer).unwrap_or(answer))),
        ),
        Verifier::ArithmeticSteps => share_of_right_steps(completion),
    }
}

/// What a completion says its answer is, as a verifier reads it; `None` where it says nothing.
///
/// ```
/// use hearken_config::Verifier;
/// use hearken_reward_source::answer_of;
/// assert_eq!(answer_of(Verifier::Numeric, "3 + 4 = 7\n#### 7").as_deref(), Some("7"));
/// assert_eq!(answer_of(Verifier::Numeric, "I don't know."), None);
/// ```
pub fn answer_of(verifier: Verifier, completion: &str) -> Option<String> {
    match verifier {
        Verifier::Numeric => final_number(completion).map(str::to_owned),
        Verifier::Boxed => last_boxed(completion).map(str::to_owned),
        Verifier::Exact | Verifier::ArithmeticSteps => {
            let words: Vec<&str> = completion.split_whitespace().collect();
            (!words.is_empty()).then(|| words.join(" "))
        }
    }
}

/// Which of several answers say the same: numbers of groups, in the order in which they first occur.
pub fn groups_of(verifier: Verifier, answers: &[Option<String>]) -> Vec<Option<usize>> {
    let mut known: Vec<String> = Vec::new();
    let same = |a: &str, b: &str| match verifier {
        Verifier::Numeric | Verifier::Boxed => same_answer(a, b),
        Verifier::Exact | Verifier::ArithmeticSteps => a == b,
    };
    let group = |answer: &Option<String>| {
        let answer = answer.as_deref()?;
        let found = known.iter().position(|known| same(answer, known));
        Some(found.unwrap_or_else(|| {
            known.push(answer.to_owned());
            known.len() - 1
        }))
    };
    answers.iter().map(group).collect()
}

/// A [`Verifier`] with the column of the prompts that has the answer.
#[derive(Clone, Debug)]
pub struct VerifierSource {
    verifier: Verifier,
    column: String,
}

impl VerifierSource {
    /// Compares with the text or number in `column` of the prompt's record.
    pub fn new(verifier: Verifier, column: &str) -> Self {
        Self { verifier, column: column.to_owned() }
    }

    fn answer(&self, rollout: &RolloutView<'_>) -> Result<String, RewardError> {
        if self.verifier == Verifier::ArithmeticSteps {
            return Ok(String::new());
        }
        let expected = "a text or a number to compare with";
        match rollout.fields.get(&self.column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            found => Err(RewardError::column(self.name(), &self.column, found, expected, rollout)),
        }
    }
}

impl RewardSource for VerifierSource {
    fn name(&self) -> &str {
        self.verifier.name()
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let one = |rollout: &RolloutView<'_>| {
            Ok(verify(self.verifier, rollout.completion, &self.answer(rollout)?).into())
        };
        rollouts.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn check(verifier: Verifier, answer: &str, right: &[&str], wrong: &[&str]) {
        for completion in right {
            let score = verify(verifier, completion, answer);
            assert!((score - 1.0).abs() < f64::EPSILON, "{completion:?} should be right");
        }
        for completion in wrong {
            assert!(verify(verifier, completion, answer).abs() < f64::EPSILON, "{completion:?}");
        }
    }

    #[test]
    fn exact_answers_may_differ_in_white_space_alone() {
        check(
            Verifier::Exact,
            "the  cat",
            &["the cat", " the cat\n"],
            &["The cat", "the cat.", ""],
        );
    }

    #[test]
    fn numbers_are_found_behind_the_mark_or_at_the_end() {
        let right = ["#### 1,234", "#### $1234.00", "1 and 2, so 1234.", "x = 1234\n#### 1234 7"];
        let wrong = ["#### 12345", "1234 or 7", "#### none", "", "-1234", "#### 1.234"];
        check(Verifier::Numeric, "so it is\n#### 1234", &right, &wrong);
        let right = ["about 1.5 million people", "#### 1,500 thousand"];
        check(Verifier::Numeric, "1500000", &right, &["1.5", "1.5 millionaires"]);
        check(Verifier::Numeric, "-0.5", &["#### -.5", "it is -0.50"], &["0.5", "5-0.5.1 6"]);
    }

    #[test]
    fn boxes_are_compared_as_numbers_or_as_latex() {
        let right = [r"\boxed{\frac{3}{4}}", r"so $\boxed{0.75}$", r"\boxed{1} no, \boxed{ 3/4 }"];
        let wrong = [r"\frac{3}{4}", r"\boxed{3}", r"\boxed{\frac{3}{4}} or \boxed{1}", r"\boxed{"];
        check(Verifier::Boxed, r"\frac34", &[r"\boxed{.75}"], &[r"\boxed{4}"]);
        check(Verifier::Boxed, r"\boxed{\dfrac{3}{4}}", &right, &wrong);
        let right = [r"\boxed{x^{2} + 1}", r"\boxed{x^{2}+1.}", r"\boxed{\left. x^{2}+1 \right.}"];
        check(Verifier::Boxed, "x^{2}+1", &right[..2], &[r"\boxed{x^{2}-1}"]);
    }

    #[test]
    fn a_column_that_is_missing_or_no_text_is_named() {
        let mut fields = Map::new();
        let mut source = VerifierSource::new(Verifier::Numeric, "answer");
        let mut score = |fields: &Map<String, Value>| {
            let rollout = RolloutView {
                prompt: "1+1",
                messages: None,
                completion: "2",
                prompt_ids: &[],
                completion_ids: &[],
                ended: true,
                fields,
            };
            source.score(&[rollout])
        };
        let error = score(&fields).unwrap_err().to_string();
        assert!(error.contains("`answer`") && error.contains("1+1"), "{error}");
        fields.insert("answer".to_owned(), json!([2]));
        assert!(score(&fields).unwrap_err().to_string().contains("[2]"));
        fields.insert("answer".to_owned(), json!(2));
        assert_eq!(score(&fields).unwrap(), [Score::Whole(1.0)]);
    }
}
