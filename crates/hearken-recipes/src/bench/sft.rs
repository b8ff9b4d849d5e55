//! The steps of this trainer, timed.

use std::path::Path;

use hearken_config::Configuration;
use hearken_model::Head;
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::sft::{Sft, SftConfig};
use serde_json::json;

use super::steps::of_records;
use super::{Clock, Materials};

/// Sequences of random tokens, all of which are trained on.
pub(super) fn run<D: Device>(
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
    of_records::<D, Sft>(device, &loaded, 1.0, clock)
}
