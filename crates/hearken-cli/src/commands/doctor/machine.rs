//! What this machine is good for.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use hearken_tensor::device::{
    Precision, Rows, View, ViewMut, Weight, WeightLayout, WeightShape, Write,
};
use hearken_tensor::{AnyDevice, Device, KernelFamily};

use crate::machine::{self, Disk, Memory};
use crate::{device, output};

pub(super) fn examine() -> Result<ExitCode> {
    let threads = rayon::current_num_threads();
    let mut text = String::new();
    let _ = writeln!(text, "hearken     {}, {}", env!("CARGO_PKG_VERSION"), build());
    let _ = writeln!(text, "processor   {}, {threads} threads", std::env::consts::ARCH);
    let _ = writeln!(text, "models on   {}", device::described());
    let _ = writeln!(text, "kernels     {}", kernels());
    for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
        let _ = writeln!(text, "{name:11} {:.0} GFLOP/s in matrix products", speed(precision));
    }
    let _ = writeln!(text, "memory      {}", memory().unwrap_or_else(|| "unknown".to_owned()));
    let _ = writeln!(text, "disk here   {}", disk().unwrap_or_else(|| "unknown".to_owned()));
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn build() -> &'static str {
    if cfg!(debug_assertions) {
        "a debug build; `cargo build --release` makes one that is many times faster"
    } else {
        "a release build"
    }
}

/// The family of kernels in use, and why it is that one.
fn kernels() -> String {
    let (current, best) = (KernelFamily::current(), KernelFamily::best());
    if current != best {
        return format!("{current}, forced by {}; {best} would be the best here", device::KERNELS);
    }
    let above = KernelFamily::ALL.into_iter().skip_while(|&family| family != current).skip(1);
    let above = above.filter(|&family| family != KernelFamily::Neon);
    let reason = |family: KernelFamily| match family.missing() {
        missing if missing.is_empty() => {
            format!(
                "{family}, which it has, is slower: it multiplies bfloat16 at half the speed of f32"
            )
        }
        missing => format!("{family} lacks {}", missing.join(", ")),
    };
    let reasons: Vec<String> = above.map(reason).collect();
    let why = if reasons.is_empty() { String::new() } else { format!("; {}", reasons.join("; ")) };
    format!("{current}, the best that this processor has{why}")
}

/// 10⁹ floating-point operations per second in products as a transformer has them.
fn speed(precision: Precision) -> f64 {
    const ROWS: usize = 256;
    const WIDTH: usize = 1024;
    const ENOUGH: Duration = Duration::from_millis(200);
    let device = device::open();
    let weight = device.upload(&vec![0.01; WIDTH * WIDTH]);
    let prepared = <AnyDevice as Device>::Prepared::default();
    let x = device.upload(&vec![0.5; ROWS * WIDTH]);
    let mut y = device.scratch(ROWS * WIDTH);
    let layout = WeightLayout::OutputsByInputs;
    let shape = WeightShape { inputs: WIDTH, outputs: WIDTH, layout, precision };
    let mut product = || {
        let rows = Rows::dense(ROWS, WIDTH);
        let weight = Weight { values: &weight, prepared: &prepared, shape };
        device.linear(
            View::new(&x, rows),
            weight,
            None,
            ViewMut::new(&mut y, rows),
            Write::Overwrite,
        );
    };
    // The first one warms up and prepares the weight.
    product();
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < ENOUGH {
        product();
        count += 1;
    }
    let operations = 2.0 * (ROWS * WIDTH * WIDTH) as f64 * f64::from(count);
    operations / start.elapsed().as_secs_f64() / 1e9
}

/// Total and available memory.
fn memory() -> Option<String> {
    let Memory { free, total, limit } = machine::memory()?;
    let mut shown = format!("{} of {} available", gigabytes(free), gigabytes(total));
    if let Some(limit) = limit {
        let _ = write!(shown, ", this container may use {}", gigabytes(limit));
    }
    Some(shown)
}

fn disk() -> Option<String> {
    let Disk { free, total } = machine::disk(Path::new("."))?;
    Some(format!("{} of {} free", gigabytes(free), gigabytes(total)))
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
