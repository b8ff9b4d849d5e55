//! Comparisons of two items, counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which side of a comparison was preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The item on the left.
    Left,
    /// Neither.
    Tie,
    /// The item on the right.
    Right,
}

/// One vote between two items, which are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The item shown on the left (or first, or playing at home).
    pub left: usize,
    /// The item shown on the right.
    pub right: usize,
    /// What the vote says.
    pub outcome: Outcome,
    /// How many votes it stands for; a fraction for the soft labels of a judge.
    pub weight: f64,
}

/// A comparison that cannot be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ComparisonError {
    /// An item number past the end.
    #[error("comparison {index}: item {item}, but there are {items} items, numbered from 0")]
    UnknownItem {
        /// Position of the comparison.
        index: usize,
        /// The number found.
        item: usize,
        /// How many items there are.
        items: usize,
    },
    /// An item against itself.
    #[error("comparison {index}: item {item} is compared with itself")]
    SelfComparison {
        /// Position of the comparison.
        index: usize,
        /// The item.
        item: usize,
    },
    /// A weight that is negative or not a number.
    #[error("comparison {index}: weight {weight}, expected a finite number that is not negative")]
    BadWeight {
        /// Position of the comparison.
        index: usize,
        /// The weight found.
        weight: f64,
    },
}

/// All comparisons of one ordered pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairCount {
    /// The item shown on the left.
    pub left: usize,
    /// The item shown on the right.
    pub right: usize,
    /// Votes for left, ties, votes for right: indexed by [`Outcome`] in its order.
    pub votes: [f64; 3],
}

impl PairCount {
    /// Votes of all three kinds.
    pub fn total(&self) -> f64 {
        self.votes.iter().sum()
    }

    /// Votes for left and for right, a tie being half of each.
    pub fn halves(&self) -> [f64; 2] {
        let [left, tie, right] = self.votes;
        [left + tie / 2.0, right + tie / 2.0]
    }
}

/// Comparisons counted per ordered pair, in ascending order of (left, right).
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    items: usize,
    pairs: Vec<PairCount>,
}

impl Tally {
    /// Counts the comparisons of `items` items.
    ///
    /// # Errors
    /// If a comparison names an item that does not exist, compares an item with itself or has a bad weight.
    pub fn new(
        items: usize,
        comparisons: impl IntoIterator<Item = Comparison>,
    ) -> Result<Self, ComparisonError> {
        let mut counts: BTreeMap<(usize, usize), [f64; 3]> = BTreeMap::new();
        for (index, c) in comparisons.into_iter().enumerate() {
            let Comparison { left, right, outcome, weight } = c;
            if let Some(&item) = [left, right].iter().find(|&&item| items <= item) {
                return Err(ComparisonError::UnknownItem { index, item, items });
            }
            if left == right {
                return Err(ComparisonError::SelfComparison { index, item: left });
            }
            if !weight.is_finite() || weight < 0.0 {
                return Err(ComparisonError::BadWeight { index, weight });
            }
            counts.entry((left, right)).or_default()[outcome as usize] += weight;
        }
        let pair = |((left, right), votes)| PairCount { left, right, votes };
        let pairs = counts.into_iter().map(pair).filter(|p| p.total() > 0.0).collect();
        Ok(Self { items, pairs })
    }

    /// Number of items, compared or not.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The counts.
    pub fn pairs(&self) -> &[PairCount] {
        &self.pairs
    }

    /// Number of votes.
    pub fn total(&self) -> f64 {
        self.pairs.iter().map(PairCount::total).sum()
    }

    /// Number of votes in which `item` takes part.
    pub fn votes_on(&self, item: usize) -> f64 {
        let on = |p: &&PairCount| p.left == item || p.right == item;
        self.pairs.iter().filter(on).map(PairCount::total).sum()
    }

    /// The same pairs with other counts.
    pub(crate) fn with_votes(&self, votes: impl Iterator<Item = [f64; 3]>) -> Self {
        let pairs = self.pairs.iter().zip(votes);
        let pairs = pairs.map(|(p, votes)| PairCount { votes, ..*p }).filter(|p| p.total() > 0.0);
        Self { items: self.items, pairs: pairs.collect() }
    }

    /// The votes between `members` (ascending), who are numbered by their place among them.
    pub(crate) fn among(&self, members: &[usize]) -> Self {
        let place = |item: usize| members.binary_search(&item).ok();
        let pair = |p: &PairCount| {
            Some(PairCount { left: place(p.left)?, right: place(p.right)?, votes: p.votes })
        };
        Self { items: members.len(), pairs: self.pairs.iter().filter_map(pair).collect() }
    }

    /// The strongly connected components of the graph with an edge from each item to those it beat or tied.
    /// Only if there is one do all Bradley–Terry strengths have finite estimates (Ford 1957).
    pub fn components(&self) -> Vec<Vec<usize>> {
        strong_components(self.items, &self.edges())
    }

    /// What the components leave open.
    pub(crate) fn separation(&self) -> Separation {
        Separation::new(self.items, self.components())
    }

    /// From each item to those it beat or tied.
    fn edges(&self) -> Vec<(usize, usize)> {
        let mut edges = Vec::new();
        for p in &self.pairs {
            let [left, right] = p.halves();
            edges.extend((left > 0.0).then_some((p.left, p.right)));
            edges.extend((right > 0.0).then_some((p.right, p.left)));
        }
        edges
    }

    /// Which items `start` reaches by beating one after the other, and which reach it.
    pub(crate) fn reach(&self, start: usize) -> Reach {
        let edges = self.edges();
        let backward: Vec<(usize, usize)> = edges.iter().map(|&(from, to)| (to, from)).collect();
        let reached = |edges: &[(usize, usize)]| {
            let mut next = vec![Vec::new(); self.items];
            for &(from, to) in edges {
                next[from].push(to);
            }
            let mut seen = vec![false; self.items];
            finish_order(start, &next, &mut seen, &mut Vec::new());
            seen
        };
        Reach { below: reached(&edges), above: reached(&backward) }
    }
}

/// What an item reaches in the graph of wins, itself included.
pub(crate) struct Reach {
    /// Items that it beats through others.
    pub(crate) below: Vec<bool>,
    /// Items that beat it through others.
    pub(crate) above: Vec<bool>,
}

/// Components of the graph of wins, between which no difference of strengths has a finite estimate.
#[derive(Clone, Debug)]
pub(crate) struct Separation {
    /// The component of each item.
    component: Vec<usize>,
    /// The component that holds more than half of the items, if one does. Its strengths have finite estimates relative to
    /// each other, and it is what the others are measured against.
    main: Option<usize>,
    pub(crate) components: Vec<Vec<usize>>,
}

impl Separation {
    fn new(items: usize, components: Vec<Vec<usize>>) -> Self {
        let mut component = vec![0; items];
        for (number, members) in components.iter().enumerate() {
            for &item in members {
                component[item] = number;
            }
        }
        let main = components.iter().position(|members| 2 * members.len() > items);
        Self { component, main, components }
    }

    /// The items of the main component.
    pub(crate) fn main(&self) -> Option<&[usize]> {
        self.main.map(|main| self.components[main].as_slice())
    }

    /// Whether the votes bound the strength of an item relative to most others.
    pub(crate) fn bounds(&self, item: usize) -> bool {
        self.main == Some(self.component[item])
    }

    /// Whether the votes bound the difference of two strengths.
    pub(crate) fn bounds_difference(&self, a: usize, b: usize) -> bool {
        self.component[a] == self.component[b]
    }
}

/// Strongly connected components (Kosaraju), each ascending, ordered by their first items.
pub(crate) fn strong_components(nodes: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let (mut forward, mut backward) = (vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
    for &(from, to) in edges {
        forward[from].push(to);
        backward[to].push(from);
    }
    let mut seen = vec![false; nodes];
    let mut finished = Vec::with_capacity(nodes);
    for root in 0..nodes {
        finish_order(root, &forward, &mut seen, &mut finished);
    }
    let mut seen = vec![false; nodes];
    let mut components = Vec::new();
    for &root in finished.iter().rev() {
        let mut component = Vec::new();
        finish_order(root, &backward, &mut seen, &mut component);
        if !component.is_empty() {
            component.sort_unstable();
            components.push(component);
        }
    }
    components.sort();
    components
}

/// Appends what is reachable from `root` and unseen, in the order in which a depth-first search leaves it.
fn finish_order(root: usize, edges: &[Vec<usize>], seen: &mut [bool], finished: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[root], true) {
        return;
    }
    let mut stack = vec![(root, 0)];
    while let Some((node, next)) = stack.last_mut() {
        if let Some(&to) = edges[*node].get(*next) {
            *next += 1;
            if !std::mem::replace(&mut seen[to], true) {
                stack.push((to, 0));
            }
        } else {
            finished.push(*node);
            stack.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(left: usize, right: usize, outcome: Outcome) -> Comparison {
        Comparison { left, right, outcome, weight: 1.0 }
    }

    #[test]
    fn an_item_that_never_wins_is_a_component_of_its_own() {
        let votes =
            [vote(0, 1, Outcome::Left), vote(0, 1, Outcome::Right), vote(2, 0, Outcome::Right)];
        let tally = Tally::new(3, votes).unwrap();
        assert_eq!(tally.components(), [vec![0, 1], vec![2]]);
        let tied = Tally::new(3, votes.into_iter().chain([vote(1, 2, Outcome::Tie)])).unwrap();
        assert_eq!(tied.components(), [vec![0, 1, 2]]);
    }

    #[test]
    fn bad_comparisons_are_named() {
        let error =
            Tally::new(2, [vote(0, 1, Outcome::Tie), vote(1, 1, Outcome::Tie)]).unwrap_err();
        assert_eq!(error.to_string(), "comparison 1: item 1 is compared with itself");
        assert!(Tally::new(2, [vote(0, 2, Outcome::Left)]).is_err());
    }
}
