//! The steps of this trainer, timed, the reference's pass included.

use std::path::Path;

use hearken_config::Configuration;
use hearken_model::Head;
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::dpo::{Dpo, DpoConfig};
use toml::{Table, Value};

use super::steps::of_records;
use super::{Clock, Materials};

/// Pairs of random completions of random prompts. The reference is one that may move (and never
/// does): its log-probabilities are computed in every step and none are stored.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let steps = materials.bench.steps_made();
    let model = materials.model_dir(&device, Head::LanguageModel)?;
    let records = materials.pairs()?;
    let mut layers = DpoConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &model, &records, steps);
    let sync = Value::Integer(steps.cast_signed() + 1);
    let section = Value::Table(Table::from_iter([("reference_sync_steps".to_owned(), sync)]));
    layers.merge(Table::from_iter([("dpo".to_owned(), section)]));
    let loaded = DpoConfig::from_layers(layers)?;
    // Forward and backward are three passes; the reference's is a fourth.
    of_records::<D, Dpo<D>>(device, &loaded, 4.0 / 3.0, clock)
}
