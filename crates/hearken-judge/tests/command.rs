//! A program as a source of scores: what it must do, and every way in which it can fail to.
#![cfg(unix)]
// A test may fail; that is what it is for.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hearken_judge::{CommandOptions, CommandScorer, Item, JudgeError};
use serde_json::{Map, Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn start(script: &str, deadline: Duration) -> CommandScorer {
    let args = vec!["-c".to_owned(), script.to_owned()];
    CommandScorer::start(&CommandOptions { program: "sh".to_owned(), args, deadline }).unwrap()
}

fn score(scorer: &mut CommandScorer, completions: &[&str]) -> Result<Vec<f64>, JudgeError> {
    let fields = Map::new();
    let items: Vec<_> = completions
        .iter()
        .map(|completion| Item {
            prompt: "a \"prompt\"\n",
            messages: None,
            completion,
            fields: &fields,
        })
        .collect();
    scorer.score(&items)
}

#[test]
fn a_program_started_once_scores_batch_after_batch_in_order() {
    // The score is the number of the line since the start.
    let script = r#"n=0; while read -r line; do n=$((n+1)); echo "{\"score\": $n.5}"; done"#;
    let mut scorer = start(script, PATIENCE);
    assert_eq!(score(&mut scorer, &["a", "b"]).unwrap(), [1.5, 2.5]);
    assert_eq!(score(&mut scorer, &[]).unwrap(), [0.0; 0]);
    assert_eq!(score(&mut scorer, &["c"]).unwrap(), [3.5]);
}

#[test]
fn requests_are_one_json_line_each_with_all_fields() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("requests");
    let script = format!(
        r#"while read -r line; do printf '%s\n' "$line" >> {}; echo '{{"score": -1e-3}}'; done"#,
        log.display()
    );
    let mut scorer = start(&script, PATIENCE);
    let fields = json!({ "answer": "4", "id": "theirs" });
    let item = Item {
        prompt: "2 +\n2",
        messages: None,
        completion: "é",
        fields: fields.as_object().unwrap(),
    };
    assert_eq!(scorer.score(&[item, item]).unwrap(), [-1e-3, -1e-3]);
    let lines = std::fs::read_to_string(&log).unwrap();
    let requests: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        requests,
        [0, 1].map(|id| json!({"id": id, "prompt": "2 +\n2", "completion": "é", "answer": "4"}))
    );
}

/// Neither side waits for the other when requests and answers exceed what a pipe holds.
#[test]
fn a_large_batch_does_not_deadlock() {
    let script = r#"while read -r line; do printf '{"score": 1, "pad": "%01000d"}\n' 0; done"#;
    let mut scorer = start(script, PATIENCE);
    let long = "x".repeat(2000);
    assert_eq!(score(&mut scorer, &vec![long.as_str(); 500]).unwrap(), vec![1.0; 500]);
}

#[test]
fn a_missing_program_is_an_error_at_the_start() {
    let options =
        CommandOptions { program: "/no/such/program".to_owned(), args: vec![], deadline: PATIENCE };
    let error = CommandScorer::start(&options).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[test]
fn a_crash_is_reported_with_status_count_and_last_words() {
    let mut scorer =
        start(r#"read -r line; echo '{"score": 1}'; echo "out of tea" >&2; exit 3"#, PATIENCE);
    let error = score(&mut scorer, &["a", "b"]).unwrap_err().to_string();
    for part in ["exit status: 3", "1 of 2", "out of tea"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(score(&mut scorer, &["a"]).is_err(), "a scorer that failed stays failed");
}

#[test]
fn a_hang_ends_at_the_deadline_and_kills_what_the_program_started() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
    let mut scorer = start(&script, Duration::from_millis(700));
    let begin = Instant::now();
    let error = score(&mut scorer, &["a"]).unwrap_err();
    assert!(
        matches!(error, JudgeError::CommandDeadline { received: 0, expected: 1, .. }),
        "{error}"
    );
    assert!(begin.elapsed() < Duration::from_secs(20));
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(ends(pid.trim()), "process {pid} outlives the scorer");
}

#[test]
fn the_program_is_killed_with_the_scorer() {
    let scorer = start("sleep 1000", PATIENCE);
    drop(start("trap '' TERM; sleep 1000", PATIENCE));
    drop(scorer);
}

fn ends(pid: &str) -> bool {
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let alive = Command::new("kill").args(["-0", pid]).output().unwrap().status.success();
        !alive || (Path::new("/proc").exists() && state.contains(") Z "))
    };
    (0..200).any(|_| {
        gone() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }
    })
}

#[test]
fn anything_but_a_finite_number_is_an_error() {
    for (answer, reason) in [
        (r#"{"score": NaN}"#, "not JSON"),
        (r#"{"score": null}"#, "null where a finite number"),
        (r#"{"score": "1"}"#, "finite number"),
        (r#"{"reward": 1}"#, "no score"),
        (r#"{"score": 1e999}"#, "not JSON"),
        ("0.5", "not a JSON object"),
        ("", "not JSON"),
        (r#"{"id": 7, "score": 1}"#, "it answers request 7, the next in order is 0"),
    ] {
        let mut scorer = start(&format!("read -r line; echo '{answer}'; sleep 100"), PATIENCE);
        let error = score(&mut scorer, &["a"]).unwrap_err();
        assert!(matches!(error, JudgeError::BadAnswer { answer: 1, .. }), "{answer}: {error}");
        assert!(error.to_string().contains(reason), "{answer}: {error}");
    }
}

#[test]
fn a_line_too_many_is_an_error_not_the_next_score() {
    let script = r#"while read -r line; do echo '{"score": 1}'; echo '{"score": 2}'; done"#;
    let mut scorer = start(script, PATIENCE);
    // The second line may be on its way when the first batch is complete; by the next batch it is there.
    let first = score(&mut scorer, &["a"]);
    std::thread::sleep(Duration::from_millis(500));
    let error = first.and_then(|_| score(&mut scorer, &["b"])).unwrap_err();
    assert!(matches!(error, JudgeError::TooManyAnswers { .. }), "{error}");
}
