//! How often models win: few labels of people correct many of a judge.

use std::collections::BTreeMap;

use hearken_stats::prediction_powered::{Predictions, prediction_powered_mean};
use serde::{Deserialize, Serialize};

use super::seen::Seen;
use super::share;
use crate::figure::Figure;
use crate::index::Index;

/// How often a model wins: 1 a win, ½ a tie, or the share of votes and the probability in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// The model.
    pub model: String,
    /// Pairs with an answer of it that people judged as well as the judge.
    pub labelled: usize,
    /// Pairs with an answer of it that the judge alone judged.
    pub others: usize,
    /// By people alone.
    pub people: Figure,
    /// By the judge alone, on all pairs: whatever it is biased towards is in it.
    pub judge: Figure,
    /// By the judge, corrected by people: valid whatever its bias, as long as which pairs people judged has nothing to do with who
    /// wins.
    pub corrected: Figure,
    /// How many times as many labels by people a plain interval as narrow would need.
    pub worth: Option<f64>,
}

/// Labels of a model's pairs.
#[derive(Default)]
struct PairLabels {
    people: Vec<f64>,
    judge: Vec<f64>,
    others: Vec<f64>,
}

pub(super) fn win_rates(index: &Index<'_>, seen: &[Seen]) -> Vec<WinRate> {
    let mut all: BTreeMap<usize, PairLabels> = BTreeMap::new();
    for one in seen {
        let models = one.pair.map(|candidate| index.model(one.item, candidate));
        if models[0] == models[1] {
            continue;
        }
        for (place, model) in models.into_iter().enumerate() {
            let Some(model) = model else { continue };
            let of_first = |share: f64| if place == 0 { share } else { 1.0 - share };
            let labels = all.entry(model).or_default();
            let judged = of_first(one.probability);
            match one.people {
                Some(counts) => {
                    labels.people.push(of_first(share(counts)));
                    labels.judge.push(judged);
                }
                None => labels.others.push(judged),
            }
        }
    }
    all.into_iter().map(|(model, labels)| win_rate(index.models[model], &labels)).collect()
}

fn win_rate(model: &str, labels: &PairLabels) -> WinRate {
    let PairLabels { people, judge, others } = labels;
    let found = prediction_powered_mean(Predictions { people, judge, others });
    let of_judge = hearken_stats::mean::mean(&[judge.as_slice(), others].concat());
    WinRate {
        model: model.to_owned(),
        labelled: people.len(),
        others: others.len(),
        people: Figure::new(hearken_stats::mean::mean(people), "People judged no pair of it."),
        judge: Figure::new(of_judge, "The judge saw no pair of it."),
        corrected: Figure::new(
            found.map(|found| found.mean),
            "People judged fewer than three pairs of it.",
        ),
        worth: found.filter(|found| found.weight != 0.0).and_then(|found| found.worth()),
    }
}
