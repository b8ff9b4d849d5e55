//! What the tests share: votes and fixtures.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hearken_stats::comparison::{Comparison, Outcome, Tally};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// One vote.
pub fn vote(left: usize, right: usize, outcome: Outcome) -> Comparison {
    Comparison { left, right, outcome, weight: 1.0 }
}

/// The outcome of that name.
pub fn outcome(name: &str) -> Outcome {
    match name {
        "left" => Outcome::Left,
        "right" => Outcome::Right,
        "tie" => Outcome::Tie,
        other => panic!("unknown outcome {other}"),
    }
}

/// A generator.
pub fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

/// The data lines of a CSV file without quotes, split.
pub fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// A file next to the tests.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Votes with names, and the names in ascending order.
pub struct Named {
    pub names: Vec<String>,
    pub votes: Vec<Comparison>,
}

impl Named {
    /// From (left, right, outcome) by name.
    pub fn new(rows: &[[String; 3]]) -> Self {
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        for [left, right, _] in rows {
            index.insert(left, 0);
            index.insert(right, 0);
        }
        index.values_mut().enumerate().for_each(|(i, v)| *v = i);
        let votes =
            rows.iter().map(|[l, r, o]| vote(index[l.as_str()], index[r.as_str()], outcome(o)));
        let votes = votes.collect();
        Self { names: index.keys().map(|&name| name.to_owned()).collect(), votes }
    }

    /// `food.csv` or `simple.csv`.
    pub fn fixture(name: &str) -> Self {
        let rows = rows(&fixture(name));
        Self::new(&rows.into_iter().map(|row| row.try_into().unwrap()).collect::<Vec<_>>())
    }

    pub fn tally(&self) -> Tally {
        Tally::new(self.names.len(), self.votes.iter().copied()).unwrap()
    }

    pub fn index(&self, name: &str) -> usize {
        self.names.iter().position(|n| n == name).unwrap()
    }
}

/// Fails unless every number is within `tolerance` of the expected one.
pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(near, "found {found:?}, expected {expected:?} ± {tolerance:e}");
}
