//! Preference optimization of completions that are sampled during training: learning, matched
//! controls, interruptions, first steps, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{
    After, Recorder, SAMPLED, check_failing_scores, check_interruptions, config, even_and_length,
    metrics, number, overrides, sampled, steps,
};
use hearken_config::Configuration;
use hearken_reward_source::{Closure, WeightedSum};
use hearken_run::error::TrainError;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::dpo::DpoConfig;
use hearken_train::dpo::online::run_with;
use serde_json::{Value, json};

fn train_with(
    run: &Path,
    more: &[&str],
    sources: &mut WeightedSum<'_>,
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = sampled(run, more);
    let loaded = DpoConfig::load(&config(run.parent().unwrap(), SAMPLED), &list)?;
    run_with(Cpu::new(), &loaded, Start::Resume, sources.into(), progress)
}

fn train(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    train_with(run, more, &mut even_and_length(), progress)
}

fn go(more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, more, &mut Recorder::new(After::GoOn)).unwrap();
    steps(&run)
}

/// Prompts of the same kind, completed with tokens whose ids are even.
fn demonstrations(folder: &Path) -> PathBuf {
    let path = folder.join("demonstrations.jsonl");
    let line = |i: u32| {
        let completion: Vec<u32> = (0..8).map(|t| 20 + 2 * ((i * 5 + t * 3) % 40)).collect();
        json!({ "prompt_ids": [10 + i, 40 + 3 * i, 7], "completion_ids": completion }).to_string()
            + "\n"
    };
    fs::write(&path, (0..12).map(line).collect::<String>()).unwrap();
    path
}

/// Mean score of the first and of the last `few` steps.
fn ends(records: &[Value], few: usize) -> (f64, f64) {
    let mean = |records: &[Value]| {
        records.iter().map(|r| number(r, "objective/scores")).sum::<f64>() / records.len() as f64
    };
    (mean(&records[..few]), mean(&records[records.len() - few..]))
}

#[track_caller]
fn check_learns(more: &[&str], at_least: f64) {
    let records = go(more);
    let (first, last) = ends(&records, 5);
    assert!(first < 0.65 && at_least < last, "{more:?}: from {first} to {last}");
}

#[test]
fn pairs_of_sampled_completions_teach_what_scores() {
    check_learns(&["dpo.online=dpo", "train.steps=60"], 0.75);
    let soft = ["dpo.online=dpo", "online.labels=soft", "dpo.loss=ipo", "train.steps=60"];
    check_learns(&soft, 0.6);
}

#[test]
fn xpo_teaches_what_scores() {
    check_learns(&["dpo.online=xpo", "rollout.completions=1", "train.steps=80"], 0.75);
}

#[test]
fn nash_md_teaches_what_scores() {
    for credit in ["online.nash_kl=token", "online.nash_kl=completion"] {
        let more = ["dpo.online=nash_md", credit, "online.labels=hard", "dpo.beta=0.01"];
        let size = ["train.batch_size=16", "train.steps=80"];
        check_learns(&[&more[..], &size].concat(), 0.7);
    }
}

#[test]
fn spin_moves_towards_the_demonstrations() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("data.train={}", demonstrations(folder.path()).display());
    let sizes = ["rollout.completions=1", "online.minibatches=2", "online.epochs=2"];
    check_learns(&[&["dpo.online=spin", &data, "train.steps=60"], &sizes[..]].concat(), 0.75);
}

/// What the scores select makes the policy better; as many at random leave it where it is.
#[test]
fn selection_by_score_teaches_and_its_random_control_does_not() {
    let best_of_n = ["dpo.online=best_of_n", "rollout.completions=4", "train.steps=60"];
    let raft = ["dpo.online=raft", "rollout.completions=4", "train.steps=60"];
    for method in [best_of_n, raft] {
        let selected = go(&method);
        let random = go(&[&method[..], &["online.selection=random"]].concat());
        for (selected, random) in selected.iter().zip(&random) {
            for key in ["sampled", "trained"] {
                assert!((number(selected, key) - number(random, key)).abs() < 0.5, "{method:?}");
            }
        }
        let ((first, last), (start, end)) = (ends(&selected, 5), ends(&random, 5));
        assert!(first < 0.65 && 0.7 < last, "{method:?}: from {first} to {last}");
        assert!(end - start < 0.5 * (last - first), "{method:?}, random: from {start} to {end}");
        let kept = &selected[0];
        assert!(number(kept, "objective/scores") < number(kept, "objective/kept_scores"));
    }
}

#[test]
fn at_the_start_the_policy_is_its_reference() {
    for method in ["dpo", "xpo"] {
        let records = go(&[&format!("dpo.online={method}"), "rollout.temperature=0.7"]);
        let first = &records[0];
        assert!(number(first, "objective/kl").abs() < 1e-4);
        for key in ["rewards/chosen", "rewards/rejected", "rewards/margins"] {
            assert!(number(first, key).abs() < 1e-5, "{method}: {key}");
        }
        let loss = if method == "xpo" { "loss/dpo" } else { "loss" };
        let ties = number(first, "frac_ties");
        // The loss of a toss-up is ln 2 as well.
        assert!((number(first, loss) - 2f64.ln()).abs() < 1e-6, "{method}: {ties} ties");
        assert!(number(first, "objective/scores_margin") >= 0.0);
        assert!(number(records.last().unwrap(), "rewards/margins").abs() > 1e-4);
    }
    let records = go(&["dpo.online=xpo", "online.xpo_alpha=0.1"]);
    for record in &records {
        let sum = number(record, "loss/dpo") + number(record, "loss/xpo");
        assert!((sum - number(record, "loss")).abs() < 1e-12);
        assert!(number(record, "loss/xpo") < 0.0);
    }
}

#[test]
fn equal_scores_teach_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut sources = WeightedSum::new().with(Closure::new("flat", |_| Ok(1.0)), 1.0);
    let mut progress = Recorder::new(After::GoOn);
    train_with(&run, &["dpo.online=dpo", "train.steps=3"], &mut sources, &mut progress).unwrap();
    for record in steps(&run) {
        assert!((number(&record, "frac_ties") - 1.0).abs() < 1e-12);
        assert!(number(&record, "grad_norm") < 1e-6, "{record}");
    }
}

/// Scores come from another thread; how long it takes changes nothing.
#[test]
fn a_slow_source_changes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let slow = || {
        Closure::new("even", |rollout| {
            let ids = rollout.completion_ids;
            std::thread::sleep(std::time::Duration::from_millis(u64::from(ids[0] % 3)));
            crate::support::even(rollout)
        })
    };
    let fast = || Closure::new("even", crate::support::even);
    for (name, source) in [("slow", slow()), ("fast", fast())] {
        let mut sources = WeightedSum::new().with(source, 1.0);
        let (run, mut progress) = (folder.path().join(name), Recorder::new(After::GoOn));
        train_with(&run, &["dpo.online=dpo"], &mut sources, &mut progress).unwrap();
    }
    assert_eq!(metrics(&folder.path().join("slow")), metrics(&folder.path().join("fast")));
}

#[test]
fn runs_that_are_stopped_or_killed_go_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("data.train={}", demonstrations(folder.path()).display());
    let save = ["train.save_every=4", "data.eval_fraction=0.25", "online.minibatches=2"];
    for more in [
        &["dpo.online=dpo", "dpo.reference_sync_steps=3", "dpo.loss=bco_pair", "dpo.bco_decay=0.5"]
            [..],
        &["dpo.online=xpo"],
        &["dpo.online=nash_md"],
        &[
            "dpo.online=nash_md",
            "online.nash_nudge=0.05",
            "online.nash_mixture=0",
            "dpo.reference_sync_steps=1",
            "dpo.reference_mix=0.1",
        ],
        &["dpo.online=spin", &data],
        &["dpo.online=raft", "online.selection=random", "rollout.completions=4"],
    ] {
        let more = [more, &save].concat();
        let interruptions = [After::Die(3), After::Stop(6), After::Die(11)];
        check_interruptions(&|run, progress| train(run, &more, progress), &interruptions);
    }
}

#[test]
fn a_source_that_fails_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("data.train={}", demonstrations(folder.path()).display());
    let eval = ["data.eval_fraction=0.25", "train.eval_every=4"];
    for more in [
        &["dpo.online=dpo", "dpo.reference_sync_steps=3"][..],
        &["dpo.online=nash_md", "online.minibatches=2"],
        &["dpo.online=spin", &data],
    ] {
        let more = [more, &eval].concat();
        check_failing_scores(&|run, sources, progress| train_with(run, &more, sources, progress));
    }
}

/// What is beside prompt and completion in a record of demonstrations.
#[test]
fn sources_see_the_columns_and_the_text_of_demonstrations() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("text.jsonl");
    let line = |i: u32| {
        let record = json!({ "prompt": format!("Say {i}:"), "completion": " yes.", "answer": i });
        record.to_string() + "\n"
    };
    fs::write(&data, (0..6).map(line).collect::<String>()).unwrap();
    let source = Closure::new("answer", |rollout| match rollout.fields.get("answer") {
        Some(answer) if rollout.prompt == format!("Say {answer}:") => Ok(1.0),
        _ => Err(format!("{:?} with {:?}", rollout.prompt, rollout.fields)),
    });
    let mut sources = WeightedSum::new().with(source, 1.0);
    let data = format!("data.train={}", data.display());
    let more = ["dpo.online=spin", &data, "train.steps=2", "data.eval_fraction=0.34"];
    let run = folder.path().join("run");
    train_with(&run, &more, &mut sources, &mut Recorder::new(After::GoOn)).unwrap();
    assert!((number(&steps(&run)[0], "scores/answer") - 1.0).abs() < 1e-12);
}

#[test]
fn spin_needs_no_scores() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let data = format!("data.train={}", demonstrations(folder.path()).display());
    let more = ["dpo.online=spin", &data, "data.eval_fraction=0.25", "train.steps=2"];
    let mut progress = Recorder::new(After::GoOn);
    let outcome = train_with(&run, &more, &mut WeightedSum::new(), &mut progress).unwrap();
    assert_eq!(outcome.status, Status::Finished);
    for record in metrics(&run) {
        assert!(record.get("objective/scores").is_none() && record.get("eval_scores").is_none());
    }
}

#[test]
fn the_run_ends_at_its_kl_limit() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = ["dpo.online=best_of_n", "online.kl_limit=0.02", "train.steps=200"];
    let mut progress = Recorder::new(After::GoOn);
    let outcome = train(&run, &more, &mut progress).unwrap();
    assert!(outcome.steps < 200 && progress.said("online.kl_limit"), "{} steps", outcome.steps);
    assert!(steps(&run).iter().all(|record| number(record, "objective/kl") <= 0.02));
}

#[test]
fn contradictions_are_named_early() {
    let folder = tempfile::tempdir().unwrap();
    let base = ["run.dir=x", "model.path=y", "data.train=z", "train.steps=1"];
    for (more, parts) in [
        (&["dpo.online=ppo"][..], &["dpo.online", "ppo"][..]),
        (&["dpo.online=dpo", "rollout.completions=1"], &["rollout.completions", "at least 2"]),
        (&["dpo.online=xpo", "rollout.completions=3"], &["rollout.completions", "whole"]),
        (&["dpo.online=raft", "rollout.completions=3"], &["rollout.completions", "whole"]),
        (&["dpo.online=dpo", "dpo.loss=kto"], &["dpo.loss", "single completions"]),
        (&["dpo.online=dpo", "rollout.replay=r"], &["rollout.replay"]),
        (&["dpo.online=dpo", "dpo.reference_cache=c"], &["dpo.reference_cache"]),
        (&["dpo.online=spin", "dpo.reference_sync_steps=1"], &["dpo.reference_sync_steps"]),
        (&["dpo.online=raft", "online.raft_share=0"], &["online.raft_share", "above 0"]),
        (&["online.raft_shar=0.1"], &["online.raft_share"]),
        (&["score=[{kind=\"contains\",text=\"a\"}]"], &["dpo.online"]),
    ] {
        let list = overrides(&[&base[..], more].concat());
        let error = DpoConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{more:?}: no {part} in {error}");
        }
    }
}
