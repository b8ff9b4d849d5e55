//! A running mean of the weights is what is evaluated and saved; training goes on with the weights.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, config, even_and_length, fixture, llama, metrics, number, overrides,
    sampled, steps,
};
use hearken_config::Configuration;
use hearken_run::error::TrainError;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use safetensors::SafeTensors;

const CONFIG: &str = "
[data]
eval_fraction = 0.25

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 5
steps = 4
eval_every = 2
save_every = 1
";

fn list(run: &Path, more: &[&str]) -> Vec<String> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    list.extend(overrides(more));
    list
}

fn train(run: &Path, more: &[&str], after: After) -> Result<Recorder, TrainError> {
    let file = config(run.parent().unwrap(), CONFIG);
    let loaded = SftConfig::load(&file, &list(run, more)).unwrap();
    let mut progress = Recorder::new(after);
    sft::run(Cpu::new(), &loaded, Start::Resume, &mut progress).map(|_| progress)
}

/// All weights of a model's folder, in the order of their names.
fn weights(folder: &Path) -> Vec<f64> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut named = tensors.tensors();
    named.sort_by(|one, other| one.0.cmp(&other.0));
    let value = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
    named.iter().flat_map(|(_, tensor)| tensor.data().chunks_exact(4).map(value)).collect()
}

#[test]
fn what_is_saved_is_the_mean_and_what_is_trained_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut mean = weights(&llama());
    for step in 1..=4 {
        let run = folder.path().join(format!("plain-{step}"));
        train(&run, &[&format!("train.steps={step}")], After::GoOn).unwrap();
        for (mean, weight) in mean.iter_mut().zip(weights(&run.join("final"))) {
            *mean = 0.75 * *mean + 0.25 * weight;
        }
    }
    let run = folder.path().join("averaged");
    train(&run, &["train.ema=0.75"], After::GoOn).unwrap();
    let found = weights(&run.join("final"));
    assert_eq!(found.len(), mean.len());
    let differs = |(one, other): (&f64, &f64)| 1e-7 * (1.0 + other.abs()) < (one - other).abs();
    assert_eq!(found.iter().zip(&mean).filter(|pair| differs(*pair)).count(), 0);
    // Training is that of the run without a mean, and its weights are those of the checkpoint.
    let plain = folder.path().join("plain-4");
    assert_eq!(steps(&run), steps(&plain));
    assert_eq!(weights(&run.join("checkpoints/step-000004")), weights(&plain.join("final")));
    assert!(run.join("final/model.safetensors").metadata().unwrap().len() > 0);
    // A mean that forgets at once is the weights.
    let run = folder.path().join("forgetful");
    train(&run, &["train.ema=0"], After::GoOn).unwrap();
    assert_eq!(weights(&run.join("final")), weights(&plain.join("final")));
}

#[test]
fn what_is_evaluated_is_what_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&run, &["train.ema=0.9"], After::GoOn).unwrap();
    let last = metrics(&run).pop().unwrap();
    let next = folder.path().join("next");
    let path = format!("model.path={}", run.join("final").display());
    train(&next, &[&path], After::GoOn).unwrap();
    let first = metrics(&next).remove(0);
    assert_eq!(
        number(&last["eval_loss"], "value").to_bits(),
        number(&first["eval_loss"], "value").to_bits()
    );
}

#[test]
fn a_run_that_is_killed_goes_on_with_the_mean() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more) in [("whole-model", vec![]), ("adapter", vec!["lora.r=2"])] {
        let more = [&more[..], &["train.ema=0.6"]].concat();
        let (whole, parts) =
            (folder.path().join(name), folder.path().join(format!("{name}-in-parts")));
        train(&whole, &more, After::GoOn).unwrap();
        for step in [2, 3] {
            let died = catch_unwind(AssertUnwindSafe(|| train(&parts, &more, After::Die(step))));
            assert!(died.is_err(), "the run should die");
        }
        assert!(parts.join("checkpoints/step-000002/state/ema.safetensors").exists());
        train(&parts, &more, After::GoOn).unwrap();
        assert_eq!(metrics(&parts), metrics(&whole));
        let weights = if name == "adapter" { "adapter_model" } else { "model" };
        let read = |run: &Path| fs::read(run.join(format!("final/{weights}.safetensors"))).unwrap();
        assert!(read(&parts) == read(&whole), "{name} differs");
        // A finished run has no need of it.
        assert!(!whole.join("checkpoints/step-000004/state/ema.safetensors").exists());
    }
    let parts = folder.path().join("whole-model-in-parts");
    let other = catch_unwind(AssertUnwindSafe(|| {
        train(&parts, &["train.ema=0.5", "train.steps=6"], After::GoOn).unwrap_err().to_string()
    }));
    assert!(other.unwrap().contains("`train.ema` = 0.6, found 0.5"));
}

#[test]
fn reward_models_and_policies_that_sample_have_means_too() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = "\n[train]\nbatch_size = 4\nsteps = 3\n\n[optimizer]\nlr = 1e-3\n";
    let run = folder.path().join("reward");
    let mut of_pairs = list(&run, &["train.ema=0.5"]);
    of_pairs[2] = format!("data.train={}", fixture("rm/data.jsonl").display());
    let loaded = RewardConfig::load(&config(folder.path(), pairs), &of_pairs).unwrap();
    reward::run(Cpu::new(), &loaded, Start::Resume, &mut Recorder::new(After::GoOn)).unwrap();
    assert!(weights(&run.join("final")) != weights(&run.join("checkpoints/step-000003")));

    let sample = |name: &str, more: &[&str]| {
        let run = folder.path().join(name);
        let file = config(folder.path(), SAMPLED);
        let loaded = PpoConfig::load(&file, &sampled(&run, more)).unwrap();
        let mut sources = even_and_length();
        let mut progress = Recorder::new(After::GoOn);
        ppo::run_with(Cpu::new(), &loaded, Start::Resume, &mut sources, &mut progress).unwrap();
        run
    };
    let (plain, averaged) = (sample("ppo", &[]), sample("ppo-averaged", &["train.ema=0.5"]));
    assert_eq!(steps(&averaged), steps(&plain));
    assert!(weights(&averaged.join("final")) != weights(&plain.join("final")));
}

#[test]
fn means_need_weights_that_hold_small_changes() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["train.ema=0.9", "model.dtype=bf16", "model.masters=bf16"];
    let error = train(&folder.path().join("run"), &more, After::GoOn).unwrap_err().to_string();
    assert!(error.contains("`train.ema`") && error.contains("`model.masters`"), "{error}");
    let error = SftConfig::load(
        &config(folder.path(), CONFIG),
        &list(&folder.path().join("run"), &["train.ema=1"]),
    );
    assert!(error.unwrap_err().to_string().contains("a number from 0 to less than 1"));
}
