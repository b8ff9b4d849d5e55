//! `hearken data`.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use crate::support::{model, run, write};

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn rows_go_through_every_layout_unchanged() {
    let folder = tempdir().unwrap();
    let lines = "{\"prompt\":\"a, \\\"b\\\"\\nc\",\"completion\":\"1\"}\n{\"prompt\":\"ä\",\"completion\":\"2\"}\n";
    let first = write(folder.path(), "rows.jsonl", lines);
    let mut from = text(&first);
    for name in ["a.csv", "b.json", "c.tsv.gz", "d.jsonl.zst", "e.csv.zst", "f.jsonl"] {
        let to = text(&folder.path().join(name));
        let ran = run(["data", "convert", &from, &to]).ok();
        assert!(ran.stderr.contains(&format!("{name}: 2 rows")), "{}", ran.stderr);
        from = to;
    }
    assert_eq!(fs::read_to_string(&from).unwrap(), lines);

    // Objects in cells are JSON; a row that a column is missing from has an empty cell.
    let nested = write(folder.path(), "n.jsonl", "{\"a\": [1]}\n{\"b\": null, \"c\": 0.5}\n");
    let cells = text(&folder.path().join("n.csv"));
    run(["data", "convert", &text(&nested), &cells]).ok();
    assert_eq!(fs::read_to_string(&cells).unwrap(), "a,b,c\n[1],,\n,,0.5\n");
}

#[test]
fn what_cannot_be_converted_is_said_and_nothing_is_written() {
    let folder = tempdir().unwrap();
    let bad = text(&write(folder.path(), "bad.jsonl", "{\"a\": 1}\n{\"a\": \n"));
    let output = folder.path().join("out.csv");
    for (to, expected) in [
        (text(&output), "bad.jsonl:2: found invalid JSON"),
        (text(&folder.path().join("out.parquet")), "Parquet is read and not written"),
        (text(&folder.path().join("out.txt")), "expected a name that ends in .jsonl"),
        (bad.clone(), "is read; expected another file"),
    ] {
        let ran = run(["data", "convert", &bad, &to]);
        assert!(ran.stderr.contains(expected), "{to}: {}", ran.stderr);
        assert!(!output.exists());
    }
    let ran = run(["data", "convert", &bad, &text(&output), "--skip-bad"]).ok();
    assert!(ran.stderr.contains("1 rows left out, the first"), "{}", ran.stderr);
    let nan = text(&write(folder.path(), "nan.jsonl", "{\"a\": NaN, \"b\": 1}\n"));
    let ran = run(["data", "convert", &nan, &text(&folder.path().join("x.jsonl"))]).ok();
    assert!(ran.stderr.contains("column `a` left out of 1 rows, the first: NaN"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(folder.path().join("x.jsonl")).unwrap(), "{\"b\":1}\n");
}

#[test]
fn counts_are_those_of_the_file() {
    let folder = tempdir().unwrap();
    let pair =
        |n: usize| format!("{{\"prompt\": \"{n}?\", \"chosen\": \"yes\", \"rejected\": \"no\"}}\n");
    let train = [pair(1), pair(2), pair(2), pair(3), "{\"prompt\": 4, \"chosen\": \"a\"}\n".into()];
    let train = text(&write(folder.path(), "train.jsonl", &train.concat()));
    let eval = text(&write(folder.path(), "eval.jsonl", &[pair(3), pair(9)].concat()));
    let ran = run(["data", "stats", &train, "--eval", &eval, "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let found = &found[0];
    assert_eq!((&found["records"], &found["bad"]), (&4.into(), &1.into()));
    assert_eq!((&found["duplicates"], &found["prompts"]), (&1.into(), &3.into()));
    assert_eq!(found["prompts_in_eval"], 1);
    assert_eq!((&found["unit"], &found["lengths"]["median"]), (&"characters".into(), &7.into()));

    let model = text(&model("llama"));
    let ran = run(["data", "stats", &train, "--model", &model, "--max-tokens", "4"]).ok();
    assert!(ran.stdout.contains("are longer than 4 tokens"), "{}", ran.stdout);
    assert!(ran.stdout.contains("tokens of an example: mean"), "{}", ran.stdout);
    let ran = run(["data", "inspect", &eval, "--model", &model, "--examples", "1"]).ok();
    assert!(ran.stdout.contains("example 1"), "{}", ran.stdout);
}
