//! Whether a policy has begun to exploit what scores it, as its log tells, by the rule that runs are watched by.

use hearken_objective::Mean;
use hearken_objective::guard::{Alarm, AlarmLimits, Observation, Signal, Watched, watch};
use serde_json::Value;

/// What the records of a log say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signs {
    /// Signals beyond their limits, in the order of their steps.
    pub alarms: Vec<Alarm>,
    /// Signals that the log has numbers of.
    pub watched: Vec<Signal>,
    /// Iterations that it has numbers of.
    pub iterations: u64,
}

/// Watches the records of a log one after the other. `held_out` are the names that the score which nothing is trained
/// on may have.
pub fn signs(records: &[Value], limits: &AlarmLimits, held_out: &[String]) -> Signs {
    let (mut watched, mut signs) = (Watched::default(), Signs::default());
    let mut last = None;
    for record in records {
        // What concerns an iteration is in each of its steps.
        let iteration = record.get("iteration").and_then(Value::as_u64);
        if iteration.is_some() && iteration == last {
            continue;
        }
        last = iteration.or(last);
        let observation = observation(record, held_out);
        let named = Signal::ALL.into_iter().filter(|signal| observation.of(*signal).is_some());
        let named: Vec<Signal> = named.collect();
        signs.iterations += u64::from(!named.is_empty());
        signs.watched.extend(named);
        let (next, found) = watch(&watched, &observation, limits);
        watched = next;
        signs.alarms.extend(found);
    }
    signs.watched = Signal::ALL.into_iter().filter(|one| signs.watched.contains(one)).collect();
    signs
}

/// What a record says, under the names of PPO, GRPO and DPO.
fn observation(record: &Value, held_out: &[String]) -> Observation {
    let of = |names: &[&str]| names.iter().find_map(|name| number(record.get(*name)?));
    let all = |ends: [&str; 2]| -> Option<f64> {
        let object = record.as_object()?;
        let named = object.iter().filter(|(name, _)| ends.iter().any(|end| name.ends_with(end)));
        named.filter_map(|(_, value)| number(value)).collect::<Mean>().value()
    };
    Observation {
        step: record.get("step").and_then(Value::as_u64).unwrap_or(0),
        score: of(&["objective/scores", "reward"]),
        held_out: held_out.iter().find_map(|name| number(record.get(name)?)),
        spread: all(["/spread", "/spread/mean"]),
        outliers: all(["/outliers", "/outliers/mean"]),
        kl_nats: of(&["objective/kl"]),
        length: of(&["completions/mean_length"]),
        repeated: of(&["completions/repeated_share"]),
        flat: of(&["frac_reward_zero_std", "frac_ties"]),
    }
}

/// The value of an estimate, or a plain number.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.get("value")?.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: AlarmLimits = AlarmLimits {
        window: 10,
        held_out_drop: Some(4.0),
        spread_ratio: Some(3.0),
        outliers_max: Some(0.5),
        kl_max_nats: None,
        length_ratio: Some(3.0),
        repeated_rise: Some(0.3),
        flat_max: Some(0.95),
    };

    fn run(of: impl Fn(f64) -> Value) -> Vec<Value> {
        (0..60).map(|at| of(f64::from(at))).collect()
    }

    #[test]
    fn a_score_that_rises_while_the_held_out_one_falls_is_an_alarm_with_its_step() {
        let records = run(|at| {
            let truth = if at < 30.0 { at } else { 60.0 - at };
            json!({
                "step": at as u64, "loss": 0.0, "reward": at, "val/truth": truth, "objective/kl": 1.0,
            })
        });
        let found = signs(&records, &LIMITS, &["none".to_owned(), "val/truth".to_owned()]);
        assert_eq!(found.alarms.len(), 1, "{found:?}");
        let Alarm { signal, step, .. } = found.alarms[0];
        assert!(signal == Signal::HeldOut && (31..50).contains(&step), "{found:?}");
        let without = signs(&records, &LIMITS, &[]);
        assert_eq!((without.alarms, without.watched), (vec![], vec![Signal::Kl]));
        assert_eq!(without.iterations, 60);
    }

    #[test]
    fn names_of_all_trainers_are_known_and_an_iteration_counts_once() {
        let records = run(|at| {
            json!({
                "step": at as u64, "loss": 0.0, "iteration": at as u64 / 12, "objective/kl": 1.0,
                "rewards/panel/spread/mean": 0.5, "scores/cloud/outliers": 0.1, "frac_ties": 0.5,
                "completions/mean_length": 9.0, "completions/repeated_share": 0.0,
            })
        });
        let found = signs(&records, &LIMITS, &[]);
        assert_eq!((found.iterations, found.watched.len()), (5, 6));
        let supervised = run(|at| json!({"step": at as u64, "loss": 1.0 / (1.0 + at)}));
        assert_eq!(signs(&supervised, &LIMITS, &[]), Signs::default());
    }
}
