//! The device that models run on, and the kernels that it runs.

use anyhow::{Context, Result};
use hearken_tensor::{Cpu, KernelFamily};

/// The variable that forces a lower family of kernels than the processor could run.
pub(crate) const KERNELS: &str = "HEARKEN_KERNELS";

/// Makes kernels run with the family that the environment asks for, if it asks for one. Called once,
/// before any of them runs.
pub(crate) fn choose_kernels() -> Result<()> {
    let Some(name) = std::env::var_os(KERNELS).filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let forced = name.to_string_lossy().parse().and_then(KernelFamily::force);
    forced.with_context(|| format!("the environment variable {KERNELS}"))
}

/// The device that models run on.
pub(crate) fn open() -> Cpu {
    Cpu::new()
}
