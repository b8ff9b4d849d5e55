//! How long large files take: `cargo test --release -p hearken-data --test feedback -- --ignored`.
#![allow(clippy::print_stderr, reason = "a measurement says what it measured")]

use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use hearken_data::feedback::formats::{ImportOptions, import};

const ITEMS: usize = 100_000;
const JUDGEMENTS: usize = 1_000_000;

#[test]
#[ignore = "writes and reads 250 MB"]
fn a_million_judgements_are_imported_in_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.jsonl");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    for item in 0..ITEMS {
        let text = "an answer of a few words that says something or other. ".repeat(4);
        writeln!(
            file,
            r#"{{"item":{{"id":"i{item}","task":"pairwise","prompt":[{{"role":"user","content":"question {item}"}}],"candidates":[{{"text":"{text}"}},{{"text":"no"}}]}}}}"#
        )
        .unwrap();
    }
    for judgement in 0..JUDGEMENTS {
        let (item, annotator) = (judgement % ITEMS, judgement / ITEMS);
        writeln!(
            file,
            r#"{{"judgement":{{"id":"j{judgement}","item":"i{item}","annotator":"a{annotator}","verdict":{{"kind":"preferred","candidate":{}}},"presented":[1,0],"duration_ms":1200,"at":1700000000000}}}}"#,
            judgement % 2
        )
        .unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let start = Instant::now();
    let import = import(&[&path], None, &ImportOptions::default()).unwrap();
    let taken = start.elapsed();
    assert_eq!((import.items.len(), import.judgements.len()), (ITEMS, JUDGEMENTS));
    eprintln!("{JUDGEMENTS} judgements on {ITEMS} items: {:.1} s", taken.as_secs_f64());
    assert!(taken < Duration::from_secs(30), "{taken:?}");
}
