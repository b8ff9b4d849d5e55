//! A trainer's file is its algorithm: what two of them have in common belongs to the frame.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TRAINERS: [&str; 7] = ["sft", "reward", "dpo", "dpo/online", "ppo", "grpo", "distill"];
/// Lines that two trainers may share.
const SHARED_MAX: usize = 12;

/// How often each line of code stands in a file, its tests left out: trimmed, without imports, comments
/// and lines of punctuation.
fn lines(source: &str) -> BTreeMap<&str, usize> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let (mut counts, mut is_import) = (BTreeMap::new(), false);
    for line in code.lines().map(str::trim) {
        is_import |= line.starts_with("use ") || line.starts_with("pub use ");
        let counts_for_nothing =
            is_import || line.starts_with("//") || !line.contains(|c: char| c.is_alphanumeric());
        is_import &= !line.ends_with(';');
        if !counts_for_nothing {
            *counts.entry(line).or_default() += 1;
        }
    }
    counts
}

fn shared<'a>(one: &BTreeMap<&'a str, usize>, other: &BTreeMap<&'a str, usize>) -> Vec<&'a str> {
    let common = one.iter().filter_map(|(line, count)| Some((*line, *count.min(other.get(line)?))));
    common.flat_map(|(line, count)| vec![line; count]).collect()
}

#[test]
fn no_two_trainers_share_more_than_a_dozen_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = TRAINERS.map(|name| fs::read_to_string(root.join(format!("{name}.rs"))).unwrap());
    for (index, one) in sources.iter().enumerate() {
        assert!(50 < lines(one).len(), "{}: too few lines to be a trainer", TRAINERS[index]);
        for (other, name) in sources.iter().zip(TRAINERS).take(index) {
            let found = shared(&lines(one), &lines(other));
            assert!(
                found.len() <= SHARED_MAX,
                "{} and {name} share {} lines: {found:#?}",
                TRAINERS[index],
                found.len()
            );
        }
    }
}

/// The count itself: twice the same line counts twice, and imports not at all.
#[test]
fn lines_are_counted_where_they_stand() {
    let one = "use a::{\n    b,\n};\nlet x = 1;\nlet x = 1;\n}\n// let y\nlet z = 2;";
    let other = "use a::b;\n  let x = 1;\nlet x = 1;\nlet x = 1;\n}";
    assert_eq!(shared(&lines(one), &lines(other)), ["let x = 1;", "let x = 1;"]);
}
