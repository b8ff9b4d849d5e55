//! Runs that train an adapter: against recorded runs of TRL with PEFT, interrupted, from adapters and bases of
//! every kind, and what is refused.

use std::fs;
use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, check_interruptions, config, even_and_length, fixture, json_lines,
    llama, number, overrides, sampled, steps,
};
use hearken_config::Configuration;
use hearken_model::{Adapter, Batch, Keep, LoadOptions, Model};
use hearken_run::error::TrainError;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_tensor::device::HeadOptions;
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use serde_json::Value;

/// The settings of the recorded runs.
const CONFIG: &str = "
[data]
shuffle = false

[optimizer]
lr = 1e-2
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 4
steps = 12
keep_optimizer = true
";

fn list(run: &Path, data: &str, more: &[&str]) -> Vec<String> {
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture(data).display()),
    ];
    list.extend(overrides(more));
    list
}

fn train_sft(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let list = list(run, "sft_lora/data.jsonl", more);
    let loaded = SftConfig::load(&config(run.parent().unwrap(), CONFIG), &list)?;
    sft::run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn train_dpo(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let list = list(run, "dpo_lora/data.jsonl", more);
    let loaded = DpoConfig::load(&config(run.parent().unwrap(), CONFIG), &list)?;
    dpo::run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn train_reward(
    run: &Path,
    more: &[&str],
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let list = list(run, "rm/data.jsonl", more);
    let loaded = RewardConfig::load(&config(run.parent().unwrap(), CONFIG), &list)?;
    reward::run(Cpu::new(), &loaded, Start::Resume, progress)
}

fn init(case: &str) -> String {
    format!("lora.init={}", fixture(case).join("adapter_start").display())
}

/// Loss within 1e-4 and gradient norm within 1e-3, relative, at every step; log-probabilities of the final adapter
/// within 1e-4.
fn assert_follows(run: &Path, case: &str) {
    let (found, expected) = (steps(run), json_lines(&fixture(case).join("trajectory.jsonl")));
    assert_eq!((found.len(), expected.len()), (12, 12));
    for (found, expected) in found.iter().zip(&expected) {
        for (key, tolerance) in [("loss", 1e-4), ("grad_norm", 1e-3)] {
            let (found, expected) = (number(found, key), number(expected, key));
            let error = (found - expected).abs() / expected.abs();
            assert!(error < tolerance, "{case}: {key} {found}, expected {expected}");
        }
    }
    let text = fs::read_to_string(fixture(case).join("end_logprobs.json")).unwrap();
    let end: Value = serde_json::from_str(&text).unwrap();
    let ids: Vec<u32> = serde_json::from_value(end["input_ids"].clone()).unwrap();
    let expected: Vec<f32> = serde_json::from_value(end["logprobs"].clone()).unwrap();
    for (found, expected) in logprobs(&run.join("final"), &ids).iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4, "{case}: {found}, expected {expected}");
    }
}

/// The log-probabilities of a sequence under the model in a folder, or the model of an adapter there.
fn logprobs(dir: &Path, ids: &[u32]) -> Vec<f32> {
    let (model, _) = Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap();
    let mut batch = Batch::new();
    batch.push(None, ids);
    let predictions = Model::<Cpu>::next_token_predictions(ids, 0);
    let pass = model.forward(&batch, Keep::Nothing);
    model.logprobs(&pass, &predictions, HeadOptions::default()).logprobs
}

#[test]
fn sft_of_an_adapter_follows_trl() {
    for more in [&[][..], &["train.microbatch_tokens=160"], &["model.recompute=true"]] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let start = init("sft_lora");
        let more = [&[start.as_str()], more].concat();
        train_sft(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        assert_follows(&run, "sft_lora");
    }
}

#[test]
fn dpo_of_an_adapter_follows_trl() {
    for more in [&[][..], &["train.microbatch_tokens=160", "lora.r=4", "lora.alpha=8"]] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let start = init("dpo_lora");
        let more = [&[start.as_str()], more].concat();
        train_dpo(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        assert_follows(&run, "dpo_lora");
    }
}

const NEW: [&str; 2] = ["lora.r=4", "lora.dropout=0.2"];

#[test]
fn a_run_leaves_a_peft_directory_that_names_its_base_and_brings_the_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut progress = Recorder::new(After::GoOn);
    train_sft(&run, &["lora.r=2", "lora.targets=\"all-linear\""], &mut progress).unwrap();
    for dir in ["final", "checkpoints/step-000012"] {
        let dir = run.join(dir);
        let adapter = Adapter::read(&dir).unwrap();
        assert_eq!(adapter.base(), llama().to_str());
        assert_eq!((adapter.config().rank, adapter.config().alpha), (2, 4.0));
        assert!(!dir.join("model.safetensors").exists());
        assert!(dir.join("tokenizer.json").exists());
    }
    assert!(progress.notes.iter().any(|note| note.contains("trained")), "{:?}", progress.notes);
}

/// What is dropped follows from the step and from the tokens, not from how a batch is cut.
#[test]
fn dropout_is_the_same_in_small_microbatches_and_when_blocks_are_recomputed() {
    let losses = |more: &[&str]| -> Vec<f64> {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let more = [&["lora.r=4", "lora.dropout=0.4"], more].concat();
        train_dpo(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        steps(&run).iter().map(|record| number(record, "loss")).collect()
    };
    let whole = losses(&[]);
    for more in ["train.microbatch_tokens=120", "model.recompute=true"] {
        for (found, expected) in losses(&[more]).iter().zip(&whole) {
            assert!((found - expected).abs() < 1e-4, "{more}: {found}, expected {expected}");
        }
    }
    let without = losses(&["lora.dropout=0"]);
    assert!((without[3] - whole[3]).abs() > 1e-3);
}

const INTERRUPTIONS: [After; 3] = [After::Stop(4), After::Die(6), After::Stop(9)];

#[test]
fn sft_reward_and_dpo_of_adapters_go_on_bit_for_bit() {
    check_interruptions(&|run, progress| train_sft(run, &NEW, progress), &INTERRUPTIONS);
    check_interruptions(&|run, progress| train_reward(run, &NEW, progress), &INTERRUPTIONS);
    check_interruptions(&|run, progress| train_dpo(run, &NEW, progress), &INTERRUPTIONS);
    let init = init("dpo_lora");
    let more =
        [init.as_str(), "model.dtype=\"bf16\"", "dpo.loss=[\"bco_pair\"]", "dpo.kl_prompts=2"];
    check_interruptions(&|run, progress| train_dpo(run, &more, progress), &INTERRUPTIONS);
}

fn text(own: &str) -> String {
    format!("{SAMPLED}completions = 2\n{own}")
}

fn train_ppo(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let own = text("[kl]\nbeta = 0.01\n[ppo]\nepochs = 2\nminibatches = 2\n");
    let loaded = PpoConfig::load(&config(run.parent().unwrap(), &own), &sampled(run, more))?;
    ppo::run_with(Cpu::new(), &loaded, Start::Resume, &mut even_and_length(), progress)
}

fn train_grpo(
    run: &Path,
    more: &[&str],
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let own = text("[grpo]\nprompts = 4\n").replace("batch_size = 8\n", "");
    let loaded = GrpoConfig::load(&config(run.parent().unwrap(), &own), &sampled(run, more))?;
    grpo::run_with(Cpu::new(), &loaded, Start::Resume, &mut even_and_length(), progress)
}

fn train_online(
    run: &Path,
    more: &[&str],
    progress: &mut Recorder,
) -> Result<RunOutcome, TrainError> {
    let loaded = DpoConfig::load(&config(run.parent().unwrap(), SAMPLED), &sampled(run, more))?;
    let mut sources = even_and_length();
    dpo::online::run_with(Cpu::new(), &loaded, Start::Resume, (&mut sources).into(), progress)
}

#[test]
fn ppo_of_an_adapter_with_either_critic_goes_on_bit_for_bit() {
    let critic = format!("ppo.critic={}", fixture("ppo_critic").display());
    for critic in ["ppo.critic=value_head", &critic] {
        let more = [&NEW[..], &[critic, "train.save_every=4"]].concat();
        check_interruptions(&|run, progress| train_ppo(run, &more, progress), &[After::Die(7)]);
    }
}

#[test]
fn a_value_head_and_a_critic_are_saved_with_their_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let critic = format!("ppo.critic={}", fixture("ppo_critic").display());
    for (name, critic) in [("head", "ppo.critic=value_head"), ("critic", &critic)] {
        let run = folder.path().join(name);
        let more = [&NEW[..], &[critic, "train.steps=4"]].concat();
        train_ppo(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        assert!(Adapter::read(&run.join("final")).is_ok());
        let checkpoint = run.join("checkpoints/step-000004");
        assert_eq!(run.join("final/value_head.safetensors").exists(), name == "head");
        let of_critic = Adapter::read(&checkpoint.join("critic"));
        assert_eq!(of_critic.is_ok_and(|adapter| adapter.has_scalar_head()), name == "critic");
    }
}

#[test]
fn grpo_and_online_dpo_of_an_adapter_go_on_bit_for_bit() {
    let more = [&NEW[..], &["train.save_every=4"]].concat();
    check_interruptions(&|run, progress| train_grpo(run, &more, progress), &[After::Die(7)]);
    for method in ["dpo", "nash_md"] {
        let online = format!("dpo.online={method}");
        let more = [&NEW[..], &[&online, "train.save_every=4"]].concat();
        check_interruptions(&|run, progress| train_online(run, &more, progress), &[After::Die(7)]);
    }
}

/// Sampling reads the base and the adapter beside it, as training does.
#[test]
fn runs_over_a_base_in_eight_bits_go_on_bit_for_bit() {
    for base in ["model.base=int8", "model.base=int8_groups"] {
        let more = [&NEW[..], &["train.save_every=4", base]].concat();
        check_interruptions(&|run, progress| train_sft(run, &more, progress), &INTERRUPTIONS);
        check_interruptions(&|run, progress| train_dpo(run, &more, progress), &[After::Die(7)]);
        let more = [&more[..], &["model.dtype=bf16"]].concat();
        check_interruptions(&|run, progress| train_grpo(run, &more, progress), &[After::Die(7)]);
    }
}

/// Weights in bfloat16 that are trained: twelve steps are nearly those of f32 masters, in less memory.
#[test]
fn masters_in_bfloat16_learn_nearly_what_masters_in_f32_do() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |masters: &str| -> (Vec<f64>, f64) {
        let run = folder.path().join(masters);
        let masters = format!("model.masters={masters}");
        let more = [masters.as_str(), "model.dtype=bf16", "optimizer.lr=1e-3", "train.steps=40"];
        let mut progress = Recorder::new(After::GoOn);
        train_sft(&run, &more, &mut progress).unwrap();
        let note = progress.notes.iter().find(|note| note.starts_with("memory:")).unwrap();
        let (_, weights) = note.split_once("weights ").unwrap();
        let weights = weights.split_once(" MB").unwrap().0.parse().unwrap();
        (steps(&run).iter().map(|record| number(record, "loss")).collect(), weights)
    };
    let ((expected, whole), (found, weights)) = (losses("f32"), losses("bf16"));
    assert!(weights < whole, "{weights} of {whole} MB");
    assert_ne!(found, expected);
    let last = |losses: &[f64]| losses[35..].iter().sum::<f64>() / 5.0;
    assert!(last(&expected) < 0.8 * expected[0], "it learns");
    assert!((last(&found) / last(&expected) - 1.0).abs() < 0.03, "{found:?}, not {expected:?}");
}

/// A rate whose updates are far below a weight's precision would leave rounded weights as they are.
#[test]
fn small_updates_of_masters_in_bfloat16_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let eval = format!("data.eval={}", fixture("sft_lora/data.jsonl").display());
    let moved = |masters: &str| -> f64 {
        let run = folder.path().join(masters);
        let masters = format!("model.masters={masters}");
        let more = [
            masters.as_str(),
            &eval,
            "model.dtype=bf16",
            "model.freeze=[\"*embed*\", \"*norm*\"]",
            "optimizer.lr=2e-6",
            "train.steps=50",
            "train.eval_every=50",
        ];
        train_sft(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        let records = json_lines(&run.join("metrics.jsonl"));
        let evaluations = records.iter().filter_map(|record| record["eval_loss"]["value"].as_f64());
        let losses: Vec<f64> = evaluations.collect();
        losses[0] - losses[losses.len() - 1]
    };
    let (expected, found) = (moved("f32"), moved("bf16"));
    assert!(0.0 < expected && 0.5 * expected < found, "{found}, of {expected} with f32 masters");
}

#[test]
fn runs_with_masters_in_bfloat16_go_on_bit_for_bit() {
    let more = ["model.masters=bf16", "model.dtype=bf16", "train.save_every=4"];
    check_interruptions(&|run, progress| train_sft(run, &more, progress), &INTERRUPTIONS);
    check_interruptions(&|run, progress| train_dpo(run, &more, progress), &[After::Die(7)]);
    check_interruptions(&|run, progress| train_grpo(run, &more, progress), &[After::Die(7)]);
    let critic = format!("ppo.critic={}", fixture("ppo_critic").display());
    let more = [&more[..], &[critic.as_str()]].concat();
    check_interruptions(&|run, progress| train_ppo(run, &more, progress), &[After::Die(7)]);
}

/// The recorded run's adapter over the same base in eight bits: it learns what it did, in less memory.
#[test]
fn a_base_in_eight_bits_teaches_nearly_what_the_base_does() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |base: &str| -> (Vec<f64>, f64) {
        let run = folder.path().join(base);
        let (base, init) = (format!("model.base={base}"), init("sft_lora"));
        let mut progress = Recorder::new(After::GoOn);
        train_sft(&run, &[&init, &base], &mut progress).unwrap();
        let note = progress.notes.iter().find(|note| note.starts_with("memory:")).unwrap();
        let (_, weights) = note.split_once("weights ").unwrap();
        let weights = weights.split_once(" MB").unwrap().0.parse().unwrap();
        (steps(&run).iter().map(|record| number(record, "loss")).collect(), weights)
    };
    let (expected, floats) = losses("float");
    for base in ["int8", "int8_groups"] {
        let (found, weights) = losses(base);
        assert!(weights < floats, "{weights} of {floats} MB");
        assert_ne!(found, expected);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found / expected - 1.0).abs() < 5e-3, "{base}: {found}, not {expected}");
        }
    }
}

/// Where all weights are trained, the reference alone is in eight bits.
#[test]
fn a_reference_in_eight_bits_is_near_the_policy_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let kl = |base: &str| {
        let run = folder.path().join(base);
        let base = format!("model.base={base}");
        train_ppo(&run, &[&base, "train.steps=4"], &mut Recorder::new(After::GoOn)).unwrap();
        number(&steps(&run)[0], "objective/kl")
    };
    assert!(kl("float").abs() < 1e-12);
    let found = kl("int8");
    assert!(1e-9 < found.abs() && found.abs() < 0.05, "{found}");
}

/// Weights are rounded anew in every iteration; what that changes of a token's probability is measured, and
/// weighed.
#[test]
fn rollouts_sampled_from_eight_bits_are_corrected() {
    let folder = tempfile::tempdir().unwrap();
    for adapter in [&["lora.r=8"][..], &[]] {
        let more = [adapter, &["rollout.dtype=int8", "train.steps=4"]].concat();
        for trainer in ["ppo", "grpo"] {
            let run = folder.path().join(format!("{trainer}{}", adapter.len()));
            let mut progress = Recorder::new(After::GoOn);
            match trainer {
                "ppo" => train_ppo(&run, &more, &mut progress).unwrap(),
                _ => train_grpo(&run, &more, &mut progress).unwrap(),
            };
            for record in steps(&run) {
                let apart = number(&record, "sampling/sampling_logp_difference/max");
                assert!(1e-6 < apart && apart < 0.5, "{trainer}: {apart}");
                // A weight of more than 2 is far away.
                let corrected = number(&record, "sampling/corrected_share");
                assert!(corrected <= 0.0, "{trainer}: {corrected}");
            }
        }
        let run = folder.path().join(format!("mask{}", adapter.len()));
        let narrow = ["ppo.correction=mask", "ppo.correction_min=1", "ppo.correction_max=1.0001"];
        let more = [&more[..], &narrow].concat();
        train_ppo(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        let share = number(&steps(&run)[0], "sampling/corrected_share");
        assert!(0.3 < share && share <= 1.0, "{share}");
        let run = folder.path().join(format!("online{}", adapter.len()));
        let more = [adapter, &["rollout.dtype=int8", "train.steps=2", "dpo.online=dpo"]].concat();
        train_online(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    }
}

#[test]
fn grpo_of_an_adapter_learns_what_scores() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = ["lora.r=8", "optimizer.lr=3e-2", "train.steps=60", "rollout.completions=8"];
    train_grpo(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
    let records = steps(&run);
    let scores = |records: &[Value]| {
        records.iter().map(|r| number(r, "reward")).sum::<f64>() / records.len() as f64
    };
    let (first, last) = (scores(&records[..5]), scores(&records[55..]));
    assert!(first + 0.1 < last, "from {first} to {last}");
}

/// A score head that training made lies in the adapter's file, and the scorer is found by its folder alone.
#[test]
fn a_reward_model_with_an_adapter_is_a_scorer_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train_reward(&run, &NEW, &mut Recorder::new(After::GoOn)).unwrap();
    assert!(Adapter::read(&run.join("final")).unwrap().has_scalar_head());
    Model::load(Cpu::new(), &run.join("final"), &LoadOptions::scorer()).unwrap();
}

/// A stage may start from what a stage with an adapter left.
#[test]
fn a_run_starts_from_a_folder_with_an_adapter_as_from_the_merged_model() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    train_sft(&first, &["lora.r=4"], &mut Recorder::new(After::GoOn)).unwrap();
    let adapter = first.join("final");
    let losses = |name: &str, more: &[&str]| -> Vec<f64> {
        let run = folder.path().join(name);
        train_dpo(&run, more, &mut Recorder::new(After::GoOn)).unwrap();
        steps(&run).iter().map(|record| number(record, "loss")).collect()
    };
    let path = format!("model.path={}", adapter.display());
    let beside = format!("model.adapter={}", adapter.display());
    let (whole, apart) = (losses("whole", &[&path]), losses("apart", &[&beside]));
    assert_eq!(whole, apart);
    assert!(folder.path().join("whole/final/model.safetensors").exists());
    // And an adapter of what has one.
    let nested = losses("nested", &[&path, "lora.r=2"]);
    assert!((nested[0] - whole[0]).abs() < 1e-6);
    let ids = [5, 17, 300, 42, 99];
    assert_eq!(logprobs(&folder.path().join("nested/final"), &ids).len(), 4);
}

/// The reference of a run that starts from an adapter is that adapter, as in TRL.
#[test]
fn the_reference_is_what_training_starts_from() {
    let folder = tempfile::tempdir().unwrap();
    let end = format!("lora.init={}", fixture("dpo_lora").join("adapter_end").display());
    for (more, expected) in [(end.as_str(), true), ("lora.r=4", true)] {
        let run = folder.path().join(if more == end { "init" } else { "new" });
        train_dpo(&run, &[more, "train.steps=2"], &mut Recorder::new(After::GoOn)).unwrap();
        let loss = number(&steps(&run)[0], "loss");
        assert_eq!((loss - std::f64::consts::LN_2).abs() < 1e-6, expected, "{more}: {loss}");
    }
}

#[test]
fn one_name_is_a_target_as_a_list_of_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let saved = |name: &str, targets: &str| {
        let run = folder.path().join(name);
        let targets = format!("lora.targets={targets}");
        let more = ["lora.r=2", &targets, "train.steps=1"];
        train_sft(&run, &more, &mut Recorder::new(After::GoOn)).unwrap();
        fs::read(run.join("final/adapter_model.safetensors")).unwrap()
    };
    let one = saved("one", "q_proj");
    assert_eq!(one, saved("list", "[\"q_proj\"]"));
    assert_eq!(one, saved("pattern", "'.*self_attn\\.q_proj'"));
}

#[test]
fn what_contradicts_an_adapter_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let end = init("dpo_lora");
    for (index, (more, expected)) in [
        (&["lora.alpha=8"][..], "found no `lora.r`"),
        (&["lora.r=4", "model.freeze=[\"*embed*\"]"], "`lora.r` and `model.freeze` exclude"),
        (&["lora.r=4", "model.adapter=x"], "`lora.r` and `model.adapter` exclude"),
        (&["lora.r=4", "dpo.reference_sync_steps=2"], "`dpo.reference_sync_steps` and `lora`"),
        (&["lora.r=0"], "`lora.r`: found 0, expected"),
        (&["lora.r=4", "lora.dropout=1.0"], "`lora.dropout`: found 1"),
        (
            &["lora.r=4", "lora.targets=[\"q_porj\"]"],
            "`lora.targets`: \"q_porj\" names no linear map",
        ),
        (
            &["lora.r=4", "lora.targets=[\"lm_head\"]"],
            "\"lm_head\" names lm_head; adapters are for",
        ),
        (&[&end, "lora.r=8"], "`lora.r`: found 8, expected 4, as the adapter in"),
        (&[&end, "lora.targets=[\"q_proj\"]"], "`lora.targets`: found"),
        (&["lora.init=/nowhere"], "/nowhere: no adapter; expected a PEFT directory"),
        (
            &["model.base=int8"],
            "`model.base`: found \"int8\", expected \"float\": nothing is frozen",
        ),
        (&["lora.r=4", "model.base=int4"], "`model.base`"),
        (
            &["model.masters=bf16"],
            "`model.masters`: found \"bf16\", expected \"f32\", or `model.dtype`",
        ),
        (
            &["lora.r=4", "model.masters=bf16", "model.dtype=bf16"],
            "`model.masters` and `lora` exclude",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let run = folder.path().join(index.to_string());
        let error = train_dpo(&run, more, &mut Recorder::new(After::GoOn)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        assert!(!run.join("final").exists());
    }
}
