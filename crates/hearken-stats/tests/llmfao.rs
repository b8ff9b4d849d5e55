//! The facts of LLMFAO: 8,931 human votes on answers of 59 models. Skipped where the data is not there.

#![allow(
    clippy::float_cmp,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code; exact results are compared exactly"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use common::{Named, close, outcome, rng, rows};
use hearken_stats::agreement::{AgreeingPairs, Distance, agreeing_pairs, krippendorff};
use hearken_stats::bradley_terry::{Covariance, Model, bootstrap, fit};
use hearken_stats::comparison::Outcome;
use hearken_stats::side_bias::Sides;
use hearken_stats::triads::triads;

/// Columns: id, prompt, `model_x`, `model_y`, worker, winner, left, right. Nothing is quoted.
struct Votes {
    rows: Vec<Vec<String>>,
    named: Named,
}

fn votes() -> Option<Votes> {
    let rows = rows(&hearken_testing::data("llmfao/crowd-comparisons.csv")?);
    assert!(rows.iter().all(|row| row.len() == 8), "no field holds a comma");
    let named: Vec<[String; 3]> =
        rows.iter().map(|row| [row[6].clone(), row[7].clone(), row[5].clone()]).collect();
    Some(Votes { rows, named: Named::new(&named) })
}

impl Votes {
    /// Votes per shown pair.
    fn units(&self) -> Vec<Vec<Outcome>> {
        let mut units: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
        for row in &self.rows {
            units.entry(&row[0]).or_default().push(outcome(&row[5]));
        }
        units.into_values().collect()
    }

    fn sides(&self, worker: Option<&str>) -> Sides {
        let count = |side| {
            let of = |row: &&Vec<String>| row[5] == side && worker.is_none_or(|w| row[4] == w);
            self.rows.iter().filter(of).count().try_into().unwrap()
        };
        Sides { left: count("left"), right: count("right") }
    }
}

#[test]
fn agreement_is_as_documented() {
    let Some(votes) = votes() else { return };
    assert_eq!(votes.rows.len(), 8931);
    let units = votes.units();
    assert_eq!(units.len(), 2139);
    assert_eq!(agreeing_pairs(&units), AgreeingPairs { agreeing: 8043, total: 15_112 });
    let decisive: Vec<Vec<Outcome>> =
        units.iter().map(|u| u.iter().copied().filter(|&o| o != Outcome::Tie).collect()).collect();
    assert_eq!(agreeing_pairs(&decisive), AgreeingPairs { agreeing: 4737, total: 6755 });
    let score = |o: &Outcome| match o {
        Outcome::Left => 1.0,
        Outcome::Tie => 0.5,
        Outcome::Right => 0.0,
    };
    let values: Vec<Vec<f64>> = units.iter().map(|u| u.iter().map(score).collect()).collect();
    for (distance, alpha) in [(Distance::Nominal, 0.2906), (Distance::Interval, 0.2878)] {
        let e = krippendorff(&values, distance, 100, &mut rng()).unwrap();
        close(&[e.value], &[alpha], 6e-5);
        assert!(e.low < alpha && alpha < e.high && e.half_width() < 0.05);
    }
}

#[test]
fn sides_are_biased_as_documented() {
    let Some(votes) = votes() else { return };
    let check = |worker: Option<&str>, left: u32, right: u32, z: f64| {
        let sides = votes.sides(worker);
        assert_eq!(sides, Sides { left, right });
        assert!((sides.bias().unwrap().significance.statistic - z).abs() < 0.006);
    };
    check(None, 2911, 2549, 4.90);
    check(Some("20"), 204, 86, 6.93);
    check(Some("37"), 73, 25, 4.85);
    let share = votes.sides(None).bias().unwrap().left_share;
    close(&[share.value], &[0.533_15], 6e-6);
}

#[test]
fn one_triad_in_ten_is_cyclic() {
    let Some(votes) = votes() else { return };
    let found = triads(&votes.named.tally());
    assert_eq!((found.items, found.complete, found.cyclic), (59, 5249, 510));
    assert_eq!(found.zeta(), None);
}

#[test]
fn strengths_are_evalicas() {
    let Some(votes) = votes() else { return };
    let shares = fit(&votes.named.tally(), Model::PLAIN).unwrap().shares();
    let expected = [
        ("GPT 4", 0.041_217_873_68),
        ("Platypus-2 Instruct (70B)", 0.029_233_178_41),
        ("command", 0.028_852_056_44),
    ];
    for (name, share) in expected {
        close(&[shares[votes.named.index(name)]], &[share], 1e-10);
    }
}

/// In release 1,000 rounds take about a second on two cores; the limit is for unoptimized builds on busy machines.
#[test]
fn a_thousand_bootstrap_rounds_are_quick() {
    let Some(votes) = votes() else { return };
    let tally = votes.named.tally();
    // A test measures time; the crate reads no clock.
    let start = Instant::now();
    let replicates = bootstrap(&tally, Model::PLAIN, 1000, &mut rng()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("1,000 rounds: {seconds:.2} s, {} unbounded", replicates.unbounded);
    assert!(seconds < 60.0, "{seconds} s");
    let fitted = fit(&tally, Model::PLAIN).unwrap();
    let sandwich = fitted.intervals(Covariance::Sandwich).strengths();
    for (a, b) in replicates.strengths.iter().zip(&sandwich) {
        assert!((a.half_width() / b.half_width() - 1.0).abs() < 0.25, "{a} against {b}");
    }
}
