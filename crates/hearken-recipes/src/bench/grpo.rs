//! The iterations of this trainer, timed: sampling, scores, credit and the update.

use std::path::Path;

use hearken_config::Configuration;
use hearken_model::Head;
use hearken_reward_source::{Closure, RolloutView, WeightedSum};
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::grpo::{Grpo, GrpoConfig};
use serde_json::json;
use toml::{Table, Value};

use super::steps::of_rollouts;
use super::{Clock, Materials, integer};

/// One random prompt with a group of completions, which are scored by a function of their tokens.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let (sizes, iterations) = (materials.bench.sizes, materials.bench.steps_made());
    let policy = materials.model_dir(&device, Head::LanguageModel)?;
    let records =
        materials.records(|materials| Ok(json!({ "prompt_ids": materials.ids(sizes.prompt)? })))?;
    let mut layers = GrpoConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &policy, &records, iterations);
    let table = |pairs: &[(&str, usize)]| {
        let pairs = pairs.iter().map(|&(key, value)| (key.to_owned(), integer(value)));
        Value::Table(pairs.collect())
    };
    let rollout = table(&[("completions", sizes.batch), ("max_new_tokens", sizes.completion)]);
    let sections = [("rollout", rollout), ("grpo", table(&[("prompts", 1)]))];
    layers.merge(Table::from_iter(sections.map(|(name, value)| (name.to_owned(), value))));
    let loaded = GrpoConfig::from_layers(layers)?;
    let mut sources = WeightedSum::new().with(Closure::new("even", |seen| Ok(even(seen))), 1.0);
    of_rollouts::<D, Grpo>(device, &loaded, &mut sources, iterations, |_| 0.0, clock)
}

/// The share of tokens with an even id: it differs between random completions.
fn even(seen: &RolloutView<'_>) -> f64 {
    let even = seen.completion_ids.iter().filter(|id| id.is_multiple_of(2)).count();
    even as f64 / seen.completion_ids.len().max(1) as f64
}
