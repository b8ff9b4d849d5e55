//! The Kemeny–Young ranking.

use super::{PairMatrix, borda};

/// The largest number of candidates for which the best ranking is found by looking at all of them.
pub const EXACT_MAX: usize = 16;

/// The result of [`kemeny`].
#[derive(Clone, Debug, PartialEq)]
pub struct Kemeny {
    /// Candidates, best first.
    pub order: Vec<usize>,
    /// Who stands first in a best order, ascending; of orders found by a local search only the first of the one found.
    pub winners: Vec<usize>,
    /// Votes that agree with the order, over all pairs.
    pub score: f64,
    /// How it was found.
    pub search: Search,
}

/// How a ranking was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// It is a best one.
    Exact {
        /// The number of best rankings.
        optima: u64,
    },
    /// No candidate can be moved to a better place; there may be better rankings.
    Local,
}

/// Votes that agree with `order`, over all pairs.
pub fn kemeny_score(matrix: &PairMatrix, order: &[usize]) -> f64 {
    let below = |i: usize| order[i + 1..].iter().map(move |&b| matrix.support(order[i], b));
    (0..order.len()).flat_map(below).sum()
}

/// The ranking with which most votes on pairs agree (Kemeny 1959): by dynamic programming over subsets up to
/// [`EXACT_MAX`] candidates, else by moving single candidates from Borda's order until nothing improves.
pub fn kemeny(matrix: &PairMatrix) -> Kemeny {
    if matrix.candidates() <= EXACT_MAX { exact(matrix) } else { local(matrix) }
}

/// The best arrangement of a set of candidates below all others.
#[derive(Clone, Copy)]
struct Tail {
    score: f64,
    first: usize,
    optima: u64,
}

/// Votes for `first` over the others of a set of candidates, a bit each.
fn over_others(matrix: &PairMatrix, set: usize, first: usize) -> f64 {
    let others = (0..matrix.candidates()).filter(|&b| set & (1 << b) != 0 && b != first);
    others.map(|b| matrix.support(first, b)).sum()
}

fn exact(matrix: &PairMatrix) -> Kemeny {
    let n = matrix.candidates();
    let mut tails = vec![Tail { score: 0.0, first: 0, optima: 1 }; 1 << n];
    let score_of = |tails: &[Tail], set: usize, first: usize| {
        over_others(matrix, set, first) + tails[set & !(1 << first)].score
    };
    for set in 1..tails.len() {
        let mut top = Tail { score: f64::NEG_INFINITY, first: 0, optima: 0 };
        for first in (0..n).filter(|a| set & (1 << a) != 0) {
            let score = score_of(&tails, set, first);
            let optima = tails[set & !(1 << first)].optima;
            if score > top.score {
                top = Tail { score, first, optima };
            } else if score >= top.score {
                top.optima += optima;
            }
        }
        tails[set] = top;
    }
    let all = tails.len() - 1;
    let mut set = all;
    let mut order = Vec::with_capacity(n);
    while set != 0 {
        order.push(tails[set].first);
        set &= !(1 << tails[set].first);
    }
    let Tail { score, optima, .. } = tails[all];
    let winners = (0..n).filter(|&first| score_of(&tails, all, first) >= score).collect();
    Kemeny { order, winners, score, search: Search::Exact { optima } }
}

fn local(matrix: &PairMatrix) -> Kemeny {
    let counts = borda(matrix);
    let mut order: Vec<usize> = (0..matrix.candidates()).collect();
    order.sort_by(|&a, &b| counts[b].total_cmp(&counts[a]));
    while let Some((from, to)) = improving_move(matrix, &order) {
        let candidate = order.remove(from);
        order.insert(to, candidate);
    }
    let winners = order.iter().take(1).copied().collect();
    Kemeny { score: kemeny_score(matrix, &order), order, winners, search: Search::Local }
}

/// The first move of one candidate that gains votes, to its best place.
fn improving_move(matrix: &PairMatrix, order: &[usize]) -> Option<(usize, usize)> {
    let best_place = |from: usize| {
        let (mut best_gain, mut best_to) = (0.0, from);
        let up: Vec<usize> = (0..from).rev().collect();
        let down: Vec<usize> = (from + 1..order.len()).collect();
        for (path, sign) in [(up, 1.0), (down, -1.0)] {
            let mut gain = 0.0;
            for to in path {
                gain += sign * matrix.margin(order[from], order[to]);
                // Half a vote is the smallest difference; less is rounding.
                if gain > best_gain + 1e-9 {
                    (best_gain, best_to) = (gain, to);
                }
            }
        }
        (best_to != from).then_some((from, best_to))
    };
    (0..order.len()).find_map(best_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_search_finds_the_exact_ranking_of_a_consistent_electorate() {
        let mut matrix = PairMatrix::new(6);
        let truth = [3, 0, 5, 1, 4, 2];
        for i in 0..6 {
            for j in i + 1..6 {
                matrix.add(truth[i], truth[j], 5.0 + ((i * 7 + j) % 4) as f64);
                matrix.add(truth[j], truth[i], 4.0);
            }
        }
        assert_eq!(local(&matrix).order, truth);
        assert_eq!(exact(&matrix).order, truth);
        assert_eq!(exact(&matrix).search, Search::Exact { optima: 1 });
    }

    #[test]
    fn rankings_without_votes_are_all_optimal() {
        let none = exact(&PairMatrix::new(4));
        assert_eq!((none.search, none.winners), (Search::Exact { optima: 24 }, vec![0, 1, 2, 3]));
    }
}
