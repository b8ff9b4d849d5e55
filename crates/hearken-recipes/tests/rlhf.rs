//! The stages end to end: what is skipped, what goes on, what is learned.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "../../hearken-train/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use hearken_recipes::rlhf::{self, RlhfConfig, RlhfOutcome};
use hearken_run::progress::Silent;
use hearken_run::run::Status;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use support::{After, Recorder, config, overrides};

/// The quickstart, far too small to learn anything.
const SMALL: &str = "
[quickstart]
demonstrations = 60
preferences = 40
preferences_eval = 20
prompts_eval = 10

[quickstart.model]
vocab = 300
width = 16
layers = 1
heads = 2
inner = 32

[sft.train]
batch_size = 8
steps = 3

[reward.train]
batch_size = 8
steps = 2

[ppo.train]
batch_size = 4
steps = 4

[ppo.rollout]
max_new_tokens = 6

[ppo.ppo]
epochs = 2

[[ppo.score]]
kind = \"model\"

[[ppo.score]]
kind = \"heuristic\"
name = \"quickstart_gold\"
label = \"gold\"
weight = 0

[evaluation]
prompts = 8
win_by = \"gold\"
";

fn run(folder: &Path, more: &[&str], progress: &mut Recorder) -> RlhfOutcome {
    let mut list = vec![format!("run.dir={}", folder.join("run").display())];
    list.extend(overrides(more));
    let loaded = RlhfConfig::load(&config(folder, SMALL), &list).unwrap();
    rlhf::run(Cpu::new(), &loaded, Start::Resume, progress).unwrap()
}

fn weights(folder: &Path, stage: &str) -> Vec<u8> {
    fs::read(folder.join("run").join(stage).join("final/model.safetensors")).unwrap()
}

#[test]
fn stages_run_in_order_and_are_skipped_when_nothing_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let first = run(root, &[], &mut Recorder::new(After::GoOn));
    assert_eq!(first.status, Status::Finished);
    let names: Vec<_> = first.outcome.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["data", "sft", "reward", "ppo"]);
    for stage in &first.outcome.stages[1..] {
        assert!(0 < stage.tokens && 0.0 < stage.flops && !stage.bought.is_empty(), "{stage:?}");
    }
    let evaluation = first.outcome.evaluation.clone().unwrap();
    assert_eq!((evaluation.prompts, evaluation.win_rate_by.as_str()), (8, "gold"));
    let quantities: Vec<_> = evaluation.quantities.iter().map(|q| q.quantity.as_str()).collect();
    assert!(quantities.contains(&"score: model") && quantities.contains(&"score: gold"));
    let html = fs::read_to_string(first.report.unwrap()).unwrap();
    assert!(html.contains("Scores against KL") && html.contains("Review of the"));

    let mut recorder = Recorder::new(After::GoOn);
    let again = run(root, &[], &mut recorder);
    assert_eq!(again.outcome, first.outcome);
    assert_eq!(recorder.notes.iter().filter(|note| note.contains("done already")).count(), 4);

    // Another reward model makes another policy, from the same demonstrations.
    let (sft, reward) = (weights(root, "sft"), weights(root, "reward"));
    let mut recorder = Recorder::new(After::GoOn);
    run(root, &["reward.train.steps=3"], &mut recorder);
    assert!(recorder.said("sft: done already") && !recorder.said("ppo: done already"));
    assert!(weights(root, "sft") == sft && weights(root, "reward") != reward);
}

/// `data.max_tokens` is the length of prompts, in training and in the comparison at the end.
#[test]
fn a_process_reward_model_of_the_run_scores_its_policy() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let line = |n: usize| {
        format!(
            "{{\"prompt\": \"Review {n}:\", \"completions\": [\"It was good.\", \"Come again.\"], \
             \"labels\": [true, {}]}}\n",
            n.is_multiple_of(2)
        )
    };
    let steps = root.join("steps.jsonl");
    fs::write(&steps, (0..40).map(line).collect::<String>()).unwrap();
    let path = steps.display();
    let more = [
        "reward.reward.kind=process".to_owned(),
        format!("reward.data.train={path}"),
        format!("reward.data.eval={path}"),
        "ppo.score=[{kind='process'}, {kind='heuristic', name='quickstart_gold', label='gold', weight=0}]"
            .to_owned(),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let outcome = run(root, &more, &mut Recorder::new(After::GoOn));
    assert_eq!(outcome.status, Status::Finished);
    let metrics = fs::read_to_string(root.join("run/ppo/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"scores/process\""), "{metrics}");
}

#[test]
fn prompts_of_the_greatest_length_are_compared_too() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["ppo.data.max_tokens=60", "ppo.rollout.max_new_tokens=64", "ppo.train.steps=2"];
    let outcome = run(folder.path(), &more, &mut Recorder::new(After::GoOn)).outcome;
    assert_eq!(outcome.evaluation.unwrap().prompts, 8);
}

#[test]
fn a_run_that_is_stopped_in_a_stage_goes_on_there() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    for folder in [&whole, &parts] {
        fs::create_dir(folder).unwrap();
    }
    run(&whole, &[], &mut Recorder::new(After::GoOn));
    // Stops in the first stage that reaches step 2, before its end.
    let stopped = run(&parts, &[], &mut Recorder::new(After::Stop(2)));
    assert_eq!((stopped.status, stopped.report), (Status::Stopped, None));
    assert!(!parts.join("run/reward").exists());
    let finished = run(&parts, &[], &mut Recorder::new(After::GoOn));
    assert_eq!(finished.status, Status::Finished);
    for stage in ["sft", "reward", "ppo"] {
        assert!(weights(&parts, stage) == weights(&whole, stage), "{stage}");
    }
}

#[test]
fn two_processes_do_not_share_a_run_of_several_stages() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("config.toml"), "the other's").unwrap();
    let held = fs::File::create(root.join("lock")).unwrap();
    held.lock().unwrap();
    let list = [format!("run.dir={}", root.display())];
    let loaded = RlhfConfig::load(&config(folder.path(), SMALL), &list).unwrap();
    let start = || rlhf::run(Cpu::new(), &loaded, Start::Resume, &mut Silent);
    let error = start().unwrap_err().to_string();
    assert!(error.contains("run: in use by process"), "{error}");
    assert_eq!(fs::read_to_string(root.join("config.toml")).unwrap(), "the other's");
    drop(held);
    assert_eq!(start().unwrap().status, Status::Finished);
}

#[test]
fn keys_of_a_stage_are_checked_before_the_first_begins() {
    let folder = tempfile::tempdir().unwrap();
    for (more, parts) in [
        ("ppo.ppo.clip_lo=0.1", &["unknown key `ppo.ppo.clip_lo`", "`ppo.ppo.clip_low`"][..]),
        ("sft.train.steps=0", &["`sft.train.steps`", "from 1"]),
        ("rewrad.train.steps=1", &["unknown key `rewrad`", "`reward`"]),
        ("quickstart.sharpness=-1", &["quickstart.sharpness"]),
        ("quickstart.prompts_eval=100000", &["quickstart.prompts_eval", "1343"]),
        ("model.path=x", &["model.path", "[quickstart]"]),
    ] {
        let list = [format!("run.dir={}", folder.path().join("run").display()), more.to_owned()];
        let error = RlhfConfig::load(&config(folder.path(), SMALL), &list).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{more}: no {part} in {error}");
        }
    }
    let list = overrides(&["run.dir=x"]);
    let error = RlhfConfig::load(&config(folder.path(), "[sft.train]\nsteps = 1\n"), &list);
    assert!(error.unwrap_err().to_string().contains("model.path"));
}

fn quickstart() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    crates.parent().unwrap().join("configs/quickstart.toml")
}

/// What the quickstart promises, on three seeds.
#[test]
#[ignore = "takes about three minutes a seed in a release build"]
fn the_quickstart_raises_gold_by_more_than_two_standard_errors_within_its_kl_limit() {
    for seed in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let list = [
            format!("run.dir={}", folder.path().join("run").display()),
            format!("run.seed={seed}"),
        ];
        let loaded = RlhfConfig::load(&quickstart(), &list).unwrap();
        let outcome = rlhf::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap().outcome;
        let evaluation = outcome.evaluation.unwrap();
        let gold = evaluation.quantities.iter().find(|q| q.quantity == "score: gold").unwrap();
        assert!(2.0 < gold.standard_errors().unwrap(), "seed {seed}: {}", gold.difference);
        let (kl, limit) = (evaluation.kl_nats, evaluation.kl_limit_nats.unwrap());
        assert!(kl.value < limit, "seed {seed}: KL {kl} above {limit}");
    }
}

/// A judge that prefers the longer answer: a program.
const LONGER: &str = "while read -r line; do
  a=${line#*completion_a\\\":}; a=${a%%\\\",*}; b=${line#*completion_b\\\":}; b=${b%%\\\",*}
  if [ ${#b} -lt ${#a} ]; then echo '{\"probability\": 0.9}'; else echo '{\"probability\": 0.2}'; fi
done";

fn labelled(folder: &Path, more: &[&str], progress: &mut Recorder) -> RlhfOutcome {
    let judge = format!(
        "{SMALL}\n[labels]\n[[judge.judge]]\nkind = 'command'\nprogram = 'sh'\nargs = ['-c', '''{LONGER}''']\n"
    );
    let mut list = vec![format!("run.dir={}", folder.join("run").display())];
    list.extend(overrides(more));
    let loaded = RlhfConfig::load(&config(folder, &judge), &list).unwrap();
    rlhf::run(Cpu::new(), &loaded, Start::Resume, progress).unwrap()
}

#[test]
fn models_label_pairs_of_the_world_or_of_the_policy_for_the_reward_model() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let first = labelled(root, &[], &mut Recorder::new(After::GoOn));
    let names: Vec<_> = first.outcome.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["data", "sft", "labels", "reward", "ppo"]);
    let figures = &first.outcome.stages[2].bought;
    let figure = |name: &str| figures.iter().find(|one| one.name == name).map(|one| one.value);
    assert_eq!((figure("pairs"), figure("labelled")), (Some(40.0), Some(40.0)));
    let agreement = figure("agreement with the pairs' own labels").unwrap();
    assert!((0.0..=1.0).contains(&agreement));
    let labels = support::json_lines(&root.join("run/labels/preferences.jsonl"));
    let own = support::json_lines(&root.join("run/data/preferences.jsonl"));
    assert_eq!(labels.len(), 40);
    for (label, own) in labels.iter().zip(&own) {
        assert_eq!(label["prompt"], own["prompt"]);
        let length = |key: &str| label[key].as_str().unwrap().len();
        let p = label["probability"].as_f64().unwrap();
        assert!(length("rejected") <= length("chosen") && 0.5 <= p, "{label}");
    }

    let mut recorder = Recorder::new(After::GoOn);
    assert_eq!(labelled(root, &[], &mut recorder).outcome, first.outcome);
    assert_eq!(recorder.notes.iter().filter(|note| note.contains("done already")).count(), 5);

    // Pairs of the policy's own completions; demonstrations and the model of them stay.
    let mut recorder = Recorder::new(After::GoOn);
    let other = labelled(root, &["labels.sampled=30"], &mut recorder);
    assert!(recorder.said("sft: done already") && !recorder.said("labels: done already"));
    assert!((other.outcome.stages[2].bought[0].value - 30.0).abs() < 1e-9);
    let sampled = support::json_lines(&root.join("run/labels/pairs.jsonl"));
    assert!(sampled.iter().all(|pair| pair["chosen"] != pair["rejected"]));
}

#[test]
fn labels_without_judges_or_pairs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let judge = "\n[[judge.judge]]\nkind = 'command'\nprogram = 'sh'\n";
    let labels = format!("{SMALL}\n[labels]\n");
    for (text, expected) in [
        (labels.clone(), "[[judge.judge]]"),
        (format!("{SMALL}{judge}"), "[labels]"),
        (format!("{labels}sampled = 3\npairs = ['x']\n{judge}"), "`labels.sampled`"),
        (format!("{labels}{judge}[judge.ask]\ntask = 'rate'\n"), "ask.task"),
        (format!("{labels}pears = []\n{judge}"), "labels.pears"),
    ] {
        let list = [format!("run.dir={}", folder.path().join("run").display())];
        let error = RlhfConfig::load(&config(folder.path(), &text), &list).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
