//! The steps of this trainer, timed, the reference's pass included.

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
    let model = materials.model_dir(&device, Head::LanguageModel)?;
    let records = materials.pairs()?;
    let sync = Value::Integer(materials.bench.steps_made().cast_signed() + 1);
    let section = Value::Table(Table::from_iter([("reference_sync_steps".to_owned(), sync)]));
    let more = Table::from_iter([("dpo".to_owned(), section)]);
    let loaded = materials.loaded::<DpoConfig>(&model, &records, more)?;
    // Forward and backward are three passes; the reference's is a fourth.
    of_records::<D, Dpo<D>>(device, &loaded, 4.0 / 3.0, clock)
}
