//! `hearken judge` and the parts of `hearken evaluate` that are about judges: servers of our own, well and badly behaved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hearken_testing::chat::{ChatReceived, Reply, Stub};
use serde_json::{Value, json};

use crate::support::{Ran, hearken, json_lines, run, workspace, write};

/// Pairs of which the chosen answer says so.
fn pairs(folder: &Path, count: usize) -> PathBuf {
    let pair = |at: usize| {
        let (good, bad) = (format!("good answer {at}"), format!("bad answer {at}"));
        json!({ "prompt": format!("Question {at}?"), "chosen": good, "rejected": bad }).to_string()
    };
    let lines: Vec<String> = (0..count).map(pair).collect();
    write(folder, "pairs.jsonl", &(lines.join("\n") + "\n"))
}

fn judge(stub: &Stub, folder: &Path, more: &[&str]) -> Ran {
    command(stub, folder, more, "")
}

fn command(stub: &Stub, folder: &Path, more: &[&str], keys: &str) -> Ran {
    run(arguments(stub, folder, more, keys))
}

fn arguments(stub: &Stub, folder: &Path, more: &[&str], keys: &str) -> Vec<String> {
    let config = workspace().join("configs/judge.toml").display().to_string();
    let input = folder.join("pairs.jsonl").display().to_string();
    let url = stub.url();
    let who = format!("judge=[{{kind=\"openai\", base_url=\"{url}\", model=\"m\"{keys}}}]");
    let mut arguments = vec!["judge".to_owned(), config, "--input".to_owned(), input];
    arguments.extend(["--set".to_owned(), who]);
    arguments.extend(["--set".to_owned(), "ask.retries=3".to_owned()]);
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    arguments
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What was asked last.
fn asked(request: &ChatReceived) -> String {
    let messages = request.body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].as_str().unwrap().to_owned()
}

/// Whether answer A of a question is the good one.
fn first_is_good(question: &str) -> bool {
    let good = question.find("good answer").unwrap();
    good < question.find("bad answer").unwrap()
}

/// A whole answer of a server, with the probabilities of A and B where it tells any.
fn answer(text: &str, first: Option<f64>) -> Reply {
    let top = |first: f64| {
        json!([
            { "token": "A", "logprob": (0.9 * first).ln() },
            { "token": " B", "logprob": (0.9 * (1.0 - first)).ln() },
            { "token": "The", "logprob": (0.1_f64).ln() },
        ])
    };
    let mut choice = json!({ "message": { "content": text }, "finish_reason": "stop" });
    if let Some(first) = first {
        let token = json!({ "token": text, "logprob": 0.0, "top_logprobs": top(first) });
        choice["logprobs"] = json!({ "content": [token] });
    }
    let usage = json!({ "prompt_tokens": 50, "completion_tokens": 1 });
    Reply::status(200, json!({ "model": "m", "choices": [choice], "usage": usage }).to_string())
}

fn wants_logprobs(request: &ChatReceived) -> bool {
    request.body.get("top_logprobs").is_some()
}

/// How often each question was answered, by the text of its messages.
fn repetitions(requests: &[ChatReceived]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request.body["messages"].to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn log_probabilities_become_soft_labels_that_are_signed_and_nothing_is_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    pairs(folder.path(), 40);
    // It knows what is good, and leans to what is first.
    let stub = Stub::start(|request| {
        let p = if first_is_good(&asked(request)) { 0.9 } else { 0.6 };
        answer("A", Some(p))
    });
    let (store, output) = (text(&at("ai.db")), text(&at("labels.jsonl")));
    let more =
        ["--into", &store, "--output", &output, "--evaluate", "--json", &text(&at("n.json"))];
    let ran = judge(&stub, folder.path(), &more).ok();
    assert!(ran.stdout.contains("40 of 40 items judged"), "{}", ran.stdout);
    assert!(ran.stdout.contains("80 questions with 4000 + 80 tokens"), "{}", ran.stdout);
    assert!(ran.stdout.contains("prefers what is shown first"), "{}", ran.stdout);
    assert_eq!(stub.requests().len(), 80);
    for line in json_lines(&at("labels.jsonl")) {
        assert!(line["chosen"].as_str().unwrap().starts_with("good"), "{line}");
        // The mean of 0.9 and 1 − 0.6: what is said of both orders.
        assert!((line["probability"].as_f64().unwrap() - 0.65).abs() < 1e-9, "{line}");
    }
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(at("n.json")).unwrap()).unwrap();
    assert_eq!(report["judges"][0]["agreement"]["value"], 1.0);
    assert!(
        (report["judges"][0]["position"]["lean"]["value"].as_f64().unwrap() - 0.25).abs() < 1e-9
    );
    // As records they are by a model, and trainers take them where they are told to.
    let all = text(&at("all.jsonl"));
    run(["export", &store, "--format", "hearken", "--output", &all]).ok();
    let signed = json_lines(Path::new(&all));
    let judgements: Vec<&Value> = signed.iter().filter_map(|line| line.get("judgement")).collect();
    assert_eq!(judgements.len(), 40);
    for judgement in judgements {
        assert_eq!(judgement["origin"], "ai");
        assert!(judgement["annotator"].as_str().unwrap().starts_with("m#"), "{judgement}");
    }
    let again = judge(&stub, folder.path(), &more).ok();
    assert!(again.stdout.contains("80 answers were there already"), "{}", again.stdout);
    assert_eq!(stub.requests().len(), 80);
}

#[test]
fn a_server_without_log_probabilities_is_asked_for_them_once_and_then_for_votes() {
    for refuses in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        pairs(folder.path(), 4);
        let counter = AtomicUsize::new(0);
        let stub = Stub::start(move |request| {
            if refuses && wants_logprobs(request) {
                let error =
                    json!({ "error": { "message": "logprobs are not supported with this model" } });
                return Reply::status(400, error.to_string());
            }
            // One of three is wrong.
            let is_wrong = counter.fetch_add(1, Ordering::SeqCst) % 3 == 2;
            answer(if first_is_good(&asked(request)) == is_wrong { "B" } else { "**A**." }, None)
        });
        let output = text(&folder.path().join("o.jsonl"));
        let more = ["--output", &output, "--set", "ask.votes=3", "--set", "ask.parallel=4"];
        judge(&stub, folder.path(), &more).ok();
        let requests = stub.requests();
        assert_eq!(requests.iter().filter(|request| wants_logprobs(request)).count(), 1);
        assert_eq!(requests.len(), 1 + 4 * 2 * 3, "three votes in each order");
        judge(&stub, folder.path(), &more).ok();
        assert_eq!(stub.requests().len(), requests.len(), "nothing is asked twice");
    }
}

#[test]
fn a_server_that_limits_breaks_off_and_stalls_is_asked_until_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 6);
    let counter = AtomicUsize::new(0);
    let stub = Stub::start(move |request| {
        let broken = |text: &[u8]| Reply::Pieces(vec![(Duration::ZERO, text.to_vec())]);
        match counter.fetch_add(1, Ordering::SeqCst) {
            1 => Reply::Status {
                status: 429,
                headers: vec!["retry-after: 1".to_owned()],
                body: "{\"error\": \"slow down\"}".to_owned(),
            },
            3 => broken(b"data: {\"choices\": [{\"delta\": {\"content\": \"A\"}}]}\n\n"),
            5 => Reply::Silence(Duration::from_millis(50)),
            7 => Reply::status(503, "busy"),
            _ => answer("A", Some(if first_is_good(&asked(request)) { 0.8 } else { 0.2 })),
        }
    });
    let output = text(&folder.path().join("o.jsonl"));
    let began = Instant::now();
    judge(&stub, folder.path(), &["--output", &output, "--set", "ask.parallel=1"]).ok();
    assert!(Duration::from_secs(1) <= began.elapsed(), "Retry-After is waited for");
    assert_eq!(stub.requests().len(), 12 + 4);
    let lines = json_lines(Path::new(&output));
    assert!(lines.len() == 6 && lines.iter().all(|line| line["probability"] == 0.8), "{lines:?}");
}

#[test]
fn nonsense_and_dead_servers_end_it_with_a_sentence_and_keep_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 40);
    let counter = AtomicUsize::new(0);
    let stub = Stub::start(move |request| {
        if counter.fetch_add(1, Ordering::SeqCst) == 70 {
            return Reply::status(200, "{\"choices\": [{\"mess");
        }
        answer("A", Some(if first_is_good(&asked(request)) { 0.8 } else { 0.2 }))
    });
    let store = text(&folder.path().join("ai.db"));
    let ran = judge(&stub, folder.path(), &["--into", &store]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("expected a stream of events, or the JSON"), "{}", ran.stderr);
    // The first 32 items are safe.
    assert!(ran.stdout.contains("32 of 40 items judged"), "{}", ran.stdout);
    let ran = judge(&stub, folder.path(), &["--into", &store]).ok();
    assert!(ran.stdout.contains("40 of 40 items judged"), "{}", ran.stdout);
    let most = repetitions(&stub.requests()).into_values().max();
    assert_eq!(most, Some(2), "only what had no answer is asked again");
    let again = repetitions(&stub.requests()).into_values().filter(|count| *count == 2).count();
    assert!(again <= 8, "{again} questions were under way");
    // Nobody listens there.
    let nobody = text(&folder.path().join("nobody.db"));
    let url = stub.url();
    drop(stub);
    let config = text(&workspace().join("configs/judge.toml"));
    let input = text(&folder.path().join("pairs.jsonl"));
    let who = format!("judge=[{{kind=\"openai\", base_url=\"{url}\", model=\"m\"}}]");
    let sets = ["--set", &who, "--set", "ask.retries=0"];
    let base = ["judge", &config, "--input", &input, "--into", &nobody];
    let ran = run(base.into_iter().chain(sets));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no connection"), "{}", ran.stderr);
}

#[test]
fn a_budget_is_never_exceeded_and_goes_on_when_it_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 40);
    let stub = Stub::start(|request| {
        answer("A", Some(if first_is_good(&asked(request)) { 0.8 } else { 0.2 }))
    });
    let store = text(&folder.path().join("ai.db"));
    let prices = ", prompt_price=20.0, completion_price=100.0";
    let with = |money: &str| {
        let limit = format!("budget.money={money}");
        command(&stub, folder.path(), &["--into", &store, "--set", &limit], prices)
    };
    // A question costs 50·20e-6 + 100e-6 = 0.0011.
    let ran = with("0.01");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("the budget is spent"), "{}", ran.stderr);
    let spent = stub.requests().len();
    assert!(spent <= 9, "{spent} questions at 0.0011 each");
    let ran = with("1").ok();
    assert!(
        ran.stdout.contains("80 questions with 4000 + 80 tokens, cost 0.0880"),
        "{}",
        ran.stdout
    );
    assert_eq!(stub.requests().len(), 80, "what was paid is not paid again");
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_goes_on_without_asking_again() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 20);
    let stub = Stub::start(|request| {
        std::thread::sleep(Duration::from_millis(40));
        answer("A", Some(if first_is_good(&asked(request)) { 0.8 } else { 0.2 }))
    });
    let store = text(&folder.path().join("ai.db"));
    let more = ["--into", &store, "--set", "ask.parallel=2"];
    let mut child = hearken(arguments(&stub, folder.path(), &more, ""));
    let mut child = child
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while stub.requests().len() < 15 {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    judge(&stub, folder.path(), &more).ok();
    let twice = repetitions(&stub.requests()).into_values().filter(|count| 1 < *count).count();
    assert!(twice <= 2, "{twice} questions, two of which can have been under way");
}

#[test]
fn reasons_come_first_and_are_kept_with_the_judgement() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 2);
    let stub = Stub::start(|request| {
        let messages = request.body["messages"].as_array().unwrap();
        if messages.len() == 1 {
            return answer("Both are polite.", None);
        }
        let question = messages[0]["content"].as_str().unwrap();
        assert_eq!(messages[1]["content"], "Both are polite.");
        answer("A", Some(if first_is_good(question) { 0.8 } else { 0.2 }))
    });
    let all = text(&folder.path().join("all.jsonl"));
    let more = ["--output", &all, "--format", "hearken", "--set", "ask.reasons=true"];
    judge(&stub, folder.path(), &more).ok();
    let lines = json_lines(Path::new(&all));
    let judgement = lines.iter().find_map(|line| line.get("judgement")).unwrap();
    assert_eq!(judgement["rationale"], "Both are polite.");
}

#[test]
fn a_rating_is_the_mean_of_the_scale_by_probability_on_every_axis() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 1);
    let stub = Stub::start(|request| {
        let high = if asked(request).contains(" in honesty") { "8" } else { "4" };
        let top = json!([
            { "token": high, "logprob": (0.5_f64).ln() },
            { "token": "10", "logprob": (0.5_f64).ln() },
        ]);
        let token = json!({ "token": high, "top_logprobs": top });
        let choice = json!({ "message": { "content": high }, "finish_reason": "stop",
            "logprobs": { "content": [token] } });
        Reply::status(200, json!({ "choices": [choice] }).to_string())
    });
    let all = text(&folder.path().join("all.jsonl"));
    let axes = "axis=[{name=\"honesty\", text=\" in honesty\"}, {name=\"wit\", text=\" in wit\"}]";
    let more = ["--output", &all, "--format", "hearken", "--set", "ask.task=rate", "--set", axes];
    judge(&stub, folder.path(), &more).ok();
    let lines = json_lines(Path::new(&all));
    let judgement = lines.iter().find_map(|line| line.get("judgement")).unwrap();
    let expected = json!({ "honesty": [9.0, 9.0], "wit": [7.0, 7.0] });
    assert_eq!(judgement["verdict"]["axes"], expected, "{judgement}");
}

#[test]
fn templates_come_from_files_and_what_is_wrong_with_them_is_named() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path(), 1);
    let stub = Stub::start(|request| {
        assert!(asked(request).starts_with("Prefer the good one"));
        let p: f64 = if first_is_good(&asked(request)) { 0.75 } else { 0.25 };
        let top = json!([
            { "token": "1", "logprob": p.ln() },
            { "token": "2", "logprob": (1.0 - p).ln() },
        ]);
        let choice = json!({ "message": { "content": "1" }, "finish_reason": "stop",
            "logprobs": { "content": [{ "token": "1", "top_logprobs": top }] } });
        Reply::status(200, json!({ "choices": [choice] }).to_string())
    });
    let output = text(&folder.path().join("o.jsonl"));
    let with = |template: &str| {
        let file = write(folder.path(), "template.toml", template);
        let set = format!("template.file={}", file.display());
        judge(&stub, folder.path(), &["--output", &output, "--set", &set])
    };
    with("question = \"Prefer the good one: {a}|{b}\"\nchoices = [\"1\", \"2\"]").ok();
    assert_eq!(json_lines(Path::new(&output))[0]["probability"], 0.75);
    let error = with("question = \"{a} alone\"").error();
    assert!(error.contains("template.toml") && error.contains("no `{b}`"), "{error}");
    let error = with("questoin = \"x\"").error();
    assert!(error.contains("template.toml") && error.contains("questoin"), "{error}");
}

#[test]
fn benchmarks_of_others_are_counted_as_their_authors_count() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        r#"{"id": "1", "subset": "Math", "num_correct": 1, "scores": [[1.0], [0.5], [0.1], [0.0]]}"#,
        r#"{"id": "2", "subset": "Math", "num_correct": 1, "scores": [1.0, 1.0, 0.1, 0.0]}"#,
        r#"{"id": "ref:1", "subset": "Ties", "num_correct": 1, "scores": [2.0, 0.0]}"#,
        r#"{"id": "tied:1", "subset": "Ties", "num_correct": 2, "scores": [2.0, 1.5, 0.0]}"#,
    ];
    let input = text(&write(folder.path(), "rb.jsonl", &(rows.join("\n") + "\n")));
    let numbers = text(&folder.path().join("n.json"));
    run(["evaluate", "reward-bench", "--input", &input, "--json", &numbers]).ok();
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&numbers).unwrap()).unwrap();
    assert_eq!(found["subsets"]["Math"]["value"], 0.75);
    let ties = found["subsets"]["Ties"]["value"].as_f64().unwrap();
    assert!((ties - (1.0 + 0.01 * 2.0_f64.tanh())).abs() < 1e-12);

    let row = |source: &str, first: bool| {
        let (a, b) =
            if first { ("good answer", "bad answer") } else { ("bad answer", "good answer") };
        let label = if first { "A>B" } else { "B>A" };
        json!({ "question": format!("{source}?"), "response_A": a, "response_B": b, "label": label, "source": source })
            .to_string()
    };
    let rows =
        [row("mmlu-pro-law", true), row("mmlu-pro-math", false), row("livecodebench", false)];
    let input = text(&write(folder.path(), "jb.jsonl", &(rows.join("\n") + "\n")));
    // It knows what is good when that is first, and else says what is first in every other case.
    let stub = Stub::start(|request| {
        answer("A", Some(if first_is_good(&asked(request)) { 0.9 } else { 0.4 }))
    });
    let who = format!("judge=[{{kind=\"openai\", base_url=\"{}\", model=\"m\"}}]", stub.url());
    let config = text(&workspace().join("configs/judge.toml"));
    let base = ["evaluate", "judge-bench", &config, "--input", &input, "--set", &who];
    let ran = run(base).ok();
    assert!(ran.stdout.contains("mmlu-pro"), "{}", ran.stdout);
    assert!(ran.stdout.contains("overall"), "{}", ran.stdout);
    assert_eq!(stub.requests().len(), 6, "both orders of three pairs");
}

/// The recorded votes of two models on the pairs that people judged.
#[test]
fn recorded_judges_agree_with_people_as_their_data_set_says() {
    let Some(folder) = hearken_testing::data("llmfao") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let numbers = text(&scratch.path().join("n.json"));
    let files = ["crowd", "gpt4-crowd", "gpt3-crowd"];
    let files = files.map(|name| text(&folder.join(format!("{name}-comparisons.csv"))));
    let mut arguments = vec!["evaluate", "judge", "--json", &numbers, "--input"];
    arguments.extend(files.iter().map(String::as_str));
    let ran = run(arguments).ok();
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&numbers).unwrap()).unwrap();
    let agreement = |judge: usize| {
        let figure = &found["judges"][judge]["agreement"];
        (figure["value"].as_f64().unwrap(), figure["n"].as_u64().unwrap())
    };
    assert_eq!(agreement(0), (613.0 / 971.0, 971));
    assert_eq!(agreement(1), (778.0 / 1043.0, 1043));
    let among = found["people"]["pairwise"]["value"].as_f64().unwrap();
    assert!((among - 0.701).abs() < 5e-4, "{among}");
    for finding in [
        "gpt3: It chooses what is shown first more often than people do.",
        "gpt4: It chooses what is shown second more often than people do.",
        "gpt4: It takes an empty answer for the better one in 53 % of such pairs.",
    ] {
        assert!(ran.stdout.contains(finding), "{finding}: {}", ran.stdout);
    }
}

#[test]
fn all_answers_of_an_item_are_ordered_in_one_question() {
    let folder = tempfile::tempdir().unwrap();
    let item = |at: usize| {
        let answers: Vec<Value> = (1..=4)
            .map(|rank| json!({ "answer": "good ".repeat(rank), "model": format!("m{rank}"), "rank": rank }))
            .collect();
        json!({ "prompt": format!("\n\nHuman: Question {at}?\n\nAssistant: "), "answers": answers })
            .to_string()
    };
    let lines: Vec<String> = (0..3).map(item).collect();
    write(folder.path(), "pairs.jsonl", &(lines.join("\n") + "\n"));
    let stub = Stub::start(|request| {
        let question = asked(request);
        let count = |letter: char| {
            let behind = question.split(&format!("Answer {letter}:\n")).nth(1).unwrap();
            behind.split("\n\n").next().unwrap().matches("good").count()
        };
        let mut letters = ['A', 'B', 'C', 'D'];
        letters.sort_by_key(|&letter| std::cmp::Reverse(count(letter)));
        answer(&letters.map(String::from).join(" > "), None)
    });
    let output = text(&folder.path().join("o.jsonl"));
    let rank = ["--set", "ask.task=\"rank\"", "--output", &output, "--format", "nectar"];
    judge(&stub, folder.path(), &rank).ok();
    assert_eq!(stub.requests().len(), 3 * 2, "each item in both orders");
    let lines = json_lines(Path::new(&output));
    assert_eq!(lines.len(), 3);
    for line in &lines {
        for one in line["answers"].as_array().unwrap() {
            let count = one["answer"].as_str().unwrap().matches("good").count();
            assert_eq!(one["rank"].as_f64(), Some((5 - count) as f64), "{line}");
        }
    }
    let more = [&rank[..], &["--set", "ask.method=\"logprobs\""]].concat();
    let refused = judge(&stub, folder.path(), &more).error();
    assert!(refused.contains("an order is written out"), "{refused}");
}
