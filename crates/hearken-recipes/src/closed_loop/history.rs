//! Rounds that are over, the current policy, and what a table of them says.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use hearken_data::feedback::Item;
use hearken_data::feedback::formats::{Format, judgements_in};
use hearken_run::error::TrainError;
use hearken_stats::Estimate;
use hearken_stats::propensity::{DrawnValue, mean_of_all};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::labels::outcomes;
use super::records::{
    ASKED, DECISION, GATE, GateReport, JUDGED, LINEAGE, Lineage, RoundDecision, Version, read_json,
    write_json,
};

/// The file that names the current policy.
pub(super) const CURRENT: &str = "current.json";

/// The folder of a round.
pub(super) fn round_dir(root: &Path, number: u64) -> PathBuf {
    root.join("rounds").join(format!("{number:03}"))
}

/// The decisions of the rounds that are over, in order.
pub(super) fn decisions(root: &Path) -> Result<Vec<RoundDecision>, TrainError> {
    let mut all = Vec::new();
    loop {
        let path = round_dir(root, all.len() as u64 + 1).join(DECISION);
        let Some(decision) = read_json::<RoundDecision>(&path)? else { return Ok(all) };
        all.push(decision);
    }
}

/// Points at the policy that is current after these decisions.
pub(super) fn point(root: &Path, current: &Version) -> Result<(), TrainError> {
    let path = root.join(CURRENT);
    // A pointer that cannot be read is made anew: decisions say what it points at.
    let found: Option<Version> = read_json(&path).unwrap_or_default();
    if found.as_ref() == Some(current) {
        return Ok(());
    }
    write_json(&path, current)
}

/// One round, as tables and pages show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundSummary {
    /// Its number, from 1.
    pub round: u64,
    /// How far it is.
    pub state: RoundState,
    /// The policy that was current when it began.
    pub policy: String,
    /// Pairs that were asked about.
    pub asked: usize,
    /// Labels that were given in this round and those before it.
    pub labels: usize,
    /// How often its policy wins against the one before it.
    pub win_rate: Option<Estimate>,
    /// KL of its policy to the first one, nats per completion.
    pub kl_nats: Option<Estimate>,
    /// Tokens of a completion.
    pub tokens: Option<Estimate>,
    /// What its policy gains in score over the one before it, where scores decide.
    pub score_difference: Option<Estimate>,
    /// The share of all pairs of its candidates of which the reward models of before foresee what is said: an estimate from those that
    /// were asked about, each divided by its propensity.
    pub foreseen: Option<Estimate>,
    /// Who decided; empty while nobody has.
    pub by: String,
    /// Why.
    pub reasons: Vec<String>,
}

impl RoundSummary {
    /// What became of it, in a few words.
    pub fn what(&self) -> String {
        match self.state {
            RoundState::Promoted => format!("promoted by {}", self.by),
            RoundState::RolledBack => format!("rolled back by {}", self.by),
            RoundState::Passed => "passed, waits for --approve or --reject".to_owned(),
            RoundState::Begun => "not yet".to_owned(),
        }
    }
}

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundState {
    /// Its policy became the current one.
    Promoted,
    /// The policy before it stayed.
    RolledBack,
    /// Its policy has passed the gate, and a person is to say whether it is promoted.
    Passed,
    /// It is not that far.
    Begun,
}

/// How often what is said of pairs was foreseen, over all that could have been asked about.
fn foreseen(judged: &Path) -> Result<Option<Estimate>, TrainError> {
    if !judged.exists() {
        return Ok(None);
    }
    let (items, judgements) = judgements_in(judged, Format::Hearken)
        .map_err(|error| TrainError::Other(error.to_string()))?;
    let number = |item: &Item, key: &str| item.meta.get(key).and_then(Value::as_f64);
    let drawn = outcomes(&items, &judgements).into_iter().filter_map(|(at, second)| {
        let (predicted, propensity) =
            (number(&items[at], "predicted")?, number(&items[at], "propensity")?);
        let value = match predicted.total_cmp(&0.5) {
            Ordering::Greater => 1.0 - second,
            Ordering::Equal => 0.5,
            Ordering::Less => second,
        };
        Some(DrawnValue { value, propensity })
    });
    Ok(mean_of_all(&drawn.collect::<Vec<_>>()))
}

/// All rounds that were begun.
///
/// # Errors
/// If a file of the loop cannot be read.
pub fn summaries(root: &Path) -> Result<Vec<RoundSummary>, TrainError> {
    let mut all = Vec::new();
    let mut labels = 0;
    for number in 1.. {
        let dir = round_dir(root, number);
        let Some(lineage) = read_json::<Lineage>(&dir.join(LINEAGE))? else { break };
        let decision = read_json::<RoundDecision>(&dir.join(DECISION))?;
        let gate = read_json::<GateReport>(&dir.join(GATE))?;
        let lines = |name: &str| {
            std::fs::read_to_string(dir.join(name)).map_or(0, |text| text.lines().count())
        };
        let asked = decision.as_ref().map_or_else(|| lines(ASKED), |one| one.asked);
        // Items and judgements stand in one file.
        labels += match &decision {
            Some(decision) => decision.labels,
            None => lines(JUDGED).saturating_sub(asked),
        };
        let state = match (&decision, &gate) {
            (Some(decision), _) if decision.promoted => RoundState::Promoted,
            (Some(_), _) => RoundState::RolledBack,
            (None, Some(gate)) if gate.passed => RoundState::Passed,
            (None, _) => RoundState::Begun,
        };
        let (by, reasons) = decision.map(|one| (one.by, one.reasons)).unwrap_or_default();
        let of = |part: fn(&GateReport) -> Option<Estimate>| gate.as_ref().and_then(part);
        all.push(RoundSummary {
            round: number,
            state,
            policy: lineage.policy.name,
            asked,
            labels,
            win_rate: of(|gate| gate.win_rate),
            kl_nats: of(|gate| gate.kl_nats),
            tokens: of(|gate| gate.tokens_candidate),
            score_difference: of(|gate| gate.score_difference),
            foreseen: foreseen(&dir.join(JUDGED))?,
            by,
            reasons,
        });
    }
    Ok(all)
}
