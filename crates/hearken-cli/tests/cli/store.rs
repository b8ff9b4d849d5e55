//! `hearken store`.

use std::fs;

use crate::support::run;

const LINES: &str = concat!(
    r#"{"item":{"id":"q1","task":"pairwise","prompt":[],"candidates":[{"text":"4"},{"text":"5"}]}}"#,
    "\n",
    r#"{"judgement":{"id":"j1","item":"q1","annotator":"ada","verdict":{"kind":"tie"}}}"#,
    "\n",
    r#"{"document":{"kind":"account","key":"ada","version":1,"body":{"name":"Ada"}}}"#,
    "\n",
);

#[test]
fn a_store_is_looked_into_copied_backed_up_restored_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a.jsonl"), LINES).unwrap();
    let copied = run(["store", "copy", &path("a.jsonl"), &path("b.db")]).ok().stdout;
    assert!(copied.contains("1 items, 1 judgements, 0 assignments, 1 documents"), "{copied}");
    let info = run(["store", "info", &path("b.db")]).ok().stdout;
    let row = |name: &str| info.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("items ").ends_with(" 1"), "{info}");
    assert!(row("annotators who have judged").ends_with(" 1"), "{info}");
    run(["store", "backup", &path("b.db"), &path("c.db")]).ok();
    run(["store", "restore", &path("c.db"), &path("d.jsonl")]).ok();
    run(["store", "export", "--all", &path("d.jsonl"), &path("e.jsonl")]).ok();
    assert_eq!(fs::read(path("e.jsonl")).unwrap(), fs::read(path("d.jsonl")).unwrap());
    run(["store", "export", &path("d.jsonl"), &path("f.jsonl")]).ok();
    let data = fs::read_to_string(path("f.jsonl")).unwrap();
    assert_eq!((data.lines().count(), data.contains("Ada")), (2, false), "{data}");
}

#[test]
fn a_store_that_is_missing_wrong_or_full_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let refused = |arguments: &[&str], words: &[&str]| {
        let ran = run(arguments);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    };
    refused(&["store", "info", &path("none.db")], &["none.db", "no store"]);
    assert!(!folder.path().join("none.db").exists());
    refused(&["store", "restore", &path("none.db"), &path("new.db")], &["none.db"]);
    fs::write(path("wrong.jsonl"), format!("{LINES}{{\"item\":3}}\n")).unwrap();
    refused(&["store", "info", &path("wrong.jsonl")], &["wrong.jsonl:4"]);
    fs::write(path("a.jsonl"), LINES).unwrap();
    run(["store", "copy", &path("a.jsonl"), &path("b.db")]).ok();
    refused(&["store", "copy", &path("a.jsonl"), &path("b.db")], &["b.db", "not empty"]);
    refused(&["store", "backup", &path("b.db"), &path("a.jsonl")], &["a.jsonl", "exists"]);
}
