//! Scores that read the pair matrix directly.

use super::PairMatrix;

/// Borda's count: votes over all others, so on complete rankings of n candidates n − 1 for the first, 0 for the last.
pub fn borda(matrix: &PairMatrix) -> Vec<f64> {
    let score = |a| matrix.others(a).map(|b| matrix.support(a, b)).sum();
    (0..matrix.candidates()).map(score).collect()
}

/// Copeland's score: majorities won plus half of those tied. A pair without votes counts for neither.
pub fn copeland(matrix: &PairMatrix) -> Vec<f64> {
    let point = |a, b| {
        if matrix.margin(a, b) > 0.0 {
            1.0
        } else if matrix.margin(a, b) == 0.0 && matrix.support(a, b) > 0.0 {
            0.5
        } else {
            0.0
        }
    };
    let score = |a| matrix.others(a).map(|b| point(a, b)).sum();
    (0..matrix.candidates()).map(score).collect()
}

/// Maximin (Simpson): the fewest votes over any opponent. Pairs without votes are left out; a candidate without any votes
/// has 0.
pub fn maximin(matrix: &PairMatrix) -> Vec<f64> {
    let score = |a| {
        let compared = |b: &usize| matrix.support(a, *b) + matrix.support(*b, a) > 0.0;
        let fewest = matrix.others(a).filter(compared).map(|b| matrix.support(a, b));
        fewest.reduce(f64::min).unwrap_or(0.0)
    };
    (0..matrix.candidates()).map(score).collect()
}

/// The candidate with a strict majority over every other, if there is one.
pub fn condorcet_winner(matrix: &PairMatrix) -> Option<usize> {
    (0..matrix.candidates()).find(|&a| matrix.others(a).all(|b| matrix.margin(a, b) > 0.0))
}

/// The Smith set: the smallest non-empty set whose members all have a strict majority over everybody outside.
pub fn smith_set(matrix: &PairMatrix) -> Vec<usize> {
    let smallest = (0..matrix.candidates()).map(|a| closure(matrix, a)).min_by_key(Vec::len);
    smallest.unwrap_or_default()
}

/// `first` and everybody who is not beaten by a member, until nobody is left to add.
fn closure(matrix: &PairMatrix, first: usize) -> Vec<usize> {
    let mut inside = vec![false; matrix.candidates()];
    let mut queue = vec![first];
    inside[first] = true;
    while let Some(a) = queue.pop() {
        for b in matrix.others(a) {
            if !inside[b] && matrix.margin(a, b) <= 0.0 {
                inside[b] = true;
                queue.push(b);
            }
        }
    }
    (0..inside.len()).filter(|&a| inside[a]).collect()
}
