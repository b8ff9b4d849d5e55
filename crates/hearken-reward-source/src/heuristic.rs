//! Scores that are plain functions of the text.

use regex::Regex;

use super::gold::gold;
use super::length_diversity::length_diversity;
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

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use super::*;

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
