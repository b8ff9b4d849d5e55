//! `docs/analyze.md` lists the names of the JSON.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;

use hearken_analysis::features::NAMES;
use hearken_analysis::simulate::{Habits, World, simulate};
use hearken_analysis::{Options, analyze};
use rand::SeedableRng;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/analyze.md");

fn analysis() -> Value {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let world = World { items: 60, gold_every: 5, ..World::default() };
    let records = simulate(&world, &vec![Habits::HONEST; 6], &mut rng);
    let options = Options { bootstrap_rounds: 20, ..Options::default() };
    serde_json::to_value(analyze(&records, &options)).unwrap()
}

/// What stands in backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_top_level_is_that_of_the_document() {
    let (_, after) = DOCUMENT.split_once("The top level:").unwrap();
    let (table, _) = after.split_once("`notes` of a section").unwrap();
    let documented: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let analysis = analysis();
    let serialized: Vec<&String> = analysis.as_object().unwrap().keys().collect();
    assert_eq!(documented, serialized);
}

#[test]
fn every_name_of_every_section_is_in_the_document() {
    let known: BTreeSet<&str> = code(DOCUMENT).collect();
    let analysis = analysis();
    let mut missing = BTreeSet::new();
    let names = |value: &Value| -> Vec<String> {
        value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    for (section, value) in analysis.as_object().unwrap() {
        missing.extend(names(value).into_iter().map(|name| (section.clone(), name)));
    }
    for (section, value) in [
        ("comparisons", &analysis["agreement"]["comparisons"]),
        ("annotator", &analysis["annotators"]["list"][0]),
        ("speed", &analysis["annotators"]["list"][0]["speed"]),
        ("pattern", &analysis["patterns"]["features"][0]),
        ("model", &analysis["leaderboard"]["models"][0]),
        ("rule", &analysis["voting"]["rules"][0]),
        ("times", &analysis["progress"]["seconds"]),
    ] {
        assert!(value.is_object(), "{section}");
        missing.extend(names(value).into_iter().map(|name| (section.to_owned(), name)));
    }
    missing.retain(|(_, name)| {
        !known.contains(name.as_str())
            && !["notes", "description", "list", "model"].contains(&name.as_str())
    });
    assert!(missing.is_empty(), "{missing:?}");
    let rules: Vec<&str> = ["plurality", "instant_runoff", "maximal_lottery"].into();
    assert!(NAMES.iter().chain(&rules).all(|name| known.contains(name)));
}
