//! What an iteration says of over-optimization, as [`hearken_objective::guard`] watches it.

use hearken_config::{GuardAction, GuardConfig, ScoreConfig, SourceConfig};
use hearken_objective::Mean;
use hearken_objective::guard::{Observation, Watched, repeated_share, watch};
use hearken_run::progress::Progress;

use super::Rollout;

/// Tokens of the n-grams that are looked for in a completion again.
pub(crate) const GRAM: usize = 4;

/// What trainers find of an iteration, whatever they call it in their metrics.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// Mean score that is trained on.
    pub score: Option<f64>,
    /// KL(π ‖ π_ref) of a completion; nats.
    pub kl_nats: f64,
    /// Mean tokens of a completion.
    pub length: f64,
    /// Mean share of repeated text.
    pub repeated: f64,
    /// Share of groups whose scores are all equal; `None` where completions are not compared.
    pub flat: Option<f64>,
    /// Mean of each measure of the sources, by its name.
    pub sources: Vec<(String, f64)>,
}

/// The mean share of repeated text in completions.
pub(crate) fn repeated<'r>(rollouts: impl IntoIterator<Item = &'r Rollout>) -> f64 {
    let share = |one: &Rollout| repeated_share(&one.completion.ids, GRAM);
    rollouts.into_iter().map(share).collect::<Mean>().value().unwrap_or(0.0)
}

/// Means of measures, as metrics name them: between `before` and `behind`.
pub(crate) fn measures<'m>(
    metrics: impl IntoIterator<Item = (&'m String, &'m f64)>,
    before: &str,
    behind: &str,
) -> Vec<(String, f64)> {
    let inner =
        |name: &'m String| Some(name.strip_prefix(before)?.strip_suffix(behind)?.to_owned());
    metrics.into_iter().filter_map(|(name, mean)| Some((inner(name)?, *mean))).collect()
}

/// Which of the measures is a held-out score, if one is: the one that is named, or the only score of weight 0 that is no
/// measurement of distance.
fn held_out<'c>(config: &'c GuardConfig, scores: &'c [ScoreConfig]) -> Option<&'c str> {
    let is_score = |score: &&ScoreConfig| {
        *score.weight == 0.0 && !matches!(score.source, SourceConfig::Distance { .. })
    };
    let mut only = scores.iter().filter(is_score).map(ScoreConfig::label);
    let first = only.next().filter(|_| only.next().is_none());
    config.held_out.as_deref().or(first)
}

/// An iteration as it is watched.
fn observation(
    signs: &Signs,
    step: u64,
    config: &GuardConfig,
    scores: &[ScoreConfig],
) -> Observation {
    let of = |wanted: &str| signs.sources.iter().find(|(name, _)| name == wanted).map(|one| one.1);
    let all = |end: &str| {
        let named = signs.sources.iter().filter(|(name, _)| name.ends_with(end));
        named.map(|one| one.1).collect::<Mean>().value()
    };
    Observation {
        step,
        score: signs.score,
        held_out: held_out(config, scores).and_then(of),
        spread: all("/spread"),
        outliers: all("/outliers"),
        kl_nats: Some(signs.kl_nats),
        length: Some(signs.length),
        repeated: Some(signs.repeated),
        flat: signs.flat,
    }
}

/// What comes of an iteration that was watched.
pub(crate) struct GuardVerdict {
    /// What is remembered.
    pub(crate) watched: Watched,
    /// What the learning rate is multiplied by.
    pub(crate) factor: f64,
    /// Whether the run ends.
    pub(crate) ends: bool,
    /// Which signals are alarms, as sentences, and what follows.
    pub(crate) says: Vec<String>,
}

/// Watches an iteration before `step` more than those that are made, and says which signals are alarms.
pub(super) fn look(
    watched: &Watched,
    signs: &Signs,
    step: u64,
    iteration: u64,
    config: &GuardConfig,
    scores: &[ScoreConfig],
    progress: &mut dyn Progress,
) -> GuardVerdict {
    let found = judge(watched, &observation(signs, step, config, scores), config);
    for says in &found.says {
        progress.note(&format!("step {step}, iteration {iteration}: {says}"));
    }
    found
}

/// Watches what was seen, and says which signals are alarms.
pub(crate) fn judge(watched: &Watched, seen: &Observation, config: &GuardConfig) -> GuardVerdict {
    if config.action == GuardAction::Off {
        return GuardVerdict { watched: *watched, factor: 1.0, ends: false, says: Vec::new() };
    }
    let (watched, alarms) = watch(watched, seen, &config.limits());
    let (mut factor, ends) = (1.0, config.action == GuardAction::Stop && !alarms.is_empty());
    let mut says = Vec::new();
    for alarm in &alarms {
        let then = match config.action {
            GuardAction::Stop => "; the run ends here",
            GuardAction::Slow => {
                factor *= *config.slow_factor;
                "; the learning rate is lowered"
            }
            GuardAction::Warn | GuardAction::Off => "",
        };
        says.push(format!("{alarm}{then}"));
    }
    GuardVerdict { watched, factor, ends, says }
}
