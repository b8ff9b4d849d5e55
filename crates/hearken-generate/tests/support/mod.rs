//! Models, their golden values and requests.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses a part; tests may panic"
)]

#[path = "../../../hearken-tensor/tests/support/families.rs"]
pub(crate) mod families;

use std::ops::ControlFlow;

use hearken_data::Completion;
use hearken_generate::{EngineOptions, GenerateError, Sampling, SamplingRequest, generate_with};
use hearken_model::{LoadOptions, Model, Tokenizer};
use hearken_tensor::Cpu;
pub(crate) use hearken_testing::FAMILIES;
use hearken_testing::family as fixture;

pub(crate) fn model(family: &str) -> Model<Cpu> {
    Model::load(families::cpu(), &fixture(family), &LoadOptions::language_model()).unwrap().0
}

pub(crate) fn tokenizer(family: &str) -> Tokenizer {
    Tokenizer::load(&fixture(family)).unwrap()
}

/// Transformers' greedy completions: (prompt, completion).
pub(crate) fn golden_greedy(family: &str) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bytes = std::fs::read(fixture(family).join("golden.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids = |name: String| -> Vec<u32> {
        let (data, rest) = tensors.tensor(&name).unwrap().data().as_chunks::<4>().to_owned();
        assert!(rest.is_empty());
        data.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    };
    (0..3)
        .map(|i| (ids(format!("greedy.{i}.prompt")), ids(format!("greedy.{i}.completion"))))
        .collect()
}

pub(crate) fn request(prompt_ids: &[u32], samples: usize, seed: u64) -> SamplingRequest {
    SamplingRequest { prompt_ids: prompt_ids.to_vec(), samples, seed }
}

pub(crate) fn complete(
    model: &Model<Cpu>,
    requests: &[SamplingRequest],
    sampling: &Sampling,
    options: &EngineOptions,
) -> Result<Vec<Vec<Completion>>, GenerateError> {
    generate_with(model, None, requests, sampling, options, &mut |_| ControlFlow::Continue(()))
}

/// Options that take different ways through the engine.
pub(crate) fn many_options() -> Vec<EngineOptions> {
    let default = EngineOptions::default();
    vec![
        default,
        EngineOptions { batch_rows_max: 1, ..default },
        EngineOptions { batch_rows_max: 2, page_len: 1, ..default },
        EngineOptions { prefill_tokens_per_step: 1, page_len: 3, ..default },
        EngineOptions { prefill_tokens_per_step: 7, page_len: 5, batch_rows_max: 4, ..default },
        EngineOptions { page_len: 64, ..default },
    ]
}
