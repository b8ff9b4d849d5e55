//! What cannot be sampled is an error that says why.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::ops::ControlFlow;

use hearken_generate::{EngineOptions, GenerateError, Sampling, SamplingRequest, generate};
use hearken_model::{Head, Model};
use hearken_tensor::device::Precision;
use hearken_tensor::{Cpu, Device};
use support::{complete, model, request};

fn error(requests: &[SamplingRequest], sampling: &Sampling, options: &EngineOptions) -> String {
    complete(&model("gpt2"), requests, sampling, options).unwrap_err().to_string()
}

#[test]
fn prompts_that_cannot_run_are_named() {
    let check = |prompt: &[u32], expected: &str| {
        let requests = [request(&[1], 1, 0), request(prompt, 1, 0)];
        assert_eq!(error(&requests, &Sampling::plain(4), &EngineOptions::default()), expected);
    };
    check(&[], "request 1: the prompt is empty; expected at least one token");
    check(&[5, 384], "request 1: the prompt holds token 384; expected ids below 384");
    for tokens in [256, 257] {
        check(
            &vec![2; tokens],
            &format!(
                "request 1: the prompt has {tokens} tokens, which leaves no room for a completion: \
                 the model has 256 positions in all"
            ),
        );
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let plain = Sampling::plain(4);
    let check = |sampling: Sampling, expected: &str| {
        assert_eq!(error(&[request(&[1], 1, 0)], &sampling, &EngineOptions::default()), expected);
    };
    check(
        Sampling { temperature: -1.0, ..plain.clone() },
        "temperature is -1; expected a finite number from 0",
    );
    check(
        Sampling { temperature: f64::NAN, ..plain.clone() },
        "temperature is NaN; expected a finite number from 0",
    );
    check(Sampling { top_p: 1.5, ..plain.clone() }, "top_p is 1.5; expected a number from 0 to 1");
    check(
        Sampling { min_p: -0.5, ..plain.clone() },
        "min_p is -0.5; expected a number from 0 to 1",
    );
    check(
        Sampling { top_k: Some(0), ..plain.clone() },
        "top_k is 0; expected at least 1, or none for all tokens",
    );
    check(
        Sampling { stop: vec![String::new()], ..plain.clone() },
        "a stop sequence is empty; expected at least one character",
    );
    check(
        Sampling { stop: vec!["x".into()], ..plain },
        "stop sequences need a tokenizer, and the model has none",
    );
}

#[test]
fn a_cache_too_small_for_one_sequence_is_an_error() {
    let options = EngineOptions { cache_bytes: 10_000, ..EngineOptions::default() };
    let message = error(&[request(&[1; 30], 1, 0)], &Sampling::plain(100), &options);
    // 129 positions in 9 pages of 16, each 2 layers × 2 × 64 × 4 bytes.
    assert_eq!(
        message,
        "request 0: its 130 tokens need 147456 bytes of keys and values; cache_bytes is 10000"
    );
    let options = EngineOptions { batch_rows_max: 0, ..EngineOptions::default() };
    let message = error(&[request(&[1], 1, 0)], &Sampling::plain(1), &options);
    assert_eq!(message, "batch_rows_max is 0; expected at least 1");
}

#[test]
fn a_scorer_does_not_sample() {
    let config = model("gpt2").config().clone();
    let scorer = Model::init(Cpu::new(), config, Head::Score, Precision::F32, 0);
    let outcome =
        complete(&scorer, &[request(&[1], 1, 0)], &Sampling::plain(1), &EngineOptions::default());
    assert_eq!(outcome, Err(GenerateError::NotALanguageModel));
}

#[test]
fn diverged_weights_are_an_error_that_names_the_request() {
    let mut model = model("llama");
    let name = |param: &hearken_model::Param<Cpu>| param.name == "model.norm.weight";
    let norm = model.params().iter().position(name).unwrap();
    let device = model.device().clone();
    model.params_mut().update(|index, values| {
        if index == norm {
            device.fill(values, f32::NAN);
        }
    });
    let requests = [request(&[1, 2], 2, 0)];
    let outcome = complete(&model, &requests, &Sampling::plain(3), &EngineOptions::default());
    let Err(GenerateError::Logits { request, sample, token, id, found }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((request, sample, token, id), (0, 0, 0, 0));
    assert!(found.is_nan());
}

#[test]
fn an_observer_stops_everything() {
    let model = model("llama");
    let mut seen = 0;
    let sampling = Sampling { ignore_eos: true, ..Sampling::plain(50) };
    let outcome = generate(&model, None, &[request(&[1, 2], 3, 0)], &sampling, &mut |_| {
        seen += 1;
        if seen == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(outcome, Err(GenerateError::Stopped { tokens: 7 }));
}

#[test]
fn asking_for_nothing_gives_nothing() {
    let model = model("llama");
    let requests = [request(&[1], 0, 0), request(&[1], 2, 0)];
    let options = EngineOptions::default();
    let none = complete(&model, &requests, &Sampling::plain(0), &options).unwrap();
    assert_eq!(none.iter().map(Vec::len).collect::<Vec<_>>(), [0, 2]);
    assert!(none[1].iter().all(|completion| completion.ids.is_empty()));
    assert_eq!(complete(&model, &[], &Sampling::plain(5), &options), Ok(vec![]));
}
