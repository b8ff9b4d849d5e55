//! `[guard]`: what is watched while a policy is trained on scores, and what happens then.

use hearken_objective::guard::{AlarmLimits, Signal};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table, Value};

use super::error::Complaint;
use super::number::{Limit, Share, Steps};
use super::score::ScoreConfig;

/// `[guard]`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// What happens where a signal is beyond its limit.
    pub action: GuardAction,
    /// Of "slow": what the learning rate is multiplied by from then on.
    pub slow_factor: Share,
    /// Iterations that are averaged over; those at the beginning are what is compared with.
    pub window: Steps,
    /// The label of a score of weight 0 that says what is wanted; without it the only score of weight 0 of its own.
    pub held_out: Option<String>,
    /// Standard errors that its moving mean is below its best while the trained score is not; 0 is never.
    pub held_out_drop: Limit,
    /// Times that an ensemble's spread has grown since the beginning; 0 is never.
    pub spread_ratio: Limit,
    /// Share of outliers; 0 is never.
    pub outliers_max: Limit,
    /// KL of a completion, in nats; 0 is never.
    pub kl_max: Limit,
    /// Times that completions have grown or shrunk since the beginning; 0 is never.
    pub length_ratio: Limit,
    /// Rise of the share of repeated text since the beginning; 0 is never.
    pub repeated_rise: Limit,
    /// Share of groups whose scores are all equal; 0 is never.
    pub flat_max: Limit,
}

/// What happens where a signal is beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// Nothing is watched.
    Off,
    /// It is said.
    Warn,
    /// It is said, and the learning rate is lowered.
    Slow,
    /// It is said, and the run ends before it learns from the iteration.
    Stop,
}

impl GuardConfig {
    /// From where on a signal is an alarm.
    pub fn limits(&self) -> AlarmLimits {
        let of = |limit: Limit| (0.0 < *limit).then_some(*limit);
        AlarmLimits {
            window: *self.window,
            held_out_drop: of(self.held_out_drop),
            spread_ratio: of(self.spread_ratio),
            outliers_max: of(self.outliers_max),
            kl_max_nats: of(self.kl_max),
            length_ratio: of(self.length_ratio),
            repeated_rise: of(self.repeated_rise),
            flat_max: of(self.flat_max),
        }
    }

    /// The limits of a configuration's `[guard]`, as it was written down; of one without, those of `defaults`.
    ///
    /// # Panics
    /// If the defaults are no TOML, or lack one.
    pub fn limits_of(config: &Table, defaults: &str) -> AlarmLimits {
        let defaults: Table = defaults.parse().expect("defaults are valid TOML");
        let section = |table: &Table| table.get("guard").and_then(Value::as_table).cloned();
        let (own, defaults) = (section(config), section(&defaults).expect("[guard] has defaults"));
        let of = |name: &str| {
            let own = own.as_ref().and_then(|own| own.get(name)).or_else(|| defaults.get(name));
            let value = own.expect("every limit has a default");
            value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)).unwrap_or(0.0)
        };
        let limit = |signal: Signal| Some(of(signal.limit_name())).filter(|limit| 0.0 < *limit);
        AlarmLimits {
            window: of("window") as u64,
            held_out_drop: limit(Signal::HeldOut),
            spread_ratio: limit(Signal::Spread),
            outliers_max: limit(Signal::Outliers),
            kl_max_nats: limit(Signal::Kl),
            length_ratio: limit(Signal::Length),
            repeated_rise: limit(Signal::Repeated),
            flat_max: limit(Signal::Flat),
        }
    }

    /// Refuses a held-out score that is none.
    ///
    /// # Errors
    /// If no score has the label, or it is trained on.
    pub fn check(&self, scores: &[ScoreConfig]) -> Result<(), Complaint> {
        let Some(label) = &self.held_out else { return Ok(()) };
        let key = "guard.held_out";
        let Some(score) = scores.iter().find(|score| score.label() == label) else {
            let known: Vec<&str> = scores.iter().map(ScoreConfig::label).collect();
            let expected = format!("the label of a [[score]]: {}", known.join(", "));
            return Err(Complaint::unexpected(key, format!("{label:?}"), &expected));
        };
        let expected = "the label of a [[score]] with weight = 0: one that is trained on says nothing of itself";
        Complaint::unless(*score.weight == 0.0, key, format!("{label:?}"), expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_run_are_its_own() {
        let defaults = include_str!("../../../configs/ppo.toml");
        let config: Table = "[guard]\nkl_max = 5\nwindow = 3".parse().unwrap();
        let own = GuardConfig::limits_of(&config, defaults);
        assert_eq!((own.window, own.kl_max_nats, own.flat_max), (3, Some(5.0), Some(0.95)));
        assert_eq!(GuardConfig::limits_of(&Table::new(), defaults).kl_max_nats, None);
    }
}
