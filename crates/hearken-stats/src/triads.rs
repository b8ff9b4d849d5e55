//! Cycles of three in a tournament: a beats b beats c beats a.

use serde::{Deserialize, Serialize};

use crate::comparison::Tally;

/// How many triads there are and how many are cyclic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triads {
    /// Items.
    pub items: usize,
    /// Triples of items with a strict majority on all three pairs.
    pub complete: u64,
    /// Those that form a cycle. A random tournament has a quarter of them on average.
    pub cyclic: u64,
}

/// Counts the triads of the majority tournament of the decisive votes, both orders of a pair pooled.
///
/// ```
/// # use hearken_stats::comparison::{Comparison, Outcome, Tally};
/// # use hearken_stats::triads::triads;
/// let beats = |left, right| Comparison { left, right, outcome: Outcome::Left, weight: 1.0 };
/// let cycle = Tally::new(3, [beats(0, 1), beats(1, 2), beats(2, 0)])?;
/// assert_eq!((triads(&cycle).complete, triads(&cycle).cyclic), (1, 1));
/// # Ok::<(), hearken_stats::comparison::ComparisonError>(())
/// ```
pub fn triads(tally: &Tally) -> Triads {
    let n = tally.items();
    let mut margin = vec![vec![0.0; n]; n];
    for p in tally.pairs() {
        let [left, _, right] = p.votes;
        margin[p.left][p.right] += left - right;
        margin[p.right][p.left] += right - left;
    }
    let (mut complete, mut cyclic) = (0, 0);
    for a in 0..n {
        for b in (a + 1..n).filter(|&b| margin[a][b] != 0.0) {
            for c in (b + 1..n).filter(|&c| margin[b][c] != 0.0 && margin[a][c] != 0.0) {
                complete += 1;
                let (ab, bc, ca) = (margin[a][b] > 0.0, margin[b][c] > 0.0, margin[c][a] > 0.0);
                cyclic += u64::from(ab == bc && bc == ca);
            }
        }
    }
    Triads { items: n, complete, cyclic }
}

impl Triads {
    /// Kendall and Babington Smith's coefficient of consistence (1940): 1 without cycles, 0 with as many as there can be.
    /// `None` unless every pair has a strict majority and there are at least three items.
    ///
    /// ```text
    /// ζ = 1 − 24d/(n³ − n) for odd n,  1 − 24d/(n³ − 4n) for even n
    /// ```
    pub fn zeta(&self) -> Option<f64> {
        let n = self.items as u64;
        if n < 3 || self.complete != n * (n - 1) * (n - 2) / 6 {
            return None;
        }
        let most = if n % 2 == 1 { n * n * n - n } else { n * n * n - 4 * n };
        Some(1.0 - 24.0 * self.cyclic as f64 / most as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Comparison, Outcome};

    /// The triads of a tournament in which each of `wins` beats the other.
    fn of(items: usize, wins: &[(usize, usize)]) -> Triads {
        let beats =
            |&(left, right)| Comparison { left, right, outcome: Outcome::Left, weight: 1.0 };
        triads(&Tally::new(items, wins.iter().map(beats)).unwrap())
    }

    #[test]
    fn consistence_is_one_without_cycles_and_zero_with_as_many_as_there_can_be() {
        let order = |n: usize| (0..n).flat_map(move |a| (a + 1..n).map(move |b| (a, b)));
        for n in [3, 4, 5, 6] {
            let ranked = of(n, &order(n).collect::<Vec<_>>());
            assert_eq!((ranked.cyclic, ranked.zeta()), (0, Some(1.0)));
        }
        // Everybody beats the next two: of 10 triads 5 are cyclic, the most among five.
        let round: Vec<_> = (0..5).flat_map(|a| [(a, (a + 1) % 5), (a, (a + 2) % 5)]).collect();
        assert_eq!((of(5, &round).cyclic, of(5, &round).zeta()), (5, Some(0.0)));
        // Two cyclic triads are the most among four; one is half of them.
        let four = of(4, &[(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)]);
        assert_eq!((four.complete, four.cyclic, four.zeta()), (4, 2, Some(0.0)));
        let three = of(4, &[(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)]);
        assert_eq!((three.cyclic, three.zeta()), (1, Some(0.5)));
    }

    #[test]
    fn consistence_needs_a_majority_on_every_pair() {
        assert_eq!(of(4, &[(0, 1), (1, 2), (2, 0)]).zeta(), None);
        assert_eq!(of(2, &[(0, 1)]).zeta(), None);
    }
}
