//! The device that models run on, and the kernels that the processor runs.

use anyhow::{Context, Result};
use hearken_tensor::{AnyDevice, Cpu, KernelFamily};

/// The variable that forces a lower family of kernels than the processor could run.
pub(crate) const KERNELS: &str = "HEARKEN_KERNELS";
/// The variable that says which device models run on.
const DEVICE: &str = "HEARKEN_DEVICE";

/// What a variable says, if it says anything.
fn asked(variable: &str) -> Option<String> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(value.to_string_lossy().into_owned())
}

/// Reads what the environment asks for: makes kernels run with that family, and checks that there is
/// that device. Called once, before any model is there.
pub(crate) fn choose() -> Result<()> {
    if let Some(name) = asked(KERNELS) {
        let forced = name.parse().and_then(KernelFamily::force);
        forced.with_context(|| format!("the environment variable {KERNELS}"))?;
    }
    chosen().map(drop)
}

fn chosen() -> Result<AnyDevice> {
    let Some(name) = asked(DEVICE) else { return Ok(AnyDevice::Cpu(Cpu::new())) };
    name.parse().with_context(|| format!("the environment variable {DEVICE}"))
}

/// The device that models run on, and why it is that one where it is not the processor.
pub(crate) fn described() -> String {
    match open() {
        AnyDevice::Cpu(_) => "the processor".to_owned(),
        AnyDevice::Reference(_) => {
            format!("the slow device that computes in f64 as definitions read, chosen by {DEVICE}")
        }
    }
}

/// A device of the kind that models run on: the one that the environment asks for, or the processor.
pub(crate) fn open() -> AnyDevice {
    chosen().expect("it was checked when the program started")
}
