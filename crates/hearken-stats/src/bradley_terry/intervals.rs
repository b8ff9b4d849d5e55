//! Intervals of strengths: from a covariance, or by the bootstrap.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Fit, FitError, Model, fit};
use crate::bootstrap::{Replicate, percentile};
use crate::comparison::Tally;
use crate::linear::Symmetric;
use crate::multinomial::multinomial;
use crate::{Estimate, IntervalMethod};

/// The intervals of a [`Fit`] under one covariance.
pub struct Intervals<'a> {
    pub(super) fit: &'a Fit,
    pub(super) covariance: Symmetric,
    pub(super) gauge: f64,
    pub(super) method: IntervalMethod,
}

impl Intervals<'_> {
    /// θ of one item relative to the mean of all; `n` is the number of votes on it.
    pub fn strength(&self, item: usize) -> Estimate {
        let bounded = self.fit.separation.bounds(item);
        let variance = if bounded { self.covariance.at(item, item) - self.gauge } else { 0.0 };
        self.estimate(self.fit.parameters[item], variance, self.fit.votes_on[item])
    }

    /// [`Intervals::strength`] of every item.
    pub fn strengths(&self) -> Vec<Estimate> {
        (0..self.fit.items).map(|item| self.strength(item)).collect()
    }

    /// `θ_item − θ_reference`; `n` is the number of votes on the item.
    pub fn difference(&self, item: usize, reference: usize) -> Estimate {
        let c = &self.covariance;
        let bounded = self.fit.separation.bounds_difference(item, reference);
        let variance = c.at(item, item) + c.at(reference, reference) - 2.0 * c.at(item, reference);
        let variance = if bounded { variance } else { 0.0 };
        let value = self.fit.parameters[item] - self.fit.parameters[reference];
        self.estimate(value, variance, self.fit.votes_on[item])
    }

    /// γ, if it is estimated: the log-odds of left between equals.
    pub fn order_effect(&self) -> Option<Estimate> {
        let g = self.fit.order_index()?;
        Some(self.estimate(self.fit.parameters[g], self.covariance.at(g, g), self.fit.votes))
    }

    /// Unbounded without variance.
    fn estimate(&self, value: f64, variance: f64, n: f64) -> Estimate {
        Estimate::symmetric(value, variance.max(0.0).sqrt(), whole(n), self.method)
    }
}

/// Bootstrap intervals of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replicates {
    /// θ per item.
    pub strengths: Vec<Estimate>,
    /// γ, if it is estimated.
    pub order_effect: Option<Estimate>,
    /// Rounds without a finite estimate of every strength. They are in the intervals as what is infinite in them.
    pub unbounded: usize,
}

/// Refits `model` to `rounds` resamples of the votes (multinomial over ordered pair and outcome) and takes
/// percentiles. Rounds run in parallel, each with its own generator seeded from `rng` beforehand, so that the result does not
/// depend on the number of threads.
///
/// In a round in which some items win, or lose, everything against the others, no likelihood bounds their strengths: they count
/// as +∞ or −∞, or as anything where neither direction is certain. If more than half of the items remain connected, those are
/// fitted among themselves and keep the mean that they have in the fit of all votes; the ridge makes no strength finite here.
/// An end of an interval is unbounded where such rounds are more than 2.5 %.
///
/// # Errors
/// [`FitError`] if the votes themselves cannot be fitted.
pub fn bootstrap(
    tally: &Tally,
    model: Model,
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<Replicates, FitError> {
    let fitted = fit(tally, model)?;
    let cells: Vec<f64> = tally.pairs().iter().flat_map(|p| p.votes).collect();
    let draws = whole(cells.iter().sum());
    let seeds: Vec<u64> = (0..rounds).map(|_| rng.random()).collect();
    let replicate = |seed: &u64| {
        let votes = multinomial(draws, &cells, &mut ChaCha8Rng::seed_from_u64(*seed));
        let votes = votes.chunks_exact(3).map(|v| [v[0], v[1], v[2]]);
        round(&tally.with_votes(votes), &fitted)
    };
    let replicates: Vec<Resample> = seeds.par_iter().map(replicate).collect();
    let interval = |of: &dyn Fn(&Resample) -> Replicate, value: f64, n: f64| {
        percentile(value, &replicates.iter().map(of).collect::<Vec<_>>(), whole(n))
    };
    let strength =
        |i: usize| interval(&|r| r.strengths[i], fitted.parameters[i], fitted.votes_on[i]);
    Ok(Replicates {
        strengths: (0..fitted.items).map(strength).collect(),
        order_effect: fitted
            .order_index()
            .map(|g| interval(&|r| r.order_effect, fitted.parameters[g], fitted.votes)),
        unbounded: replicates.iter().filter(|r| !r.finite).count(),
    })
}

/// What one resample says.
struct Resample {
    strengths: Vec<Replicate>,
    /// Anything where γ is not estimated.
    order_effect: Replicate,
    finite: bool,
}

fn round(tally: &Tally, fitted: &Fit) -> Resample {
    let separation = tally.separation();
    let model = fitted.model;
    let mut round = Resample {
        strengths: vec![Replicate::ANYTHING; fitted.items],
        order_effect: Replicate::ANYTHING,
        finite: false,
    };
    // The items that the rest is measured against: all, most, or any one.
    let connected = separation.main().and_then(|main| {
        let mean = |of: &[f64]| of.iter().sum::<f64>() / main.len() as f64;
        let fit = fit(&tally.among(main), model).ok()?;
        let before: Vec<f64> = main.iter().map(|&item| fitted.parameters[item]).collect();
        let shift =
            if main.len() < fitted.items { mean(&before) - mean(fit.strengths()) } else { 0.0 };
        for (&item, strength) in main.iter().zip(fit.strengths()) {
            round.strengths[item] = Replicate::exactly(strength + shift);
        }
        Some((main, fit))
    });
    if let Some((main, fit)) = connected {
        round.finite = main.len() == fitted.items;
        if let Some(g) = fit.order_index().filter(|_| round.finite) {
            round.order_effect = Replicate::exactly(fit.parameters[g]);
        }
        let reach = tally.reach(main[0]);
        for item in (0..fitted.items).filter(|&item| !separation.bounds(item)) {
            round.strengths[item] = infinite(reach.above[item], reach.below[item]);
        }
    } else if separation.main().is_none() {
        for members in &separation.components {
            let reach = tally.reach(members[0]);
            let all = |side: &[bool]| side.iter().all(|&reached| reached);
            for &item in members {
                round.strengths[item] = infinite(all(&reach.below), all(&reach.above));
            }
        }
    }
    round
}

/// The strength of an item that stands over what it is measured against, or under it, or neither.
fn infinite(over: bool, under: bool) -> Replicate {
    match (over, under) {
        (true, false) => Replicate::exactly(f64::INFINITY),
        (false, true) => Replicate::exactly(f64::NEG_INFINITY),
        _ => Replicate::ANYTHING,
    }
}

/// The best and the worst rank, from 1, that intervals leave an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankBounds {
    /// 1 + the number of items whose interval lies wholly above.
    pub best: usize,
    /// The number of items less those whose interval lies wholly below.
    pub worst: usize,
}

/// Rank bounds from the intervals of strengths.
///
/// ```
/// # use hearken_stats::{Estimate, IntervalMethod, bradley_terry::rank_bounds};
/// let at = |low, high| Estimate { value: low, low, high, n: 9, method: IntervalMethod::Bootstrap };
/// let bounds = rank_bounds(&[at(2.0, 3.0), at(1.0, 2.5), at(-1.0, 0.0)]);
/// assert_eq!((bounds[0].best, bounds[0].worst), (1, 2));
/// assert_eq!((bounds[2].best, bounds[2].worst), (3, 3));
/// ```
pub fn rank_bounds(strengths: &[Estimate]) -> Vec<RankBounds> {
    let bounds = |e: &Estimate| RankBounds {
        best: 1 + strengths.iter().filter(|other| other.low > e.high).count(),
        worst: strengths.len() - strengths.iter().filter(|other| other.high < e.low).count(),
    };
    strengths.iter().map(bounds).collect()
}

/// A number of votes for display: soft labels may sum to a fraction.
fn whole(votes: f64) -> usize {
    // Sums of weights that are not negative.
    #[allow(clippy::cast_sign_loss)]
    let n = votes.round() as usize;
    n
}
