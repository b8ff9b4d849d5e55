//! The steps of this trainer, timed.

use hearken_model::Head;
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::sft::{Sft, SftConfig};
use serde_json::json;
use toml::Table;

use super::steps::of_records;
use super::{Clock, Materials};

/// Sequences of random tokens, all of which are trained on.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let length = materials.bench.sizes.length();
    let model = materials.model_dir(&device, Head::LanguageModel)?;
    let records = materials.records(|materials| {
        Ok(json!({ "input_ids": materials.ids(length)?, "loss_mask": vec![1; length] }))
    })?;
    let loaded = materials.loaded::<SftConfig>(&model, &records, Table::new())?;
    of_records::<D, Sft>(device, &loaded, 1.0, clock)
}
