//! Which judgements become training data, and what several on one pair become together.

use serde::{Deserialize, Serialize};

/// What the judgements on one pair become together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// What more of them say than anything else; a pair on which nothing is said most often is left out.
    #[default]
    Majority,
    /// The share of them that prefers the chosen answer, as a probability; ties count half.
    Probability,
    /// The probability that the chosen answer is better under the model of annotators of Dawid and Skene, which gives
    /// those more weight with whom others agree.
    Model,
    /// Each judgement is a record of its own.
    Each,
}

/// Which judgements are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// What several on one pair become.
    pub combine: Combine,
    /// Annotators whose judgements are left out.
    pub exclude_annotators: Vec<String>,
    /// The fewest votes on a pair.
    pub votes_min: usize,
    /// The least share of the votes on a pair, or the least probability, that says the same, in [0, 1].
    pub agreement_min: f64,
    /// Whether judgements on gold and screening items are taken: their items were made to measure people.
    pub gold: bool,
    /// Whether judgements by language models are taken.
    pub ai: bool,
}

impl Default for Selection {
    /// What people said about items that were not made to measure them, one record for a pair by majority.
    fn default() -> Self {
        Self {
            combine: Combine::Majority,
            exclude_annotators: Vec::new(),
            votes_min: 1,
            agreement_min: 0.0,
            gold: false,
            ai: false,
        }
    }
}
