//! What a reward model learns from decides who trains it.

use hearken_config::Loaded;
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run::Outcome;
use hearken_run::run_dir::Entry;
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
    loaded: &Loaded<RewardConfig>,
    entry: impl Into<Entry>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    match loaded.config.reward.kind {
        Kind::Preference => train::<D, Reward>(device, loaded, entry, progress),
        Kind::Outcome => train::<D, OutcomeReward>(device, loaded, entry, progress),
        Kind::Process => train::<D, ProcessReward>(device, loaded, entry, progress),
    }
}
