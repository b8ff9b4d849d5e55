//! What a reward model learns from decides who trains it.

use hearken_config::LoadedConfig;
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::OpenFor;
use hearken_tensor::Device;

use super::{Kind, OutcomeReward, ProcessReward, Reward, RewardConfig};
use crate::records::train;

/// Runs the configuration to its end, or until `progress` asks to stop; goes on from the last
/// checkpoint where there is one.
///
/// # Errors
/// If an input is not usable, a file cannot be written, or a number becomes NaN or infinite.
pub fn run<D: Device>(
    device: D,
    loaded: &LoadedConfig<RewardConfig>,
    entry: impl Into<OpenFor>,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    match loaded.config.reward.kind {
        Kind::Preference => train::<D, Reward>(device, loaded, entry, progress),
        Kind::Outcome => train::<D, OutcomeReward>(device, loaded, entry, progress),
        Kind::Process => train::<D, ProcessReward>(device, loaded, entry, progress),
    }
}
