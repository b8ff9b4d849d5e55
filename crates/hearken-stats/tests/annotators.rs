//! Agreement and annotator models against published values.

#![allow(
    clippy::float_cmp,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code; exact results are compared exactly"
)]

mod common;

use common::{close, fixture, rng, rows};
use hearken_stats::agreement::{
    AgreementError, Distance, Weights, cohen, fleiss, krippendorff, pairwise_agreement,
};
use hearken_stats::dawid_skene::{AnnotatorLabel, Sizes, Stopping, dawid_skene};
use hearken_stats::significance;

/// One string per coder, one character per unit, `*` missing.
fn units(coders: &[&str]) -> Vec<Vec<f64>> {
    let said = |c: char| (c != '*').then(|| f64::from(u32::from(c)) - f64::from(u32::from('0')));
    let length = coders[0].chars().count();
    let unit = |i| coders.iter().filter_map(|c| said(c.chars().nth(i).unwrap())).collect();
    (0..length).map(unit).collect()
}

fn check_alpha(units: &[Vec<f64>], expected: &[(Distance, f64)], tolerance: f64) {
    for &(distance, alpha) in expected {
        let found = krippendorff(units, distance, 0, &mut rng()).unwrap().value;
        assert!((found - alpha).abs() < tolerance, "{distance:?}: {found}, expected {alpha}");
    }
}

#[test]
fn alpha_of_the_encyclopedias_example() {
    let coders = ["*****34121133*3", "1*213343*******", "**21344*21133*4"];
    let expected = [
        (Distance::Nominal, 0.691_358),
        (Distance::Interval, 0.810_845),
        (Distance::Ordinal, 0.806_721),
        (Distance::Ratio, 0.808_944),
    ];
    check_alpha(&units(&coders), &expected, 6e-7);
}

#[test]
fn alpha_of_krippendorffs_example_and_of_its_csv() {
    let expected = [
        (Distance::Nominal, 904.0 / 1216.0),
        (Distance::Ordinal, 0.815_388),
        (Distance::Ratio, 0.797_403),
        (Distance::Interval, 0.849_107),
    ];
    let coders = ["123321412***", "1233224125*3", "*3332342251*", "12332441251*"];
    check_alpha(&units(&coders), &expected, 6e-7);
    let text = std::fs::read_to_string(fixture("codings.csv")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let unit = |i: usize| lines.iter().filter_map(|coder| coder[i].parse().ok()).collect();
    check_alpha(&(0..12).map(unit).collect::<Vec<_>>(), &expected, 6e-7);
}

#[test]
fn alpha_of_small_examples() {
    let chain = [vec![1.0, 2.0], vec![2.0, 3.0], vec![3.0, 4.0]];
    let expected = [(Distance::Nominal, -0.153_846_2), (Distance::Interval, 0.545_454_5)];
    check_alpha(&chain, &expected, 6e-8);
    check_alpha(&[vec![1.0, 2.0], vec![2.0, 4.0]], &[(Distance::Ratio, 0.171_270_7)], 6e-8);
    let votes = units(&["NNVV", "*VVN", "NVVN", "NNNV"]);
    check_alpha(&votes, &[(Distance::Nominal, 0.083_333_3)], 6e-8);
}

#[test]
fn alpha_without_variation_and_without_pairs_is_an_error() {
    let same = krippendorff(&[vec![2.0; 3], vec![2.0; 2]], Distance::Nominal, 10, &mut rng());
    assert_eq!(same.unwrap_err(), AgreementError::NoVariation);
    let alone = krippendorff(&[vec![1.0], vec![]], Distance::Nominal, 10, &mut rng());
    assert_eq!(alone.unwrap_err(), AgreementError::NoPairableUnits);
    let bad = krippendorff(&[vec![1.0, -1.0]], Distance::Ratio, 10, &mut rng()).unwrap_err();
    assert_eq!(bad.to_string(), "unit 0: the value -1 is not allowed under this distance");
}

#[test]
fn alpha_of_many_units_has_a_narrow_interval_around_it() {
    let coders = ["123321412***", "1233224125*3", "*3332342251*", "12332441251*"];
    let once = units(&coders);
    let often: Vec<_> = (0..50).flat_map(|_| once.clone()).collect();
    let e = krippendorff(&often, Distance::Nominal, 200, &mut rng()).unwrap();
    assert!(e.contains(e.value) && e.half_width() < 0.06, "{e}");
    assert_eq!(e.n, 50 * 11);
}

#[test]
fn cohens_kappa_of_the_textbook_table() {
    let cells = [([0, 0], 20), ([0, 1], 5), ([1, 0], 10), ([1, 1], 15)];
    let pairs: Vec<[usize; 2]> = cells.iter().flat_map(|&(pair, n)| vec![pair; n]).collect();
    for weights in [Weights::Unweighted, Weights::Linear, Weights::Quadratic] {
        let kappa = cohen(&pairs, 2, weights, 100, &mut rng()).unwrap();
        assert!((kappa.value - 0.4).abs() < 1e-12);
        assert!(kappa.low < 0.4 && 0.4 < kappa.high);
    }
}

/// A near miss costs less on a scale.
#[test]
fn weighted_kappa_forgives_near_misses() {
    let near = [[0, 0], [1, 1], [2, 2], [0, 1], [1, 2], [2, 1]];
    let value = |w| cohen(&near, 3, w, 0, &mut rng()).unwrap().value;
    assert!(value(Weights::Unweighted) < value(Weights::Linear));
    assert!(value(Weights::Linear) < value(Weights::Quadratic));
    assert!(cohen(&near, 2, Weights::Linear, 0, &mut rng()).is_err());
}

#[test]
fn fleiss_kappa_of_the_encyclopedias_table() {
    let table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ];
    let mut table: Vec<Vec<usize>> = table.iter().map(|row| row.to_vec()).collect();
    let kappa = fleiss(&table, 50, &mut rng()).unwrap();
    close(&[kappa.value], &[0.209_930_7], 6e-8);
    // Observed agreement alone.
    let units: Vec<Vec<usize>> =
        table.iter().map(|row| (0..5).flat_map(|c| vec![c; row[c]]).collect()).collect();
    let raw = pairwise_agreement(&units, 0, &mut rng()).unwrap();
    close(&[raw.value], &[0.378_022], 6e-7);
    table[3][0] += 1;
    let error = fleiss(&table, 0, &mut rng()).unwrap_err();
    assert_eq!(error, AgreementError::UnequalRaters { unit: 3, found: 15, expected: 14 });
}

#[test]
fn the_anaesthetists_have_the_published_prevalence() {
    let labels: Vec<AnnotatorLabel> = rows(&fixture("anaesthetists.csv"))
        .iter()
        .map(|row| {
            let number = |i: usize| row[i].parse::<usize>().unwrap() - 1;
            AnnotatorLabel { task: number(0), annotator: number(1), class: number(2) }
        })
        .collect();
    let sizes = Sizes { tasks: 45, annotators: 5, classes: 4 };
    let fit = dawid_skene(&labels, sizes, Stopping::default()).unwrap();
    close(&fit.prevalence, &[0.40, 0.42, 0.11, 0.07], 6e-3);
    // Patient 1 was graded 1 by everybody; the likelihood never falls.
    assert!(fit.posteriors[0][0] > 0.999_999);
    let short = dawid_skene(&labels, sizes, Stopping { rounds_max: 3, gain_min: 0.0 }).unwrap();
    assert!(short.log_likelihood < fit.log_likelihood);
    for row in fit.confusion.iter().flatten().chain(&fit.posteriors) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn a_task_without_labels_is_named() {
    let sizes = Sizes { tasks: 2, annotators: 1, classes: 2 };
    let label = AnnotatorLabel { task: 0, annotator: 0, class: 1 };
    let error = dawid_skene(&[label], sizes, Stopping::default()).unwrap_err();
    assert_eq!(error.to_string(), "task 1 has no label");
}

#[test]
fn a_binomial_test_is_exact_in_both_tails() {
    let p = |hits| significance::fair_coin(hits, 20).unwrap().p_value;
    close(&[p(5), p(15), p(10)], &[0.041_389_465_332, 0.041_389_465_332, 1.0], 1e-11);
}
