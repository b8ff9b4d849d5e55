//! Units counted per category, so that a million judgements are a short table.

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{AgreementError, Distance, beyond_chance, whole_agreement};
use crate::Estimate;
use crate::bootstrap::{Replicate, percentile};
use crate::multinomial::multinomial;

/// Units as counts of their values per category; units with the same counts are one row.
///
/// Every coefficient of the module reads the counts alone, so nothing is lost, and the bootstrap over units
/// becomes one over rows with as many draws as there are units.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    categories: usize,
    rows: Vec<TableRow>,
}

#[derive(Clone, Debug, PartialEq)]
struct TableRow {
    counts: Vec<u32>,
    units: usize,
}

/// What to compute from a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coefficient<'a> {
    /// Share of pairs of values on the same unit that are equal.
    Raw,
    /// The same without the values of one category (ties).
    RawWithout(usize),
    /// Fleiss' kappa over the units with exactly this many values.
    Fleiss {
        /// Values per unit, at least 2.
        raters: usize,
    },
    /// Krippendorff's alpha with one number per category, ascending; [`Distance::Nominal`] and [`Distance::Ordinal`]
    /// read only their order.
    Alpha(Distance, &'a [f64]),
}

impl Table {
    /// Counts units; each is the number of its values per category. Units with fewer than two values are left out.
    ///
    /// # Panics
    /// If a unit has not one count per category.
    pub fn new(categories: usize, units: impl IntoIterator<Item = Vec<u32>>) -> Self {
        Self::counted(categories, units.into_iter().map(|counts| (counts, 1)))
    }

    /// The same for units of which some are counted already: how often there is one with these numbers of values per category.
    ///
    /// # Panics
    /// If a unit has not one count per category.
    pub fn counted(categories: usize, units: impl IntoIterator<Item = (Vec<u32>, usize)>) -> Self {
        let mut rows: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
        for (counts, units) in units {
            assert_eq!(counts.len(), categories, "one count per category");
            if counts.iter().sum::<u32>() >= 2 && units > 0 {
                *rows.entry(counts).or_default() += units;
            }
        }
        let rows = rows.into_iter().map(|(counts, units)| TableRow { counts, units }).collect();
        Self { categories, rows }
    }

    /// Units with at least two values.
    pub fn units(&self) -> usize {
        self.rows.iter().map(|row| row.units).sum()
    }

    /// The number of values that most units have, the greater of two equally frequent ones; `None` without units.
    pub fn usual_raters(&self) -> Option<usize> {
        let mut frequency: BTreeMap<usize, usize> = BTreeMap::new();
        for row in &self.rows {
            *frequency.entry(row.raters()).or_default() += row.units;
        }
        frequency
            .into_iter()
            .max_by_key(|&(raters, units)| (units, raters))
            .map(|(raters, _)| raters)
    }

    /// Every coefficient with a percentile interval from the same `rounds` resamples of units.
    ///
    /// The result depends on the state of `rng` alone, not on the number of threads.
    ///
    /// ```
    /// # use hearken_stats::agreement::{Coefficient, Distance, Table};
    /// # use rand::SeedableRng;
    /// // Two units on which two raters agree, one on which they do not.
    /// let table = Table::new(2, [vec![2, 0], vec![0, 2], vec![1, 1]]);
    /// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    /// let found = table.estimates(&[Coefficient::Raw], 0, &mut rng);
    /// assert_eq!(found[0].as_ref().map(|e| e.value), Ok(2.0 / 3.0));
    /// ```
    ///
    /// # Panics
    /// If a coefficient names a category that is not there or gives not one number per category.
    pub fn estimates(
        &self,
        coefficients: &[Coefficient<'_>],
        rounds: usize,
        rng: &mut impl Rng,
    ) -> Vec<Result<Estimate, AgreementError>> {
        let weights: Vec<f64> = self.rows.iter().map(|row| row.units as f64).collect();
        let seeds: Vec<u64> = (0..rounds).map(|_| rng.random()).collect();
        let replicates: Vec<Vec<Option<f64>>> = seeds
            .par_iter()
            .map(|&seed| {
                let drawn =
                    multinomial(self.units(), &weights, &mut ChaCha8Rng::seed_from_u64(seed));
                coefficients.iter().map(|&c| self.value(c, &drawn)).collect()
            })
            .collect();
        let estimate = |(i, &coefficient): (usize, &Coefficient<'_>)| {
            let n = self.units_of(coefficient);
            let undefined =
                if n == 0 { AgreementError::NoPairableUnits } else { AgreementError::NoVariation };
            let value = self.value(coefficient, &weights).ok_or(undefined)?;
            let rounds: Vec<Replicate> =
                replicates.iter().map(|round| Replicate::from(round[i])).collect();
            let estimate = percentile(value, &rounds, n);
            let raw = matches!(coefficient, Coefficient::Raw | Coefficient::RawWithout(_));
            Ok(if raw { whole_agreement(estimate) } else { estimate })
        };
        coefficients.iter().enumerate().map(estimate).collect()
    }

    fn value(&self, coefficient: Coefficient<'_>, weights: &[f64]) -> Option<f64> {
        match coefficient {
            Coefficient::Raw => self.raw(weights, None),
            Coefficient::RawWithout(category) => {
                assert!(category < self.categories, "no category {category}");
                self.raw(weights, Some(category))
            }
            Coefficient::Fleiss { raters } => self.fleiss(weights, raters),
            Coefficient::Alpha(distance, scale) => {
                assert_eq!(scale.len(), self.categories, "one number per category");
                self.alpha(weights, distance, scale)
            }
        }
    }

    /// Units that have at least two values for the coefficient.
    fn units_of(&self, coefficient: Coefficient<'_>) -> usize {
        let counts = |row: &&TableRow| match coefficient {
            Coefficient::Raw | Coefficient::Alpha(..) => true,
            Coefficient::RawWithout(category) => row.raters() - row.counts[category] as usize >= 2,
            Coefficient::Fleiss { raters } => row.raters() == raters,
        };
        self.rows.iter().filter(counts).map(|row| row.units).sum()
    }

    fn raw(&self, weights: &[f64], without: Option<usize>) -> Option<f64> {
        let (mut agreeing, mut total) = (0.0, 0.0);
        for (row, weight) in self.rows.iter().zip(weights) {
            let kept = row.counts.iter().enumerate().filter(|&(c, _)| Some(c) != without);
            let mut values = 0.0;
            for (_, &count) in kept {
                agreeing += weight * pairs(f64::from(count));
                values += f64::from(count);
            }
            total += weight * pairs(values);
        }
        (total > 0.0).then(|| agreeing / total)
    }

    fn fleiss(&self, weights: &[f64], raters: usize) -> Option<f64> {
        let (mut units, mut agreeing) = (0.0, 0.0);
        let mut margins = vec![0.0; self.categories];
        for (row, weight) in self.rows.iter().zip(weights).filter(|(r, _)| r.raters() == raters) {
            units += weight;
            for (margin, &count) in margins.iter_mut().zip(&row.counts) {
                agreeing += weight * pairs(f64::from(count));
                *margin += weight * f64::from(count);
            }
        }
        let raters = raters as f64;
        let observed = agreeing / (units * pairs(raters));
        let chance: f64 = margins.iter().map(|m| (m / (units * raters)).powi(2)).sum();
        if units > 0.0 { beyond_chance(1.0 - observed, 1.0 - chance) } else { None }
    }

    fn alpha(&self, weights: &[f64], distance: Distance, scale: &[f64]) -> Option<f64> {
        let mut margins = vec![0.0; self.categories];
        for (row, weight) in self.rows.iter().zip(weights) {
            for (margin, &count) in margins.iter_mut().zip(&row.counts) {
                *margin += weight * f64::from(count);
            }
        }
        let total: f64 = margins.iter().sum();
        let delta = between(distance, &margins, scale);
        let mut observed = 0.0;
        for (row, weight) in self.rows.iter().zip(weights).filter(|(_, w)| **w > 0.0) {
            let values = row.raters() as f64;
            observed += weight / (values - 1.0) * crossed(&row.counts, |&c| f64::from(c), &delta);
        }
        let expected = crossed(&margins, |&m| m, &delta) / (total - 1.0);
        (total > 0.0 && expected > 0.0).then(|| 1.0 - observed / expected)
    }
}

impl TableRow {
    fn raters(&self) -> usize {
        self.counts.iter().sum::<u32>() as usize
    }
}

/// Σ over ordered pairs of categories of the product of their counts and δ².
fn crossed<T>(counts: &[T], number: impl Fn(&T) -> f64, delta: &[Vec<f64>]) -> f64 {
    let mut sum = 0.0;
    for (a, row) in counts.iter().zip(delta) {
        for (b, d) in counts.iter().zip(row) {
            sum += number(a) * number(b) * d;
        }
    }
    sum
}

/// Unordered pairs among `n`.
fn pairs(n: f64) -> f64 {
    n * (n - 1.0) / 2.0
}

/// δ² of every two categories, given how often each occurs.
fn between(distance: Distance, margins: &[f64], values: &[f64]) -> Vec<Vec<f64>> {
    let scale = distance.scale(margins, values);
    let row = |c| (0..scale.len()).map(|k| distance.squared(&scale, c, k)).collect();
    (0..scale.len()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{agreeing_pairs, fleiss, krippendorff};
    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(5)
    }

    /// Units of 1 to 4 values in 0, 1, 2.
    fn units() -> Vec<Vec<f64>> {
        let mut rng = rng();
        let unit = |_| {
            let n = rng.random_range(1..5);
            (0..n)
                .map(|_| f64::from(rng.random_range(0..3_u8).min(rng.random_range(0..3))))
                .collect()
        };
        (0..60).map(unit).collect()
    }

    fn table(units: &[Vec<f64>]) -> Table {
        let count = |unit: &Vec<f64>| {
            (0..3).map(|c| unit.iter().filter(|&&v| v == f64::from(c)).count() as u32).collect()
        };
        Table::new(3, units.iter().map(count))
    }

    fn value(table: &Table, coefficient: Coefficient<'_>) -> f64 {
        table.estimates(&[coefficient], 0, &mut rng())[0].clone().unwrap().value
    }

    #[test]
    fn every_coefficient_is_that_of_the_units_themselves() {
        let (units, scale) = (units(), [0.0, 1.0, 2.0]);
        let table = table(&units);
        for distance in [Distance::Nominal, Distance::Ordinal, Distance::Interval, Distance::Ratio]
        {
            let direct = krippendorff(&units, distance, 0, &mut rng()).unwrap();
            let counted = value(&table, Coefficient::Alpha(distance, &scale));
            assert!((direct.value - counted).abs() < 1e-12, "{distance:?}");
            assert_eq!(direct.n, table.units());
        }
        let pairs = agreeing_pairs(&units);
        let raw = pairs.agreeing as f64 / pairs.total as f64;
        assert!((value(&table, Coefficient::Raw) - raw).abs() < 1e-12);
        let rows: Vec<Vec<usize>> = table
            .rows
            .iter()
            .filter(|row| row.raters() == 3)
            .flat_map(|row| vec![row.counts.iter().map(|&c| c as usize).collect(); row.units])
            .collect();
        let direct = fleiss(&rows, 0, &mut rng()).unwrap();
        let counted = table.estimates(&[Coefficient::Fleiss { raters: 3 }], 0, &mut rng());
        assert!((direct.value - counted[0].as_ref().unwrap().value).abs() < 1e-12);
        assert_eq!(direct.n, counted[0].as_ref().unwrap().n);
    }

    #[test]
    fn leaving_out_a_category_is_dropping_its_values() {
        let units = units();
        let decisive: Vec<Vec<f64>> =
            units.iter().map(|u| u.iter().copied().filter(|&v| v != 1.0).collect()).collect();
        let pairs = agreeing_pairs(&decisive);
        let raw = pairs.agreeing as f64 / pairs.total as f64;
        assert!((value(&table(&units), Coefficient::RawWithout(1)) - raw).abs() < 1e-12);
    }

    #[test]
    fn intervals_resemble_those_of_the_units_themselves() {
        let (units, scale) = (units(), [0.0, 1.0, 2.0]);
        let direct = krippendorff(&units, Distance::Nominal, 2000, &mut rng()).unwrap();
        let coefficient = Coefficient::Alpha(Distance::Nominal, &scale);
        let counted = table(&units).estimates(&[coefficient], 2000, &mut rng());
        let counted = counted[0].as_ref().unwrap();
        assert!(
            (direct.low - counted.low).abs() < 0.02 && (direct.high - counted.high).abs() < 0.02
        );
    }

    #[test]
    fn a_table_without_pairs_has_no_coefficients() {
        let table = Table::new(2, [vec![1, 0], vec![0, 0]]);
        assert_eq!(table.usual_raters(), None);
        let found =
            table.estimates(&[Coefficient::Raw, Coefficient::Fleiss { raters: 2 }], 5, &mut rng());
        assert!(found.iter().all(|e| *e == Err(AgreementError::NoPairableUnits)));
    }
}
