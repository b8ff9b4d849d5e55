//! Completions of two models together.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::ops::ControlFlow;

use hearken_data::Completion;
use hearken_generate::{Mixture, Sampling, SamplingRequest, generate, generate_mixed};
use hearken_model::{Batch, Keep, Model};
use hearken_tensor::{Cpu, Device};
use support::{golden_greedy, model, request};

/// The model with other weights.
fn changed(model: &Model<Cpu>) -> Model<Cpu> {
    let mut other = model.duplicate();
    let device = other.device().clone();
    other.params_mut().update(|index, values| {
        let mut new = vec![0.0; device.len(values)];
        device.download(values, 0, &mut new);
        for (at, x) in new.iter_mut().enumerate() {
            *x += 0.05 * ((index * 31 + at * 7) as f32).sin();
        }
        device.write(values, 0, &new);
    });
    other
}

fn requests() -> Vec<SamplingRequest> {
    let golden = golden_greedy("llama");
    golden.iter().zip(10..).map(|((prompt, _), seed)| request(prompt, 3, seed)).collect()
}

fn mixed(model: &Model<Cpu>, other: &Model<Cpu>, share: f64) -> Vec<Vec<Completion>> {
    let mixture = Mixture { model: other, share };
    let mut go_on = |_: hearken_generate::TokenSampled<'_>| ControlFlow::Continue(());
    generate_mixed(model, &mixture, None, &requests(), &sampling(), &mut go_on).unwrap()
}

fn sampling() -> Sampling {
    Sampling { temperature: 0.8, ignore_eos: true, ..Sampling::plain(24) }
}

#[test]
fn all_or_nothing_is_one_of_the_two() {
    let model = model("llama");
    let other = changed(&model);
    let mut go_on = |_: hearken_generate::TokenSampled<'_>| ControlFlow::Continue(());
    for (share, alone) in [(0.0, &model), (1.0, &other)] {
        let expected = generate(alone, None, &requests(), &sampling(), &mut go_on).unwrap();
        let found = mixed(&model, &other, share);
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert_eq!(found.ids, expected.ids);
        }
    }
}

/// log softmax(((1 − share)·logits + share·other logits) / temperature), row by row.
#[test]
fn a_mixture_is_the_geometric_mean_of_both() {
    let model = model("llama");
    let (other, share) = (changed(&model), 0.3);
    let vocab = model.config().vocab;
    for (request, completions) in requests().iter().zip(mixed(&model, &other, share)) {
        for Completion { ids, logprobs, .. } in completions {
            let mut batch = Batch::new();
            batch.push(None, &[&request.prompt_ids[..], &ids[..ids.len() - 1]].concat());
            let first = request.prompt_ids.len() - 1;
            let rows: Vec<usize> = (first..first + ids.len()).collect();
            let logits = [&model, &other].map(|model| {
                let pass = model.forward(&batch, Keep::Nothing);
                model.logits(&pass, &rows)
            });
            for (t, (&id, logprob)) in ids.iter().zip(logprobs).enumerate() {
                let row = |of: &[f32]| of[t * vocab..(t + 1) * vocab].to_vec();
                let tempered: Vec<f64> = row(&logits[0])
                    .iter()
                    .zip(row(&logits[1]))
                    .map(|(&a, b)| ((1.0 - share) * f64::from(a) + share * f64::from(b)) / 0.8)
                    .collect();
                let log_total = tempered.iter().map(|x| x.exp()).sum::<f64>().ln();
                let expected = tempered[id as usize] - log_total;
                assert!((logprob - expected).abs() < 1e-4, "token {t}: {logprob}, {expected}");
            }
        }
    }
}

#[test]
fn models_of_other_tokens_and_shares_beyond_one_are_refused() {
    let model = model("llama");
    let mut go_on = |_: hearken_generate::TokenSampled<'_>| ControlFlow::Continue(());
    let mixture = Mixture { model: &model, share: 1.5 };
    let refused = generate_mixed(&model, &mixture, None, &requests(), &sampling(), &mut go_on);
    assert!(refused.unwrap_err().to_string().contains("from 0 to 1"));
}
