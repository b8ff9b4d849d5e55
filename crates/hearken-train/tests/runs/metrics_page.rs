//! docs/metrics.md against the structs that are written to metrics.jsonl: every field is in its trainer's
//! section, and every name in the tables is a field.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Sections of the page, and the files whose structs they describe, or the structs of a file: `file: Struct Struct`.
const SECTIONS: [(&str, &[&str]); 7] = [
    ("sft", &["sft/metrics.rs"]),
    ("reward", &["reward/metrics.rs", "reward/process/metrics.rs", "reward/outcome.rs"]),
    ("ppo", &["ppo/metrics.rs", "rollout/metrics.rs", "rollout/held_out.rs"]),
    ("grpo", &["grpo/metrics.rs", "rollout/metrics.rs"]),
    ("distill", &["distill/metrics.rs", "rollout/metrics.rs: StepMetrics StepCost"]),
    ("dpo", &["dpo/metrics.rs"]),
    ("dpo with dpo.online", &["dpo/online/metrics.rs", "rollout/metrics.rs: StepMetrics"]),
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under which what an entry of [`SECTIONS`] names is written.
fn written(entry: &str) -> BTreeSet<String> {
    let (file, structs) = entry.split_once(": ").unwrap_or((entry, ""));
    fields(&read(&format!("src/{file}")), structs)
}

/// The names under which the public structs of a file that can be written are written: those of `structs`, or all.
fn fields(source: &str, structs: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut serializes, mut inside) = (false, false);
    let mut attributes = String::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[derive(") {
            serializes = line.contains("Serialize");
        } else if let Some(declared) = line.strip_prefix("pub struct ") {
            let name = declared.split(|c: char| !c.is_alphanumeric()).next();
            let is_meant = structs.is_empty() || structs.split(' ').any(|one| Some(one) == name);
            inside = serializes && is_meant;
            serializes = false;
        } else if line == "}" {
            inside = false;
        } else if inside && let Some(field) = line.strip_prefix("pub ") {
            let renamed =
                attributes.split_once("rename = \"").and_then(|(_, rest)| rest.split('"').next());
            let name = renamed.unwrap_or_else(|| field.split(':').next().unwrap());
            if !attributes.contains("flatten") {
                names.insert(name.to_owned());
            }
            attributes.clear();
        } else if inside && !line.starts_with("///") {
            attributes.push_str(line);
        }
    }
    names
}

/// The section `name` of the page.
fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let start = page.find(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no section {name}"));
    let rest = &page[start + 4..];
    rest.split("\n## ").next().unwrap()
}

/// What stands in backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_field_that_is_written_is_explained() {
    let page = read("../../docs/metrics.md");
    for (name, files) in SECTIONS {
        let explained = quoted(section(&page, name));
        for file in files {
            let written = written(file);
            assert!(!written.is_empty(), "{file}: no field was found");
            for field in written {
                assert!(
                    explained.contains(&field),
                    "docs/metrics.md, {name}: {field} of {file} is missing"
                );
            }
        }
    }
}

#[test]
fn every_name_in_the_tables_is_written() {
    let page = read("../../docs/metrics.md");
    let shared = fields(&read("../hearken-run/src/metrics.rs"), "");
    assert!(shared.contains("tokens_per_s"));
    for (name, files) in SECTIONS {
        let written: BTreeSet<String> = files.iter().flat_map(|file| written(file)).collect();
        let rows = section(&page, name).lines().filter(|line| line.starts_with("| `"));
        for row in rows {
            for field in quoted(row.split('|').nth(1).unwrap()) {
                // Named after the sources of a configuration.
                let known =
                    field.contains("LABEL") || written.contains(&field) || shared.contains(&field);
                assert!(known, "docs/metrics.md, {name}: {field} is no field");
            }
        }
    }
}

/// The test reads source text; this is what it must find there.
#[test]
fn fields_have_the_names_that_they_are_written_under() {
    let source = "\
/// Not written.
#[derive(Clone, Debug)]
pub struct Hidden {
    pub nothing: f64,
}
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// A step.
    pub step: u64,
    #[serde(rename = \"val/ratio\")]
    pub ratio: f64,
    #[serde(
        rename = \"a/b\",
        skip_serializing_if = \"Option::is_none\"
    )]
    pub long: Option<f64>,
    #[serde(flatten)]
    pub timing: Timing,
    private: u8,
}
";
    let expected = ["a/b", "step", "val/ratio"].map(str::to_owned);
    assert_eq!(fields(source, ""), BTreeSet::from(expected));
    assert_eq!(fields(source, "Other Shown").len(), 3);
    assert!(fields(source, "Other").is_empty());
}
