//! Live answers: by a checkpoint of this machine, and by servers that speak OpenAI's protocol.

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use hearken_testing::chat::{Reply, Stub};
use serde_json::{Value, json};

use super::{Running, hearken, output, said};

/// What came of a prompt.
struct Answered {
    /// The pieces of text of the left and the right answer.
    pieces: [Vec<String>; 2],
    /// How each ended: `html` or `error`.
    ends: [String; 2],
    /// The name to vote under, where both are there.
    exchange: Option<String>,
    /// How long before the last line the first one came.
    streamed_for: Duration,
}

fn ask(running: &Running, prompt: &str) -> Answered {
    ask_at(running, "", prompt)
}

/// Asks a project at `base`.
fn ask_at(running: &Running, base: &str, prompt: &str) -> Answered {
    let body = json!({"conversation": [{"role": "user", "content": prompt}]});
    let mut answered = Answered {
        pieces: [Vec::new(), Vec::new()],
        ends: [String::new(), String::new()],
        exchange: None,
        streamed_for: Duration::ZERO,
    };
    let mut first = None;
    // Between the lines stand the lengths of the chunks, which are no JSON objects.
    for line in running.post(&format!("{base}/live/stream"), &body).lines() {
        let Ok(Value::Object(line)) = serde_json::from_str(&line.unwrap()) else { continue };
        answered.streamed_for = first.get_or_insert_with(Instant::now).elapsed();
        if let Some(exchange) = line.get("exchange") {
            answered.exchange = exchange.as_str().map(str::to_owned);
            continue;
        }
        let place = line["place"].as_u64().unwrap() as usize;
        match line.get("text").and_then(Value::as_str) {
            Some(text) => answered.pieces[place].push(text.to_owned()),
            None => answered.ends[place] = Value::Object(line).to_string(),
        }
    }
    answered
}

fn vote_for_left(running: &Running, answered: &Answered) {
    let vote = json!({
        "id": "6f1c0a52-0000-4000-8000-000000000001",
        "exchange": answered.exchange.as_ref().expect("both have answered"),
        "answer": {"kind": "preferred", "place": 0},
    });
    let reply: Vec<String> =
        running.post("/live/vote", &vote).lines().map(Result::unwrap).collect();
    assert!(reply[0].contains(" 200 "), "{reply:?}");
}

/// The item and the judgement that a store of JSON lines has.
fn stored(folder: &std::path::Path) -> (Value, Value) {
    let text = std::fs::read_to_string(folder.join("prefs.jsonl")).unwrap();
    // A record that was replaced leaves a line of spaces.
    let written = text.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<Value> = written.map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |what: &str| {
        let found = lines.iter().find(|line| line.get(what).is_some());
        found.unwrap_or_else(|| panic!("no {what} in {text}"))[what].clone()
    };
    (find("item"), find("judgement"))
}

#[test]
fn a_checkpoint_answers_at_two_temperatures() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "The cat sat on the mat. The dog ate the bone. A bird sang in the tree.\n".repeat(40);
    std::fs::write(folder.path().join("corpus.txt"), text).unwrap();
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_hearken"))
        .current_dir(folder.path())
        .args(["init", "--shape", "llama,layers=1,width=32,heads=2,positions=96"])
        .args(["--train-tokenizer", "corpus.txt", "--vocab-size", "300", "--output", "tiny"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let arguments = ["--store", "prefs.jsonl", "--model-a", "tiny"];
    let temperatures = ["--temperature-a", "0.5", "--temperature-b", "1.5"];
    let running = Running::start(folder.path(), &[&arguments[..], &temperatures[..]].concat());

    // The model has 96 positions: answers end there, though more tokens were allowed.
    let answered = ask(&running, "The cat");
    for (pieces, end) in answered.pieces.iter().zip(&answered.ends) {
        assert!(2 <= pieces.len(), "{pieces:?} {end}");
        assert!(end.contains("\"html\""), "{end}");
    }
    vote_for_left(&running, &answered);

    let refused = ask(&running, &"bone ".repeat(200));
    assert!(refused.exchange.is_none());
    assert!(refused.ends[0].contains("no room for an answer"), "{}", refused.ends[0]);
    running.stop();

    let (item, judgement) = stored(folder.path());
    let models: Vec<&str> = item["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["tiny@0.5", "tiny@1.5"]);
    let left = judgement["presented"][0].as_u64().unwrap() as usize;
    assert_eq!(judgement["verdict"]["candidate"], left);
    let shown = item["candidates"][left]["text"].as_str().unwrap();
    // The halves of a character that were never completed are not streamed.
    let streamed = answered.pieces[0].concat();
    assert!(shown.starts_with(streamed.trim()), "{shown:?} {streamed:?}");
}

#[test]
fn each_project_has_models_of_its_own() {
    let stub = Stub::start(|request| {
        let name = request.body["model"].as_str().unwrap_or_default().to_owned();
        Reply::words(&["I ", "am ", &name], Duration::ZERO)
    });
    let folder = tempfile::tempdir().unwrap();
    let projects = ["--projects", "chat=chat.db", "code=code.db", "plain=plain.db", "--live"];
    let url = format!("{}/v1", stub.url());
    let of = |project: &str, model: &str| {
        [format!("{project}:model-a={model}"), format!("{project}:url-a={url}")]
    };
    for (given, expected) in [
        ("code", "expected PROJECT:KEY=VALUE"),
        ("other:model-a=m", "found the project \"other\", expected one of chat, code, plain"),
        ("code:modell-a=m", "--modell-a"),
        ("code:url-a=http://127.0.0.1:9", "--model-a"),
    ] {
        let refused = output(folder.path(), &[&projects[..], &[given]].concat());
        let told = said(&refused);
        assert!(!refused.status.success() && told.contains(expected), "{given}: {told}");
    }
    let live = [of("chat", "talker"), of("code", "coder")].concat();
    let live: Vec<&str> = live.iter().map(String::as_str).collect();
    let running = Running::start(folder.path(), &[&projects[..], &live].concat());
    // Templates write slashes of paths as entities.
    let links_to = |base: &str, path: &str| {
        let page = running.get(&format!("{base}/account")).replace("&#x2f;", "/");
        page.contains(&format!("<a href=\"{path}\">"))
    };
    for (base, model) in [("/p/chat", "talker"), ("/p/code", "coder")] {
        assert!(links_to(base, &format!("{base}/live")));
        let answered = ask_at(&running, base, "Who are you?");
        let said = answered.pieces.each_ref().map(|pieces| pieces.concat());
        assert_eq!(said, [format!("I am {model}"), format!("I am {model}")]);
    }
    assert!(links_to("/p/plain", "/p/plain/label") && !links_to("/p/plain", "/p/plain/live"));
}

#[test]
fn servers_answer_with_the_key_of_the_environment() {
    let stub = Stub::start(|request| match request.body["model"].as_str() {
        Some("second") if request.body["messages"][0]["content"] == "fail" => {
            Reply::status(401, r#"{"error": {"message": "second: no such key"}}"#)
        }
        Some(name) => Reply::words(&["I ", "am ", name, "."], Duration::from_millis(60)),
        None => Reply::status(400, "{}"),
    });
    let folder = tempfile::tempdir().unwrap();
    let url = stub.url() + "/v1";
    let arguments = [
        "--store",
        "prefs.jsonl",
        "--model-a",
        "first",
        "--model-b",
        "second",
        "--url-a",
        &url,
        "--key-a",
        "HEARKEN_TEST_KEY",
        "--temperature-b",
        "0.25",
        "--answer-tokens",
        "77",
    ];
    let refused = output(folder.path(), &arguments);
    assert!(said(&refused).contains("HEARKEN_TEST_KEY"), "{}", said(&refused));

    let mut command = hearken(folder.path(), &["--bind", "127.0.0.1:0"]);
    command.args(arguments).env("HEARKEN_TEST_KEY", "s3cret");
    let running = Running::of(command);
    let answered = ask(&running, "Who are you?");
    assert_eq!(
        answered.pieces.each_ref().map(|pieces| pieces.concat().starts_with("I am ")),
        [true; 2]
    );
    assert!(Duration::from_millis(100) < answered.streamed_for, "{:?}", answered.streamed_for);
    vote_for_left(&running, &answered);

    // One side fails: the other is there, nothing is stored, and no name is told.
    let failed = ask(&running, "fail");
    assert!(failed.exchange.is_none());
    let error = failed.ends.iter().find(|end| end.contains("\"error\"")).expect("one failed");
    assert!(error.contains("no such key") && !error.contains("second"), "{error}");
    running.stop();

    let (item, _) = stored(folder.path());
    assert_eq!(item["candidates"][0]["model"], "first");
    assert_eq!(item["candidates"][1]["model"], "second@0.25");
    assert_eq!(item["candidates"][1]["text"], "I am second.");
    let asked: Vec<_> = stub
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with("/completions"))
        .collect();
    assert!(asked.iter().all(|request| request.header("authorization") == Some("Bearer s3cret")));
    let second = asked.iter().find(|request| request.body["model"] == "second").unwrap();
    assert_eq!((&second.body["temperature"], &second.body["stream"]), (&json!(0.25), &json!(true)));
    assert!(second.body.to_string().contains("77"), "{}", second.body);
    let prefs = std::fs::read_to_string(folder.path().join("prefs.jsonl")).unwrap();
    assert!(!prefs.contains("s3cret"), "the key is not stored");
}

#[test]
fn servers_of_messages_answer_with_the_key_in_their_own_header() {
    let stub = Stub::start(|request| {
        if request.body["messages"][0]["content"] == "fail" {
            let error = json!({"type": "invalid_request_error", "message": "all hands are full"});
            return Reply::status(400, json!({"type": "error", "error": error}).to_string());
        }
        let name = request.body["model"].as_str().unwrap_or_default();
        Reply::words(&["I ", "am ", name, "."], Duration::from_millis(60))
    });
    let folder = tempfile::tempdir().unwrap();
    let url = stub.url();
    let mut command = hearken(folder.path(), &["--bind", "127.0.0.1:0", "--store", "prefs.jsonl"]);
    command.args(["--model-a", "first", "--model-b", "second", "--url-a", &url]);
    command.args(["--api-a", "anthropic", "--key-a", "HEARKEN_TEST_KEY"]);
    command.args(["--temperature-b", "0.25", "--answer-tokens", "77"]);
    command.env("HEARKEN_TEST_KEY", "s3cret");
    let running = Running::of(command);
    let answered = ask(&running, "Who are you?");
    for pieces in &answered.pieces {
        assert!(pieces.concat().starts_with("I am ") && 2 <= pieces.len(), "{pieces:?}");
    }
    assert!(Duration::from_millis(100) < answered.streamed_for, "{:?}", answered.streamed_for);
    vote_for_left(&running, &answered);

    let failed = ask(&running, "fail");
    assert!(failed.exchange.is_none());
    for end in &failed.ends {
        assert!(end.contains("\"error\"") && end.contains("all hands are full"), "{end}");
    }
    running.stop();

    let (item, judgement) = stored(folder.path());
    assert_eq!(item["candidates"][0]["model"], "first");
    assert_eq!(item["candidates"][1]["model"], "second@0.25");
    assert_eq!(item["candidates"][0]["text"], "I am first.");
    assert_eq!(judgement["verdict"]["kind"], "preferred");
    assert_eq!(judgement["verdict"]["candidate"], judgement["presented"][0]);
    let asked = stub.requests();
    assert!(asked.iter().all(|request| request.path == "/v1/messages"), "{asked:?}");
    for request in &asked {
        assert_eq!(request.header("x-api-key"), Some("s3cret"));
        assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
        assert_eq!(request.header("authorization"), None);
        assert_eq!(
            (&request.body["max_tokens"], &request.body["stream"]),
            (&json!(77), &json!(true))
        );
    }
    let second = asked.iter().find(|request| request.body["model"] == "second").unwrap();
    assert_eq!(second.body["temperature"], 0.25);
    let prefs = std::fs::read_to_string(folder.path().join("prefs.jsonl")).unwrap();
    assert!(!prefs.contains("s3cret"), "the key is not stored");
}
