//! The reward model on features: judgements become pairs of numbers, the trainer's result becomes a report.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use hearken_analysis::features::{self, NAMES};
use hearken_analysis::{CalibrationBin, FeatureReport, Figure, Importance, JudgedItems};
use hearken_collect::parts::FeatureTrainer;
use hearken_data::feedback::{Item, Judgement, Origin, Verdict, in_force};
use hearken_stats::Estimate;
use hearken_train::feature_reward::{
    self, FeatureNetwork, FeatureOptions, FeaturePair, FeatureRewardError,
};
use rayon::prelude::*;

/// Trains in this process.
pub(crate) struct LocalTrainer;

impl FeatureTrainer for LocalTrainer {
    fn train(&self, records: &JudgedItems) -> Result<FeatureReport, String> {
        let trained = train(records, &FeatureOptions::default());
        trained.map(|(_, report)| report).map_err(|error| error.to_string())
    }
}

/// Trains on the majority of people's verdicts on each two answers.
pub(crate) fn train(
    records: &JudgedItems,
    options: &FeatureOptions,
) -> Result<(FeatureNetwork, FeatureReport), FeatureRewardError> {
    let start = Instant::now();
    let names: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
    let trained = feature_reward::train(&names, &pairs(records), options)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((trained.network, report(&names, trained.report, seconds)))
}

/// One pair for each two answers of an item with a decisive vote: the target is the share of votes for the first.
fn pairs(records: &JudgedItems) -> Vec<FeaturePair> {
    let items: HashMap<&str, &Item> =
        records.items.iter().map(|item| (item.id.as_str(), item)).collect();
    let held = in_force(&records.judgements);
    let people = held.iter().any(|judgement| judgement.origin != Origin::Ai);
    let mut votes: BTreeMap<(&str, usize, usize), [f64; 2]> = BTreeMap::new();
    for judgement in held {
        let fits = items.get(judgement.item.as_str()).filter(|item| judgement.check(item).is_ok());
        if fits.is_none() || (people && judgement.origin == Origin::Ai) {
            continue;
        }
        for (better, worse) in preferences(judgement) {
            let pair = (judgement.item.as_str(), better.min(worse), better.max(worse));
            votes.entry(pair).or_default()[usize::from(worse < better)] += 1.0;
        }
    }
    let mut prompts: HashMap<String, u64> = HashMap::new();
    let mut group = |item: &Item| {
        let turns = item.prompt.iter().map(|turn| format!("{}:{}", turn.role, turn.content));
        let prompt = turns.collect::<Vec<_>>().join("\n");
        // Without a prompt, an item is one by itself.
        let prompt = if prompt.is_empty() { item.id.clone() } else { prompt };
        let next = prompts.len() as u64;
        *prompts.entry(prompt).or_insert(next)
    };
    let located: Vec<_> = votes
        .into_iter()
        .map(|((id, first, second), votes)| (items[id], [first, second], votes, group(items[id])))
        .collect();
    let pair = |(item, sides, [first, second], group): (&Item, [usize; 2], [f64; 2], u64)| {
        let [a, b] = sides.map(|side| features::of(&item.prompt, &item.candidates[side]));
        FeaturePair {
            first_length: a[0],
            second_length: b[0],
            first: features::for_model(&a),
            second: features::for_model(&b),
            target: first / (first + second),
            group,
        }
    };
    located.into_par_iter().map(pair).collect()
}

/// (better, worse) for every two candidates that a verdict tells apart.
fn preferences(judgement: &Judgement) -> Vec<(usize, usize)> {
    match &judgement.verdict {
        Verdict::Preferred { candidate, .. } => vec![(*candidate, 1 - *candidate)],
        Verdict::Soft { probability } if *probability > 0.5 => vec![(0, 1)],
        Verdict::Soft { probability } if *probability < 0.5 => vec![(1, 0)],
        Verdict::Ranking { order } => {
            let tiers = order.iter().enumerate();
            tiers
                .flat_map(|(rank, tier)| {
                    let worse = order[rank + 1..].iter().flatten();
                    worse.flat_map(|&b| tier.iter().map(move |&a| (a, b)))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

fn report(names: &[String], found: feature_reward::FeatureReport, seconds: f64) -> FeatureReport {
    let figure = |e: Option<Estimate>| Figure::new(e, "There is nothing to measure.");
    let mut importance: Vec<Importance> = names
        .iter()
        .zip(found.importance)
        .map(|(feature, loss)| Importance { feature: feature.clone(), loss: figure(loss) })
        .collect();
    let loss = |i: &Importance| i.loss.value().unwrap_or(f64::NEG_INFINITY);
    importance.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
    let bin = |bin: hearken_stats::calibration::Bin| CalibrationBin {
        predicted: bin.predicted,
        observed: Figure::Known(bin.observed),
    };
    FeatureReport {
        features: names.to_vec(),
        pairs: found.pairs,
        groups: found.groups,
        folds: found.folds,
        hidden: found.hidden,
        accuracy: figure(found.accuracy),
        longer_wins: figure(found.longer_wins),
        length_only: figure(found.length_only),
        logistic: figure(found.logistic),
        over_length: figure(found.over_length),
        over_logistic: figure(found.over_logistic),
        warnings: found.warnings,
        calibration: found.calibration.into_iter().map(bin).collect(),
        calibration_error: figure(found.calibration_error),
        importance,
        seconds,
    }
}
