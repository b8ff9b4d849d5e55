//! The steps of trainers, one after the other.

use hearken_config::LoadedConfig;
use hearken_reward_source::RewardSource;
use hearken_run::error::TrainError;
use hearken_run::progress::Silent;
use hearken_run::run::Opened;
use hearken_run::run_dir::Start;
use hearken_tensor::Device;
use hearken_train::records::{RecordTrainer, RecordTraining};
use hearken_train::rollout::settings::Configured;
use hearken_train::rollout::train::{Configurable, Inputs, Iterations};

use super::Clock;

/// Why a run is never over before its first step: its directory is new.
const NEW: &str = "a run in a new directory has steps to make";

/// Times the steps of a trainer of records. `passes` is the work of a step in units of that of the
/// trained model.
pub(super) fn of_records<D: Device, T: RecordTrainer<D>>(
    device: D,
    loaded: &LoadedConfig<T::Config>,
    passes: f64,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let opened = RecordTraining::<D, T>::open(device, loaded, Start::Fresh, &mut Silent)?;
    let Opened::Ready(mut records) = opened else { unreachable!("{NEW}") };
    for _ in 0..records.run.total {
        clock.lap(|| {
            let before = records.run.counters.cost.flops;
            records.step(&mut Silent)?;
            Ok(passes * (records.run.counters.cost.flops - before))
        })?;
    }
    Ok(())
}

/// Times so many iterations of a trainer that samples. `more` is what is computed besides what the run
/// counts.
pub(super) fn of_rollouts<D: Device, T: Configurable<D>>(
    device: D,
    loaded: &LoadedConfig<T::Config>,
    sources: &mut dyn RewardSource,
    iterations: u64,
    more: impl Fn(&Iterations<'_, '_, D, T>) -> f64,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let config = T::within_memory(&loaded.config)?;
    let settings = config.settings();
    let inputs = Inputs { frozen: &loaded.frozen, entry: Start::Fresh.into(), sources };
    let opened = Iterations::open(device, T::new(config), settings, inputs, &mut Silent)?;
    let Opened::Ready(mut run) = opened else { unreachable!("{NEW}") };
    for _ in 0..iterations {
        clock.lap(|| {
            let before = run.session.run.counters.cost.flops;
            run.iterate(&mut Silent)?;
            Ok(run.session.run.counters.cost.flops - before + more(&run))
        })?;
    }
    Ok(())
}
