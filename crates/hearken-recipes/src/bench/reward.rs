//! The steps of this trainer, timed.

use std::path::Path;

use hearken_config::Configuration;
use hearken_model::Head;
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::reward::{Reward, RewardConfig};

use super::steps::of_records;
use super::{Clock, Materials};

/// Pairs of random completions of random prompts.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let steps = materials.bench.steps_made();
    let model = materials.model_dir(&device, Head::Score)?;
    let records = materials.pairs()?;
    let mut layers = RewardConfig::defaults(Path::new("bench"));
    materials.configure(&mut layers, &model, &records, steps);
    let loaded = RewardConfig::from_layers(layers)?;
    of_records::<D, Reward>(device, &loaded, 1.0, clock)
}
