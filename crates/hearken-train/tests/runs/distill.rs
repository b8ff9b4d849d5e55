//! Distillation: step by step against TRL, what it learns, interruptions, and what is refused.

use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, check_interruptions, config, fixture, json_lines, llama, number,
    overrides, sampled, steps,
};
use hearken_config::Configuration;
use hearken_model::{Head, Model, ModelConfig};
use hearken_run::error::TrainError;
use hearken_run::progress::Silent;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use hearken_testing::family as model;
use hearken_train::distill::{self, DistillConfig};
use serde_json::Value;

fn of_teacher(family: &str) -> String {
    format!("teacher.path={}", model(family).display())
}

const RECORDED: &str = "
[data]
shuffle = false

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 4
steps = 12

[distill]
lambda = 0
";

/// A run on the data's own completions.
fn off_policy(student: &str, more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut list = overrides(more);
    list.push(format!("run.dir={}", folder.path().join("run").display()));
    list.push(format!("model.path={}", model(student).display()));
    list.push(format!("data.train={}", fixture("sft/data.jsonl").display()));
    let loaded = DistillConfig::load(&config(folder.path(), RECORDED), &list).unwrap();
    distill::run(Cpu::new(), &loaded, Start::Resume, &mut Silent).unwrap();
    steps(&folder.path().join("run"))
}

/// Loss within 1e-4 and gradient norm within 1e-3, relative; the entropy within 1e-3 absolute.
#[track_caller]
fn assert_follows(found: &[Value], case: &str) {
    let expected = json_lines(&fixture("distill").join(format!("{case}.jsonl")));
    assert_eq!((found.len(), expected.len()), (12, 12));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(number(found, "on_policy").to_bits(), 0f64.to_bits());
        for (key, tolerance) in [("loss", 1e-4), ("grad_norm", 1e-3)] {
            let (found, one) = (number(found, key), number(expected, key));
            let error = (found - one).abs() / one.abs();
            assert!(error < tolerance, "{case}, step {}: {key} {found}, {one}", expected["step"]);
        }
        if expected.get("entropy").is_some() {
            let error = (number(found, "entropy") - number(expected, "entropy")).abs();
            assert!(error < 1e-3, "{case}: entropy {found}, {expected}");
        }
    }
}

#[test]
fn every_divergence_follows_trl() {
    let teacher = of_teacher("qwen3");
    for (case, beta) in [("forward_kl", "0"), ("jsd", "0.5"), ("reverse_kl", "1")] {
        let beta = format!("distill.beta={beta}");
        assert_follows(&off_policy("llama", &[&teacher, &beta]), case);
    }
}

#[test]
fn small_microbatches_and_recomputed_blocks_follow_trl() {
    let teacher = of_teacher("qwen3");
    for more in ["train.microbatch_tokens=160", "model.recompute=true"] {
        assert_follows(&off_policy("llama", &[&teacher, "distill.beta=0.5", more]), "jsd");
    }
}

/// A temperature, and a student whose logits are capped.
#[test]
fn a_student_with_capped_logits_follows_trl_at_a_temperature() {
    let more =
        [of_teacher("llama"), "distill.beta=0.3".to_owned(), "distill.temperature=0.7".to_owned()];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    assert_follows(&off_policy("gemma2", &more), "capped");
}

fn train(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let teacher = of_teacher("qwen3");
    let more = [&[teacher.as_str()], more].concat();
    let list = sampled(run, &more);
    let loaded = DistillConfig::load(&config(run.parent().unwrap(), SAMPLED), &list)?;
    distill::run(Cpu::new(), &loaded, Start::Resume, progress)
}

#[test]
fn a_student_comes_nearer_to_its_teacher() {
    for beta in ["distill.beta=0", "distill.beta=0.5", "distill.beta=1"] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        train(&run, &[beta, "train.steps=80"], &mut Recorder::new(After::GoOn)).unwrap();
        let steps = steps(&run);
        for key in ["loss", "forward_kl", "reverse_kl"] {
            let mean = |part: &[Value]| {
                part.iter().map(|step| number(step, key)).sum::<f64>() / part.len() as f64
            };
            let (first, last) = (mean(&steps[..3]), mean(&steps[70..]));
            assert!(last < 0.45 * first, "{beta}: {key} was {first} and is {last}");
        }
    }
}

#[test]
fn the_best_student_is_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = ["data.eval_fraction=0.4", "train.keep_best=true", "train.eval_every=4"];
    train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    assert!(run.join("best/model.safetensors").exists());
}

#[test]
fn a_run_that_is_interrupted_goes_on_bit_for_bit() {
    let interruptions = [After::Stop(4), After::Die(6), After::Stop(9)];
    let train = |run: &Path, more: &[&str], progress: &mut Recorder| train(run, more, progress);
    check_interruptions(&|run, progress| train(run, &[], progress), &interruptions);
    let adapter = ["lora.r=2", "distill.epochs=2", "rollout.completions=2"];
    check_interruptions(&|run, progress| train(run, &adapter, progress), &[After::Die(7)]);
}

/// With a share in between, some iterations have the data's completions, which ones the seed says.
#[test]
fn a_share_of_the_iterations_has_the_completions_of_the_data() {
    let data = format!("data.train={}", fixture("sft/data.jsonl").display());
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = [data.as_str(), "distill.lambda=0.5", "train.steps=40", "train.batch_size=2"];
    train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    let shares: Vec<f64> = steps(&run).iter().map(|step| number(step, "on_policy")).collect();
    let on_policy: f64 = shares.iter().sum();
    assert!((10.0..30.0).contains(&on_policy), "{shares:?}");
    for (step, share) in steps(&run).iter().zip(shares) {
        // The data's completions are longer than those that are sampled may be.
        let is_short = number(step, "completions/mean_length") <= 8.0;
        assert_eq!(is_short, 0.5 < share, "{step}");
    }
}

/// What a student is compared with on completions of its teacher is what the teacher would be compared with as a student: with the same
/// weights and random numbers it writes the same.
#[test]
fn a_teacher_writes_completions_in_place_of_the_data() {
    let divergences = |(student, teacher): (&str, &str), key: &str, more: &[&str]| -> Vec<f64> {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let student = format!("model.path={}", model(student).display());
        let (teacher, fixed) = (of_teacher(teacher), ["optimizer.lr=0", "rollout.temperature=0.1"]);
        let more = [&[student.as_str(), teacher.as_str()], &fixed[..], more].concat();
        train(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        steps(&run).iter().map(|step| number(step, key)).collect()
    };
    let apart =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let by_teacher = ["distill.lambda=0", "distill.seq_kd=true"];
    let found = divergences(("llama", "qwen3"), "forward_kl", &by_teacher);
    let expected = divergences(("qwen3", "llama"), "reverse_kl", &[]);
    assert!(apart(&found, &expected) < 1e-6, "{found:?} {expected:?}");
    let by_student = divergences(("llama", "qwen3"), "forward_kl", &[]);
    assert!(1e-3 < apart(&found, &by_student), "{found:?} {by_student:?}");
}

#[test]
fn a_teacher_with_other_tokens_or_fewer_positions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str, key: &str, value: usize| {
        let text = std::fs::read_to_string(llama().join("config.json")).unwrap();
        let mut raw: Value = serde_json::from_str(&text).unwrap();
        raw[key] = value.into();
        let config = ModelConfig::from_json(Path::new(name), raw.as_object().unwrap()).unwrap();
        let made = Model::init(Cpu::new(), config, Head::LanguageModel, Precision::F32, 3);
        let dir = folder.path().join(name);
        made.save(&dir).unwrap();
        format!("teacher.path={}", dir.display())
    };
    let error = |name: &str, teacher: &str| {
        let run = folder.path().join(name);
        train(&run, &[teacher], &mut Recorder::new(After::GoOn)).unwrap_err().to_string()
    };
    let other = error("run-other", &made("large", "vocab_size", 500));
    let expected =
        "has another tokenizer or vocabulary (500 tokens) than the policy (384), expected the same";
    assert!(other.contains("`teacher.path`: ") && other.contains(expected), "{other}");
    let short = error("run-short", &made("short", "max_position_embeddings", 9));
    let expected = "has 9 positions, found a prompt with a completion of 11 tokens";
    assert!(short.contains("`teacher.path`: ") && short.contains(expected), "{short}");
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    let error = |more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut list = overrides(&["run.dir=r", "model.path=m", "data.train=d", "train.steps=1"]);
        list.extend(overrides(more));
        DistillConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string()
    };
    for (more, expected) in [
        (&[][..], "found no `teacher.path`, expected a folder with a model, or `teacher.server`"),
        (&["teacher.path=a", "teacher.server=http://b"], "`teacher.path` and `teacher.server`"),
        (&["teacher.path=a", "teacher.model=b"], "`teacher.path` and `teacher.model`"),
        (&["teacher.server=localhost"], "expected an address as"),
        (&["teacher.path=a", "distill.beta=1.5"], "expected a number from 0 to 1"),
        (
            &["teacher.path=a", "distill.lambda=0.5", "rollout.completions=2"],
            "`rollout.completions`: found 2, expected 1 with `distill.lambda` below 1",
        ),
        (
            &["teacher.server=http://b", "distill.seq_kd=true"],
            "`distill.seq_kd`: found true, expected a teacher in this process",
        ),
        (&["teacher.path=a", "rollout.completions=3"], "expected a divisor of batch_size"),
        (&["teacher.path=a", "rollout.replay=x"], "unknown key `rollout.replay`"),
    ] {
        let error = error(more);
        assert!(error.contains(expected), "{more:?}: {error}");
    }
}
