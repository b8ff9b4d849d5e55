//! `hearken constitution`: a model on a server of our own, and a principle that a program can check.

use std::path::Path;

use hearken_testing::chat::{ChatReceived, Reply, Stub};
use serde_json::{Value, json};

use crate::support::{Ran, json_lines, run, workspace, write};

/// Answers with digits, finds them, writes them as words, and prefers answers without.
fn model(request: &ChatReceived) -> Reply {
    let messages = request.body["messages"].as_array().unwrap();
    let last = messages.last().unwrap()["content"].as_str().unwrap();
    let text = if last.contains("no digits?") {
        "It has digits."
    } else if last.contains("Write numbers as words.") {
        assert_eq!(messages[messages.len() - 2]["content"], "It has digits.");
        "There are three."
    } else if last.contains("fewer digits") {
        let (a, b) = (last.find("Answer A:").unwrap(), last.find("Answer B:").unwrap());
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
        if digits(&last[a..b]) <= digits(&last[b..]) { "A" } else { "B" }
    } else {
        // The first answer to a prompt and the second differ by what was asked so far: nothing but chance.
        "There are 3."
    };
    let choice = json!({ "message": { "content": text }, "finish_reason": "stop" });
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 3 });
    Reply::status(200, json!({ "choices": [choice], "usage": usage }).to_string())
}

const PRINCIPLES: &str = r#"
[[principle]]
name = "digits"
critique = "Does your answer have no digits?"
revision = "Write numbers as words."
compare = "Which answer has fewer digits?"
"#;

fn constitution(stub: &Stub, folder: &Path, sets: &[&str]) -> Ran {
    let config = workspace().join("configs/constitution.toml").display().to_string();
    let at = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec!["constitution".to_owned(), config];
    let own = [
        format!("run.dir={}", at("run")),
        format!("data.prompts={}", at("prompts.jsonl")),
        format!("principles.file={}", at("principles.toml")),
        "model.kind=openai".to_owned(),
        format!("model.base_url={}", stub.url()),
        "model.model=m".to_owned(),
        "model.prompt_price=1.0".to_owned(),
        "ask.retries=0".to_owned(),
    ];
    for set in own.into_iter().chain(sets.iter().map(|&set| set.to_owned())) {
        arguments.extend(["--set".to_owned(), set]);
    }
    run(arguments)
}

fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let prompts = "{\"prompt\": \"How many?\"}\n{\"prompt\": \"And how many there?\"}\n";
    write(folder.path(), "prompts.jsonl", prompts);
    write(folder.path(), "principles.toml", PRINCIPLES);
    folder
}

#[test]
fn answers_are_criticized_revised_compared_and_nothing_is_asked_twice() {
    let folder = prepared();
    let stub = Stub::start(|request| {
        let messages = request.body["messages"].as_array().unwrap();
        // The second answer is sampled, as the first one is, at the temperature of the configuration.
        assert!(messages.len() > 1 || request.body.get("temperature").is_some());
        model(request)
    });
    let ran = constitution(&stub, folder.path(), &[]).ok();
    assert!(ran.stdout.contains("2 prompts: 2 demonstrations, 2 revisions"), "{}", ran.stdout);
    let at = |name: &str| folder.path().join("run").join(name);
    for line in json_lines(&at("demonstrations.jsonl")) {
        assert_eq!(line["completion"][0]["content"], "There are three.");
    }
    let revision = &json_lines(&at("revisions.jsonl"))[0];
    assert_eq!(revision["chosen"][0]["content"], "There are three.");
    assert_eq!(revision["rejected"][0]["content"], "There are 3.");
    let chains = json_lines(&at("chains.jsonl"));
    assert_eq!(chains.len(), 2);
    let rounds = chains[0]["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    assert_eq!(rounds[0]["principle"], "digits");
    assert_eq!(rounds[0]["critique"], "It has digits.");
    assert_eq!(chains[0]["compared_by"], json!(["digits"]));
    // Two answers that are the same are a toss-up, and no pair to learn from.
    assert_eq!(chains[0]["probability"], 0.5);
    assert_eq!(json_lines(&at("comparisons.jsonl")), Vec::<Value>::new());
    let asked = stub.requests().len();
    // Of each prompt: two answers, and two rounds of two.
    assert_eq!(asked, 2 * (2 + 4));
    constitution(&stub, folder.path(), &[]).ok();
    assert_eq!(stub.requests().len(), asked);
}

#[test]
fn two_answers_become_a_pair_with_a_soft_label_by_the_principle() {
    let folder = prepared();
    let stub = Stub::start(|request| {
        let messages = request.body["messages"].as_array().unwrap();
        let last = messages.last().unwrap()["content"].as_str().unwrap();
        // Answers are drawn at temperature 1, and so differ.
        if messages.len() == 1 && !last.contains("fewer digits") && last.starts_with("How") {
            let text = format!("There are {}.", if rand_bit() { "3" } else { "three" });
            let choice = json!({ "message": { "content": text }, "finish_reason": "stop" });
            return Reply::status(200, json!({ "choices": [choice] }).to_string());
        }
        model(request)
    });
    let sets = ["revision.rounds=0", "comparison.method=verdict", "data.limit=1", "ask.parallel=1"];
    constitution(&stub, folder.path(), &[&sets[..], &["comparison.clamp=0.1"]].concat()).ok();
    let lines = json_lines(&folder.path().join("run/comparisons.jsonl"));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["chosen"][0]["content"], "There are three.");
    assert_eq!(lines[0]["rejected"][0]["content"], "There are 3.");
    assert_eq!(lines[0]["probability"], 0.9);
    assert!(!folder.path().join("run/demonstrations.jsonl").exists());
}

/// With one seed for all prompts, a model of random weights would answer all of them alike.
#[test]
fn a_local_model_draws_its_answers_to_different_prompts_apart() {
    let folder = prepared();
    let prompts = (0..12).map(|n| json!({ "prompt": format!("How many are {n}?") }).to_string());
    write(folder.path(), "prompts.jsonl", &prompts.collect::<Vec<_>>().join("\n"));
    let config = workspace().join("configs/constitution.toml").display().to_string();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut arguments = vec!["constitution".to_owned(), config];
    for set in [
        format!("run.dir={}", at("run")),
        format!("data.prompts={}", at("prompts.jsonl")),
        format!("principles.file={}", at("principles.toml")),
        format!(
            "model.path={}",
            workspace().join("crates/hearken-model/tests/fixtures/hf/llama").display()
        ),
        "model.kind=local".to_owned(),
        "revision.rounds=1".to_owned(),
        "revision.max_tokens=1".to_owned(),
        "comparison.pairs=false".to_owned(),
    ] {
        arguments.extend(["--set".to_owned(), set]);
    }
    run(arguments).ok();
    let chains = json_lines(&folder.path().join("run/chains.jsonl"));
    let answers: std::collections::BTreeSet<&str> =
        chains.iter().map(|chain| chain["initial"].as_str().unwrap()).collect();
    assert!(6 <= answers.len(), "{answers:?}");
}

/// True and false in turn.
fn rand_bit() -> bool {
    use std::sync::atomic::{AtomicBool, Ordering};
    static LAST: AtomicBool = AtomicBool::new(false);
    !LAST.fetch_xor(true, Ordering::SeqCst)
}

#[test]
fn what_cannot_be_worked_with_is_named() {
    let folder = prepared();
    let stub = Stub::start(|_| Reply::status(500, "{\"error\": \"out of memory\"}"));
    let error = |sets: &[&str]| constitution(&stub, folder.path(), sets).error();
    let ran = constitution(&stub, folder.path(), &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("out of memory"), "{}", ran.stderr);
    assert!(error(&["model.kind=reward"]).contains("`model."));
    assert!(error(&["revision.rouns=1"]).contains("nearest known key is `revision.rounds`"));
    assert!(error(&["model.weight=2.0"]).contains("`model.weight`"));
    assert!(error(&["comparison.question={a} {b}"]).contains("no `{principle}`"));
    write(folder.path(), "principles.toml", "[[principle]]\nname = \"x\"\ncritique = \"y\"\n");
    let half = error(&[]);
    assert!(
        half.contains("principles.toml") && half.contains("expected both or neither"),
        "{half}"
    );
    write(folder.path(), "principles.toml", "[[principle]]\nname = \"x\"\ncompare = \"y\"\n");
    assert!(error(&[]).contains("no critiques and revisions"));
}
