//! Scores that are plain functions of the text.

use std::collections::HashSet;

use regex::Regex;

use super::gold::gold;
use super::{RewardError, RewardSource, RolloutView, Score};

/// A score that needs no model.
#[derive(Clone, Debug)]
pub enum Heuristic {
    /// [`length_diversity`] of the completion.
    LengthDiversity,
    /// 1 where the regular expression matches somewhere in the completion, else 0.
    Regex(Regex),
    /// 1 where the completion contains the text, else 0.
    Contains(String),
    /// [`gold()`]: the hidden preference of the quickstart's small world.
    QuickstartGold,
}

impl Heuristic {
    /// A score for matches of `pattern`.
    ///
    /// # Errors
    /// If it is no regular expression.
    pub fn regex(pattern: &str) -> Result<Self, RewardError> {
        Regex::new(pattern).map(Self::Regex).map_err(|error| RewardError::Pattern {
            name: "regex".to_owned(),
            reason: error.to_string(),
        })
    }

    /// The score of one completion.
    pub fn of(&self, prompt: &str, completion: &str) -> f64 {
        let indicator = |found: bool| f64::from(u8::from(found));
        match self {
            Self::LengthDiversity => length_diversity(completion),
            Self::Regex(regex) => indicator(regex.is_match(completion)),
            Self::Contains(text) => indicator(completion.contains(text.as_str())),
            Self::QuickstartGold => gold(prompt, completion),
        }
    }
}

impl RewardSource for Heuristic {
    fn name(&self) -> &str {
        match self {
            Self::LengthDiversity => "length_diversity",
            Self::Regex(_) => "regex",
            Self::Contains(_) => "contains",
            Self::QuickstartGold => "quickstart_gold",
        }
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        Ok(rollouts
            .iter()
            .map(|rollout| self.of(rollout.prompt, rollout.completion).into())
            .collect())
    }
}

/// Length up to 20 words and diversity of words, averaged.
///
/// ```text
/// (min(words, 20)/20 + distinct words/words) / 2
/// ```
///
/// Words are what white space separates, as they are written. A text without words scores 0.
///
/// ```
/// use hearken_train::reward_source::length_diversity;
/// assert_eq!(length_diversity("tea tea"), (0.1 + 0.5) / 2.0);
/// assert_eq!(length_diversity(" \n"), 0.0);
/// ```
pub fn length_diversity(text: &str) -> f64 {
    const WORDS_ENOUGH: usize = 20;
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return 0.0;
    }
    let distinct = words.iter().collect::<HashSet<_>>().len();
    let length = words.len().min(WORDS_ENOUGH) as f64 / WORDS_ENOUGH as f64;
    f64::midpoint(length, distinct as f64 / words.len() as f64)
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use super::*;

    #[test]
    fn length_counts_up_to_twenty_words_and_no_further() {
        let words = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
        assert_eq!(length_diversity(&words(20)), 1.0);
        assert_eq!(length_diversity(&words(500)), 1.0);
        assert_eq!(length_diversity(&words(10)), 0.75);
        assert_eq!(length_diversity(&"w ".repeat(20)), f64::midpoint(1.0, 0.05));
    }

    #[test]
    fn matches_score_one_and_anything_else_zero() {
        let regex = Heuristic::regex(r"^\d+\.$").unwrap();
        assert_eq!(regex.of("", "42."), 1.0);
        assert_eq!(regex.of("42.", "42"), 0.0);
        let contains = Heuristic::Contains("thank".to_owned());
        assert_eq!(contains.of("", "thanks"), 1.0);
        assert_eq!(contains.of("thanks", ""), 0.0);
        assert!(Heuristic::regex("(").unwrap_err().to_string().contains("unclosed group"));
    }
}
