//! Which model is best.
//!
//! Strengths are those of Bradley and Terry, in units of log-odds and summing to 0; ratings put them on Elo's scale, 400/ln 10
//! points per unit and 1000 in the middle.

mod contenders;
mod elo;
mod styled;

use hearken_stats::Significance;
use hearken_stats::bradley_terry::{
    self, Covariance, Fit, FitError, Model, OrderEffect, RankBounds, Weighting, rank_bounds,
};
use hearken_stats::comparison::{Comparison, Outcome, Tally};
use hearken_stats::proportion;
use hearken_stats::ties::Ties;
use hearken_stats::triads::{self, Triads};
use hearken_stats::win_rate::Outcomes;
use serde::{Deserialize, Serialize};

pub use contenders::Contender;
pub(crate) use contenders::contenders;
pub use elo::{Checkpoint, EloHistory};
pub use styled::{StyleControl, StyleEffect};

use crate::figure::Figure;
use crate::index::{Index, Vote, VoteChoice};
use crate::records::Options;

/// The leaderboard of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaderboard {
    /// Votes on answers of two different models.
    pub votes: usize,
    /// Votes left out because a candidate has no model, or both have the same.
    pub votes_without_models: usize,
    /// One per model with votes, the strongest first.
    pub models: Vec<ModelRow>,
    /// Groups of models between which no finite difference can be estimated; one group if all is well.
    pub components: Vec<Vec<String>>,
    /// The precision of the prior on strengths: 0 unless there are several groups.
    pub ridge: f64,
    /// Rounds of the bootstrap without a finite estimate of every strength. No interval is made without them: they count as
    /// infinite, and more than 2.5 % of them leave an end unbounded.
    pub bootstrap_dropped: usize,
    /// Models of ties, fitted to the same votes.
    pub ties: TieModels,
    /// The advantage of the left side, in log-odds between equals; over votes whose sides are known.
    pub order_effect: Figure,
    /// Likelihood-ratio test of it.
    pub order_test: Option<LikelihoodRatio>,
    /// How far the strengths are from what each pair of models says by itself.
    pub fit: Option<LikelihoodRatio>,
    /// Strengths with style held equal.
    pub style: StyleControl,
    /// Elo's ratings over time.
    pub elo: EloHistory,
    /// Cycles of three.
    pub triads: CyclicTriads,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    /// The model.
    pub model: String,
    /// Place by strength, from 1.
    pub rank: usize,
    /// The places that the intervals of ratings leave it.
    pub rank_bounds: Option<RankBounds>,
    /// Votes on it.
    pub votes: usize,
    /// Votes for it.
    pub wins: usize,
    /// Ties.
    pub ties: usize,
    /// Votes against it.
    pub losses: usize,
    /// Wins and half the ties, of all votes on it.
    pub win_rate: Figure,
    /// Bradley–Terry strength on Elo's scale, ties as half; bootstrap interval, unbounded where only the prior bounds it.
    pub rating: Figure,
    /// The same with the sandwich interval.
    pub rating_sandwich: Figure,
    /// e^strength, normalized to sum 1 over all models.
    pub share: Option<f64>,
    /// Strength in log-odds, ties as half; sandwich interval.
    pub strength: Figure,
    /// Strength under Davidson's model of ties.
    pub strength_davidson: Figure,
    /// Strength under Rao and Kupper's model of ties.
    pub strength_rao_kupper: Figure,
    /// Strength with style held equal.
    pub strength_styled: Figure,
    /// Elo's rating after the last vote.
    pub elo: Option<f64>,
}

/// The parameters of the two models of ties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TieModels {
    /// Share of ties among the votes.
    pub tie_share: Figure,
    /// ν of Davidson's model; 0 without ties.
    pub davidson_nu: Option<f64>,
    /// η of Rao and Kupper's model; 1 without ties.
    pub rao_kupper_eta: Option<f64>,
    /// Log-likelihood of Davidson's model less that of Rao and Kupper's: above 0 the first fits better.
    pub davidson_advantage: Option<f64>,
}

/// Twice a difference of log-likelihoods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodRatio {
    /// The statistic, χ².
    pub chi_squared: f64,
    /// Its degrees of freedom.
    pub degrees: usize,
    /// Its p-value.
    pub p: f64,
}

/// Cycles of three among majorities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CyclicTriads {
    /// Triples of models with a strict majority on all three pairs.
    pub complete: u64,
    /// Those that form a cycle.
    pub cyclic: u64,
    /// Their share; a quarter in a random tournament. The interval takes triads for independent, which they are not.
    pub share: Figure,
    /// Kendall's coefficient of consistence, where every pair of models has a majority.
    pub zeta: Option<f64>,
}

/// Votes between two models.
pub(crate) struct ModelVotes<'a> {
    /// Positions in [`Index::models`] of the models with votes.
    pub(crate) models: Vec<usize>,
    /// Left is the first candidate of the unit; numbers are positions in `models`.
    pub(crate) list: Vec<ModelVote<'a>>,
    pub(crate) without: usize,
}

/// One vote between two models.
#[derive(Clone, Copy)]
pub(crate) struct ModelVote<'a> {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) vote: &'a Vote,
}

impl<'a> ModelVotes<'a> {
    pub(crate) fn new(index: &'a Index<'_>) -> Self {
        let mut list = Vec::new();
        let mut place = vec![None; index.models.len()];
        let mut without = 0;
        for vote in &index.results().list {
            let unit = index.results().units[vote.unit];
            let models = (index.model(unit.item, unit.first), index.model(unit.item, unit.second));
            match models {
                (Some(first), Some(second)) if first != second => {
                    place[first] = Some(0);
                    place[second] = Some(0);
                    list.push(ModelVote { first, second, vote });
                }
                _ => without += 1,
            }
        }
        let models: Vec<usize> = (0..place.len()).filter(|&m| place[m].is_some()).collect();
        models.iter().enumerate().for_each(|(at, &m)| place[m] = Some(at));
        for vote in &mut list {
            vote.first = place[vote.first].expect("a model with votes");
            vote.second = place[vote.second].expect("a model with votes");
        }
        Self { models, list, without }
    }

    /// Counts in candidate order.
    pub(crate) fn tally(&self) -> Tally {
        let comparisons = self.list.iter().map(ModelVote::comparison);
        Tally::new(self.models.len(), comparisons).expect("votes between two models that exist")
    }

    /// Counts in the order shown; votes whose sides are not known are left out.
    fn tally_shown(&self) -> Tally {
        let shown = |v: &ModelVote<'_>| v.vote.first_left.map(|left| v.shown(left));
        Tally::new(self.models.len(), self.list.iter().filter_map(shown))
            .expect("votes between two models that exist")
    }
}

/// What a vote says where the first candidate is on the left, by [`VoteChoice`] in its order.
pub(crate) const OUTCOMES: [Outcome; 3] = [Outcome::Left, Outcome::Tie, Outcome::Right];

impl ModelVote<'_> {
    pub(crate) fn comparison(&self) -> Comparison {
        let outcome = OUTCOMES[self.vote.choice as usize];
        Comparison { left: self.first, right: self.second, outcome, weight: 1.0 }
    }

    fn shown(&self, first_left: bool) -> Comparison {
        let c = self.comparison();
        if first_left {
            return c;
        }
        let outcome = match c.outcome {
            Outcome::Left => Outcome::Right,
            Outcome::Tie => Outcome::Tie,
            Outcome::Right => Outcome::Left,
        };
        Comparison { left: c.right, right: c.left, outcome, weight: c.weight }
    }
}

/// Precision of the prior where strengths would be infinite: a standard deviation of 2, that is 350 points of rating.
const RIDGE: f64 = 0.25;
/// Why nobody wins.
pub(crate) const NO_VOTES: &str = "No votes between answers of two named models.";
/// Why there is no rating where there are votes.
const ALIKE: &str =
    "So few votes, or votes so alike, that drawing them again changes nothing: no interval.";
/// Above this a fit takes minutes.
const MODELS_MAX: usize = 1000;

pub(crate) fn leaderboard(index: &Index<'_>, options: &Options) -> Leaderboard {
    let votes = ModelVotes::new(index);
    let tally = votes.tally();
    let mut notes = Vec::new();
    if votes.models.len() < 2 {
        notes.push(NO_VOTES.to_owned());
    }
    if votes.models.len() > MODELS_MAX {
        notes.push(format!("More than {MODELS_MAX} models: no strengths are fitted."));
    }
    if index.results().rankings > 0 {
        notes.push(
            "Pairs of one ranking count as independent votes; intervals are somewhat too narrow."
                .to_owned(),
        );
    }
    let components = tally.components();
    let ridge = if components.len() > 1 { RIDGE } else { 0.0 };
    if ridge > 0.0 && votes.models.len() >= 2 {
        notes.push(format!(
            "The models fall into {} groups with no win from some group over the others, so that plain \
             strengths would be infinite; a normal prior with standard deviation 2 keeps them finite, and strengths that \
             nothing else bounds have unbounded intervals.",
            components.len()
        ));
    }
    let fits = Fits::new(&votes, &tally, ridge);
    let resampled = fits.bootstrap(&tally, options);
    if let Some(resampled) = &resampled {
        notes.extend(resampled.notes.clone());
    }
    notes.extend(fits.prior_of_sides(&votes, ridge));
    let style = styled::style_control(index, &votes);
    let elo = elo::history(index, &votes);
    let models = rows(index, &votes, &fits, resampled.as_ref(), &style, &elo);
    if models.iter().any(|row| row.rating == Figure::missing(ALIKE)) {
        notes.push(ALIKE.to_owned());
    }
    let names = |component: &Vec<usize>| {
        component.iter().map(|&m| index.models[votes.models[m]].to_owned()).collect()
    };
    Leaderboard {
        votes: votes.list.len(),
        votes_without_models: votes.without,
        models,
        components: components.iter().map(names).collect(),
        ridge,
        bootstrap_dropped: resampled.as_ref().map_or(0, |r| r.replicates.unbounded),
        ties: fits.tie_models(&votes),
        order_effect: fits.order_effect(&votes),
        order_test: fits.order_test(),
        fit: fits.half.as_ref().ok().and_then(deviance),
        style: style.control,
        elo: elo.history,
        triads: cyclic_triads(&tally),
        notes,
    }
}

/// Work that an analysis may do for the bootstrap, and a page that is to be there at once.
const PATIENT: f64 = 2e10;
const AT_ONCE: f64 = 2e8;

/// Rounds of a bootstrap for so much work. A round solves a few dense systems; beyond some hundred models they take too long.
fn affordable(tally: &Tally, work: f64) -> usize {
    (work / (tally.items() as f64).powi(3).max(1.0)) as usize
}

/// The models of votes, each fitted or not.
struct Fits {
    half: Result<Fit, FitError>,
    davidson: Result<Fit, FitError>,
    rao_kupper: Result<Fit, FitError>,
    /// Without and with the order effect, on votes whose sides are known.
    sides: [Result<Fit, FitError>; 2],
    ridge: f64,
}

impl Fits {
    fn new(votes: &ModelVotes<'_>, tally: &Tally, ridge: f64) -> Self {
        let too_many = votes.models.len() > MODELS_MAX;
        let fit = |tally: &Tally, ties, order_effect| {
            let ridge = if tally.components().len() > 1 { RIDGE } else { ridge };
            let model = Model { ties, order_effect, weighting: Weighting::Equal, ridge };
            if too_many { Err(FitError::Empty) } else { bradley_terry::fit(tally, model) }
        };
        let shown = votes.tally_shown();
        Self {
            half: fit(tally, Ties::Half, OrderEffect::Absent),
            davidson: fit(tally, Ties::Davidson, OrderEffect::Absent),
            rao_kupper: fit(tally, Ties::RaoKupper, OrderEffect::Absent),
            sides: [OrderEffect::Absent, OrderEffect::Estimated]
                .map(|order| fit(&shown, Ties::Half, order)),
            ridge,
        }
    }

    /// Bootstrap intervals, with notes where there are fewer rounds than asked for and where rounds are infinite.
    fn bootstrap(&self, tally: &Tally, options: &Options) -> Option<Resampled> {
        self.half.as_ref().ok()?;
        let rounds = options.bootstrap_rounds.min(affordable(tally, PATIENT));
        let mut notes = Vec::new();
        if rounds < options.bootstrap_rounds {
            notes.push(format!(
                "{} models: {rounds} rounds of the bootstrap instead of {}.",
                tally.items(),
                options.bootstrap_rounds
            ));
        }
        let model = Model { ridge: self.ridge, ..Model::PLAIN };
        let replicates =
            bradley_terry::bootstrap(tally, model, rounds, &mut options.rng(70)).ok()?;
        let infinite = replicates.unbounded;
        // With a prior no round is finite, and a note says so already.
        if infinite > 0 && self.ridge == 0.0 {
            notes.push(format!(
                "In {infinite} of {rounds} rounds of the bootstrap some model wins or loses everything against the others, and \
                 its strength is infinite. Where more than 2.5 % of the rounds say so, an end of an interval is unbounded."
            ));
        }
        Some(Resampled { replicates, rounds, notes })
    }

    fn tie_models(&self, votes: &ModelVotes<'_>) -> TieModels {
        let ties = votes.list.iter().filter(|v| v.vote.choice == VoteChoice::Tie).count();
        let share = proportion::wilson(ties as f64, votes.list.len());
        let (davidson, rao_kupper) = (self.davidson.as_ref().ok(), self.rao_kupper.as_ref().ok());
        let parameter = |fit: Option<&Fit>| fit.map(Fit::tie_parameter).filter(|x| x.is_finite());
        TieModels {
            tie_share: Figure::new(share, "No votes between models."),
            davidson_nu: parameter(davidson),
            rao_kupper_eta: parameter(rao_kupper),
            davidson_advantage: davidson
                .zip(rao_kupper)
                .map(|(d, r)| d.log_likelihood() - r.log_likelihood()),
        }
    }

    fn order_effect(&self, votes: &ModelVotes<'_>) -> Figure {
        if votes.list.iter().all(|v| v.vote.first_left.is_none()) {
            return Figure::missing("No vote between models whose sides are known.");
        }
        match &self.sides[1] {
            Ok(fit) => {
                let effect = fit.intervals(Covariance::Sandwich).order_effect();
                Figure::new(effect, "The order effect is not estimated.")
            }
            Err(error) => Figure::missing(crate::figure::sentence(&error.to_string())),
        }
    }

    /// A note where the order effect leans on a prior that the strengths do without.
    fn prior_of_sides(&self, votes: &ModelVotes<'_>, ridge: f64) -> Option<String> {
        let shown = votes.tally_shown();
        let some = shown.pairs().iter().any(|pair| pair.left != pair.right);
        let groups = shown.components().len();
        (ridge == 0.0 && some && groups > 1 && self.sides[1].is_ok()).then(|| {
            format!(
                "Over the votes whose sides are known the models fall into {groups} groups; the order effect and its \
                 test are estimated with a normal prior with standard deviation 2 on strengths."
            )
        })
    }

    fn order_test(&self) -> Option<LikelihoodRatio> {
        let [Ok(without), Ok(with)] = &self.sides else { return None };
        let Significance { statistic, p_value } = with.likelihood_ratio(without);
        // With a prior the larger model may fit the votes no better.
        Some(LikelihoodRatio { chi_squared: statistic.max(0.0), degrees: 1, p: p_value })
    }
}

/// What the bootstrap found.
struct Resampled {
    replicates: bradley_terry::Replicates,
    rounds: usize,
    notes: Vec<String>,
}

impl Resampled {
    /// The rating of a model. A single vote, or a few that say the same, are the same however they are drawn.
    fn rating(&self, model: usize) -> Figure {
        let strength = self.replicates.strengths[model];
        if self.rounds > 0 && self.replicates.unbounded == 0 && strength.is_unbounded() {
            return Figure::missing(ALIKE);
        }
        Figure::new(Some(strength), "Not finite.").map(bradley_terry::rating)
    }
}

fn deviance(fit: &Fit) -> Option<LikelihoodRatio> {
    let deviance = fit.deviance();
    let degrees = deviance.degrees;
    let test =
        (degrees > 0).then(|| hearken_stats::significance::chi_squared(deviance.value, degrees))?;
    Some(LikelihoodRatio { chi_squared: deviance.value, degrees, p: test.p_value })
}

fn cyclic_triads(tally: &Tally) -> CyclicTriads {
    let triads = triads::triads(tally);
    let Triads { complete, cyclic, .. } = triads;
    CyclicTriads {
        complete,
        cyclic,
        share: Figure::new(
            proportion::wilson(cyclic as f64, usize::try_from(complete).unwrap_or(usize::MAX)),
            "No three models have a strict majority on all their pairs.",
        ),
        zeta: triads.zeta(),
    }
}

/// Rows in the order of strength; without strengths in that of win rates.
fn rows(
    index: &Index<'_>,
    votes: &ModelVotes<'_>,
    fits: &Fits,
    resampled: Option<&Resampled>,
    style: &styled::Styles,
    elo: &elo::Elos,
) -> Vec<ModelRow> {
    let mut outcomes = vec![Outcomes::default(); votes.models.len()];
    for v in &votes.list {
        match v.vote.choice {
            VoteChoice::Tie => [v.first, v.second].into_iter().for_each(|m| outcomes[m].ties += 1),
            choice => {
                let first = choice == VoteChoice::First;
                let (winner, loser) = if first { (v.first, v.second) } else { (v.second, v.first) };
                outcomes[winner].wins += 1;
                outcomes[loser].losses += 1;
            }
        }
    }
    let strengths = StrengthColumns::new(fits, votes.models.len());
    let shares = fits.half.as_ref().ok().map(Fit::shares);
    let bounds = resampled.map(|r| rank_bounds(&r.replicates.strengths));
    let row = |m: usize| {
        let Outcomes { wins, ties, losses } = outcomes[m];
        ModelRow {
            model: index.models[votes.models[m]].to_owned(),
            rank: 0,
            rank_bounds: bounds.as_ref().map(|b| b[m]),
            votes: wins + ties + losses,
            wins,
            ties,
            losses,
            win_rate: Figure::new(outcomes[m].win_rate(), "No votes."),
            rating: resampled.map_or_else(|| Figure::missing(&strengths.why), |r| r.rating(m)),
            rating_sandwich: strengths.half[m].clone().map(bradley_terry::rating),
            share: shares.as_ref().map(|s| s[m]),
            strength: strengths.half[m].clone(),
            strength_davidson: strengths.davidson[m].clone(),
            strength_rao_kupper: strengths.rao_kupper[m].clone(),
            strength_styled: style.strengths[m].clone(),
            elo: elo.last.get(m).copied(),
        }
    };
    let mut rows: Vec<ModelRow> = (0..votes.models.len()).map(row).collect();
    let key = |row: &ModelRow| row.strength.value().or(row.win_rate.value()).unwrap_or(0.0);
    rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
    rows.iter_mut().enumerate().for_each(|(i, row)| row.rank = i + 1);
    rows
}

/// Strengths of every model under each model of ties.
struct StrengthColumns {
    half: Vec<Figure>,
    davidson: Vec<Figure>,
    rao_kupper: Vec<Figure>,
    why: String,
}

impl StrengthColumns {
    fn new(fits: &Fits, models: usize) -> Self {
        let why = |error: &FitError| crate::figure::sentence(&error.to_string());
        let column = |fit: &Result<Fit, FitError>| match fit {
            Ok(fit) => {
                let strengths = fit.intervals(Covariance::Sandwich).strengths();
                strengths.into_iter().map(|e| Figure::new(Some(e), "Not finite.")).collect()
            }
            Err(error) => vec![Figure::missing(why(error)); models],
        };
        Self {
            half: column(&fits.half),
            davidson: column(&fits.davidson),
            rao_kupper: column(&fits.rao_kupper),
            why: fits.half.as_ref().err().map_or_else(|| "No bootstrap was made.".into(), why),
        }
    }
}
