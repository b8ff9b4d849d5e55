//! The pages in a real browser: headless Chromium, driven from here. Where there is none the tests
//! are skipped and say so. `$HEARKEN_SCREENSHOTS` names a folder for pictures of the pages.

// Helpers of tests may panic and report as tests do.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::unnecessary_box_returns
)]

mod attacks;
mod cdp;
mod desk;
mod first_hour;
mod live;
mod pairwise;
mod projects;
mod service;
mod tasks;
mod written;

/// A browser for one test, or nothing where the machine has none.
fn browser() -> Option<cdp::Browser> {
    let found = cdp::chromium();
    if found.is_none() {
        hearken_testing::skip(
            "no chromium, chromium-browser or google-chrome in PATH or $CHROMIUM",
        );
    }
    found.map(|program| cdp::Browser::start(&program))
}
