//! Tests under every family of kernels that this processor can run.
//!
//! Included by path where it is needed: `#[path = "…/hearken-tensor/tests/support/families.rs"]`. A
//! family is chosen once per process, so a test program starts itself again for each lower one.

use std::process::Command;

use hearken_tensor::{Cpu, KernelFamily};

/// The variable by which a test program tells itself which family to force.
const FAMILY: &str = "HEARKEN_TEST_KERNELS";

/// The processor, with the family that this process is to test.
pub(crate) fn cpu() -> Cpu {
    if let Ok(name) = std::env::var(FAMILY) {
        name.parse::<KernelFamily>().expect("a family").force().expect("the processor has it");
    }
    Cpu::new()
}

/// Runs the tests whose names contain one of `filters`, all if there are none, under each family below
/// the best one. Those tests make their devices by [`cpu`].
pub(crate) fn pass_under_every_family(filters: &[&str]) {
    if std::env::var_os(FAMILY).is_some() {
        return;
    }
    let best = KernelFamily::best();
    for family in KernelFamily::available().into_iter().filter(|&family| family != best) {
        let program = std::env::current_exe().expect("this program has a path");
        let ran = Command::new(program).args(filters).env(FAMILY, family.name()).output();
        let ran = ran.expect("this program runs");
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ran.status.success(), "under {family}:\n{said}");
        assert!(!said.contains(" 0 passed"), "under {family} nothing ran:\n{said}");
    }
}
