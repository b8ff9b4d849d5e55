//! Process and outcome reward models: against a recorded run of TRL, against finite differences, and what is refused.

use std::fs;
use std::path::Path;

use crate::support::{
    After, Recorder, check_interruptions, config, fixture, json_lines, llama, metrics, number,
    overrides, steps,
};
use hearken_config::Configuration;
use hearken_config::StepRewards;
use hearken_data::{ReadOptions, Source, read};
use hearken_model::Masters;
use hearken_model::steps::StepTokens;
use hearken_model::tokenizer::{Bos, SpecialText};
use hearken_model::{Batch, Head, Keep, LoadOptions, Model, OutputGrads, Tokenizer, stored_head};
use hearken_objective::process::class_cross_entropy;
use hearken_reward_source::process_file::ProcessRewardFile;
use hearken_reward_source::{
    ProcessReward, ProcessRewardOptions, RewardSource as _, RolloutView, Score, StepAggregation,
    StepScorer,
};
use hearken_run::encode::{Encoded, Encoder, Example as _, StepsExample};
use hearken_run::run_dir::Start;
use hearken_tensor::device::Precision;
use hearken_tensor::{Cpu, Device as _, Reference};
use hearken_train::reward::{self, RewardConfig};
use serde_json::{Value, json};

const CONFIG: &str = "
[reward]
kind = 'process'

[data]
shuffle = false

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 4
steps = 12
";

/// A run in `folder` on `model` and `data`; the error if there is one.
fn run(folder: &Path, model: &Path, data: &Path, more: &[&str]) -> Result<Vec<String>, String> {
    let mut list = vec![
        format!("run.dir={}", folder.join("run").display()),
        format!("model.path={}", model.display()),
        format!("data.train={}", data.display()),
    ];
    list.extend(overrides(more));
    let loaded =
        RewardConfig::load(&config(folder, CONFIG), &list).map_err(|error| error.to_string())?;
    let mut progress = Recorder::new(After::GoOn);
    reward::run(Cpu::new(), &loaded, Start::Resume, &mut progress)
        .map_err(|error| error.to_string())?;
    Ok(progress.notes)
}

fn assert_follows_trl(more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &fixture("prm_model"), &fixture("prm/data.jsonl"), more).unwrap();
    let found = steps(&folder.path().join("run"));
    let expected = json_lines(&fixture("prm/trajectory.jsonl"));
    assert_eq!((found.len(), expected.len()), (12, 12));
    for (found, expected) in found.iter().zip(&expected) {
        for (key, tolerance) in [("loss", 1e-4), ("grad_norm", 1e-3)] {
            let (found, expected) = (number(found, key), number(expected, key));
            let error = (found - expected).abs() / expected.abs();
            assert!(error < tolerance, "{key} {found}, expected {expected}");
        }
    }
}

#[test]
fn steps_are_learned_as_trl_learns_them() {
    assert_follows_trl(&[]);
}

#[test]
fn steps_are_learned_as_trl_learns_them_in_small_microbatches() {
    assert_follows_trl(&["train.microbatch_tokens=100"]);
}

#[test]
fn text_becomes_the_tokens_that_trl_makes() {
    let tokenizer = Tokenizer::load(&fixture("prm_model")).unwrap();
    let config = reward_config(&[]);
    let encoder =
        Encoder::for_model(&fixture("prm_model"), Some(&tokenizer), &config.shared.data).unwrap();
    let encoded = |name: &str| -> Vec<StepsExample> {
        let (records, _) = read(&fixture(name), &ReadOptions::default()).unwrap();
        let of = |record| match StepsExample::encode(record, &encoder).unwrap() {
            // Where they come from, and what their columns say of the scale, differs.
            Encoded::Whole(one) => StepsExample { source: Source::default(), scale: None, ..one },
            other => panic!("{other:?}"),
        };
        let mut all: Vec<StepsExample> = records.iter().map(of).collect();
        all.sort_by(|a, b| a.ids.cmp(&b.ids));
        all
    };
    let (texts, ids) = (encoded("prm/records.jsonl"), encoded("prm/data.jsonl"));
    assert!(texts == ids);
}

fn reward_config(more: &[&str]) -> RewardConfig {
    let folder = tempfile::tempdir().unwrap();
    let required = ["run.dir=run", "model.path=model", "data.train=data.jsonl"];
    let list = overrides(&[&required[..], more].concat());
    RewardConfig::load(&config(folder.path(), CONFIG), &list).unwrap().config
}

/// Parameters of the whole model: gradients of a loss of classes against central differences, in f64.
#[test]
fn gradients_through_classes_are_those_of_central_differences() {
    let options = LoadOptions { head: Head::StepClasses(2), ..LoadOptions::language_model() };
    let (mut model, _) = Model::load(Reference, &fixture("prm_model"), &options).unwrap();
    let mut batch = Batch::new();
    let segment = batch.push(None, &[0, 34, 69, 20, 200, 25, 19, 200]);
    let rows = [4, 7].map(|row| batch.row(segment, row));
    let targets = [[0.0, 1.0], [0.7, 0.3]];
    let losses = |model: &Model<Reference>| {
        let pass = model.forward(&batch, Keep::Activations);
        let logits = model.scalars(&pass, &rows);
        let found: Vec<_> = logits
            .chunks_exact(2)
            .zip(&targets)
            .map(|(logits, target)| {
                class_cross_entropy(&[logits[0].into(), logits[1].into()], target)
            })
            .collect();
        (pass, found)
    };
    let (pass, found) = losses(&model);
    let grads: Vec<f32> =
        found.iter().flat_map(|one| &one.grad_logits).map(|&grad| grad as f32).collect();
    let mut gradients = model.gradients();
    let output = OutputGrads { scalar_rows: &rows, scalar_grads: &grads, ..<_>::default() };
    model.backward(pass, &output, &mut gradients);
    let names = ["score.weight", "score.bias", "model.layers.1.mlp.down_proj.weight"];
    for index in 0..model.params().len() {
        let name = model.params()[index].name.clone();
        if !names.contains(&name.as_str()) {
            continue;
        }
        let before = model.values(index);
        let analytic = download(gradients.get(index).unwrap(), before.len());
        for at in [0, before.len() - 1] {
            const STEP: f32 = 1e-2;
            let mut side = |by: f32| {
                let mut values = before.clone();
                values[at] += by;
                model.params_mut().set_values(index, &values);
                losses(&model).1.iter().map(|one| one.loss).sum::<f64>()
            };
            let numeric = (side(STEP) - side(-STEP)) / f64::from(2.0 * STEP);
            let analytic = f64::from(analytic[at]);
            assert!(
                (numeric - analytic).abs() < 2e-4 * (1.0 + analytic.abs()),
                "{name}[{at}]: {numeric}, {analytic}"
            );
        }
        model.params_mut().set_values(index, &before);
    }
}

fn download(buffer: &<Reference as hearken_tensor::Device>::Buffer, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Reference.download(buffer, 0, &mut values);
    values
}

#[test]
fn the_score_of_a_step_does_not_depend_on_what_follows_it() {
    let options = LoadOptions { head: Head::StepClasses(2), ..LoadOptions::language_model() };
    let (model, _) = Model::load(Cpu::new(), &fixture("prm_model"), &options).unwrap();
    let first = |ids: &[u32]| {
        let mut batch = Batch::new();
        let segment = batch.push(None, ids);
        let row = batch.row(segment, 3);
        model.scalars(&model.forward(&batch, Keep::Nothing), &[row])
    };
    let alone = first(&[0, 34, 69, 200]);
    assert_eq!(alone, first(&[0, 34, 69, 200, 25, 19, 200, 300]));
    assert_eq!(alone.len(), 2);
}

#[test]
fn three_classes_get_a_head_of_their_own_and_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let line =
        json!({"input_ids": [5, 6, 7, 8, 9], "step_ends": [1, 2, 4], "step_labels": [1, 0, -1]});
    fs::write(&data, format!("{line}\n{line}\n")).unwrap();
    let more = ["reward.classes=3", "train.steps=2", "reward.neutral=\"bad\""];
    let notes = run(folder.path(), &llama(), &data, &more).unwrap();
    assert!(
        notes.iter().any(|note| note.contains("2 good and 2 bad steps, 2 neither")),
        "{notes:?}"
    );
    let saved = folder.path().join("run/final");
    assert_eq!(stored_head(&saved).unwrap(), Head::StepClasses(3));
    let json: Value =
        serde_json::from_slice(&fs::read(saved.join("config.json")).unwrap()).unwrap();
    assert_eq!(json["architectures"], json!(["LlamaForTokenClassification"]));
    assert_eq!(json["id2label"], json!({"0": "bad", "1": "neutral", "2": "good"}));
    let stored: Value =
        serde_json::from_slice(&fs::read(saved.join("process_reward.json")).unwrap()).unwrap();
    assert_eq!(stored, json!({"step_separator": "\n", "neutral": "bad"}));
    // The head is kept where a model has one.
    fs::create_dir(folder.path().join("again")).unwrap();
    let notes = run(&folder.path().join("again"), &saved, &data, &more).unwrap();
    assert!(!notes.iter().any(|note| note.contains("new score head")), "{notes:?}");
}

#[test]
fn a_run_over_steps_evaluates_and_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture("prm/data.jsonl");
    let train = |run: &Path, progress: &mut Recorder| {
        let list = [
            format!("run.dir={}", run.display()),
            format!("model.path={}", fixture("prm_model").display()),
            format!("data.train={}", data.display()),
            format!("data.eval={}", data.display()),
        ];
        let more = ["train.save_every=4", "train.eval_every=6", "train.keep_optimizer=true"];
        let list = [&list[..], &overrides(&more)].concat();
        let loaded = RewardConfig::load(&config(folder.path(), CONFIG), &list).unwrap();
        reward::run(Cpu::new(), &loaded, Start::Resume, progress)
    };
    check_interruptions(&train, &[After::Stop(3), After::Die(7)]);
    let run = folder.path().join("evaluated");
    train(&run, &mut Recorder::new(After::GoOn)).unwrap();
    let all = metrics(&run);
    let evaluation = all.iter().rfind(|record| record.get("eval_loss").is_some()).unwrap();
    assert!(evaluation["eval_first_error_f1"]["n"].as_u64().unwrap() > 10, "{evaluation}");
}

#[test]
fn an_adapter_over_classes_is_learned_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (llama(), fixture("prm/data.jsonl"));
    run(folder.path(), &model, &data, &["lora.r=4", "train.steps=3"]).unwrap();
    let saved = folder.path().join("run/final");
    assert_eq!(stored_head(&saved).unwrap(), Head::StepClasses(2));
    let json: Value =
        serde_json::from_slice(&fs::read(saved.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(
        (&json["task_type"], &json["modules_to_save"]),
        (&json!("TOKEN_CLS"), &json!(["score"]))
    );
    let options = LoadOptions { head: Head::StepClasses(2), ..LoadOptions::language_model() };
    Model::load(Cpu::new(), &saved, &options).unwrap();
}

#[test]
fn bad_steps_are_refused_with_their_place() {
    let long: Vec<u32> = (0..300).map(|id| 5 + id % 300).collect();
    let cases: [(Value, &[&str]); 12] = [
        (
            json!({"input_ids": [5, 6], "step_ends": [0, 1], "step_labels": [1]}),
            &["1 labels", "expected 2"],
        ),
        (json!({"input_ids": [5, 6], "step_ends": [], "step_labels": []}), &["step_ends"]),
        (
            json!({"input_ids": [5, 6], "step_ends": [1, 1], "step_labels": [1, 0]}),
            &["step_ends`[1]", "each above"],
        ),
        (
            json!({"input_ids": [5, 6], "step_ends": [2], "step_labels": [1]}),
            &["step_ends`[0]", "0 to 1"],
        ),
        (
            json!({"input_ids": [5, 6], "step_ends": [1], "step_labels": ["yes"]}),
            &["step_labels`[0]", "true, false"],
        ),
        (json!({"input_ids": [5, 6], "step_ends": [1], "step_labels": [2]}), &["step_labels`[0]"]),
        (
            json!({"input_ids": [5, 6], "step_ends": [1], "step_labels": [-1]}),
            &["-1", "reward.scale"],
        ),
        (
            json!({"input_ids": [5, 6], "step_ends": [1], "step_labels": [null]}),
            &["1 steps and no label"],
        ),
        (
            json!({"prompt": "Add.", "completions": ["1", " "], "labels": [true, false]}),
            &["completions`[1]", "empty step"],
        ),
        (
            json!({"prompt": "Add.", "completions": ["1\n2"], "labels": [true]}),
            &["separator", "step 1"],
        ),
        (json!({"prompt": "Add.", "completions": [], "labels": []}), &["completions"]),
        (
            json!({"input_ids": long, "step_ends": [299], "step_labels": [1]}),
            &["300 tokens", "256"],
        ),
    ];
    for (record, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        fs::write(&data, record.to_string()).unwrap();
        let error = run(folder.path(), &fixture("prm_model"), &data, &[]).unwrap_err();
        assert!(error.contains("data.jsonl"), "{record}: {error}");
        for word in words {
            assert!(error.contains(word), "{record}: {error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let line = json!({"input_ids": [5, 6], "step_ends": [0, 1], "step_labels": [true, true]});
    fs::write(&data, line.to_string()).unwrap();
    let error = run(folder.path(), &fixture("prm_model"), &data, &[]).unwrap_err();
    assert!(error.contains("all of them good"), "{error}");
}

#[test]
fn keys_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture("prm/data.jsonl");
    for (more, key) in [
        (["reward.kind=\"preference\"", "reward.classes=3"], "reward.classes"),
        (["reward.kind=\"outcome\"", "reward.center_coef=0.1"], "reward.center_coef"),
        (["reward.kind=\"process\"", "reward.label_smoothing=0.1"], "reward.label_smoothing"),
        (["reward.classes=3", "reward.neutral=\"drop\""], "reward.neutral"),
        (["reward.classes=4", "train.steps=1"], "reward.classes"),
        (["data.step_separator=\"\"", "train.steps=1"], "data.step_separator"),
    ] {
        let error = run(folder.path(), &llama(), &data, &more).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}

/// Right sums and wrong ones: a model that learns tells them apart.
#[test]
fn outcomes_are_learned() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let lines = (0..64_u32).map(|n| {
        let right = n % 2 == 0;
        let last = if right { 40 } else { 41 };
        let ids = json!({"prompt_ids": [5, 6 + n % 5], "completion_ids": [20 + n % 7, last], "label": right});
        format!("{ids}\n")
    });
    fs::write(&data, lines.collect::<String>()).unwrap();
    let eval = format!("data.eval={}", data.display());
    let more = ["reward.kind=\"outcome\"", "train.steps=40", "optimizer.lr=3e-3", eval.as_str()];
    run(folder.path(), &llama(), &data, &more).unwrap();
    let all = metrics(&folder.path().join("run"));
    let evaluations: Vec<&Value> =
        all.iter().filter(|record| record.get("eval_loss").is_some()).collect();
    let accuracy = |record: &Value| record["eval_accuracy"]["value"].as_f64().unwrap();
    assert!(accuracy(evaluations[evaluations.len() - 1]) > 0.95, "{evaluations:?}");
    let saved = folder.path().join("run/final");
    assert_eq!(stored_head(&saved).unwrap(), Head::Score);
    assert!(saved.join("score_normalization.json").exists());
}

/// As PRM800K's rows are, with an alternative step, a neutral one, one that nobody rated, and a row that ends early.
#[test]
fn rows_of_prm800k_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("phase2.jsonl");
    let completion =
        |text: &str, rating: Value| json!({"text": text, "rating": rating, "flagged": false});
    let row = json!({
        "labeler": "a", "timestamp": "2022-07-24T01:29:50.512", "generation": null,
        "is_quality_control_question": false, "is_initial_screening_question": false,
        "question": {"problem": "Add.", "ground_truth_answer": "3"},
        "label": {"finish_reason": "found_error", "total_time": 1000, "steps": [
            {"completions": [completion("1", json!(1)), completion("2", json!(-1))],
             "human_completion": null, "chosen_completion": 0},
            {"completions": [completion("3", json!(0))], "human_completion": null, "chosen_completion": 0},
            {"completions": [completion("4", json!(null)), completion("5", json!(-1))],
             "human_completion": null, "chosen_completion": null},
        ]},
    });
    fs::write(&data, format!("{row}\n")).unwrap();
    let notes = run(folder.path(), &fixture("prm_model"), &data, &["train.steps=1"]).unwrap();
    let counts = notes.iter().find(|note| note.contains("good and")).unwrap();
    // The path and two alternatives; the neutral step counts as good.
    assert!(counts.contains("good and") && counts.contains("bad steps"), "{counts}");
    assert!(!counts.contains("neither"), "{counts}");
}

fn rewarded(
    rewards: StepRewards,
    aggregate: StepAggregation,
    completion: &str,
) -> (Score, Vec<u32>) {
    let policy = Tokenizer::load(&fixture("prm_model")).unwrap();
    let options = ProcessRewardOptions {
        name: "process".into(),
        path: fixture("prm_model"),
        precision: Precision::F32,
        masters: Masters::Drop,
        aggregate,
        rewards,
        microbatch_tokens: 4096,
    };
    let mut source = ProcessReward::load(Cpu::new(), options, Some(&policy)).unwrap();
    let prompt = "Add 77, 71, 18.";
    let ids = policy.encode_continuation(completion, SpecialText::Literal).unwrap();
    let rollout = RolloutView {
        prompt,
        messages: None,
        completion,
        prompt_ids: &policy.encode(prompt, Bos::AsConfigured).unwrap(),
        completion_ids: &ids,
        ended: true,
        fields: &serde_json::Map::new(),
    };
    let mut scores = source.score(&[rollout]).unwrap();
    (scores.remove(0), ids)
}

/// A reward at the end of each step; splitting a step in two earns more only where scores are added up.
#[test]
fn rewards_of_steps_fall_on_their_last_tokens_and_cannot_be_farmed() {
    let text = "77 + 71 = 148\n148 + 18 = 166";
    let (score, ids) = rewarded(StepRewards::Steps, StepAggregation::Product, text);
    let Score::Steps(steps) = score else { panic!("{score:?}") };
    let separator = ids.iter().position(|id| *id == 200).unwrap();
    let lasts: Vec<usize> = steps.iter().map(|step| step.last).collect();
    assert_eq!(lasts, [separator, ids.len() - 1]);
    let each: Vec<f64> = steps.iter().map(|step| step.score).collect();
    let (whole, _) = rewarded(StepRewards::Whole, StepAggregation::Product, text);
    assert!((whole.total() - each[0] * each[1]).abs() < 1e-12);
    let (differences, _) = rewarded(StepRewards::Differences, StepAggregation::Product, text);
    let Score::Steps(found) = &differences else { panic!("{differences:?}") };
    assert!((found[0].score - each[0]).abs() < 1e-12);
    assert!((differences.total() - whole.total()).abs() < 1e-12);
    // Ten times the same step.
    let farmed = format!("{text}\n{}", "166 + 0 = 166\n".repeat(10));
    let total = |rewards, aggregate, text: &str| rewarded(rewards, aggregate, text).0.total();
    let sum = StepAggregation::Product;
    assert!(1.0 < total(StepRewards::Steps, sum, &farmed) - total(StepRewards::Steps, sum, text));
    for aggregate in [StepAggregation::Product, StepAggregation::Min] {
        let of = |text| total(StepRewards::Differences, aggregate, text);
        assert!(of(&farmed) <= of(text) + 1e-12);
        assert!((0.0..=1.0).contains(&of(&farmed)));
    }
    // Who writes nothing has earned nothing.
    assert!(rewarded(StepRewards::Differences, sum, " \n").0.total().abs() < 1e-12);
}

/// A reward model on outcomes alone says of each part of a solution how likely the whole is right.
#[test]
fn implicit_scores_of_steps_are_ratios_up_to_their_ends() {
    let load = || Model::load(Cpu::new(), &llama(), &LoadOptions::language_model()).unwrap().0;
    let (mut policy, reference) = (load(), load());
    let tokens = StepTokens { ids: vec![5, 6, 7, 8, 9], ends: vec![2, 4], prompt_len: 2 };
    let same = StepScorer::implicit((load(), load()), 0.1, ProcessRewardFile::default());
    assert_eq!(same.scores(std::slice::from_ref(&tokens), 99), [[0.5, 0.5]]);
    let values: Vec<f32> = policy.values(0).iter().map(|value| value * 1.1).collect();
    policy.params_mut().set_values(0, &values);
    let logprobs = |model: &Model<Cpu>| {
        let mut batch = Batch::new();
        batch.push(None, &tokens.ids);
        let predictions = Model::<Cpu>::next_token_predictions(&tokens.ids, 0);
        let pass = model.forward(&batch, Keep::Nothing);
        model.logprobs(&pass, &predictions, <_>::default()).logprobs
    };
    let ratios: Vec<f64> = logprobs(&policy)
        .iter()
        .zip(logprobs(&reference))
        .map(|(policy, reference)| f64::from(policy - reference))
        .collect();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // The prediction of the first token of the first step is that of place 2.
    let expected = [sigmoid(0.3 * ratios[1]), sigmoid(0.3 * (ratios[1] + ratios[2] + ratios[3]))];
    let scorer = StepScorer::implicit((policy, reference), 0.3, ProcessRewardFile::default());
    let found = scorer.scores(&[tokens], 99).remove(0);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
    }
}
