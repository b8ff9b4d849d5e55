//! Tideman's ranked pairs.

use std::cmp::Ordering;

use super::{PairMatrix, tiers};

/// The result of [`ranked_pairs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankedPairs {
    /// Candidates, best first.
    pub tiers: Vec<Vec<usize>>,
    /// Majorities that were left out for contradicting one of exactly their own strength: if there are any, the result
    /// depends on the order in which those were taken, which is that of their candidates' numbers.
    pub contested: Vec<(usize, usize)>,
}

/// Ranked pairs (Tideman 1987): majorities are locked in from the strongest down, except those that would close a
/// cycle. A majority is stronger with more votes for it, then with fewer against it.
pub fn ranked_pairs(matrix: &PairMatrix) -> RankedPairs {
    let n = matrix.candidates();
    let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
    let mut majorities: Vec<(usize, usize)> =
        pairs.filter(|&(a, b)| a != b && matrix.margin(a, b) > 0.0).collect();
    let stronger = |x: &(usize, usize), y: &(usize, usize)| -> Ordering {
        let for_it = matrix.support(y.0, y.1).total_cmp(&matrix.support(x.0, x.1));
        for_it.then(matrix.support(x.1, x.0).total_cmp(&matrix.support(y.1, y.0)))
    };
    majorities.sort_by(stronger);
    let mut above = vec![vec![false; n]; n];
    let mut contested = Vec::new();
    for equals in majorities.chunk_by(|x, y| stronger(x, y).is_eq()) {
        let before = above.clone();
        for &(a, b) in equals {
            if !above[b][a] {
                lock(&mut above, a, b);
            } else if !before[b][a] {
                contested.push((a, b));
            }
        }
    }
    RankedPairs { tiers: tiers(n, |a, b| above[a][b]), contested }
}

/// Puts `a` and all above it over `b` and all below it.
fn lock(above: &mut [Vec<bool>], a: usize, b: usize) {
    let below: Vec<usize> = (0..above.len()).filter(|&c| c == b || above[b][c]).collect();
    let over: Vec<usize> = (0..above.len()).filter(|&c| c == a || above[c][a]).collect();
    for &c in &over {
        for &d in &below {
            above[c][d] = true;
        }
    }
}
