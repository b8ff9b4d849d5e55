//! What a judge leans to, beside what people lean to on the same pairs.

use std::collections::{BTreeMap, BTreeSet};

use hearken_stats::Estimate;
use hearken_stats::mean::{Paired, paired_difference};
use hearken_stats::proportion::wilson;
use hearken_stats::side_bias::SwapCounts;
use serde::{Deserialize, Serialize};

use super::JudgeReport;
use super::seen::{Seen, decided};
use crate::annotators::{HitCount, strict_plurality};
use crate::figure::Figure;
use crate::index::{Index, VoteChoice};

/// Prompts for which a text must be the answer to be a constant one.
const CONSTANT_PROMPTS: usize = 3;

/// An answer of this kind should lose; where more than this share of them wins for sure, it is told.
const WORTHLESS_SHARE_MAX: f64 = 0.05;
/// In fewer pairs one that wins says little of a judge, whatever its interval.
const WORTHLESS_PAIRS_MIN: usize = 10;

/// How often one kind of answer wins against another kind: 1 a win, ½ a tie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaning {
    /// How often it wins with the judge.
    pub judge: Figure,
    /// How often it wins with people, by their strict plurality, among the pairs that have one.
    pub people: Figure,
    /// How much more often it wins with the judge than with people, on the same pairs.
    pub difference: Figure,
}

/// What the place on the page does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Pairs that were shown in both orders.
    pub both_orders: usize,
    /// Among them the share of which both orders say the same.
    pub consistency: Figure,
    /// By how much the probability of an answer rises where it is shown first, over what it is in the mean of both orders.
    pub lean: Figure,
    /// Share of decisive verdicts for what was shown first, in one order.
    pub first_share: Figure,
    /// Where each pair was shown in one order: how much more often what was shown first wins with the judge than with people, on the
    /// same pairs. What is shown first may be better.
    pub more_than_people: Figure,
}

/// Why there is nothing to say of both orders.
const ONE_ORDER: &str = "No pair was shown in both orders.";

impl Position {
    pub(super) fn of(seen: &[Seen]) -> Self {
        let mut swaps = SwapCounts::default();
        let (mut as_first, mut as_second, mut first) =
            (Vec::new(), Vec::new(), HitCount::default());
        let (mut judge, mut people) = (Vec::new(), Vec::new());
        for one in seen {
            for (place, probability) in one.shown.into_iter().enumerate() {
                let Some(probability) = probability else { continue };
                match decided(probability) {
                    VoteChoice::Tie => {}
                    choice => first.count((choice == VoteChoice::First) == (place == 0)),
                }
            }
            match one.shown {
                [Some(a), Some(b)] => {
                    as_first.push(a);
                    as_second.push(b);
                    let count = match (decided(a), decided(b)) {
                        (a, b) if a == b => &mut swaps.consistent,
                        (VoteChoice::First, VoteChoice::Second) => &mut swaps.first,
                        (VoteChoice::Second, VoteChoice::First) => &mut swaps.second,
                        _ => &mut swaps.mixed,
                    };
                    *count += 1;
                }
                [a, b] => {
                    let most = one.people.and_then(strict_plurality);
                    if let (Some(_), Some(most)) = (a.or(b), most) {
                        let is_first = a.is_some();
                        judge.push(won(one.choice() as usize, is_first));
                        people.push(won(most, is_first));
                    }
                }
            }
        }
        let lean = difference(&as_first, &as_second).map(|lean| lean.map(|x| 0.5 * x));
        Self {
            both_orders: as_first.len(),
            consistency: Figure::new(swaps.consistency(), ONE_ORDER),
            lean: Figure::new(lean, ONE_ORDER),
            first_share: first.figure("No decisive verdict whose order is known."),
            more_than_people: Figure::new(
                difference(&judge, &people),
                "No pair was shown in one order that people judged too.",
            ),
        }
    }
}

/// The mean difference of numbers from 0 to 1. Where all differences are alike they say nothing about a spread; that no variable in a
/// range varies more than one at its ends still bounds the mean, as Wilson has it.
fn difference(treatment: &[f64], control: &[f64]) -> Option<Estimate> {
    let found = paired_difference(Paired { treatment, control })?;
    if !found.is_unbounded() {
        return Some(found);
    }
    let shares = (0.5 * (found.value + 1.0)).clamp(0.0, 1.0);
    let bounded = wilson(shares * found.n as f64, found.n)?.map(|share| 2.0 * share - 1.0);
    Some(Estimate { value: found.value, ..bounded })
}

/// What a side gets of a choice, by its number in the order of [`VoteChoice`].
fn won(choice: usize, is_first: bool) -> f64 {
    match (choice, is_first) {
        (1, _) => 0.5,
        (0, true) | (2, false) => 1.0,
        _ => 0.0,
    }
}

impl Leaning {
    /// `of_kind` says of which of the two answers the kind is: whether of the first; `None` where of both or neither.
    pub(super) fn of(
        seen: &[Seen],
        of_kind: impl Fn(&Seen) -> Option<bool>,
        why_not: &str,
    ) -> Self {
        let (mut all, mut judge, mut people) = (Vec::new(), Vec::new(), Vec::new());
        for one in seen {
            let Some(is_first) = of_kind(one) else { continue };
            let own = won(one.choice() as usize, is_first);
            all.push(own);
            if let Some(most) = one.people.and_then(strict_plurality) {
                judge.push(own);
                people.push(won(most, is_first));
            }
        }
        let wins = |of: &[f64]| wilson(of.iter().sum(), of.len());
        let labelled =
            if all.is_empty() { why_not } else { "People have no plurality on such pairs." };
        Self {
            judge: Figure::new(wins(&all), why_not),
            people: Figure::new(wins(&people), labelled),
            difference: Figure::new(difference(&judge, &people), labelled),
        }
    }
}

fn texts(index: &Index<'_>, one: &Seen) -> [String; 2] {
    one.pair.map(|candidate| index.items[one.item].candidates[candidate].full_text())
}

/// Whether the first answer alone is the longer one, in characters.
pub(super) fn longer(index: &Index<'_>, one: &Seen) -> Option<bool> {
    let [a, b] = texts(index, one).map(|text| text.chars().count());
    (a != b).then_some(b < a)
}

/// Whether the first answer is empty; `None` unless exactly one is.
pub(super) fn empty(index: &Index<'_>, one: &Seen) -> Option<bool> {
    let [a, b] = texts(index, one).map(|text| text.trim().is_empty());
    (a != b).then_some(a)
}

/// Whether the first answer is one that stands for several prompts; `None` unless exactly one does.
pub(super) fn constant(index: &Index<'_>, one: &Seen, constant: &BTreeSet<String>) -> Option<bool> {
    let [a, b] = texts(index, one).map(|text| constant.contains(text.trim()));
    (a != b).then_some(a)
}

/// Whether the first answer is by the judge itself; `None` unless exactly one is.
pub(super) fn own(index: &Index<'_>, one: &Seen, judge: &str) -> Option<bool> {
    // What stands behind # says how it was asked.
    let judge = judge.split('#').next().unwrap_or(judge);
    let is_own = |candidate: usize| {
        let model = index.items[one.item].candidates[candidate].model.as_deref();
        model.is_some_and(|model| model.eq_ignore_ascii_case(judge))
    };
    let [a, b] = one.pair.map(is_own);
    (a != b).then_some(a)
}

/// Texts that are answers to several prompts.
pub(super) fn constant_texts(items: &[hearken_data::feedback::Item]) -> BTreeSet<String> {
    let mut prompts: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for item in items {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&item.prompt, &mut hasher);
        let prompt = std::hash::Hasher::finish(&hasher);
        for candidate in &item.candidates {
            let text = candidate.full_text().trim().to_owned();
            prompts.entry(text).or_default().insert(prompt);
        }
    }
    let is_constant = |(text, prompts): (String, BTreeSet<u64>)| {
        (!text.is_empty() && CONSTANT_PROMPTS <= prompts.len()).then_some(text)
    };
    prompts.into_iter().filter_map(is_constant).collect()
}

/// What the numbers say against a judge.
pub(super) fn findings(report: &JudgeReport) -> Vec<String> {
    let mut found = Vec::new();
    let side = |figure: &Figure, neutral: f64| {
        let estimate = figure.known()?;
        let is_beyond = neutral < estimate.low || estimate.high < neutral;
        is_beyond.then_some(neutral < estimate.value)
    };
    let position = &report.position;
    match side(&position.lean, 0.0) {
        Some(true) => found.push("It prefers what is shown first.".to_owned()),
        Some(false) => found.push("It prefers what is shown second.".to_owned()),
        None => {}
    }
    if position.both_orders == 0 {
        match side(&position.more_than_people, 0.0) {
            Some(true) => {
                found.push("It chooses what is shown first more often than people do.".into());
            }
            Some(false) => {
                found.push("It chooses what is shown second more often than people do.".into());
            }
            None => {}
        }
    }
    let more = |leaning: &Leaning| match leaning.difference.known() {
        Some(_) => side(&leaning.difference, 0.0),
        None => side(&leaning.judge, 0.5),
    };
    let beside = |leaning: &Leaning| match leaning.difference.known() {
        Some(_) => " more often than people do",
        None => "",
    };
    for (leaning, one, other) in [
        (&report.length, "the longer answer", "the shorter answer"),
        (&report.own, "its own answers", "answers of others over its own"),
    ] {
        if let Some(is_more) = more(leaning) {
            let what = if is_more { one } else { other };
            found.push(format!("It prefers {what}{}.", beside(leaning)));
        }
    }
    for (leaning, what) in [
        (&report.empty, "an empty answer"),
        (&report.constant, "an answer that ignores the prompt"),
    ] {
        let is_told =
            |share: &&Estimate| WORTHLESS_PAIRS_MIN <= share.n && WORTHLESS_SHARE_MAX < share.low;
        if let Some(share) = leaning.judge.known().filter(is_told) {
            let percent = 100.0 * share.value;
            found.push(format!(
                "It takes {what} for the better one in {percent:.0} % of such pairs."
            ));
        }
    }
    found
}
