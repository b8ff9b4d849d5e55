//! One word per thing: names that the glossary rules out.

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
}
