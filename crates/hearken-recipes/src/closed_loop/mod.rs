//! The closed loop: ask, learn, update, compare, promote or roll back, round by round.
//!
//! ```text
//! current policy ─► candidates ─► which pairs are asked ─► labels ─► reward models ─► policy ─► gate ─┐
//!        ▲                                                                                             │
//!        └──────────────── promoted: the pointer moves, a server gets the weights ◄───────────────────┘
//! ```
//!
//! Every round is a folder, `rounds/NNN/`, and every step of it a file that is written whole or not at all; a step whose file is there
//! is done, so that a loop that is killed at any moment goes on and ends bit for bit as if nothing had happened. What a round is made from
//! (`round.json`) names the versions of policies and the contents of prompts and configuration by hash.
//!
//! Not here: how a policy or a reward model learns (`hearken-train`), who may judge in a store (`hearken-collect`), HTTP.

mod config;

mod page;

mod round;

mod labels;

mod stages;

mod gate;

mod history;

mod canary;

mod captured;

mod records;

mod questions;

mod asking;

use std::path::Path;

use hearken_config::{LoadedConfig, as_before};
use hearken_data::hexadecimal;
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run_dir::{RunDirError, lock, refuse_foreign, write_atomically};
use hearken_tensor::Device;
use sha2::{Digest, Sha256};

use captured::Captured;
use history::{CURRENT, decisions, point, round_dir};
use records::{
    DECISION, DEPLOYED, Deployed, GATE, LINEAGE, Lineage, START, hash_of_files, read_json,
    remove_unfinished, write_json,
};
use round::{LoopRound, RoundEnd};

pub use asking::Order;
pub use canary::{CanaryRate, CanaryReport, CanaryStanding, Deploy};
pub use config::{
    Approval, AskConfig, CanaryConfig, CandidatesConfig, CaptureConfig, Decider, GateConfig,
    Labeller, LabelsConfig, LoopConfig, RoundsConfig, ServeConfig, SetAside,
};
pub use history::{RoundState, RoundSummary, summaries};
pub use page::{fragment, report};
pub use records::{Check, GateReport, RoundDecision, Version};

/// How a loop ends for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoopStatus {
    /// All rounds are over.
    Finished,
    /// It was asked to stop.
    Stopped,
    /// People are to say something first; a sentence that says what.
    Waiting(String),
    /// No question is worth asking any more; a sentence that says why.
    Enough(String),
}

/// Goes through the rounds that are not over, or until `progress` asks to stop or people are to say something first. What is promoted goes to
/// `deploy` as well.
///
/// # Errors
/// Of the steps; those that are done are kept, and the same call goes on.
#[expect(clippy::needless_pass_by_value, reason = "as of every run")]
pub fn run<D: Device>(
    device: D,
    loaded: &LoadedConfig<LoopConfig>,
    mut deploy: Option<&mut dyn Deploy>,
    progress: &mut dyn Progress,
) -> Result<LoopStatus, TrainError> {
    let config = &loaded.config;
    let root = &config.run.dir;
    if !root.join("lock").exists() {
        refuse_foreign(root, &["config.toml", CURRENT, "rounds", "report.html"])?;
    }
    std::fs::create_dir_all(root).map_err(RunDirError::io(root, "be created"))?;
    let _held = lock(root)?;
    remove_unfinished(root)?;
    write_atomically(&root.join("config.toml"), loaded.frozen.to_toml().as_bytes())?;
    let start = Version::of(START.to_owned(), &config.stages.start, root)?;
    let of_file = |path: &Path| hash_of_files(&[path.to_owned()]);
    let (prompts, held_out) =
        (of_file(&config.stages.prompts.train)?, of_file(&config.stages.prompts.eval)?);
    loop {
        let before = decisions(root)?;
        let current = before.last().map_or(&start, |last| &last.current);
        point(root, current)?;
        if let Some(deploy) = deploy.as_deref_mut() {
            serve(deploy, root, current, progress)?;
        }
        for round in &before {
            captured::forget(root, round.round)?;
        }
        let number = before.len() as u64 + 1;
        if *config.rounds.count < number as usize {
            return Ok(LoopStatus::Finished);
        }
        if progress.stop_requested() {
            return Ok(LoopStatus::Stopped);
        }
        let lineage = Lineage {
            round: number,
            seed: config.run.seed,
            configuration: configuration(loaded),
            policy: current.clone(),
            start: start.clone(),
            prompts: prompts.clone(),
            held_out: held_out.clone(),
            captured: capture(config, number, progress)?,
        };
        let round = LoopRound { device: device.clone(), config, lineage, before: &before };
        match round.run(deploy.as_deref_mut(), progress)? {
            RoundEnd::Decided(decision) => progress.note(&sentence(&decision)),
            RoundEnd::Stopped => return Ok(LoopStatus::Stopped),
            RoundEnd::Waiting(text) => return Ok(LoopStatus::Waiting(text)),
            RoundEnd::Enough(text) => return Ok(LoopStatus::Enough(text)),
        }
    }
}

/// What the round takes from conversations, where they are captured.
fn capture(
    config: &LoopConfig,
    number: u64,
    progress: &mut dyn Progress,
) -> Result<Option<Captured>, TrainError> {
    let Some(capture) = &config.capture else { return Ok(None) };
    let (root, held_out) = (&config.run.dir, &config.stages.prompts.eval);
    let taken = Captured::of_round(capture, held_out, root, number)?;
    progress.note(&format!(
        "round {number}: {} prompts and {} comparisons of conversations in {}",
        taken.prompts,
        taken.comparisons,
        taken.places()
    ));
    Ok(Some(taken))
}

fn sentence(decision: &RoundDecision) -> String {
    let what = if decision.promoted { "is promoted" } else { "is rolled back" };
    format!("round {} {what} by {}: {}", decision.round, decision.by, decision.reasons.join("; "))
}

/// Gives a promoted policy to whoever serves, once.
fn serve(
    deploy: &mut dyn Deploy,
    root: &Path,
    current: &Version,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    let Some(number) = current.name.strip_prefix("round-").and_then(|text| text.parse().ok())
    else {
        return Ok(());
    };
    let note = round_dir(root, number).join(DEPLOYED);
    if read_json::<Deployed>(&note)?.is_some_and(|deployed| deployed.version == *current) {
        return Ok(());
    }
    let folder = current.place(root);
    let folder = std::fs::canonicalize(&folder).map_err(RunDirError::io(&folder, "be read"))?;
    let served = deploy.swap(&folder).map_err(|error| {
        TrainError::Other(format!(
            "`serve.url`: {error}; {} is promoted and not yet served, which the same command makes up for",
            current.name
        ))
    })?;
    progress.note(&format!("{} is served", current.name));
    write_json(&note, &Deployed { version: current.clone(), served: Some(served) })
}

/// The hash of a configuration without what changes no result of a round.
fn configuration(loaded: &LoadedConfig<LoopConfig>) -> String {
    let mut table = as_before(loaded.frozen.table());
    for section in ["log", "serve"] {
        table.remove(section);
    }
    for (section, key) in [
        ("run", "dir"),
        ("run", "disk_limit_gb"),
        ("run", "memory_limit_gb"),
        ("run", "shard_size_gb"),
        ("rounds", "count"),
        ("labels", "poll_s"),
        ("gate", "approve"),
    ] {
        if let Some(toml::Value::Table(section)) = table.get_mut(section) {
            section.remove(key);
        }
    }
    let text = toml::to_string(&table).expect("a table that was read can be written");
    hexadecimal(&Sha256::digest(text.as_bytes()))
}

/// What a person says of a policy that has passed the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// The round.
    pub round: u64,
    /// Whether its policy is promoted.
    pub promoted: bool,
    /// Who says so.
    pub by: String,
    /// When: milliseconds since 1970 in UTC.
    pub at: i64,
}

/// Writes down what a person decided; the loop goes on with it when it is started again.
///
/// # Errors
/// If there is no such round, it has not passed the gate, or is decided.
pub fn decide(root: &Path, verdict: &ByHand) -> Result<RoundDecision, TrainError> {
    let number = verdict.round;
    let refuse =
        |what: &str| Err(TrainError::Other(format!("{}: round {number} {what}", root.display())));
    let dir = round_dir(root, number);
    let Some(lineage) = read_json::<Lineage>(&dir.join(LINEAGE))? else {
        return refuse("has not begun, expected one that has passed the gate");
    };
    let _held = lock(root)?;
    if read_json::<RoundDecision>(&dir.join(DECISION))?.is_some() {
        return refuse("is decided already");
    }
    let Some(report) = read_json::<GateReport>(&dir.join(GATE))?.filter(|report| report.passed)
    else {
        return refuse("has not passed the gate");
    };
    let folder = stages::policy_dir(&dir).join("final");
    let candidate = Version::of(format!("round-{number:03}"), &folder, root)?;
    let checks = report.checks.iter().map(|check| format!("{}: {}", check.name, check.says));
    let summary = summaries(root)?.into_iter().find(|one| one.round == number);
    let before: usize = decisions(root)?.iter().map(|one| one.labels).sum();
    let (asked, labels) = summary.map_or((0, 0), |one| (one.asked, one.labels - before));
    let decision = RoundDecision {
        round: number,
        promoted: verdict.promoted,
        by: verdict.by.clone(),
        at: Some(verdict.at),
        reasons: checks.collect(),
        current: if verdict.promoted { candidate.clone() } else { lineage.policy },
        candidate: Some(candidate),
        labels_set_aside: false,
        asked,
        labels,
    };
    write_json(&dir.join(DECISION), &decision)?;
    Ok(decision)
}
