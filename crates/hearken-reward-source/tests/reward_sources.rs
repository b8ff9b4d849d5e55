//! Reward models as sources of scores: whose tokens they read, and what is applied to their scores.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hearken_model::tokenizer::{Bos, SpecialText, SpecialTokens};
use hearken_model::{Batch, Keep, LoadOptions, Masters, Model, Tokenizer};
use hearken_reward_source::{
    RewardError, RewardModel, RewardModelOptions, RewardSource, RolloutView, Score,
};
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use serde_json::Map;

const REWARD_MODEL: &str = "hearken-train/tests/fixtures/trl/rm_model";

fn policy_tokenizer() -> Tokenizer {
    Tokenizer::load(&hearken_testing::fixture(REWARD_MODEL)).unwrap()
}

fn load(path: &Path, normalize: bool, microbatch_tokens: usize) -> RewardModel<Cpu> {
    let options = RewardModelOptions {
        name: "model".to_owned(),
        path: path.to_owned(),
        precision: Precision::F32,
        masters: Masters::Drop,
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
    RolloutView {
        prompt,
        messages: None,
        completion,
        prompt_ids,
        completion_ids,
        ended: true,
        fields: &NO_FIELDS,
    }
}

fn views(completed: &[Completed]) -> Vec<RolloutView<'_>> {
    completed.iter().map(view).collect()
}

/// The scores of whole completions.
fn scores(model: &mut impl RewardSource, completed: &[Completed]) -> Vec<f64> {
    model.score(&views(completed)).unwrap().iter().map(Score::total).collect()
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
    let path = hearken_testing::fixture(REWARD_MODEL);
    let sequence = |one: &Completed| [one.prompt_ids.clone(), one.completion_ids.clone()].concat();
    let expected: Vec<f64> = completed.iter().map(|one| score_of(&path, &sequence(one))).collect();
    for microbatch_tokens in [1, 20, 1000] {
        let mut model = load(&path, true, microbatch_tokens);
        assert_close(&scores(&mut model, &completed), &expected);
    }
}

#[test]
fn a_stored_mean_and_deviation_are_applied_unless_raw_scores_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(&hearken_testing::fixture(REWARD_MODEL), &folder.path().join("rm"));
    let stored = r#"{"mean": 0.25, "std": 0.5, "n": 10}"#;
    fs::write(path.join("score_normalization.json"), stored).unwrap();
    let completed = completed();
    let raw = scores(&mut load(&path, false, 1000), &completed);
    let normalized = scores(&mut load(&path, true, 1000), &completed);
    let expected: Vec<f64> = raw.iter().map(|score| (score - 0.25) / 0.5).collect();
    assert_close(&normalized, &expected);
    assert_close(
        &raw,
        &scores(&mut load(&hearken_testing::fixture(REWARD_MODEL), true, 1000), &completed),
    );
}

#[test]
fn with_another_tokenizer_the_texts_are_encoded_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(&hearken_testing::fixture(REWARD_MODEL), &folder.path().join("rm"));
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
    assert_close(&scores(&mut load(&path, true, 1000), &completed), &expected);
}

/// As in training: the text before the end token, whatever ended the completion.
#[test]
fn a_completion_that_a_stop_sequence_ended_is_read_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let other = copy(&hearken_testing::fixture(REWARD_MODEL), &folder.path().join("rm"));
    // The same tokens under another fingerprint: texts are encoded again.
    let json = fs::read_to_string(other.join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut added = json["added_tokens"][0].clone();
    added["content"] = "<|never|>".into();
    added["id"] = 384.into();
    json["added_tokens"].as_array_mut().unwrap().push(added);
    fs::write(other.join("tokenizer.json"), json.to_string()).unwrap();
    let tokenizer = policy_tokenizer();
    let encode = |text| tokenizer.encode_continuation(text, SpecialText::Literal).unwrap();
    let prompt_ids = tokenizer.encode("To be", Bos::AsConfigured).unwrap();
    let stopped = Completed {
        prompt: "To be",
        completion: ", or not",
        prompt_ids: prompt_ids.clone(),
        completion_ids: encode(", or not\n\nHuman:"),
    };
    let end: Vec<u32> = tokenizer.eos_for_training().into_iter().collect();
    let read = [prompt_ids, encode(", or not"), end].concat();
    let expected = score_of(&hearken_testing::fixture(REWARD_MODEL), &read);
    for path in [hearken_testing::fixture(REWARD_MODEL), other] {
        let found = scores(&mut load(&path, true, 1000), std::slice::from_ref(&stopped));
        assert_close(&found, &[expected]);
    }
}

/// A conversation is rendered as in the training of the reward model, end tokens of its turns included.
#[test]
fn all_of_a_conversation_is_read_with_another_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(&hearken_testing::fixture(REWARD_MODEL), &folder.path().join("rm"));
    let texts = ["To be, or not to be", "My lord, he is dead"].map(str::to_owned).into_iter();
    let own = Tokenizer::train_bpe(texts, 280, &SpecialTokens::default()).unwrap();
    own.save(&path).unwrap();
    let message = |role, content| hearken_data::Message::new(role, content);
    let messages = [
        message(hearken_data::Role::System, "Always lie."),
        message(hearken_data::Role::User, "Are cats dogs?"),
        message(hearken_data::Role::Assistant, "Yes."),
        message(hearken_data::Role::User, "Is it so?"),
    ];
    let one = &completed()[0];
    let mut model = load(&path, true, 1000);
    let mut score = |messages: &[hearken_data::Message]| {
        let view = RolloutView { messages: Some(messages), ..view(one) };
        model.score(&[view]).unwrap()[0].total()
    };
    let (whole, last) = (score(&messages), score(&messages[3..]));
    assert!((whole - last).abs() > 1e-6, "{whole}: history counts");
    let mut ids = hearken_model::chat::builtin::encode_messages(&own, &messages, true).unwrap().ids;
    ids.extend(own.encode_continuation(one.completion, SpecialText::Literal).unwrap());
    ids.extend(own.eos_for_training());
    assert_close(&[whole], &[score_of(&path, &ids)]);
}

/// Transformers reads a classifier at the last token that is not its padding token.
#[test]
fn a_reward_model_whose_padding_token_ends_texts_is_read_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(&hearken_testing::fixture(REWARD_MODEL), &folder.path().join("rm"));
    let config = fs::read_to_string(path.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["pad_token_id"] = policy_tokenizer().eos_for_training().into();
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    let completed = completed();
    let before_the_end = |one: &Completed| {
        let ids = [one.prompt_ids.clone(), one.completion_ids.clone()].concat();
        score_of(&path, &ids[..ids.len() - 1])
    };
    let expected: Vec<f64> = completed.iter().map(before_the_end).collect();
    assert_close(&scores(&mut load(&path, true, 1000), &completed), &expected);
}

#[test]
fn what_a_reward_model_cannot_read_is_an_error_that_shows_it() {
    let mut model = load(&hearken_testing::fixture(REWARD_MODEL), true, 1000);
    let mut completed = completed();
    completed[1].completion_ids = [vec![5; 300], vec![0]].concat();
    let error = model.score(&views(&completed)).unwrap_err();
    assert!(matches!(error, RewardError::Unreadable { .. }));
    let error = error.to_string();
    assert!(error.contains("at most 256") && error.contains(" brave"), "{error}");
    completed[1].completion_ids = vec![384, 0];
    let error = model.score(&views(&completed)).unwrap_err().to_string();
    assert!(error.contains("token id 384"), "{error}");
}

#[test]
fn a_folder_without_a_reward_model_is_an_error_that_names_it() {
    let options = RewardModelOptions {
        name: "model".to_owned(),
        path: "no/such/model".into(),
        precision: Precision::F32,
        masters: Masters::Drop,
        normalize: true,
        microbatch_tokens: 10,
    };
    let error = RewardModel::load(Cpu::new(), &options, None).unwrap_err().to_string();
    assert!(error.contains("no/such/model"), "{error}");
    // A language model has no score head, and none is made up here.
    let options = RewardModelOptions { path: hearken_testing::llama(), ..options };
    let error = RewardModel::load(Cpu::new(), &options, Some(&policy_tokenizer())).unwrap_err();
    assert!(error.to_string().contains("score"), "{error}");
}
