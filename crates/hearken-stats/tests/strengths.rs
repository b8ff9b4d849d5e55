//! Bradley–Terry and its relatives against published values.

#![allow(
    clippy::float_cmp,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code; exact results are compared exactly"
)]

mod common;

use common::{Named, close, fixture, rng, rows, vote};
use hearken_stats::bradley_terry::{
    Covariance, Deviance, FitError, Model, OrderEffect, Weighting, bootstrap, fit, rank_bounds,
};
use hearken_stats::comparison::{Comparison, Outcome, Tally};
use hearken_stats::elo::Elo;
use hearken_stats::ties::Ties;

const DAVIDSON: Model = Model { ties: Ties::Davidson, ..Model::PLAIN };
const RAO_KUPPER: Model = Model { ties: Ties::RaoKupper, ..Model::PLAIN };

/// (left, right, wins of left, wins of right).
fn tally(items: usize, results: &[(usize, usize, f64, f64)]) -> Tally {
    let votes = results.iter().flat_map(|&(left, right, wins, losses)| {
        [(Outcome::Left, wins), (Outcome::Right, losses)].map(|(outcome, weight)| Comparison {
            left,
            right,
            outcome,
            weight,
        })
    });
    Tally::new(items, votes).unwrap()
}

#[test]
fn four_teams_have_the_encyclopedias_strengths() {
    let teams = [(0, 1, 2.0, 3.0), (0, 3, 1.0, 4.0), (1, 2, 5.0, 3.0), (2, 3, 1.0, 3.0)];
    let fit = fit(&tally(4, &teams), Model::PLAIN).unwrap();
    let p: Vec<f64> = fit.strengths().iter().map(|x| x.exp()).collect();
    close(&p, &[0.640, 1.043, 0.660, 2.270], 6e-4);
}

#[test]
fn small_cycles_have_the_strengths_of_choix() {
    let uneven =
        fit(&tally(3, &[(0, 1, 2.0, 0.0), (1, 2, 1.0, 0.0), (2, 0, 1.0, 0.0)]), Model::PLAIN);
    close(uneven.unwrap().strengths(), &[0.419_617_624, -0.419_617_624, 0.0], 1e-9);
    let even =
        fit(&tally(3, &[(0, 1, 1.0, 0.0), (1, 2, 1.0, 0.0), (2, 0, 1.0, 0.0)]), Model::PLAIN);
    close(even.unwrap().strengths(), &[0.0; 3], 1e-12);
}

#[test]
fn food_and_simple_have_evalicas_shares() {
    let food = Named::fixture("food.csv");
    let shares = fit(&food.tally(), Model::PLAIN).unwrap().shares();
    let expected = [
        ("Tacos", 0.434_289_83),
        ("Sushi", 0.190_600_28),
        ("Burger", 0.147_976_65),
        ("Pasta", 0.128_153_41),
        ("Pizza", 0.098_979_83),
    ];
    for (name, share) in expected {
        assert!((shares[food.index(name)] - share).abs() < 1e-7, "{name}");
    }
    let simple = fit(&Named::fixture("simple.csv").tally(), Model::PLAIN).unwrap();
    close(&simple.shares(), &[0.050_800, 0.131_151, 0.131_686, 0.336_889, 0.349_475], 6e-7);
}

/// Shares, tie parameter and log-likelihood; items in alphabetical order.
fn check_ties(file: &str, model: Model, shares: &[f64], parameter: f64, nll: f64) {
    let fit = fit(&Named::fixture(file).tally(), model).unwrap();
    close(&fit.shares(), shares, 6e-8);
    close(&[fit.tie_parameter()], &[parameter], 6e-7);
    close(&[-fit.log_likelihood()], &[nll], 6e-9);
}

#[test]
fn tie_models_reach_their_maxima() {
    // Burger, Pasta, Pizza, Sushi, Tacos.
    let food = [0.142_248_6, 0.121_758_8, 0.092_038_7, 0.186_992_5, 0.456_961_3];
    check_ties("food.csv", DAVIDSON, &food, 0.157_284, 24.263_663_45);
    let food = [0.141_910_6, 0.124_311_0, 0.095_750_9, 0.182_726_6, 0.455_300_9];
    check_ties("food.csv", RAO_KUPPER, &food, 1.169_991, 24.142_022_66);
    let simple = [0.000_670_1, 0.017_904_6, 0.017_948_6, 0.477_432_7, 0.486_044_0];
    check_ties("simple.csv", DAVIDSON, &simple, 6.921_998, 11.005_993_12);
    let simple = [0.012_532_0, 0.074_211_3, 0.072_910_0, 0.445_379_1, 0.394_967_6];
    check_ties("simple.csv", RAO_KUPPER, &simple, 8.339_384, 11.085_703_33);
}

#[test]
fn without_ties_all_models_of_ties_are_one() {
    let cycle = tally(3, &[(0, 1, 2.0, 1.0), (1, 2, 1.0, 0.0), (2, 0, 1.0, 0.0)]);
    let plain = fit(&cycle, Model::PLAIN).unwrap();
    for model in [DAVIDSON, RAO_KUPPER] {
        let other = fit(&cycle, model).unwrap();
        close(other.strengths(), plain.strengths(), 1e-12);
        assert_eq!(other.probabilities(0, 1)[1], 0.0);
    }
}

/// The seven teams in the order of the fixture's first column.
fn baseball() -> (Vec<String>, Tally) {
    let rows = rows(&fixture("baseball.csv"));
    let mut names: Vec<String> = rows.iter().map(|r| r[0].clone()).collect();
    names.dedup();
    let index = |name: &String| names.iter().position(|n| n == name).unwrap();
    let games: Vec<_> = rows
        .iter()
        .map(|r| (index(&r[0]), index(&r[1]), r[2].parse().unwrap(), r[3].parse().unwrap()))
        .collect();
    let tally = tally(names.len(), &games);
    (names, tally)
}

const TEAMS: [&str; 6] = ["Boston", "Cleveland", "Detroit", "Milwaukee", "New York", "Toronto"];

#[test]
fn baseball_has_the_coefficients_and_errors_of_r() {
    let (names, tally) = baseball();
    assert_eq!(tally.total(), 273.0);
    let fit = fit(&tally, Model::PLAIN).unwrap();
    let intervals = fit.intervals(Covariance::Information);
    let of = |team: &str| names.iter().position(|n| n == team).unwrap();
    let contrasts = TEAMS.map(|team| intervals.difference(of(team), of("Baltimore")));
    let expected = [1.107_698, 0.683_853, 1.436_408, 1.581_356, 1.247_618, 1.294_485];
    close(&contrasts.map(|e| e.value), &expected, 6e-7);
    let errors = contrasts.map(|e| e.half_width() / 1.959_963_984_540_054);
    close(&errors, &[0.3339, 0.3319, 0.3396, 0.3433, 0.3359, 0.3367], 6e-5);
    let Deviance { value, degrees } = fit.deviance();
    assert_eq!(degrees, 36);
    close(&[value], &[44.053], 6e-4);
}

#[test]
fn playing_at_home_helps_as_much_as_in_r() {
    let (names, tally) = baseball();
    let home = fit(&tally, Model { order_effect: OrderEffect::Estimated, ..Model::PLAIN }).unwrap();
    let intervals = home.intervals(Covariance::Information);
    let of = |team: &str| names.iter().position(|n| n == team).unwrap();
    let values = TEAMS.map(|team| intervals.difference(of(team), of("Baltimore")).value);
    close(&values, &[1.143_803, 0.704_694, 1.475_357, 1.619_555, 1.281_34, 1.327_11], 6e-6);
    let effect = intervals.order_effect().unwrap();
    let error = effect.half_width() / 1.959_963_984_540_054;
    close(&[effect.value, error], &[0.302_261, 0.130_944], 6e-7);
    let test = hearken_stats::significance::normal(effect.value / error);
    close(&[test.statistic, test.p_value], &[2.308, 0.021], 6e-4);
    let Deviance { value, degrees } = home.deviance();
    assert_eq!(degrees, 35);
    close(&[value], &[38.643], 6e-4);
    let ratio = home.likelihood_ratio(&fit(&tally, Model::PLAIN).unwrap());
    close(&[ratio.statistic], &[5.4106], 6e-5);
}

/// With hidden context the strengths follow Borda's count, not the majority.
#[test]
fn bradley_terry_orders_by_borda() {
    // 60 voters A > B > C, 40 voters B > C > A.
    let votes = tally(3, &[(0, 1, 60.0, 40.0), (0, 2, 60.0, 40.0), (1, 2, 100.0, 0.0)]);
    let fit_all = fit(&votes, Model::PLAIN).unwrap();
    close(fit_all.strengths(), &[0.311_873, 0.616_977, -0.928_850], 6e-7);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let share = 0.6 * sigmoid(0.2) + 0.4 * sigmoid(-3.0);
    assert!((share - 0.348_871).abs() < 6e-7);
    let gap = fit(&tally(2, &[(0, 1, share, 1.0 - share)]), Model::PLAIN).unwrap();
    assert!((gap.strengths()[0] - gap.strengths()[1] + 0.624_007).abs() < 6e-7);
}

#[test]
fn an_item_that_never_wins_needs_a_ridge() {
    let votes = tally(3, &[(0, 1, 1.0, 1.0), (0, 2, 3.0, 0.0)]);
    let error = fit(&votes, Model::PLAIN).unwrap_err();
    assert_eq!(error, FitError::NotConnected { components: vec![vec![0, 1], vec![2]] });
    let ridge = fit(&votes, Model { ridge: 0.1, ..Model::PLAIN }).unwrap();
    assert!(ridge.strengths()[2] < ridge.strengths()[1]);
    // One win and one tie: ν and the difference grow together without bound.
    let tied = Tally::new(2, [vote(0, 1, Outcome::Left), vote(0, 1, Outcome::Tie)]).unwrap();
    assert_eq!(fit(&tied, DAVIDSON).unwrap_err(), FitError::Unbounded);
}

#[test]
fn swapping_the_sides_negates_the_order_effect_alone() {
    let food = Named::fixture("food.csv");
    let swap = |v: &Comparison| Comparison {
        left: v.right,
        right: v.left,
        outcome: match v.outcome {
            Outcome::Left => Outcome::Right,
            Outcome::Tie => Outcome::Tie,
            Outcome::Right => Outcome::Left,
        },
        weight: v.weight,
    };
    let swapped = Tally::new(5, food.votes.iter().map(swap)).unwrap();
    for ties in [Ties::Half, Ties::Davidson, Ties::RaoKupper] {
        let model = Model { ties, order_effect: OrderEffect::Estimated, ..Model::PLAIN };
        let (a, b) = (fit(&food.tally(), model).unwrap(), fit(&swapped, model).unwrap());
        close(a.strengths(), b.strengths(), 1e-9);
        let effect = |f: &hearken_stats::bradley_terry::Fit| {
            f.intervals(Covariance::Sandwich).order_effect().unwrap().value
        };
        assert!((effect(&a) + effect(&b)).abs() < 1e-9);
    }
}

/// Two items: the estimate is a log-odds, whose variance is 1/(n·p·(1 − p)) under either covariance.
#[test]
fn both_covariances_agree_on_a_saturated_model() {
    let fit = fit(&tally(2, &[(0, 1, 30.0, 10.0)]), Model::PLAIN).unwrap();
    for covariance in [Covariance::Information, Covariance::Sandwich] {
        let intervals = fit.intervals(covariance);
        let error = (40.0_f64 * 0.75 * 0.25).sqrt().recip();
        let difference = intervals.difference(0, 1);
        assert!((difference.half_width() / 1.959_963_984_540_054 - error).abs() < 1e-12);
        let strength = intervals.strength(0);
        assert!((strength.half_width() / 1.959_963_984_540_054 - error / 2.0).abs() < 1e-12);
    }
}

#[test]
fn the_bootstrap_brackets_the_sandwich_and_does_not_depend_on_threads() {
    let (_, tally) = baseball();
    let fit = fit(&tally, Model::PLAIN).unwrap();
    let sandwich = fit.intervals(Covariance::Sandwich).strengths();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bootstrap(&tally, Model::PLAIN, 400, &mut rng()).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(3));
    for (a, b) in one.strengths.iter().zip(&sandwich) {
        assert!((a.half_width() / b.half_width() - 1.0).abs() < 0.25, "{a} against {b}");
    }
    let bounds = rank_bounds(&one.strengths);
    assert_eq!(bounds[6].worst, 7);
    assert!(bounds.iter().all(|b| b.best <= b.worst));
}

/// A pair shown a hundred times as often weighs the same.
#[test]
fn inverse_propensity_undoes_the_choice_of_pairs() {
    let weighting = Weighting::InversePropensity { floor: 1.0 };
    let model = Model { weighting, ..Model::PLAIN };
    let results =
        |scale: f64| [(0, 1, 6.0 * scale, 4.0 * scale), (0, 2, 6.0, 4.0), (1, 2, 9.0, 1.0)];
    let (rare, often) = (tally(3, &results(1.0)), tally(3, &results(100.0)));
    let strengths = |t: &Tally| fit(t, model).unwrap().strengths().to_vec();
    close(&strengths(&rare), &strengths(&often), 1e-9);
}

#[test]
fn elo_has_evalicas_ratings() {
    // Burger, pizza, sushi.
    let votes = [vote(1, 0, Outcome::Left), vote(2, 0, Outcome::Left), vote(1, 2, Outcome::Tie)];
    let ratings = Elo { initial: 1000.0, k: 30.0 }.ratings(3, &votes);
    let expected = [970.647_199_991_534, 1_014.972_058_162_581, 1_014.380_741_845_884];
    close(&ratings, &expected, 1e-9);
    let food = Named::fixture("food.csv");
    let ratings = Elo { initial: 1000.0, k: 4.0 }.ratings(5, &food.votes);
    close(&[ratings[food.index("Tacos")]], &[1_013.358_777_188_754_3], 1e-9);
}
