//! Logs of other programs, under the names that runs of this one have.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hearken_run::event_reader::{is_event_file, read_scalars};
use serde_json::{Map, Value, json};

/// What TRL's trainers write beside every checkpoint.
const TRAINER_STATE: &str = "trainer_state.json";

/// Names of verl and of Transformers' trainer, and what the same is called here.
const NAMES: [(&str, &str); 9] = [
    ("critic/score/mean", "reward"),
    ("response_length/mean", "completions/mean_length"),
    ("response_length/clip_ratio", "completions/clipped_ratio"),
    ("actor/grad_norm", "grad_norm"),
    ("actor/entropy", "entropy"),
    ("actor/entropy_loss", "entropy"),
    ("actor/pg_loss", "loss"),
    ("actor/lr", "learning_rate"),
    ("critic/vf_explained_var", "val/explained_variance"),
];

/// Divergences per token; here they are of a completion.
const PER_TOKEN: [&str; 3] = ["kl", "actor/kl_loss", "actor/reward_kl_penalty"];

/// The records of a log, whoever wrote it.
///
/// # Errors
/// If it cannot be read, or is none.
pub(super) fn read(place: &Path) -> Result<Vec<Value>> {
    let expected = "expected a run directory, TRL's trainer_state.json, JSON lines of verl, or event files of TensorBoard";
    if !place.exists() {
        bail!("{}: is not there; {expected}", place.display());
    }
    let records = if is_event_file(place) {
        read_scalars(place)?
    } else if place.is_file() {
        match place.file_name().is_some_and(|name| name == TRAINER_STATE) {
            true => history(place)?,
            false => lines(place)?,
        }
    } else if let Some(state) = trainer_state(place) {
        history(&state)?
    } else {
        read_scalars(place)?
    };
    if records.is_empty() {
        let lacks = if place.is_dir() {
            "has no metrics.jsonl, trainer_state.json or event file with scalars"
        } else {
            "has no record"
        };
        bail!("{}: {lacks}; {expected}", place.display());
    }
    Ok(records.into_iter().map(renamed).collect())
}

/// The records of a file of JSON lines; those of verl are `{"step": …, "data": {…}}`.
///
/// # Errors
/// If a line is no JSON object.
pub(super) fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let records = lines.map(|(index, line)| {
        let at = || format!("{}:{}: expected a JSON object", path.display(), index + 1);
        let mut record: Map<String, Value> = serde_json::from_str(line).with_context(at)?;
        if let Some(Value::Object(data)) = record.remove("data") {
            record.extend(data);
        }
        Ok(Value::Object(record))
    });
    records.collect()
}

/// `log_history` of TRL's file.
fn history(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut state: Value = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected JSON", path.display()))?;
    match state.get_mut("log_history").map(Value::take) {
        Some(Value::Array(records)) if records.iter().all(Value::is_object) => Ok(records),
        found => bail!(
            "{}: found {} as `log_history`, expected a list of objects",
            path.display(),
            found.map_or_else(|| "nothing".to_owned(), |found| found.to_string())
        ),
    }
}

/// The file of a folder, or of the last of its checkpoints.
fn trainer_state(folder: &Path) -> Option<PathBuf> {
    let own = folder.join(TRAINER_STATE);
    if own.exists() {
        return Some(own);
    }
    let step = |path: &PathBuf| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok()
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let states = entries.filter_map(|path| Some((step(&path)?, path.join(TRAINER_STATE))));
    states.filter(|(_, state)| state.exists()).max_by_key(|(step, _)| *step).map(|one| one.1)
}

/// A record with our names beside its own.
fn renamed(record: Value) -> Value {
    let Value::Object(record) = record else { return record };
    // Transformers puts the phase before a name in TensorBoard, and "eval_" elsewhere.
    let phase = |name: String| match name.strip_prefix("train/") {
        Some(own) => own.to_owned(),
        None => match name.strip_prefix("eval/") {
            Some(own) => format!("eval_{own}"),
            None => name,
        },
    };
    let mut record: Map<String, Value> =
        record.into_iter().map(|(name, value)| (phase(name), value)).collect();
    for (theirs, ours) in NAMES {
        if let Some(value) = record.get(theirs).cloned() {
            record.entry(ours).or_insert(value);
        }
    }
    let number = |name: &str| record.get(name).and_then(Value::as_f64);
    let per_token = PER_TOKEN.iter().find_map(|name| number(name));
    let of_completion =
        per_token.zip(number("completions/mean_length")).map(|(kl, tokens)| kl * tokens);
    if let Some(kl) = of_completion {
        record.entry("objective/kl").or_insert(json!(kl));
    }
    if !record.contains_key("step")
        && let Some(step) = record.get("training/global_step").cloned()
    {
        record.insert("step".to_owned(), step);
    }
    Value::Object(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn records_of_trl_and_verl_have_our_names() {
        let state = json!({"log_history": [
            {"step": 5, "loss": 0.1, "reward": 0.5, "kl": 0.02, "completions/mean_length": 100.0},
            {"step": 10, "eval_loss": 0.2},
        ]});
        let (folder, path) = written("checkpoint-10/trainer_state.json", &state.to_string());
        let found = read(&path).unwrap();
        assert_eq!(found, read(folder.path()).unwrap());
        assert_eq!((&found[0]["objective/kl"], &found[0]["reward"]), (&json!(2.0), &json!(0.5)));
        let line = json!({"step": 3, "data": {
            "critic/score/mean": 0.25, "actor/kl_loss": 0.01, "response_length/mean": 50.0,
            "actor/pg_loss": -0.1, "val-core/x/reward/mean@1": 0.75,
        }});
        let (_folder, path) = written("log.jsonl", &(line.to_string() + "\n"));
        let found = &read(&path).unwrap()[0];
        for (name, value) in [
            ("reward", 0.25),
            ("objective/kl", 0.5),
            ("completions/mean_length", 50.0),
            ("loss", -0.1),
            ("val-core/x/reward/mean@1", 0.75),
        ] {
            assert_eq!(found[name], json!(value), "{name}");
        }
    }

    #[test]
    fn a_tag_of_transformers_has_its_phase_taken_off() {
        let found = renamed(json!({"step": 1, "train/reward": 0.5, "eval/loss": 2.0}));
        assert_eq!(found, json!({"step": 1, "reward": 0.5, "eval_loss": 2.0}));
    }

    #[test]
    fn what_is_no_log_is_named_with_what_was_expected() {
        let error = |path: &Path| format!("{:#}", read(path).unwrap_err());
        let (folder, path) = written("trainer_state.json", "{\"log_history\": 3}");
        assert!(error(&path).contains("found 3 as `log_history`, expected a list of objects"));
        let (_other, path) = written("a.jsonl", "{\"step\": 1}\nnonsense\n");
        assert!(error(&path).contains("a.jsonl:2: expected a JSON object"));
        let (_empty, path) = written("b.jsonl", "");
        assert!(error(&path).contains("has no record; ") && error(&path).contains("verl"));
        assert!(error(&folder.path().join("none")).contains("is not there"));
        let empty = tempfile::tempdir().unwrap();
        assert!(error(empty.path()).contains("event files of TensorBoard"));
    }
}
