//! Intervals of strengths: from a covariance, or by the bootstrap.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Fit, FitError, Model, fit};
use crate::bootstrap::percentile;
use crate::comparison::Tally;
use crate::linear::Symmetric;
use crate::multinomial::multinomial;
use crate::{Estimate, Method};

/// The intervals of a [`Fit`] under one covariance.
pub struct Intervals<'a> {
    pub(super) fit: &'a Fit,
    pub(super) covariance: Symmetric,
    pub(super) gauge: f64,
    pub(super) method: Method,
}

impl Intervals<'_> {
    /// θ of one item relative to the mean of all; `n` is the number of votes on it.
    pub fn strength(&self, item: usize) -> Estimate {
        let variance = self.covariance.at(item, item) - self.gauge;
        self.estimate(self.fit.parameters[item], variance, self.fit.votes_on[item])
    }

    /// [`Intervals::strength`] of every item.
    pub fn strengths(&self) -> Vec<Estimate> {
        (0..self.fit.items).map(|item| self.strength(item)).collect()
    }

    /// `θ_item − θ_reference`; `n` is the number of votes on the item.
    pub fn difference(&self, item: usize, reference: usize) -> Estimate {
        let c = &self.covariance;
        let variance = c.at(item, item) + c.at(reference, reference) - 2.0 * c.at(item, reference);
        let value = self.fit.parameters[item] - self.fit.parameters[reference];
        self.estimate(value, variance, self.fit.votes_on[item])
    }

    /// γ, if it is estimated: the log-odds of left between equals.
    pub fn order_effect(&self) -> Option<Estimate> {
        let g = self.fit.order_index()?;
        Some(self.estimate(self.fit.parameters[g], self.covariance.at(g, g), self.fit.votes))
    }

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
    /// Rounds without a finite estimate, left out of the intervals: where they are many, the intervals are too narrow.
    pub dropped: usize,
}

/// Refits `model` to `rounds` resamples of the votes (multinomial over ordered pair and outcome) and takes
/// percentiles. Rounds run in parallel, each with its own generator seeded from `rng` beforehand, so that the result does not
/// depend on the number of threads.
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
        fit(&tally.with_votes(votes), model).ok().map(|f| f.parameters)
    };
    let replicates: Vec<Option<Vec<f64>>> = seeds.par_iter().map(replicate).collect();
    let kept: Vec<Vec<f64>> = replicates.into_iter().flatten().collect();
    let interval = |parameter: usize, n: f64| {
        let column: Vec<f64> = kept.iter().map(|r| r[parameter]).collect();
        percentile(fitted.parameters[parameter], &column, whole(n))
    };
    Ok(Replicates {
        strengths: (0..fitted.items).map(|i| interval(i, fitted.votes_on[i])).collect(),
        order_effect: fitted.order_index().map(|g| interval(g, fitted.votes)),
        dropped: rounds - kept.len(),
    })
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
/// # use hearken_stats::{Estimate, Method, bradley_terry::rank_bounds};
/// let at = |low, high| Estimate { value: low, low, high, n: 9, method: Method::Bootstrap };
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
