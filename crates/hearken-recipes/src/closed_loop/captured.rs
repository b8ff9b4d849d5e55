//! Conversations with the served model, as prompts and labels of a round.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hearken_data::feedback::served::{Said, ServedLog, oldest_kept};
use hearken_data::feedback::{Item, Judgement, Origin, in_force};
use hearken_data::{Content, Prompt, PromptKey, Prompted, ReadOptions, Role, read};
use hearken_run::error::TrainError;
use hearken_run::run_dir::RunDirError;
use hearken_store::{Placed, StoreError, open_existing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::CaptureConfig;
use super::history::round_dir;
use super::labels::write_judged;
use super::records::{DEPLOYED, Deployed, hash_of_files, read_json, write_json, write_lines};

/// What was taken: the last that is written.
const TAKEN: &str = "captured.json";
/// What users said, as items with judgements.
const JUDGED: &str = "captured.jsonl";
/// What they asked.
const PROMPTS: &str = "captured-prompts.jsonl";
/// What the metadata of an item say whose answers were written on the page *Live*.
const LIVE: &str = "live";
/// Items that are read together.
const TOGETHER: usize = 2_000;

/// What a round takes from conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Captured {
    /// The log that it is from.
    pub(super) log: Option<PathBuf>,
    /// The store that it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<String>,
    /// The days after which its lines are not read; none are all.
    pub(super) days: Option<f64>,
    /// Prompts that are no held-out ones.
    pub(super) prompts: usize,
    /// Comparisons: choices among answers, edits, and thumbs up and down on answers to one prompt.
    pub(super) comparisons: usize,
    /// The hash of both.
    pub(super) sha256: String,
}

impl Captured {
    /// Takes what is written down until now into the folder of a round, or gives what was taken before: a round that goes on is made
    /// from what it began with, however the log grows.
    pub(super) fn of_round(
        config: &CaptureConfig,
        held_out: &Path,
        root: &Path,
        number: u64,
    ) -> Result<Self, TrainError> {
        let dir = round_dir(root, number);
        let days = config.days.map(|days| *days);
        let is_of = |taken: &Self| {
            taken.log == config.log && taken.store == config.store && taken.days == days
        };
        if let Some(taken) = read_json::<Self>(&dir.join(TAKEN))?.filter(is_of) {
            return Ok(taken);
        }
        let since = days.map_or(i64::MIN, |days| oldest_kept(now_ms(), days));
        let other =
            |error: &dyn std::fmt::Display| TrainError::Other(format!("`capture.log`: {error}"));
        let log = config.log.as_ref().map(|path| ServedLog::read(path, since)).transpose();
        let log = log.map_err(|error| other(&error))?.unwrap_or_default();
        let live = config.store.as_deref().map(|store| live(store, since)).transpose()?;
        let live = live.unwrap_or_default();
        std::fs::create_dir_all(&dir).map_err(RunDirError::io(&dir, "be created"))?;
        let mut asked = log.prompts();
        asked.extend(live.iter().map(|(item, _)| Content::Messages(item.prompt.clone())));
        let prompts = prompts(asked, held_out)?;
        write_lines(&dir.join(PROMPTS), &prompts)?;
        let said = log.judgements().into_iter().chain(log.pairs_of_thumbs()).chain(live);
        let (items, judgements) = learned_from(said, &log, &versions(root, number)?);
        write_judged(&dir.join(JUDGED), &items, &judgements)?;
        let is_edit = |one: &&Judgement| one.better.is_some();
        let pairs: HashSet<&str> = items
            .iter()
            .filter(|item| item.candidates.len() == 2)
            .map(|item| item.id.as_str())
            .collect();
        let is_pair = |one: &&Judgement| pairs.contains(one.item.as_str());
        let taken = Self {
            log: config.log.clone(),
            store: config.store.clone(),
            days,
            prompts: prompts.len(),
            comparisons: judgements.iter().filter(|one| is_edit(one) || is_pair(one)).count(),
            sha256: hash_of_files(&[dir.join(PROMPTS), dir.join(JUDGED)])?,
        };
        write_json(&dir.join(TAKEN), &taken)?;
        Ok(taken)
    }

    /// Where it is from.
    pub(super) fn places(&self) -> String {
        let log = self.log.as_ref().map(|path| path.display().to_string());
        log.into_iter().chain(self.store.clone()).collect::<Vec<_>>().join(" and ")
    }

    /// The prompts, where there are any.
    pub(super) fn prompts_in(&self, dir: &Path) -> Option<PathBuf> {
        (0 < self.prompts).then(|| dir.join(PROMPTS))
    }

    /// The labels, where some are comparisons.
    pub(super) fn judged_in(&self, dir: &Path) -> Option<PathBuf> {
        (0 < self.comparisons).then(|| dir.join(JUDGED))
    }
}

/// Removes what a round that is over took: the log says how long conversations are kept, and copies would outlive them.
pub(super) fn forget(root: &Path, number: u64) -> Result<(), TrainError> {
    for name in [PROMPTS, JUDGED] {
        let path = round_dir(root, number).join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RunDirError::io(&path, "be removed")(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What users asked, without the prompts of the gate: on those nothing is trained.
fn prompts(asked: Vec<Content>, held_out: &Path) -> Result<Vec<Value>, TrainError> {
    let (held_out, _) = read::<Prompt>(held_out, &ReadOptions::default())
        .map_err(|error| TrainError::Other(format!("`data.eval`: {error}")))?;
    let held_out: HashSet<PromptKey> = held_out.iter().map(Prompted::prompt_key).collect();
    let is_held_out = |prompt: &Content| {
        let as_text = match prompt {
            Content::Messages(messages) => match messages.as_slice() {
                [only] if only.role == Role::User => Some(PromptKey::of_text(&only.content)),
                _ => None,
            },
            _ => None,
        };
        held_out.contains(&PromptKey::of(prompt))
            || as_text.is_some_and(|key| held_out.contains(&key))
    };
    let mut known = HashSet::new();
    let asked = asked.into_iter().filter(|prompt| !is_held_out(prompt));
    let asked = asked.filter(|prompt| known.insert(PromptKey::of(prompt)));
    Ok(asked
        .filter_map(|prompt| match prompt {
            Content::Text(text) => Some(json!({ "prompt": text })),
            Content::Messages(messages) => Some(json!({ "prompt": messages })),
            Content::Ids(_) => None,
        })
        .collect())
}

/// Conversations on the page *Live* of the labelling service that were voted on since, with the votes that hold.
fn live(place: &str, since: i64) -> Result<Vec<(Item, Judgement)>, TrainError> {
    let failed = |error: StoreError| TrainError::Other(format!("`capture.store`: {error}"));
    let store = open_existing(place).map_err(failed)?;
    let (mut items, mut after) = (BTreeMap::new(), 0);
    loop {
        let read = store.items(after, TOGETHER).map_err(failed)?;
        let Some(last) = read.last() else { break };
        after = last.place;
        for Placed { record: item, .. } in read {
            if item.meta.get("source").is_some_and(|source| source == LIVE) {
                items.insert(item.id.clone(), item);
            }
        }
    }
    let mut all = Vec::new();
    for item in items.into_values() {
        let said = store.judgements_of(&item.id).map_err(failed)?;
        let holding = in_force(&said).into_iter();
        let holding = holding.filter(|one| since <= one.at && one.origin != Origin::Ai);
        all.extend(holding.map(|one| (item.clone(), one.clone())));
    }
    Ok(all)
}

/// What reward models learn from of what users said, each answer with the version that wrote it, by the name that the loop has for it where
/// it has one.
fn learned_from(
    all: impl Iterator<Item = (Item, Judgement)>,
    log: &ServedLog,
    versions: &BTreeMap<String, String>,
) -> (Vec<Item>, Vec<Judgement>) {
    let edits = log.feedback().iter().filter(|one| matches!(one.said, Said::Edit(_)));
    let edited: HashSet<&str> = edits.map(|one| one.feedback_id.as_str()).collect();
    let mut known = HashSet::new();
    let (mut items, mut judgements) = (Vec::new(), Vec::new());
    for (mut item, mut judgement) in all {
        // A reward model learns from comparisons; what thumbs say alone is in their pairs.
        let is_alone = item.candidates.len() == 1 && !edited.contains(judgement.id.as_str());
        if is_alone {
            continue;
        }
        for candidate in &mut item.candidates {
            if let Some(name) = candidate.model.as_ref().and_then(|model| versions.get(model)) {
                candidate.model = Some(name.clone());
            }
        }
        // The hash is of the item with these names.
        judgement.item_hash = item.hash();
        if known.insert(item.id.clone()) {
            items.push(item);
        }
        judgements.push(judgement);
    }
    (items, judgements)
}

/// The names of policies by the versions that a server calls them.
fn versions(root: &Path, before: u64) -> Result<BTreeMap<String, String>, TrainError> {
    let mut all = BTreeMap::new();
    for number in 1..before {
        let deployed: Option<Deployed> = read_json(&round_dir(root, number).join(DEPLOYED))?;
        if let Some(Deployed { version, served: Some(served) }) = deployed {
            all.insert(served, version.name);
        }
    }
    Ok(all)
}
