//! Requests that come and go.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::ops::ControlFlow;

use hearken_data::Completion;
use hearken_generate::{
    CompletionEnded, Engine, EngineHandle, EngineOptions, EngineStats, GenerateError, Sampling,
    SamplingRequest, TokenSampled, Update,
};
use hearken_model::{KvCache, Model};
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use support::{complete, golden_greedy, model, request};

const PAGE_LEN: usize = 4;

fn options() -> EngineOptions {
    EngineOptions { page_len: PAGE_LEN, cache_bytes: 4 << 20, ..EngineOptions::default() }
}

fn engine(model: &Model<Cpu>) -> Engine<'_, Cpu> {
    Engine::new(model, None, options()).unwrap()
}

fn greedy(new_tokens: usize) -> Sampling {
    Sampling { ignore_eos: true, ..Sampling::greedy(new_tokens) }
}

fn go_on(_: TokenSampled<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// One request alone, to its end.
fn ask(engine: &mut Engine<'_, Cpu>, request: &SamplingRequest, sampling: &Sampling) -> Completion {
    engine.submit(request.clone(), sampling).unwrap();
    engine.finish(&mut go_on).unwrap().remove(0).completion
}

fn check_close(found: &Completion, expected: &Completion, tolerance: f64) {
    assert_eq!(found.ids, expected.ids);
    for (found, expected) in found.logprobs.iter().zip(&expected.logprobs) {
        assert!((found - expected).abs() <= tolerance, "{found} {expected}");
    }
}

#[test]
fn streams_are_what_generate_returns() {
    let model = model("llama");
    let golden = golden_greedy("llama");
    let requests: Vec<SamplingRequest> =
        golden.iter().zip(1..).map(|((prompt, _), seed)| request(prompt, 2, seed)).collect();
    let sampling = Sampling { temperature: 1.3, ..Sampling::plain(12) };
    let expected = complete(&model, &requests, &sampling, &options()).unwrap();

    let mut engine = engine(&model);
    let mut streamed = vec![vec![(Vec::new(), Vec::new()); 2]; requests.len()];
    let mut observer = |event: TokenSampled<'_>| {
        let (ids, logprobs) = &mut streamed[event.request][event.sample];
        ids.push(*event.ids.last().unwrap());
        logprobs.push(event.logprob);
        ControlFlow::Continue(())
    };
    // Each joins while those before are under way.
    let mut ended: Vec<CompletionEnded> = Vec::new();
    for request in &requests {
        engine.submit(request.clone(), &sampling).unwrap();
        ended.extend(engine.step(&mut observer).unwrap());
        ended.extend(engine.step(&mut observer).unwrap());
    }
    ended.extend(engine.finish(&mut observer).unwrap());
    assert_eq!(ended.len(), 2 * requests.len());
    for CompletionEnded { request, sample, completion } in &ended {
        check_close(completion, &expected[*request][*sample], 1e-5);
        let (ids, logprobs) = &streamed[*request][*sample];
        assert_eq!((ids, logprobs), (&completion.ids, &completion.logprobs));
    }
    assert!(engine.is_idle());
    assert_eq!(engine.stats().pages_in_use, 0);
}

/// Each request has settings of its own.
#[test]
fn settings_are_the_requests_own() {
    let model = model("qwen2");
    let (prompt, ids) = golden_greedy("qwen2").swap_remove(0);
    let mut engine = engine(&model);
    engine.submit(request(&prompt, 1, 3), &greedy(5)).unwrap();
    engine.submit(request(&prompt, 1, 3), &Sampling { temperature: 2.0, ..greedy(9) }).unwrap();
    engine.submit(request(&prompt, 1, 3), &greedy(24)).unwrap();
    engine.submit(request(&prompt, 0, 3), &greedy(24)).unwrap();
    let ended = engine.finish(&mut go_on).unwrap();
    let lengths: Vec<_> = ended.iter().map(|e| (e.request, e.completion.ids.len())).collect();
    assert_eq!(lengths, [(0, 5), (1, 9), (2, 24)]);
    assert_eq!(ended[0].completion.ids, ids[..5]);
    assert_ne!(ended[1].completion.ids, ids[..9]);
    assert_eq!(ended[2].completion.ids, ids);
}

/// A second turn begins with the first prompt and what was said: only the rest runs.
#[test]
fn a_later_prompt_runs_only_what_is_new() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut model = model("llama");
        model.set_precision(precision);
        let prompt: Vec<u32> = (0..18).map(|i| 7 * i % 90).collect();
        let mut shared = engine(&model);
        let first = ask(&mut shared, &request(&prompt, 1, 1), &greedy(11));
        let second = [prompt.as_slice(), &first.ids, &[3, 5, 8]].concat();
        let before = shared.stats();
        let found = ask(&mut shared, &request(&second, 1, 2), &greedy(11));
        let after = shared.stats();
        // 18 + 11 − 1 positions are in the cache: seven full pages of four.
        assert_eq!(after.prompt_tokens - before.prompt_tokens, 32);
        assert_eq!(after.prefill_tokens - before.prefill_tokens, 32 - 28);
        let expected = ask(&mut engine(&model), &request(&second, 1, 2), &greedy(11));
        check_close(&found, &expected, if precision == Precision::F32 { 1e-5 } else { 1e-3 });
    }
}

/// Whatever is found, given up, or found again, completions are those of an empty cache.
#[test]
fn a_cache_that_overflows_gives_up_what_was_used_longest_ago() {
    let model = model("mistral");
    let pages = 14;
    let cache_bytes = KvCache::bytes(&model, pages, PAGE_LEN);
    let mut small = Engine::new(&model, None, EngineOptions { cache_bytes, ..options() }).unwrap();
    let prompts: Vec<Vec<u32>> =
        (0..4_u32).map(|p| (0..17).map(|i| (11 * p + 5 * i) % 80).collect()).collect();
    let (mut hits, mut misses) = (0, 0);
    for index in [0, 1, 0, 2, 3, 0, 1, 1, 2, 3, 3, 0] {
        let request = request(&prompts[index], 1, 0);
        let before = small.stats();
        let found = ask(&mut small, &request, &greedy(9));
        let run = small.stats().prefill_tokens - before.prefill_tokens;
        if run < 17 {
            hits += 1;
        } else {
            misses += 1;
        }
        check_close(&found, &ask(&mut engine(&model), &request, &greedy(9)), 1e-5);
        let EngineStats { pages_in_use, pages_kept, .. } = small.stats();
        assert_eq!(pages_in_use, 0);
        assert!(pages_kept <= pages);
    }
    assert!(3 <= hits && 3 <= misses, "{hits} hits, {misses} misses");
}

#[test]
fn a_cancelled_request_leaves_its_pages_and_nobody_else() {
    let model = model("llama");
    let long: Vec<u32> = (0..30).map(|i| 3 * i % 70).collect();
    let other = [&long[..21], &[71, 72]].concat();
    let expected = ask(&mut engine(&model), &request(&other, 1, 0), &greedy(6));
    // At every stage: while it waits, in the middle of its prompt, which the other counts on, and
    // while it samples.
    for steps in 0..12 {
        let options = EngineOptions { prefill_tokens_per_step: 5, ..options() };
        let mut engine = Engine::new(&model, None, options).unwrap();
        let first = engine.submit(request(&long, 3, 0), &greedy(20)).unwrap();
        let second = engine.submit(request(&other, 1, 0), &greedy(6)).unwrap();
        let mut ended = Vec::new();
        for _ in 0..steps {
            ended.extend(engine.step(&mut go_on).unwrap());
        }
        assert!(engine.cancel(first));
        assert!(!engine.cancel(first));
        // What it left half done is not found by others.
        let third = engine.submit(request(&long, 1, 0), &greedy(6)).unwrap();
        ended.extend(engine.finish(&mut go_on).unwrap());
        assert_eq!(engine.stats().pages_in_use, 0);
        assert_eq!(ended.len(), 2);
        let of = |id| &ended.iter().find(|ended| ended.request == id).unwrap().completion;
        check_close(of(second), &expected, 1e-5);
        let alone = ask(&mut self::engine(&model), &request(&long, 1, 0), &greedy(6));
        check_close(of(third), &alone, 1e-5);
    }
}

#[test]
fn an_observer_that_breaks_off_cancels_that_request_alone() {
    let model = model("llama");
    let prompts = golden_greedy("llama");
    let mut engine = engine(&model);
    for (prompt, _) in &prompts {
        engine.submit(request(prompt, 1, 0), &greedy(24)).unwrap();
    }
    let mut seen = 0;
    let ended = engine.finish(&mut |event| {
        seen += usize::from(event.request == 1);
        if event.request == 1 && event.ids.len() == 3 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let ended = ended.unwrap();
    assert_eq!(seen, 3);
    assert_eq!(ended.iter().map(|ended| ended.request).collect::<Vec<_>>(), [0, 2]);
    assert!(ended.iter().all(|ended| ended.completion.ids == prompts[ended.request].1));
}

/// Sequences that give way run again from their tokens, among whatever neighbors there are then.
#[test]
fn neighbors_and_giving_way_change_nothing() {
    for (family, precision) in
        [("llama", Precision::Bf16), ("gpt2", Precision::Bf16), ("qwen3", Precision::F32)]
    {
        let mut model = model(family);
        model.set_precision(precision);
        let prompts: Vec<Vec<u32>> =
            (0..6_u32).map(|p| (0..5 + p).map(|i| (13 * p + 7 * i) % 90).collect()).collect();
        let requests: Vec<SamplingRequest> =
            prompts.iter().map(|prompt| request(prompt, 2, 5)).collect();
        // One sequence of 10 + 30 − 1 positions in ten pages, and two more.
        let cache_bytes = KvCache::bytes(&model, 12, PAGE_LEN);
        let tight = EngineOptions { reserved_tokens: 1, cache_bytes, ..options() };
        for sampling in [greedy(30), Sampling { temperature: 0.8, ..greedy(30) }] {
            let alone: Vec<Vec<Completion>> = requests
                .iter()
                .map(|request| {
                    let one = std::slice::from_ref(request);
                    complete(&model, one, &sampling, &options()).unwrap().remove(0)
                })
                .collect();
            let mut engine =
                Engine::with_requests(&model, None, &requests, &sampling, &tight).unwrap();
            let mut ended = Vec::new();
            while !engine.is_idle() {
                ended.extend(engine.step(&mut go_on).unwrap());
            }
            assert!(3 <= engine.stats().preempted, "{:?}", engine.stats());
            assert_eq!((ended.len(), engine.stats().pages_in_use), (12, 0));
            let together = complete(&model, &requests, &sampling, &options()).unwrap();
            for CompletionEnded { request, sample, completion } in &ended {
                let tolerance = if precision == Precision::Bf16 { 0.0 } else { 1e-5 };
                check_close(completion, &alone[*request][*sample], tolerance);
                check_close(&together[*request][*sample], &alone[*request][*sample], tolerance);
            }
        }
    }
}

#[test]
fn a_handle_streams_what_generate_returns_and_cancels_what_is_dropped() {
    let golden = golden_greedy("llama");
    let reserved = EngineOptions { reserved_tokens: 4, ..options() };
    let handle = EngineHandle::start(model("llama"), None, reserved).unwrap();
    let asked: Vec<_> = golden
        .iter()
        .map(|(prompt, ids)| handle.complete(request(prompt, 2, 1), greedy(ids.len())))
        .collect();
    let dropped = handle.complete(request(&golden[0].0, 3, 1), greedy(200));
    drop(dropped);
    for (generation, (_, expected)) in asked.into_iter().zip(&golden) {
        let mut streamed = [Vec::new(), Vec::new()];
        let mut ended = 0;
        for update in generation {
            match update.unwrap() {
                Update::Token { sample, id, .. } => streamed[sample].push(id),
                Update::Ended { sample, completion } => {
                    assert_eq!((&completion.ids, &streamed[sample]), (expected, &completion.ids));
                    ended += 1;
                }
            }
        }
        assert_eq!(ended, 2);
    }
    let mut refused = handle.complete(request(&[], 1, 0), greedy(4));
    assert_eq!(refused.next(), Some(Err(GenerateError::EmptyPrompt { request: 4 })));
    assert_eq!(refused.next(), None);
    let nothing = handle.complete(request(&[1], 1, 0), greedy(0));
    assert_eq!(nothing.count(), 0);
    // What was dropped does not run to its end.
    let stats = handle.stats().unwrap();
    assert!(stats.sampled_tokens < 300 && stats.pages_in_use == 0, "{stats:?}");
    assert!(
        EngineHandle::start(model("llama"), None, EngineOptions { page_len: 0, ..options() })
            .is_err()
    );
}
