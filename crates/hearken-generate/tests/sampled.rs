//! Sampled completions: their log-probabilities, their seeds, and what they do not depend on.

mod support;

use std::ops::ControlFlow;

use hearken_data::Completion;
use hearken_generate::{EngineOptions, Sampling, SamplingRequest, generate};
use hearken_model::{Batch, Keep, Model};
use hearken_tensor::Cpu;
use hearken_tensor::device::{HeadOptions, Precision, Prediction};
use support::{FAMILIES, complete, families, golden_greedy, many_options, model, request};

fn tempered(temperature: f64, new_tokens: usize) -> Sampling {
    Sampling { temperature, ignore_eos: true, ..Sampling::plain(new_tokens) }
}

fn requests(family: &str, samples: usize) -> Vec<SamplingRequest> {
    let golden = golden_greedy(family);
    golden.iter().zip(10..).map(|((prompt, _), seed)| request(prompt, samples, seed)).collect()
}

/// Log-probabilities of a completion by the trainer's forward pass.
fn recomputed(model: &Model<Cpu>, prompt: &[u32], ids: &[u32], temperature: f32) -> Vec<f32> {
    let mut batch = Batch::new();
    batch.push(None, &[prompt, ids].concat());
    let pass = model.forward(&batch, Keep::Nothing);
    let predict = |(t, &token)| Prediction { row: (prompt.len() - 1 + t) as u32, token };
    let predictions: Vec<Prediction> = ids.iter().enumerate().map(predict).collect();
    model
        .logprobs(&pass, &predictions, HeadOptions { temperature, ..HeadOptions::default() })
        .logprobs
}

#[test]
fn logprobs_are_those_of_the_training_pass() {
    for family in FAMILIES {
        let model = model(family);
        let requests = requests(family, 3);
        for (temperature, recorded) in [(1.0, 1.0), (0.6, 0.6), (0.0, 1.0)] {
            let sampling = Sampling { top_p: 0.9, ..tempered(temperature, 40) };
            let completions =
                complete(&model, &requests, &sampling, &EngineOptions::default()).unwrap();
            for (request, completions) in requests.iter().zip(&completions) {
                for Completion { ids, logprobs, .. } in completions {
                    assert_eq!(logprobs.len(), ids.len());
                    let expected = recomputed(&model, &request.prompt_ids, ids, recorded);
                    for (t, (a, e)) in logprobs.iter().zip(expected).enumerate() {
                        let difference = (a - f64::from(e)).abs();
                        assert!(
                            difference < 1e-5,
                            "{family}, T = {temperature}, token {t}: {a}, {e}"
                        );
                    }
                }
            }
        }
    }
}

/// Log-probabilities of a prompt's completions by the trainer's forward pass, the prompt computed once.
fn recomputed_group(model: &Model<Cpu>, prompt: &[u32], group: &[Completion]) -> Vec<Vec<f32>> {
    let mut batch = Batch::new();
    let root = batch.push(None, prompt);
    let mut predictions = Vec::new();
    for Completion { ids, .. } in group {
        let segment = batch.push(Some(root), ids);
        for (t, &token) in ids.iter().enumerate() {
            let before = t.checked_sub(1).map(|index| batch.row(segment, index));
            let row = before.unwrap_or(prompt.len() - 1) as u32;
            predictions.push(Prediction { row, token });
        }
    }
    let pass = model.forward(&batch, Keep::Nothing);
    let logprobs = model.logprobs(&pass, &predictions, HeadOptions::default()).logprobs;
    let mut rest = logprobs.as_slice();
    let mut take = |len| rest.split_off(..len).expect("a log-probability for each").to_vec();
    group.iter().map(|completion| take(completion.ids.len())).collect()
}

/// With bfloat16 products too: sampler and trainer sum every row in one order, whatever else is
/// computed with it. What is left is the last digit of the trainer's log-probabilities, which are
/// f32 where the sampler's are f64.
#[test]
fn bf16_logprobs_are_those_of_the_training_pass() {
    for family in FAMILIES {
        let mut model = model(family);
        model.set_precision(Precision::Bf16);
        let requests = requests(family, 3);
        let sampling = tempered(1.0, 100);
        let completions =
            complete(&model, &requests, &sampling, &EngineOptions::default()).unwrap();
        for (request, group) in requests.iter().zip(&completions) {
            let expected = recomputed_group(&model, &request.prompt_ids, group);
            for (Completion { ids, logprobs, .. }, expected) in group.iter().zip(expected) {
                assert_eq!(recomputed(&model, &request.prompt_ids, ids, 1.0), expected);
                for (t, (a, e)) in logprobs.iter().zip(expected).enumerate() {
                    let difference = (a - f64::from(e)).abs();
                    assert!(difference < 1e-6, "{family}, token {t}: {a}, {e}");
                }
            }
        }
        for options in many_options() {
            let again = complete(&model, &requests, &sampling, &options).unwrap();
            assert_eq!(again, completions, "{family}, {options:?}");
        }
    }
}

#[test]
fn kernels_of_every_family_give_sampler_and_trainer_the_same_logprobs() {
    families::pass_under_every_family(&["logprobs_are_those_of_the_training_pass"]);
}

#[test]
fn what_is_sampled_depends_on_the_seed_alone() {
    let model = model("qwen3");
    let requests = requests("qwen3", 4);
    let sampling = Sampling { top_k: Some(50), min_p: 0.001, ..tempered(1.2, 20) };
    let first = complete(&model, &requests, &sampling, &EngineOptions::default()).unwrap();
    for options in many_options() {
        let again = complete(&model, &requests, &sampling, &options).unwrap();
        for (a, b) in first.iter().flatten().zip(again.iter().flatten()) {
            assert_eq!(a.ids, b.ids, "{options:?}");
        }
    }
    let reversed: Vec<SamplingRequest> = requests.iter().rev().cloned().collect();
    let again = complete(&model, &reversed, &sampling, &EngineOptions::default()).unwrap();
    for (a, b) in first.iter().flatten().zip(again.iter().rev().flatten()) {
        assert_eq!(a.ids, b.ids);
    }
}

#[test]
fn samples_and_seeds_differ() {
    let model = model("llama");
    let prompt = &golden_greedy("llama")[0].0;
    let requests = [request(prompt, 3, 1), request(prompt, 3, 2), request(prompt, 3, 1)];
    let completions =
        complete(&model, &requests, &tempered(1.0, 16), &EngineOptions::default()).unwrap();
    let ids = |request: usize, sample: usize| &completions[request][sample].ids;
    assert_ne!(ids(0, 0), ids(0, 1));
    assert_ne!(ids(0, 1), ids(0, 2));
    assert_ne!(ids(0, 0), ids(1, 0));
    for sample in 0..3 {
        assert_eq!(ids(0, sample), ids(2, sample));
    }
}

/// Asking for more samples leaves the first ones as they are.
#[test]
fn a_sample_does_not_depend_on_how_many_there_are() {
    let model = model("gpt_neox");
    let sampling = tempered(1.0, 16);
    let options = EngineOptions::default();
    let many = complete(&model, &requests("gpt_neox", 5), &sampling, &options).unwrap();
    let one = complete(&model, &requests("gpt_neox", 1), &sampling, &options).unwrap();
    for (many, one) in many.iter().zip(&one) {
        assert_eq!(many[0].ids, one[0].ids);
    }
}

#[test]
fn observers_see_every_token_in_order_and_its_end() {
    let model = model("llama");
    let requests = requests("llama", 2);
    let mut seen = vec![vec![Vec::new(); 2]; requests.len()];
    let mut ended = 0;
    let completions = generate(&model, None, &requests, &tempered(1.0, 9), &mut |event| {
        let tokens: &mut Vec<(u32, f64)> = &mut seen[event.request][event.sample];
        assert_eq!(event.ids.len(), tokens.len() + 1);
        tokens.push((*event.ids.last().unwrap(), event.logprob));
        ended += usize::from(event.stop_reason.is_some());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(ended, 6);
    for (seen, completion) in seen.iter().flatten().zip(completions.iter().flatten()) {
        let (ids, logprobs): (Vec<u32>, Vec<f64>) = seen.iter().copied().unzip();
        assert_eq!((&ids, &logprobs), (&completion.ids, &completion.logprobs));
    }
}

#[test]
fn decoding_makes_no_buffer_anew() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut model = model("llama");
        model.set_precision(precision);
        let requests = requests("llama", 2);
        let mut made = Vec::new();
        generate(&model, None, &requests, &tempered(1.0, 40), &mut |event| {
            if event.request == 0 && event.sample == 0 {
                made.push(model.device().buffers_made());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        // The first steps find out what sizes there are.
        assert_eq!(made.len(), 40);
        assert_eq!(made[4], made[39], "{precision:?}: {made:?}");
    }
}
