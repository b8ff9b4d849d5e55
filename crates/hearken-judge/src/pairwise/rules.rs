//! In which order completions are shown, and what becomes of answers that name no winner.

use super::{CompletionPair, Preferences};
use crate::JudgeError;
use crate::item::excerpt;

/// In which order a judge is shown two completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// In both, one question each; the preference is the mean, in which a taste for a position cancels.
    Both,
    /// In one: every other comparison the other way round, so that a taste for a position favors
    /// neither the first completions nor the second.
    Alternating,
}

/// What becomes of an answer that names no winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It counts as a tie.
    Tie,
    /// Its comparison has no preference.
    Drop,
    /// It ends the judging.
    Fail,
}

/// How a judge is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// In which order completions are shown.
    pub orders: Orders,
    /// What becomes of an answer that names no winner.
    pub unreadable: Unreadable,
}

/// A comparison as it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) comparison: &'a CompletionPair<'a>,
    /// Whether the second completion is shown first.
    swapped: bool,
}

/// What a judge says to a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Opinion {
    /// The probability that what it was shown first is preferred.
    First(f64),
    /// It names no winner; what it said.
    None(String),
}

impl<'a> Question<'a> {
    /// The completions as they are shown.
    pub(super) fn completions(&self) -> [&'a str; 2] {
        let [a, b] = self.comparison.completions;
        if self.swapped { [b, a] } else { [a, b] }
    }
}

impl Rules {
    /// The questions to ask; of one comparison they follow one another.
    pub(super) fn questions<'a>(self, comparisons: &'a [CompletionPair<'a>]) -> Vec<Question<'a>> {
        let shown = |(index, comparison): (usize, &'a CompletionPair<'a>)| match self.orders {
            Orders::Both => {
                vec![
                    Question { comparison, swapped: false },
                    Question { comparison, swapped: true },
                ]
            }
            Orders::Alternating => vec![Question { comparison, swapped: index % 2 == 1 }],
        };
        comparisons.iter().enumerate().flat_map(shown).collect()
    }

    /// What the opinions on [`Rules::questions`] come to.
    ///
    /// # Errors
    /// [`JudgeError::NoWinner`] where that ends the judging.
    pub(super) fn settle(
        self,
        judge: &str,
        expected: &'static str,
        questions: &[Question<'_>],
        opinions: &[Opinion],
    ) -> Result<Preferences, JudgeError> {
        assert_eq!(questions.len(), opinions.len(), "opinions: one per question");
        let orders = match self.orders {
            Orders::Both => 2,
            Orders::Alternating => 1,
        };
        let mut found = Preferences { asked: questions.len(), ..Preferences::default() };
        for (questions, opinions) in questions.chunks(orders).zip(opinions.chunks(orders)) {
            let mut read = Vec::with_capacity(orders);
            let mut shown = [None; 2];
            for (question, opinion) in questions.iter().zip(opinions) {
                match opinion {
                    Opinion::First(p) => {
                        let first = if question.swapped { 1.0 - p } else { *p };
                        shown[usize::from(question.swapped)] = Some(first);
                        read.push(first);
                    }
                    Opinion::None(answer) if self.unreadable == Unreadable::Fail => {
                        return Err(JudgeError::NoWinner {
                            judge: judge.to_owned(),
                            answer: ending(answer),
                            expected,
                            prompt: excerpt(question.comparison.prompt),
                        });
                    }
                    Opinion::None(_) => found.unreadable += 1,
                }
            }
            if let [one, other] = read[..] {
                found.both_read += 1;
                found.agreed += usize::from(leaning(one) == leaning(other));
            }
            found.shown.push(shown);
            let missing = orders - read.len();
            let ties = 0.5 * missing as f64;
            let mean = (read.iter().sum::<f64>() + ties) / orders as f64;
            let dropped = 0 < missing && self.unreadable == Unreadable::Drop;
            found.probabilities.push((!dropped).then_some(mean));
        }
        Ok(found)
    }
}

fn leaning(probability: f64) -> std::cmp::Ordering {
    probability.total_cmp(&0.5)
}

/// The last words, where a verdict is expected.
pub(crate) fn ending(answer: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let text = answer.trim();
    match text.char_indices().rev().nth(CHARACTERS_MAX - 1) {
        Some((start, _)) if 0 < start => format!("…{}", &text[start..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn settled(rules: Rules, opinions: &[Opinion]) -> Result<Preferences, JudgeError> {
        let fields = Map::new();
        let comparisons: Vec<_> = ["one", "two"]
            .map(|prompt| CompletionPair {
                prompt,
                messages: None,
                completions: ["a", "b"],
                fields: &fields,
            })
            .into();
        let questions = rules.questions(&comparisons);
        rules.settle("judge", "[[A]]", &questions, opinions)
    }

    #[test]
    fn a_taste_for_a_position_cancels() {
        let rules = Rules { orders: Orders::Both, unreadable: Unreadable::Tie };
        let always_first = vec![Opinion::First(1.0); 4];
        let found = settled(rules, &always_first).unwrap();
        assert_eq!(found.probabilities, [Some(0.5), Some(0.5)]);
        assert_eq!((found.asked, found.both_read, found.agreed), (4, 2, 0));
        // A bias added to an opinion leaves the opinion.
        let biased = [0.9, 0.5, 0.4, 1.0].map(Opinion::First);
        let found = settled(rules, &biased).unwrap();
        let found: Vec<f64> = found.probabilities.into_iter().flatten().collect();
        assert!((found[0] - 0.7).abs() < 1e-12 && (found[1] - 0.2).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn one_order_shows_every_other_comparison_the_other_way_round() {
        let rules = Rules { orders: Orders::Alternating, unreadable: Unreadable::Tie };
        let found = settled(rules, &[Opinion::First(1.0), Opinion::First(1.0)]).unwrap();
        assert_eq!(found.probabilities, [Some(1.0), Some(0.0)]);
        assert_eq!((found.asked, found.both_read), (2, 0));
    }

    #[test]
    fn an_answer_without_a_winner_follows_the_policy() {
        let none = || Opinion::None("well".to_owned());
        let opinions = [Opinion::First(1.0), none(), none(), none()];
        let rules = |unreadable| Rules { orders: Orders::Both, unreadable };
        let tie = settled(rules(Unreadable::Tie), &opinions).unwrap();
        assert_eq!((tie.probabilities, tie.unreadable), (vec![Some(0.75), Some(0.5)], 3));
        let dropped = settled(rules(Unreadable::Drop), &opinions).unwrap();
        assert_eq!((dropped.probabilities, dropped.both_read), (vec![None, None], 0));
        let error = settled(rules(Unreadable::Fail), &opinions).unwrap_err().to_string();
        for part in ["judge", "names no winner", "\"well\"", "[[A]]", "\"one\""] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
