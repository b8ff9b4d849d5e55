//! What tests of several crates share: fixtures, data that may not be there, and a word from a test
//! that was skipped; servers that play the hub and LLM APIs. No part of the program.

pub mod chat;
pub mod hub;
pub mod server;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Says that the running test is skipped, and why: on standard error, and as a line of the file
/// that `$HEARKEN_SKIPPED` names, which outlives the harness's capture of what passing tests print.
///
/// # Panics
/// If that file cannot be written.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
pub fn skip(reason: &str) {
    // The harness names a test's thread after the test.
    let thread = std::thread::current();
    let line = format!("skipped: {}: {reason}", thread.name().unwrap_or("a test"));
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("HEARKEN_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        // One write, so that lines of tests that run at once do not mix.
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()));
    }
}

/// A fixture by its path below the folder of the crates.
///
/// # Panics
/// If the crates have no folder of their own.
pub fn fixture(relative: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("crates lie in a folder").join(relative)
}

/// The tiny language model that most tests load.
///
/// # Panics
/// As [`fixture`].
pub fn llama() -> PathBuf {
    family("llama")
}

/// The architectures of which there is a tiny model with random weights, with its logits, gradients and completions in
/// Transformers.
pub const FAMILIES: [&str; 16] = [
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "granite",
    "llama",
    "llama_yarn",
    "mistral",
    "olmo2",
    "olmo3",
    "phi3",
    "phi3_partial",
    "qwen2",
    "qwen3",
    "smollm3",
];

/// The tiny model of an architecture.
///
/// # Panics
/// As [`fixture`].
pub fn family(name: &str) -> PathBuf {
    fixture("hearken-model/tests/fixtures/hf").join(name)
}

/// The records of a file of JSON lines.
///
/// # Panics
/// If it cannot be read.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value = |line: &str| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()))
    };
    text.lines().map(value).collect()
}

/// `metrics.jsonl` of a run without the fields that a clock fills.
///
/// # Panics
/// If it cannot be read.
pub fn metrics_without(times: &[&str], run: &Path) -> Vec<Value> {
    let mut records = json_lines(&run.join("metrics.jsonl"));
    for record in records.iter_mut().filter_map(Value::as_object_mut) {
        record.retain(|key, _| !times.contains(&key.as_str()));
    }
    records
}

/// A number of a record.
///
/// # Panics
/// If it has none of that name.
pub fn number(record: &Value, key: &str) -> f64 {
    record[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {record}"))
}

/// A file or folder of real data sets: below `$HEARKEN_DATA`, else below `shared/data` beside the
/// workspace. `None`, said aloud, where it is missing.
pub fn data(relative: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = std::env::var_os("HEARKEN_DATA").map_or_else(beside, PathBuf::from).join(relative);
    if path.exists() {
        return Some(path);
    }
    skip(&format!("{} is not there; set HEARKEN_DATA", path.display()));
    None
}
