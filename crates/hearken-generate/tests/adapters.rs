//! Several adapters over one base, in one engine.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hearken_data::Completion;
use hearken_generate::{
    AdapterId, AttachError, Engine, EngineHandle, EngineOptions, GenerateError, Reading, Sampling,
    SamplingRequest, Update, Wishes,
};
use hearken_model::{Adapter, AdapterError, LoadOptions, LoraConfig, Model, Targets};
use hearken_tensor::Cpu;
use hearken_testing::family as fixture;
use support::{families, many_options, model, request};

/// Families that norm, rotate, fuse and lay out their linear maps in different ways.
const FAMILIES: [&str; 5] = ["llama", "gpt2", "gpt_neox", "qwen2", "phi3"];

/// As PEFT saved it.
fn peft(family: &str) -> Adapter {
    let fixtures = hearken_testing::fixture("hearken-model/tests/fixtures/peft");
    Adapter::read(&fixtures.join(family)).unwrap()
}

/// An adapter in `folder` that changes much.
fn drawn(folder: &Path, family: &str, config: &LoraConfig) -> Adapter {
    let mut model = model(family);
    model.add_adapter(config, &fixture(family), 3).unwrap();
    for index in 0..model.params().len() {
        if model.params()[index].name.ends_with("lora_B.weight") {
            let len = model.params()[index].len();
            let value = |i: usize| ((i * 37 + index * 11) % 23) as f32 / 115.0 - 0.1;
            model.params_mut().set_values(index, &(0..len).map(value).collect::<Vec<_>>());
        }
    }
    model.save_adapter(folder).unwrap();
    Adapter::read(folder).unwrap()
}

/// A model with an adapter merged into its weights.
fn merged(family: &str, adapter: &Adapter) -> Model<Cpu> {
    let options = LoadOptions::language_model();
    Model::load_merged(families::cpu(), &fixture(family), &options, Some(adapter)).unwrap().0
}

fn sampling() -> Sampling {
    Sampling { ignore_eos: true, temperature: 0.9, ..Sampling::plain(10) }
}

fn requests() -> Vec<SamplingRequest> {
    let long: Vec<u32> = (0..21).map(|at| 3 + at * 7 % 300).collect();
    vec![request(&long, 2, 1), request(&[5, 17, 300, 42], 2, 2), request(&long[..13], 1, 3)]
}

/// The completions of all requests through an adapter, one request after the other.
fn alone(engine: &mut Engine<'_, Cpu>, adapter: Option<AdapterId>) -> Vec<Completion> {
    let mut completions = Vec::new();
    for request in requests() {
        let wishes = Wishes { adapter, ..Wishes::default() };
        engine.submit_with(request, &sampling(), wishes).unwrap();
        completions.extend(finish(engine).into_iter().map(|(_, completion)| completion));
    }
    completions
}

/// What has ended, in the order of requests and samples.
fn finish(engine: &mut Engine<'_, Cpu>) -> Vec<((usize, usize), Completion)> {
    let ended = engine.finish(&mut |_| ControlFlow::Continue(())).unwrap();
    let mut ended: Vec<_> =
        ended.into_iter().map(|of| ((of.request, of.sample), of.completion)).collect();
    ended.sort_by_key(|(of, _)| *of);
    ended
}

#[track_caller]
fn check_close(found: &Completion, expected: &Completion) {
    assert_eq!(found.ids, expected.ids);
    for (found, expected) in found.logprobs.iter().zip(&expected.logprobs) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn kernels_of_every_family_pass_these_tests() {
    families::pass_under_every_family(&[]);
}

#[test]
fn one_batch_of_base_and_adapters_gives_what_each_gives_alone() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let base = model(family);
        // Other ranks, other linear maps, other layers.
        let mut config = LoraConfig::new(7, 5.0, Targets::AllLinear);
        config.rslora = true;
        let adapters = [peft(family), drawn(folder.path(), family, &config)];
        let mut expected =
            vec![alone(&mut Engine::new(&base, None, EngineOptions::default()).unwrap(), None)];
        for adapter in &adapters {
            let own = merged(family, adapter);
            let mut engine = Engine::new(&own, None, EngineOptions::default()).unwrap();
            expected.push(alone(&mut engine, None));
        }
        assert!(expected[0] != expected[1] && expected[1] != expected[2], "{family}");
        for options in many_options() {
            let mut engine = Engine::new(&base, None, options).unwrap();
            let ids = adapters.each_ref().map(|of| engine.attach(of, &fixture(family)).unwrap());
            let all = [None, Some(ids[0]), Some(ids[1])];
            // The second time, the cache holds the prompts of all.
            for _ in 0..2 {
                for request in requests() {
                    for adapter in all {
                        let wishes = Wishes { adapter, ..Wishes::default() };
                        engine.submit_with(request.clone(), &sampling(), wishes).unwrap();
                    }
                }
                let found = finish(&mut engine);
                for (which, expected) in expected.iter().enumerate() {
                    let own = found.iter().filter(|((request, _), _)| request % 3 == which);
                    assert_eq!(own.clone().count(), expected.len());
                    own.zip(expected)
                        .for_each(|((_, found), expected)| check_close(found, expected));
                }
            }
        }
    }
}

#[test]
fn an_adapter_finds_in_the_cache_only_what_it_left_there() {
    let base = model("llama");
    let options = EngineOptions { page_len: 4, ..EngineOptions::default() };
    let mut engine = Engine::new(&base, None, options).unwrap();
    let adapter = engine.attach(&peft("llama"), &fixture("llama")).unwrap();
    let again = engine.attach(&peft("llama"), &fixture("llama")).unwrap();
    // Of a prompt of 21 tokens five pages can be found.
    for (adapter, found) in
        [(None, 0), (Some(adapter), 0), (None, 20), (Some(adapter), 20), (Some(again), 0)]
    {
        let before = engine.stats();
        let wishes = Wishes { adapter, ..Wishes::default() };
        engine.submit_with(requests().remove(0), &sampling(), wishes).unwrap();
        finish(&mut engine);
        let after = engine.stats();
        let run = after.prefill_tokens - before.prefill_tokens;
        assert_eq!(after.prompt_tokens - before.prompt_tokens - run, found, "{adapter:?}");
    }
}

#[test]
fn an_adapter_leaves_when_nothing_runs_through_it() {
    let base = model("llama");
    let mut engine = Engine::new(&base, None, EngineOptions::default()).unwrap();
    let adapter = engine.attach(&peft("llama"), &fixture("llama")).unwrap();
    let wishes = Wishes { adapter: Some(adapter), ..Wishes::default() };
    let submit = |engine: &mut Engine<'_, Cpu>| {
        engine.submit_with(request(&[5, 17], 1, 4), &sampling(), wishes.clone())
    };
    submit(&mut engine).unwrap();
    engine.step(&mut |_| ControlFlow::Continue(())).unwrap();
    engine.detach(adapter);
    let found = finish(&mut engine).remove(0).1;
    assert_eq!(submit(&mut engine), Err(GenerateError::NoAdapter));
    let own = merged("llama", &peft("llama"));
    let mut alone = Engine::new(&own, None, EngineOptions::default()).unwrap();
    alone.submit(request(&[5, 17], 1, 4), &sampling()).unwrap();
    check_close(&found, &finish(&mut alone)[0].1);
}

#[test]
fn what_does_not_fit_is_named_by_file_and_tensor_and_the_engine_goes_on() {
    let engine = EngineHandle::start(model("llama"), None, EngineOptions::default()).unwrap();
    let fixtures = hearken_testing::fixture("hearken-model/tests/fixtures/peft");
    let refused = |name: &str| {
        let adapter = Adapter::read(&fixtures.join(name)).unwrap();
        match engine.attach(adapter, &fixture("llama")) {
            Err(AttachError::Adapter(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    // Another model's, and one that brings a head.
    let gpt2 = refused("gpt2");
    assert!(gpt2.to_string().contains("adapter_config.json: target_modules"), "{gpt2}");
    let score = refused("score");
    assert!(matches!(score, AdapterError::Whole { .. }), "{score}");
    let start =
        format!("{}: holds base_model.model.score.weight", file(&fixtures, "score").display());
    assert!(score.to_string().starts_with(&start), "{score}");

    let attached = engine.attach(peft("llama"), &fixture("llama")).unwrap();
    let sequences = vec![(vec![5, 17], vec![300, 42])];
    let read = |adapter| {
        let (sender, told) = std::sync::mpsc::channel();
        let reading =
            Reading { sequences: sequences.clone(), temperature: 1.0, likeliest: 0, adapter };
        engine.read_into(reading, Box::new(move |read| sender.send(read).unwrap()));
        told.recv().unwrap()
    };
    let id = attached.id();
    assert_ne!(read(Some(id)).unwrap(), read(None).unwrap());
    drop(attached);
    assert_eq!(read(Some(id)).unwrap_err(), GenerateError::NoAdapter);
    let wishes = Wishes { adapter: Some(id), ..Wishes::default() };
    let updates = engine.complete_with(request(&[5], 1, 1), sampling(), wishes);
    assert_eq!(updates.last().unwrap().unwrap_err(), GenerateError::NoAdapter);
    let mut updates = engine.complete(request(&[5], 1, 1), sampling());
    assert!(updates.any(|update| matches!(update, Ok(Update::Ended { .. }))));
}

fn file(fixtures: &Path, name: &str) -> PathBuf {
    fixtures.join(name).join("adapter_model.safetensors")
}
