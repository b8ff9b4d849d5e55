// A service on a socket, in this process.
//
// Included by path where it is needed.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each program that includes it uses a part; it may panic"
)]

use std::sync::Arc;
use std::thread::JoinHandle;

use hearken_collect::parts::Parts;
use hearken_collect::{Options, Service};
use hearken_store::Store;
use tokio::sync::oneshot;

/// Options of a service that nobody slows down.
pub(crate) fn unlimited() -> Options {
    Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        account_per_s: 1e6,
        token_per_s: 1e6,
        webhooks: false,
        ..Options::default()
    }
}

/// A service that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(store: Arc<dyn Store>, options: Options) -> Self {
        Self::start_with(store, options, Parts::default())
    }

    pub(crate) fn start_with(store: Arc<dyn Store>, options: Options, parts: Parts) -> Self {
        let (tell_url, url) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let service = Service::new(store, options, parts).unwrap();
                let listener = service.listen().await.unwrap();
                tell_url.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
                let stopped = async move {
                    // Dropped or told: both mean the end.
                    let _ = stopped.await;
                };
                service.serve(listener, stopped).await.unwrap();
            });
        });
        let url = url.recv().expect("the service starts");
        Self { url, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
