//! Agreement with the majority of all others.

use super::HitCount;
use crate::index::{VoteChoice, Votes};

/// Per annotator, how often a verdict equals the strict majority of what all others said of the same two candidates; each of the
/// others counts once.
pub(crate) struct Majority {
    /// Ties are verdicts like the others.
    pub(crate) all: Vec<HitCount>,
    /// Decisive verdicts against the others' decisive verdicts.
    pub(crate) decisive: Vec<HitCount>,
}

impl Majority {
    pub(crate) fn new(votes: &Votes, annotators: usize) -> Self {
        let mut own = std::collections::HashMap::new();
        for vote in votes.first() {
            own.insert((vote.unit, vote.annotator), vote.choice as usize);
        }
        let mut all = vec![HitCount::default(); annotators];
        let mut decisive = all.clone();
        for vote in &votes.list {
            let said = vote.choice as usize;
            let mut others = votes.units[vote.unit].annotators;
            others[own[&(vote.unit, vote.annotator)]] -= 1;
            if let Some(most) = strict_plurality(others) {
                all[vote.annotator].count(most == said);
            }
            others[VoteChoice::Tie as usize] = 0;
            if let Some(most) = strict_plurality(others).filter(|_| vote.choice != VoteChoice::Tie)
            {
                decisive[vote.annotator].count(most == said);
            }
        }
        Self { all, decisive }
    }
}

/// The choice with more votes than any other.
pub(crate) fn strict_plurality(counts: [u32; 3]) -> Option<usize> {
    let most = counts.into_iter().max().filter(|&most| most > 0)?;
    let mut at = (0..3).filter(|&i| counts[i] == most);
    let first = at.next();
    if at.next().is_none() { first } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plurality_is_strict() {
        assert_eq!(strict_plurality([2, 1, 1]), Some(0));
        assert_eq!(strict_plurality([1, 2, 2]), None);
        assert_eq!(strict_plurality([0, 0, 0]), None);
    }
}
