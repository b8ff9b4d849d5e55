//! Schulze's beatpath method.

use super::{PairMatrix, tiers};

/// Schulze's ranking (2011, *Social Choice and Welfare* 36), strength of a majority = its votes.
///
/// A path is as strong as its weakest majority; a is above b if the strongest path from a to b is stronger than that
/// from b to a.
pub fn schulze(matrix: &PairMatrix) -> Vec<Vec<usize>> {
    let n = matrix.candidates();
    let majority = |a, b| if matrix.margin(a, b) > 0.0 { matrix.support(a, b) } else { 0.0 };
    let mut strength: Vec<Vec<f64>> = (0..n)
        .map(|a| (0..n).map(|b| if a == b { 0.0 } else { majority(a, b) }).collect())
        .collect();
    for via in 0..n {
        let from_via = strength[via].clone();
        for row in &mut strength {
            let to_via = row[via];
            for (path, onward) in row.iter_mut().zip(&from_via) {
                *path = path.max(to_via.min(*onward));
            }
        }
    }
    tiers(n, |a, b| strength[a][b] > strength[b][a])
}
