//! The steps of this trainer, timed.

use hearken_model::Head;
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_train::reward::{Reward, RewardConfig};
use toml::Table;

use super::steps::of_records;
use super::{Clock, Materials};

/// Pairs of random completions of random prompts.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let model = materials.model_dir(&device, Head::Score)?;
    let records = materials.pairs()?;
    let loaded = materials.loaded::<RewardConfig>(&model, &records, Table::new())?;
    of_records::<D, Reward>(device, &loaded, 1.0, clock)
}
