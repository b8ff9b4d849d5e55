//! Particles beside a reward model: the score learns as if they were not there, and they know where it is a guess.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{
    After, Recorder, check_interruptions, config, llama, metrics, number, overrides, steps,
};
use hearken_config::Configuration as _;
use hearken_run::error::TrainError;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::reward::{RewardConfig, run};
use serde_json::{Value, json};

/// Pairs over some tokens, of which the one with more of the higher half is preferred.
fn pairs(folder: &Path, name: &str, tokens: std::ops::Range<u32>, count: u32) -> PathBuf {
    let (middle, span) = (tokens.start.midpoint(tokens.end), tokens.end - tokens.start);
    let mut lines = String::new();
    for i in 0..count {
        let ids = |of: u32| -> Vec<u32> {
            (0..4)
                .map(|at| tokens.start + (i * 31 + of * 17 + at * at * 7 + at * 3) % span)
                .collect()
        };
        let high = |ids: &[u32]| ids.iter().filter(|id| middle <= **id).count();
        let (mut chosen, mut rejected) = (ids(1), ids(2));
        if high(&chosen) < high(&rejected) {
            std::mem::swap(&mut chosen, &mut rejected);
        }
        let record = json!({
            "prompt_ids": [5, 6], "chosen_ids": chosen, "rejected_ids": rejected,
        });
        writeln!(lines, "{record}").unwrap();
    }
    let path = folder.join(name);
    fs::write(&path, lines).unwrap();
    path
}

const TEXT: &str = "
[run]
seed = 1

[optimizer]
lr = 3e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 8
keep_optimizer = true

[reward]
particle_width = 16
";

fn train(dir: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let folder = dir.parent().unwrap();
    let mut list = vec![
        format!("run.dir={}", dir.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", pairs(folder, "train.jsonl", 20..120, 48).display()),
    ];
    list.extend(overrides(more));
    let loaded = RewardConfig::load(&config(folder, TEXT), &list).unwrap();
    run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn evaluation(run: &Path) -> Value {
    let records = metrics(run);
    records.into_iter().rev().find(|one| one.get("eval_loss").is_some()).unwrap()
}

#[test]
fn trunk_and_score_end_the_same_to_the_last_bit_with_and_without_particles() {
    let folder = tempfile::tempdir().unwrap();
    let runs = ["reward.particles=0", "reward.particles=6"].map(|particles| {
        let run = folder.path().join(particles);
        let mut progress = Recorder::new(After::GoOn);
        train(&run, &[particles, "train.steps=12"], &mut progress).unwrap();
        run
    });
    let read = |run: &Path, file: &str| fs::read(run.join(file)).unwrap();
    assert!(read(&runs[0], "final/model.safetensors") == read(&runs[1], "final/model.safetensors"));
    assert!(!runs[0].join("final/particles.safetensors").exists());
    assert!(runs[1].join("final/particles.safetensors").exists());
    let [alone, beside] = [&runs[0], &runs[1]].map(|run| steps(run));
    for (alone, beside) in alone.iter().zip(&beside) {
        for key in ["loss", "grad_norm", "accuracy", "margin"] {
            assert_eq!(alone[key], beside[key], "{key}");
        }
        assert!(alone.get("spread").is_none() && 0.0 < number(beside, "spread"));
    }
    let losses: Vec<f64> = beside.iter().map(|step| number(step, "particle_loss")).collect();
    assert!(losses[11] < losses[0], "particles learn: {losses:?}");
}

#[test]
fn particles_disagree_more_about_what_they_have_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let spread = |name: &str, eval: &Path, steps: &str| {
        let run = folder.path().join(name);
        let eval = format!("data.eval={}", eval.display());
        let more = ["reward.particles=20", "reward.prior_scale=2", &eval, steps];
        train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        number(&evaluation(&run)["eval_spread"], "value")
    };
    let seen = pairs(folder.path(), "seen.jsonl", 20..120, 48);
    let unseen = pairs(folder.path(), "unseen.jsonl", 200..300, 48);
    let long = "train.steps=90";
    let (before, after) = (spread("at-first", &seen, "train.steps=1"), spread("seen", &seen, long));
    let elsewhere = spread("unseen", &unseen, long);
    assert!(after < 0.5 * before, "{after} after, {before} before");
    assert!(1.5 * after < elsewhere, "{after} where it was trained, {elsewhere} elsewhere");
}

/// The share of right answers is what the mean over particles says that it is, as the score's is.
#[test]
fn an_evaluation_says_how_well_particles_know_what_they_know() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let eval = pairs(folder.path(), "eval.jsonl", 20..120, 40);
    let eval = format!("data.eval={}", eval.display());
    let more = ["reward.particles=8", "train.steps=40", &eval];
    train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    let found = evaluation(&run);
    for key in ["eval_mixture_loss", "eval_mixture_calibration_error", "eval_spread"] {
        let of = &found[key];
        let (low, value, high) = (number(of, "low"), number(of, "value"), number(of, "high"));
        assert!(low <= value && value <= high, "{key}: {of}");
        assert_eq!(of["n"], 40, "{key}");
    }
    assert!(number(&found["eval_mixture_loss"], "value") < 2.0_f64.ln(), "{found}");
}

#[test]
fn runs_that_are_stopped_or_killed_go_on_bit_for_bit() {
    let interruptions = [After::Die(3), After::Stop(6), After::Die(11)];
    let more = ["reward.particles=4", "train.steps=12", "train.save_every=4"];
    check_interruptions(
        &|run, progress| {
            let outcome = train(run, &more, progress)?;
            if outcome.steps == 12 {
                assert!(run.join("checkpoints/step-000012/particles.safetensors").exists());
            }
            Ok(outcome)
        },
        &interruptions,
    );
}

#[test]
fn a_run_that_starts_from_particles_goes_on_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    train(&first, &["reward.particles=4", "train.steps=4"], &mut Recorder::new(After::GoOn))
        .unwrap();
    let from = format!("model.path={}", first.join("final").display());
    let second = folder.path().join("second");
    let more = ["reward.particles=4", "train.steps=1", "optimizer.lr=0", &from];
    train(&second, &more, &mut Recorder::new(After::GoOn)).unwrap();
    let read = |run: &Path| fs::read(run.join("final/particles.safetensors")).unwrap();
    assert!(read(&first) == read(&second), "a rate of 0 changes nothing");
    let other = ["reward.particles=5", "train.steps=1", &from];
    let error = train(&folder.path().join("third"), &other, &mut Recorder::new(After::GoOn));
    let error = error.unwrap_err().to_string();
    for part in ["reward.particles", "found 5", "expected 4"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn contradictions_are_named_early() {
    let folder = tempfile::tempdir().unwrap();
    let base = ["run.dir=x", "model.path=y", "data.train=z", "train.steps=1"];
    for (more, parts) in [
        (&["reward.particles=1"][..], &["reward.particles", "found 1", "at least 2"][..]),
        (&["reward.particles=-3"], &["reward.particles"]),
        (&["reward.particles=4", "reward.particle_width=1"], &["reward.particle_width"]),
        (&["reward.particles=4", "reward.prior_scale=0"], &["reward.prior_scale", "above 0"]),
        (
            &["reward.particles=4", "reward.length_coef=1"],
            &["reward.particles", "reward.length_coef"],
        ),
        (&["reward.particles=4", "lora.r=4"], &["reward.particles", "lora"]),
        (&["reward.particles=4", "reward.kind=outcome"], &["reward.particles", "reward.kind"]),
        (
            &["reward.particles=4", "model.masters=bf16", "model.dtype=bf16"],
            &["reward.particles", "model.masters"],
        ),
    ] {
        let list = overrides(&[&base[..], more].concat());
        let error = RewardConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{more:?}: no {part} in {error}");
        }
    }
}
