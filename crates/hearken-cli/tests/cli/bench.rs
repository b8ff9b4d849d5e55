//! `hearken bench`.

use std::path::Path;

use serde_json::Value;

use crate::support::{number, run};

fn results(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A step as small as steps get, so that the model is all the work.
#[test]
fn results_carry_what_was_measured_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let sizes = ["--batch=2", "--prompt-tokens=4", "--completion-tokens=3", "--steps=1"];
    let work = ["bench", "--work=generate", "--dtype=bf16", "--threads=1", "--profile", "--json"];
    let text = run(work.iter().chain([&path.to_str().unwrap()]).chain(&sizes)).ok().stdout;
    assert!(text.contains("generate") && text.contains("products"), "{text}");
    let rows = results(&path);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["work"], &row["shape"]), (&"generate".into(), &"small30".into()));
    assert_eq!(row["dtype"], "bf16");
    assert_eq!((number(row, "threads"), number(row, "tokens_per_step")), (1.0, 6.0));
    let rate = number(row, "tokens_per_step") / number(row, "step_s");
    assert!((rate / number(row, "tokens_per_s") - 1.0).abs() < 1e-9, "{row}");
    for key in ["gflops", "peak_share"] {
        assert!(0.0 < number(row, key), "{key}: {row}");
    }
    if cfg!(target_os = "linux") {
        // The rounded weights and the embeddings alone take 66 MiB.
        assert!(66.0 < number(row, "peak_rss_mb"), "{row}");
    }
}

#[test]
fn the_machine_at_its_best_has_no_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    run(["bench", "--work", "peak", "--json", path.to_str().unwrap()]).ok();
    let rows = results(&path);
    assert_eq!((&rows[0]["work"], &rows[0]["dtype"]), (&"peak".into(), &"f32".into()));
    for row in &rows {
        assert_eq!((&row["tokens_per_s"], number(row, "peak_share")), (&Value::Null, 1.0));
        assert!(0.0 < number(row, "gflops") && 0.0 < number(row, "bandwidth_gb_per_s"));
    }
}

#[test]
fn a_file_that_could_not_be_written_is_refused_before_anything_is_measured() {
    let error = run(["bench", "--work", "all", "--json", "nowhere/results.json"]).error();
    assert!(error.contains("nowhere"), "{error}");
}
