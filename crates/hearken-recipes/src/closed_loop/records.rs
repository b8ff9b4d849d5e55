//! What a round leaves in its folder.

use std::path::{Path, PathBuf};

use hearken_data::feedback::formats::text_prompted;
use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, hexadecimal, is_unfinished, write_jsonl};
use hearken_run::error::TrainError;
use hearken_run::run_dir::inputs::hash_path;
use hearken_run::run_dir::{RunDirError, write_atomically};
use hearken_stats::Estimate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::captured::Captured;

/// What a round is made from: `round.json`.
pub(super) const LINEAGE: &str = "round.json";
/// Prompts with the completions of the current policy.
pub(super) const CANDIDATES: &str = "candidates.jsonl";
/// The pairs that are asked about, as items with their propensities.
pub(super) const ASKED: &str = "asked.jsonl";
/// The same with what was said of them.
pub(super) const JUDGED: &str = "judged.jsonl";
/// Completions of both policies on held-out prompts.
pub(super) const COMPARED: &str = "compared.jsonl";
/// What the gate makes of them.
pub(super) const GATE: &str = "gate.json";
/// What became of the round.
pub(super) const DECISION: &str = "decision.json";
/// That items were put into a store of the labelling service.
pub(super) const PLACED: &str = "placed.json";
/// The same of the gate's.
pub(super) const GATE_PLACED: &str = "gate-placed.json";
/// That the policy answers a share of the conversations.
pub(super) const CANARY_PLACED: &str = "canary-placed.json";
/// What users found of it.
pub(super) const CANARY: &str = "canary.json";
/// What judges have said so far, before all of it is there.
pub(super) const JUDGEMENTS: &str = "judgements.jsonl";
/// The same of the gate's.
pub(super) const GATE_JUDGEMENTS: &str = "gate-judgements.jsonl";
/// Which version a server got.
pub(super) const DEPLOYED: &str = "deployed.json";

/// The name of the policy that the first round begins with.
pub(super) const START: &str = "start";

/// One policy of the loop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `start`, or the round that made it: `round-002`.
    pub name: String,
    /// Its folder: of the first policy as the configuration names it, of others from the run directory.
    pub path: PathBuf,
    /// Of its weights.
    pub sha256: String,
}

impl Version {
    /// The policy in `folder`, as the run in `root` names it.
    pub(super) fn of(name: String, folder: &Path, root: &Path) -> Result<Self, TrainError> {
        let path = folder.strip_prefix(root).unwrap_or(folder).to_owned();
        Ok(Self { name, path, sha256: hash_of_weights(folder)? })
    }

    /// Where it lies. The first policy is not the loop's own.
    pub(super) fn place(&self, root: &Path) -> PathBuf {
        if self.name == START { self.path.clone() } else { root.join(&self.path) }
    }
}

/// Of the files with weights in a folder: what else lies there may say when and where it was made.
fn hash_of_weights(folder: &Path) -> Result<String, TrainError> {
    let io = |error| RunDirError::io(folder, "be read")(error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    hash_of_files(&files)
}

/// Of the contents of files, with their names.
pub(super) fn hash_of_files(files: &[PathBuf]) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    for file in files {
        hash_path(file, &mut hash).map_err(RunDirError::io(file, "be read"))?;
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// What a server got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deployed {
    /// The policy.
    #[serde(flatten)]
    pub(super) version: Version,
    /// The version that the server calls it, and its answers name.
    #[serde(default)]
    pub(super) served: Option<String>,
}

/// What a round is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lineage {
    /// Its number, from 1.
    pub(super) round: u64,
    /// The seed of every random stream of the loop.
    pub(super) seed: u64,
    /// The hash of the configuration, without what changes no result.
    pub(super) configuration: String,
    /// The policy that answers, and that the new one is compared with.
    pub(super) policy: Version,
    /// The policy that KL is measured from and reward models start from.
    pub(super) start: Version,
    /// The hash of the prompts that are asked about and trained on.
    pub(super) prompts: String,
    /// The hash of the prompts of the gate.
    pub(super) held_out: String,
    /// What was taken from conversations with the served model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) captured: Option<Captured>,
}

/// A prompt with what a policy made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Candidates {
    /// The prompt as text.
    pub(super) prompt: String,
    /// Its messages, where it is a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<Message>>,
    /// The version that completed it.
    pub(super) policy: String,
    /// The completions.
    pub(super) completions: Vec<String>,
}

impl Candidates {
    /// These completions, each with the version that wrote it, as an item.
    pub(super) fn item<'a>(
        &'a self,
        task: Task,
        completions: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Item {
        let candidates = completions.into_iter().map(|(text, by)| Candidate::text(text).by(by));
        let candidates: Vec<Candidate> = candidates.collect();
        match &self.messages {
            Some(messages) => Item::new(task, messages.clone(), candidates),
            None => text_prompted(task, &self.prompt, candidates),
        }
    }
}

/// A held-out prompt with the completions of both policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HeldOutComparison {
    /// The prompt as text.
    pub(super) prompt: String,
    /// Its messages, where it is a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<Message>>,
    /// What the current policy makes of it.
    pub(super) current: String,
    /// What the new one makes of it.
    pub(super) candidate: String,
    /// Tokens of both.
    pub(super) tokens: [usize; 2],
    /// The scores of both, where scores decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scores: Option<[f64; 2]>,
    /// KL of the new policy to the first one: k1 of its completion, in nats.
    pub(super) kl_nats: f64,
}

/// One thing that a new policy must be or not be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found and what was expected.
    pub says: String,
}

/// What the gate finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// How often the new policy wins, ties being half; an interval that holds whenever one looks.
    pub win_rate: Option<Estimate>,
    /// The natural logarithm of the e-value against "the new policy wins half of the time at most", where betting ended.
    pub log_e_value: f64,
    /// Comparisons after which betting ended.
    pub comparisons: usize,
    /// KL of the new policy to the first one, nats per completion.
    pub kl_nats: Option<Estimate>,
    /// Tokens of a completion of the current policy.
    pub tokens_current: Option<Estimate>,
    /// The same of the new one.
    pub tokens_candidate: Option<Estimate>,
    /// By score what both policies reach, and the difference, prompt by prompt; where scores decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_difference: Option<Estimate>,
    /// Everything that was checked.
    pub checks: Vec<Check>,
    /// Whether all of it holds.
    pub passed: bool,
    /// Whether the bets say that the new policy is worse.
    pub is_worse: bool,
}

/// What became of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundDecision {
    /// The round.
    pub round: u64,
    /// Whether its policy is the current one from then on; else the one before it stays.
    pub promoted: bool,
    /// Who decided: `gate`, or the name of a person.
    pub by: String,
    /// When a person decided: milliseconds since 1970 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// The policy of the round; none where it came to none.
    pub candidate: Option<Version>,
    /// The current policy after the round.
    pub current: Version,
    /// Whether the labels of the round are learned from no more.
    pub labels_set_aside: bool,
    /// Pairs that were asked about.
    pub asked: usize,
    /// Labels that were given.
    pub labels: usize,
}

/// Removes what a process that was killed has not finished writing in a folder, if there is one.
pub(super) fn remove_unfinished(folder: &Path) -> Result<(), TrainError> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(RunDirError::io(folder, "be read"))? {
        let path = entry.map_err(RunDirError::io(folder, "be read"))?.path();
        if is_unfinished(&path) {
            std::fs::remove_file(&path).map_err(RunDirError::io(&path, "be removed"))?;
        }
    }
    Ok(())
}

/// Reads a file of the loop, if it is there.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RunDirError::io(path, "be read")(error).into()),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| broken(path, 0, &error))
}

/// Reads a file of JSON lines, if it is there.
pub(super) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Option<Vec<T>>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RunDirError::io(path, "be read")(error).into()),
    };
    let parsed = text
        .lines()
        .enumerate()
        .map(|(at, line)| serde_json::from_str(line).map_err(|error| broken(path, at + 1, &error)));
    parsed.collect::<Result<_, _>>().map(Some)
}

fn broken(path: &Path, line: usize, error: &serde_json::Error) -> TrainError {
    let line = if line == 0 { String::new() } else { format!("line {line}: ") };
    let message = format!(
        "{line}{error}; expected what the loop wrote there: put it back, or remove it to have it made anew"
    );
    RunDirError::Broken { path: path.to_owned(), message }.into()
}

/// Writes a file of the loop, whole or not at all.
pub(super) fn write_json<T: Serialize>(path: &Path, record: &T) -> Result<(), TrainError> {
    let mut text = serde_json::to_vec_pretty(record).expect("records of the loop are plain data");
    text.push(b'\n');
    Ok(write_atomically(path, &text)?)
}

/// The same of JSON lines.
pub(super) fn write_lines<T: Serialize>(path: &Path, records: &[T]) -> Result<(), TrainError> {
    write_jsonl(path, records).map(drop).map_err(|error| TrainError::Other(error.to_string()))
}
