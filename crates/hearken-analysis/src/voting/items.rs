//! Rankings of the answers of one item, by several annotators.

use std::collections::{BTreeMap, BTreeSet};

use hearken_data::feedback::Verdict;
use hearken_stats::social_choice::{Ballot, Profile, Rule, winners};
use serde::{Deserialize, Serialize};

use crate::index::Index;

/// How often rules agree on the best answer to a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerItem {
    /// Items that two or more annotators ranked.
    pub items: usize,
    /// Of these, items on which all rules name the same winners.
    pub agree: usize,
    /// Some on which they do not.
    pub disagreements: Vec<ItemDisagreement>,
}

/// An item on which rules disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemDisagreement {
    /// The item.
    pub item: String,
    /// Rankings of it.
    pub ballots: usize,
    /// One per rule.
    pub rules: Vec<ItemWinners>,
}

/// What one rule chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemWinners {
    /// The rule.
    pub rule: Rule,
    /// Numbers of the winning candidates in the item.
    pub winners: Vec<usize>,
}

const SHOWN: usize = 20;
/// Kemeny's rule is exact up to here; nobody ranks more by hand.
const CANDIDATES_MAX: usize = 12;

pub(super) fn per_item(index: &Index<'_>) -> PerItem {
    let mut ballots: BTreeMap<usize, Vec<Ballot>> = BTreeMap::new();
    let mut ranked = BTreeSet::new();
    for entry in index.deciding() {
        if let Verdict::Ranking { order } = &entry.judgement.verdict
            // An annotator has one ballot per item.
            && ranked.insert((entry.item, entry.annotator))
        {
            let ballot = Ballot { tiers: order.clone(), weight: 1.0 };
            ballots.entry(entry.item).or_default().push(ballot);
        }
    }
    let mut found = PerItem { items: 0, agree: 0, disagreements: Vec::new() };
    for (item, ballots) in ballots {
        let item = &index.items[item];
        let n = ballots.len();
        if n < 2 || item.candidates.len() > CANDIDATES_MAX {
            continue;
        }
        let profile = Profile::new(item.candidates.len(), ballots).expect("checked rankings");
        let rules: Vec<ItemWinners> = winners(&profile)
            .into_iter()
            .map(|(rule, winners)| ItemWinners { rule, winners })
            .collect();
        found.items += 1;
        if rules.iter().all(|r| r.winners == rules[0].winners) {
            found.agree += 1;
        } else if found.disagreements.len() < SHOWN {
            let item = item.id.clone();
            found.disagreements.push(ItemDisagreement { item, ballots: n, rules });
        }
    }
    found
}
