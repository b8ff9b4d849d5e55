//! Programs in the sandbox: what passes, and what it keeps in.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use hearken_reward_source::{CodeSource, RewardSource, RolloutView, Sandbox, SandboxLimits, Score};
use serde_json::{Map, Value, json};

const LIMITS: SandboxLimits = SandboxLimits {
    deadline: Duration::from_secs(20),
    memory_bytes: 1 << 30,
    disk_bytes: 4 << 20,
    processes: 16,
};

/// `None` where this machine has no namespaces; then there is nothing to test.
fn bash(limits: SandboxLimits) -> Option<CodeSource> {
    let sandbox = Sandbox { program: "bash".to_owned(), args: Vec::new(), limits };
    match CodeSource::new("code", "tests", sandbox) {
        Ok(source) => Some(source),
        Err(error) => {
            hearken_testing::skip(&error.to_string());
            None
        }
    }
}

fn scores(source: &mut CodeSource, completions: &[&str], tests: Value) -> Vec<f64> {
    let fields: Map<String, Value> = [("tests".to_owned(), tests)].into_iter().collect();
    let view = |completion: &&'static str| RolloutView {
        prompt: "write a program",
        messages: None,
        completion,
        prompt_ids: &[],
        completion_ids: &[],
        ended: true,
        fields: &fields,
    };
    // The borrow of a completion outlives the call: they are all literals.
    let completions: Vec<&'static str> =
        completions.iter().map(|text| &*text.to_string().leak()).collect();
    let views: Vec<RolloutView<'_>> = completions.iter().map(view).collect();
    source.score(&views).unwrap().iter().map(Score::total).collect()
}

/// The score of a program whose only test is to exit with 0.
fn passes(source: &mut CodeSource, program: &str) -> bool {
    0.5 < scores(source, &[program], json!("exit $?"))[0]
}

#[test]
fn the_score_is_the_share_of_tests_that_pass() {
    let Some(mut source) = bash(LIMITS) else { return };
    let add = "Here it is:\n```bash\nadd() { echo $(($1 + $2)); }\n```\n";
    let appended = json!(["[ $(add 1 2) = 3 ]", "[ $(add 2 2) = 4 ]", "[ $(add 1 1) = 3 ]"]);
    let found = scores(&mut source, &[add, "add() { echo 3; }", "syntax ( error"], appended);
    for (found, expected) in found.iter().zip([2.0 / 3.0, 2.0 / 3.0, 0.0]) {
        assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
    }
    let double = "read x; echo $((2 * x))";
    let io = json!([{ "input": "4\n", "output": "8" }, { "input": "5\n", "output": "11" }]);
    assert!((scores(&mut source, &[double], io)[0] - 0.5).abs() < 1e-12);
}

#[test]
fn a_program_that_hangs_is_ended_with_everything_that_it_started() {
    let deadline = Duration::from_secs(1);
    let Some(mut source) = bash(SandboxLimits { deadline, ..LIMITS }) else { return };
    let started = Instant::now();
    assert!(!passes(&mut source, "sleep 4711 & setsid sleep 4711 & while :; do :; done"));
    assert!(!passes(&mut source, "trap '' TERM INT HUP; sleep 4711"));
    // What was sent to the background does not keep the score waiting either.
    assert!(passes(&mut source, "sleep 4711 >/dev/null & true"));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    assert_eq!(lines.filter(|line| line.starts_with(b"sleep\x004711\x00")).count(), 0);
}

#[test]
fn forks_are_counted() {
    let Some(mut source) = bash(LIMITS) else { return };
    assert!(passes(&mut source, "for i in 1 2 3; do sleep 0.1 & done; wait"));
    // Bash tries again for a while, and then gives up.
    let limits = SandboxLimits { deadline: Duration::from_secs(3), ..LIMITS };
    let mut source = bash(limits).expect("it was there a moment ago");
    assert!(!passes(&mut source, "for i in $(seq 100); do sleep 60 & done; wait"));
    assert!(!passes(&mut source, "f() { f | f & }; f; sleep 60"));
}

#[test]
fn disks_are_not_filled_and_nothing_outside_is_written() {
    let Some(mut source) = bash(LIMITS) else { return };
    assert!(passes(&mut source, "echo text >own && [ $(cat own) = text ]"));
    assert!(!passes(&mut source, "head -c 100000000 /dev/zero >big"));
    assert!(!passes(
        &mut source,
        "for i in 1 2 3 4 5 6; do head -c 1000000 /dev/zero >$i || exit 1; done"
    ));
    assert!(!passes(&mut source, "for i in $(seq 2000); do : >$i || exit 1; done"));
    let outside = tempfile::tempdir().unwrap();
    for folder in [outside.path(), Path::new("/tmp"), Path::new("/dev/shm"), Path::new("/var/tmp")]
    {
        let file = folder.join("hearken-was-here");
        assert!(!passes(&mut source, &format!("echo x >{}", file.display())));
        assert!(!file.exists());
    }
    assert!(!passes(&mut source, "mount -o remount,rw /"));
    assert!(!passes(&mut source, "yes"), "output has an end");
}

#[test]
fn sockets_lead_nowhere() {
    let Some(mut source) = bash(LIMITS) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(!passes(&mut source, &format!("exec 3<>/dev/tcp/127.0.0.1/{port}")));
    assert!(!passes(&mut source, "exec 3<>/dev/udp/192.0.2.1/53 && echo x >&3"));
    assert!(listener.accept().is_err(), "nobody may have called");
}

#[test]
fn memory_is_limited() {
    let Some(mut source) = bash(SandboxLimits { memory_bytes: 64 << 20, ..LIMITS }) else { return };
    assert!(!passes(
        &mut source,
        "x=$(head -c 200000000 /dev/zero | tr '\\0' x); [ ${#x} -gt 1000 ]"
    ));
}

#[test]
fn tests_that_are_missing_or_make_no_sense_are_named() {
    let Some(mut source) = bash(LIMITS) else { return };
    for (tests, found) in [
        (Value::Null, "null"),
        (json!([]), "[]"),
        (json!([3]), "[3]"),
        (json!([{ "input": "1" }]), "input"),
    ] {
        let fields: Map<String, Value> = [("tests".to_owned(), tests)].into_iter().collect();
        let view = RolloutView {
            prompt: "add",
            messages: None,
            completion: "x",
            prompt_ids: &[],
            completion_ids: &[],
            ended: true,
            fields: &fields,
        };
        let error = source.score(&[view]).unwrap_err().to_string();
        assert!(error.contains("`tests`") && error.contains(found), "{error}");
    }
}

#[test]
fn an_interpreter_that_is_not_there_scores_nothing() {
    let sandbox =
        Sandbox { program: "no-such-interpreter".to_owned(), args: Vec::new(), limits: LIMITS };
    let Ok(mut source) = CodeSource::new("code", "tests", sandbox) else {
        return hearken_testing::skip("no sandbox here");
    };
    assert!(!passes(&mut source, "true"));
}
