//! Means of bounded outcomes that may be looked at after every observation: bets, and what they have won.
//!
//! A test at 5 % that is repeated until it succeeds is no test at 5 %. What is here keeps its promise at every moment at once:
//! whoever bets against a claim that is true multiplies their capital by 1/α with a probability of α at most, however long they
//! play and whenever they stop (Ville's inequality).

use crate::{CONFIDENCE, Estimate, IntervalMethod};

/// Shares of the capital that are bet at once, each by a player of its own: (k + ½)/100. A mixture of players needs no tuning, and
/// its capital is a supermartingale whatever the shares are.
const FRACTIONS: usize = 100;

/// What a player bets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetSide {
    /// The mean is above the value: a capital above 1/α refutes "at most".
    Above,
    /// The mean is below the value: a capital above 1/α refutes "at least".
    Below,
}

/// The capital of those who bet that a mean is on one side of a value, from 1 before the first outcome.
///
/// ```text
/// K_t = (1/G) Σ_k Π_{i ≤ t} (1 + λ_k (x_i − m))        above:  λ_k =  u_k / m
///                                                      below:  λ_k = −u_k / (1 − m)
/// u_k = (k + ½)/G,  k = 0 … G − 1,  G = 100
/// ```
///
/// with outcomes x in [0, 1]; no bet can lose more than there is. If E\[x_i | x_1 … x_{i−1}\] ≤ m (above) or ≥ m (below), K is a
/// supermartingale, so that P(K_t ≥ 1/α for any t) ≤ α: K is an *e-process*, and each K_t an *e-value*. An outcome of m, such as a
/// tie where m is ½, changes nothing. Waudby-Smith and Ramdas 2024, arXiv:2010.09686, section 4, with a mixture over bets that stay
/// the same, of which none looks ahead.
///
/// ```
/// use hearken_stats::betting::{Capital, BetSide};
/// let mut capital = Capital::new(BetSide::Above, 0.5);
/// capital.observe(1.0); // the mean of 1 + u
/// assert!((capital.value() - 1.5).abs() < 1e-12);
/// capital.observe(0.0); // the mean of 1 − u², which is 2/3 for u spread evenly
/// assert!((capital.value() - 2.0 / 3.0).abs() < 1e-4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Capital {
    side: BetSide,
    /// m.
    mean: f64,
    /// The logarithm of each player's capital.
    logs: Vec<f64>,
}

impl Capital {
    /// Before the first outcome.
    ///
    /// # Panics
    /// If `mean` is not between 0 and 1: there is nothing to bet against 0 from below, or against 1 from above.
    pub fn new(side: BetSide, mean: f64) -> Self {
        assert!(0.0 < mean && mean < 1.0, "mean: {mean}, expected one between 0 and 1");
        Self { side, mean, logs: vec![0.0; FRACTIONS] }
    }

    /// Plays one outcome.
    ///
    /// # Panics
    /// If the outcome is not in [0, 1].
    pub fn observe(&mut self, outcome: f64) {
        self.observe_times(outcome, 1);
    }

    /// Plays the same outcome `times` times.
    fn observe_times(&mut self, outcome: f64, times: usize) {
        assert!((0.0..=1.0).contains(&outcome), "outcome: {outcome}, expected one in [0, 1]");
        let odds = match self.side {
            BetSide::Above => (outcome - self.mean) / self.mean,
            BetSide::Below => (self.mean - outcome) / (1.0 - self.mean),
        };
        for (k, log) in self.logs.iter_mut().enumerate() {
            let fraction = (k as f64 + 0.5) / FRACTIONS as f64;
            *log += times as f64 * (fraction * odds).ln_1p();
        }
    }

    /// The logarithm of the capital.
    pub fn log_value(&self) -> f64 {
        let most = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.logs.iter().map(|log| (log - most).exp()).sum();
        most + (sum / FRACTIONS as f64).ln()
    }

    /// The capital: the e-value of the outcomes so far. It may be infinite.
    pub fn value(&self) -> f64 {
        self.log_value().exp()
    }

    /// Whether the capital refutes what it was bet against, with false alarms in at most a share `alpha` of all cases.
    ///
    /// # Panics
    /// If `alpha` is not between 0 and 1.
    pub fn refutes(&self, alpha: f64) -> bool {
        assert!(0.0 < alpha && alpha < 1.0, "alpha: {alpha}, expected one between 0 and 1");
        -alpha.ln() <= self.log_value()
    }
}

/// The mean of outcomes in [0, 1] with its confidence sequence: of all intervals that this gives for the first t outcomes, t = 1, 2, …,
/// *all* hold the mean in 95 % of the cases, so that one may stop whenever one likes. Ties of a comparison are ½.
///
/// The ends are the values against which a bet has not yet won: those m for which both [`Capital`]s are below 2/α. Bets from above win
/// less the higher m is, and those from below more, so that this is an interval. `None` without outcomes.
///
/// # Panics
/// If an outcome is not in [0, 1].
///
/// ```
/// use hearken_stats::betting::mean_at_any_time;
/// let outcomes: Vec<f64> = (0..256).map(|i| f64::from(u8::from(i % 10 < 7))).collect();
/// let rate = mean_at_any_time(&outcomes).unwrap();
/// assert!(0.6 < rate.low && rate.high < 0.8);
/// ```
pub fn mean_at_any_time(outcomes: &[f64]) -> Option<Estimate> {
    let n = outcomes.len();
    let value = outcomes.iter().sum::<f64>() / n as f64;
    let mut sorted = outcomes.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins = |side, mean| {
        let mut capital = Capital::new(side, mean);
        // Most outcomes are wins, losses and ties.
        let alike = sorted.chunk_by(|a, b| a.total_cmp(b).is_eq());
        alike.for_each(|alike| capital.observe_times(alike[0], alike.len()));
        capital.refutes((1.0 - CONFIDENCE) / 2.0)
    };
    // The capital is 1 at most where m is the mean itself.
    (0 < n).then(|| Estimate {
        value,
        low: boundary(0.0, value, |mean| wins(BetSide::Above, mean)),
        high: boundary(1.0, value, |mean| wins(BetSide::Below, mean)),
        n,
        method: IntervalMethod::Betting,
    })
}

/// Where, on the way from `outer` to `inner`, `is_refuted` ends; `outer` where it never holds.
fn boundary(mut outer: f64, mut inner: f64, is_refuted: impl Fn(f64) -> bool) -> f64 {
    // Twice as often as a difference can be halved that anybody would notice.
    for _ in 0..40 {
        let middle = f64::midpoint(outer, inner);
        if !(0.0 < middle && middle < 1.0) {
            break;
        }
        if is_refuted(middle) {
            outer = middle;
        } else {
            inner = middle;
        }
    }
    outer
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn capital(side: BetSide, mean: f64, outcomes: &[f64]) -> Capital {
        let mut capital = Capital::new(side, mean);
        for outcome in outcomes {
            capital.observe(*outcome);
        }
        capital
    }

    /// ∫ (1 + u)^wins (1 − u)^losses du over [0, 1], by the midpoints that the players are.
    #[test]
    fn the_capital_of_wins_and_losses_is_a_mean_over_the_players() {
        let wins = |count: usize| capital(BetSide::Above, 0.5, &vec![1.0; count]).value();
        assert!((wins(0) - 1.0).abs() < 1e-12);
        assert!((wins(1) - 1.5).abs() < 1e-12);
        // (2³ − 1)/3 less 1/(12 G²).
        assert!((wins(2) - (7.0 / 3.0 - 1.0 / 120_000.0)).abs() < 1e-12);
        let mixed = capital(BetSide::Above, 0.5, &[1.0, 0.0]).value();
        assert!((mixed - (2.0 / 3.0 + 1.0 / 120_000.0)).abs() < 1e-12);
        // Against 0.2 a win is worth 1 + 4u, a loss 1 − u.
        let off_center = capital(BetSide::Above, 0.2, &[1.0]).value();
        assert!((off_center - 3.0).abs() < 1e-12);
    }

    /// Five wins in a row are worth (2⁶ − 1)/6 = 10.5, six (2⁷ − 1)/7 = 18.1, seven 31.9: 1/α is 20.
    #[test]
    fn seven_wins_in_a_row_refute_at_five_percent_and_six_do_not() {
        assert!(!capital(BetSide::Above, 0.5, &[1.0; 6]).refutes(0.05));
        assert!(capital(BetSide::Above, 0.5, &[1.0; 7]).refutes(0.05));
        assert!(capital(BetSide::Below, 0.5, &[0.0; 7]).refutes(0.05));
        assert!(!capital(BetSide::Below, 0.5, &[1.0; 7]).refutes(0.05));
    }

    #[test]
    fn ties_change_nothing_and_order_does_not_matter() {
        let plain = capital(BetSide::Above, 0.5, &[1.0, 0.0, 1.0]).log_value();
        let tied = capital(BetSide::Above, 0.5, &[0.5, 1.0, 1.0, 0.5, 0.0]).log_value();
        assert!((plain - tied).abs() < 1e-12);
    }

    #[test]
    fn swapping_sides_reflects_capital_and_interval() {
        let outcomes = [1.0, 0.25, 0.0, 1.0, 0.5, 1.0];
        let swapped = outcomes.map(|outcome| 1.0 - outcome);
        let above = capital(BetSide::Above, 0.3, &outcomes).log_value();
        let below = capital(BetSide::Below, 0.7, &swapped).log_value();
        assert!((above - below).abs() < 1e-12);
        let (ours, theirs) =
            (mean_at_any_time(&outcomes).unwrap(), mean_at_any_time(&swapped).unwrap());
        assert!((ours.low + theirs.high - 1.0).abs() < 1e-9);
        assert!((ours.value + theirs.value - 1.0).abs() < 1e-12);
    }

    /// With α/2 for each end, wins alone leave the m for which ((1/m)^(n+1) − 1)/((n+1)(1/m − 1)) is below 40.
    #[test]
    fn the_interval_of_wins_alone_ends_where_the_bet_stops_winning() {
        let rate = mean_at_any_time(&[1.0; 10]).unwrap();
        let expected = |m: f64| ((1.0 / m).powi(11) - 1.0) / (11.0 * (1.0 / m - 1.0));
        assert!((expected(rate.low) - 40.0).abs() < 0.05, "{rate}: {}", expected(rate.low));
        assert_eq!((rate.value, rate.high, rate.n), (1.0, 1.0, 10));
        assert_eq!(mean_at_any_time(&[]), None);
    }

    /// Of players who stop as soon as they have won, one in twenty at most wins on a coin.
    #[test]
    fn a_coin_is_called_biased_in_at_most_five_percent_of_games_that_stop_when_they_like() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (games, mut won) = (2000, 0);
        for _ in 0..games {
            let mut capital = Capital::new(BetSide::Above, 0.5);
            let is_won = (0..400).any(|_| {
                // Ties are a fifth of the outcomes.
                let outcome = if rng.random_bool(0.2) {
                    0.5
                } else {
                    f64::from(u8::from(rng.random_bool(0.5)))
                };
                capital.observe(outcome);
                capital.refutes(0.05)
            });
            won += usize::from(is_won);
        }
        assert!(won * 20 <= games, "{won} of {games}");
        // The bound is of use only if it is not far away.
        assert!(games < won * 100, "{won} of {games}");
    }

    #[test]
    fn a_better_model_is_found_out_soon() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let needed = |rate: f64, rng: &mut ChaCha8Rng| {
            let mut capital = Capital::new(BetSide::Above, 0.5);
            (1..=256).find(|_| {
                capital.observe(f64::from(u8::from(rng.random_bool(rate))));
                capital.refutes(0.05)
            })
        };
        let found = (0..500).filter(|_| needed(0.65, &mut rng).is_some()).count();
        assert!(450 < found, "65 % within 256 comparisons: {found} of 500");
        let mut all: Vec<usize> = (0..500).filter_map(|_| needed(0.8, &mut rng)).collect();
        all.sort_unstable();
        assert!(
            all.len() == 500 && all[250] < 32,
            "80 %: {} found, median {}",
            all.len(),
            all[250]
        );
    }

    /// The interval holds the mean at all of twenty moments, not at each of them.
    #[test]
    fn the_sequence_of_intervals_holds_the_mean_all_along() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for rate in [0.1, 0.5, 0.7] {
            let (runs, mut missed) = (200, 0);
            for _ in 0..runs {
                let outcomes: Vec<f64> =
                    (0..100).map(|_| f64::from(u8::from(rng.random_bool(rate)))).collect();
                let misses = |n: usize| !mean_at_any_time(&outcomes[..n]).unwrap().contains(rate);
                missed += usize::from((5..=100).step_by(5).any(misses));
            }
            assert!(missed * 20 <= runs, "{rate}: {missed} of {runs}");
        }
    }
}
