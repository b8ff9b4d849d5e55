//! Principles, in our form and in the published one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use hearken_reward_source::judging::toml_complaint;

/// The principles of where no file is named.
const OWN: &str = include_str!("../../../../configs/principles.toml");

/// One principle. What is empty, it is not used for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principle {
    /// Its name.
    pub name: String,
    /// Asks for a critique of the last answer.
    #[serde(default)]
    pub critique: String,
    /// Asks for a revision of it.
    #[serde(default)]
    pub revision: String,
    /// What two answers are compared by.
    #[serde(default)]
    pub compare: String,
}

/// Why there are no principles.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct PrincipleError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnForm {
    principle: Vec<Principle>,
}

/// Reads principles: our own where there is no file, a TOML file as `configs/principles.toml` is, or JSON as the published constitution
/// has it: an object of `{"prompt": [CRITIQUE], "edit_request": REVISION}` by names, or a list or an object of texts to compare by.
///
/// # Errors
/// If the file cannot be read, or holds something else.
pub fn principles(file: Option<&Path>) -> Result<Vec<Principle>, PrincipleError> {
    let Some(file) = file else {
        let own: OwnForm = toml::from_str(OWN).expect("embedded principles are valid TOML");
        return Ok(own.principle);
    };
    let failed = |reason: String| PrincipleError { file: file.to_owned(), reason };
    let text =
        fs::read_to_string(file).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let found = if is_json {
        let value: Value =
            serde_json::from_str(&text).map_err(|error| failed(format!("not JSON: {error}")))?;
        published(&value).map_err(failed)?
    } else {
        let own: OwnForm =
            toml::from_str(&text).map_err(|error| failed(toml_complaint(&text, &error)))?;
        own.principle
    };
    let is_empty = |one: &Principle| {
        [&one.critique, &one.revision, &one.compare].iter().all(|text| text.trim().is_empty())
    };
    if let Some(empty) = found.iter().find(|one| is_empty(one)) {
        return Err(failed(format!("the principle {:?} says nothing", empty.name)));
    }
    if let Some(half) = found.iter().find(|one| one.critique.is_empty() != one.revision.is_empty())
    {
        let name = &half.name;
        return Err(failed(format!(
            "the principle {name:?}: found one of critique and revision, expected both or neither"
        )));
    }
    if found.is_empty() {
        return Err(failed("found no principle, expected one at least".to_owned()));
    }
    Ok(found)
}

fn published(value: &Value) -> Result<Vec<Principle>, String> {
    match value {
        Value::Object(all) => all.iter().map(|(name, value)| named(name, value)).collect(),
        Value::Array(all) => {
            let all = all.iter().enumerate();
            all.map(|(at, value)| named(&format!("{}", at + 1), value)).collect()
        }
        other => Err(format!("found {other}, expected an object or a list of principles")),
    }
}

fn named(name: &str, value: &Value) -> Result<Principle, String> {
    let unexpected = || {
        format!(
            "the principle {name:?}: found {value}, expected a text, or an object with \"prompt\" and \"edit_request\""
        )
    };
    match value {
        Value::String(text) => Ok(Principle {
            name: name.to_owned(),
            compare: between(text, "", &["Options:"]),
            ..Principle::default()
        }),
        Value::Object(parts) => {
            let text = |key: &str| first_text(parts, key).ok_or_else(unexpected);
            match parts.contains_key("edit_request") {
                true => Ok(Principle {
                    name: name.to_owned(),
                    critique: between(&text("prompt")?, "CritiqueRequest:", &["Critique:"]),
                    revision: between(&text("edit_request")?, "RevisionRequest:", &["Revision:"]),
                    compare: String::new(),
                }),
                false => Ok(Principle {
                    name: name.to_owned(),
                    compare: between(&text("prompt")?, "", &["Options:"]),
                    ..Principle::default()
                }),
            }
        }
        _ => Err(unexpected()),
    }
}

/// A text, or the first of a list of texts.
fn first_text(parts: &Map<String, Value>, key: &str) -> Option<String> {
    match parts.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list.first()?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// A text without the mark before it and those behind it.
fn between(text: &str, before: &str, behind: &[&str]) -> String {
    let mut text = text.trim();
    text = text.strip_prefix(before).unwrap_or(text).trim();
    for mark in behind {
        text = text.strip_suffix(mark).unwrap_or(text).trim();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_principles_criticize_revise_and_compare() {
        let own = principles(None).unwrap();
        assert!(4 <= own.len());
        assert!(
            own.iter().all(|one| ![&one.critique, &one.revision, &one.compare]
                .iter()
                .any(|x| x.is_empty()))
        );
    }

    #[test]
    fn the_published_shapes_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            principles(Some(&file))
        };
        let found = read(
            r#"{"kind0": {"prompt": ["\n\nCritiqueRequest: Be kind?\n\nCritique:"], "edit_request": "\n\nRevisionRequest: Be kinder.\n\nRevision:"}}"#,
        );
        let found = found.unwrap();
        assert_eq!(
            (found[0].critique.as_str(), found[0].revision.as_str()),
            ("Be kind?", "Be kinder.")
        );
        let found = read(r#"["Choose the kinder one.\nOptions:"]"#).unwrap();
        assert_eq!(found[0].compare, "Choose the kinder one.");
        for (text, expected) in [
            ("3", "an object or a list"),
            ("[]", "found no principle"),
            (r#"{"a": 3}"#, "the principle \"a\": found 3"),
            (r#"{"a": {"prompt": [], "edit_request": "x"}}"#, "the principle \"a\""),
            ("{", "not JSON"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("p.json") && error.contains(expected), "{text}: {error}");
        }
    }
}
