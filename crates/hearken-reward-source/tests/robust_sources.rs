//! Several reward models as one source, what flattens a score, and how far completions are from a baseline.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::Path;

use hearken_model::config::ModelConfig;
use hearken_model::tokenizer::{Bos, SpecialText};
use hearken_model::{Batch, Head, Keep, LoadOptions, Masters, Model, ParticleShape, Tokenizer};
use hearken_objective::bounded::Bound;
use hearken_objective::ensemble::{Combination, spread};
use hearken_reward_source::{
    Bounded, Distance, Ensemble, Pace, RewardError, RewardModel, RewardModelOptions, RewardSource,
    RolloutView, Score, WeightedSum,
};
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use serde_json::{Map, Value, json};

const REWARD_MODEL: &str = "hearken-train/tests/fixtures/trl/rm_model";

fn load(path: &Path, name: &str) -> RewardModel<Cpu> {
    let options = RewardModelOptions {
        name: name.to_owned(),
        path: path.to_owned(),
        precision: Precision::F32,
        masters: Masters::Drop,
        normalize: false,
        microbatch_tokens: 64,
    };
    let tokenizer = Tokenizer::load(&hearken_testing::fixture(REWARD_MODEL)).unwrap();
    RewardModel::load(Cpu::new(), &options, Some(&tokenizer)).unwrap()
}

/// The fixture, and a model of the same shape with other weights and the same tokenizer.
fn two_models(folder: &Path) -> [RewardModel<Cpu>; 2] {
    let path = hearken_testing::fixture(REWARD_MODEL);
    let config = ModelConfig::read(&path).unwrap();
    let other = Model::init(Cpu::new(), config, Head::Score, Precision::F32, 5);
    other.save(folder).unwrap();
    Tokenizer::load(&path).unwrap().save(folder).unwrap();
    [load(&path, "one"), load(folder, "other")]
}

struct Completed {
    prompt: String,
    completion: String,
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
    fields: Map<String, Value>,
}

fn completed(prompt: &str, completion: &str, fields: Value) -> Completed {
    let tokenizer = Tokenizer::load(&hearken_testing::fixture(REWARD_MODEL)).unwrap();
    let mut completion_ids =
        tokenizer.encode_continuation(completion, SpecialText::Literal).unwrap();
    completion_ids.extend(tokenizer.eos_for_training());
    let prompt_ids = tokenizer.encode(prompt, Bos::AsConfigured).unwrap();
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    let [prompt, completion] = [prompt, completion].map(str::to_owned);
    Completed { prompt, completion, prompt_ids, completion_ids, fields }
}

fn view(one: &Completed) -> RolloutView<'_> {
    RolloutView {
        prompt: &one.prompt,
        messages: None,
        completion: &one.completion,
        prompt_ids: &one.prompt_ids,
        completion_ids: &one.completion_ids,
        ended: true,
        fields: &one.fields,
    }
}

fn several() -> Vec<Completed> {
    [("To be", ", or not"), ("To be", " brave"), ("My lord", ", he is dead")]
        .map(|(prompt, completion)| completed(prompt, completion, json!({})))
        .into()
}

fn totals(scores: &[Score]) -> Vec<f64> {
    scores.iter().map(Score::total).collect()
}

#[test]
fn an_ensemble_combines_what_its_members_say_and_measures_how_far_they_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let completed = several();
    let views: Vec<_> = completed.iter().map(view).collect();
    let [mut one, mut other] = two_models(folder.path());
    let alone = [one.score(&views).unwrap(), other.score(&views).unwrap()].map(|of| totals(&of));
    for combination in [
        Combination::Mean,
        Combination::WorstCase,
        Combination::UncertaintyWeighted { weight: 0.5 },
    ] {
        let members = two_models(folder.path()).into();
        let mut sum = WeightedSum::new();
        sum.push(Box::new(Ensemble::new("both", members, combination)), 2.0);
        sum.label_last("panel");
        let found = sum.sum(&views).unwrap();
        for (at, (first, second)) in alone[0].iter().zip(&alone[1]).enumerate() {
            let members = [*first, *second];
            let combined = combination.combine(&members);
            assert!((found.total[at] - 2.0 * combined).abs() < 1e-9);
            assert!((found.by_source[0].1[at] - combined).abs() < 1e-9);
            assert!((found.by_source[1].1[at] - spread(&members)).abs() < 1e-9);
        }
        let names: Vec<&str> = found.by_source.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["panel", "panel/spread"]);
        assert!(0.0 < found.by_source[1].1[0], "models of other weights disagree");
    }
    assert_eq!(one.pace(), Pace::Afterwards);
}

/// The reference's completion is a text, and is read in the very tokens that the policy would have sampled.
#[test]
fn a_completion_that_is_the_references_gains_a_half() {
    let model = load(&hearken_testing::fixture(REWARD_MODEL), "model");
    let mut source = Bounded::new(Box::new(model), Bound::Sigmoid, Some("reference"));
    let same = completed("To be", " brave", json!({"reference": " brave"}));
    let other = completed("To be", " brave", json!({"reference": [" brave", ", or not"]}));
    let scores = totals(&source.score(&[view(&same), view(&other)]).unwrap());
    assert!((scores[0] - 0.5).abs() < 1e-6, "{scores:?}");
    let mut alone = load(&hearken_testing::fixture(REWARD_MODEL), "model");
    let rest = completed("To be", ", or not", json!({}));
    let raw = totals(&alone.score(&[view(&same), view(&rest)]).unwrap());
    let expected = Bound::Sigmoid.of(raw[0], &[raw[0], raw[1]]);
    assert!((scores[1] - expected).abs() < 1e-6, "{scores:?}, expected {expected}");
}

/// Records like `prompt`, and as many words behind it.
fn baseline(folder: &Path, count: usize) -> std::path::PathBuf {
    let path = folder.join("baseline.jsonl");
    let words = ["brave", "or", "not", "dead", "he", "is", "my", "lord", "to", "be", "the", "and"];
    let line = |at: usize| {
        let word = |step: usize| words[(at * 7 + step * (1 + at / 12)) % words.len()];
        let completion = " ".to_owned() + &[0, 1, 2, 3].map(word).join(" ");
        json!({"prompt": "To be", "completion": completion}).to_string() + "\n"
    };
    fs::write(&path, (0..count).map(line).collect::<String>()).unwrap();
    path
}

#[test]
fn what_no_completion_of_the_baseline_looks_like_is_far_away_and_an_outlier() {
    let folder = tempfile::tempdir().unwrap();
    let path = hearken_testing::fixture(REWARD_MODEL);
    let baseline = baseline(folder.path(), 60);
    let mut source = Distance::new(load(&path, "distance"), &baseline, 0.9).unwrap();
    let near = completed("To be", " the lord is brave", json!({}));
    let far = completed("@@@", &"#%&*=+".repeat(6), json!({}));
    let found = source.measured(Pace::Afterwards, &[view(&near), view(&far)]).unwrap();
    let [distances, outliers] = [totals(&found[0]), totals(&found[1])];
    assert!(distances[0] < distances[1] && 0.0 < distances[0], "{distances:?}");
    assert!((outliers[1] - 1.0).abs() < 1e-12, "{distances:?} {outliers:?}");
    assert!(source.measured(Pace::Meanwhile, &[view(&near)]).unwrap().is_empty());
    let names: Vec<_> = source.measures().into_iter().map(|one| (one.name, one.weight)).collect();
    assert_eq!(names, [("distance".to_owned(), 1.0), ("outliers".to_owned(), 0.0)]);
}

#[test]
fn a_baseline_that_says_too_little_is_named_with_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = hearken_testing::fixture(REWARD_MODEL);
    let error = |file: &Path| -> RewardError {
        Distance::new(load(&path, "distance"), file, 0.95).unwrap_err()
    };
    let few = error(&baseline(folder.path(), 20)).to_string();
    assert!(few.contains("baseline.jsonl: found 20 completions, expected at least 38"), "{few}");
    let none = error(&folder.path().join("none.jsonl")).to_string();
    assert!(none.contains("none.jsonl"), "{none}");
    let alike = folder.path().join("alike.jsonl");
    let line = json!({"prompt": "To be", "completion": " brave"}).to_string() + "\n";
    fs::write(&alike, line.repeat(40)).unwrap();
    let alike = error(&alike).to_string();
    assert!(alike.contains("alike.jsonl: found completions that are all alike"), "{alike}");
    let text = folder.path().join("text.jsonl");
    fs::write(&text, json!({"text": "To be"}).to_string() + "\n").unwrap();
    let text = error(&text).to_string();
    assert!(text.contains("text.jsonl:1") && text.contains("`prompt` and `completion`"), "{text}");
}

/// Particles are as many reward models on one trunk.
#[test]
fn an_ensemble_of_one_model_with_particles_is_one_of_its_particles() {
    let folder = tempfile::tempdir().unwrap();
    let path = hearken_testing::fixture(REWARD_MODEL);
    let mut model = Model::load(Cpu::new(), &path, &LoadOptions::scorer()).unwrap().0;
    model.add_particles(ParticleShape { count: 3, width: 8, prior_scale: 2.0 }, 4);
    model.save(folder.path()).unwrap();
    Tokenizer::load(&path).unwrap().save(folder.path()).unwrap();
    let completed = several();
    let views: Vec<_> = completed.iter().map(view).collect();
    let expected: Vec<Vec<f64>> = completed
        .iter()
        .map(|one| {
            let mut batch = Batch::new();
            let ids = [one.prompt_ids.clone(), one.completion_ids.clone()].concat();
            let segment = batch.push(None, &ids);
            let row = batch.last_row(segment).unwrap();
            let pass = model.forward(&batch, Keep::Nothing);
            model.particle_scores(&pass, &[row]).into_iter().map(f64::from).collect()
        })
        .collect();
    let members = vec![load(folder.path(), "sure")];
    let ensemble = Ensemble::of_particles("sure", members, Combination::WorstCase).unwrap();
    let mut sum = WeightedSum::new();
    sum.push(Box::new(ensemble), 1.0);
    let found = sum.sum(&views).unwrap();
    for (at, of) in expected.iter().enumerate() {
        assert!((found.total[at] - Combination::WorstCase.combine(of)).abs() < 1e-4);
        assert!((found.by_source[1].1[at] - spread(of)).abs() < 1e-4);
        assert!(0.01 < spread(of), "priors disagree");
    }
    // A model without particles has one opinion, which is no ensemble.
    let alone = vec![load(&path, "plain")];
    let error = Ensemble::of_particles("plain", alone, Combination::Mean).unwrap_err().to_string();
    for part in ["rm_model", "found no particles"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}
