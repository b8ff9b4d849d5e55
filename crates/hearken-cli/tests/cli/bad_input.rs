//! Preferences that say nothing, scores that fail, programs that misbehave: a clear error, or a policy that
//! the run survives by.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hearken_testing::server::Server;
use serde_json::{Value, json};

use crate::support::{Ran, metrics, model, number, run, set, write};

/// Runs a trainer on records, two steps of one record each where it learns from records.
fn train(folder: &Path, trainer: &str, records: &[Value], more: &str) -> Ran {
    let mut lines = String::new();
    for record in records {
        let _ = writeln!(lines, "{record}");
    }
    let data = write(folder, "data.jsonl", &lines);
    let (model, data) = (model("llama"), data.display());
    let config = format!(
        "[model]\npath = {:?}\n[data]\ntrain = \"{data}\"\n{more}\n",
        model.display().to_string()
    );
    let config = write(folder, "run.toml", &config);
    let mut arguments =
        vec![trainer.to_owned(), config.display().to_string(), "--fresh".to_owned()];
    arguments.extend(set("run.dir", &folder.join("run")));
    arguments.extend(["--set".to_owned(), "train.steps=2".to_owned()]);
    run(arguments)
}

fn pair(chosen: &str, rejected: &str) -> Value {
    json!({"prompt": "Say it:", "chosen": chosen, "rejected": rejected})
}

#[test]
fn pairs_that_say_nothing_are_named_and_can_be_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let good = pair(" yes.", " no.");
    for trainer in ["dpo", "reward"] {
        let one = "[train]\nbatch_size = 1";
        for (bad, reason) in [
            (pair(" yes.", " yes."), "`chosen` and `rejected` are identical"),
            (pair(" yes.", ""), "`rejected`: found nothing in it"),
            (pair("", " no."), "`chosen`: found nothing in it"),
        ] {
            let records = [good.clone(), bad];
            let error = train(folder.path(), trainer, &records, one).error();
            assert!(error.contains("data.jsonl:2") && error.contains(reason), "{error}");
            let skip = format!("on_bad_record = \"skip\"\n{one}");
            let ran = train(folder.path(), trainer, &records, &skip).ok();
            assert!(ran.stderr.contains(reason), "{}", ran.stderr);
        }
        // The end of the text is what one completion of a pair is preferred for.
        train(folder.path(), trainer, &[pair(" yes.", " yes. And no.")], one).ok();
    }
}

#[test]
fn prompts_above_the_context_are_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut long = pair(" yes.", " no.");
    long["prompt"] = "Say it! ".repeat(200).into();
    let score = "[rollout]\nmax_new_tokens = 4\ncompletions = 2\n[[score]]\nkind = \"heuristic\"\n\
                 name = \"length_diversity\"\n";
    for (trainer, more) in [("dpo", "[train]\nbatch_size = 1"), ("grpo", score)] {
        let error = train(folder.path(), trainer, &[long.clone()], more).error();
        for part in ["data.jsonl:1", "tokens, expected at most", "data.truncation"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let ran = train(
            folder.path(),
            trainer,
            &[long.clone()],
            &format!("truncation = \"left\"\n{more}"),
        );
        assert!(ran.ok().stderr.contains("truncated"), "{trainer} says what it did");
    }
}

/// Two iterations of two prompts with two completions each, scored by `source`, to which the four go one
/// at a time.
fn grpo(folder: &Path, tests: &Value, source: &str) -> Ran {
    let record = |word: &str| json!({"prompt": format!("Say {word}:"), "tests": tests});
    let more = format!(
        "[grpo]\nprompts = 2\n[rollout]\nmax_new_tokens = 4\ncompletions = 2\n[[score]]\n{source}\n"
    );
    train(folder, "grpo", &[record("yes"), record("no")], &more)
}

#[test]
fn programs_that_fail_to_score_end_the_run_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |text: &str| format!("while read -r line; do echo '{text}'; done");
    for (script, reasons) in [
        (
            "read -r line; echo no GPU >&2; exit 3".to_owned(),
            ["exit status: 3", "no GPU", "0 of 4 completions"],
        ),
        ("sleep 100".to_owned(), ["0 of 1 scores", "deadline of 2 s", "0 of 4 completions"]),
        (answer("{\"score\": NaN}"), ["answer 1 of 1", "not JSON", "0 of 4 completions"]),
        (answer("{\"score\": null}"), ["answer 1 of 1", "null", "0 of 4 completions"]),
        (answer("0.5"), ["answer 1 of 1", "{\"score\": NUMBER}", "0 of 4 completions"]),
        (
            "for i in 1 2 3; do read -r line; echo '{\"score\": 1}'; done".to_owned(),
            ["after 0 of 1 scores", "sh", "3 of 4 completions had been scored"],
        ),
        (
            answer("{\"score\": 1}'; echo '{\"score\": 1}"),
            [
                "more than one line per request",
                "the line too many: {\"score\": 1}",
                "of 4 completions had been scored",
            ],
        ),
    ] {
        let source = format!(
            "kind = \"command\"\nprogram = \"sh\"\nargs = [\"-c\", {}]\ntimeout_s = 2",
            json!(script)
        );
        let error = grpo(folder.path(), &json!([]), &source).error();
        for reason in reasons {
            assert!(error.contains(reason), "{script}: {reason} in {error}");
        }
    }
}

/// Without a checkpoint on the way, the step before the failure is kept; the same command goes on.
#[test]
fn a_program_that_dies_midway_loses_nothing_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (mended, run_dir) = (folder.path().join("mended"), folder.path().join("run"));
    let script = format!(
        "n=0; while read -r line; do n=$((n+1)); [ -e {} ] || [ $n -le 6 ] || exit 3; \
         echo \"{{\\\"score\\\": $n}}\"; done",
        mended.display()
    );
    let lines: String = ["yes", "no"]
        .map(|word| json!({"prompt": format!("Say {word}:")}).to_string() + "\n")
        .concat();
    let data = write(folder.path(), "data.jsonl", &lines);
    let config = format!(
        "[train]\nsteps = 3\n[grpo]\nprompts = 2\n[rollout]\nmax_new_tokens = 4\ncompletions = 2\n\
         [[score]]\nkind = \"command\"\nprogram = \"sh\"\nargs = [\"-c\", {}]\ntimeout_s = 20\n",
        json!(script)
    );
    let config = write(folder.path(), "run.toml", &config);
    let mut arguments = vec!["grpo".to_owned(), config.display().to_string()];
    for (key, path) in
        [("run.dir", &run_dir), ("model.path", &model("llama")), ("data.train", &data)]
    {
        arguments.extend(set(key, path));
    }
    let error = run(arguments.clone()).error();
    let checkpoint = "has a checkpoint of step 1";
    for part in ["exit status: 3", "nothing is lost", checkpoint, "the same command"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    write(folder.path(), "mended", "");
    let ran = run(arguments).ok();
    assert!(ran.stderr.contains("going on from the checkpoint of step 1"), "{}", ran.stderr);
    let steps = metrics(&run_dir);
    let steps: Vec<f64> = steps.iter().map(|record| number(record, "step")).collect();
    assert_eq!(steps, [1.0, 2.0, 3.0]);
}

/// Two iterations of one prompt with two completions, compared by a program.
#[test]
fn programs_that_compare_are_used_or_end_the_run_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |answer: &str, more: &str| {
        let script = format!("while read -r line; do echo '{answer}'; done");
        let config = format!(
            "[train]\nbatch_size = 1\n[dpo]\nonline = \"dpo\"\n[rollout]\nmax_new_tokens = 4\n[judge]\n\
             kind = \"command\"\nprogram = \"sh\"\nargs = [\"-c\", {}]\n{more}\n",
            json!(script)
        );
        train(folder.path(), "dpo", &[json!({"prompt": "Say it:"})], &config)
    };
    ask("{\"probability\": 0.9}", "both_orders = false").ok();
    let steps = metrics(&folder.path().join("run"));
    assert_eq!(steps.iter().filter(|record| record.get("loss").is_some()).count(), 2);
    ask("{\"probability\": null}", "on_unreadable = \"tie\"").ok();
    for (answer, more, reason) in [
        ("{\"probability\": 2}", "", "from 0 to 1"),
        ("{\"score\": 1}", "", "no probability"),
        ("A", "", "not JSON"),
        ("{\"probability\": null}", "on_unreadable = \"drop\"", "winner in none"),
        ("{\"probability\": null}", "on_unreadable = \"error\"", "names no winner"),
    ] {
        let error = ask(answer, more).error();
        assert!(error.contains(reason), "{answer}: {reason} in {error}");
    }
}

/// A server that answers every request with `body`; `None` never answers.
fn serve(body: Option<&'static str>) -> Server {
    Server::start(move |_, mut stream| {
        let Some(body) = body else {
            thread::sleep(Duration::from_secs(100));
            return Ok(());
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
    })
}

#[test]
fn servers_that_fail_to_score_end_the_run_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (body, reasons) in [
        (None, ["deadline of 2 s", "http://127.0.0.1"]),
        (Some("{\"scores\": [NaN]}"), ["not JSON", "NaN"]),
        (Some("{\"scores\": [null]}"), ["null", "found"]),
        (Some("{\"scores\": [1, 1, 1]}"), ["3 scores for 1 items", "http://127.0.0.1"]),
        (Some("{\"scores\": [1, 1, 1, 1, 1]}"), ["5 scores for 1 items", "http://127.0.0.1"]),
        (Some("Internal error"), ["not JSON", "Internal error"]),
    ] {
        let server = serve(body);
        let source = format!("kind = \"http\"\nurl = \"{}/\"\ntimeout_s = 2", server.url());
        let error = grpo(folder.path(), &json!([]), &source).error();
        for reason in reasons {
            assert!(error.contains(reason), "{body:?}: {reason} in {error}");
        }
        assert!(error.contains("0 of 4 completions had been scored"), "{body:?}: {error}");
    }
}

/// What is done to the machine fails the test, and the run goes on.
#[test]
fn programs_in_the_sandbox_harm_nothing_but_their_score() {
    let folder = tempfile::tempdir().unwrap();
    let source = "kind = \"code\"\nprogram = \"bash\"\ntimeout_s = 1\nmemory_mb = 256";
    let run_with = |test: &str| {
        // The completion is nonsense, whose complaints are dropped.
        let tests = json!([format!("\nexec 2>/dev/null\n{test}\n")]);
        grpo(folder.path(), &tests, source)
    };
    let harmless = run_with("exit 0");
    if harmless.code != Some(0) && harmless.stderr.contains("sandbox") {
        hearken_testing::skip(&harmless.stderr);
        return;
    }
    harmless.ok();
    let rewards = || -> Vec<f64> {
        let steps = metrics(&folder.path().join("run"));
        let steps = steps.iter().filter(|record| record.get("loss").is_some());
        steps.map(|record| number(record, "reward")).collect()
    };
    assert_eq!(rewards(), [1.0, 1.0]);
    for test in [
        // Forks until no more are allowed, and waits for all of them.
        "f() { f | f; }; f; exit 1",
        "head -c 100M /dev/zero > big",
        "exec 3<>/dev/tcp/127.0.0.1/22",
        "x=$(head -c 512M /dev/zero | tr '\\0' x); [ ${#x} -gt 400000000 ]",
        "while :; do :; done",
        "yes",
    ] {
        run_with(test).ok();
        assert_eq!(rewards(), [0.0, 0.0], "{test}");
    }
}
