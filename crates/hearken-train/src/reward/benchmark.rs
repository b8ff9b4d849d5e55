//! The steps of this trainer, timed.

use std::path::Path;

use hearken_model::Head;
use hearken_tensor::Device;
use serde_json::json;

use super::{Inputs, Reward, RewardConfig, within_memory};
use crate::bench::{Clock, Materials};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::Silent;
use crate::record_run::Opening;
use crate::run_dir::Start;

/// Pairs of random completions of random prompts.
pub(crate) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let (sizes, steps) = (materials.bench.sizes, materials.bench.steps_made());
    let model = materials.model_dir(&device, Head::Score)?;
    let records = materials.records(|materials| {
        Ok(json!({
            "prompt_ids": materials.ids(sizes.prompt)?,
            "chosen_ids": materials.ids(sizes.completion)?,
            "rejected_ids": materials.ids(sizes.completion)?,
        }))
    })?;
    let mut layers = RewardConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &model, &records, steps);
    let loaded = RewardConfig::from_layers(layers)?;
    let config = &within_memory(&loaded.config)?;

    let opening = Opening::new(config.settings(), &loaded.frozen, Start::Fresh, &mut Silent)?;
    let inputs = Inputs::read(config, &opening, &mut Silent)?;
    let mut reward = Reward::open(device, config, opening, inputs, &mut Silent)?;
    for _ in 0..steps {
        clock.lap(|| {
            let before = reward.run.counters.cost.flops;
            reward.step(Stopwatch::start())?;
            Ok(reward.run.counters.cost.flops - before)
        })?;
    }
    Ok(())
}
