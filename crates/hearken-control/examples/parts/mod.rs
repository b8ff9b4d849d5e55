//! Experiments in parts, each of which can be measured by itself beside what was measured before.

use std::error::Error;
use std::path::PathBuf;

use serde_json::{Value, json};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A part of the results: its name, and what measures its rows.
pub(crate) type Part<B> = (&'static str, fn(&B) -> Outcome<Vec<Value>>);

/// Measures all parts, or those that the arguments name, behind `--dir DIR --out FILE`; `open` has the experiment in its
/// folder, and `about` is written down with the results.
pub(crate) fn measure<B>(
    parts: &[Part<B>],
    open: impl FnOnce(PathBuf) -> B,
    about: &[(&str, Value)],
) -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["--dir", dir, "--out", out, wanted @ ..] = words.as_slice() else {
        return Err("found other arguments, expected --dir DIR --out FILE [PART...]".into());
    };
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|part| !names.contains(part)) {
        let names = names.join(", ");
        return Err(format!("found no part {unknown:?}, expected some of {names}").into());
    }
    std::fs::create_dir_all(dir)?;
    let bench = open(dir.into());
    let mut found = match std::fs::read_to_string(out) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => json!({}),
    };
    for (name, value) in about {
        found[*name] = value.clone();
    }
    for (name, rows) in parts {
        if wanted.is_empty() || wanted.contains(name) {
            found[*name] = json!(rows(&bench)?);
            // Part by part: the whole takes a while.
            std::fs::write(out, serde_json::to_string_pretty(&found)? + "\n")?;
        }
    }
    Ok(())
}
