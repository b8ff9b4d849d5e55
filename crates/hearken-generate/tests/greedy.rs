//! Greedy completions against those of Transformers, and against themselves in other company.

mod support;

use hearken_data::StopReason;
use hearken_generate::{EngineOptions, Sampling, SamplingRequest};
use hearken_model::KvCache;
use support::{FAMILIES, complete, families, golden_greedy, many_options, model, request};

fn greedy(new_tokens: usize) -> Sampling {
    Sampling { ignore_eos: true, ..Sampling::greedy(new_tokens) }
}

#[test]
fn completions_are_those_of_transformers() {
    for family in FAMILIES {
        let model = model(family);
        let golden = golden_greedy(family);
        let requests: Vec<SamplingRequest> =
            golden.iter().map(|(prompt, _)| request(prompt, 1, 0)).collect();
        for options in many_options() {
            let completions = complete(&model, &requests, &greedy(24), &options).unwrap();
            for (completions, (_, expected)) in completions.iter().zip(&golden) {
                assert_eq!(&completions[0].ids, expected, "{family}, {options:?}");
                assert_eq!(completions[0].stop_reason, StopReason::Length);
            }
        }
    }
}

#[test]
fn kernels_of_every_family_give_the_same_completions() {
    families::pass_under_every_family(&["completions_are_those_of_transformers"]);
}

#[test]
fn a_completion_does_not_depend_on_its_company() {
    for family in ["llama", "mistral", "gpt2"] {
        let model = model(family);
        let golden = golden_greedy(family);
        let prompt = &golden[2].0;
        let mut requests = vec![request(prompt, 3, 0)];
        requests.extend((1..prompt.len()).map(|n| request(&prompt[..n], 1, 0)));
        requests.push(request(&[prompt.as_slice(), &golden[2].1[..5]].concat(), 2, 0));
        for options in many_options() {
            let completions = complete(&model, &requests, &greedy(24), &options).unwrap();
            for completion in &completions[0] {
                assert_eq!(completion.ids, golden[2].1, "{family}, {options:?}");
            }
            // A prompt that already holds the first five tokens goes on with the others.
            for completion in completions.last().unwrap() {
                assert_eq!(completion.ids[..19], golden[2].1[5..], "{family}, {options:?}");
            }
        }
    }
}

#[test]
fn sequences_wait_where_the_cache_is_small() {
    let model = model("mistral");
    let golden = golden_greedy("mistral");
    let requests: Vec<SamplingRequest> =
        golden.iter().cycle().take(30).map(|(prompt, _)| request(prompt, 2, 0)).collect();
    let page_len = 4;
    // 31 + 24 − 1 positions, and the copy of a page that both samples of a prompt write to.
    let least = 54_usize.div_ceil(page_len) + 1;
    for pages in [least, least + 5] {
        let cache_bytes = KvCache::bytes(&model, pages, page_len);
        let options = EngineOptions { cache_bytes, page_len, ..EngineOptions::default() };
        let completions = complete(&model, &requests, &greedy(24), &options).unwrap();
        for (completions, (_, expected)) in completions.iter().zip(golden.iter().cycle()) {
            assert!(completions.iter().all(|completion| &completion.ids == expected));
        }
    }
}

/// Learned ones and rotary ones: what is written is never longer than what can be read.
#[test]
fn the_models_positions_end_a_completion() {
    for family in FAMILIES {
        let model = model(family);
        let positions = model.config().max_positions;
        let prompt = |len: usize| (0..len).map(|i| (i % 300) as u32).collect::<Vec<_>>();
        for (room, asked, reason) in [
            (6, 50, StopReason::Positions),
            (1, 2, StopReason::Positions),
            (6, 6, StopReason::Length),
            (1, 1, StopReason::Length),
        ] {
            let requests = [request(&prompt(positions - room), 1, 0)];
            let completions =
                complete(&model, &requests, &greedy(asked), &EngineOptions::default()).unwrap();
            let completion = &completions[0][0];
            assert_eq!((completion.ids.len(), completion.stop_reason), (room, reason), "{family}");
        }
    }
}
