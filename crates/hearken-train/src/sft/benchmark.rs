//! The steps of this trainer, timed.

use std::path::Path;

use hearken_model::Head;
use hearken_tensor::Device;
use serde_json::json;

use super::{Session, SftConfig, read_data};
use crate::bench::{Clock, Materials};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::order::Order;
use crate::progress::Silent;
use crate::run_dir::{RunDir, Start};
use crate::schedule::Schedule;
use crate::seeds::Seeds;

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
    let config = &loaded.config;

    let (run, _) = RunDir::open(&config.run, &loaded.frozen, Start::Fresh)?;
    let seeds = Seeds::new(config.run.seed);
    let data = read_data(config, None, seeds, &mut Silent)?;
    let mut order = Order::sequential(data.train.len(), config.train.batch_size);
    let schedule = Schedule::new(&config.optimizer, steps);
    let mut session = Session::open(device, config, run, None, (seeds, None, data))?;
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
