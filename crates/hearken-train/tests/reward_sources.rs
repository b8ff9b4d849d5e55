//! Reward models as sources of scores: whose tokens they read, and what is applied to their scores.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hearken_model::tokenizer::{Bos, SpecialText, SpecialTokens};
use hearken_model::{Batch, Keep, LoadOptions, Model, Tokenizer};
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use hearken_train::reward_source::{
    RewardError, RewardModel, RewardModelOptions, RewardSource, RolloutView,
};
use serde_json::Map;
use support::fixture;

fn policy_tokenizer() -> Tokenizer {
    Tokenizer::load(&fixture("rm_model")).unwrap()
}

fn load(path: &Path, normalize: bool, microbatch_tokens: usize) -> RewardModel<Cpu> {
    let options = RewardModelOptions {
        name: "model".to_owned(),
        path: path.to_owned(),
        precision: Precision::F32,
        normalize,
        microbatch_tokens,
    };
    RewardModel::load(Cpu::new(), &options, Some(&policy_tokenizer())).unwrap()
}

/// The score of one sequence by itself.
fn score_of(path: &Path, ids: &[u32]) -> f64 {
    let (model, _) = Model::load(Cpu::new(), path, &LoadOptions::scorer()).unwrap();
    let mut batch = Batch::new();
    batch.push(None, ids);
    let pass = model.forward(&batch, Keep::Nothing);
    f64::from(model.scalars(&pass, &[ids.len() - 1])[0])
}

fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    to.to_owned()
}

struct Completed {
    prompt: &'static str,
    completion: &'static str,
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
}

fn completed() -> Vec<Completed> {
    let tokenizer = policy_tokenizer();
    [("To be", ", or not"), ("To be", " brave"), ("My lord", ", he is dead")]
        .into_iter()
        .map(|(prompt, completion)| {
            let mut completion_ids =
                tokenizer.encode_continuation(completion, SpecialText::Literal).unwrap();
            completion_ids.extend(tokenizer.eos_for_training());
            let prompt_ids = tokenizer.encode(prompt, Bos::AsConfigured).unwrap();
            Completed { prompt, completion, prompt_ids, completion_ids }
        })
        .collect()
}

static NO_FIELDS: LazyLock<Map<String, serde_json::Value>> = LazyLock::new(Map::new);

fn view(one: &Completed) -> RolloutView<'_> {
    let Completed { prompt, completion, prompt_ids, completion_ids } = one;
    RolloutView { prompt, completion, prompt_ids, completion_ids, ended: true, fields: &NO_FIELDS }
}

fn views(completed: &[Completed]) -> Vec<RolloutView<'_>> {
    completed.iter().map(view).collect()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
    }
}

#[test]
fn with_the_policys_tokenizer_the_sampled_ids_are_read_at_their_last_token() {
    let completed = completed();
    let path = fixture("rm_model");
    let sequence = |one: &Completed| [one.prompt_ids.clone(), one.completion_ids.clone()].concat();
    let expected: Vec<f64> = completed.iter().map(|one| score_of(&path, &sequence(one))).collect();
    for microbatch_tokens in [1, 20, 1000] {
        let mut model = load(&path, true, microbatch_tokens);
        assert_close(&model.score(&views(&completed)).unwrap(), &expected);
    }
}

#[test]
fn a_stored_mean_and_deviation_are_applied_unless_raw_scores_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(&fixture("rm_model"), &folder.path().join("rm"));
    let stored = r#"{"mean": 0.25, "std": 0.5, "n": 10}"#;
    fs::write(path.join("score_normalization.json"), stored).unwrap();
    let completed = completed();
    let raw = load(&path, false, 1000).score(&views(&completed)).unwrap();
    let normalized = load(&path, true, 1000).score(&views(&completed)).unwrap();
    let expected: Vec<f64> = raw.iter().map(|score| (score - 0.25) / 0.5).collect();
    assert_close(&normalized, &expected);
    assert_close(&raw, &load(&fixture("rm_model"), true, 1000).score(&views(&completed)).unwrap());
}

#[test]
fn with_another_tokenizer_the_texts_are_encoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(&fixture("rm_model"), &folder.path().join("rm"));
    let texts = ["To be, or not to be", "My lord, he is dead"].map(str::to_owned).into_iter();
    let own = Tokenizer::train_bpe(texts, 280, &SpecialTokens::default()).unwrap();
    own.save(&path).unwrap();
    let completed = completed();
    let expected: Vec<f64> = completed
        .iter()
        .map(|one| {
            let mut ids = own.encode(one.prompt, Bos::AsConfigured).unwrap();
            ids.extend(own.encode_continuation(one.completion, SpecialText::Literal).unwrap());
            ids.extend(own.eos_for_training());
            score_of(&path, &ids)
        })
        .collect();
    assert_close(&load(&path, true, 1000).score(&views(&completed)).unwrap(), &expected);
}

#[test]
fn what_a_reward_model_cannot_read_is_an_error_that_shows_it() {
    let mut model = load(&fixture("rm_model"), true, 1000);
    let mut completed = completed();
    completed[1].completion_ids = vec![5; 300];
    let error = model.score(&views(&completed)).unwrap_err();
    assert!(matches!(error, RewardError::Unreadable { .. }));
    let error = error.to_string();
    assert!(error.contains("at most 256") && error.contains(" brave"), "{error}");
    completed[1].completion_ids = vec![384];
    let error = model.score(&views(&completed)).unwrap_err().to_string();
    assert!(error.contains("token id 384"), "{error}");
}

#[test]
fn a_folder_without_a_reward_model_is_an_error_that_names_it() {
    let options = RewardModelOptions {
        name: "model".to_owned(),
        path: "no/such/model".into(),
        precision: Precision::F32,
        normalize: true,
        microbatch_tokens: 10,
    };
    let error = RewardModel::load(Cpu::new(), &options, None).unwrap_err().to_string();
    assert!(error.contains("no/such/model"), "{error}");
    // A language model has no score head, and none is made up here.
    let options = RewardModelOptions { path: support::llama(), ..options };
    let error = RewardModel::load(Cpu::new(), &options, Some(&policy_tokenizer())).unwrap_err();
    assert!(error.to_string().contains("score"), "{error}");
}
