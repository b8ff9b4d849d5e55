//! `hearken data`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
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
fn conversations_go_through_parquet_unchanged() {
    let folder = tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let lines = [
        r#"{"messages":[{"role":"user","content":"ä"},{"role":"assistant","content":"b"}],"tags":["x","y"],"n":1,"p":0.5,"ok":true}"#,
        r#"{"messages":[],"tags":[],"n":-9007199254740993,"p":2.0,"ok":false}"#,
        r#"{"messages":[{"role":"user","content":""}],"tags":null,"n":null,"p":null,"ok":null}"#,
        r#"{"messages":[{"role":"user","content":null}],"tags":["",null],"n":3,"p":1e300,"ok":true}"#,
    ];
    let first = write(folder.path(), "rows.jsonl", &(lines.join("\n") + "\n"));
    let ran = run(["data", "convert", &text(&first), &at("rows.parquet")]).ok();
    assert!(ran.stderr.contains("rows.parquet: 4 rows"), "{}", ran.stderr);
    run(["data", "convert", &at("rows.parquet"), &at("again.jsonl")]).ok();
    let parsed = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let again = fs::read_to_string(at("again.jsonl")).unwrap();
    assert_eq!(parsed(&again), parsed(&lines.join("\n")));
    // More rows than a group has, and what one row lacks.
    let mut many = String::new();
    for n in 0..25_000 {
        many += &json!({"n": n, "a": n.to_string()}).to_string();
        many.push('\n');
    }
    many += "{\"n\":0,\"b\":[{\"c\":[1]}]}\n";
    let many = write(folder.path(), "many.jsonl", &many);
    run(["data", "convert", &text(&many), &at("many.parquet")]).ok();
    run(["data", "convert", &at("many.parquet"), &at("many.json")]).ok();
    let read: Value = serde_json::from_str(&fs::read_to_string(at("many.json")).unwrap()).unwrap();
    assert_eq!(read[24_999]["n"], 24_999);
    assert_eq!(read[25_000], json!({"n": 0, "a": null, "b": [{"c": [1]}]}));
}

#[test]
fn a_column_that_parquet_has_no_type_for_is_named_and_nothing_is_written() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("out.parquet");
    for (lines, expected) in [
        (
            "{\"a\": 1}\n{\"a\": \"x\"}\n",
            "rows.jsonl:2: column `a`: found text, expected an integer",
        ),
        (
            "{\"m\": [{\"c\": \"x\"}]}\n{\"m\": [{\"c\": [1]}]}\n",
            "rows.jsonl:2: column `m[].c`: found a list, expected text",
        ),
        ("{\"a\": 18446744073709551615}\n", "column `a`: found 18446744073709551615"),
        ("{\"a\": 9007199254740993}\n{\"a\": 0.5}\n", "beside numbers with a point"),
        ("{\"a\": {}}\n", "column `a` has objects without a field"),
    ] {
        let rows = write(folder.path(), "rows.jsonl", lines);
        let error = run(["data", "convert", &text(&rows), &text(&output)]).error();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

/// The decoder panics on some of these.
#[test]
fn damaged_parquet_is_one_sentence_and_no_panic_is_told() {
    let fixtures = crate::support::workspace().join("crates/hearken-data/tests/fixtures/parquet");
    let folder = tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    for name in ["snappy", "dictionary"] {
        let whole = fs::read(fixtures.join(format!("{name}.parquet"))).unwrap();
        let places = (4..whole.len()).step_by(whole.len() / 40);
        for place in places {
            let mut damaged = whole.clone();
            damaged[place] ^= 0xff;
            fs::write(&path, &damaged).unwrap();
            let ran = run([
                "data",
                "convert",
                &text(&path),
                &text(&folder.path().join("out.jsonl")),
                "--skip-bad",
            ]);
            assert!(!ran.stderr.contains("panicked"), "{name}, byte {place}: {}", ran.stderr);
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = run(["data", "stats", &text(&path)]).error();
        assert!(error.contains("damaged.parquet"), "{error}");
    }
}

#[test]
fn what_cannot_be_converted_is_said_and_nothing_is_written() {
    let folder = tempdir().unwrap();
    let bad = text(&write(folder.path(), "bad.jsonl", "{\"a\": 1}\n{\"a\": \n"));
    let output = folder.path().join("out.csv");
    for (to, expected) in [
        (text(&output), "bad.jsonl:2: found invalid JSON"),
        (text(&folder.path().join("out.parquet")), "bad.jsonl:2: found invalid JSON"),
        (text(&folder.path().join("out.parquet.gz")), "expected a name that ends in .parquet"),
        (text(&folder.path().join("out.txt")), "expected a name that ends in .parquet, .jsonl"),
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
fn the_speed_of_training_is_timed_where_it_is_asked_for() {
    let folder = tempdir().unwrap();
    let demonstrations = "{\"prompt\": \"a\", \"completion\": \" b c d\"}\n".repeat(9);
    let pairs = "{\"prompt\": \"a\", \"chosen\": \" b\", \"rejected\": \" c d\"}\n".repeat(9);
    let base = text(&model("llama"));
    for (name, lines) in [("rows.jsonl", demonstrations), ("pairs.jsonl", pairs)] {
        let rows = text(&write(folder.path(), name, &lines));
        let ran = run(["data", "stats", &rows, "--model", &base, "--speed"]).ok();
        assert!(ran.stdout.contains("tokens/s in training all weights here"), "{}", ran.stdout);
        let without = run(["data", "stats", &rows, "--model", &base]).ok();
        assert!(!without.stdout.contains("tokens/s"), "{}", without.stdout);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
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
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
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
