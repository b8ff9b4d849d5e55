//! The first tier of the tests: what is worth its time after every change.
//!
//! All unit tests, and the suites below, which see kernels, gradients, formats, statistics and the
//! command line's messages. What trains for long, starts servers or browsers, or kills programs is
//! left to `cargo test --release`, which is the whole.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Suites of integration tests, by the names of their targets.
const SUITES: &[&str] = &[
    "annotators",
    "chat_format",
    "checkpoint_files",
    "configurations",
    "encoding",
    "endings",
    "engine",
    "errors",
    "feedback",
    "files",
    "forest",
    "formats",
    "golden",
    "kernels",
    "names",
    "pairwise",
    "preferences",
    "sequences",
    "social_choice",
    "split",
    "strengths",
    "tokenizer_files",
];

/// What the tier may take, its build aside.
const BUDGET: Duration = Duration::from_secs(180);

pub(super) fn run(root: &Path) -> Result<()> {
    let suites = SUITES.iter().flat_map(|name| ["--test", name]);
    let mut arguments = vec!["test", "--release", "--workspace", "--lib", "--bins"];
    arguments.extend(suites);
    super::cargo(root, &[&arguments[..], &["--no-run", "--quiet"]].concat(), &[])?;
    let start = Instant::now();
    super::cargo(root, &[&arguments[..], &["--quiet"]].concat(), &[])?;
    let (took, budget) = (start.elapsed().as_secs_f64(), BUDGET.as_secs_f64());
    super::say(&format!("the quick tests took {took:.0} s of {budget:.0}"));
    if budget < took {
        bail!(
            "the quick tests took {took:.0} s, more than {budget:.0}: move what is slow out of xtask/src/quick.rs"
        );
    }
    Ok(())
}
