//! Tests under every family of kernels that this processor can run.
//!
//! Included by path where it is needed: `#[path = "…/hearken-tensor/tests/support/families.rs"]`. A
//! family is chosen once per process, so a test program starts itself again for each lower one.

use std::process::Command;

use hearken_tensor::{Cpu, KernelFamily};

/// The variable by which a test program tells itself which family to force.
const FAMILY: &str = "HEARKEN_TEST_KERNELS";

/// The variable that names a program that runs this one, and its arguments, where the processor at hand is
/// of another architecture.
const RUNNER: &str = "HEARKEN_TEST_RUNNER";

/// This test program, to be run once more.
fn program() -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let Ok(runner) = std::env::var(RUNNER) else { return Command::new(program) };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().expect("a runner has a name"));
    command.args(words).arg(program);
    command
}

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
        let ran = program().args(filters).env(FAMILY, family.name()).output();
        let ran = ran.expect("this program runs");
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ran.status.success(), "under {family}:\n{said}");
        assert!(!said.contains(" 0 passed"), "under {family} nothing ran:\n{said}");
    }
}
