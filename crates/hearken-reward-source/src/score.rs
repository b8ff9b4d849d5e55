//! What a source says of one completion.

use serde::{Deserialize, Serialize};

/// A score of one completion: of the whole, or of its tokens or steps, which add up to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Score {
    /// One number for the whole completion.
    Whole(f64),
    /// One number for each token of the completion, in order.
    Tokens(Vec<f64>),
    /// One number for each step of the completion.
    Steps(Vec<StepScore>),
}

/// What a step of a completion is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepScore {
    /// The index in the completion of the step's last token, from 0.
    pub last: usize,
    /// What the step is worth.
    pub score: f64,
}

impl From<f64> for Score {
    fn from(score: f64) -> Self {
        Self::Whole(score)
    }
}

impl Score {
    /// The score of the whole completion: that of a sum of parts is their sum.
    pub fn total(&self) -> f64 {
        match self {
            Self::Whole(score) => *score,
            Self::Tokens(scores) => scores.iter().sum(),
            Self::Steps(steps) => steps.iter().map(|step| step.score).sum(),
        }
    }

    /// Adds `weight` times what single tokens earn to `rewards`, one per token of the completion;
    /// nothing where the score is of the whole.
    ///
    /// # Panics
    /// If there are too few or too many tokens.
    pub(super) fn add_to(&self, weight: f64, rewards: &mut [f64]) {
        match self {
            Self::Whole(_) => {}
            Self::Tokens(scores) => {
                assert_eq!(scores.len(), rewards.len(), "scores: one per token");
                rewards
                    .iter_mut()
                    .zip(scores)
                    .for_each(|(reward, score)| *reward += weight * score);
            }
            Self::Steps(steps) => {
                for step in steps {
                    rewards[step.last] += weight * step.score;
                }
            }
        }
    }

    /// All numbers of the score.
    pub(super) fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Whole(score) => vec![*score],
            Self::Tokens(scores) => scores.clone(),
            Self::Steps(steps) => steps.iter().map(|step| step.score).collect(),
        }
    }

    /// Whether every part has its token in a completion of so many.
    pub(super) fn fits(&self, tokens: usize) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Tokens(scores) => scores.len() == tokens,
            Self::Steps(steps) => steps.iter().all(|step| step.last < tokens),
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_fall_on_their_tokens() {
        let steps = Score::Steps(vec![
            StepScore { last: 1, score: 0.5 },
            StepScore { last: 3, score: -1.0 },
        ]);
        assert_eq!(steps.total(), -0.5);
        let mut rewards = [0.0; 4];
        steps.add_to(2.0, &mut rewards);
        Score::Tokens(vec![1.0; 4]).add_to(1.0, &mut rewards);
        Score::Whole(9.0).add_to(1.0, &mut rewards);
        assert_eq!(rewards, [1.0, 2.0, 1.0, -1.0]);
        assert!(steps.fits(4) && !steps.fits(3) && !Score::Tokens(vec![1.0]).fits(2));
    }
}
