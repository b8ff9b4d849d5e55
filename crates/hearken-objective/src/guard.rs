//! When a policy has begun to exploit what scores it: one rule over the numbers of its iterations.
//!
//! Nothing here knows where the numbers come from, so that a run that is going on, a run directory and another
//! program's log are judged alike.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A score that is not trained on falls while the one that is does not.
    HeldOut,
    /// The members of an ensemble grow apart.
    Spread,
    /// Completions leave the cloud of the baseline's.
    Outliers,
    /// The policy is far from its reference.
    Kl,
    /// Completions grow or shrink.
    Length,
    /// Completions repeat themselves.
    Repeated,
    /// All completions of a prompt have one score.
    Flat,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::HeldOut,
        Self::Spread,
        Self::Outliers,
        Self::Kl,
        Self::Length,
        Self::Repeated,
        Self::Flat,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HeldOut => "held_out",
            Self::Spread => "spread",
            Self::Outliers => "outliers",
            Self::Kl => "kl",
            Self::Length => "length",
            Self::Repeated => "repeated",
            Self::Flat => "flat",
        }
    }

    /// The name of its limit among settings.
    pub fn limit_name(self) -> &'static str {
        match self {
            Self::HeldOut => "held_out_drop",
            Self::Spread => "spread_ratio",
            Self::Outliers => "outliers_max",
            Self::Kl => "kl_max",
            Self::Length => "length_ratio",
            Self::Repeated => "repeated_rise",
            Self::Flat => "flat_max",
        }
    }

    fn place(self) -> usize {
        self as usize
    }
}

/// What an iteration's completions say; `None` where that is not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// Optimizer steps made before it.
    pub step: u64,
    /// Mean of the score that is trained on.
    pub score: Option<f64>,
    /// Mean of a score that is not.
    pub held_out: Option<f64>,
    /// Mean standard deviation of the scores of an ensemble's members.
    pub spread: Option<f64>,
    /// Share of outliers.
    pub outliers: Option<f64>,
    /// KL(π ‖ π_ref) of a completion, mean; nats.
    pub kl_nats: Option<f64>,
    /// Mean tokens of a completion.
    pub length: Option<f64>,
    /// Mean share of a completion's n-grams that stand in it before.
    pub repeated: Option<f64>,
    /// Share of groups whose scores are all equal.
    pub flat: Option<f64>,
}

impl Observation {
    /// The number that a signal is about.
    pub fn of(&self, signal: Signal) -> Option<f64> {
        match signal {
            Signal::HeldOut => self.held_out,
            Signal::Spread => self.spread,
            Signal::Outliers => self.outliers,
            Signal::Kl => self.kl_nats,
            Signal::Length => self.length,
            Signal::Repeated => self.repeated,
            Signal::Flat => self.flat,
        }
    }
}

/// From where on a signal is an alarm; `None` is never.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlarmLimits {
    /// Iterations that are averaged over, at least one; those at the beginning are what is compared with.
    pub window: u64,
    /// Standard errors that the held-out score's moving mean is below its best.
    pub held_out_drop: Option<f64>,
    /// Moving mean of the spread over that at the beginning.
    pub spread_ratio: Option<f64>,
    /// Moving mean of the share of outliers.
    pub outliers_max: Option<f64>,
    /// Moving mean of the KL, in nats.
    pub kl_max_nats: Option<f64>,
    /// Moving mean of the length over that at the beginning, or the other way round.
    pub length_ratio: Option<f64>,
    /// Moving mean of the share of repeated text less that at the beginning.
    pub repeated_rise: Option<f64>,
    /// Moving mean of the share of flat groups.
    pub flat_max: Option<f64>,
}

/// A signal beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// Which.
    pub signal: Signal,
    /// Optimizer steps made when it was seen.
    pub step: u64,
    /// What was compared with the limit.
    pub value: f64,
    /// The limit.
    pub limit: f64,
}

/// A sentence with the signal, what was found, and the limit.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, value, limit, .. } = *self;
        write!(f, "signal {}: ", signal.name())?;
        let percent = 100.0 * value;
        match signal {
            Signal::HeldOut => write!(
                f,
                "the held-out score is {value:.1} standard errors below its best, while the trained score is not"
            ),
            Signal::Spread => {
                write!(f, "an ensemble's spread is {value:.2} times that at the beginning")
            }
            Signal::Outliers => {
                write!(f, "{percent:.0} % of the completions are unlike the baseline's")
            }
            Signal::Kl => write!(f, "the policy is {value:.2} nats from its reference"),
            Signal::Length => {
                write!(
                    f,
                    "completions are {value:.2} times as long, or as short, as at the beginning"
                )
            }
            Signal::Repeated => {
                write!(
                    f,
                    "{percent:.0} % more of a completion is repeated text than at the beginning"
                )
            }
            Signal::Flat => {
                write!(f, "{percent:.0} % of the groups have scores that are all equal")
            }
        }?;
        write!(f, " (`guard.{}` = {limit})", signal.limit_name())
    }
}

/// What is remembered of a run: enough to go on, and no more than fits into a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Of each signal, in the order of [`Signal::ALL`].
    signals: [Course; 7],
    score: Course,
    /// The best moving mean of the held-out score, and the trained score's at that time.
    best: Option<(f64, Option<f64>)>,
    /// Which signals have been alarms.
    sounded: [bool; 7],
}

/// How a number has gone so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Course {
    /// Observations.
    n: u64,
    /// Mean of the first ones.
    first: f64,
    /// Moving mean.
    recent: f64,
    /// Moving mean of squared steps away from the moving mean.
    variance: f64,
}

impl Course {
    /// The course with one more number: means over the window until it is full, then exponential ones of the same
    /// center of mass, 2/(window + 1).
    fn with(self, x: f64, window: u64) -> Self {
        let n = self.n + 1;
        let share = (1.0 / n as f64).max(2.0 / (window as f64 + 1.0));
        let off = x - self.recent;
        let first = if n <= window { self.first + (x - self.first) / n as f64 } else { self.first };
        // Nothing is known of the spread before a second number.
        let variance = match self.n {
            0 => 0.0,
            1 => off * off,
            _ => self.variance + share * (off * off - self.variance),
        };
        Self { n, first, recent: self.recent + share * off, variance }
    }

    /// The standard error of the moving mean, of numbers that are independent.
    fn error(self, window: u64) -> f64 {
        let share = 2.0 / (window as f64 + 1.0);
        (self.variance * share / (2.0 - share)).sqrt()
    }
}

/// Watches one more iteration: what is remembered from then on, and the alarms that sound for the first time.
///
/// ```text
/// x̄ = moving mean of x, x̄₀ = mean of the first `window`
/// held out    (best x̄ − x̄) / (√2·standard error) > held_out_drop, while the trained score's mean has not fallen since
/// spread      x̄ / x̄₀ > spread_ratio
/// length      x̄ / x̄₀ or x̄₀ / x̄ > length_ratio
/// repeated    x̄ − x̄₀ > repeated_rise
/// outliers, kl, flat     x̄ > their limit
/// ```
///
/// A signal is silent until there are `window` numbers of it, and sounds once. That a trained score goes on rising
/// while the true one falls is over-optimization itself (Gao et al. 2022, arXiv:2210.10760); the others are signs of
/// it that need no second score.
///
/// ```
/// use hearken_objective::guard::{AlarmLimits, Observation, Signal, Watched, watch};
/// let limits = AlarmLimits {
///     window: 1, held_out_drop: None, spread_ratio: None, outliers_max: None,
///     kl_max_nats: Some(10.0), length_ratio: None, repeated_rise: None, flat_max: None,
/// };
/// let far = Observation { step: 7, kl_nats: Some(12.5), ..Observation::default() };
/// let (watched, alarms) = watch(&Watched::default(), &far, &limits);
/// assert_eq!((alarms[0].signal, alarms[0].step, alarms[0].value), (Signal::Kl, 7, 12.5));
/// assert!(watch(&watched, &far, &limits).1.is_empty()); // once
/// ```
pub fn watch(before: &Watched, seen: &Observation, limits: &AlarmLimits) -> (Watched, Vec<Alarm>) {
    let (mut watched, window) = (*before, limits.window.max(1));
    let finite = |number: Option<f64>| number.filter(|x| x.is_finite());
    if let Some(score) = finite(seen.score) {
        watched.score = watched.score.with(score, window);
    }
    let mut alarms = Vec::new();
    for signal in Signal::ALL {
        let place = signal.place();
        let Some(x) = finite(seen.of(signal)) else { continue };
        let course = watched.signals[place].with(x, window);
        watched.signals[place] = course;
        if course.n < window {
            continue;
        }
        let (value, limit) = match signal {
            Signal::HeldOut => (fall(&mut watched, course, window), limits.held_out_drop),
            Signal::Spread => (ratio(course.recent, course.first), limits.spread_ratio),
            Signal::Outliers => (course.recent, limits.outliers_max),
            Signal::Kl => (course.recent, limits.kl_max_nats),
            Signal::Length => {
                let grown = ratio(course.recent, course.first);
                (grown.max(ratio(course.first, course.recent)), limits.length_ratio)
            }
            Signal::Repeated => (course.recent - course.first, limits.repeated_rise),
            Signal::Flat => (course.recent, limits.flat_max),
        };
        let Some(limit) = limit.filter(|limit| *limit < value) else { continue };
        if !watched.sounded[place] {
            watched.sounded[place] = true;
            alarms.push(Alarm { signal, step: seen.step, value, limit });
        }
    }
    (watched, alarms)
}

/// By how many standard errors the held-out score is below its best, while the trained score is not below what it
/// was then; 0 otherwise.
fn fall(watched: &mut Watched, held_out: Course, window: u64) -> f64 {
    let score = (0 < watched.score.n).then_some(watched.score.recent);
    let Some((best, then)) = watched.best.filter(|(best, _)| held_out.recent < *best) else {
        watched.best = Some((held_out.recent, score));
        return 0.0;
    };
    if score.zip(then).is_some_and(|(now, then)| now < then) {
        return 0.0;
    }
    // Both means have an error.
    let error = std::f64::consts::SQRT_2 * held_out.error(window);
    if error == 0.0 { f64::INFINITY } else { (best - held_out.recent) / error }
}

/// a/b of two numbers that are not below 0; 1 where both are 0.
fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 && b == 0.0 { 1.0 } else { a / b }
}

/// The share of a completion's n-grams that stand in it before: 0 of one that is shorter than two n-grams.
///
/// # Panics
/// If n is 0.
///
/// ```
/// use hearken_objective::guard::repeated_share;
/// assert_eq!(repeated_share(&[1, 2, 3, 1, 2, 3], 2), 0.4); // 12 and 23, of 12 23 31 12 23
/// assert_eq!(repeated_share(&[1, 2], 4), 0.0);
/// ```
pub fn repeated_share(ids: &[u32], n: usize) -> f64 {
    assert!(0 < n, "an n-gram has at least one token");
    let grams: Vec<&[u32]> = ids.windows(n).collect();
    if grams.is_empty() {
        return 0.0;
    }
    let all = grams.len();
    let mut distinct = grams;
    distinct.sort_unstable();
    distinct.dedup();
    (all - distinct.len()) as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::uniform;

    const LIMITS: AlarmLimits = AlarmLimits {
        window: 5,
        held_out_drop: Some(4.0),
        spread_ratio: Some(2.0),
        outliers_max: Some(0.5),
        kl_max_nats: Some(20.0),
        length_ratio: Some(2.0),
        repeated_rise: Some(0.2),
        flat_max: Some(0.9),
    };

    /// The alarms of a run, iteration after iteration.
    fn alarms(run: impl IntoIterator<Item = Observation>) -> Vec<Alarm> {
        let (mut watched, mut all) = (Watched::default(), Vec::new());
        for (step, seen) in run.into_iter().enumerate() {
            let seen = Observation { step: step as u64, ..seen };
            let (next, found) = watch(&watched, &seen, &LIMITS);
            watched = next;
            all.extend(found);
        }
        all
    }

    fn signals(run: impl IntoIterator<Item = Observation>) -> Vec<Signal> {
        alarms(run).into_iter().map(|alarm| alarm.signal).collect()
    }

    /// A steady run, in which `change` makes something of the iteration.
    fn run(change: impl Fn(f64, f64, &mut Observation)) -> Vec<Observation> {
        let noise = uniform(11, 100);
        (0..100)
            .map(|at| {
                let time = at as f64 / 100.0;
                let mut seen = Observation {
                    score: Some(time + 0.1 * noise[at]),
                    held_out: Some(0.5 * time + 0.1 * noise[99 - at]),
                    spread: Some(0.3),
                    outliers: Some(0.05),
                    kl_nats: Some(10.0 * time),
                    length: Some(20.0 + 10.0 * time),
                    repeated: Some(0.1),
                    flat: Some(0.2),
                    ..Observation::default()
                };
                change(time, noise[at], &mut seen);
                seen
            })
            .collect()
    }

    #[test]
    fn a_run_that_learns_is_silent() {
        assert_eq!(alarms(run(|_, _, _| {})), []);
    }

    #[test]
    fn each_signal_sounds_alone_once_and_near_where_it_turned() {
        type Change = fn(f64, f64, &mut Observation);
        let cases: [(Signal, Change); 8] = [
            (Signal::HeldOut, |time, noise, seen| {
                seen.held_out = Some(0.5 - (time - 0.5).abs() + 0.02 * noise);
            }),
            (Signal::Spread, |time, _, seen| seen.spread = Some(0.3 + time)),
            (Signal::Outliers, |time, _, seen| seen.outliers = Some(time)),
            (Signal::Kl, |time, _, seen| seen.kl_nats = Some(40.0 * time)),
            (Signal::Length, |time, _, seen| seen.length = Some(20.0 + 60.0 * time)),
            (Signal::Length, |time, _, seen| seen.length = Some(20.0 - 15.0 * time)),
            (Signal::Repeated, |time, _, seen| seen.repeated = Some(0.1 + 0.5 * time)),
            (Signal::Flat, |time, _, seen| seen.flat = Some((2.0 * time).min(1.0))),
        ];
        for (signal, change) in cases {
            let found = alarms(run(change));
            assert_eq!(found.len(), 1, "{signal:?}: {found:?}");
            assert_eq!(found[0].signal, signal);
            assert!(
                found[0].limit < found[0].value && (20..80).contains(&found[0].step),
                "{found:?}"
            );
        }
    }

    /// What falls with the score is a policy that has become worse, not one that exploits it.
    #[test]
    fn a_held_out_score_that_falls_with_the_trained_one_is_silent() {
        let both = run(|time, noise, seen| {
            let peak = 0.5 - (time - 0.5).abs();
            seen.held_out = Some(peak + 0.02 * noise);
            seen.score = Some(2.0 * peak);
        });
        assert_eq!(signals(both), []);
    }

    #[test]
    fn numbers_that_are_none_and_numbers_that_are_missing_are_passed_over() {
        let broken = run(|time, _, seen| {
            seen.kl_nats = Some(if time < 0.5 { f64::NAN } else { 1.0 });
            seen.held_out = None;
            seen.score = Some(f64::INFINITY);
        });
        assert_eq!(signals(broken), []);
    }

    #[test]
    fn nothing_sounds_before_the_window_is_full() {
        let far = |_| Observation { kl_nats: Some(100.0), ..Observation::default() };
        assert_eq!(signals((0..4).map(far)), []);
        assert_eq!(signals((0..5).map(far)), [Signal::Kl]);
    }

    #[test]
    fn repetition_is_seen_where_it_is() {
        assert_eq!(repeated_share(&[], 4), 0.0);
        assert_eq!(repeated_share(&[7; 10], 4), 6.0 / 7.0);
        let ids: Vec<u32> = (0..50).collect();
        assert_eq!(repeated_share(&ids, 4), 0.0);
    }
}
