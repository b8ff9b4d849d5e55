//! Every estimator where its quantity is hardly defined: it says so, and never gives an interval without width.

#![allow(
    clippy::float_cmp,
    clippy::unwrap_used,
    reason = "test code; exact results are compared exactly"
)]

mod common;

use common::rng;
use hearken_stats::accuracy::accuracy;
use hearken_stats::agreement::{
    AgreementError, Coefficient, Distance, Table, Weights, cohen, fleiss, krippendorff,
    pairwise_agreement,
};
use hearken_stats::bootstrap::bootstrap;
use hearken_stats::bradley_terry::{self, Covariance, FitError, Model, OrderEffect};
use hearken_stats::calibration::{Prediction, expected_calibration_error};
use hearken_stats::comparison::{Comparison, Outcome, Tally};
use hearken_stats::logistic::{self, Observation};
use hearken_stats::mean::{Paired, mean, normal_mean, paired_difference};
use hearken_stats::proportion::{Share, wilson};
use hearken_stats::quantile::{median, quantile};
use hearken_stats::side_bias::{Sides, SwapCounts};
use hearken_stats::style::{self, Penalty, StyledVote};
use hearken_stats::ties::Ties;
use hearken_stats::win_rate::Outcomes;
use hearken_stats::{Estimate, significance};

/// What an estimator says at an edge.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// There is no number.
    Nothing,
    /// A number of which neither end is bounded.
    NoInterval,
    /// A number with an interval of some width around it.
    Interval,
}

fn says(estimate: Option<Estimate>) -> Says {
    let Some(e) = estimate else { return Says::Nothing };
    assert!(e.low < e.high, "an interval without width: {e:?}");
    assert!(e.low <= e.value && e.value <= e.high, "the value is outside: {e:?}");
    if e.is_unbounded() { Says::NoInterval } else { Says::Interval }
}

#[test]
fn means_quantiles_and_shares_at_their_edges() {
    use Says::{Interval, NoInterval, Nothing};
    let (one, alike, few) = ([3.0], [0.1; 40], [1.0, 2.0]);
    let pair = |a, b| Paired { treatment: a, control: b };
    let data = [1.0, 1.0, 1.0];
    let sum = |s: &[&f64]| Some(s.iter().copied().sum::<f64>());
    let sides = |left, right| Sides { left, right }.bias().map(|bias| bias.left_share);
    let swaps = |consistent| SwapCounts { consistent, ..SwapCounts::default() }.consistency();
    let sure = [Prediction { probability: 1.0, outcome: 1.0 }; 9];
    let ece = |p: &[Prediction]| expected_calibration_error(p, 10, 50, &mut rng());
    let line = [1.0, 2.0, 3.0, 4.0, 5.0];
    let table = [
        ("mean of nothing", mean(&[]), Nothing),
        ("mean of one", mean(&one), NoInterval),
        ("mean of equals", mean(&alike), NoInterval),
        ("normal mean of one", normal_mean(&one), Nothing),
        ("normal mean of equals", normal_mean(&alike), NoInterval),
        ("paired, nothing", paired_difference(pair(&[], &[])), Nothing),
        ("paired, constant gain", paired_difference(pair(&[2.0, 9.0], &[1.0, 8.0])), NoInterval),
        ("paired, one", paired_difference(pair(&one, &one)), NoInterval),
        ("median of nothing", median(&[]), Nothing),
        ("median of one", median(&one), NoInterval),
        ("median of equals", median(&alike), NoInterval),
        ("first decile of two", quantile(&few, 0.1), Interval),
        ("share of nothing", wilson(0.0, 0), Nothing),
        ("none of one", wilson(0.0, 1), Interval),
        ("all of nine", wilson(9.0, 9), Interval),
        ("difference of whole shares", whole_difference(9, 9), Interval),
        ("difference from nothing", whole_difference(9, 0), Nothing),
        ("accuracy without margins", accuracy(&[]), Nothing),
        ("accuracy, always right", accuracy(&few), Interval),
        ("win rate without votes", Outcomes::default().win_rate(), Nothing),
        ("win rate of ties", Outcomes { ties: 4, ..Outcomes::default() }.win_rate(), Interval),
        ("no sides", sides(0, 0), Nothing),
        ("one side alone", sides(7, 0), Interval),
        ("no swaps", swaps(0), Nothing),
        ("swaps always consistent", swaps(3), Interval),
        (
            "bootstrap of nothing",
            bootstrap(&[], |s: &[&f64]| s.first().map(|&&x| x), 9, &mut rng()),
            Nothing,
        ),
        ("bootstrap of equals", bootstrap(&data, sum, 90, &mut rng()), NoInterval),
        ("bootstrap without rounds", bootstrap(&line, sum, 0, &mut rng()), NoInterval),
        ("bootstrap of one", bootstrap(&one, sum, 90, &mut rng()), NoInterval),
        ("calibration of nothing", ece(&[]), Nothing),
        ("calibration, sure and right", ece(&sure), NoInterval),
    ];
    for (name, estimate, expected) in table {
        assert_eq!(says(estimate), expected, "{name}: {estimate:?}");
    }
}

fn whole_difference(a: usize, b: usize) -> Option<Estimate> {
    let whole = |n: usize| Share { hits: n as f64, n };
    whole(a).minus(whole(b)).map(|difference| difference.difference)
}

#[test]
fn agreement_at_its_edges() {
    use Says::{Interval, NoInterval};
    let rounds = 200;
    let unpaired = AgreementError::NoPairableUnits;
    let constant = AgreementError::NoVariation;
    let alpha = |units: &[Vec<f64>], distance| krippendorff(units, distance, rounds, &mut rng());
    for distance in [Distance::Nominal, Distance::Ordinal, Distance::Interval, Distance::Ratio] {
        assert_eq!(alpha(&[], distance), Err(unpaired.clone()));
        assert_eq!(alpha(&[vec![1.0], vec![2.0]], distance), Err(unpaired.clone()));
        assert_eq!(alpha(&vec![vec![2.0, 2.0]; 9], distance), Err(constant.clone()));
        // One unit alone, and agreement on different values: every resample says the same, or nothing.
        assert_eq!(says(alpha(&[vec![1.0, 2.0]], distance).ok()), NoInterval);
        let perfect: Vec<Vec<f64>> = (1..20).map(|i| vec![f64::from(i % 3); 2]).collect();
        let perfect = alpha(&perfect, distance).unwrap();
        assert!(perfect.value == 1.0 && perfect.is_unbounded(), "{distance:?}: {perfect}");
        // One of 20 units differs: in 36 % of the rounds nothing does.
        let mut rare = vec![vec![1.0, 1.0]; 19];
        rare.push(vec![1.0, 2.0]);
        assert_eq!(says(alpha(&rare, distance).ok()), NoInterval, "{distance:?}");
    }
    let kappa = |units: &[[usize; 2]]| cohen(units, 2, Weights::Unweighted, rounds, &mut rng());
    assert_eq!(kappa(&[]), Err(unpaired.clone()));
    assert_eq!(kappa(&[[0, 0]; 7]), Err(constant.clone()));
    assert_eq!(says(kappa(&[[0, 1]; 7]).ok()), NoInterval);
    assert_eq!(says(kappa(&[[0, 0], [1, 1], [0, 0], [1, 1]]).ok()), NoInterval);
    let many = |table: &[Vec<usize>]| fleiss(table, rounds, &mut rng());
    assert_eq!(many(&[]), Err(unpaired.clone()));
    assert_eq!(many(&[vec![1, 0]]), Err(unpaired.clone()));
    assert_eq!(many(&vec![vec![3, 0]; 5]), Err(constant.clone()));
    assert_eq!(says(many(&[vec![2, 1]]).ok()), NoInterval);
    let raw = |units: &[Vec<u8>]| pairwise_agreement(units, rounds, &mut rng());
    assert_eq!(raw(&[vec![1]]), Err(unpaired.clone()));
    let all = raw(&vec![vec![1, 1]; 9]).unwrap();
    assert_eq!(Some((all.low, all.high)), wilson(9.0, 9).map(|e| (e.low, e.high)));
    assert_eq!(says(raw(&vec![vec![1, 2]; 9]).ok()), Interval);
}

#[test]
fn counted_agreement_says_what_that_of_the_units_says() {
    let scale = [0.0, 1.0];
    let of = |table: &Table, coefficient| {
        table.estimates(&[coefficient], 200, &mut rng()).into_iter().next().unwrap()
    };
    let chance = [
        Coefficient::Fleiss { raters: 2 },
        Coefficient::Alpha(Distance::Nominal, &scale),
        Coefficient::Alpha(Distance::Ordinal, &scale),
        Coefficient::Alpha(Distance::Interval, &scale),
    ];
    let constant = Table::new(2, vec![vec![2, 0]; 12]);
    let alone = Table::new(2, vec![vec![1, 0]; 12]);
    let one = Table::new(2, [vec![1, 1]]);
    for coefficient in chance {
        assert_eq!(of(&constant, coefficient), Err(AgreementError::NoVariation));
        assert_eq!(of(&alone, coefficient), Err(AgreementError::NoPairableUnits));
        assert_eq!(says(of(&one, coefficient).ok()), Says::NoInterval);
    }
    assert_eq!(says(of(&constant, Coefficient::Raw).ok()), Says::Interval);
    assert_eq!(of(&alone, Coefficient::Raw), Err(AgreementError::NoPairableUnits));
    assert_eq!(of(&constant, Coefficient::RawWithout(0)), Err(AgreementError::NoPairableUnits));
}

fn votes(items: usize, of: &[(usize, usize, Outcome, f64)]) -> Tally {
    let vote = |&(left, right, outcome, weight)| Comparison { left, right, outcome, weight };
    Tally::new(items, of.iter().map(vote)).unwrap()
}

const PRIOR: Model = Model { ridge: 0.25, ..Model::PLAIN };

fn resampled(tally: &Tally, model: Model) -> Vec<Estimate> {
    bradley_terry::bootstrap(tally, model, 1000, &mut rng()).unwrap().strengths
}

/// With nine wins of ten, 35 % of the rounds have ten: the strength is infinite there, and so is the end.
#[test]
fn a_strength_has_no_upper_end_where_many_rounds_are_infinite() {
    let nine = votes(2, &[(0, 1, Outcome::Left, 9.0), (0, 1, Outcome::Right, 1.0)]);
    let replicates = bradley_terry::bootstrap(&nine, Model::PLAIN, 2000, &mut rng()).unwrap();
    let share = replicates.unbounded as f64 / 2000.0;
    assert!((share - 0.9_f64.powi(10)).abs() < 0.04, "{share}");
    let [strong, weak] = [replicates.strengths[0], replicates.strengths[1]];
    assert!(strong.low.is_finite() && strong.high == f64::INFINITY, "{strong}");
    assert!(weak.low == f64::NEG_INFINITY && weak.high.is_finite(), "{weak}");
}

/// Models that stay connected keep their intervals when another one wins everything.
#[test]
fn one_infinite_strength_leaves_the_others_their_intervals() {
    let mut of = vec![(3, 0, Outcome::Left, 19.0), (3, 0, Outcome::Right, 1.0)];
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        of.extend([(a, b, Outcome::Left, 30.0), (a, b, Outcome::Right, 25.0)]);
    }
    let strengths = resampled(&votes(4, &of), Model::PLAIN);
    assert!(strengths[3].high == f64::INFINITY && strengths[3].low.is_finite());
    for strength in &strengths[..3] {
        assert!(strength.low.is_finite() && strength.high.is_finite(), "{strength}");
        assert!(strength.contains(strength.value), "{strength}");
    }
}

#[test]
fn strengths_that_only_a_prior_bounds_have_no_interval() {
    let separate = votes(2, &[(0, 1, Outcome::Left, 1000.0)]);
    assert!(matches!(
        bradley_terry::fit(&separate, Model::PLAIN),
        Err(FitError::NotConnected { .. })
    ));
    let fit = bradley_terry::fit(&separate, PRIOR).unwrap();
    for covariance in [Covariance::Information, Covariance::Sandwich] {
        let intervals = fit.intervals(covariance);
        assert!(intervals.strengths().iter().all(Estimate::is_unbounded));
        assert!(intervals.difference(0, 1).is_unbounded());
    }
    assert!(resampled(&separate, PRIOR).iter().all(Estimate::is_unbounded));
    let styled =
        |outcome| StyledVote { left: 0, right: 1, covariates: vec![], outcome, weight: 40.0 };
    for outcome in [1.0, 0.5] {
        let fit = style::fit(2, &[styled(outcome)], Penalty::LMARENA).unwrap();
        for covariance in [Covariance::Information, Covariance::Sandwich] {
            let unbounded = fit.strengths(covariance)[0].is_unbounded();
            assert!(unbounded || (outcome == 0.5 && covariance == Covariance::Information));
        }
    }
}

/// Every tie is the same vote: nothing is seen of how votes vary.
#[test]
fn ties_alone_bound_no_strength() {
    let ties = votes(3, &[(0, 1, Outcome::Tie, 5.0), (1, 2, Outcome::Tie, 5.0)]);
    for model in [Ties::Half, Ties::Davidson, Ties::RaoKupper] {
        let model = Model { ties: model, ..Model::PLAIN };
        let fit = bradley_terry::fit(&ties, model).unwrap();
        assert!(fit.intervals(Covariance::Sandwich).strengths().iter().all(Estimate::is_unbounded));
        assert!(resampled(&ties, model).iter().all(Estimate::is_unbounded));
        let parameter = fit.tie_parameter();
        assert!(model.ties == Ties::Half || parameter == f64::INFINITY, "{parameter}");
    }
}

#[test]
fn what_separates_has_no_finite_estimate() {
    // Left wins always, whoever is there.
    let left = votes(2, &[(0, 1, Outcome::Left, 9.0), (1, 0, Outcome::Left, 9.0)]);
    let ordered = Model { order_effect: OrderEffect::Estimated, ..Model::PLAIN };
    assert!(bradley_terry::fit(&left, ordered).is_err());
    let row = |x: f64, outcome| Observation { features: vec![x], outcome, weight: 1.0 };
    let separated = [row(-1.0, 0.0), row(1.0, 1.0)];
    assert_eq!(logistic::fit(&separated, 0.0).unwrap_err(), FitError::Unbounded);
    // Soft labels that the model meets exactly leave no residual.
    let met = logistic::fit(&[row(1.0, 0.5), row(2.0, 0.5)], 0.0).unwrap();
    assert!(met.estimates(Covariance::Sandwich)[0].is_unbounded());
    assert!(significance::fair_coin(0, 0).is_none() && significance::at_most(3, 3, 1.0).is_none());
}
