//! What no compiler checks: rules about the workspace as a whole.

mod allowed_names;
mod arguments;
mod arrows;
mod code;
mod files;
mod modules;
mod names;
mod texts;

use std::path::Path;

use anyhow::{Result, bail};

use files::SourceFile;

/// What says how the code is built.
const DOCUMENT: &str = "ARCHITECTURE.md";

/// A rule that is broken, and where.
#[derive(Debug)]
struct Finding {
    at: String,
    problem: String,
}

impl Finding {
    fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }
}

/// Runs every check and lists all that is wrong.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = files::read(root)?;
    let mut findings = arrows::check(root)?;
    findings.extend(modules::check(&files));
    findings.extend(arguments::check(&files));
    findings.extend(lengths(&files));
    findings.extend(unsafe_code(&files));
    findings.extend(names::check(&files)?);
    findings.extend(names::namesakes(&files));
    findings.extend(texts::check(&files));
    if findings.is_empty() {
        crate::say(&format!("tidy: {} files, nothing to complain about", files.len()));
        return Ok(());
    }
    for finding in &findings {
        crate::say(&format!("{}: {}", finding.at, finding.problem));
    }
    bail!("tidy: {} findings", findings.len());
}

/// Files above this are two files.
const LINES_MAX: usize = 800;

fn lengths(files: &[SourceFile]) -> Vec<Finding> {
    let rust = files.iter().filter(|file| file.is_rust());
    let long = rust.filter(|file| LINES_MAX < file.text.lines().count());
    long.map(|file| {
        let lines = file.text.lines().count();
        Finding::new(&file.path, format!("has {lines} lines, at most {LINES_MAX} are allowed"))
    })
    .collect()
}

/// Only this crate may hold `unsafe`.
const UNSAFE_HOME: &str = "crates/hearken-tensor/";

fn unsafe_code(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with(UNSAFE_HOME)) {
        if file.is_rust() {
            let code = code::strip(&file.text);
            for (line, name) in code::identifiers(&code) {
                if name == "unsafe" {
                    let problem = format!("`unsafe` belongs in {UNSAFE_HOME}");
                    findings.push(Finding::new(format!("{}:{line}", file.path), problem));
                }
            }
        } else if file.path.ends_with("/Cargo.toml")
            && !file.text.contains("[lints]\nworkspace = true")
            // A workspace of its own says so itself.
            && !file.text.contains("[lints.rust]\nunsafe_code = \"forbid\"")
        {
            let problem = "lacks `[lints] workspace = true`, which forbids `unsafe`";
            findings.push(Finding::new(&file.path, problem));
        }
    }
    findings
}
