//! The threads on which the store is asked.

use std::fmt;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Requests that may be at the store at the same time; more wait.
const THREADS: usize = 256;
/// How long a thread without work stays.
const STAYS: Duration = Duration::from_secs(10);

/// Threads that ask the store and do nothing else, so that whatever else blocks keeps no request from it. They
/// are those of a runtime that runs nothing.
pub(crate) struct StorePool(Option<Runtime>);

impl fmt::Debug for StorePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl StorePool {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        builder.max_blocking_threads(THREADS).thread_keep_alive(STAYS);
        Ok(Self(Some(builder.thread_name("hearken-store").build()?)))
    }

    /// Runs `work` on one of the threads.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let runtime = self.0.as_ref().expect("invariant: it is there until it is dropped");
        runtime.spawn_blocking(work)
    }
}

impl Drop for StorePool {
    fn drop(&mut self) {
        // What is under way ends by itself: it is not waited for where requests are driven.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
