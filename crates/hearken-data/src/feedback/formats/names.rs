//! Names that people give to prompts, answers and choices where a format leaves them free.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::JsonFields;
use crate::feedback::Verdict;

const PROMPTS: [&str; 10] = [
    "prompt",
    "instruction",
    "question",
    "conversation",
    "context",
    "chat",
    "messages",
    "input",
    "query",
    "text",
];
const PAIRS: [[&str; 2]; 14] = [
    ["answer1", "answer2"],
    ["answer_1", "answer_2"],
    ["answer_a", "answer_b"],
    ["response1", "response2"],
    ["response_1", "response_2"],
    ["response-1", "response-2"],
    ["response_a", "response_b"],
    ["completion1", "completion2"],
    ["completion_a", "completion_b"],
    ["output_1", "output_2"],
    ["text1", "text2"],
    ["left", "right"],
    ["chosen", "rejected"],
    ["a", "b"],
];

/// Which columns hold what, as far as the caller says.
pub(super) struct FeedbackColumns<'o> {
    given: &'o BTreeMap<String, String>,
}

impl<'o> FeedbackColumns<'o> {
    pub(super) fn of(given: &'o BTreeMap<String, String>) -> Self {
        Self { given }
    }

    /// The column of the prompt.
    pub(super) fn prompt<'f>(&'f self, data: &JsonFields<'_>) -> Option<&'f str> {
        match self.given.get("prompt") {
            Some(key) => Some(key.as_str()),
            None => PROMPTS.into_iter().find(|key| data.has(key)),
        }
    }

    /// The columns of the candidates: those given, a pair of a known name, or every column whose
    /// name begins like an answer's.
    pub(super) fn candidates(&self, data: &JsonFields<'_>) -> Option<Vec<String>> {
        if let Some(given) = self.given.get("candidates") {
            return Some(given.split(',').map(|key| key.trim().to_owned()).collect());
        }
        let has = |key: &&str| matches!(data.get(key), Some(Value::String(_) | Value::Array(_)));
        let numbered = |start: &str| {
            let keys = data.keys().filter(|key| {
                let end = key.strip_prefix(start).map(|end| end.trim_start_matches(['_', '-']));
                end.is_some_and(|end| end.parse::<u32>().is_ok()) && has(key)
            });
            let keys: Vec<String> = keys.map(str::to_owned).collect();
            (2 < keys.len()).then_some(keys)
        };
        ["answer", "response", "completion", "output"]
            .into_iter()
            .find_map(numbered)
            .or_else(|| {
                let pair = PAIRS.iter().find(|pair| pair.iter().all(has))?;
                Some(pair.iter().map(|key| (*key).to_owned()).collect())
            })
            .or_else(|| {
                let one =
                    ["answer", "response", "completion", "output"].into_iter().find(|k| has(k));
                one.map(|key| vec![key.to_owned()])
            })
    }
}

/// A name without what people write differently: case, hyphens, underscores, spaces.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The place of the candidate that `name` names: by its own name, or by the number or letter at the
/// end of both.
pub(super) fn find(names: &[String], name: &str) -> Option<usize> {
    let wanted = plain(name);
    if wanted.is_empty() {
        return None;
    }
    if let Some(place) = names.iter().position(|one| plain(one) == wanted) {
        return Some(place);
    }
    let place = match wanted.as_str() {
        "left" | "a" | "1" | "first" => 0,
        "right" | "b" | "2" | "second" => 1,
        _ => return None,
    };
    (names.len() == 2).then_some(place)
}

/// The verdict on a pair that a choice is, unless it names a candidate.
pub(super) fn verdict(choice: &str) -> Option<Verdict> {
    match plain(choice).as_str() {
        "tie" | "equal" | "same" | "draw" | "bothgood" | "equallygood" | "nopreference" => {
            Some(Verdict::Tie)
        }
        "bothbad" | "neither" | "none" | "equallybad" => Some(Verdict::BothBad),
        "canttell" | "cannottell" | "unsure" | "skip" | "dontknow" => {
            Some(Verdict::CantTell { reason: choice.to_owned() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_found_by_name_or_side() {
        let names = ["response_1".to_owned(), "response_2".to_owned()];
        assert_eq!(find(&names, "Response-2"), Some(1));
        assert_eq!(find(&names, "A"), Some(0));
        assert_eq!(find(&names, "response_3"), None);
        assert_eq!(find(&names, ""), None);
    }

    #[test]
    fn ties_and_two_bad_answers_stay_apart() {
        assert_eq!(verdict("Tie"), Some(Verdict::Tie));
        assert_eq!(verdict("both-bad"), Some(Verdict::BothBad));
        assert!(matches!(verdict("Can't tell"), Some(Verdict::CantTell { .. })));
        assert_eq!(verdict("answer1"), None);
    }
}
