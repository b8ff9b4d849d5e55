//! Several ranks train what one process trains. They are threads here.

use std::fs;
use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, config, even, even_and_length, fixture, llama, metrics, number,
    steps, write_prompts,
};
use hearken_config::Configuration;
use hearken_reward_source::{Closure, WeightedSum};
use hearken_run::error::TrainError;
use hearken_run::ranks::{Ranks, together};
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::{OpenFor, Start};
use hearken_tensor::Cpu;
use hearken_train::distill::{self, DistillConfig};
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use serde_json::Value;

/// A run in a folder by one of some ranks, with changes of its configuration.
type Train = fn(&Path, &[&str], OpenFor, &mut Recorder) -> Result<RunOutcome, TrainError>;

/// An evaluation on the way, and a batch with fewer records than four ranks at the end of the epoch.
const RECORDS: &str = "
[run]
seed = 3

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 1

[train]
batch_size = 5
steps = 6
eval_every = 4
save_every = 2
keep_optimizer = true
";

fn records(run: &Path, data: &str, more: &[&str]) -> Vec<String> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture(data).display()),
        "data.eval_fraction=0.25".to_owned(),
    ];
    list.extend(crate::support::overrides(more));
    list
}

/// A file of each rank's own: they write it at the same time.
fn written(run: &Path, entry: &OpenFor, text: &str) -> std::path::PathBuf {
    let folder = run.with_extension(format!("rank{}", entry.ranks().rank()));
    fs::create_dir_all(&folder).unwrap();
    config(&folder, text)
}

fn sft(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = records(run, "sft/data.jsonl", more);
    let loaded = SftConfig::load(&written(run, &entry, RECORDS), &list).unwrap();
    sft::run(Cpu::new(), &loaded, entry, told)
}

fn reward(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = records(run, "rm/data.jsonl", more);
    let loaded = RewardConfig::load(&written(run, &entry, RECORDS), &list).unwrap();
    reward::run(Cpu::new(), &loaded, entry, told)
}

fn dpo(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = records(run, "rm/data.jsonl", more);
    let loaded = DpoConfig::load(&written(run, &entry, RECORDS), &list).unwrap();
    dpo::run(Cpu::new(), &loaded, entry, told)
}

/// The overrides of a run that samples; nobody writes the prompts but before the runs.
fn on_prompts(run: &Path, more: &[&str]) -> Vec<String> {
    let folder = run.parent().unwrap();
    if !folder.join("prompts.jsonl").exists() {
        write_prompts(folder);
    }
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", folder.join("prompts.jsonl").display()),
        "train.steps=6".to_owned(),
        "optimizer.lr=1e-4".to_owned(),
    ];
    list.extend(crate::support::overrides(more));
    list
}

fn ppo(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = on_prompts(run, more);
    let loaded = PpoConfig::load(&written(run, &entry, SAMPLED), &list).unwrap();
    ppo::run_with(Cpu::new(), &loaded, entry, &mut even_and_length(), told)
}

fn grpo(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = on_prompts(run, more);
    let text = SAMPLED.replace("batch_size = 8\n", "");
    let loaded = GrpoConfig::load(&written(run, &entry, &text), &list).unwrap();
    grpo::run_with(Cpu::new(), &loaded, entry, &mut even_and_length(), told)
}

fn online(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = on_prompts(run, more);
    let loaded = DpoConfig::load(&written(run, &entry, SAMPLED), &list).unwrap();
    let mut scores = even_and_length();
    let opinions = dpo::online::Opinions::from(&mut scores);
    dpo::online::run_with(Cpu::new(), &loaded, entry, opinions, told)
}

fn distill(
    run: &Path,
    more: &[&str],
    entry: OpenFor,
    told: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let mut list = on_prompts(run, more);
    let teacher = hearken_testing::family("qwen3");
    list.push(format!("teacher.path={}", teacher.display()));
    let loaded = DistillConfig::load(&written(run, &entry, SAMPLED), &list).unwrap();
    distill::run(Cpu::new(), &loaded, entry, told)
}

/// The outcome and what was told on each of so many ranks.
fn on(
    size: usize,
    train: Train,
    run: &Path,
    more: &[&str],
    after: After,
) -> Vec<(RunOutcome, Vec<String>)> {
    let work = |ranks: Ranks| {
        let mut told = Recorder::new(after);
        let outcome = train(run, more, OpenFor::Run(Start::Resume, ranks), &mut told).unwrap();
        (outcome, told.notes)
    };
    if size == 1 { vec![work(Ranks::default())] } else { together(size, work) }
}

/// Losses of samples are differences of numbers near 1, as whitened advantages are; so are those with correlations.
fn assert_close(found: &[Value], expected: &[Value], (size, tolerance): (usize, f64)) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let is_sampled = expected.get("iteration").is_some();
        let is_difference = is_sampled || expected.get("length_correlation").is_some();
        for (key, least) in [("loss", if is_difference { 1.0 } else { 0.01 }), ("grad_norm", 0.01)]
        {
            let (found, one) = (number(found, key), number(expected, key));
            let error = (found - one).abs();
            assert!(
                error <= tolerance * one.abs().max(least),
                "{size} ranks, step {}: {key} {found}, one process has {one}",
                expected["step"]
            );
        }
        // Completions of one prompt that are neighbors on a rank share it.
        assert!(is_sampled || found["tokens"] == expected["tokens"]);
    }
}

fn read(run: &Path, file: &str) -> Vec<u8> {
    fs::read(run.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", run.display()))
}

/// Runs of two and four ranks have the losses and gradients of one process, and two runs of two ranks every
/// bit in common.
fn check(train: Train, more: &[&str]) {
    check_to(1e-6, train, more);
}

fn check_to(tolerance: f64, train: Train, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name);
    on(1, train, &run("alone"), more, After::GoOn);
    let expected = steps(&run("alone"));
    for (size, name) in [(2, "two"), (2, "again"), (4, "four")] {
        let outcomes = on(size, train, &run(name), more, After::GoOn);
        assert!(outcomes.iter().all(|(outcome, _)| outcome.status == Status::Finished));
        assert_close(&steps(&run(name)), &expected, (size, tolerance));
    }
    assert_eq!(metrics(&run("two")), metrics(&run("again")));
    assert_eq!(metrics(&run("two")).len(), metrics(&run("alone")).len());
    let file = "final/model.safetensors";
    assert!(read(&run("two"), file) == read(&run("again"), file), "{file} differs");
}

#[test]
fn sft_is_that_of_one_process() {
    check(sft, &[]);
}

#[test]
fn sft_with_a_mean_of_the_weights_and_rounded_ones_is_that_of_one_process() {
    check(sft, &["train.ema=0.9"]);
    // What is rounded at random goes another way for the last bit of a sum.
    check_to(1e-3, sft, &["model.dtype=bf16", "model.masters=bf16"]);
}

#[test]
fn reward_is_that_of_one_process() {
    check(reward, &[]);
    // Correlations over the batch couple it, and the product of weights is everybody's.
    check(reward, &["reward.length_coef=1"]);
    check(reward, &["reward.particles=4", "reward.particle_width=8"]);
}

#[test]
fn dpo_is_that_of_one_process() {
    check(dpo, &[]);
}

/// What couples a batch, couples all of it: the order of margins, means of rewards, a likelihood.
#[test]
fn losses_that_couple_a_batch_are_those_of_one_process() {
    check(dpo, &["dpo.loss=aot"]);
    check(dpo, &["dpo.loss=bco_pair", "dpo.rpo_alpha=0.5"]);
    check(dpo, &["dpo.reference_sync_steps=2"]);
}

#[test]
fn ppo_is_that_of_one_process() {
    check(ppo, &[]);
}

#[test]
fn grpo_is_that_of_one_process() {
    check(grpo, &["grpo.prompts=3", "rollout.completions=3"]);
    check(grpo, &["grpo.prompts=3", "rollout.completions=3", "rollout.ahead=2"]);
}

#[test]
fn distillation_is_that_of_one_process() {
    check(distill, &["rollout.completions=2"]);
}

#[test]
fn online_dpo_is_that_of_one_process() {
    check(online, &["dpo.online=dpo", "rollout.completions=2"]);
}

/// The files of a folder and of those in it, but for what has times.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().is_some_and(|one| one == "safetensors") {
            true => found.push((path.display().to_string(), fs::read(&path).unwrap())),
            false if path.is_dir() => found.extend(files(&path)),
            false => {}
        }
    }
    found.sort();
    found
}

/// Weights and moments of a run, by their places in its folder.
fn saved(run: &Path) -> Vec<(String, Vec<u8>)> {
    let own = |(path, bytes): (String, Vec<u8>)| {
        (path.strip_prefix(&run.display().to_string()).unwrap().to_owned(), bytes)
    };
    files(run).into_iter().map(own).collect()
}

#[test]
fn masters_that_ranks_share_are_those_that_each_would_have() {
    let folder = tempfile::tempdir().unwrap();
    let critic = hearken_testing::fixture("hearken-train/tests/fixtures/trl/rm_model");
    let critic = format!("ppo.critic={}", critic.display());
    let with_critic = ["train.save_every=2", critic.as_str()];
    let ways: [(&str, Train, &[&str]); 4] = [
        ("sft", sft, &[]),
        ("dpo", dpo, &[]),
        ("ppo", ppo, &with_critic),
        ("grpo", grpo, &["grpo.prompts=3", "rollout.completions=3", "train.save_every=2"]),
    ];
    for (name, train, more) in ways {
        for size in [1, 2, 3] {
            let run = |masters: &str| folder.path().join(format!("{name}-{masters}-{size}"));
            let mut held: Vec<String> = Vec::new();
            for masters in ["f32", "shared"] {
                let own = [format!("model.masters={masters}"), "model.dtype=bf16".to_owned()];
                let own: Vec<&str> =
                    more.iter().copied().chain(own.iter().map(String::as_str)).collect();
                let told = on(size, train, &run(masters), &own, After::GoOn);
                held.push(
                    told[0].1.iter().find(|note| note.starts_with("memory:")).unwrap().clone(),
                );
            }
            // What a rank holds of the weights is less, where there is another that holds the rest.
            let weights = |note: &String| {
                note.split_once("(weights ").unwrap().1.split(' ').next().unwrap().to_owned()
            };
            assert_eq!(weights(&held[0]) != weights(&held[1]), 1 < size, "{held:?}");
            assert_eq!(metrics(&run("shared")), metrics(&run("f32")), "{name}, {size} ranks");
            let (shared, whole) = (saved(&run("shared")), saved(&run("f32")));
            assert!(2 < whole.len() && shared == whole, "{name}, {size} ranks");
        }
    }
}

/// Three ranks go on with what two have shared, and one with what three have.
#[test]
fn masters_that_were_shared_belong_to_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = |masters: &str| folder.path().join(masters);
    for masters in ["f32", "shared"] {
        let own = format!("model.masters={masters}");
        let more = [own.as_str(), "model.dtype=bf16"];
        for (size, after) in [(2, After::Stop(2)), (3, After::Stop(4)), (1, After::GoOn)] {
            on(size, sft, &run(masters), &more, after);
        }
    }
    assert_eq!(metrics(&run("shared")), metrics(&run("f32")));
    assert!(saved(&run("shared")) == saved(&run("f32")));
}

/// Whoever goes on: the moments of a checkpoint are everybody's.
#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let (nothing, ahead): (&[&str], &[&str]) = (&[], &["rollout.ahead=2"]);
    let ways = [("sft", sft as Train, nothing), ("grpo", grpo, nothing), ("ahead", grpo, ahead)];
    for (name, train, more) in ways {
        let run = |part: &str| folder.path().join(format!("{name}-{part}"));
        on(1, train, &run("alone"), more, After::GoOn);
        for part in ["changing", "likewise"] {
            for (size, after) in [(2, After::Stop(2)), (3, After::Stop(4)), (1, After::GoOn)] {
                let outcomes = on(size, train, &run(part), more, after);
                let stops = after != After::GoOn;
                let is_so =
                    |(outcome, _): &(RunOutcome, _)| (outcome.status == Status::Stopped) == stops;
                assert!(outcomes.iter().all(is_so), "{outcomes:?}");
            }
        }
        assert_close(&steps(&run("changing")), &steps(&run("alone")), (0, 1e-5));
        assert_eq!(metrics(&run("changing")), metrics(&run("likewise")));
        let file = "checkpoints/step-000006/state/optimizer.safetensors";
        assert!(read(&run("changing"), file) == read(&run("likewise"), file));
    }
}

#[test]
fn what_one_rank_has_no_scores_for_stops_all_with_a_checkpoint_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write_prompts(folder.path());
    let errors = together(3, |ranks| {
        let (rank, mut calls) = (ranks.rank(), 0);
        let source = Closure::new("even", |rollout| {
            calls += 1;
            if rank == 1 && 4 < calls { Err("out of order".to_owned()) } else { even(rollout) }
        });
        let mut sources = WeightedSum::new().with(source, 1.0);
        let entry = OpenFor::Run(Start::Resume, ranks);
        let loaded =
            PpoConfig::load(&written(&run, &entry, SAMPLED), &on_prompts(&run, &[])).unwrap();
        let mut told = Recorder::new(After::GoOn);
        let error = ppo::run_with(Cpu::new(), &loaded, entry, &mut sources, &mut told).unwrap_err();
        assert!(matches!(error, TrainError::Kept { .. }), "{error}");
        error.to_string()
    });
    assert!(
        errors[0].starts_with("rank 1: ") && errors[0].contains("out of order"),
        "{}",
        errors[0]
    );
    assert!(errors[1].contains("out of order") && !errors[1].contains("rank"), "{}", errors[1]);
    assert!(fs::read_dir(run.join("checkpoints")).unwrap().next().is_some());
}

#[test]
fn ranks_that_read_different_configurations_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let errors = together(2, |ranks| {
        let lr = format!("optimizer.lr=1e-{}", 3 + ranks.rank());
        let entry = OpenFor::Run(Start::Resume, ranks);
        sft(&run, &[&lr], entry, &mut Recorder::new(After::GoOn)).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("rank 1: found another configuration")));
}

#[test]
fn sft_follows_trl_on_two_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = [
        "data.shuffle=false",
        "data.eval_fraction=0",
        "optimizer.warmup_steps=0",
        "train.batch_size=4",
        "train.steps=12",
        "train.eval_every=12",
    ];
    on(2, sft, &run, &more, After::GoOn);
    let expected = crate::support::json_lines(&fixture("sft").join("trajectory.jsonl"));
    let found = steps(&run);
    assert_eq!((found.len(), expected.len()), (12, 12));
    for (found, expected) in found.iter().zip(&expected) {
        for (key, tolerance) in [("loss", 1e-4), ("grad_norm", 1e-3)] {
            let (found, expected) = (number(found, key), number(expected, key));
            assert!(
                (found - expected).abs() < tolerance * expected.abs(),
                "{key} {found} {expected}"
            );
        }
    }
}
