//! One word per thing: names that the glossary rules out, and names that too many types share.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::allowed_names::ALLOWED;
use super::files::SourceFile;
use super::{Finding, code};

const GLOSSARY: &str = "docs/glossary.md";

/// Reports every identifier that stands, set as code, in the glossary's column "not".
pub(super) fn check(files: &[SourceFile]) -> Result<Vec<Finding>> {
    let glossary = files.iter().find(|file| file.path == GLOSSARY);
    let glossary = glossary.with_context(|| format!("{GLOSSARY} is missing"))?;
    let refused = refused_names(&glossary.text);
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code::strip(&file.text);
        for (line, name) in code::identifiers(&code) {
            let Some((_, term)) = refused.iter().find(|(refused, _)| *refused == name) else {
                continue;
            };
            if !is_allowed(&file.path, name) {
                let problem = format!("`{name}` is called {term} here (see {GLOSSARY})");
                findings.push(Finding::new(format!("{}:{line}", file.path), problem));
            }
        }
    }
    Ok(findings)
}

/// So many types of the crates may have one name: `ppo::Config` and `dpo::Config` are told apart by their modules, the eighth
/// `Answer` is not.
const NAMESAKES_MAX: usize = 3;

/// Reports every name that more than [`NAMESAKES_MAX`] types of the crates share, with where they are.
pub(super) fn namesakes(files: &[SourceFile]) -> Vec<Finding> {
    let sources = files.iter().filter(|file| {
        file.is_rust() && file.path.contains("/src/") && !file.path.contains("tests")
    });
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources.filter(|file| file.path.starts_with("crates/")) {
        let code = code::strip(&file.text);
        for (line, text) in code.lines().enumerate() {
            if let Some(name) = declared_type(text) {
                types.entry(name.to_owned()).or_default().push(format!(
                    "{}:{}",
                    file.path,
                    line + 1
                ));
            }
        }
    }
    let shared = types.into_iter().filter(|(_, places)| NAMESAKES_MAX < places.len());
    shared
        .map(|(name, places)| {
            let (count, others) = (places.len(), places[1..].join(", "));
            let problem = format!(
                "{count} types are called `{name}`, at most {NAMESAKES_MAX} may be; the others: {others}"
            );
            Finding::new(&places[0], problem)
        })
        .collect()
}

/// The type that a line outside of blocks declares.
fn declared_type(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest
            .strip_prefix('(')
            .map_or(rest, |rest| rest.split_once(')').map_or(rest, |(_, rest)| rest))
            .trim_start(),
        None => line,
    };
    let line = line.strip_prefix("unsafe ").unwrap_or(line);
    let (kind, rest) = line.split_once(' ')?;
    if !["struct", "enum", "trait", "type", "union"].contains(&kind) {
        return None;
    }
    rest.split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

fn is_allowed(path: &str, name: &str) -> bool {
    ALLOWED.iter().any(|allowed| allowed.name == name && path.starts_with(allowed.path))
}

/// The names in the last column with the first column of their row.
fn refused_names(glossary: &str) -> Vec<(&str, &str)> {
    let rows = glossary.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (term, last) = (columns[0], columns.last().copied().unwrap_or_default());
        last.split('`').skip(1).step_by(2).map(move |name| (name, term)).collect::<Vec<_>>()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_name_from_the_column_not_is_found_and_its_longer_relatives_are_not() {
        let glossary = "| term | in code | is | not |\n|---|---|---|---|\n| value head | `value_head` | a layer | `v_head`, prose |\n";
        let files = [
            file(GLOSSARY, glossary),
            file("crates/a/src/lib.rs", "// v_head\nlet prose = v_head_of(1);\nlet v_head = 1;"),
        ];
        let findings = check(&files).unwrap();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].at, "crates/a/src/lib.rs:3");
        assert!(findings[0].problem.contains("value head"), "{}", findings[0].problem);
    }

    #[test]
    fn the_fourth_type_of_a_name_is_one_too_many() {
        let declared = |path: &str, text: &str| file(path, &format!("{text}\n"));
        let mut files = vec![
            declared(
                "crates/a/src/lib.rs",
                "pub(crate) struct Answer<'a> {\n    type Answer = u8;\n}",
            ),
            declared("crates/b/src/lib.rs", "enum Answer {}\n// struct Answer"),
            declared("crates/b/src/c.rs", "pub type Answer = u8;\npub struct Answers;"),
            declared("crates/b/tests/d.rs", "struct Answer;"),
        ];
        assert!(namesakes(&files).is_empty());
        files.push(declared("crates/e/src/lib.rs", "pub unsafe trait Answer {}"));
        let findings = namesakes(&files);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].problem.contains("4 types are called `Answer`"), "{findings:?}");
        assert!(findings[0].problem.ends_with("crates/b/src/c.rs:1, crates/e/src/lib.rs:1"));
    }
}
