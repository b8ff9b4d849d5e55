//! The steps of this trainer, timed, the reference's pass included.

use std::path::Path;

use hearken_model::Head;
use hearken_tensor::Device;
use serde_json::json;
use toml::{Table, Value};

use super::{Dpo, DpoConfig, Records, within_memory};
use crate::bench::{Clock, Materials};
use crate::error::TrainError;
use crate::metrics::Stopwatch;
use crate::progress::Silent;
use crate::record_run::Opening;
use crate::run_dir::Start;

/// Pairs of random completions of random prompts. The reference is one that may move (and never
/// does): its log-probabilities are computed in every step and none are stored.
pub(crate) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let (sizes, steps) = (materials.bench.sizes, materials.bench.steps_made());
    let model = materials.model_dir(&device, Head::LanguageModel)?;
    let records = materials.records(|materials| {
        Ok(json!({
            "prompt_ids": materials.ids(sizes.prompt)?,
            "chosen_ids": materials.ids(sizes.completion)?,
            "rejected_ids": materials.ids(sizes.completion)?,
        }))
    })?;
    let mut layers = DpoConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &model, &records, steps);
    let sync = Value::Integer(steps.cast_signed() + 1);
    let section = Value::Table(Table::from_iter([("reference_sync_steps".to_owned(), sync)]));
    layers.merge(Table::from_iter([("dpo".to_owned(), section)]));
    let loaded = DpoConfig::from_layers(layers)?;
    let config = &within_memory(&loaded.config)?;

    let opening = Opening::new(config.settings(), &loaded.frozen, Start::Fresh, &mut Silent)?;
    let records = Records::read(config, None, opening.seeds, &mut Silent)?;
    let mut dpo = Dpo::open(device, config, opening, records, &mut Silent)?;
    for _ in 0..steps {
        clock.lap(|| {
            let before = dpo.run.counters.cost.flops;
            dpo.step(Stopwatch::start())?;
            let training = dpo.run.counters.cost.flops - before;
            // Forward and backward are three passes; the reference's is a fourth.
            Ok(training * 4.0 / 3.0)
        })?;
    }
    Ok(())
}
