//! PPO as a whole: a recorded run of TRL, first updates, directions, interruptions, learning.

use std::fs;
use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, check_failing_scores, check_interruptions, config, even_and_length,
    fixture, json_lines, llama, number, on_ranks, overrides, replayed, sampled, steps,
};
use hearken_config::Configuration;
use hearken_model::{LoadOptions, Model};
use hearken_reward_source::{
    Closure, RewardError, RewardSource, RolloutView, Score, StepScore, WeightedSum,
};
use hearken_run::error::TrainError;
use hearken_run::progress::Silent;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::rollout::{ForwardOptions, Heads, Sequence, read};
use serde_json::{Value, json};

/// The settings of the recorded run.
const REPLAY: &str = "
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0
max_grad_norm = 0

[kl]
beta = 0.05

[ppo]
epochs = 3
";

fn run_replay(file: &Path, more: &[&str]) -> (tempfile::TempDir, Vec<Value>) {
    run_replay_on(1, file, more)
}

fn run_replay_on(ranks: usize, file: &Path, more: &[&str]) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let list = replayed(&run, file, more);
    let loaded = PpoConfig::load(&config(folder.path(), REPLAY), &list).unwrap();
    on_ranks(ranks, |entry| {
        ppo::run(Cpu::new(), &loaded, entry, &mut Silent).unwrap();
    });
    let records = steps(&run);
    (folder, records)
}

fn critic() -> String {
    format!("ppo.critic={}", fixture("ppo_critic").display())
}

/// One process, and two that share the work.
fn assert_follows_trl(more: &[&str]) {
    assert_follows_trl_on(1, more);
    assert_follows_trl_on(2, more);
}

fn assert_follows_trl_on(ranks: usize, more: &[&str]) {
    let critic = critic();
    let more = [&[critic.as_str()], more].concat();
    let (_folder, found) = run_replay_on(ranks, &fixture("ppo/rollouts.jsonl"), &more);
    let expected = json_lines(&fixture("ppo/trajectory.jsonl"));
    assert_eq!((found.len(), expected.len()), (12, 12));
    for (found, expected) in found.iter().zip(&expected) {
        let step = number(expected, "step");
        let (loss, loss_expected) = (number(found, "loss"), number(expected, "loss"));
        assert!((loss - loss_expected).abs() < 1e-5, "step {step}: {loss}, not {loss_expected}");
        let (norm, norm_expected) = (number(found, "grad_norm"), number(expected, "grad_norm"));
        assert!((norm / norm_expected - 1.0).abs() < 1e-4, "step {step}: {norm}, {norm_expected}");
    }
}

#[test]
fn a_recorded_run_of_trl_is_followed_step_by_step() {
    assert_follows_trl(&[]);
}

#[test]
fn a_recorded_run_of_trl_is_followed_in_small_microbatches() {
    assert_follows_trl(&["train.microbatch_tokens=50"]);
}

#[test]
fn a_recorded_run_of_trl_is_followed_when_blocks_are_recomputed() {
    assert_follows_trl(&["model.recompute=true"]);
}

/// TRL logs per iteration, over that iteration's three updates.
#[test]
fn iteration_metrics_are_those_of_trl() {
    let (_folder, found) = run_replay(&fixture("ppo/rollouts.jsonl"), &[&critic()]);
    let expected = json_lines(&fixture("ppo/trajectory.jsonl"));
    let mut compared = 0;
    for last in expected.iter().filter(|record| record.get("iteration_metrics").is_some()) {
        let metrics = &last["iteration_metrics"];
        let end = number(last, "step") as usize;
        let updates = &found[end - 3..end];
        let mean = |key: &str| updates.iter().map(|one| number(one, key)).sum::<f64>() / 3.0;
        for key in [
            "objective/kl",
            "objective/entropy",
            "objective/non_score_reward",
            "objective/rlhf_reward",
            "objective/scores",
            "loss/policy_avg",
            "loss/value_avg",
            "policy/approxkl_avg",
            "policy/clipfrac_avg",
            "val/clipfrac_avg",
        ] {
            let Some(expected) = metrics.get(key).and_then(Value::as_f64) else { continue };
            let tolerance = 1e-4 * expected.abs().max(1.0);
            let found = mean(key);
            assert!((found - expected).abs() < tolerance, "step {end}: {key} {found}, {expected}");
            compared += 1;
        }
    }
    assert!(30 <= compared, "{compared} metrics were compared");
}

fn assert_close_runs(one: &[Value], other: &[Value]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        for key in ["loss", "grad_norm", "loss/value_avg", "val/ratio_max"] {
            let (a, b) = (number(one, key), number(other, key));
            assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{key}: {a}, {b}");
        }
    }
}

/// Groups share their prompts, minibatches part them, and microbatches change nothing.
#[test]
fn a_value_head_is_trained_the_same_in_any_microbatches() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    write_groups(&file);
    let settings =
        ["ppo.minibatches=2", "ppo.entropy_coef=0.01", "kl.placement=loss", "kl.estimator=k3"];
    let (_a, whole) = run_replay(&file, &settings);
    let small = [&settings[..], &["train.microbatch_tokens=1"]].concat();
    let (_b, parts) = run_replay(&file, &small);
    assert_eq!(whole.len(), 2 * 3 * 2);
    assert_close_runs(&parts, &whole);
    // Every pass sees every token once: 3 + 1 + 5 + 2 of each iteration.
    for pass in whole.chunks(2) {
        let tokens: f64 = pass.iter().map(|one| number(one, "completion_tokens")).sum();
        assert!((tokens - 11.0).abs() < 0.5, "{tokens}");
    }
    assert!(whole.iter().any(|one| number(one, "loss/value_avg") > 0.0));
}

fn write_groups(file: &Path) {
    let mut lines = String::new();
    for iteration in 0..2 {
        for (prompt, completion, score) in [
            ([5, 6, 7], vec![8, 9, 10], 1.0),
            ([5, 6, 7], vec![11], -1.0),
            ([12, 13, 14], vec![15, 16, 17, 18, 0], 0.5),
            ([12, 13, 14], vec![19, 20], 0.25),
        ] {
            let line = json!({ "iteration": iteration, "prompt_ids": prompt,
                "completion_ids": completion, "score": score });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
    }
    fs::write(file, lines).unwrap();
}

#[test]
fn a_step_makes_what_scored_high_likelier_and_what_scored_low_less_likely() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    let sequences = [([5, 6], [8, 9, 10], 1.0), ([5, 6], [11, 12, 13], -1.0)];
    let lines: String = sequences
        .iter()
        .map(|(prompt, completion, score)| {
            json!({ "iteration": 0, "prompt_ids": prompt, "completion_ids": completion,
                "score": score })
            .to_string()
                + "\n"
        })
        .collect();
    fs::write(&file, lines).unwrap();
    // A value head that has learned nothing yet would push the shared trunk about.
    let settings = ["ppo.epochs=1", "ppo.value_coef=0", "optimizer.lr=1e-4"];
    let (folder, _) = run_replay(&file, &settings);
    let logprob = |dir: &Path, index: usize| -> f64 {
        let (model, _) = Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap();
        let (prompt, completion, _) = &sequences[index];
        let options = ForwardOptions { temperature: 1.0, microbatch_tokens: 100, logits_bytes: 0 };
        let sequence = Sequence { prompt, completion };
        read(&model, &[sequence], Heads::LogProbs, options).logprobs[0].iter().sum()
    };
    let after = folder.path().join("run/final");
    assert!(logprob(&llama(), 0) < logprob(&after, 0));
    assert!(logprob(&after, 1) < logprob(&llama(), 1));
}

/// What [`SAMPLED`] leaves open.
const OWN: &str = "
completions = 2

[kl]
beta = 0.01

[ppo]
epochs = 2
minibatches = 2
";

fn train_with(
    run: &Path,
    more: &[&str],
    sources: &mut dyn RewardSource,
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = sampled(run, more);
    let text = format!("{SAMPLED}{OWN}");
    let loaded = PpoConfig::load(&config(run.parent().unwrap(), &text), &list).unwrap();
    ppo::run_with(Cpu::new(), &loaded, Start::Resume, sources, progress)
}

fn train(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    train_with(run, more, &mut even_and_length(), progress)
}

#[test]
fn the_memory_plan_counts_reward_models() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, more: &str| -> f64 {
        let run = folder.path().join(name);
        let list = sampled(&run, &["train.steps=1"]);
        let text = format!("{SAMPLED}{OWN}\n{more}");
        let loaded = PpoConfig::load(&config(folder.path(), &text), &list).unwrap();
        let mut progress = Recorder::new(After::GoOn);
        ppo::run(Cpu::new(), &loaded, Start::Resume, &mut progress).unwrap();
        let note = progress.notes.iter().find(|note| note.starts_with("memory:")).unwrap();
        let (_, planned) = note.split_once("weights ").unwrap();
        planned.split_once(" MB").unwrap().0.parse().unwrap()
    };
    let plain = "[[score]]\nkind = \"contains\"\ntext = \"a\"\n";
    let path = fixture("rm_model");
    let model = format!("{plain}[[score]]\nkind = \"model\"\npath = {path:?}\n");
    let (without, with) = (weights("without", plain), weights("with", &model));
    let held = std::fs::metadata(path.join("model.safetensors")).unwrap().len() as f64 / 1e6;
    assert!((with - without - held).abs() < 0.11, "{without}, {with}, {held}");
}

/// The default length of completions is for models of today's sizes; a smaller one takes what it has.
#[test]
fn completions_longer_than_the_models_positions_end_with_them_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut progress = Recorder::new(After::GoOn);
    let more = ["rollout.max_new_tokens=4096", "train.steps=2"];
    train(&folder.path().join("run"), &more, &mut progress).unwrap();
    assert!(progress.said("`rollout.max_new_tokens` is 4096"), "{:?}", progress.notes);
    let positions = hearken_model::ModelConfig::read(&llama()).unwrap().max_positions;
    let longest = steps(&folder.path().join("run"));
    let longest = longest.iter().map(|record| number(record, "completions/max_length"));
    assert!(longest.fold(0.0, f64::max) <= (positions - 3) as f64);
}

/// Even tokens are good: by the completion, by the token, or by steps of one token.
struct Even(fn(&[f64]) -> Score);

impl RewardSource for Even {
    fn name(&self) -> &'static str {
        "even"
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let earned = |id: &u32| f64::from(u8::from(id.is_multiple_of(2)));
        let all = |one: &RolloutView<'_>| one.completion_ids.iter().map(earned).collect::<Vec<_>>();
        Ok(rollouts.iter().map(|one| (self.0)(&all(one))).collect())
    }
}

/// Any source trains a policy, and what it says of tokens is earned at those tokens.
#[test]
fn scores_of_tokens_and_steps_are_rewards_where_they_are_earned() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |name: &str, form: fn(&[f64]) -> Score| -> Vec<[f64; 2]> {
        let (run, mut source) = (folder.path().join(name), Even(form));
        let more = ["train.steps=2"];
        train_with(&run, &more, &mut source, &mut Recorder::new(After::GoOn)).unwrap();
        let both =
            |record: &Value| [number(record, "loss/value_avg"), number(record, "objective/scores")];
        steps(&run).iter().map(both).collect()
    };
    let whole = losses("whole", |earned| Score::Whole(earned.iter().sum()));
    let tokens = losses("tokens", |earned| Score::Tokens(earned.to_vec()));
    let at_steps = |earned: &[f64]| -> Score {
        let step = |(last, score): (usize, &f64)| StepScore { last, score: *score };
        Score::Steps(earned.iter().enumerate().map(step).collect())
    };
    assert_eq!(losses("steps", at_steps), tokens);
    // The completion earns the same, and its tokens do not.
    assert!((whole[0][1] - tokens[0][1]).abs() < 1e-12);
    assert!((whole[0][0] - tokens[0][0]).abs() > 1e-3);
    let at_last = |earned: &[f64]| -> Score {
        let mut tokens = vec![0.0; earned.len()];
        *tokens.last_mut().unwrap() = earned.iter().sum();
        Score::Tokens(tokens)
    };
    let last = losses("last", at_last);
    assert!((last[0][0] - whole[0][0]).abs() < 1e-9, "{last:?}, {whole:?}");
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
    let settings = ["ppo.epochs=1", "ppo.minibatches=1", "rollout.temperature=0.7"];
    train(&run, &settings, &mut Recorder::new(After::GoOn)).unwrap();
    for record in steps(&run) {
        for key in ["val/ratio_max", "val/ratio_min"] {
            let ratio = number(&record, key);
            assert!((ratio - 1.0).abs() < 1e-5, "{key}: {ratio}");
        }
        assert!(number(&record, "policy/clipfrac_avg").abs() < f64::MIN_POSITIVE);
        assert!(number(&record, "policy/approxkl_avg") < 1e-10);
        assert!(number(&record, "sampling/sampling_logp_difference/max") < 1e-4);
    }
    let first = &steps(&run)[0];
    // The policy is the reference before its first update, but for the order of sums.
    assert!(number(first, "objective/kl").abs() < 1e-4);
    assert!((number(first, "objective/scores") - number(first, "scores/even")).abs() < 1e-12);
    assert!(
        (number(first, "scores/length") - number(first, "completions/mean_length")).abs() < 1e-9
    );
}

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
fn a_run_with_a_critic_of_its_own_goes_on_bit_for_bit() {
    let critic = critic();
    let more = ["train.save_every=1", critic.as_str(), "ppo.critic_lr=1e-3"];
    check_interruptions(
        &|run, progress| train(run, &more, progress),
        &[After::Stop(4), After::Die(10)],
    );
}

#[test]
fn the_run_ends_at_its_kl_limit_and_stays_ended() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = ["ppo.kl_limit=0.02", "kl.placement=none", "train.steps=400"];
    let mut progress = Recorder::new(After::GoOn);
    let outcome = train(&run, &more, &mut progress).unwrap();
    assert_eq!(outcome.status, Status::Finished);
    assert!(outcome.steps < 400, "{} steps", outcome.steps);
    assert!(progress.said("ppo.kl_limit"));
    assert!(run.join("final/model.safetensors").exists());
    // Nothing was trained on above the limit.
    assert!(steps(&run).iter().all(|record| number(record, "objective/kl") <= 0.02));
    let again = train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!((again.status, again.steps), (Status::AlreadyFinished, outcome.steps));
}

#[test]
fn a_policy_learns_what_scores() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = ["train.steps=200", "train.batch_size=16", "ppo.minibatches=1", "ppo.epochs=4"];
    train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    let records = steps(&run);
    let score = |record: &Value| number(record, "objective/scores");
    let (first, last) = (score(&records[0]), score(records.last().unwrap()));
    assert!(first < 0.65 && 0.8 < last, "from {first} to {last}");
}

#[test]
fn a_score_that_is_nan_or_a_source_that_fails_ends_the_run_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, source: Closure<'_>| {
        let run = folder.path().join(name);
        let mut sources = WeightedSum::new().with(source, 1.0);
        train_with(&run, &[], &mut sources, &mut Recorder::new(After::GoOn)).unwrap_err()
    };
    let error = run("nan", Closure::new("broken", |_| Ok(f64::NAN))).to_string();
    assert!(error.contains("broken") && error.contains("NaN"), "{error}");
    let error = run("refused", Closure::new("picky", |_| Err("not today".to_owned()))).to_string();
    assert!(error.contains("picky") && error.contains("not today"), "{error}");
}

#[test]
fn a_critic_with_another_tokenizer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let critic = folder.path().join("critic");
    fs::create_dir(&critic).unwrap();
    for entry in fs::read_dir(fixture("ppo_critic")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, critic.join(path.file_name().unwrap())).unwrap();
    }
    let path = critic.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    // Two tokens change places.
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let names: Vec<String> = vocab.keys().skip(100).take(2).cloned().collect();
    let ids = [vocab[&names[0]].clone(), vocab[&names[1]].clone()];
    vocab.insert(names[0].clone(), ids[1].clone());
    vocab.insert(names[1].clone(), ids[0].clone());
    fs::write(&path, tokenizer.to_string()).unwrap();
    let more = format!("ppo.critic={}", critic.display());
    let error = train(&folder.path().join("run"), &[&more], &mut Recorder::new(After::GoOn));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("ppo.critic") && error.contains("tokenizer"), "{error}");
}

#[test]
fn a_replay_that_makes_no_sense_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollouts.jsonl");
    let line = |iteration: u64, prompt: &[u32], completion: &[u32]| {
        json!({ "iteration": iteration, "prompt_ids": prompt, "completion_ids": completion,
            "score": 1 })
    };
    let good = line(0, &[1, 2], &[3]);
    for (bad, part) in [
        (line(0, &[], &[3]), "prompt_ids"),
        (line(0, &[1], &[]), "completion_ids"),
        (line(0, &[1], &[999]), "token id 999"),
        (line(0, &[1; 300], &[3]), "301"),
    ] {
        fs::write(&file, format!("{good}\n{bad}\n")).unwrap();
        let error = refused(&file).to_string();
        assert!(error.contains("rollouts.jsonl") && error.contains(part), "{error}");
        assert!(error.contains('2'), "{error}");
    }
    let (other, again) = (line(1, &[1], &[3]), line(0, &[1], &[3]));
    fs::write(&file, format!("{good}\n{other}\n{again}\n")).unwrap();
    assert!(refused(&file).to_string().contains("iteration 0 comes again"));
}

fn refused(file: &Path) -> TrainError {
    let folder = tempfile::tempdir().unwrap();
    let list = [
        format!("run.dir={}", folder.path().join("run").display()),
        format!("model.path={}", llama().display()),
        format!("rollout.replay={}", file.display()),
    ];
    let loaded = PpoConfig::load(&config(folder.path(), REPLAY), &list).unwrap();
    ppo::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap_err()
}

#[test]
fn configurations_that_contradict_themselves_are_refused_early() {
    let folder = tempfile::tempdir().unwrap();
    let base = ["run.dir=x", "model.path=y", "data.train=z", "train.steps=1"];
    for (more, parts) in [
        (&["ppo.clip_lo=0.2"][..], &["unknown key `ppo.clip_lo`", "ppo.clip_low"][..]),
        (&["kl.placement=loss"], &["kl.placement", "kl.estimator", "gradient of 0"]),
        (&["kl.target=6", "kl.beta=0"], &["kl.target"]),
        (&["rollout.completions=7"], &["rollout.completions", "divisor of"]),
        (&["rollout.temperature=0"], &["rollout.temperature", "above 0"]),
        (&["ppo.critic_lr=1e-4"], &["ppo.critic_lr", "value_head"]),
        (&["ppo.gamma=1.5"], &["ppo.gamma", "1.5", "from 0 to 1"]),
        (&["score=[{kind=\"model\"}]"], &["score[0].path"]),
        (&["score=[{kind=\"regex\",pattern=\"(\"}]"], &["score[0].pattern", "unclosed"]),
        (&["score=[{kind=\"contains\",text=\"a\",url=\"b\"}]"], &["score[0].url"]),
        (&["score=[{kind=\"modell\",path=\"a\"}]"], &["score[0].kind", "modell"]),
    ] {
        let list = overrides(&[&base[..], more].concat());
        let error = PpoConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{more:?}: no {part} in {error}");
        }
    }
    let error = PpoConfig::load(&config(folder.path(), ""), &overrides(&base[..3])).unwrap_err();
    assert!(error.to_string().contains("train.steps"), "{error}");
}
