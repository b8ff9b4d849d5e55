//! `hearken loop`: killed and resumed, its table, what a person approves, and the server that gets what is promoted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::rlhf::short_quickstart;
use crate::support::{Ran, hearken, run, set, workspace};

/// Nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(120);

/// Sizes at which a round takes a second.
const SHORT: [&str; 12] = [
    "rounds.count=2",
    "candidates.prompts=12",
    "candidates.completions=3",
    "ask.pairs=10",
    "reward.train.batch_size=4",
    "grpo.train.steps=3",
    "grpo.grpo.prompts=4",
    "grpo.rollout.max_new_tokens=12",
    "grpo.rollout.completions=3",
    "grpo.train.save_every=1",
    "gate.prompts=16",
    "gate.distinct_min=0",
];

/// The world and the policy that a loop begins with.
fn world(root: &Path) -> Vec<String> {
    let made = root.join("world");
    run(["rlhf".to_owned()].into_iter().chain(short_quickstart(&made, &[]))).ok();
    let place = |key: &str, path: &str| set(key, &made.join(path));
    let places = [
        place("model.path", "sft/final"),
        place("data.train", "data/prompts.jsonl"),
        place("data.eval", "data/prompts_eval.jsonl"),
    ];
    places.into_iter().flatten().collect()
}

fn arguments(world: &[String], dir: &Path, more: &[&str]) -> Vec<String> {
    let config = workspace().join("configs/loop.toml").display().to_string();
    let mut all = vec!["loop".to_owned(), config];
    for pair in SHORT.iter().chain(more.iter().filter(|one| !one.starts_with("--"))) {
        all.extend(["--set".to_owned(), (*pair).to_owned()]);
    }
    all.extend(world.iter().cloned());
    all.extend(set("run.dir", dir));
    let flags = more.iter().filter(|one| one.starts_with("--"));
    all.extend(flags.flat_map(|one| one.split(' ')).map(str::to_owned));
    all
}

fn go(world: &[String], dir: &Path, more: &[&str]) -> Ran {
    run(arguments(world, dir, more))
}

/// Starts the loop and kills it as soon as there is `path`.
fn kill_at(arguments: &[String], path: &Path) {
    let mut command = hearken(arguments);
    command.env("HEARKEN_TEST_KEY", "admin");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(start.elapsed() < DEADLINE, "no {} in time", path.display());
        sleep(Duration::from_millis(1));
    }
    // SIGKILL on Unix: nothing can be saved on the way out.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

/// Files of the rounds, and weights; what trainers say of times and folders is not among them.
fn results(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![("current.json".into(), fs::read(root.join("current.json")).unwrap())];
    for round in fs::read_dir(root.join("rounds")).unwrap() {
        let round = round.unwrap().path();
        for entry in fs::read_dir(&round).unwrap() {
            let path = entry.unwrap().path();
            let file = if path.is_dir() { path.join("final/model.safetensors") } else { path };
            found.push((file.strip_prefix(root).unwrap().to_owned(), fs::read(&file).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_loop_that_is_killed_again_and_again_ends_bit_for_bit_like_one_that_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let [whole, killed] = ["whole", "killed"].map(|name| root.join(name));
    let table = go(&world, &whole, &[]).ok().stdout;
    for word in ["win rate", "rolled back by gate", "better:", "20"] {
        assert!(table.contains(word) || table.contains("promoted by gate"), "{word} in {table}");
    }
    for at in [
        "rounds/001/candidates.jsonl",
        "rounds/001/reward-1/checkpoints",
        "rounds/001/policy/checkpoints",
        "rounds/001/compared.jsonl",
        "rounds/001/decision.json",
        "rounds/002/asked.jsonl",
        "rounds/002/reward-2/final",
        "rounds/002/policy/metrics.jsonl",
    ] {
        kill_at(&arguments(&world, &killed, &[]), &killed.join(at));
    }
    let resumed = go(&world, &killed, &[]).ok().stdout;
    let of_rounds = |text: &str| text.split("\nreport: ").next().unwrap().to_owned();
    assert_eq!(of_rounds(&resumed), of_rounds(&table));
    let page = fs::read_to_string(killed.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Round 2"), "{page}");
    let (expected, found) = (results(&whole), results(&killed));
    let names = |of: &[(PathBuf, Vec<u8>)]| of.iter().map(|one| one.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found));
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        assert!(expected == found, "{} differs", name.display());
    }
    assert_eq!(go(&world, &killed, &["--status"]).ok().stdout, of_rounds(&table));
}

#[test]
fn what_a_loop_cannot_do_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let nothing =
        [set("model.path", root), set("data.train", root), set("data.eval", root)].concat();
    let error = go(&nothing, &root.join("none"), &["--status"]).error();
    assert!(error.contains("found no round of a loop"), "{error}");
    let error = go(&nothing, &root.join("none"), &["--approve 1 --by Ann"]).error();
    assert!(error.contains("round 1 has not begun"), "{error}");
    let nobody = go(&nothing, &root.join("none"), &["--approve 1"]);
    assert!(nobody.code == Some(2) && nobody.stderr.contains("--by"), "{}", nobody.stderr);
    let error = go(&nothing, &root.join("none"), &["serve.url=nowhere"]).error();
    assert!(error.contains("`serve.url`: found \"nowhere\""), "{error}");
    assert!(!root.join("none/rounds").exists());
}

#[test]
#[cfg(unix)]
fn a_person_approves_and_the_running_server_gets_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let base = root.join("world/sft/final").display().to_string();
    let server = crate::serve::Server::start(&["--model", &base, "--name", "policy"]);
    let dir = root.join("loop");
    // A policy that is trained towards length wins by it.
    let length = "[{kind=\"heuristic\", name=\"length_diversity\"}]";
    let (by, trained) = (format!("gate.score={length}"), format!("grpo.score={length}"));
    let url = format!("serve.url={}", server.url);
    let more = [
        "rounds.count=1",
        "gate.approve=manual",
        "gate.alpha=0.45",
        "gate.kl_max=0",
        "gate.length_ratio_max=0",
        "grpo.grpo.missing_end_penalty=0",
        "grpo.train.steps=60",
        "grpo.optimizer.lr=1e-2",
        "grpo.grpo.prompts=8",
        "grpo.rollout.completions=4",
        "grpo.kl.beta=0",
        "serve.key_env=HEARKEN_TEST_KEY",
        &by,
        &trained,
        &url,
    ];
    let with_key = |flags: &[&str]| -> Ran {
        let all = arguments(&world, &dir, &[&more[..], flags].concat());
        let output = hearken(all).env("HEARKEN_TEST_KEY", "admin").output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let asked = with_key(&[]).ok();
    assert!(asked.stderr.contains("--approve 1 --by NAME"), "{}{}", asked.stdout, asked.stderr);
    let before = server.post(
        "/v1/completions",
        &serde_json::json!({"model": "policy", "prompt": "a", "max_tokens": 1}),
    );
    let approved = with_key(&["--approve 1 --by Ann"]).ok();
    assert!(approved.stdout.contains("promoted by Ann"), "{}", approved.stdout);
    assert!(approved.stderr.contains("round-001 is served"), "{}", approved.stderr);
    let after = server.post(
        "/v1/completions",
        &serde_json::json!({"model": "policy", "prompt": "a", "max_tokens": 1}),
    );
    assert_ne!(before["system_fingerprint"], after["system_fingerprint"], "{after}");
    let missing = hearken(arguments(&world, &dir, &more)).output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("HEARKEN_TEST_KEY"));
}

/// The log of a served model with three prompts, of which one is a held-out one, and what users said of answers.
#[cfg(unix)]
fn conversations(root: &Path) -> PathBuf {
    let log = root.join("completions.jsonl");
    let base = root.join("world/sft/final").display().to_string();
    let more = ["--name", "policy", "--log", log.to_str().unwrap()];
    let server = crate::serve::Server::start(&[&["--model", &base], &more[..]].concat());
    let ask = |path: &str, prompt: serde_json::Value| {
        let key = if path == "/v1/completions" { "prompt" } else { "messages" };
        let mut body = serde_json::json!({"max_tokens": 8, "n": 2, "seed": 1, "ignore_eos": true});
        body[key] = prompt;
        server.post(path, &body)["id"].as_str().unwrap().to_owned()
    };
    let held_out = fs::read_to_string(root.join("world/data/prompts_eval.jsonl")).unwrap();
    let held_out: serde_json::Value =
        serde_json::from_str(held_out.lines().next().unwrap()).unwrap();
    ask("/v1/completions", held_out["prompt"].clone());
    let text = ask("/v1/completions", "Review of the moon on Monday:".into());
    let chat =
        ask("/v1/chat/completions", serde_json::json!([{"role": "user", "content": "Hello"}]));
    for said in [
        serde_json::json!({"request_id": text, "choice": 1, "over": [{"request_id": text}]}),
        serde_json::json!({"request_id": text, "edit": " It was splendid."}),
        serde_json::json!({"request_id": chat, "thumb": "up"}),
        serde_json::json!({"request_id": chat, "choice": 1, "thumb": "down"}),
    ] {
        server.post("/v1/feedback", &said);
    }
    server.end();
    log
}

/// A round is made from what was said before it began, and from that only.
#[test]
#[cfg(unix)]
fn what_users_of_the_served_model_say_is_what_a_round_learns_from() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let log = conversations(root);
    let captured = format!("capture.log={}", log.display());
    // So many prompts that all of them are candidates.
    let more = ["rounds.count=1", "candidates.prompts=4000", "ask.pairs=6", &captured];
    let more = [&more[..], &["capture.days=30", "candidates.completions=2"]].concat();
    let [whole, killed] = ["whole", "killed"].map(|name| root.join(name));
    let ran = go(&world, &whole, &more).ok();
    assert!(ran.stderr.contains("round 1: 2 prompts and 3 comparisons"), "{}", ran.stderr);
    let read = |name: &str| fs::read_to_string(whole.join("rounds/001").join(name)).unwrap();
    let candidates = read("candidates.jsonl");
    assert!(candidates.contains("Review of the moon") && candidates.contains("Hello"));
    let lineage: serde_json::Value = serde_json::from_str(&read("round.json")).unwrap();
    assert_eq!(lineage["captured"]["comparisons"], 3, "{lineage}");
    // Copies do not outlive what the log keeps.
    assert!(!whole.join("rounds/001/captured.jsonl").exists());
    // What comes while the round runs is the next one's.
    kill_at(&arguments(&world, &killed, &more), &killed.join("rounds/001/reward-1/checkpoints"));
    let judged = fs::read_to_string(killed.join("rounds/001/captured.jsonl")).unwrap();
    assert_eq!(judged.matches("\"verdict\"").count(), 3, "{judged}");
    assert!(judged.contains("It was splendid."), "{judged}");
    let grown = fs::read_to_string(&log).unwrap();
    fs::write(&log, grown.clone() + &grown.replace("Hello", "Hullo")).unwrap();
    go(&world, &killed, &more).ok();
    for ((name, expected), (_, found)) in results(&whole).iter().zip(&results(&killed)) {
        assert!(expected == found, "{} differs", name.display());
    }
    fs::remove_file(&log).unwrap();
    let error = go(&world, &root.join("none"), &more).error();
    assert!(error.contains("`capture.log`") && error.contains("completions.jsonl"), "{error}");
}

/// Votes on the page *Live* are labels too; other items of the store are not.
#[test]
fn votes_on_live_answers_are_what_a_round_learns_from() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let item = |id: &str, prompt: &str, source: &str| {
        serde_json::json!({
            "id": id, "task": "pairwise", "prompt": [{"role": "user", "content": prompt}],
            "candidates": [{"text": " Warm.", "model": "a"}, {"text": " Cold.", "model": "b"}],
            "meta": {"source": source},
        })
    };
    let vote = |id: &str, of: &str| {
        let verdict = serde_json::json!({"kind": "preferred", "candidate": 1});
        serde_json::json!({"id": id, "item": of, "annotator": "ada", "verdict": verdict})
    };
    let lines = [
        item("live-1", "Review of Mars:", "live"),
        item("other", "Review of Venus:", "import"),
        vote("v1", "live-1"),
        vote("v2", "other"),
    ];
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let file = root.join("votes.jsonl");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let store = root.join("labels.db").display().to_string();
    run(["import", file.to_str().unwrap(), "--into", &store]).ok();
    let captured = format!("capture.store={store}");
    let more = ["rounds.count=1", "candidates.prompts=4000", "ask.pairs=6", &captured];
    let more = [&more[..], &["capture.days=0", "candidates.completions=2"]].concat();
    let dir = root.join("loop");
    kill_at(&arguments(&world, &dir, &more), &dir.join("rounds/001/candidates.jsonl"));
    let judged = fs::read_to_string(dir.join("rounds/001/captured.jsonl")).unwrap();
    assert!(judged.contains("Mars") && !judged.contains("Venus"), "{judged}");
    let ran = go(&world, &dir, &more).ok();
    assert!(ran.stderr.contains("round 1: 1 prompts and 1 comparisons"), "{}", ran.stderr);
    let candidates = fs::read_to_string(dir.join("rounds/001/candidates.jsonl")).unwrap();
    assert!(candidates.contains("Mars") && !candidates.contains("Venus"));
    let none = go(&world, &root.join("none"), &["capture.store=nowhere.db", "capture.days=0"]);
    let error = none.error();
    assert!(error.contains("`capture.store`") && error.contains("nowhere.db"), "{error}");
    let neither = go(&world, &root.join("none"), &["capture.days=3"]).error();
    assert!(neither.contains("`capture.log`"), "{neither}");
}

/// Users of the server find the policy worse that has passed the gate: it answered a part of them, and is rolled back.
#[test]
#[cfg(unix)]
fn a_canary_that_users_find_worse_is_rolled_back_by_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let base = root.join("world/sft/final").display().to_string();
    let log = root.join("completions.jsonl").display().to_string();
    let server =
        crate::serve::Server::start(&["--model", &base, "--name", "policy", "--log", &log]);
    let length = "[{kind=\"heuristic\", name=\"length_diversity\"}]";
    let (by, trained) = (format!("gate.score={length}"), format!("grpo.score={length}"));
    let url = &server.url;
    let serve = format!(
        "serve={{url=\"{url}\", key_env=\"HEARKEN_TEST_KEY\", model=\"policy\", \
         canary={{share=0.5, comparisons=20, poll_s=0}}}}"
    );
    let more = [
        "rounds.count=1",
        "gate.alpha=0.45",
        "gate.kl_max=0",
        "gate.length_ratio_max=0",
        "grpo.grpo.missing_end_penalty=0",
        "grpo.train.steps=60",
        "grpo.optimizer.lr=1e-2",
        "grpo.grpo.prompts=8",
        "grpo.rollout.completions=4",
        "grpo.kl.beta=0",
        &by,
        &trained,
        &serve,
    ];
    let dir = root.join("loop");
    let go = || {
        let all = arguments(&world, &dir, &more);
        let output = hearken(all).env("HEARKEN_TEST_KEY", "admin").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Ran { code: output.status.code(), stdout, stderr }.ok()
    };
    let ask = |prompt: String| {
        let body = serde_json::json!({"model": "policy", "prompt": prompt, "max_tokens": 2});
        server.post("/v1/completions", &body)
    };
    let current = ask("a".to_owned())["system_fingerprint"].clone();
    let waiting = go();
    assert!(waiting.stderr.contains("0 of 20 comparisons"), "{}{}", waiting.stdout, waiting.stderr);
    let mut versions = BTreeSet::new();
    for number in 0..60 {
        let answer = ask(format!("Review {number}:"));
        let version = answer["system_fingerprint"].clone();
        versions.insert(version.to_string());
        let thumb = if version == current { "up" } else { "down" };
        let said = serde_json::json!({"request_id": answer["id"], "thumb": thumb});
        server.post("/v1/feedback", &said);
    }
    assert_eq!(versions.len(), 2);
    let decided = go();
    for expected in ["rolled back by gate", "canary: users find it worse: win rate 0.0000"] {
        assert!(decided.stdout.contains(expected), "{expected}: {}", decided.stdout);
    }
    assert_eq!(ask("Review 1:".to_owned())["system_fingerprint"], current);
    assert!(dir.join("rounds/001/canary.json").exists());
    server.end();
}

/// The version that wrote an answer; of a greedy one the number of its prompt, and what it says.
#[cfg(unix)]
type HeardAnswer = (String, Option<(usize, String)>);

/// Users go when it is dropped, also where a test fails.
#[cfg(unix)]
struct EndOfUsers<'a>(&'a AtomicBool);

#[cfg(unix)]
impl Drop for EndOfUsers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A user who asks until the loop is over.
#[cfg(unix)]
fn ask_on(server: &crate::serve::Server, is_over: &AtomicBool, user: usize) -> Vec<HeardAnswer> {
    let mut heard = Vec::new();
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let (prompt, is_greedy) = (number % 5, number % 2 == 0);
        let body = serde_json::json!({
            "model": "policy", "prompt": format!("Review {prompt}:"), "max_tokens": 6, "ignore_eos": true,
            "temperature": if is_greedy { 0.0 } else { 1.0 }, "seed": 1000 * user + number,
        });
        // Fails unless the status is 200.
        let answer = server.post("/v1/completions", &body);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let said = is_greedy.then(|| (prompt, text(&answer["choices"][0]["text"])));
        heard.push((text(&answer["system_fingerprint"]), said));
        let thumb = if number % 3 == 0 { "down" } else { "up" };
        let said = serde_json::json!({"request_id": answer["id"], "thumb": thumb});
        server.post("/v1/feedback", &said);
    }
    heard
}

/// Three rounds beside users of the server that gets what is promoted: killed twice they go on, no request fails, and each answer is that of
/// one version.
#[test]
#[cfg(unix)]
fn three_rounds_go_on_by_themselves_beside_users_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let base = root.join("world/sft/final").display().to_string();
    let log = root.join("completions.jsonl").display().to_string();
    let server =
        crate::serve::Server::start(&["--model", &base, "--name", "policy", "--log", &log]);
    // A policy that is trained towards length wins by it.
    let length = "[{kind=\"heuristic\", name=\"length_diversity\"}]";
    let (by, trained) = (format!("gate.score={length}"), format!("grpo.score={length}"));
    let serve =
        format!("serve={{url=\"{}\", key_env=\"HEARKEN_TEST_KEY\", model=\"policy\"}}", server.url);
    let more = [
        "rounds.count=3",
        "gate.alpha=0.45",
        "gate.kl_max=0",
        "gate.length_ratio_max=0",
        "grpo.grpo.missing_end_penalty=0",
        "grpo.train.steps=30",
        "grpo.optimizer.lr=1e-2",
        "grpo.grpo.prompts=8",
        "grpo.rollout.completions=4",
        "grpo.kl.beta=0",
        &by,
        &trained,
        &serve,
    ];
    let dir = root.join("loop");
    let all = arguments(&world, &dir, &more);
    let is_over = AtomicBool::new(false);
    let (heard, status) = std::thread::scope(|scope| {
        let (server, is_over) = (&server, &is_over);
        let users: Vec<_> =
            (1..=3).map(|user| scope.spawn(move || ask_on(server, is_over, user))).collect();
        let end = EndOfUsers(is_over);
        kill_at(&all, &dir.join("rounds/001/policy/checkpoints"));
        kill_at(&all, &dir.join("rounds/002/compared.jsonl"));
        let ran = hearken(&all).env("HEARKEN_TEST_KEY", "admin").output().unwrap();
        // Some are asked of the last version.
        sleep(Duration::from_millis(300));
        drop(end);
        let heard: Vec<_> = users.into_iter().flat_map(|user| user.join().unwrap()).collect();
        (heard, ran)
    });
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    check_versions(&heard, &dir);
    server.end();
    // Every answer is written down with the version that it named.
    let written = fs::read_to_string(&log).unwrap();
    let written = written.lines().map(|line| serde_json::from_str(line).unwrap());
    let written: Vec<serde_json::Value> = written.collect();
    let answers = written.iter().filter(|line| !line["completion"].is_null());
    let mut versions: Vec<&str> = answers.map(|line| line["version"].as_str().unwrap()).collect();
    let mut told: Vec<&str> = heard.iter().map(|(version, _)| version.as_str()).collect();
    versions.sort_unstable();
    told.sort_unstable();
    assert!(versions == told, "{} answers, {} written", told.len(), versions.len());
}

/// A version that answers is the first, or one that was promoted, and says the same of a prompt whenever it is greedy.
#[cfg(unix)]
fn check_versions(heard: &[HeardAnswer], dir: &Path) {
    let mut by_version: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for (version, said) in heard {
        let texts = by_version.entry(version.clone()).or_default();
        if let Some((prompt, text)) = said {
            let first = texts.entry(*prompt).or_insert_with(|| text.clone());
            assert_eq!(first, text, "version {version}, prompt {prompt}");
        }
    }
    // The first policy, and each that was promoted by the name that the server told the loop.
    let read = |number: u64, name: &str| -> Option<serde_json::Value> {
        let path = dir.join(format!("rounds/{number:03}/{name}"));
        Some(serde_json::from_str(&fs::read_to_string(path).ok()?).unwrap())
    };
    let promoted = (1..=3).filter(|number| {
        let decision = read(*number, "decision.json").expect("three rounds are over");
        decision["promoted"] == true
    });
    let served = |number| read(number, "deployed.json").expect("it is served")["served"].clone();
    let served: Vec<String> =
        promoted.map(|number| served(number).as_str().unwrap().to_owned()).collect();
    assert!(!served.is_empty(), "one round at least is promoted");
    let others = by_version.keys().filter(|version| !served.contains(version)).count();
    assert!(others == 1 && by_version.contains_key(served.last().unwrap()), "{by_version:?}");
}
