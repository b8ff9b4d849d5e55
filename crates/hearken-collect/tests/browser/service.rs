//! A service on a store in a folder of its own, on a port of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use hearken_collect::accounts::{self, NewAccount, Role};
use hearken_collect::parts::Parts;
use hearken_collect::{Media, OpenId, Options, ProjectSettings, Service};
use hearken_data::feedback::{Candidate, Item, Judgement, Task};
use hearken_data::{Message, Role as Speaker};
use hearken_store::Store;
use tokio::sync::oneshot;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// A service that listens; it stops when this is dropped.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    folder: Option<tempfile::TempDir>,
}

/// What a test starts a service with.
#[derive(Default)]
pub(crate) struct Start {
    pub(crate) items: Vec<Item>,
    pub(crate) settings: ProjectSettings,
    pub(crate) people: Vec<(&'static str, Role)>,
    pub(crate) parts: Parts,
    pub(crate) guidelines: &'static str,
    pub(crate) openid: Option<OpenId>,
}

impl Start {
    pub(crate) fn with(items: Vec<Item>) -> Self {
        Self { items, ..Self::default() }
    }

    pub(crate) fn run(self) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hearken.db");
        let store: Arc<dyn Store> = hearken_store::open(file.to_str().unwrap()).unwrap().into();
        store.add_items(&self.items).unwrap();
        for (at, (name, role)) in (1..).zip(self.people) {
            let new = NewAccount { name, password: PASSWORD, role };
            accounts::create(&*store, new, at).unwrap();
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let begin = (Some(&self.settings), self.guidelines);
        let options = Options { openid: self.openid, ..options(address) };
        let mut running = serve(store, options, self.parts, begin);
        running.folder = Some(folder);
        running
    }
}

fn options(bind: SocketAddr) -> Options {
    let media = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/media");
    Options { bind, media: Some(Media::Folder(media)), ..Options::default() }
}

fn serve(
    store: Arc<dyn Store>,
    options: Options,
    parts: Parts,
    (settings, guidelines): (Option<&ProjectSettings>, &str),
) -> Running {
    let service = Service::new(Arc::clone(&store), options, parts).unwrap();
    if let Some(settings) = settings {
        service.state().put_settings(settings).unwrap();
    }
    if !guidelines.is_empty() {
        service.state().add_guidelines(0, guidelines).unwrap();
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = service.listen().await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            tokio::select! {
                served = service.serve(listener, std::future::pending()) => served.unwrap(),
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    });
    let address = told.recv().unwrap();
    let url = format!("http://{address}");
    Running { url, store, address, stop: Some(stop), thread: Some(thread), folder: None }
}

impl Running {
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Breaks every connection off, as a machine that goes down does.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Starts again on the same store and the same port.
    pub(crate) fn start_again(&mut self) {
        let (store, options) = (Arc::clone(&self.store), options(self.address));
        let mut next = serve(store, options, Parts::default(), (None, ""));
        self.stop = next.stop.take();
        self.thread = next.thread.take();
    }

    /// Every judgement, in order.
    pub(crate) fn judgements(&self) -> Vec<Judgement> {
        let all = self.store.judgements(0, 10_000).unwrap();
        all.into_iter().map(|placed| placed.record).collect()
    }

    /// Waits until there are as many judgements.
    #[track_caller]
    pub(crate) fn wait_for_judgements(&self, wanted: usize) -> Vec<Judgement> {
        for _ in 0..1_500 {
            let found = self.judgements();
            if wanted <= found.len() {
                assert_eq!(found.len(), wanted);
                return found;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} judgements of {wanted}", self.judgements().len());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn prompt(text: &str) -> Vec<Message> {
    vec![Message::new(Speaker::User, text)]
}

/// Pairs whose answers say which they are, of two models.
pub(crate) fn pairs(n: usize) -> Vec<Item> {
    let long = "It is worth looking at this **step by step**, because there is more to it. ";
    (0..n)
        .map(|index| {
            let short = format!("First candidate of pair {index}: `{}`.", index * 3);
            let other = format!("Second candidate of pair {index}. {}", long.repeat(1 + index % 4));
            let prompt = prompt(&format!("Question {index}: what is $3 \\times {index}$?"));
            let candidates = vec![
                Candidate::text(short).by("model-alpha"),
                Candidate::text(other).by("model-beta"),
            ];
            let mut item = Item::new(Task::Pairwise, prompt, candidates);
            item.id = format!("pair-{index}");
            item
        })
        .collect()
}
