//! Elo's ratings as history. They depend on the order of the votes; to rank, use the strengths.

use hearken_stats::comparison::Comparison;
use hearken_stats::elo::Elo;
use serde::{Deserialize, Serialize};

use super::{ModelVote, ModelVotes};
use crate::index::Index;

/// Ratings over the votes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EloHistory {
    /// The largest change by one vote.
    pub k: f64,
    /// The rating before the first vote.
    pub initial: f64,
    /// Whether votes are in the order of their times; else, where times are missing, in that in which they were appended.
    pub by_time: bool,
    /// The models, in the order of the ratings of a checkpoint.
    pub models: Vec<String>,
    /// Ratings after growing numbers of votes.
    pub checkpoints: Vec<Checkpoint>,
}

/// Ratings at one point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Votes so far.
    pub votes: usize,
    /// One rating per model.
    pub ratings: Vec<f64>,
}

/// The history, and the last ratings.
pub(super) struct Elos {
    pub(super) history: EloHistory,
    pub(super) last: Vec<f64>,
}

/// FastChat's constants.
const ELO: Elo = Elo { initial: 1000.0, k: 4.0 };
const CHECKPOINTS: usize = 50;

pub(super) fn history(index: &Index<'_>, votes: &ModelVotes<'_>) -> Elos {
    let by_time = votes.list.iter().all(|v| v.vote.at > 0);
    let mut ordered: Vec<&ModelVote<'_>> = votes.list.iter().collect();
    if by_time {
        ordered.sort_by_key(|v| v.vote.at);
    }
    let comparisons: Vec<Comparison> = ordered.iter().map(|v| v.comparison()).collect();
    let mut ratings = vec![ELO.initial; votes.models.len()];
    let mut checkpoints = Vec::new();
    let step = comparisons.len().div_ceil(CHECKPOINTS).max(1);
    for chunk in comparisons.chunks(step) {
        ratings = ELO.ratings_from(ratings, chunk);
        let so_far = checkpoints.len() * step + chunk.len();
        checkpoints.push(Checkpoint { votes: so_far, ratings: ratings.clone() });
    }
    let names = votes.models.iter().map(|&m| index.models[m].to_owned()).collect();
    let history =
        EloHistory { k: ELO.k, initial: ELO.initial, by_time, models: names, checkpoints };
    Elos { history, last: ratings }
}
