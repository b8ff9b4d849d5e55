//! Every architecture against Transformers: logits, log-probabilities and every parameter's
//! gradient (see `fixtures/hf/PROVENANCE.md`).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../hearken-tensor/tests/support/families.rs"]
mod families;
mod support;

use hearken_model::{Gradients, Keep, LoadOptions, Model, OutputGrads};
use hearken_tensor::device::{HeadOptions, Prediction, PredictionGrad};
use hearken_tensor::{Cpu, Device, Reference};
use support::{FAMILIES, Golden, fixture, golden_batch, relative_difference};

fn load(family: &str) -> Model<Cpu> {
    load_on(families::cpu(), family)
}

fn load_on<D: Device>(device: D, family: &str) -> Model<D> {
    Model::load(device, &fixture(family), &LoadOptions::language_model()).unwrap().0
}

#[test]
fn kernels_of_every_family_pass_these_tests() {
    families::pass_under_every_family(&[]);
}

#[test]
fn logits_are_those_of_transformers() {
    check_logits(&families::cpu());
}

#[test]
fn logits_of_the_slow_device_are_those_of_transformers() {
    check_logits(&Reference);
}

fn check_logits<D: Device>(device: &D) {
    for family in FAMILIES {
        let (model, golden) = (load_on(device.clone(), family), Golden::read(family));
        let sequences = golden.sequences();
        let (batch, segments) = golden_batch(&sequences);
        let pass = model.forward(&batch, Keep::Nothing);
        let (shape, expected) = golden.tensor("logits");
        for (index, sequence) in sequences.iter().enumerate() {
            let rows: Vec<usize> =
                (0..sequence.len()).map(|t| batch.row(segments[index], t)).collect();
            let logits = model.logits(&pass, &rows);
            let start = index * shape[1] * shape[2];
            let expected = &expected[start..start + logits.len()];
            let difference =
                logits.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 1e-4, "{family}, sequence {index}: {difference}");
        }
    }
}

#[test]
fn logprobs_and_loss_are_those_of_transformers() {
    for family in FAMILIES {
        let (model, golden) = (load(family), Golden::read(family));
        let sequences = golden.sequences();
        let (batch, _) = golden_batch(&sequences);
        let pass = model.forward(&batch, Keep::Nothing);
        let predictions = Golden::predictions(&sequences);
        let output = model.logprobs(&pass, &predictions, HeadOptions::default());
        let expected = golden.logprobs(&sequences);
        for (actual, expected) in output.logprobs.iter().zip(&expected) {
            assert!((actual - expected).abs() < 1e-4, "{family}: {actual} {expected}");
        }
        let loss =
            -output.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>() / predictions.len() as f64;
        let expected = f64::from(golden.tensor("loss").1[0]);
        assert!((loss - expected).abs() < 1e-5, "{family}: {loss} {expected}");
    }
}

fn gradients_of_loss<D: Device>(
    model: &Model<D>,
    predictions: &[Prediction],
    sequences: &[Vec<u32>],
    keep: Keep,
) -> Gradients<D> {
    let (batch, _) = golden_batch(sequences);
    let grad = PredictionGrad { logprob: -1.0 / predictions.len() as f32, entropy: 0.0 };
    let grads = vec![grad; predictions.len()];
    let mut gradients = model.gradients();
    let pass = model.forward(&batch, keep);
    let output = OutputGrads {
        predictions,
        prediction_grads: &grads,
        head: HeadOptions::default(),
        ..OutputGrads::default()
    };
    model.backward(pass, &output, &mut gradients);
    gradients
}

#[test]
fn gradients_are_those_of_transformers() {
    check_gradients(&families::cpu());
}

#[test]
fn gradients_of_the_slow_device_are_those_of_transformers() {
    check_gradients(&Reference);
}

fn check_gradients<D: Device>(device: &D) {
    for family in FAMILIES {
        let (model, golden) = (load_on(device.clone(), family), Golden::read(family));
        let sequences = golden.sequences();
        let predictions = Golden::predictions(&sequences);
        for keep in [Keep::Activations, Keep::BlockInputs] {
            let gradients = gradients_of_loss(&model, &predictions, &sequences, keep);
            for (index, param) in model.params().iter().enumerate() {
                // Transformers calls NeoX's head `lm_head` in memory and `embed_out` on disk.
                let name = param.name.replace("embed_out", "lm_head");
                let (_, expected) = golden.tensor(&format!("grad.{name}"));
                let actual = support::download(&model, gradients.get(index).unwrap(), param.len());
                let difference = relative_difference(&actual, &expected);
                assert!(difference < 1e-5, "{family} {keep:?} {}: {difference:e}", param.name);
            }
        }
    }
}

/// Freezing changes nothing but what is computed: the gradients that remain are the same bits.
#[test]
fn frozen_parameters_get_no_gradient_and_change_no_other() {
    for family in FAMILIES {
        let (mut model, golden) = (load(family), Golden::read(family));
        let sequences = golden.sequences();
        let predictions = Golden::predictions(&sequences);
        let whole = gradients_of_loss(&model, &predictions, &sequences, Keep::Activations);
        let patterns: [fn(&str) -> bool; 4] = [
            |name| name.contains(".1."),
            |name| name.ends_with("norm.weight") || name.contains("ln_f"),
            |name| name.contains("down_proj") || name.contains("mlp"),
            |name| name.contains("embed_out") || name.contains("lm_head"),
        ];
        for pattern in patterns {
            model.set_trainable(pattern);
            let some = gradients_of_loss(&model, &predictions, &sequences, Keep::Activations);
            for (index, param) in model.params().iter().enumerate() {
                assert_eq!(some.get(index).is_some(), pattern(&param.name));
                let Some(actual) = some.get(index) else { continue };
                let actual = support::download(&model, actual, param.len());
                let expected = support::download(&model, whole.get(index).unwrap(), param.len());
                assert_eq!(actual, expected, "{family} {}", param.name);
            }
        }
    }
}

/// A parameter that the batch does not touch gets a gradient of exactly 0.
#[test]
fn untouched_embeddings_have_zero_gradient() {
    for family in ["mistral", "qwen2", "gpt_neox"] {
        let (model, golden) = (load(family), Golden::read(family));
        let sequences = golden.sequences();
        let predictions = Golden::predictions(&sequences);
        let gradients = gradients_of_loss(&model, &predictions, &sequences, Keep::Activations);
        let used = |token: usize| sequences.iter().flatten().any(|&used| used as usize == token);
        let index = model.params().iter().position(|p| p.name.contains("embed_")).unwrap();
        let param = &model.params()[index];
        let grad = support::download(&model, gradients.get(index).unwrap(), param.len());
        let width = param.shape[1];
        let untouched: Vec<usize> = (0..param.shape[0]).filter(|&token| !used(token)).collect();
        assert!(!untouched.is_empty());
        for token in untouched {
            assert!(grad[token * width..(token + 1) * width].iter().all(|&g| g == 0.0));
        }
    }
}
