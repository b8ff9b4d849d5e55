//! How far annotators agree, raw and beyond chance.
//!
//! A *unit* is what several annotators judged; its values are what they said, without the missing ones. Units are
//! resampled for the intervals, because the judgements of one unit are not independent; `n` is the number of units
//! with at least two values. Zero bootstrap rounds leave the interval unbounded, and so do units that all say the same.
//!
//! The values of a unit are those of different annotators: what one says twice is no agreement, and a caller leaves it
//! out. Where no value differs from another there is no agreement beyond chance to speak of
//! ([`AgreementError::NoVariation`]); raw agreement is 1 there, with Wilson's interval over units.

mod kappa;
mod krippendorff;
mod table;

pub use kappa::{Weights, cohen, fleiss};
pub use krippendorff::{Distance, krippendorff};
use rand::Rng;
pub use table::{Coefficient, Table};

use crate::{Estimate, bootstrap, proportion};

/// Why agreement cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// No unit has two values.
    #[error("no unit was judged twice")]
    NoPairableUnits,
    /// All values are the same (or at no distance).
    #[error(
        "all values are the same: chance alone agrees perfectly, so agreement beyond chance is not defined"
    )]
    NoVariation,
    /// Fleiss' kappa needs the same number of raters everywhere.
    #[error("unit {unit} has {found} ratings, expected {expected} as in the first")]
    UnequalRaters {
        /// Row of the table.
        unit: usize,
        /// Ratings found.
        found: usize,
        /// Ratings of the first row.
        expected: usize,
    },
    /// A rating that is no category.
    #[error("unit {unit}: category {category}, but there are {categories}, numbered from 0")]
    UnknownCategory {
        /// Position of the unit.
        unit: usize,
        /// The category found.
        category: usize,
        /// Number of categories.
        categories: usize,
    },
    /// A value that has no distance from others.
    #[error("unit {unit}: the value {value} is not allowed under this distance")]
    BadValue {
        /// Position of the unit.
        unit: usize,
        /// The value, as text.
        value: String,
    },
}

/// Pairs of values on the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgreeingPairs {
    /// Pairs of equal values.
    pub agreeing: usize,
    /// All pairs.
    pub total: usize,
}

/// Counts pairs of values over all units.
///
/// ```
/// # use hearken_stats::agreement::agreeing_pairs;
/// let pairs = agreeing_pairs(&[vec!['a', 'a', 'b'], vec!['a']]);
/// assert_eq!((pairs.agreeing, pairs.total), (1, 3));
/// ```
pub fn agreeing_pairs<T: PartialEq>(units: &[Vec<T>]) -> AgreeingPairs {
    units.iter().map(|unit| unit_pairs(unit)).fold(AgreeingPairs::default(), |sum, p| {
        AgreeingPairs { agreeing: sum.agreeing + p.agreeing, total: sum.total + p.total }
    })
}

/// Share of pairs of values on the same unit that are equal. To leave ties out, drop them from the units. Where all pairs
/// agree, or none, the interval is Wilson's over units.
///
/// # Errors
/// If no unit has two values.
pub fn pairwise_agreement<T: PartialEq>(
    units: &[Vec<T>],
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, AgreementError> {
    let pairs: Vec<AgreeingPairs> =
        units.iter().map(|unit| unit_pairs(unit)).filter(|p| p.total > 0).collect();
    let share = |sample: &[&AgreeingPairs]| {
        let total: usize = sample.iter().map(|p| p.total).sum();
        let agreeing: usize = sample.iter().map(|p| p.agreeing).sum();
        (total > 0).then(|| agreeing as f64 / total as f64)
    };
    let estimate = bootstrap::bootstrap(&pairs, share, rounds, rng);
    estimate.map(whole_agreement).ok_or(AgreementError::NoPairableUnits)
}

/// Where all pairs agree, or none, every resample does too. Units are independent and their shares lie in [0, 1], so that
/// Wilson's interval over units holds.
fn whole_agreement(estimate: Estimate) -> Estimate {
    let Estimate { value, n, .. } = estimate;
    if value > 0.0 && value < 1.0 {
        return estimate;
    }
    proportion::wilson(value * n as f64, n).unwrap_or(estimate)
}

fn unit_pairs<T: PartialEq>(unit: &[T]) -> AgreeingPairs {
    let agreeing =
        (0..unit.len()).map(|i| unit[..i].iter().filter(|v| **v == unit[i]).count()).sum();
    AgreeingPairs { agreeing, total: unit.len() * unit.len().saturating_sub(1) / 2 }
}

/// `1 − observed/expected` of two disagreements; `None` where chance alone would not disagree either.
fn beyond_chance(observed: f64, expected: f64) -> Option<f64> {
    (expected > CHANCE_MIN).then(|| 1.0 - observed / expected)
}

/// Disagreement by chance below this is rounding of 0.
const CHANCE_MIN: f64 = 1e-12;
