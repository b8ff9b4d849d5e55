//! Who wins, without what a leaderboard says beside it.

use hearken_stats::bradley_terry::{self, Covariance, FitError, Model, RankBounds, rank_bounds};
use hearken_stats::comparison::Tally;
use hearken_stats::win_rate::Outcomes;

use super::{AT_ONCE, MODELS_MAX, ModelRow, RIDGE, affordable};
use crate::figure::Figure;
use crate::records::Options;

/// A model beside the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// The model.
    pub model: String,
    /// Place by strength, from 1.
    pub rank: usize,
    /// The places that the intervals of ratings leave it.
    pub rank_bounds: Option<RankBounds>,
    /// Votes on it.
    pub votes: usize,
    /// Wins and half the ties, of all votes on it.
    pub win_rate: Figure,
}

impl Contender {
    /// What a leaderboard says of it.
    pub(crate) fn of(row: &ModelRow) -> Self {
        Self {
            model: row.model.clone(),
            rank: row.rank,
            rank_bounds: row.rank_bounds,
            votes: row.votes,
            win_rate: row.win_rate.clone(),
        }
    }
}

/// Fewer rounds make no interval of 95 %: that of the sandwich takes its place.
const ROUNDS_MIN: usize = 100;

/// The models of votes, the strongest first.
pub(crate) fn contenders(tally: &Tally, models: &[&str], options: &Options) -> Vec<Contender> {
    let ridge = if tally.components().len() > 1 { RIDGE } else { 0.0 };
    let model = Model { ridge, ..Model::PLAIN };
    let fit = match models.len() {
        ..=MODELS_MAX => bradley_terry::fit(tally, model),
        _ => Err(FitError::Empty),
    };
    let rounds = options.bootstrap_rounds.min(affordable(tally, AT_ONCE));
    let bounds = fit.as_ref().ok().and_then(|fit| {
        if rounds < ROUNDS_MIN {
            return Some(rank_bounds(&fit.intervals(Covariance::Sandwich).strengths()));
        }
        let drawn = bradley_terry::bootstrap(tally, model, rounds, &mut options.rng(70)).ok()?;
        Some(rank_bounds(&drawn.strengths))
    });
    let mut outcomes = vec![Outcomes::default(); models.len()];
    for pair in tally.pairs() {
        let [left, tie, right] = pair.votes.map(|votes| votes as usize);
        let mut count = |model: usize, wins, losses| {
            outcomes[model].wins += wins;
            outcomes[model].ties += tie;
            outcomes[model].losses += losses;
        };
        count(pair.left, left, right);
        count(pair.right, right, left);
    }
    let strengths = fit.as_ref().ok().map(bradley_terry::Fit::strengths);
    let mut found: Vec<(f64, Contender)> = (0..models.len())
        .map(|m| {
            let Outcomes { wins, ties, losses } = outcomes[m];
            let win_rate = Figure::new(outcomes[m].win_rate(), "No votes.");
            let by_wins = || win_rate.value().unwrap_or(0.0);
            let strength = strengths.map_or_else(by_wins, |strengths| strengths[m]);
            let contender = Contender {
                model: models[m].to_owned(),
                rank: 0,
                rank_bounds: bounds.as_ref().map(|bounds| bounds[m]),
                votes: wins + ties + losses,
                win_rate,
            };
            (strength, contender)
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut contenders: Vec<Contender> = found.into_iter().map(|(_, it)| it).collect();
    contenders.iter_mut().enumerate().for_each(|(place, it)| it.rank = place + 1);
    contenders
}
