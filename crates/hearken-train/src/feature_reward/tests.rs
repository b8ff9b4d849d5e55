use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::network::{Scale, draw};
use super::optimize::{Standardized, add_gradient, loss, margins};
use super::*;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("f{i}")).collect()
}

/// Pairs whose preference is drawn from a reward; feature 0 is the length.
fn pairs(n: usize, groups: u64, reward: impl Fn(&[f64]) -> f64, seed: u64) -> Vec<FeaturePair> {
    let mut rng = rng(seed);
    let mut pair = |i: usize| {
        let mut side = || -> Vec<f64> { (0..4).map(|_| rng.random_range(-2.0..2.0)).collect() };
        let (first, second) = (side(), side());
        let p = 1.0 / (1.0 + (reward(&second) - reward(&first)).exp());
        let target = f64::from(u8::from(rng.random::<f64>() < p));
        let (first_length, second_length) = (first[0], second[0]);
        FeaturePair { first, second, target, group: i as u64 % groups, first_length, second_length }
    };
    (0..n).map(&mut pair).collect()
}

fn quick() -> FeatureOptions {
    FeatureOptions {
        bootstrap_rounds: 200,
        learning_rate: NonNegative::new(0.01).unwrap(),
        ..FeatureOptions::default()
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    for activation in [Activation::Tanh, Activation::Relu] {
        let mut rng = rng(2);
        let mut network = draw(3, 5, activation, &mut rng);
        // Biases away from 0, so that no unit of a rectifier sits at its corner.
        network.params_mut().update(|_, values| {
            values.0.iter_mut().for_each(|w| *w += rng.random_range(-0.3..0.3));
        });
        let mut side = || -> Vec<f64> { (0..3).map(|_| rng.random_range(-1.5..1.5)).collect() };
        let mut pair = |target| Standardized { first: side(), second: side(), target };
        let pairs = [pair(0.8), pair(0.0)];
        let mut gradients = network.params().gradients();
        add_gradient(&network, &pairs.each_ref(), &mut gradients);
        for index in 0..3 {
            for (i, slope) in gradients.get(index).unwrap().0.iter().enumerate() {
                let at = |shift: f64| {
                    let mut moved = network.clone();
                    moved.params_mut().update(|of, values| {
                        if of == index {
                            values.0[i] += shift;
                        }
                    });
                    let margins = margins(&moved, &pairs);
                    let losses = margins.iter().zip(&pairs);
                    losses.map(|(m, pair)| loss(*m, pair.target).0 / 2.0).sum::<f64>()
                };
                let h = 1e-6;
                let difference: f64 = (at(h) - at(-h)) / (2.0 * h);
                assert!((slope - difference).abs() < 1e-8, "{activation:?} {index} {i}");
            }
        }
    }
}

#[test]
fn the_loss_is_finite_however_sure_the_network_is() {
    let (value, slope) = loss(1000.0, 0.0);
    assert!((value - 1000.0).abs() < 1e-9 && (slope - 1.0).abs() < 1e-12);
    assert!((loss(0.0, 1.0).0 - 2.0_f64.ln()).abs() < 1e-12);
}

#[test]
fn a_reward_that_is_not_linear_is_learned_where_a_regression_fails() {
    // Only |x₁| matters: no linear function of the features says anything.
    let pairs = pairs(3000, 300, |x| 3.0 * x[1].abs(), 1);
    let trained = train(&names(4), &pairs, &quick()).unwrap();
    let report = &trained.report;
    let (ours, theirs) = (report.accuracy.unwrap(), report.logistic.unwrap());
    assert!(ours.value > 0.75 && theirs.value < 0.55, "{ours} against {theirs}");
    assert!(report.over_logistic.unwrap().low > 0.15);
    let importance: Vec<f64> = report.importance.iter().map(|e| e.unwrap().value).collect();
    assert!(importance[1] > 0.15 && importance[3].abs() < 0.02, "{importance:?}");
    assert!(report.calibration_error.unwrap().value < 0.1);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let score = |x: f64| trained.network.score(&[0.0, x, 0.0, 0.0]);
    assert!(score(1.8) > score(0.1) && score(-1.8) > score(0.1));
}

#[test]
fn length_alone_is_warned_of_in_either_direction() {
    for sign in [1.0, -1.0] {
        let pairs = pairs(1500, 150, |x| sign * 1.5 * x[0], 3);
        let report = train(&names(4), &pairs, &quick()).unwrap().report;
        assert!(report.warnings.iter().any(|w| w.starts_with("Length alone")), "{report:?}");
        let (longer, length) = (report.longer_wins.unwrap(), report.length_only.unwrap());
        assert!(length.value > 0.7 && (longer.value > 0.5) == (sign > 0.0));
    }
    let other = train(&names(4), &pairs(1500, 150, |x| 2.0 * x[2], 4), &quick()).unwrap().report;
    assert!(!other.warnings.iter().any(|w| w.starts_with("Length alone")), "{:?}", other.warnings);
}

#[test]
fn noise_does_not_beat_a_coin() {
    let report = train(&names(4), &pairs(800, 80, |_| 0.0, 5), &quick()).unwrap().report;
    assert!(report.warnings[0].starts_with("The model does not beat a coin"), "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same_network_and_files_keep_it() {
    let pairs = pairs(200, 20, |x| x[2], 6);
    let run = |seed| train(&names(4), &pairs, &FeatureOptions { seed, ..quick() }).unwrap().network;
    let network = run(1);
    assert_eq!(network, run(1));
    assert_ne!(network, run(2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feature_reward.json");
    network.save(&path).unwrap();
    assert_eq!(FeatureNetwork::load(&path).unwrap(), network);
    let text = std::fs::read_to_string(&path).unwrap().replacen("\"f0\",", "", 1);
    std::fs::write(&path, text).unwrap();
    let error = FeatureNetwork::load(&path).unwrap_err().to_string();
    assert!(error.contains("\"mean\" has 4 entries, expected 3"), "{error}");
}

#[test]
fn bad_pairs_are_named() {
    let too_few = train(&names(4), &pairs(10, 5, |x| x[0], 7), &quick()).unwrap_err();
    assert!(too_few.to_string().starts_with("10 pairs with a preference on 5 prompts"));
    let one_prompt = train(&names(4), &pairs(100, 1, |x| x[0], 7), &quick()).unwrap_err();
    assert!(matches!(one_prompt, FeatureRewardError::TooFew { groups: 1, .. }));
    let mut bad = pairs(100, 10, |x| x[0], 8);
    bad[3].second[2] = f64::NAN;
    let error = train(&names(4), &bad, &quick()).unwrap_err().to_string();
    assert_eq!(error, "pair 3: f2 is NaN, expected a finite number");
}

#[test]
fn a_feature_that_never_varies_is_no_trouble() {
    let mut constant = pairs(300, 30, |x| 2.0 * x[2], 9);
    for pair in &mut constant {
        (pair.first[3], pair.second[3]) = (0.1, 0.1);
    }
    let scale = Scale::of(constant.iter().map(|pair| pair.first.as_slice()));
    assert!((scale.deviation[3] - 1.0).abs() < 1e-12);
    let report = train(&names(4), &constant, &quick()).unwrap().report;
    assert!(report.accuracy.unwrap().low > 0.5);
}

#[test]
fn two_prompts_are_enough() {
    let report = train(&names(4), &pairs(60, 2, |x| 4.0 * x[2], 10), &quick()).unwrap().report;
    assert_eq!((report.folds, report.groups), (2, 2));
    assert!(report.warnings.iter().any(|w| w.starts_with("Only 2 prompts")));
}
