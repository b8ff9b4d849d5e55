//! Packed, forest and one-by-one evaluation agree, gradients included.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use hearken_model::{Batch, Keep, LoadOptions, Model, OutputGrads};
use hearken_tensor::Cpu;
use hearken_tensor::device::{HeadOptions, Prediction, PredictionGrad};
use support::{FAMILIES, download, fixture, relative_difference};

/// Tokens on a path, by a fixed rule that uses much of the vocabulary.
fn tokens(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 2 + (seed * 131 + i * i * 7 + i * 29) % 380).collect()
}

/// A tree as (parent, tokens), parents first.
type Tree = Vec<(Option<usize>, Vec<u32>)>;

/// No branch, one, many, empty ones, two levels, a long path beyond the window of 16.
fn trees() -> Vec<Tree> {
    vec![
        vec![(None, tokens(1, 9))],
        vec![(None, tokens(2, 5)), (Some(0), tokens(3, 7))],
        vec![
            (None, tokens(4, 24)),
            (Some(0), tokens(5, 6)),
            (Some(0), vec![]),
            (Some(0), tokens(6, 21)),
            (Some(2), tokens(7, 3)),
            (Some(3), tokens(8, 5)),
            (Some(3), tokens(9, 18)),
        ],
        vec![(None, vec![]), (Some(0), tokens(10, 4)), (Some(0), tokens(11, 30))],
    ]
}

/// The tokens from the root to the end of each segment that has no children.
fn paths(tree: &Tree) -> Vec<Vec<u32>> {
    let is_leaf = |i: usize| !tree.iter().any(|(parent, _)| *parent == Some(i));
    let path = |mut i: usize| {
        let mut parts = vec![tree[i].1.clone()];
        while let Some(parent) = tree[i].0 {
            parts.push(tree[parent].1.clone());
            i = parent;
        }
        parts.into_iter().rev().flatten().collect()
    };
    (0..tree.len()).filter(|&i| is_leaf(i)).map(path).collect()
}

/// Log-probability of every token of every path after its first, and the gradient of a weighted
/// sum of them (with entropies), for a batch built by `build`.
struct Outcome {
    logprobs: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

fn run(model: &Model<Cpu>, batches: &[(Batch, Vec<Prediction>, Vec<usize>)]) -> Outcome {
    run_keeping(model, batches, 0)
}

/// The same, with so many bytes of logits kept from the forward to the backward pass.
fn run_keeping(
    model: &Model<Cpu>,
    batches: &[(Batch, Vec<Prediction>, Vec<usize>)],
    logits_bytes: usize,
) -> Outcome {
    let mut gradients = model.gradients();
    let mut logprobs = Vec::new();
    for (batch, predictions, order) in batches {
        let grad = |&index: &usize| PredictionGrad {
            logprob: ((index % 7) as f32 - 2.5) / 10.0,
            entropy: ((index % 3) as f32 - 1.0) / 20.0,
        };
        let grads: Vec<PredictionGrad> = order.iter().map(grad).collect();
        let row_bytes = 4 * model.config().vocab;
        let head =
            HeadOptions { temperature: 0.8, chunk_bytes: 4 * row_bytes, ..HeadOptions::default() };
        let output =
            OutputGrads { predictions, prediction_grads: &grads, head, ..OutputGrads::default() };
        let mut pass = model.forward(batch, Keep::Activations);
        let read = model.logprobs_keeping(&mut pass, predictions, head, logits_bytes);
        logprobs.extend(read.logprobs);
        let output = model.backward(pass, &output, &mut gradients);
        let start = logprobs.len() - predictions.len();
        assert_eq!(output.logprobs, logprobs[start..], "the backward pass sees the same head");
    }
    let download = |(i, p): (usize, &hearken_model::Param<Cpu>)| {
        download(model, gradients.get(i).unwrap(), p.len())
    };
    let gradients = model.params().iter().enumerate().map(download).collect();
    Outcome { logprobs, gradients }
}

/// All trees as one forest: predictions of shared rows repeat once for each path through them.
fn as_forest(trees: &[Tree]) -> (Batch, Vec<Prediction>, Vec<usize>) {
    let mut batch = Batch::new();
    let mut predictions = Vec::new();
    for tree in trees {
        let mut segments = Vec::new();
        for (parent, tokens) in tree {
            segments.push(batch.push(parent.map(|parent| segments[parent]), tokens));
        }
        for (index, _) in tree.iter().enumerate() {
            if tree.iter().any(|(parent, _)| *parent == Some(index)) {
                continue;
            }
            let path = batch.forest.path(segments[index]);
            let rows: Vec<usize> =
                path.iter().flat_map(|&s| batch.forest.segments()[s].rows()).collect();
            predictions.extend(
                rows.windows(2)
                    .map(|pair| Prediction { row: pair[0] as u32, token: batch.tokens[pair[1]] }),
            );
        }
    }
    let order = (0..predictions.len()).collect();
    (batch, predictions, order)
}

fn as_packed(paths: &[Vec<u32>]) -> (Batch, Vec<Prediction>, Vec<usize>) {
    let mut batch = Batch::new();
    let mut predictions = Vec::new();
    for path in paths {
        let first = batch.rows();
        batch.push(None, path);
        predictions.extend(Model::<Cpu>::next_token_predictions(path, first));
    }
    let order = (0..predictions.len()).collect();
    (batch, predictions, order)
}

fn one_by_one(paths: &[Vec<u32>]) -> Vec<(Batch, Vec<Prediction>, Vec<usize>)> {
    let mut start = 0;
    let single = |path: &Vec<u32>| {
        let (batch, predictions, _) = as_packed(std::slice::from_ref(path));
        let order = (start..start + predictions.len()).collect();
        start += predictions.len();
        (batch, predictions, order)
    };
    paths.iter().map(single).collect()
}

#[test]
fn logits_that_are_kept_change_no_gradient() {
    let options = LoadOptions::language_model();
    let model = Model::load(Cpu::new(), &fixture("llama"), &options).unwrap().0;
    let batch = [as_forest(&trees())];
    let row_bytes = 4 * model.config().vocab;
    let expected = run(&model, &batch);
    for rows in [3, 9, 10_000] {
        let found = run_keeping(&model, &batch, rows * row_bytes);
        assert_eq!(found.logprobs, expected.logprobs);
        assert_eq!(found.gradients, expected.gradients, "room for {rows} rows");
    }
}

/// What a loss of all logits gives back is what the log-probability head makes of the same loss.
#[test]
fn a_loss_of_all_logits_has_the_gradients_of_its_predictions() {
    for family in FAMILIES {
        let options = LoadOptions::language_model();
        let model = Model::load(Cpu::new(), &fixture(family), &options).unwrap().0;
        let (batch, predictions, order) = as_forest(&trees());
        let expected = run(&model, &[(batch.clone(), predictions.clone(), order)]);
        // Rows that several predictions share are there once for each of them.
        let rows: Vec<usize> = predictions.iter().map(|one| one.row as usize).collect();
        let vocab = model.config().vocab;
        let mut gradients = model.gradients();
        let mut seen = Vec::new();
        let mut loss = |chunk: std::ops::Range<usize>, logits: &[f32], grads: &mut [f32]| {
            assert!(chunk.len() <= 5 && logits.len() == chunk.len() * vocab);
            let rows = logits.chunks(vocab).zip(grads.chunks_mut(vocab));
            for ((logits, grads), index) in rows.zip(chunk) {
                let slopes = [(index % 7) as f64 - 2.5, (index % 3) as f64 - 1.0];
                let [of_logprob, of_entropy] = [slopes[0] / 10.0, slopes[1] / 20.0];
                let exps: Vec<f64> = logits.iter().map(|z| (f64::from(*z) / 0.8).exp()).collect();
                let sum: f64 = exps.iter().sum();
                let p = exps.iter().map(|e| e / sum);
                let entropy = -p.clone().map(|p| p * p.ln()).sum::<f64>();
                for ((v, p), grad) in p.enumerate().zip(grads) {
                    let hit = f64::from(u8::from(v == predictions[index].token as usize));
                    let slope = of_logprob * (hit - p) - of_entropy * p * (p.ln() + entropy);
                    *grad = (slope / 0.8) as f32;
                }
                seen.push(index);
            }
        };
        let pass = model.forward(&batch, Keep::Activations);
        model.backward_of_logits(pass, &rows, 5 * 4 * vocab, &mut loss, &mut gradients);
        assert_eq!(seen, (0..rows.len()).collect::<Vec<_>>());
        for (index, param) in model.params().iter().enumerate() {
            let found = download(&model, gradients.get(index).unwrap(), param.len());
            let difference = relative_difference(&found, &expected.gradients[index]);
            assert!(difference < 1e-5, "{family} {}: {difference:e}", param.name);
        }
    }
}

/// What is packed together sees its neighbors elsewhere: huggingface/trl#1230.
#[test]
fn forest_packed_and_single_evaluation_agree() {
    let trees = trees();
    let paths: Vec<Vec<u32>> = trees.iter().flat_map(paths).collect();
    for family in FAMILIES {
        let options = LoadOptions::language_model();
        let model = Model::load(Cpu::new(), &fixture(family), &options).unwrap().0;
        let single = run(&model, &one_by_one(&paths));
        for (form, outcome) in [
            ("packed", run(&model, &[as_packed(&paths)])),
            ("forest", run(&model, &[as_forest(&trees)])),
        ] {
            for (a, b) in outcome.logprobs.iter().zip(&single.logprobs) {
                assert!((a - b).abs() < 1e-5, "{family} {form}: {a} {b}");
            }
            for (index, param) in model.params().iter().enumerate() {
                let difference =
                    relative_difference(&outcome.gradients[index], &single.gradients[index]);
                assert!(difference < 1e-5, "{family} {form} {}: {difference:e}", param.name);
            }
        }
    }
}

/// Scores and values take part in the same backward pass.
#[test]
fn value_head_gradient_is_its_finite_difference() {
    let options = LoadOptions::language_model();
    let mut model = Model::load(Cpu::new(), &fixture("llama"), &options).unwrap().0;
    model.add_value_head(7);
    let (batch, _, _) = as_forest(&trees());
    let rows = [3, 12, 12, 40];
    let weights = [0.5, -1.0, 0.25, 2.0];
    let loss = |model: &Model<Cpu>| -> f64 {
        let values = model.scalars(&model.forward(&batch, Keep::Nothing), &rows);
        values.iter().zip(weights).map(|(v, w)| f64::from(*v) * f64::from(w)).sum()
    };
    let mut gradients = model.gradients();
    let output =
        OutputGrads { scalar_rows: &rows, scalar_grads: &weights, ..OutputGrads::default() };
    model.backward(model.forward(&batch, Keep::Activations), &output, &mut gradients);
    for name in ["value_head.weight", "value_head.bias", "model.layers.0.mlp.up_proj.weight"] {
        let index = model.params().iter().position(|p| p.name == name).unwrap();
        let len = model.params()[index].len();
        let grad = download(&model, gradients.get(index).unwrap(), len);
        let values = model.values(index);
        // Along the gradient itself, where the signal is largest.
        let norm = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let step = 2e-2 / norm;
        let moved = |sign: f64| -> Vec<f32> {
            let shift = |(v, g): (&f32, &f32)| (f64::from(*v) + sign * step * f64::from(*g)) as f32;
            values.iter().zip(&grad).map(shift).collect()
        };
        model.params_mut().set_values(index, &moved(1.0));
        let above = loss(&model);
        model.params_mut().set_values(index, &moved(-1.0));
        let below = loss(&model);
        model.params_mut().set_values(index, &values);
        let slope = (above - below) / (2.0 * step);
        assert!((slope / norm.powi(2) - 1.0).abs() < 5e-3, "{name}: {slope} {}", norm.powi(2));
    }
}
