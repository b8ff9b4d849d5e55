//! The steps of this trainer, timed.

use std::path::Path;

use hearken_model::Head;
use hearken_tensor::Device;
use serde_json::json;

use super::{Sft, SftConfig, read_data, within_memory};
use crate::bench::{Clock, Materials};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::Silent;
use crate::record_run::Opening;
use crate::run_dir::Start;

/// Sequences of random tokens, all of which are trained on.
pub(crate) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let (length, steps) = (materials.bench.sizes.length(), materials.bench.steps_made());
    let model = materials.model_dir(&device, Head::LanguageModel)?;
    let records = materials.records(|materials| {
        Ok(json!({ "input_ids": materials.ids(length)?, "loss_mask": vec![1; length] }))
    })?;
    let mut layers = SftConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &model, &records, steps);
    let loaded = SftConfig::from_layers(layers)?;
    let config = &within_memory(&loaded.config)?;

    let opening = Opening::new(config.settings(), &loaded.frozen, Start::Fresh, &mut Silent)?;
    let data = read_data(config, &opening, &mut Silent)?;
    let mut sft = Sft::open(device, config, opening, data)?;
    for _ in 0..steps {
        clock.lap(|| {
            let before = sft.run.counters.cost.flops;
            sft.step(Stopwatch::start())?;
            Ok(sft.run.counters.cost.flops - before)
        })?;
    }
    Ok(())
}
