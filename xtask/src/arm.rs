//! `cargo xtask arm`: the tests of hearken-tensor, built for 64-bit ARM and run under qemu-user.
//!
//! Debian's packages `qemu-user`, `gcc-aarch64-linux-gnu` and `libc6-dev-arm64-cross`, and the target of
//! the toolchain: `rustup target add aarch64-unknown-linux-gnu`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross packages have the C library that the emulated programs load.
const RUNNER: &str = "qemu-aarch64 -L /usr/aarch64-linux-gnu";

pub(crate) fn run(root: &Path) -> Result<()> {
    for (program, package) in [(LINKER, "gcc-aarch64-linux-gnu"), (EMULATOR, "qemu-user")] {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            bail!("{program} does not run: on Debian, install {package}");
        }
    }
    let target = format!("CARGO_TARGET_{}", TARGET.to_uppercase().replace('-', "_"));
    let linker = (format!("{target}_LINKER"), LINKER);
    let runner = (format!("{target}_RUNNER"), RUNNER);
    // Tests that start their own program again need the emulator, too.
    let variables = [
        (linker.0.as_str(), linker.1),
        (runner.0.as_str(), runner.1),
        ("HEARKEN_TEST_RUNNER", RUNNER),
    ];
    let tests = ["--lib", "--tests"];
    let package = ["test", "--release", "--target", TARGET, "--package", "hearken-tensor"];
    super::cargo(root, &[&package[..], &tests[..]].concat(), &variables)
}
