//! Whether the policy of a round takes the place of the current one: bets on its wins, and limits.

use std::collections::{BTreeMap, BTreeSet};

use hearken_stats::betting::{BetSide, Capital, mean_at_any_time};
use hearken_stats::mean::normal_mean;
use regex::Regex;

use super::config::GateConfig;
use super::records::{Check, GateReport, HeldOutComparison};

/// Bets on both sides of "the new policy wins half of the time".
pub(super) struct Bets {
    above: Capital,
    below: Capital,
    alpha: f64,
    comparisons: usize,
}

impl Bets {
    /// Before the first comparison.
    pub(super) fn new(alpha: f64) -> Self {
        let [above, below] = [BetSide::Above, BetSide::Below].map(|side| Capital::new(side, 0.5));
        Self { above, below, alpha, comparisons: 0 }
    }

    /// The bets on outcomes in their order, until they are decided: what comes after that changes nothing.
    pub(super) fn on(outcomes: &[f64], alpha: f64) -> Self {
        let mut bets = Self::new(alpha);
        for outcome in outcomes {
            if bets.are_decided() {
                break;
            }
            bets.above.observe(*outcome);
            bets.below.observe(*outcome);
            bets.comparisons += 1;
        }
        bets
    }

    fn is_better(&self) -> bool {
        self.above.refutes(self.alpha)
    }

    fn is_worse(&self) -> bool {
        self.below.refutes(self.alpha)
    }

    /// Whether more comparisons would change nothing.
    pub(super) fn are_decided(&self) -> bool {
        self.is_better() || self.is_worse()
    }
}

/// Weighs a new policy by the outcomes of comparisons, each with the number of its prompt and in the order in which they were made, and by its
/// completions.
pub(super) fn weigh(
    config: &GateConfig,
    compared: &[HeldOutComparison],
    outcomes: &[(usize, f64)],
) -> GateReport {
    let alpha = *config.alpha;
    let values: Vec<f64> = outcomes.iter().map(|(_, outcome)| *outcome).collect();
    let bets = Bets::on(&values, alpha);
    let win_rate = mean_at_any_time(&values);
    let of =
        |part: &dyn Fn(&HeldOutComparison) -> f64| compared.iter().map(part).collect::<Vec<f64>>();
    let kl_nats = normal_mean(&of(&|one| one.kl_nats));
    let [tokens_current, tokens_candidate] =
        [0, 1].map(|side| normal_mean(&of(&|one| one.tokens[side] as f64)));
    let differences: Option<Vec<f64>> = compared
        .iter()
        .map(|one| one.scores.map(|[current, candidate]| candidate - current))
        .collect();
    let rate = win_rate.map_or_else(|| "nothing was compared".to_owned(), |rate| rate.to_string());
    let mut checks = vec![Check {
        name: "better".to_owned(),
        passed: bets.is_better(),
        says: format!(
            "win rate {rate}; after {} comparisons the bets on more than ½ are worth {:.2}, expected {:.2} at some time",
            bets.comparisons,
            bets.above.value(),
            1.0 / alpha
        ),
    }];
    if let (Some(limit), Some(kl)) = (config.kl_max, kl_nats) {
        checks.push(at_most("kl", "KL to the first policy, nats per completion", kl.value, *limit));
    }
    if let (Some(limit), Some(current), Some(candidate)) =
        (config.length_ratio_max, tokens_current, tokens_candidate)
    {
        let ratio = candidate.value / current.value.max(1.0);
        checks.push(at_most(
            "length",
            "mean length as a multiple of the current policy's",
            ratio,
            *limit,
        ));
    }
    checks.push(distinct(compared, *config.distinct_min));
    checks.extend(refusals(config, compared));
    checks.extend(categories(config, compared, outcomes));
    GateReport {
        win_rate,
        log_e_value: bets.above.log_value(),
        comparisons: bets.comparisons,
        kl_nats,
        tokens_current,
        tokens_candidate,
        score_difference: differences.and_then(|differences| normal_mean(&differences)),
        passed: checks.iter().all(|check| check.passed),
        is_worse: bets.is_worse(),
        checks,
    }
}

fn at_most(name: &str, what: &str, found: f64, limit: f64) -> Check {
    let says = format!("{what}: {found:.3}, expected at most {limit}");
    Check { name: name.to_owned(), passed: found <= limit, says }
}

/// A policy that says the same whatever it is asked has collapsed.
fn distinct(compared: &[HeldOutComparison], least: f64) -> Check {
    let all: BTreeSet<&str> = compared.iter().map(|one| one.candidate.trim()).collect();
    let share = all.len() as f64 / compared.len().max(1) as f64;
    let says = format!(
        "{} of {} completions differ from all others: a share of {share:.3}, expected at least {least}",
        all.len(),
        compared.len()
    );
    Check { name: "distinct".to_owned(), passed: least <= share, says }
}

fn refusals(config: &GateConfig, compared: &[HeldOutComparison]) -> Option<Check> {
    let pattern = pattern(config.refusal.as_ref()?.as_str());
    let share = |text: &dyn Fn(&HeldOutComparison) -> &str| {
        let refused = compared.iter().filter(|one| pattern.is_match(text(one))).count();
        refused as f64 / compared.len().max(1) as f64
    };
    let rise = share(&|one| &one.candidate) - share(&|one| &one.current);
    let what = "rise of the share of refusals";
    Some(at_most("refusals", what, rise, *config.refusal_rise_max))
}

/// Bets that the new policy is worse on the prompts of a category, each at its share of α.
fn categories(
    config: &GateConfig,
    compared: &[HeldOutComparison],
    outcomes: &[(usize, f64)],
) -> Vec<Check> {
    let Some(category) = &config.category else { return Vec::new() };
    let pattern = pattern(category.as_str());
    let mut by_category: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (at, outcome) in outcomes {
        let named = pattern.captures(&compared[*at].prompt).and_then(|found| found.get(1));
        let name = named.map_or("(no category)", |name| name.as_str());
        by_category.entry(name.to_owned()).or_default().push(*outcome);
    }
    let alpha = *config.alpha / by_category.len().max(1) as f64;
    let check = |(name, values): (String, Vec<f64>)| {
        let is_worse = Bets::on(&values, alpha).is_worse();
        let rate = mean_at_any_time(&values).map_or_else(String::new, |rate| rate.to_string());
        let says = format!("win rate {rate}, expected not to be below ½ at a level of {alpha:.4}");
        Check { name: format!("category {name}"), passed: !is_worse, says }
    };
    by_category.into_iter().map(check).collect()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("patterns are checked when they are read")
}

#[cfg(test)]
mod tests {
    use hearken_config::LoadedConfig;

    use super::super::config::LoopConfig;
    use super::*;

    /// The gate of the committed file, with some keys changed.
    fn gate(more: &[&str]) -> GateConfig {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/loop.toml");
        let overrides: Vec<String> = more.iter().map(|one| (*one).to_owned()).collect();
        let LoadedConfig { config, .. } = LoopConfig::load(&file, &overrides).unwrap();
        config.gate
    }

    fn compared(count: usize) -> Vec<HeldOutComparison> {
        let one = |at: usize| HeldOutComparison {
            prompt: format!(
                "Review of the {} at noon:",
                if at.is_multiple_of(4) { "soup" } else { "pie" }
            ),
            messages: None,
            current: format!("old {at}"),
            candidate: format!("new {at}"),
            tokens: [10, 12],
            scores: None,
            kl_nats: 2.0,
        };
        (0..count).map(one).collect()
    }

    fn failed(report: &GateReport) -> Vec<&str> {
        report.checks.iter().filter(|one| !one.passed).map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn a_policy_that_wins_passes_and_one_that_loses_is_worse() {
        let (config, compared) = (gate(&[]), compared(60));
        let outcomes = |wins: usize| -> Vec<(usize, f64)> {
            (0..60).map(|at| (at, f64::from(u8::from(at % 10 < wins)))).collect()
        };
        let better = weigh(&config, &compared, &outcomes(9));
        assert!(better.passed && !better.is_worse && better.comparisons < 60, "{better:?}");
        let even = weigh(&config, &compared, &outcomes(5));
        assert!(!even.passed && !even.is_worse && failed(&even) == ["better"], "{even:?}");
        let worse = weigh(&config, &compared, &outcomes(1));
        assert!(!worse.passed && worse.is_worse);
        assert!(worse.win_rate.unwrap().high < 0.5);
        let nothing = weigh(&config, &compared, &[]);
        assert!(!nothing.passed && nothing.checks[0].says.contains("nothing was compared"));
    }

    #[test]
    fn limits_refuse_what_wins() {
        let wins: Vec<(usize, f64)> = (0..60).map(|at| (at, 1.0)).collect();
        let all = compared(60);
        let far = weigh(&gate(&["gate.kl_max=1.5"]), &all, &wins);
        assert_eq!(failed(&far), ["kl"]);
        let long = weigh(&gate(&["gate.length_ratio_max=1.1"]), &all, &wins);
        assert_eq!(failed(&long), ["length"]);
        let no_limits = ["gate.kl_max=0", "gate.length_ratio_max=0"];
        assert!(weigh(&gate(&no_limits), &all, &wins).passed);
        let same: Vec<HeldOutComparison> = all
            .iter()
            .map(|one| HeldOutComparison { candidate: "Good.".to_owned(), ..one.clone() })
            .collect();
        assert_eq!(failed(&weigh(&gate(&[]), &same, &wins)), ["distinct"]);
        let mute: Vec<HeldOutComparison> = all
            .iter()
            .enumerate()
            .map(|(at, one)| HeldOutComparison {
                candidate: format!("I cannot {at}"),
                ..one.clone()
            })
            .collect();
        assert_eq!(failed(&weigh(&gate(&["gate.refusal=I cannot"]), &mute, &wins)), ["refusals"]);
    }

    #[test]
    fn a_category_in_which_it_loses_refuses_a_policy_that_wins_on_the_whole() {
        let config = gate(&["gate.category=Review of the (\\w+)"]);
        let all = compared(80);
        let outcomes: Vec<(usize, f64)> =
            (0..80).map(|at: usize| (at, f64::from(u8::from(!at.is_multiple_of(4))))).collect();
        let report = weigh(&config, &all, &outcomes);
        assert_eq!(failed(&report), ["category soup"], "{report:?}");
    }

    /// Rounds whose policy is as good as the one before it: one in twenty at most is promoted.
    #[test]
    fn rounds_without_progress_are_promoted_in_at_most_five_percent() {
        use rand::{RngExt, SeedableRng};
        let (config, all) = (gate(&[]), compared(200));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let rounds = 400;
        let promoted = (0..rounds)
            .filter(|_| {
                let coin = |at| (at, f64::from(u8::from(rng.random_bool(0.5))));
                let outcomes: Vec<(usize, f64)> = (0..200).map(coin).collect();
                weigh(&config, &all, &outcomes).passed
            })
            .count();
        assert!(promoted * 20 <= rounds, "{promoted} of {rounds}");
    }
}
