//! Tokens per second of sampling on a small Llama with random weights.
//!
//! ```text
//! cargo run --release -p hearken-generate --example throughput [f32|bf16] [PROMPTS] [SAMPLES]
//! ```
#![allow(clippy::print_stdout, reason = "a program")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use hearken_generate::{Sampling, SamplingRequest, generate};
use hearken_model::{Head, Model, ModelConfig};
use hearken_tensor::Cpu;
use hearken_tensor::device::Precision;
use serde_json::{Value, json};

/// 27.8 million parameters.
fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8192,
        "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "initializer_range": 0.02, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0
    })
}

const PROMPT_TOKENS: usize = 64;
const NEW_TOKENS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let precision = match arguments.first().map(String::as_str) {
        Some("bf16") => Precision::Bf16,
        _ => Precision::F32,
    };
    let count = |index: usize, default| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (prompts, samples): (usize, usize) = (count(1, 32), count(2, 1));

    let Value::Object(raw) = config() else { unreachable!("an object is written above") };
    let config = ModelConfig::from_json(Path::new("config.json"), &raw).expect("a valid config");
    let model = Model::init(Cpu::new(), config, Head::LanguageModel, precision, 1);
    let requests: Vec<SamplingRequest> = (0..prompts)
        .map(|i| SamplingRequest {
            prompt_ids: (0..PROMPT_TOKENS)
                .map(|t| ((7919 * i + 104_729 * t) % 8192) as u32)
                .collect(),
            samples,
            seed: i as u64,
        })
        .collect();
    let sampling = Sampling { ignore_eos: true, ..Sampling::plain(NEW_TOKENS) };

    for repetition in 0..5 {
        let start = Instant::now();
        let mut first_token = None;
        let completions = generate(&model, None, &requests, &sampling, &mut |_| {
            first_token.get_or_insert_with(|| start.elapsed());
            ControlFlow::Continue(())
        })
        .expect("the requests are valid");
        let seconds = start.elapsed().as_secs_f64();
        let tokens: usize =
            completions.iter().flatten().map(|completion| completion.ids.len()).sum();
        let first = first_token.map_or(0.0, |time| time.as_secs_f64());
        let decoding = (tokens - prompts * samples) as f64 / (seconds - first);
        println!(
            "{repetition}: {:.0} tokens/s ({tokens} in {seconds:.3} s); first after {first:.3} s, then {decoding:.0} tokens/s",
            tokens as f64 / seconds
        );
    }
}
