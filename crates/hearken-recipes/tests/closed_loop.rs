//! The closed loop in the quickstart's world, far too small to learn much: what a round leaves, what goes on, what is refused.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "../../hearken-train/tests/support/mod.rs"]
mod support;

#[path = "../../hearken-store/tests/support/small_disk.rs"]
mod small_disk;

use std::fs;
use std::path::{Path, PathBuf};

use hearken_config::LoadedConfig;
use hearken_data::feedback::{Item, Judgement, Verdict};
use hearken_recipes::closed_loop::{
    self, ByHand, CanaryRate, CanaryReport, CanaryStanding, Deploy, GateReport, LoopConfig,
    LoopStatus, RoundDecision, RoundState, summaries,
};
use hearken_recipes::rlhf::{self, RlhfConfig};
use hearken_run::progress::{Progress, Silent, StepReport};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use serde_json::Value;
use small_disk::SmallDisk;
use support::{config, overrides};

/// The quickstart's world and a policy that has hardly learned to write in it.
const WORLD: &str = "
[quickstart]
demonstrations = 300
preferences = 20
preferences_eval = 20
prompts_eval = 24

[quickstart.model]
vocab = 300
width = 32
layers = 1
heads = 2
inner = 64

[sft.optimizer]
lr = 5e-3

[sft.train]
batch_size = 16
steps = 40
";

/// A loop in it.
const LOOP: &str = "
[rounds]
count = 2

[candidates]
prompts = 12
completions = 3

[ask]
pairs = 10

[reward.train]
batch_size = 4
steps = 3

[grpo.train]
steps = 2

[grpo.optimizer]
lr = 1e-3

[grpo.rollout]
max_new_tokens = 12
completions = 3

[grpo.grpo]
prompts = 4

[gate]
prompts = 20
distinct_min = 0

[[gate.score]]
kind = \"heuristic\"
name = \"quickstart_gold\"
label = \"gold\"
";

/// Makes the world, and gives the keys of a loop that begins in it.
fn world(folder: &Path) -> Vec<String> {
    let root = folder.join("world");
    let list = vec![format!("run.dir={}", root.display())];
    let loaded = RlhfConfig::load(&config(folder, WORLD), &list).unwrap();
    rlhf::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap();
    let of = |key: &str, path: &str| format!("{key}={}", root.join(path).display());
    vec![
        of("model.path", "sft/final"),
        of("data.train", "data/prompts.jsonl"),
        of("data.eval", "data/prompts_eval.jsonl"),
    ]
}

fn load(folder: &Path, run: &str, world: &[String], more: &[&str]) -> LoadedConfig<LoopConfig> {
    let mut list = world.to_vec();
    list.push(format!("run.dir={}", folder.join(run).display()));
    list.extend(overrides(more));
    LoopConfig::load(&config(folder, LOOP), &list).unwrap()
}

fn go(loaded: &LoadedConfig<LoopConfig>) -> LoopStatus {
    closed_loop::run(Cpu::new(), loaded, None, &mut Silent).unwrap()
}

fn error(loaded: &LoadedConfig<LoopConfig>) -> String {
    closed_loop::run(Cpu::new(), loaded, None, &mut Silent).unwrap_err().to_string()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a loop is judged by: everything but what trainers say of times and folders.
fn results(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_of_round = folder.parent() == Some(&root.join("rounds")) || folder == root;
            let is_result = name == "model.safetensors" && folder.ends_with("final")
                || is_of_round && !["config.toml", "lock", "report.html"].contains(&name.as_str());
            if path.is_dir() {
                folders.push(path);
            } else if is_result {
                let at = path.strip_prefix(root).unwrap().to_owned();
                found.push((at, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (results(a), results(b));
    let names = |of: &[(PathBuf, Vec<u8>)]| of.iter().map(|one| one.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", name.display());
    }
}

#[test]
fn a_round_leaves_what_it_was_made_from_and_why_it_was_decided() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let loaded = load(root, "loop", &world, &[]);
    assert_eq!(go(&loaded), LoopStatus::Finished);
    let run = root.join("loop");
    let [first, second] = [1, 2].map(|number| run.join(format!("rounds/{number:03}")));

    let lineage: Value = read(&first.join("round.json"));
    assert_eq!(lineage["policy"]["name"], "start");
    assert_eq!(lineage["policy"]["sha256"].as_str().unwrap().len(), 64);
    let candidates: Vec<Value> = lines(&first.join("candidates.jsonl"));
    assert_eq!(candidates.len(), 12);
    assert_eq!(candidates[0]["completions"].as_array().unwrap().len(), 3);
    let items: Vec<Item> = lines(&first.join("asked.jsonl"));
    assert_eq!(items.len(), 10);
    for item in &items {
        assert!(0.0 < item.meta["propensity"].as_f64().unwrap());
        assert_eq!(item.meta["order"], "random", "there is no reward model in the first round");
        assert!(item.candidates.iter().all(|one| one.model.as_deref() == Some("start")));
        // What is asked about is what was sampled.
        let prompt = &candidates[item.meta["prompt_index"].as_u64().unwrap() as usize];
        assert_eq!(prompt["prompt"].as_str().unwrap(), item.prompt[0].content);
        let at = item.meta["candidates"][0].as_u64().unwrap() as usize;
        assert_eq!(prompt["completions"][at].as_str().unwrap(), item.candidates[0].text);
    }
    let later: Vec<Item> = lines(&second.join("asked.jsonl"));
    let by = |order: &str| later.iter().filter(|one| one.meta["order"] == order).count();
    assert_eq!((by("disagreement"), by("random")), (7, 3));

    for round in [&first, &second] {
        let report: GateReport = read(&round.join("gate.json"));
        let decision: RoundDecision = read(&round.join("decision.json"));
        assert_eq!(decision.promoted, report.passed);
        assert!(!decision.reasons.is_empty());
        assert_eq!((decision.asked, decision.labels), (10, 10));
        let compared: Vec<Value> = lines(&round.join("compared.jsonl"));
        assert_eq!(compared.len(), 20);
    }
    let last: RoundDecision = read(&second.join("decision.json"));
    let current: closed_loop::Version = read(&run.join("current.json"));
    assert_eq!(current, last.current);
    let rounds = summaries(&run).unwrap();
    assert_eq!(rounds.iter().map(|one| one.labels).collect::<Vec<_>>(), [10, 20]);

    // There is nothing to do, and one round more goes on from there.
    let before = results(&run);
    assert_eq!(go(&loaded), LoopStatus::Finished);
    assert!(before == results(&run), "a loop that is over was touched");
    go(&load(root, "loop", &world, &["rounds.count=3"]));
    assert_eq!(summaries(&run).unwrap().len(), 3);
    // The reward model learns from all rounds that are not set aside.
    let fit = fs::read_to_string(run.join("rounds/003/reward-1/config.toml")).unwrap();
    let aside = summaries(&run).unwrap();
    assert_eq!(aside.len(), 3);
    for number in ["001", "002", "003"] {
        let decision: RoundDecision = read(&run.join(format!("rounds/{number}/decision.json")));
        let is_learned = number == "003" || !decision.labels_set_aside;
        assert_eq!(fit.contains(&format!("rounds/{number}/judged.jsonl")), is_learned);
    }
}

/// Stops whoever asks for the `left`th time.
struct StopAt {
    asked: std::cell::Cell<usize>,
    left: usize,
}

impl Progress for StopAt {
    fn stage(&mut self, _: &str, _: Option<u64>) {}
    fn step(&mut self, _: &StepReport<'_>) {}
    fn note(&mut self, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.left <= self.asked.get()
    }
}

#[test]
fn a_loop_that_is_stopped_again_and_again_ends_bit_for_bit_like_one_that_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    go(&load(root, "whole", &world, &[]));
    let loaded = load(root, "parts", &world, &[]);
    let mut sessions = 0;
    loop {
        let mut stop = StopAt { asked: std::cell::Cell::new(0), left: 3 };
        let status = closed_loop::run(Cpu::new(), &loaded, None, &mut stop).unwrap();
        sessions += 1;
        assert!(sessions < 100, "no progress");
        if status == LoopStatus::Finished {
            break;
        }
    }
    assert!(3 < sessions, "{sessions}");
    assert_same(&root.join("whole"), &root.join("parts"));
}

/// Whatever file of the round was the last to be written when the process died.
#[test]
fn a_round_goes_on_from_any_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let more = ["rounds.count=1"];
    go(&load(root, "whole", &world, &more));
    let steps = [
        "current.json",
        "rounds/001/decision.json",
        "rounds/001/gate.json",
        "rounds/001/compared.jsonl",
        "rounds/001/policy",
        "rounds/001/reward-2",
        "rounds/001/judged.jsonl",
        "rounds/001/asked.jsonl",
        "rounds/001/candidates.jsonl",
    ];
    let loaded = load(root, "cut", &world, &more);
    go(&loaded);
    for count in 1..=steps.len() {
        for name in &steps[..count] {
            let path = root.join("cut").join(name);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
        }
        go(&loaded);
        assert_same(&root.join("whole"), &root.join("cut"));
    }
}

#[test]
fn a_changed_configuration_begins_the_round_anew_and_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    go(&load(root, "loop", &world, &["rounds.count=1"]));
    let run = root.join("loop");
    let first = results(&run);
    let mut stop = StopAt { asked: std::cell::Cell::new(0), left: 2 };
    let loaded = load(root, "loop", &world, &[]);
    closed_loop::run(Cpu::new(), &loaded, None, &mut stop).unwrap();
    assert!(
        run.join("rounds/002/asked.jsonl").exists()
            || run.join("rounds/002/candidates.jsonl").exists()
    );
    go(&load(root, "loop", &world, &["ask.pairs=6"]));
    let items: Vec<Item> = lines(&run.join("rounds/002/asked.jsonl"));
    assert_eq!(items.len(), 6);
    let of_first = |all: &[(PathBuf, Vec<u8>)]| -> Vec<(PathBuf, Vec<u8>)> {
        all.iter().filter(|one| one.0.starts_with("rounds/001")).cloned().collect()
    };
    assert!(of_first(&first) == of_first(&results(&run)));
}

#[test]
fn people_are_waited_for_in_the_store_and_the_loop_goes_on_with_what_they_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let store = root.join("labels.db").display().to_string();
    let keys = format!("labels.store={store}");
    let more = ["rounds.count=1", "labels.by=store", "labels.enough=0.5", "gate.by=people", &keys];
    let loaded = load(root, "loop", &world, &more);
    let LoopStatus::Waiting(text) = go(&loaded) else { panic!("nobody has judged anything") };
    assert!(
        text.contains("0 of 10 pairs are judged in") && text.contains("hearken collect"),
        "{text}"
    );
    let LoopStatus::Waiting(_) = go(&loaded) else { panic!("nobody has judged anything") };
    let items: Vec<Item> = lines(&root.join("loop/rounds/001/asked.jsonl"));
    {
        let open = hearken_store::open_existing(&store).unwrap();
        assert_eq!(open.items(0, 100).unwrap().len(), 10);
        judge(&*open, &items[..5], 0);
    }
    // The labels are enough, and the gate asks next.
    let LoopStatus::Waiting(text) = go(&loaded) else { panic!("the gate waits") };
    assert!(text.contains("the gate waits for people"), "{text}");
    let labels: Vec<Value> = lines(&root.join("loop/rounds/001/judged.jsonl"));
    assert_eq!(labels.len(), 10 + 5);

    // A store that is gone is not replaced by an empty one.
    let aside = root.join("aside.db");
    fs::rename(&store, &aside).unwrap();
    let gone = error(&loaded);
    assert!(gone.contains("`labels.store`") && gone.contains("put the store back"), "{gone}");
    assert!(!Path::new(&store).exists());
    fs::rename(&aside, &store).unwrap();
    {
        let open = hearken_store::open_existing(&store).unwrap();
        let all = open.items(0, 1000).unwrap();
        let of_gate: Vec<Item> =
            all.into_iter().map(|one| one.record).filter(|one| one.id.contains("gate")).collect();
        // Seven in a row decide at 5 %, and nobody is asked about the others.
        assert!(8 < of_gate.len(), "{}", of_gate.len());
        judge(&*open, &of_gate[..7], 1);
    }
    assert_eq!(go(&loaded), LoopStatus::Finished);
    let decision: RoundDecision = read(&root.join("loop/rounds/001/decision.json"));
    let report: GateReport = read(&root.join("loop/rounds/001/gate.json"));
    assert!(decision.promoted && report.comparisons < 20, "{decision:?}");
}

/// One and the same candidate is better in all of them.
fn judge(store: &dyn hearken_store::Store, items: &[Item], better: usize) {
    let judgement = |(at, item): (usize, &Item)| {
        let mut one =
            Judgement::new(format!("{at}-{}", item.id), item, "ann", Verdict::preferred(better));
        one.at = 1000 + i64::try_from(at).unwrap();
        one
    };
    let all: Vec<Judgement> = items.iter().enumerate().map(judgement).collect();
    store.add_judgements(&all).unwrap();
}

/// Keeps the folders that it is given, and refuses the first time.
#[derive(Default)]
struct Server {
    refused: bool,
    served: Vec<PathBuf>,
    tried: Vec<PathBuf>,
    report: Option<CanaryReport>,
}

impl Deploy for Server {
    fn swap(&mut self, folder: &Path) -> Result<String, String> {
        if !self.refused {
            self.refused = true;
            return Err("http://127.0.0.1:1: nobody answers".to_owned());
        }
        self.served.push(folder.to_owned());
        Ok("version".to_owned())
    }

    fn try_out(&mut self, folder: &Path, share: f64) -> Result<String, String> {
        assert!((share - 0.2).abs() < 1e-12);
        self.tried.push(folder.to_owned());
        Ok("canary".to_owned())
    }

    fn tried(&mut self) -> Result<Option<CanaryReport>, String> {
        Ok(self.report.clone())
    }
}

#[test]
fn people_approve_or_reject_what_has_passed_and_a_server_gets_what_is_promoted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    // A policy that is trained against a score wins by it: enough steps to be sure of.
    let more = [
        "gate.approve=manual",
        "gate.alpha=0.4",
        "rounds.count=1",
        "gate.kl_max=0",
        "grpo.train.steps=30",
        "grpo.score=[{kind=\"contains\", text=\"The\"}]",
        "gate.score=[{kind=\"contains\", text=\"The\"}]",
        "gate.length_ratio_max=0",
        "gate.prompts=24",
    ];
    let loaded = load(root, "loop", &world, &more);
    let LoopStatus::Waiting(text) = go(&loaded) else {
        panic!("{:?}", summaries(&root.join("loop")).unwrap())
    };
    assert!(text.contains("--approve 1 --by NAME"), "{text}");
    let run = root.join("loop");
    assert_eq!(summaries(&run).unwrap()[0].state, RoundState::Passed);
    let by_hand = |round, promoted| ByHand { round, promoted, by: "Ann".to_owned(), at: 7 };
    let none = closed_loop::decide(&run, &by_hand(2, true)).unwrap_err().to_string();
    assert!(none.contains("round 2 has not begun"), "{none}");
    let decision = closed_loop::decide(&run, &by_hand(1, true)).unwrap();
    assert_eq!((decision.by.as_str(), decision.at, decision.labels), ("Ann", Some(7), 10));
    let twice = closed_loop::decide(&run, &by_hand(1, false)).unwrap_err().to_string();
    assert!(twice.contains("is decided already"), "{twice}");

    let mut server = Server::default();
    let serve =
        |server: &mut Server| closed_loop::run(Cpu::new(), &loaded, Some(server), &mut Silent);
    let refused = serve(&mut server).unwrap_err().to_string();
    assert!(refused.contains("nobody answers") && refused.contains("not yet served"), "{refused}");
    assert_eq!(serve(&mut server).unwrap(), LoopStatus::Finished);
    assert_eq!(serve(&mut server).unwrap(), LoopStatus::Finished);
    let expected = fs::canonicalize(run.join("rounds/001/policy/final")).unwrap();
    assert_eq!(server.served, [expected], "once");
}

#[test]
fn users_of_a_canary_keep_a_policy_from_being_promoted_or_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let more = [
        "gate.alpha=0.4",
        "rounds.count=1",
        "gate.kl_max=0",
        "grpo.train.steps=30",
        "grpo.score=[{kind=\"contains\", text=\"The\"}]",
        "gate.score=[{kind=\"contains\", text=\"The\"}]",
        "gate.length_ratio_max=0",
        "gate.prompts=24",
        "serve={url=\"http://127.0.0.1:1\", canary={share=0.2, comparisons=20, poll_s=0}}",
    ];
    let report = |standing, comparisons| {
        let rate = CanaryRate { value: 0.25, low: 0.1, high: 0.4, n: comparisons };
        let version = "canary".to_owned();
        Some(CanaryReport { version, standing, comparisons, win_rate: Some(rate) })
    };
    let policy = |dir: &str| fs::canonicalize(root.join(dir).join("rounds/001/policy/final"));
    for (dir, standing, comparisons, promoted) in [
        ("fine", CanaryStanding::Running, 20, true),
        ("worse", CanaryStanding::RolledBack, 8, false),
    ] {
        let loaded = load(root, dir, &world, &more);
        let mut server = Server { refused: true, ..Server::default() };
        let go = |server: &mut Server| {
            closed_loop::run(Cpu::new(), &loaded, Some(server), &mut Silent).unwrap()
        };
        let waits = |status: LoopStatus, text: &str| {
            let LoopStatus::Waiting(found) = status else { panic!("{status:?}") };
            assert!(found.contains(text), "{found}");
        };
        waits(go(&mut server), "0 of 20 comparisons");
        server.report = report(CanaryStanding::Running, 7);
        waits(go(&mut server), "7 of 20 comparisons");
        assert_eq!(server.tried, [policy(dir).unwrap()], "once");
        // A server that was started again gets it again.
        server.report = None;
        waits(go(&mut server), "0 of 20 comparisons");
        assert_eq!(server.tried.len(), 2);
        server.report = report(standing, comparisons);
        assert_eq!(go(&mut server), LoopStatus::Finished);
        let decision: RoundDecision = read(&root.join(dir).join("rounds/001/decision.json"));
        assert_eq!(decision.promoted, promoted, "{decision:?}");
        let says = format!("win rate 0.2500 [0.1000, 0.4000] n={comparisons}");
        assert!(
            decision
                .reasons
                .iter()
                .any(|reason| { reason.starts_with("canary: users") && reason.contains(&says) }),
            "{decision:?}"
        );
        assert_eq!(server.served.len(), usize::from(promoted));
    }
}

#[test]
fn what_cannot_go_on_is_said_and_goes_on_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    // A policy without a choice says the same each time.
    let same = load(root, "same", &world, &["grpo.rollout.top_k=1", "rounds.count=1"]);
    let text = error(&same);
    assert!(
        text.contains("found no two different completions") && text.contains("start"),
        "{text}"
    );
    assert_eq!(go(&load(root, "same", &world, &["rounds.count=1"])), LoopStatus::Finished);

    // A reward model whose weights have decayed to nothing gives everything one score: there is no policy.
    let constant = [
        "reward.optimizer.lr=0.1",
        "reward.optimizer.weight_decay=10",
        "reward.optimizer.max_grad_norm=1e-30",
        "reward.optimizer.schedule=constant",
        "reward.optimizer.warmup_steps=0",
        "rounds.count=1",
    ];
    assert_eq!(go(&load(root, "constant", &world, &constant)), LoopStatus::Finished);
    let decision: RoundDecision = read(&root.join("constant/rounds/001/decision.json"));
    assert!(!decision.promoted && decision.candidate.is_none(), "{decision:?}");
    assert!(decision.reasons[0].contains("gives every completion of the round the score"));

    // A judge that dies.
    let program = "judge={judge=[{kind=\"command\", program=\"false\"}]}";
    let judged = ["labels.by=judge", "rounds.count=1", program];
    let text = error(&load(root, "judged", &world, &judged));
    assert!(text.contains("the judge:") && text.contains("goes on"), "{text}");
    let program = "judge={judge=[{kind=\"reward\", path=\"MODEL\"}]}";
    let reward = root.join("same/rounds/001/reward-1/final").display().to_string();
    let program = program.replace("MODEL", &reward);
    let judged = ["labels.by=judge", "rounds.count=1", &program, "gate.by=judge"];
    assert_eq!(go(&load(root, "judged", &world, &judged)), LoopStatus::Finished);

    // Files that somebody wrote over.
    let path = root.join("same/rounds/001/decision.json");
    let kept = fs::read(&path).unwrap();
    fs::write(&path, "{").unwrap();
    let text = error(&load(root, "same", &world, &["rounds.count=1"]));
    assert!(text.contains("decision.json") && text.contains("put it back"), "{text}");
    fs::write(&path, kept).unwrap();

    // Somebody's folder.
    fs::create_dir_all(root.join("mine/rounds")).unwrap();
    assert!(error(&load(root, "mine", &world, &[])).contains("holds rounds"));
    // Adapters do not stack.
    let text = error(&load(root, "lora", &world, &["grpo.lora={r=2}"]));
    assert!(text.contains("`grpo.lora`"), "{text}");
}

#[test]
fn a_configuration_that_makes_no_loop_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let named = ["model.path=m", "data.train=p.jsonl", "data.eval=e.jsonl", "run.dir=r"];
    let error = |text: &str, more: &[&str]| {
        let list = overrides(&[&named[..], more].concat());
        LoopConfig::load(&config(root, text), &list).unwrap_err().to_string()
    };
    for (key, expected) in [
        ("ask.order=best", "`ask.order`: found the text \"best\""),
        ("ask.pears=3", "unknown key `ask.pears`; the nearest known key is `ask.pairs`"),
        ("ask.random_share=2", "`ask.random_share`: found 2, expected a number from 0 to 1"),
        ("labels.by=judge", "found no `judge.judge`"),
        ("labels.by=store", "found no `labels.store`"),
        ("gate.by=people", "found no `labels.store`"),
        ("gate.alpha=0.5", "`gate.alpha`: found 0.5"),
        ("gate.category=(", "`gate.category`"),
        ("labels.noise_rounds=[0]", "`labels.noise_rounds`"),
        ("ppo.train.steps=3", "`ppo` and `grpo`"),
        ("grpo.train.stepz=3", "unknown key `grpo.train.stepz`"),
        ("reward.train.steps=0", "`reward.train.steps`: found 0"),
    ] {
        let text = error(LOOP, &[key]);
        assert!(text.contains(expected), "{key}: {text}");
    }
    let without = LOOP.replace("[grpo.", "[dpo.").replace("[dpo.grpo]\nprompts = 4", "");
    assert!(error(&without, &[]).contains("`dpo.dpo.online`"), "{}", error(&without, &[]));
}

/// The questions of the second round, by every order that asks what the reward models of the first say.
#[test]
fn every_order_asks_with_propensities_and_ends_where_no_question_is_worth_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    for order in ["d_optimal", "k_center", "double_thompson", "information"] {
        let key = format!("ask.order={order}");
        let loaded = load(root, order, &world, &[&key, "ask.members=2"]);
        assert_eq!(go(&loaded), LoopStatus::Finished);
        let asked: Vec<Item> = lines(&root.join(order).join("rounds/002/asked.jsonl"));
        assert_eq!(asked.len(), 10);
        let by = |name: &str| asked.iter().filter(|item| item.meta["order"] == name).count();
        assert_eq!((by(order), by("random")), (7, 3), "{order}");
        let mut prompts = std::collections::BTreeSet::new();
        for item in &asked {
            let number = |key: &str| item.meta[key].as_f64().unwrap();
            assert!(0.0 < number("propensity") && number("propensity") <= 1.0);
            assert!((0.0..=1.0).contains(&number("predicted")));
            if item.meta["order"] == order {
                assert!(prompts.insert(item.meta["prompt_index"].to_string()), "one per prompt");
                let is_certain = (number("propensity") - 1.0).abs() < 1e-12;
                assert_eq!(is_certain, order != "double_thompson", "{}", number("propensity"));
            }
        }
        // What the reward models of before foresee is an estimate with its interval.
        let summary = &summaries(&root.join(order)).unwrap();
        assert!(summary[0].foreseen.is_none() && summary[1].foreseen.is_some_and(|of| of.n == 10));
    }
    // One reward model does not disagree with itself, its particles do.
    for (name, particles, disagree) in [("alone", 0, false), ("particles", 5, true)] {
        let particles = format!("reward.reward.particles={particles}");
        let more = ["ask.order=disagreement", "ask.members=1", &particles];
        assert_eq!(go(&load(root, name, &world, &more)), LoopStatus::Finished);
        let asked: Vec<Item> = lines(&root.join(name).join("rounds/002/asked.jsonl"));
        let worth = asked.iter().filter_map(|item| item.meta["worth"].as_f64());
        assert_eq!(worth.fold(0.0, f64::max) > 1e-9, disagree, "{name}");
    }
    // Whatever a disagreement of probabilities is, it is no more than a quarter.
    let more = ["ask.order=disagreement", "ask.worth_min=0.3"];
    let loaded = load(root, "enough", &world, &more);
    let LoopStatus::Enough(text) = go(&loaded) else { panic!("no question is worth that") };
    for expected in
        ["round 2: no question is worth asking", "\"disagreement\"", "0.3", "ask.worth_min"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!root.join("enough/rounds/002/asked.jsonl").exists());
    assert!(matches!(go(&loaded), LoopStatus::Enough(_)));
    assert_eq!(
        go(&load(root, "enough", &world, &["ask.order=disagreement"])),
        LoopStatus::Finished
    );
    let mut list = world.clone();
    list.extend(overrides(&["run.dir=x", "ask.order=random", "ask.worth_min=0.1"]));
    let error = LoopConfig::load(&config(root, LOOP), &list).unwrap_err().to_string();
    assert!(error.contains("`ask.worth_min`"), "{error}");
}

/// PPO and DPO on samples of their own update the policy as GRPO does.
#[test]
fn other_trainers_make_rounds_too() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let grpo = LOOP.find("[grpo.train]").unwrap()..LOOP.find("[gate]").unwrap();
    let sections = [
        (
            "ppo",
            "[ppo.train]\nsteps = 2\nbatch_size = 8\n[ppo.optimizer]\nlr = 1e-3\n[ppo.rollout]\nmax_new_tokens = 12\n",
        ),
        (
            "dpo",
            "[dpo.dpo]\nonline = \"dpo\"\n[dpo.train]\nsteps = 2\n[dpo.optimizer]\nlr = 1e-3\n[dpo.rollout]\nmax_new_tokens = 12\n",
        ),
    ];
    for (kind, section) in sections {
        let text = LOOP.replace(&LOOP[grpo.clone()], section);
        let dir = root.join(kind);
        fs::create_dir_all(&dir).unwrap();
        let mut list = world.clone();
        list.push(format!("run.dir={}", dir.join("loop").display()));
        let loaded = LoopConfig::load(&config(&dir, &text), &list).unwrap();
        assert_eq!(go(&loaded), LoopStatus::Finished, "{kind}");
        let rounds = summaries(&dir.join("loop")).unwrap();
        assert_eq!(rounds.len(), 2);
        assert!(rounds.iter().all(|round| round.win_rate.is_some()), "{rounds:?}");
        assert!(dir.join("loop/rounds/002/policy/final/model.safetensors").exists());
    }
}

/// A disk that is full is an error, and nothing is half written: with room again the loop ends like one that had it all along.
#[test]
fn a_disk_that_fills_stops_the_loop_and_leaves_what_it_can_go_on_with() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    let more = ["rounds.count=1"];
    assert_eq!(go(&load(root, "whole", &world, &more)), LoopStatus::Finished);
    let mut list = world.clone();
    list.push(format!("run.dir={}", disk.path().join("loop").display()));
    list.extend(overrides(&more));
    let loaded = LoopConfig::load(&config(root, LOOP), &list).unwrap();
    // It fills while the labels are there and reward models are not.
    let mut until = FillAt { stage: "reward model 1", fills: Some(&disk) };
    let error = closed_loop::run(Cpu::new(), &loaded, None, &mut until).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("no space left"), "{error}");
    assert!(!disk.path().join("loop/rounds/001/decision.json").exists());
    disk.make_room();
    assert_eq!(go(&loaded), LoopStatus::Finished);
    for name in ["judged.jsonl", "compared.jsonl", "decision.json"] {
        let of = |dir: &Path| fs::read(dir.join("rounds/001").join(name)).unwrap();
        assert_eq!(of(&disk.path().join("loop")), of(&root.join("whole")), "{name}");
    }
}

/// Fills a disk when a stage begins.
struct FillAt<'a> {
    stage: &'a str,
    fills: Option<&'a SmallDisk>,
}

impl Progress for FillAt<'_> {
    fn stage(&mut self, name: &str, _total: Option<u64>) {
        if name.contains(self.stage)
            && let Some(disk) = self.fills.take()
        {
            disk.fill();
        }
    }

    fn step(&mut self, _report: &StepReport<'_>) {}

    fn note(&mut self, _text: &str) {}

    fn stop_requested(&self) -> bool {
        false
    }
}

/// A judge answers some pairs and dies: those are kept, and the same command asks about the others only.
#[test]
#[cfg(unix)]
fn a_judge_that_dies_in_the_middle_of_a_round_is_asked_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let world = world(root);
    // It answers as many pairs as the file says, and counts them in another.
    let program = root.join("judge.sh");
    let script = "#!/bin/sh\nwhile read -r line; do\n  left=$(cat LEFT)\n  [ \"$left\" -gt 0 ] || exit 1\n  \
                  echo $((left - 1)) > LEFT\n  echo x >> ASKED\n  echo '{\"probability\": 1}'\ndone\n";
    let (left, asked) = (root.join("left"), root.join("asked"));
    let script = script
        .replace("LEFT", &left.display().to_string())
        .replace("ASKED", &asked.display().to_string());
    fs::write(&program, script).unwrap();
    fs::write(&left, "35").unwrap();
    let judge = format!(
        "judge={{ask={{both_orders=false}}, judge=[{{kind=\"command\", program=\"sh\", args=[\"{}\"]}}]}}",
        program.display()
    );
    let more =
        ["labels.by=judge", "rounds.count=1", "ask.pairs=40", "candidates.prompts=24", &judge];
    let loaded = load(root, "loop", &world, &more);
    let text = error(&loaded);
    assert!(text.contains("the judge:") && text.contains("goes on"), "{text}");
    assert!(!root.join("loop/rounds/001/judged.jsonl").exists());
    fs::write(&left, "1000").unwrap();
    assert_eq!(go(&loaded), LoopStatus::Finished);
    let lines = fs::read_to_string(&asked).unwrap().lines().count();
    // Pairs are asked about 32 at a time: the first of them are answered, and are not asked about again.
    assert!(lines <= 35 + 8, "{lines}");
    let judged: Vec<Value> = self::lines(&root.join("loop/rounds/001/judged.jsonl"));
    assert_eq!(judged.len(), 2 * 40);
}
