//! Where completions end: end tokens and stop sequences.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::ops::ControlFlow;

use hearken_data::{Completion, StopReason};
use hearken_generate::{Sampling, completion_text, generate};
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Cpu;
use support::{golden_greedy, model, request, tokenizer};

fn complete_one(
    model: &Model<Cpu>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampling: &Sampling,
    seed: u64,
) -> Completion {
    let requests = [request(prompt, 1, seed)];
    let go_on = &mut |_: hearken_generate::TokenSampled<'_>| ControlFlow::Continue(());
    generate(model, Some(tokenizer), &requests, sampling, go_on).unwrap().remove(0).remove(0)
}

/// A text that occurs in the golden completion exactly where `range` says ends it there: at the
/// first token that completes it, wherever token boundaries fall.
#[test]
fn a_stop_sequence_ends_the_completion_at_the_token_that_completes_it() {
    let (model, tokenizer) = (model("llama"), tokenizer("llama"));
    for (prompt, ids) in golden_greedy("llama") {
        let text = tokenizer.decode(&ids);
        let starts = text.char_indices().map(|(start, _)| start).step_by(5);
        for start in starts {
            let stop: String = text[start..].chars().take(6).collect();
            let sampling = Sampling {
                ignore_eos: true,
                stop: vec!["never sampled".into(), stop.clone()],
                ..Sampling::greedy(24)
            };
            let completion = complete_one(&model, &tokenizer, &prompt, &sampling, 3);
            let n = completion.ids.len();
            assert_eq!(completion.ids, ids[..n]);
            assert_eq!(completion.stop_reason, StopReason::StopSequence, "stop {stop:?}");
            assert!(tokenizer.decode(&ids[..n]).contains(&stop));
            assert!(!tokenizer.decode(&ids[..n - 1]).contains(&stop));
            let end = text.find(&stop).unwrap();
            assert_eq!(completion_text(&tokenizer, &completion, &sampling.stop), text[..end]);
        }
    }
}

/// At a high temperature the end token comes up soon, for most seeds.
#[test]
fn an_end_token_ends_the_completion_and_belongs_to_it() {
    let (model, tokenizer) = (model("qwen2"), tokenizer("qwen2"));
    let end = tokenizer.eos()[0];
    let prompt = &golden_greedy("qwen2")[0].0;
    let sampling = Sampling { temperature: 1.5, ..Sampling::plain(100_000) };
    let fits = |completion: &Completion| {
        let reason = completion.stop_reason;
        assert!(matches!(reason, StopReason::EndOfText | StopReason::Positions), "{reason:?}");
        reason == StopReason::EndOfText && prompt.len() + completion.ids.len() + 5 <= 256
    };
    let complete = |seed| (seed, complete_one(&model, &tokenizer, prompt, &sampling, seed));
    let (seed, completion) = (0..20).map(complete).find(|(_, found)| fits(found)).unwrap();
    assert_eq!(completion.ids.iter().position(|&id| id == end), Some(completion.ids.len() - 1));
    let n = completion.ids.len();
    let text = completion_text(&tokenizer, &completion, &[]);
    assert_eq!(text, tokenizer.decode(&completion.ids[..n - 1]));

    // Ignored, the same token is one like any other: the same draws go on after it.
    let sampling = Sampling { ignore_eos: true, max_new_tokens: n + 5, ..sampling };
    let ignored = complete_one(&model, &tokenizer, prompt, &sampling, seed);
    assert_eq!(ignored.ids[..n], completion.ids);
    assert_eq!((ignored.ids.len(), ignored.stop_reason), (n + 5, StopReason::Length));

    // Named as a stop sequence, a special token ends the completion although no text shows it.
    let stop = vec![tokenizer.decode_with_special(&[end])];
    let sampling = Sampling { stop, ..sampling };
    let stopped = complete_one(&model, &tokenizer, prompt, &sampling, seed);
    assert_eq!((&stopped.ids, stopped.stop_reason), (&completion.ids, StopReason::StopSequence));
    assert_eq!(completion_text(&tokenizer, &stopped, &sampling.stop), text);
}

/// The end tokens of config.json hold without a tokenizer.
#[test]
fn end_tokens_need_no_tokenizer() {
    let model = model("qwen2");
    let prompt = &golden_greedy("qwen2")[0].0;
    let sampling = Sampling { temperature: 1.5, ..Sampling::plain(100_000) };
    let go_on = &mut |_: hearken_generate::TokenSampled<'_>| ControlFlow::Continue(());
    let completions = generate(&model, None, &[request(prompt, 8, 1)], &sampling, go_on).unwrap();
    let is_end = |completion: &&Completion| completion.stop_reason == StopReason::EndOfText;
    assert!(0 < completions[0].iter().filter(is_end).count());
    for completion in &completions[0] {
        let last = completion.ids.last().unwrap();
        assert_eq!(model.config().eos.contains(last), is_end(&completion));
    }
}

/// The second end of a sequence at its last allowed token has the more telling reason.
#[test]
fn a_stop_at_the_last_token_is_a_stop() {
    let (model, tokenizer) = (model("gpt2"), tokenizer("gpt2"));
    let (prompt, ids) = golden_greedy("gpt2").swap_remove(1);
    let stop = vec![tokenizer.decode(&ids[2..4])];
    let n = (1..=ids.len()).find(|&n| tokenizer.decode(&ids[..n]).contains(&stop[0])).unwrap();
    let sampling = Sampling { stop, ignore_eos: true, ..Sampling::greedy(n) };
    let completion = complete_one(&model, &tokenizer, &prompt, &sampling, 3);
    assert_eq!((completion.ids.len(), completion.stop_reason), (n, StopReason::StopSequence));
}
