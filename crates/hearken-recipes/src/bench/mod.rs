//! The work of each trainer and of the sampler, timed step by step on random weights.
//!
//! | work | one step |
//! |---|---|
//! | `sft` | 8 sequences of 256 tokens |
//! | `reward` | 8 pairs: a prompt of 128 tokens, two completions of 128 |
//! | `dpo` | the same pairs; the reference's log-probabilities are computed in the step |
//! | `grpo` | one prompt of 64 tokens, 8 completions of 64, KL to the reference |
//! | `generate` | 32 prompts of 64 tokens, 64 new tokens each, sampled |
//! | `ppo` | 8 prompts of 60 tokens, 64 new tokens each; critic and reward model of the policy's shape; 4 epochs |
//!
//! Training steps are the trainers' own, on a model directory, records and a run directory that are
//! made for them in a scratch folder; nothing is left out of a step and nothing is added to it.
//! [`machine`] measures what the processor can do at best, and [`Timed`] where the time goes.

mod clock;
mod dpo;
mod generate;
mod grpo;
mod materials;
mod ppo;
mod reward;
mod sft;
mod shape;
mod steps;
mod timed;

pub mod machine;

use std::path::PathBuf;

use hearken_config::{Dtype, SamplingDtype};
use hearken_run::error::TrainError;
use hearken_tensor::Device;

pub use clock::{Lap, TimedSteps};
pub use shape::Shape;
pub use timed::{Kernels, Profile, Timed};

pub(crate) use clock::Clock;
pub(crate) use materials::{Materials, dtype_value, integer, path_value};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workload {
    /// Supervised fine-tuning.
    Sft,
    /// A reward model.
    Reward,
    /// Direct preference optimization.
    Dpo,
    /// Group-relative policy optimization; a step is an iteration of one optimizer step.
    Grpo,
    /// Sampling.
    Generate,
    /// Proximal policy optimization; a step is an iteration with all of its optimizer steps.
    Ppo,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Sft, Self::Reward, Self::Dpo, Self::Grpo, Self::Generate, Self::Ppo];

    /// The name that results carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Reward => "reward",
            Self::Dpo => "dpo",
            Self::Grpo => "grpo",
            Self::Generate => "generate",
            Self::Ppo => "ppo",
        }
    }

    /// Whether completions are sampled in it.
    pub fn samples(self) -> bool {
        matches!(self, Self::Grpo | Self::Generate | Self::Ppo)
    }

    /// The sizes in the table above.
    pub fn sizes(self) -> Sizes {
        match self {
            Self::Sft => Sizes { batch: 8, prompt: 0, completion: 256 },
            Self::Reward | Self::Dpo => Sizes { batch: 8, prompt: 128, completion: 128 },
            Self::Grpo => Sizes { batch: 8, prompt: 64, completion: 64 },
            Self::Generate => Sizes { batch: 32, prompt: 64, completion: 64 },
            Self::Ppo => Sizes { batch: 8, prompt: 60, completion: 64 },
        }
    }
}

/// How much there is in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sequences, pairs or prompts; of [`Workload::Grpo`] completions of one prompt.
    pub batch: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of a completion; of the whole sequence for [`Workload::Sft`].
    pub completion: usize,
}

impl Sizes {
    /// The longest sequence.
    pub fn length(self) -> usize {
        self.prompt + self.completion
    }

    /// The tokens that speed is counted in: new tokens of [`Workload::Generate`], otherwise every token
    /// of every sequence, the prompt again for each completion, whatever is computed only once.
    pub fn tokens(self, work: Workload) -> usize {
        match work {
            Workload::Generate => self.batch * self.completion,
            Workload::Reward | Workload::Dpo => 2 * self.batch * self.length(),
            Workload::Sft | Workload::Grpo | Workload::Ppo => self.batch * self.length(),
        }
    }
}

/// What to time.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The work.
    pub work: Workload,
    /// The model's dimensions.
    pub shape: Shape,
    /// What matrix products read.
    pub dtype: Dtype,
    /// What they read while completions are sampled.
    pub sampling: SamplingDtype,
    /// How much there is in a step.
    pub sizes: Sizes,
    /// Steps that are timed, after a first one that is not.
    pub steps: u64,
    /// An empty folder for models, records and run directories.
    pub scratch: PathBuf,
}

impl Bench {
    /// Steps that are made: the first one fills caches and the pool of buffers.
    pub(crate) fn steps_made(&self) -> u64 {
        self.steps + 1
    }
}

/// Makes what the work needs and times its steps.
///
/// # Errors
/// If the scratch folder cannot be written, or a step fails.
///
/// # Panics
/// If there is no step to time.
pub fn measure<D: Device>(device: D, bench: &Bench) -> Result<TimedSteps, TrainError> {
    run(device, bench, Clock::default())
}

/// As [`measure`], with the time of each kind of kernel in `profile`, the first step left out.
///
/// # Errors
/// As [`measure`].
///
/// # Panics
/// As [`measure`].
pub fn measure_kernels<D: Device>(
    device: D,
    bench: &Bench,
    profile: &Profile,
) -> Result<TimedSteps, TrainError> {
    run(Timed::new(device, profile.clone()), bench, Clock::with_profile(profile.clone()))
}

fn run<D: Device>(device: D, bench: &Bench, mut clock: Clock) -> Result<TimedSteps, TrainError> {
    assert!(0 < bench.steps, "there is a step to time");
    let mut materials = Materials::new(bench);
    match bench.work {
        Workload::Sft => sft::run(device, &mut materials, &mut clock)?,
        Workload::Reward => reward::run(device, &mut materials, &mut clock)?,
        Workload::Dpo => dpo::run(device, &mut materials, &mut clock)?,
        Workload::Grpo => grpo::run(device, &mut materials, &mut clock)?,
        Workload::Generate => generate::run(device, &mut materials, &mut clock)?,
        Workload::Ppo => ppo::run(device, &mut materials, &mut clock)?,
    }
    Ok(clock.stop(bench.sizes.tokens(bench.work)))
}

#[cfg(test)]
mod tests;
