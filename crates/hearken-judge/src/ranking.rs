//! Several completions in one question: the model orders all of them, from the best to the worst.
//!
//! An order of K completions says something of K·(K − 1)/2 pairs at once, for a single question where comparisons in pairs
//! need one for each. It is counted pair by pair, so that orders of several answers, and those of the completions the other
//! way round, have a mean.
//!
//! Not here: what the pairs come to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearken_data::{Message, Role};

use crate::JudgeError;
use crate::choice::{ChoiceMethod, ChoiceOptions, Chooser};
use crate::item::excerpt;
use crate::model::LanguageModel;
use crate::pairwise::{Orders, Rules, Unreadable, ending, filled, in_parallel};

/// The most completions of a question: they are named by letters.
pub const RANKED_MAX: usize = 26;
const EXPECTED: &str = "all letters from the best to the worst, as in C > A > B";
/// Tokens that an order takes for each completion.
const TOKENS_EACH: u32 = 4;

/// How a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingOptions {
    /// What the model is told before each question; nothing where it is empty.
    pub system: String,
    /// What it is asked, with the places `{prompt}` and `{answers}`.
    pub question: String,
    /// How an order is found out: by votes, else by one answer in words. It has no choices.
    pub choice: ChoiceOptions,
    /// Questions at a time; at least one.
    pub parallel: usize,
    /// In which order completions are shown, as they are and the other way round or one of both, and what becomes of answers
    /// that are no order.
    pub rules: Rules,
}

/// Completions of one prompt.
#[derive(Clone, Copy, Debug)]
pub struct RankedCompletions<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// At least one.
    pub completions: &'a [String],
}

/// What an order says of every pair (0, 1), (0, 2), …, (1, 2), …, one of each per pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankedPairs {
    /// The probability that the first is better where completions are shown as they are, and the other way round.
    pub shown: Vec<[Option<f64>; 2]>,
    /// The mean of both; `None` where there is none.
    pub probabilities: Vec<Option<f64>>,
    /// Why, where it was asked.
    pub rationale: Option<String>,
}

/// A language model that is asked to order completions.
pub struct RankingJudge {
    model: Arc<dyn LanguageModel>,
    options: RankingOptions,
    chooser: Chooser,
    is_over: Arc<AtomicBool>,
}

/// Completions as they are shown.
struct RankingQuestion<'a> {
    of: RankedCompletions<'a>,
    is_reversed: bool,
}

/// What came of a question: for every pair the probability that the first is better, or what was said in place of an order.
struct RankingAnswer {
    pairs: Result<Vec<f64>, String>,
    rationale: Option<String>,
}

impl RankingJudge {
    /// A judge; it breaks off what it asks once `is_over` is set.
    ///
    /// # Panics
    /// If an order is to be found out by the probabilities of choices.
    pub fn new(
        model: Arc<dyn LanguageModel>,
        options: RankingOptions,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        let by_words = matches!(options.choice.method, ChoiceMethod::Votes | ChoiceMethod::Verdict);
        assert!(by_words, "method: an order is written out");
        Self { model, options, chooser: Chooser::default(), is_over }
    }

    /// What is said of every pair, in the order of the items.
    ///
    /// # Errors
    /// If the model cannot be asked, or names no order where that ends the judging.
    pub fn rank(&self, items: &[RankedCompletions<'_>]) -> Result<Vec<RankedPairs>, JudgeError> {
        let has_failed = AtomicBool::new(false);
        let mut questions = Vec::new();
        for (index, &of) in items.iter().enumerate() {
            let orders: &[bool] = match self.options.rules.orders {
                Orders::Both => &[false, true],
                Orders::Alternating => &[index % 2 == 1],
            };
            questions.extend(orders.iter().map(|&is_reversed| RankingQuestion { of, is_reversed }));
        }
        let answers = in_parallel(&questions, self.options.parallel, &has_failed, |question| {
            self.ask(question, &has_failed)
        })?;
        let each = questions.len() / items.len().max(1);
        let questions = questions.chunks(each.max(1));
        questions.zip(answers.chunks(each.max(1))).map(|(of, said)| self.settle(of, said)).collect()
    }

    fn ask(
        &self,
        question: &RankingQuestion<'_>,
        has_failed: &AtomicBool,
    ) -> Result<RankingAnswer, JudgeError> {
        let count = question.of.completions.len();
        if RANKED_MAX < count {
            let said = format!("{count} answers, at most {RANKED_MAX} can be ordered at once");
            return Ok(RankingAnswer { pairs: Err(said), rationale: None });
        }
        let go_on = || !has_failed.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed);
        // The completion that stands at each place.
        let mut places: Vec<usize> = (0..count).collect();
        if question.is_reversed {
            places.reverse();
        }
        let show = |(letter, &place): (char, &usize)| {
            format!("Answer {letter}:\n{}", question.of.completions[place])
        };
        let answers: Vec<String> = ('A'..='Z').zip(&places).map(show).collect();
        let answers = answers.join("\n\n");
        let texts = [("{prompt}", question.of.prompt), ("{answers}", answers.as_str())];
        let text = filled(&self.options.question, &texts);
        let mut conversation = vec![Message::new(Role::User, text)];
        if !self.options.system.is_empty() {
            conversation.insert(0, Message::new(Role::System, self.options.system.clone()));
        }
        let mut choice = self.options.choice.clone();
        let least = TOKENS_EACH * count as u32;
        choice.draw.max_tokens = choice.draw.max_tokens.map(|tokens| tokens.max(least));
        let read = |answer: &str| Some(pairs_of(&tiers(answer, count)?, &places));
        let chosen =
            self.chooser.choose(self.model.as_ref(), conversation, &choice, &read, &go_on)?;
        Ok(RankingAnswer { pairs: chosen.weights, rationale: chosen.rationale })
    }

    /// What both orders of an item's completions come to.
    fn settle(
        &self,
        questions: &[RankingQuestion<'_>],
        answers: &[RankingAnswer],
    ) -> Result<RankedPairs, JudgeError> {
        let of = questions[0].of;
        let count = of.completions.len();
        let unreadable = self.options.rules.unreadable;
        let mut shown = vec![[None; 2]; count * count.saturating_sub(1) / 2];
        let mut missing = 0;
        for (question, answer) in questions.iter().zip(answers) {
            match &answer.pairs {
                Ok(pairs) => {
                    for (shown, pair) in shown.iter_mut().zip(pairs) {
                        shown[usize::from(question.is_reversed)] = Some(*pair);
                    }
                }
                Err(said) if unreadable == Unreadable::Fail => {
                    return Err(JudgeError::NoWinner {
                        judge: format!("the judge {:?}", self.model.name()),
                        answer: ending(said),
                        expected: EXPECTED,
                        prompt: excerpt(of.prompt),
                    });
                }
                Err(_) => missing += 1,
            }
        }
        let is_dropped = 0 < missing && unreadable == Unreadable::Drop;
        let mean = |both: &[Option<f64>; 2]| {
            let said: f64 = both.iter().flatten().sum();
            (said + 0.5 * f64::from(missing)) / questions.len() as f64
        };
        let probabilities = shown.iter().map(|both| (!is_dropped).then(|| mean(both))).collect();
        Ok(RankedPairs { shown, probabilities, rationale: answers[0].rationale.clone() })
    }
}

/// For every pair of completions the probability that the first is better, by the tier of each place and the completion
/// that stands there.
fn pairs_of(tiers: &[usize], places: &[usize]) -> Vec<f64> {
    let mut tier_of = vec![0; places.len()];
    for (&tier, &completion) in tiers.iter().zip(places) {
        tier_of[completion] = tier;
    }
    let mut pairs = Vec::new();
    for first in 0..tier_of.len() {
        for second in first + 1..tier_of.len() {
            pairs.push(match tier_of[first].cmp(&tier_of[second]) {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 0.0,
            });
        }
    }
    pairs
}

/// The tier of each of `count` letters in an answer, the best first: what stands in its last double brackets, else in its last line
/// with more than blanks, behind a colon if there is one. A `=` between letters is a tie. `None` unless every letter is there once.
fn tiers(answer: &str, count: usize) -> Option<Vec<usize>> {
    let inside = answer.rsplit_once("]]").and_then(|(before, _)| before.rsplit_once("[["));
    let line = answer.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = line.rsplit_once(':').map_or(line, |(_, behind)| behind);
    let order = inside.map_or(line, |(_, inside)| inside);
    let mut tiers = vec![None; count];
    let (mut tier, mut is_tie) = (0, true);
    let words = order.split_inclusive(|c: char| !c.is_alphanumeric());
    for word in words {
        let name = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (None, _) => {}
            (Some(letter), None) => {
                let place = (letter.to_ascii_uppercase() as usize).checked_sub('A' as usize)?;
                tier += usize::from(!is_tie);
                if tiers.get_mut(place)?.replace(tier).is_some() {
                    return None;
                }
                is_tie = false;
            }
            _ => return None,
        }
        is_tie |= word.ends_with('=');
    }
    tiers.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::choice::Reasoning;
    use crate::model::{AnswerDraw, GoOn, Reply, Usage, Weighed};

    #[test]
    fn an_order_is_read_from_what_models_write() {
        assert_eq!(tiers("B > A > C", 3), Some(vec![1, 0, 2]));
        assert_eq!(tiers("I think so.\n\nRanking: c, a, b.\n", 3), Some(vec![1, 2, 0]));
        assert_eq!(tiers("A is good. [[B>A]] That is it.", 2), Some(vec![1, 0]));
        assert_eq!(tiers("**A = C > B**", 3), Some(vec![0, 1, 0]));
        assert_eq!(tiers("A=B=C", 3), Some(vec![0, 0, 0]));
        assert_eq!(tiers("A", 1), Some(vec![0]));
        for other in ["A > B", "A > B > B > C", "A > B > D", "Answer A > B > C", "", "1 > 2 > 3"] {
            assert_eq!(tiers(other, 3), None, "{other:?}");
        }
    }

    #[test]
    fn an_order_says_something_of_every_pair() {
        // Places hold the completions 2, 1, 0; the place B is best, then C and A alike.
        assert_eq!(pairs_of(&[1, 0, 1], &[2, 1, 0]), [0.0, 0.5, 1.0]);
    }

    /// Orders answers by their lengths, the longest first, or as `says`.
    struct Longest {
        says: Option<&'static str>,
        asked: Mutex<Vec<Vec<Message>>>,
    }

    impl LanguageModel for Longest {
        fn name(&self) -> &'static str {
            "longest"
        }
        fn identity(&self) -> String {
            "longest".to_owned()
        }
        fn reply(
            &self,
            conversation: &[Message],
            _: &AnswerDraw,
            _: &GoOn<'_>,
        ) -> Result<Reply, JudgeError> {
            self.asked.lock().unwrap().push(conversation.to_vec());
            let first = &conversation.iter().find(|one| one.role == Role::User).unwrap().content;
            let mut found: Vec<(usize, char)> = first
                .split("Answer ")
                .skip(1)
                .map(|part| (part.trim().len(), part.chars().next().unwrap()))
                .collect();
            found.sort_by_key(|one| std::cmp::Reverse(one.0));
            let order: Vec<String> = found.iter().map(|(_, letter)| letter.to_string()).collect();
            let text = self.says.map_or_else(|| order.join(" > "), str::to_owned);
            Ok(Reply { text, usage: Usage::default() })
        }
        fn weigh(&self, _: &[Message], _: &[String], _: &GoOn<'_>) -> Result<Weighed, JudgeError> {
            panic!("an order is written out")
        }
    }

    fn ranked(
        says: Option<&'static str>,
        rules: Rules,
        reasoning: Option<Reasoning>,
    ) -> (Result<Vec<RankedPairs>, JudgeError>, usize) {
        let choice = ChoiceOptions {
            choices: Vec::new(),
            method: ChoiceMethod::Verdict,
            votes: 1,
            draw: AnswerDraw { max_tokens: Some(16), ..AnswerDraw::default() },
            reasoning,
        };
        let (system, question) = (String::new(), "{prompt}\n\n{answers}".to_owned());
        let options = RankingOptions { system, question, choice, parallel: 2, rules };
        let model = Arc::new(Longest { says, asked: Mutex::default() });
        let judge = RankingJudge::new(Arc::clone(&model) as _, options, Arc::default());
        let completions = ["a", "aaaa", "aa"].map(str::to_owned);
        let one = RankedCompletions { prompt: "Why?", completions: &completions };
        let found = judge.rank(&[one, one]);
        let count = model.asked.lock().unwrap().len();
        (found, count)
    }

    const BOTH: Rules = Rules { orders: Orders::Both, unreadable: Unreadable::Tie };

    #[test]
    fn completions_are_ordered_whichever_is_shown_first() {
        let (found, count) = ranked(None, BOTH, None);
        assert_eq!(count, 4);
        for one in found.unwrap() {
            assert_eq!(one.shown, [[Some(0.0); 2], [Some(0.0); 2], [Some(1.0); 2]]);
            assert_eq!(one.probabilities, [Some(0.0), Some(0.0), Some(1.0)]);
        }
    }

    #[test]
    fn a_taste_for_the_first_place_cancels_and_is_seen() {
        let (found, _) = ranked(Some("A > B > C"), BOTH, None);
        let found = found.unwrap();
        assert_eq!(found[0].shown, [[Some(1.0), Some(0.0)]; 3]);
        assert_eq!(found[0].probabilities, [Some(0.5); 3]);
        let once = Rules { orders: Orders::Alternating, ..BOTH };
        let (found, count) = ranked(Some("A > B > C"), once, None);
        let found = found.unwrap();
        assert_eq!((count, found[0].probabilities[0]), (2, Some(1.0)));
        assert_eq!(found[1].probabilities[0], Some(0.0));
    }

    #[test]
    fn what_is_no_order_is_a_tie_dropped_or_an_error_and_reasons_come_first() {
        let reasons = Reasoning { ask: " Why?".into(), then: "So?".into(), max_tokens: 9 };
        let (found, count) = ranked(Some("Both."), BOTH, Some(reasons));
        assert_eq!(count, 8);
        let found = found.unwrap();
        assert_eq!(found[0].probabilities, [Some(0.5); 3]);
        assert_eq!(found[0].rationale.as_deref(), Some("Both."));
        let (found, _) =
            ranked(Some("Both."), Rules { unreadable: Unreadable::Drop, ..BOTH }, None);
        assert_eq!(found.unwrap()[0].probabilities, [None; 3]);
        let (found, _) =
            ranked(Some("Both."), Rules { unreadable: Unreadable::Fail, ..BOTH }, None);
        let error = found.unwrap_err().to_string();
        assert!(error.contains("Both.") && error.contains("C > A > B"), "{error}");
    }
}
