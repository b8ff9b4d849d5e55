//! The dependency arrows: ARCHITECTURE.md's table of crates against what cargo says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{DOCUMENT, Finding};

/// One row of the table: a crate and the crates of the workspace that it uses.
#[derive(Debug, PartialEq, Eq)]
struct CrateRow {
    name: String,
    uses: BTreeSet<String>,
}

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join(DOCUMENT))
        .with_context(|| format!("{DOCUMENT} cannot be read"))?;
    let table = table(&text);
    if table.is_empty() {
        bail!("{DOCUMENT} has no table of crates");
    }
    Ok(compare(&table, &actual(root)?))
}

/// Rows `| crate | what it is | uses |` whose first column is a crate's name, set as code.
fn table(text: &str) -> Vec<CrateRow> {
    let rows = text.lines().filter(|line| line.starts_with("| `hearken-"));
    rows.map(|row| {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let uses = columns.last().copied().unwrap_or_default();
        let short = uses.split('`').skip(1).step_by(2);
        CrateRow {
            name: columns[0].trim_matches('`').to_owned(),
            uses: short.map(|name| format!("hearken-{name}")).collect(),
        }
    })
    .collect()
}

/// What each crate uses, tests aside, from `cargo metadata`.
fn actual(root: &Path) -> Result<Vec<CrateRow>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let output = Command::new(program).current_dir(root).args(arguments).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let hearken = |name: &&str| name.starts_with("hearken-");
    let rows = packages.iter().filter_map(|package| {
        let name = package["name"].as_str().filter(hearken)?;
        let dependencies = package["dependencies"].as_array()?;
        let normal = dependencies.iter().filter(|each| each["kind"].as_str() != Some("dev"));
        let uses = normal.filter_map(|each| each["name"].as_str().filter(hearken));
        Some(CrateRow { name: name.to_owned(), uses: uses.map(str::to_owned).collect() })
    });
    Ok(rows.collect())
}

fn compare(table: &[CrateRow], actual: &[CrateRow]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let place = |name: &str| table.iter().position(|row| row.name == name);
    for row in actual {
        let Some(index) = place(&row.name) else {
            findings.push(Finding::new(DOCUMENT, format!("its table lacks `{}`", row.name)));
            continue;
        };
        for used in &row.uses {
            if place(used).is_some_and(|below| below <= index) {
                let problem = format!("uses `{used}`, which stands above it in {DOCUMENT}");
                findings.push(Finding::new(&row.name, problem));
            }
        }
        for wrong in row.uses.symmetric_difference(&table[index].uses) {
            let problem = if row.uses.contains(wrong) {
                format!("does not say that `{}` uses `{wrong}`", row.name)
            } else {
                format!("says that `{}` uses `{wrong}`, which it does not", row.name)
            };
            findings.push(Finding::new(DOCUMENT, problem));
        }
    }
    for row in table {
        if !actual.iter().any(|each| each.name == row.name) {
            let problem = format!("its table has `{}`, the workspace does not", row.name);
            findings.push(Finding::new(DOCUMENT, problem));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, uses: &[&str]) -> CrateRow {
        CrateRow { name: name.into(), uses: uses.iter().map(|&name| name.into()).collect() }
    }

    #[test]
    fn the_table_is_read_from_top_to_bottom() {
        let text = "| crate | is | uses |\n|---|---|---|\n| `hearken-a` | x | `b` |\n| `hearken-b` | y | nothing |\n";
        assert_eq!(table(text), [row("hearken-a", &["hearken-b"]), row("hearken-b", &[])]);
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let table = [row("hearken-a", &[]), row("hearken-b", &["hearken-a"])];
        let actual = [row("hearken-a", &[]), row("hearken-b", &["hearken-a"])];
        let findings = compare(&table, &actual);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].problem.contains("stands above"), "{}", findings[0].problem);
    }

    #[test]
    fn a_table_that_says_too_little_or_too_much_is_found() {
        let table =
            [row("hearken-a", &["hearken-c"]), row("hearken-b", &[]), row("hearken-c", &[])];
        let actual = [row("hearken-a", &["hearken-b"]), row("hearken-b", &[])];
        let problems: Vec<String> =
            compare(&table, &actual).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
