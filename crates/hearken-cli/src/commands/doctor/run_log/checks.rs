//! What can be told from the numbers of a run.

use hearken_stats::proportion::wilson;
use serde_json::Value;
use toml::Table;

use super::series::MetricRecords;

/// A gradient this many times the median is an outlier worth a look.
const SPIKE: f64 = 100.0;
/// Gradients clipped in more than this share of the steps: the norm limit sets the step, not the loss.
const CLIPPED_SHARE: f64 = 0.9;
/// An evaluation loss this far above its best is overfitting.
const OVERFIT: f64 = 1.05;
/// The first update starts from the sampled policy: ratios are 1 up to rounding.
const RATIO_TOLERANCE: f64 = 1e-3;
/// Entropy below this share of the first is a policy that has become almost deterministic.
const COLLAPSE: f64 = 0.1;
/// A sampled KL may dip below 0 by chance, not by this many nats on average.
const KL_NEGATIVE: f64 = -0.5;
/// More groups than this whose scores are all equal: most of what is sampled teaches nothing.
const SILENT_GROUPS: f64 = 0.9;
/// Accuracies on pairs with longer and with shorter chosen completions that differ by more than this
/// say that length is what the reward model reads.
const LENGTH_GAP: f64 = 0.3;
/// A reward model that orders fewer than this of the pairs of one side rightly fails on that side,
/// whatever it does on the other: coin tosses would order half of them rightly.
const SIDE_FLOOR: f64 = 0.4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckVerdict {
    Fine,
    Look,
}

#[derive(Debug)]
pub(super) struct Finding {
    pub(super) verdict: CheckVerdict,
    pub(super) text: String,
}

/// Runs the checks whose numbers are there.
pub(super) fn all(records: &MetricRecords, config: &Table) -> Vec<Finding> {
    let checks = [
        steps(records),
        finite(records),
        loss(records),
        spikes(records),
        clipping(records, config),
        overfitting(records),
        reward_accuracy(records),
        reward_length(records),
        first_ratio(records),
        kl_sign(records),
        entropy(records),
        critic(records),
        ended(records),
        score(records),
        groups(records),
        pairs(records),
    ];
    checks.into_iter().flatten().collect()
}

fn finding(fine: bool, text: String) -> Finding {
    let verdict = if fine { CheckVerdict::Fine } else { CheckVerdict::Look };
    Finding { verdict, text }
}

fn steps(records: &MetricRecords) -> Option<Finding> {
    let steps: Vec<u64> =
        records.of_steps().filter_map(|record| record.get("step")?.as_u64()).collect();
    let broken = steps.windows(2).find(|pair| pair[1] <= pair[0]);
    broken.map(|pair| finding(false, format!("step {} is followed by step {}", pair[0], pair[1])))
}

fn finite(records: &MetricRecords) -> Option<Finding> {
    for key in ["loss", "grad_norm"] {
        if records.series(key).values().iter().any(|value| !value.is_finite()) {
            return Some(finding(false, format!("`{key}` is not finite somewhere")));
        }
    }
    (0 < records.steps()).then_some(())?;
    Some(finding(true, "loss and gradient norm are finite everywhere".into()))
}

fn loss(records: &MetricRecords) -> Option<Finding> {
    // A policy loss says nothing by its height.
    if records.last("objective/kl").is_some() {
        return None;
    }
    let (first, last) = records.series("loss").ends()?;
    let text = format!("the loss went from {first:.4} to {last:.4}");
    Some(finding(last < first, text))
}

fn spikes(records: &MetricRecords) -> Option<Finding> {
    let norms = records.series("grad_norm");
    let (median, max) = (norms.median()?, norms.max()?);
    let text = format!("the gradient norm is {median:.3} in the median and {max:.3} at most");
    Some(finding(max <= SPIKE * median, text))
}

fn clipping(records: &MetricRecords, config: &Table) -> Option<Finding> {
    let limit = config.get("optimizer")?.get("max_grad_norm")?;
    let limit = limit.as_float().or_else(|| limit.as_integer().map(|whole| whole as f64))?;
    let norms = records.series("grad_norm");
    let clipped = norms.values().iter().filter(|&&norm| limit < norm).count();
    if limit <= 0.0 || norms.values().is_empty() {
        return None;
    }
    let share = clipped as f64 / norms.values().len() as f64;
    let text = format!("gradients were clipped in {:.0} % of the steps", 100.0 * share);
    Some(finding(share <= CLIPPED_SHARE, text))
}

/// The value of an estimate, or a plain number.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.get("value")?.as_f64())
}

fn overfitting(records: &MetricRecords) -> Option<Finding> {
    let losses: Vec<f64> =
        records.evaluations("eval_loss").iter().filter_map(|v| number(v)).collect();
    let best = losses.iter().copied().min_by(f64::total_cmp)?;
    let last = *losses.last()?;
    let text = format!("the evaluation loss is {last:.4} at the end, {best:.4} at its best");
    Some(finding(last <= OVERFIT * best, text))
}

fn reward_accuracy(records: &MetricRecords) -> Option<Finding> {
    let accuracy = records.last("eval_accuracy")?;
    let (value, low) = (number(accuracy)?, accuracy.get("low").and_then(Value::as_f64)?);
    let n = accuracy.get("n").and_then(Value::as_u64).unwrap_or(0);
    let text = format!(
        "the reward model orders {:.1} % of {n} held-out pairs rightly (at least {:.1} %)",
        100.0 * value,
        100.0 * low
    );
    Some(finding(0.5 < low, text))
}

fn reward_length(records: &MetricRecords) -> Option<Finding> {
    let bins = records.last("eval_accuracy_by_length")?.as_array()?;
    // Bins where chosen is shorter end at or below 0, those where it is longer begin above.
    let counted = |longer: bool| {
        let of_side = bins.iter().filter(|bin| {
            let from = bin.get("from").and_then(Value::as_i64);
            let below = bin.get("below").and_then(Value::as_i64);
            if longer {
                from.is_some_and(|from| 0 < from)
            } else {
                below.is_some_and(|below| below <= 0)
            }
        });
        let (mut hits, mut pairs) = (0.0, 0.0);
        for bin in of_side {
            let accuracy = bin.get("accuracy")?;
            let n = accuracy.get("n")?.as_f64()?;
            hits += n * number(accuracy).unwrap_or(0.0);
            pairs += n;
        }
        (0.0 < pairs).then_some((hits, pairs))
    };
    let sides = [counted(true)?, counted(false)?];
    let [longer, shorter] = sides.map(|(hits, pairs)| hits / pairs);
    let text = format!(
        "accuracy is {:.1} % where chosen is longer, {:.1} % where it is shorter",
        100.0 * longer,
        100.0 * shorter
    );
    // Of many pairs, a share a little below that of coin tosses is no chance either.
    let is_below_chance = |(hits, pairs): (f64, f64)| {
        wilson(hits.min(pairs), pairs as usize).is_some_and(|share| share.high < 0.5)
    };
    let fine = (longer - shorter).abs() <= LENGTH_GAP
        && SIDE_FLOOR <= longer.min(shorter)
        && !sides.into_iter().any(is_below_chance);
    Some(finding(fine, text))
}

fn first_ratio(records: &MetricRecords) -> Option<Finding> {
    let ratio = records.series("val/ratio").first()?;
    let clipped = records.series("policy/clipfrac_avg").first().unwrap_or(0.0);
    let text =
        format!("before the first update the ratio is {ratio:.6} and {clipped:.4} is clipped");
    Some(finding((ratio - 1.0).abs() <= RATIO_TOLERANCE && clipped == 0.0, text))
}

fn kl_sign(records: &MetricRecords) -> Option<Finding> {
    let kl = records.series("objective/kl");
    let (mean, last) = (kl.mean()?, kl.last()?);
    let text = format!("KL to the reference is {mean:.3} nats on average, {last:.3} at the end");
    Some(finding(KL_NEGATIVE <= mean, text))
}

fn entropy(records: &MetricRecords) -> Option<Finding> {
    // A model that learns to imitate becomes surer rightly.
    records.last("objective/kl")?;
    // Of a completion where that is recorded, else of a token.
    let entropy = ["objective/entropy", "entropy"].map(|key| records.series(key).ends());
    let (first, last) = entropy.into_iter().flatten().next()?;
    let text = format!("the entropy went from {first:.3} to {last:.3}");
    Some(finding(COLLAPSE * first <= last, text))
}

fn critic(records: &MetricRecords) -> Option<Finding> {
    let (_, last) = records.series("val/explained_variance").ends()?;
    let text =
        format!("the critic explains {:.0} % of the returns' variance at the end", 100.0 * last);
    Some(finding(0.0 < last, text))
}

fn ended(records: &MetricRecords) -> Option<Finding> {
    let ended = records.series("completions/share_ended");
    let cut_off = records.series("completions/clipped_ratio");
    let (last, least) = match (ended.last(), ended.min()) {
        (Some(last), Some(least)) => (last, least),
        _ => (1.0 - cut_off.last()?, 1.0 - cut_off.max()?),
    };
    let text = format!(
        "{:.0} % of the completions end by themselves at the end of the run, {:.0} % at least",
        100.0 * last,
        100.0 * least
    );
    Some(finding(0.0 < last, text))
}

/// PPO writes `objective/scores`, GRPO `reward`.
fn score(records: &MetricRecords) -> Option<Finding> {
    let scores = ["objective/scores", "reward"].map(|key| records.series(key).ends());
    let (first, last) = scores.into_iter().flatten().next()?;
    Some(finding(first < last, format!("the score went from {first:.4} to {last:.4}")))
}

fn groups(records: &MetricRecords) -> Option<Finding> {
    let silent = records.series("frac_reward_zero_std").mean()?;
    let text = format!("the scores are all equal in {:.0} % of the groups", 100.0 * silent);
    Some(finding(silent <= SILENT_GROUPS, text))
}

/// A policy that learns preferences raises the chosen completions above the rejected ones.
fn pairs(records: &MetricRecords) -> Option<Finding> {
    let (first, last) = records.series("rewards/margins").ends()?;
    let text = format!("the margin of the implicit rewards went from {first:.4} to {last:.4}");
    Some(finding(first < last, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn verdicts(records: Vec<Value>) -> Vec<(CheckVerdict, String)> {
        let findings = all(&MetricRecords::new(records), &Table::new());
        findings.into_iter().map(|finding| (finding.verdict, finding.text)).collect()
    }

    #[test]
    fn a_falling_loss_is_fine_and_a_rising_one_is_not() {
        let run = |losses: [f64; 2]| {
            let record = |(index, loss)| json!({"step": index + 1, "loss": loss, "grad_norm": 1.0});
            verdicts(losses.into_iter().enumerate().map(record).collect())
        };
        assert!(run([2.0, 1.0]).iter().all(|(verdict, _)| *verdict == CheckVerdict::Fine));
        let worse = run([1.0, 2.0]);
        assert!(
            worse
                .iter()
                .any(|(verdict, text)| *verdict == CheckVerdict::Look && text.contains("loss went"))
        );
    }

    #[test]
    fn a_first_ratio_other_than_one_and_a_negative_kl_are_found() {
        let record = json!({
            "step": 1, "loss": 0.0, "grad_norm": 1.0, "val/ratio": 1.1, "policy/clipfrac_avg": 0.0,
            "objective/kl": -3.0,
        });
        let found = verdicts(vec![record]);
        let looks: Vec<&String> = found
            .iter()
            .filter(|(verdict, _)| *verdict == CheckVerdict::Look)
            .map(|(_, text)| text)
            .collect();
        assert_eq!(looks.len(), 2, "{looks:?}");
    }

    /// GRPO's names are not PPO's.
    #[test]
    fn a_run_with_groups_is_judged_by_its_own_names() {
        let run = |rewards: [f64; 2], silent: f64, cut_off: f64| {
            let record = |(index, reward)| {
                json!({
                    "step": index + 1, "loss": 0.0, "grad_norm": 1.0, "objective/kl": 1.0,
                    "reward": reward, "frac_reward_zero_std": silent, "entropy": 1.0,
                    "completions/clipped_ratio": cut_off, "val/ratio": 1.0,
                })
            };
            verdicts(rewards.into_iter().enumerate().map(record).collect())
        };
        let fine = run([0.1, 0.4], 0.2, 0.5);
        assert!(fine.iter().all(|(verdict, _)| *verdict == CheckVerdict::Fine), "{fine:?}");
        for part in ["score went from 0.1000 to 0.4000", "20 % of the groups", "50 % of the"] {
            assert!(fine.iter().any(|(_, text)| text.contains(part)), "{part} in {fine:?}");
        }
        let worse = run([0.4, 0.1], 1.0, 1.0);
        let looks = worse.iter().filter(|(verdict, _)| *verdict == CheckVerdict::Look).count();
        assert_eq!(looks, 3, "{worse:?}");
    }

    #[test]
    fn margins_that_fall_are_found() {
        let record = |step, margin| json!({"step": step, "loss": 1.0 / f64::from(step), "rewards/margins": margin, "grad_norm": 1.0});
        let found = verdicts(vec![record(1, 0.5), record(2, -0.5)]);
        let look = found.iter().find(|(verdict, _)| *verdict == CheckVerdict::Look).unwrap();
        assert!(look.1.contains("margin"), "{}", look.1);
    }

    #[test]
    fn a_reward_model_that_reads_length_is_found() {
        let bin = |from: Option<i64>, below: Option<i64>, value: f64| json!({"from": from, "below": below, "accuracy": {"value": value, "low": 0.4, "high": 1.0, "n": 50}});
        let record = json!({
            "step": 1,
            "eval_accuracy": {"value": 0.6, "low": 0.55, "high": 0.65, "n": 100},
            "eval_accuracy_by_length": [bin(None, Some(0), 0.25), bin(Some(1), None, 0.95)],
        });
        let found = verdicts(vec![record]);
        assert_eq!(found[0].0, CheckVerdict::Fine, "{}", found[0].1);
        assert_eq!(found[1].0, CheckVerdict::Look, "{}", found[1].1);
    }

    #[test]
    fn an_accuracy_near_zero_on_either_side_is_found() {
        let bin = |from: Option<i64>, below: Option<i64>, value: f64| json!({"from": from, "below": below, "accuracy": {"value": value, "low": 0.0, "high": 1.0, "n": 50}});
        let verdict = |shorter: f64, longer: f64| {
            let bins = [bin(None, Some(0), shorter), bin(Some(1), None, longer)];
            let record = json!({"step": 1, "eval_accuracy_by_length": bins});
            verdicts(vec![record])[0].0
        };
        assert_eq!(verdict(1.0, 0.0), CheckVerdict::Look);
        assert_eq!(verdict(0.0, 1.0), CheckVerdict::Look);
        assert_eq!(verdict(0.0, 0.0), CheckVerdict::Look);
        assert_eq!(verdict(0.1, 0.3), CheckVerdict::Look);
        assert_eq!(verdict(0.6, 0.7), CheckVerdict::Fine);
    }

    #[test]
    fn an_accuracy_below_that_of_coin_tosses_is_found_where_there_are_many_pairs() {
        let bin = |from: Option<i64>, below: Option<i64>, value: f64, n: u64| json!({"from": from, "below": below, "accuracy": {"value": value, "low": 0.0, "high": 1.0, "n": n}});
        let verdict = |n: u64| {
            let bins = [bin(None, Some(0), 0.44, n), bin(Some(1), None, 0.7, n)];
            let record = json!({"step": 1, "eval_accuracy_by_length": bins});
            verdicts(vec![record])[0].0
        };
        assert_eq!(verdict(25), CheckVerdict::Fine);
        assert_eq!(verdict(2500), CheckVerdict::Look);
    }

    #[test]
    fn numbers_that_are_none_and_steps_out_of_order_are_found() {
        let found = verdicts(vec![
            json!({"step": 2, "loss": 1.0, "grad_norm": 1.0}),
            json!({"step": 1, "loss": null, "grad_norm": 1.0}),
        ]);
        assert!(found[0].1.contains("step 2 is followed by step 1"));
        assert!(found[1].1.contains("not finite"));
    }
}
