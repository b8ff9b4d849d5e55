//! How far verdicts on one item differ.

use std::collections::{BTreeMap, HashMap};

use hearken_data::feedback::Verdict;

/// The lowest and the highest value of each axis.
pub(crate) type Ranges = HashMap<String, (f64, f64)>;

/// Axis → one value per candidate.
type RatingsByAxis = BTreeMap<String, Vec<Option<f64>>>;

/// Ratings that lie further apart than this share of their axis differ.
const RATINGS_APART: f64 = 0.25;

/// How far verdicts differ: 0 where they say the same or are fewer than two, towards 1 where each says something else. Of
/// verdicts on the whole item the share of those that are not with the most; of labels of steps and of ratings the share
/// of steps, or of ratings, on which not all are one.
pub(crate) fn difference<'a>(verdicts: impl Iterator<Item = &'a Verdict>, ranges: &Ranges) -> f64 {
    let verdicts: Vec<&Verdict> = verdicts.collect();
    if verdicts.len() < 2 {
        return 0.0;
    }
    let labels: Option<Vec<Vec<Option<f64>>>> = verdicts.iter().map(|it| labels(it)).collect();
    if let Some(labels) = labels {
        return of_cells(&labels, 0.0);
    }
    let rated: Option<Vec<&RatingsByAxis>> = verdicts.iter().map(|it| ratings(it)).collect();
    if let Some(rated) = rated {
        return of_ratings(&rated, ranges);
    }
    let with = |one: &Verdict| verdicts.iter().filter(|other| other.agrees(one)).count();
    let most = verdicts.iter().map(|one| with(one)).max().unwrap_or(0);
    1.0 - most as f64 / verdicts.len() as f64
}

/// What is said of each step.
fn labels(verdict: &Verdict) -> Option<Vec<Option<f64>>> {
    let Verdict::Steps { labels } = verdict else { return None };
    Some(labels.iter().map(|label| label.map(f64::from)).collect())
}

fn ratings(verdict: &Verdict) -> Option<&RatingsByAxis> {
    let Verdict::Ratings { axes } = verdict else { return None };
    Some(axes)
}

fn of_ratings(rated: &[&RatingsByAxis], ranges: &Ranges) -> f64 {
    let mut names: Vec<&String> = rated.iter().flat_map(|axes| axes.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let (mut sum, mut count) = (0.0, 0);
    for name in names {
        let values: Vec<Vec<Option<f64>>> =
            rated.iter().filter_map(|axes| axes.get(name)).cloned().collect();
        let (low, high) = ranges.get(crate::settings::rated(name).0).copied().unwrap_or((0.0, 4.0));
        sum += of_cells(&values, RATINGS_APART * (high - low));
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// The share of places, among those with two values, whose values lie further apart than `allowed`.
fn of_cells(rows: &[Vec<Option<f64>>], allowed: f64) -> f64 {
    let places = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (mut apart, mut shared) = (0, 0);
    for place in 0..places {
        let values: Vec<f64> =
            rows.iter().filter_map(|row| row.get(place).copied().flatten()).collect();
        if values.len() < 2 {
            continue;
        }
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        shared += 1;
        apart += u32::from(allowed < high - low);
    }
    if shared == 0 { 0.0 } else { f64::from(apart) / f64::from(shared) }
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::Strength;

    use super::*;

    fn of(verdicts: &[Verdict]) -> f64 {
        difference(verdicts.iter(), &Ranges::from([("help".into(), (0.0, 10.0))]))
    }

    fn check(verdicts: &[Verdict], expected: f64) {
        let found = of(verdicts);
        assert!((found - expected).abs() < 1e-12, "{verdicts:?}: {found}");
    }

    #[test]
    fn those_who_are_not_with_the_most_are_counted() {
        let (first, second) = (Verdict::preferred(0), Verdict::preferred(1));
        let strength = Some(Strength { points: 3, scale: 3 });
        let strong = Verdict::Preferred { candidate: 0, strength };
        check(&[], 0.0);
        check(std::slice::from_ref(&first), 0.0);
        check(&[first.clone(), strong], 0.0);
        check(&[first.clone(), second.clone()], 0.5);
        check(&[first.clone(), first.clone(), second.clone()], 1.0 / 3.0);
        check(&[first, second, Verdict::Tie], 2.0 / 3.0);
    }

    #[test]
    fn steps_and_ratings_differ_cell_by_cell() {
        let steps = |labels: &[Option<i8>]| Verdict::Steps { labels: labels.to_vec() };
        check(&[steps(&[Some(1), Some(1), None]), steps(&[Some(1), Some(-1), Some(1)])], 0.5);
        let rated = |values: [f64; 2]| {
            let values = values.map(Some).to_vec();
            Verdict::Ratings { axes: BTreeMap::from([("help".to_owned(), values)]) }
        };
        check(&[rated([1.0, 2.0]), rated([3.0, 4.5])], 0.0);
        check(&[rated([1.0, 2.0]), rated([3.6, 2.0])], 0.5);
    }
}
