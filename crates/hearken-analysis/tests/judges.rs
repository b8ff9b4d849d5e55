//! Win rates of real answers, corrected by few labels of people: do their intervals hold?
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;

use hearken_data::feedback::formats::{ImportOptions, import};
use hearken_data::feedback::{Origin, Verdict};
use hearken_stats::prediction_powered::{Predictions, prediction_powered_mean};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn share(verdict: &Verdict) -> f64 {
    match verdict.decided() {
        Verdict::Preferred { candidate: 0, .. } => 1.0,
        Verdict::Preferred { .. } => 0.0,
        _ => 0.5,
    }
}

/// Of 1,000 draws of 200 labels by people and 1,500 of GPT-4 from LLMFAO's pairs, how many intervals hold the share that people
/// give all pairs: 95 ± 2 %. What a label is worth beside GPT-4's is what the data say: the two agree too seldom to halve the number of labels.
#[test]
fn corrected_win_rates_cover_in_95_of_100_resamplings_of_recorded_votes() {
    let Some(folder) = hearken_testing::data("llmfao") else { return };
    let files = ["crowd", "gpt4-crowd"].map(|name| folder.join(format!("{name}-comparisons.csv")));
    let records = import(&files, None, &ImportOptions::default()).unwrap();
    let mut people: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut judge: BTreeMap<&str, f64> = BTreeMap::new();
    for one in &records.judgements {
        if one.origin == Origin::Ai {
            judge.insert(&one.item, share(&one.verdict));
        } else {
            people.entry(&one.item).or_default().push(share(&one.verdict));
        }
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let both: Vec<(f64, f64)> =
        people.iter().filter_map(|(item, all)| Some((mean(all), *judge.get(item)?))).collect();
    assert_eq!(both.len(), 2139);
    let truth = mean(&both.iter().map(|one| one.0).collect::<Vec<_>>());
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut covered, mut alone, mut worth) = (0_u32, 0_u32, 0.0);
    for _ in 0..1000 {
        let mut draw = || both[rng.random_range(0..both.len())];
        let (labels, of_judge): (Vec<f64>, Vec<f64>) = (0..200).map(|_| draw()).unzip();
        let others: Vec<f64> = (0..1500).map(|_| draw().1).collect();
        let labels = Predictions { people: &labels, judge: &of_judge, others: &others };
        let found = prediction_powered_mean(labels).unwrap();
        covered += u32::from(found.mean.contains(truth));
        alone += u32::from(found.people_alone.contains(truth));
        worth += found.worth().unwrap() / 1000.0;
    }
    assert!((930..=970).contains(&covered), "{covered} of 1000");
    assert!((930..=970).contains(&alone), "{alone} of 1000");
    assert!((1.1..1.3).contains(&worth), "a label is worth {worth}");
}
