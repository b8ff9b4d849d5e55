//! The steps of this trainer, timed.

use std::path::Path;

use hearken_model::Head;
use hearken_tensor::Device;
use serde_json::json;

use super::{Inputs, RewardConfig, Session};
use crate::bench::{Clock, Materials};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::order::Order;
use crate::progress::Silent;
use crate::run_dir::{RunDir, Start};
use crate::schedule::Schedule;

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
    let config = &loaded.config;

    let (run, _) = RunDir::open(&config.run, &loaded.frozen, Start::Fresh)?;
    let inputs = Inputs::read(config, &mut Silent)?;
    let mut order = Order::sequential(inputs.data.train.len(), config.train.batch_size);
    let schedule = Schedule::new(&config.optimizer, steps);
    let mut session = Session::open(device, config, run, None, inputs, &mut Silent)?;
    for step in 1..=steps {
        clock.lap(|| {
            let before = session.counters.cost.flops;
            let batch = order.next_batch(&mut session.counters.cursor);
            session.step(step, schedule.learning_rate(step), &batch, Stopwatch::start())?;
            Ok(session.counters.cost.flops - before)
        })?;
    }
    Ok(())
}
