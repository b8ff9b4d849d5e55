//! How much the suggestions of models sway people.
//!
//! Where a project shows a suggestion to half of those who judge an item, drawn at random, the difference between the two
//! halves is what seeing it does. Where everybody saw it, how often they agree says nothing about that.

use std::collections::HashMap;

use hearken_data::feedback::{Suggested, Verdict};
use hearken_stats::proportion::{Share, wilson};
use serde::{Deserialize, Serialize};

use crate::annotators::HitCount;
use crate::figure::{Figure, Test};
use crate::index::Index;

/// What people made of suggestions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suggestions {
    /// Judgements on items that had a suggestion, by people of whom is known whether they saw it.
    pub judgements: usize,
    /// Of those who saw the suggestion the share who judged as it says.
    pub agreement_shown: Figure,
    /// The same of those who did not see it.
    pub agreement_hidden: Figure,
    /// The difference: how much seeing it sways, where it was drawn who sees it.
    pub sway: Figure,
    /// Its test against none.
    pub sway_test: Option<Test>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

pub(crate) fn suggestions(index: &Index<'_>) -> Suggestions {
    // What a judge said is a suggestion where none came with the item.
    let mut judged: HashMap<usize, Verdict> = HashMap::new();
    for entry in index.entries.iter().filter(|entry| entry.judge) {
        judged.entry(entry.item).or_insert_with(|| entry.judgement.verdict.decided());
    }
    let (mut shown, mut hidden) = (HitCount::default(), HitCount::default());
    for entry in index.by_people() {
        let Some(seen) = entry.judgement.suggestion else { continue };
        let imported = index.items[entry.item].suggestion().map(|verdict| verdict.decided());
        let Some(suggested) = imported.or_else(|| judged.get(&entry.item).cloned()) else {
            continue;
        };
        let agrees = entry.judgement.verdict.agrees(&suggested);
        match seen {
            Suggested::Shown => shown.count(agrees),
            Suggested::Hidden => hidden.count(agrees),
        }
    }
    let share = |score: HitCount| Share { hits: f64::from(score.hits), n: score.n as usize };
    let figure =
        |score: HitCount, why| Figure::new(wilson(f64::from(score.hits), score.n as usize), why);
    let sway = share(shown).minus(share(hidden));
    let (few, none) = (
        "Nobody judged with a suggestion, or nobody without one.",
        "No judgement says whether a suggestion was seen.",
    );
    Suggestions {
        judgements: (shown.n + hidden.n) as usize,
        agreement_shown: figure(shown, "Nobody saw a suggestion."),
        agreement_hidden: figure(hidden, "Nobody judged an item whose suggestion was hidden."),
        sway: Figure::new(sway.map(|sway| sway.difference), few),
        sway_test: Test::family(&[sway.map(|sway| sway.significance)])[0],
        notes: if shown.n + hidden.n == 0 { vec![none.to_owned()] } else { Vec::new() },
    }
}
