//! Group-relative training as a whole: recorded runs of TRL, first updates, directions, interruptions,
//! filters, learning.

use std::fs;
use std::path::Path;

use crate::support::{
    After, Recorder, check_failing_scores, check_interruptions, config, even, even_and_length,
    fixture, json_lines, llama, number, on_ranks, overrides, replayed, sampled, steps,
};
use hearken_config::Configuration;
use hearken_model::{LoadOptions, Model};
use hearken_objective::grpo::shaping::SamplerCorrection;
use hearken_objective::surrogate::RatioLevel;
use hearken_reward_source::{Closure, RolloutView, WeightedSum};
use hearken_run::error::TrainError;
use hearken_run::progress::Silent;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::grpo::{self, GrpoConfig, Resolved};
use hearken_train::rollout::{ForwardOptions, Heads, Sequence, read};
use serde_json::{Value, json};

/// The settings of the recorded runs.
const REPLAY: &str = "
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[rollout]
max_new_tokens = 12

[grpo]
epochs = 2
";

fn run_replay(file: &Path, more: &[&str]) -> (tempfile::TempDir, Vec<Value>) {
    run_replay_on(1, file, more)
}

fn run_replay_on(ranks: usize, file: &Path, more: &[&str]) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let list = replayed(&run, file, more);
    let loaded = GrpoConfig::load(&config(folder.path(), REPLAY), &list).unwrap();
    on_ranks(ranks, |entry| {
        grpo::run(Cpu::new(), &loaded, entry, &mut Silent).unwrap();
    });
    let records = steps(&run);
    (folder, records)
}

const METRICS: [&str; 7] = [
    "entropy",
    "cispo_clip_ratio",
    "clip_ratio/low_mean",
    "clip_ratio/high_mean",
    "clip_ratio/region_mean",
    "clip_ratio/low_min",
    "clip_ratio/high_max",
];

/// One process, and two that share the work.
fn assert_follows(rollouts: &str, trajectory: &str, more: &[&str]) {
    for ranks in [1, 2] {
        assert_follows_on(ranks, rollouts, trajectory, more);
    }
}

fn assert_follows_on(ranks: usize, rollouts: &str, trajectory: &str, more: &[&str]) {
    let (_folder, found) = run_replay_on(ranks, &fixture(rollouts), more);
    let expected = json_lines(&fixture(trajectory));
    assert_eq!((found.len(), expected.len()), (8, 8));
    for (found, expected) in found.iter().zip(&expected) {
        let step = number(expected, "step");
        let at = format!("{trajectory} {more:?}, {ranks} ranks, step {step}");
        let (loss, loss_expected) = (number(found, "loss"), number(expected, "loss"));
        assert!((loss - loss_expected).abs() < 1e-5, "{at}: loss {loss}, not {loss_expected}");
        let (norm, norm_expected) = (number(found, "grad_norm"), number(expected, "grad_norm"));
        let tolerance = 1e-4 * norm_expected.max(1e-3);
        assert!((norm - norm_expected).abs() < tolerance, "{at}: {norm}, not {norm_expected}");
        for key in METRICS {
            let Some(expected) = expected.get(key).and_then(Value::as_f64) else { continue };
            let found = number(found, key);
            assert!((found - expected).abs() < 1e-4, "{at}: {key} {found}, not {expected}");
        }
    }
}

const GRPO: &str = "grpo_grpo/rollouts.jsonl";

fn assert_follows_family(name: &str, more: &[&str]) {
    assert_follows(GRPO, &format!("grpo_family/{name}.jsonl"), more);
    let small = [more, &["train.microbatch_tokens=40"]].concat();
    assert_follows(GRPO, &format!("grpo_family/{name}.jsonl"), &small);
}

#[test]
fn grpo_follows_trl() {
    for more in [&[][..], &["train.microbatch_tokens=40"], &["model.recompute=true"]] {
        assert_follows(GRPO, "grpo_grpo/trajectory.jsonl", more);
    }
}

#[test]
fn dr_grpo_follows_trl() {
    let file = "grpo_dr_grpo/rollouts.jsonl";
    let settings = ["grpo.preset=dr_grpo", "kl.beta=0.04"];
    for more in [&[][..], &["train.microbatch_tokens=40"]] {
        let more = [&settings[..], more].concat();
        assert_follows(file, "grpo_dr_grpo/trajectory.jsonl", &more);
    }
}

/// A sequence's clipped gradient may be 0 exactly, where only noise would be left to compare.
#[test]
fn the_other_presets_follow_trl() {
    assert_follows_family("bnpo", &["grpo.preset=bnpo", "kl.beta=0.04"]);
    assert_follows_family("dapo", &["grpo.preset=dapo"]);
    assert_follows_family("gspo", &["grpo.preset=gspo"]);
    assert_follows_family("cispo", &["grpo.preset=cispo"]);
    assert_follows_family("sapo", &["grpo.preset=sapo"]);
    assert_follows_family("luspo", &["grpo.preset=luspo"]);
    assert_follows_family("vespo", &["grpo.preset=vespo"]);
}

#[test]
fn the_axes_follow_trl() {
    let gspo = ["grpo.preset=gspo", "kl.beta=0.04", "grpo.clip_low=0.05", "grpo.clip_high=0.05"];
    assert_follows_family("gspo_kl", &gspo);
    let cispo = ["grpo.preset=cispo", "kl.beta=0.04", "grpo.clip_high=1.1"];
    assert_follows_family("cispo_cap", &cispo);
    assert_follows_family("batch_std", &["kl.beta=0", "grpo.advantage=batch_standardized"]);
    assert_follows_family("times_ratio", &["kl.times_ratio=true"]);
    let dual = ["kl.beta=0", "grpo.surrogate=dual_clip", "grpo.dual_clip=1.5"];
    assert_follows_family("dual_clip", &dual);
    let entropy = ["grpo.preset=dapo", "grpo.clip_high=0.2", "grpo.entropy_coef=0.01"];
    assert_follows_family("entropy", &entropy);
}

/// Every preset is a set of choices that the keys can make.
#[test]
fn keys_build_one_preset_from_another() {
    let (_a, dr) = run_replay(&fixture(GRPO), &["grpo.preset=dr_grpo"]);
    let settings = ["grpo.advantage=mean", "grpo.aggregate=constant", "kl.placement=none"];
    let (_b, built) = run_replay(&fixture(GRPO), &settings);
    assert_eq!(dr, built);
    let (_c, gspo) = run_replay(&fixture(GRPO), &["grpo.preset=gspo"]);
    let settings =
        ["grpo.ratio=sequence", "kl.beta=0", "grpo.clip_low=3e-4", "grpo.clip_high=4e-4"];
    let (_d, built) = run_replay(&fixture(GRPO), &settings);
    assert_eq!(gspo, built);
}

#[test]
fn the_rewards_of_a_recorded_run_are_those_of_trl() {
    let (_folder, found) = run_replay(&fixture(GRPO), &[]);
    let expected = json_lines(&fixture("grpo_grpo/trajectory.jsonl"));
    for (found, expected) in found.iter().zip(&expected).step_by(2) {
        for key in ["reward", "reward_std", "kl"] {
            let (found, expected) = (number(found, key), number(expected, key));
            assert!((found - expected).abs() < 1e-5, "{key}: {found}, not {expected}");
        }
        assert!(number(found, "frac_reward_zero_std").abs() < f64::MIN_POSITIVE);
    }
}

fn write_rollouts(file: &Path, rollouts: &[(u64, [u32; 2], &[u32], f64)]) {
    let line = |(group, prompt, completion, score): &(u64, [u32; 2], &[u32], f64)| {
        let record = json!({ "iteration": 0, "group": group, "prompt_ids": prompt,
            "completion_ids": completion, "score": score });
        format!("{record}\n")
    };
    fs::write(file, rollouts.iter().map(line).collect::<String>()).unwrap();
}

/// Groups need not be written one after another.
const INTERLEAVED: [(u64, [u32; 2], &[u32], f64); 6] = [
    (0, [5, 6], &[8, 9, 10], 1.0),
    (1, [12, 13], &[15, 16], 2.0),
    (0, [5, 6], &[11], 0.0),
    (1, [12, 13], &[19, 20, 21], 2.0),
    (2, [30, 31], &[40], 0.5),
    (2, [30, 31], &[41, 42], -1.0),
];

#[test]
fn a_constant_added_to_a_groups_scores_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    for preset in ["grpo", "dr_grpo", "rloo", "reinforce_plus_plus_baseline"] {
        let preset = format!("grpo.preset={preset}");
        let losses = |shift: f64| -> Vec<f64> {
            let shifted =
                INTERLEAVED.map(|(g, p, c, s)| (g, p, c, if g == 2 { s + shift } else { s }));
            write_rollouts(&file, &shifted);
            let (_folder, records) = run_replay(&file, &[&preset]);
            records.iter().flat_map(|r| [number(r, "loss"), number(r, "grad_norm")]).collect()
        };
        for (one, other) in losses(0.0).into_iter().zip(losses(7.5)) {
            assert!((one - other).abs() < 1e-6 * one.abs().max(1.0), "{preset}: {one}, {other}");
        }
    }
}

#[test]
fn groups_without_spread_can_leave_before_or_after_the_advantages() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    write_rollouts(&file, &INTERLEAVED);
    let run = |more: &[&str]| {
        let all = [&["kl.beta=0", "grpo.advantage=batch_standardized", "grpo.epochs=1"], more];
        let (_folder, records) = run_replay(&file, &all.concat());
        let record = &records[0];
        assert!((number(record, "frac_reward_zero_std") - 1.0 / 3.0).abs() < 1e-12);
        (
            number(record, "trained"),
            number(record, "completion_tokens"),
            number(record, "grad_norm"),
        )
    };
    let (kept, before) = (run(&[]), run(&["grpo.groups=drop_before"]));
    let after = run(&["grpo.groups=drop_after"]);
    assert_eq!((kept.0, kept.1), (6.0, 12.0));
    assert_eq!((before.0, before.1), (4.0, 7.0));
    assert_eq!((after.0, after.1), (4.0, 7.0));
    // The equal scores of group 1 are far from the others: they widen the iteration's deviation.
    assert!(after.2 < before.2, "{after:?}, {before:?}");
    // Four of six completions count, each half as much again.
    assert!((after.2 / kept.2 - 1.5).abs() < 1e-3, "{after:?}, {kept:?}");
}

#[test]
fn a_step_makes_what_scored_high_likelier_under_every_preset() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    let sequences: [(u64, [u32; 2], &[u32], f64); 2] =
        [(0, [5, 6], &[8, 9, 10], 1.0), (0, [5, 6], &[11, 12, 13], -1.0)];
    write_rollouts(&file, &sequences);
    let logprob = |dir: &Path, index: usize| -> f64 {
        let (model, _) = Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap();
        let (_, prompt, completion, _) = &sequences[index];
        let options = ForwardOptions { temperature: 1.0, microbatch_tokens: 100, logits_bytes: 0 };
        let sequence = Sequence { prompt, completion };
        read(&model, &[sequence], Heads::LogProbs, options).logprobs[0].iter().sum()
    };
    for preset in [
        "grpo",
        "dr_grpo",
        "bnpo",
        "dapo",
        "gspo",
        "luspo",
        "cispo",
        "sapo",
        "gmpo",
        "vespo",
        "rloo",
        "reinforce_plus_plus",
        "reinforce_plus_plus_baseline",
    ] {
        let preset = format!("grpo.preset={preset}");
        let (folder, records) = run_replay(&file, &[&preset, "grpo.epochs=1", "optimizer.lr=1e-4"]);
        let after = folder.path().join("run/final");
        assert!(logprob(&llama(), 0) < logprob(&after, 0), "{preset}");
        assert!(logprob(&after, 1) < logprob(&llama(), 1), "{preset}");
        assert!((number(&records[0], "val/ratio_max") - 1.0).abs() < 1e-5, "{preset}");
    }
}

/// Prompts of token ids, and a score that counts tokens with even ids.
const SAMPLED: &str = "
[run]
seed = 1

[optimizer]
lr = 3e-3
schedule = 'constant'
warmup_steps = 0

[train]
steps = 12
keep_optimizer = true

[rollout]
max_new_tokens = 8

[kl]
beta = 0.01

[grpo]
prompts = 4
completions = 4
epochs = 2
minibatches = 2
";

fn train_with(
    run: &Path,
    more: &[&str],
    sources: &mut WeightedSum<'_>,
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = sampled(run, more);
    let loaded = GrpoConfig::load(&config(run.parent().unwrap(), SAMPLED), &list).unwrap();
    grpo::run_with(Cpu::new(), &loaded, Start::Resume, sources, progress)
}

fn train(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    train_with(run, more, &mut even_and_length(), progress)
}

#[test]
fn a_source_that_fails_loses_nothing() {
    let more = ["data.eval_fraction=0.25", "train.eval_every=4"];
    check_failing_scores(&|run, sources, progress| train_with(run, &more, sources, progress));
}

#[test]
fn the_first_update_has_ratio_one_and_sampler_and_trainer_agree() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = ["grpo.epochs=1", "grpo.minibatches=1", "rollout.temperature=0.7"];
    train(&run, &settings, &mut Recorder::new(After::GoOn)).unwrap();
    for record in steps(&run) {
        for key in ["val/ratio_max", "val/ratio_min", "sampling/importance_sampling_ratio/max"] {
            let ratio = number(&record, key);
            assert!((ratio - 1.0).abs() < 1e-4, "{key}: {ratio}");
        }
        assert!(number(&record, "clip_ratio/region_mean").abs() < f64::MIN_POSITIVE);
        assert!(number(&record, "sampling/sampling_logp_difference/max") < 1e-4);
        assert!((number(&record, "reward") - number(&record, "rewards/even/mean")).abs() < 1e-12);
        let (length, source) = ("completions/mean_length", "rewards/length/mean");
        assert!((number(&record, length) - number(&record, source)).abs() < 1e-9);
        assert!((number(&record, "sampled") - 16.0).abs() < 0.5);
    }
    // The policy is the reference before its first update, but for the order of sums.
    assert!(number(&steps(&run)[0], "kl") < 1e-6);
}

/// A resumed run began anew elsewhere: huggingface/trl#3635.
#[test]
fn a_run_that_is_stopped_or_killed_goes_on_bit_for_bit() {
    let more =
        ["train.save_every=4", "kl.target=0.05", "kl.horizon=100", "data.eval_fraction=0.25"];
    check_interruptions(
        &|run, progress| train(run, &more, progress),
        &[After::Die(3), After::Die(6), After::Stop(8), After::Die(11)],
    );
}

#[test]
fn a_run_that_samples_again_and_greedily_goes_on_bit_for_bit() {
    let more = ["train.save_every=4", "grpo.groups=resample", "grpo.advantage=greedy"];
    check_interruptions(
        &|run, progress| train(run, &more, progress),
        &[After::Stop(4), After::Die(10)],
    );
}

/// Scores that are equal for half the prompts.
fn often_flat(rollout: &RolloutView<'_>) -> Result<f64, String> {
    if rollout.prompt_ids[0].is_multiple_of(2) { Ok(1.0) } else { even(rollout) }
}

#[test]
fn resampling_fills_an_iteration_with_groups_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = ["grpo.groups=resample", "grpo.resample_rounds=6", "grpo.completions=4"];
    let mut sources = WeightedSum::new().with(Closure::new("flat", often_flat), 1.0);
    train_with(&run, &settings, &mut sources, &mut Recorder::new(After::GoOn)).unwrap();
    for record in steps(&run) {
        assert!(number(&record, "frac_reward_zero_std") > 0.0);
        assert!(number(&record, "sampled") > number(&record, "trained"));
        assert!(16.0 <= number(&record, "trained"), "{record}");
    }
}

#[test]
fn an_iteration_without_any_spread_is_survived_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut progress = Recorder::new(After::GoOn);
    let mut sources = WeightedSum::new().with(Closure::new("flat", |_| Ok(1.0)), 1.0);
    let settings = ["grpo.preset=dapo", "grpo.resample_rounds=1"];
    let outcome = train_with(&run, &settings, &mut sources, &mut progress).unwrap();
    assert_eq!(outcome.status, Status::Finished);
    assert!(progress.said("nothing to learn from"));
    // What was left out is not brought back, whatever lengths and distances would say of it.
    for record in steps(&run) {
        assert_eq!((number(&record, "grad_norm"), number(&record, "trained")), (0.0, 0.0));
    }
    let kept = folder.path().join("kept");
    let mut progress = Recorder::new(After::GoOn);
    train_with(&kept, &["grpo.preset=grpo"], &mut sources, &mut progress).unwrap();
    assert!(progress.said("nothing to learn from them"), "flat groups that stay are said too");
}

#[test]
fn completions_that_were_cut_off_and_masked_teach_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for preset in ["grpo", "dapo", "dr_grpo", "reinforce_plus_plus"] {
        let run = folder.path().join(preset);
        let preset = format!("grpo.preset={preset}");
        let settings = [preset.as_str(), "grpo.overlong=mask", "rollout.max_new_tokens=1"];
        let first = |r: &RolloutView<'_>| Ok(f64::from(r.completion_ids[0] % 5));
        let mut sources = WeightedSum::new().with(Closure::new("first", first), 1.0);
        let mut progress = Recorder::new(After::GoOn);
        train_with(&run, &settings, &mut sources, &mut progress).unwrap();
        let all_cut: Vec<Value> = steps(&run)
            .into_iter()
            .filter(|record| 0.999 < number(record, "completions/clipped_ratio"))
            .collect();
        assert!(!all_cut.is_empty());
        for record in all_cut {
            assert_eq!((number(&record, "grad_norm"), number(&record, "trained")), (0.0, 0.0));
        }
        assert!(progress.said("every completion was cut off"));
    }
}

#[test]
fn sources_that_are_standardized_each_count_alike_whatever_their_scale() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |name: &str, scale: f64| -> Vec<f64> {
        let run = folder.path().join(name);
        let mut sources = WeightedSum::new().with(Closure::new("even", even), 1.0).with(
            Closure::new("first", move |r| Ok(scale * f64::from(r.completion_ids[0] % 5))),
            1.0,
        );
        let settings = ["grpo.normalize_each=true", "train.steps=2", "grpo.std_eps=0"];
        train_with(&run, &settings, &mut sources, &mut Recorder::new(After::GoOn)).unwrap();
        steps(&run).iter().map(|record| number(record, "grad_norm")).collect()
    };
    for (one, other) in losses("small", 1.0).into_iter().zip(losses("large", 1000.0)) {
        assert!((one / other - 1.0).abs() < 1e-5, "{one}, {other}");
    }
}

#[test]
fn the_run_ends_at_its_kl_limit_and_stays_ended() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = ["grpo.kl_limit=0.02", "kl.beta=0", "train.steps=400"];
    let mut progress = Recorder::new(After::GoOn);
    let outcome = train(&run, &more, &mut progress).unwrap();
    assert_eq!(outcome.status, Status::Finished);
    assert!(outcome.steps < 400, "{} steps", outcome.steps);
    assert!(progress.said("grpo.kl_limit"));
    assert!(steps(&run).iter().all(|record| number(record, "objective/kl") <= 0.02));
    let again = train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!((again.status, again.steps), (Status::AlreadyFinished, outcome.steps));
}

#[test]
fn a_policy_learns_what_scores() {
    let folder = tempfile::tempdir().unwrap();
    for preset in ["grpo", "rloo"] {
        let run = folder.path().join(preset);
        let preset = format!("grpo.preset={preset}");
        let more = [&preset, "train.steps=60", "grpo.minibatches=1", "grpo.epochs=1"];
        train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        let records = steps(&run);
        let mean = |records: &[Value]| {
            records.iter().map(|r| number(r, "reward")).sum::<f64>() / records.len() as f64
        };
        let (first, last) = (mean(&records[..3]), mean(&records[57..]));
        assert!(first < 0.65 && 0.75 < last, "{preset}: from {first} to {last}");
    }
}

#[test]
fn configurations_that_contradict_themselves_are_refused_early() {
    let folder = tempfile::tempdir().unwrap();
    let base = ["run.dir=x", "model.path=y", "data.train=z", "train.steps=1"];
    for (more, parts) in [
        (&["grpo.clip_lo=0.2"][..], &["unknown key `grpo.clip_lo`", "grpo.clip_low"][..]),
        (&["grpo.preset=trpo"], &["grpo.preset", "trpo", "\"gspo\""]),
        (&["grpo.preset=ppo"], &["grpo.preset", "critic", "hearken ppo"]),
        (&["grpo.advantage=gae"], &["grpo.advantage", "hearken ppo"]),
        (&["kl.placement=loss", "kl.estimator=k1"], &["kl.estimator", "gradient of 0"]),
        (&["grpo.preset=gspo", "kl.target=6"], &["kl.target", "off"]),
        (&["grpo.preset=gspo", "kl.placement=loss"], &["kl.beta", "the preset has none"]),
        (&["grpo.completions=1"], &["rollout.completions", "at least 2"]),
        (&["grpo.completions=4", "rollout.completions=6"], &["exclude each other"]),
        (&["train.batch_size=5"], &["train.batch_size", "= 64"]),
        (&["grpo.minibatches=7"], &["grpo.minibatches", "divisor of", "64"]),
        (&["grpo.aggregate=mean"], &["grpo.aggregate", "constant"]),
        (&["rollout.replay=r", "grpo.correction=truncate"], &["grpo.correction", "rollout.replay"]),
        (&["rollout.replay=r", "grpo.preset=remax"], &["grpo.preset", "greedy"]),
        (&["grpo.std_ddof=2"], &["grpo.std_ddof", "0 or 1"]),
        (&["grpo.dual_clip=0.9"], &["grpo.dual_clip", "above 1"]),
    ] {
        let list = overrides(&[&base[..], more].concat());
        let error = GrpoConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{more:?}: no {part} in {error}");
        }
    }
    let list = overrides(&[&base[..], &["train.batch_size=32", "grpo.minibatches=2"]].concat());
    let loaded = GrpoConfig::load(&config(folder.path(), ""), &list).unwrap();
    assert_eq!(*loaded.config.shared.train.batch_size, 32);
}

#[test]
fn keys_without_effect_are_named() {
    for (more, unused) in [
        (["grpo.preset=cispo", "grpo.clip_low=0.2"], "grpo.clip_low"),
        (["grpo.preset=rloo", "grpo.correction=ratio"], "grpo.correction"),
        (["grpo.correction=ratio", "grpo.correction_max=3"], "grpo.correction_max"),
    ] {
        assert_eq!(resolved(&more).unused, [unused]);
    }
}

/// What `[grpo]` comes to with these keys.
fn resolved(more: &[&str]) -> Resolved {
    let folder = tempfile::tempdir().unwrap();
    let base = ["run.dir=x", "model.path=y", "data.train=z", "train.steps=1"];
    let list = overrides(&[&base[..], more].concat());
    GrpoConfig::load(&config(folder.path(), ""), &list).unwrap().config.resolved
}

#[test]
fn what_samples_says_how_it_is_corrected_for() {
    let truncate = SamplerCorrection::Truncate { level: RatioLevel::Token, max: 2.0 };
    for (more, expected) in [
        (&[][..], SamplerCorrection::None),
        (&["rollout.dtype=int8"], truncate),
        (&["rollout.servers=[\"http://x\"]"], truncate),
        (&["rollout.ahead=1"], SamplerCorrection::Ratio),
        (&["rollout.ahead=1", "rollout.servers=[\"http://x\"]"], SamplerCorrection::Ratio),
        (&["rollout.ahead=1", "grpo.correction=none"], SamplerCorrection::None),
        // The log-probability alone has no ratio; and who gives a bound wants weights.
        (&["rollout.ahead=1", "grpo.preset=rloo"], truncate),
        (&["rollout.ahead=1", "grpo.correction_max=2"], truncate),
    ] {
        assert_eq!(resolved(more).algorithm.correction, expected, "{more:?}");
    }
}
