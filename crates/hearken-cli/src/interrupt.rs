//! Ctrl-C: the first asks to stop at the next good place, the second ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

use crate::output;

/// What the shell expects of a program that an interrupt ended: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Counts interrupts.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    count: Arc<AtomicUsize>,
}

impl Interrupt {
    /// [`Interrupt::install`] for a trainer.
    pub(crate) fn of_steps() -> Result<Self> {
        Self::install("stopping after this step, with a checkpoint")
    }

    /// For a trainer that is one of several ranks: their launcher passes on the signal that asks to stop, and ends
    /// them by the others.
    #[cfg(unix)]
    pub(crate) fn of_ranks() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("signals cannot be caught")?;
        let entered = runtime.enter();
        let mut signals =
            signal(SignalKind::user_defined1()).context("signals cannot be caught")?;
        drop(entered);
        std::thread::spawn(move || {
            runtime.block_on(async {
                while signals.recv().await.is_some() {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        });
        Ok(Self { count })
    }

    /// See above; here nothing but the end of a rank can be asked for.
    #[cfg(not(unix))]
    pub(crate) fn of_ranks() -> Result<Self> {
        Ok(Self::never())
    }

    /// One that never comes: interrupts end the program.
    pub(crate) fn never() -> Self {
        Self { count: Arc::default() }
    }

    /// Catches interrupts (and the polite form of termination) from here on; the first says what
    /// happens now.
    pub(crate) fn install(what: &'static str) -> Result<Self> {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        ctrlc::set_handler(move || {
            if counter.fetch_add(1, Ordering::SeqCst) == 0 {
                output::say(&format!("{what}; interrupt again to stop at once"));
            } else {
                end();
            }
        })
        .context("interrupts cannot be caught")?;
        Ok(Self { count })
    }

    /// Whether there was an interrupt.
    pub(crate) fn requested(&self) -> bool {
        0 < self.count.load(Ordering::SeqCst)
    }
}

#[expect(clippy::exit, reason = "asked to end at once, whatever the other threads do")]
fn end() {
    std::process::exit(i32::from(INTERRUPTED));
}

#[cfg(unix)]
/// Waits for an interrupt, or the polite form of termination.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).expect("invariant: SIGTERM can be listened for");
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.expect("invariant: SIGINT can be listened for"),
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
/// Waits for an interrupt, or the polite form of termination.
pub(crate) async fn interrupted() {
    tokio::signal::ctrl_c().await.expect("invariant: an interrupt can be listened for");
}
