//! Connections from their first byte to their last: how long they may take, and how many there may be.
//!
//! Whoever opens a connection and sends nothing, sends slowly or reads nothing holds a connection and some
//! kilobytes of memory, no thread, and that not for long. Where all connections are taken, the one that has
//! waited longest for a request makes room; one whose request is being answered never does.
//!
//! Read in this order: [`serve`], `patient` (who reads nothing), `timed` (who sends slowly), `roll` (who is
//! connected), [`network()`] and [`host`] (whose address it is).
//!
//! Not here: what is answered.
#![deny(missing_docs)]

mod patient;
mod timed;

mod roll;

pub mod host;
mod network;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::network::network;
use self::patient::Patient;
use self::roll::{Roll, RollEntry};
use self::timed::{Held, Timed};

/// How long the head of a request may take, and how long a connection waits for the next one.
const HEAD: Duration = Duration::from_secs(20);
/// How long a connection may take nothing of what is sent to it.
const UNREAD: Duration = Duration::from_secs(30);
/// Bytes of the head of a request, and bytes of an answer that wait for a slow connection.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections that have been taken and of which nobody knows yet whether a request has come with them. More are not
/// taken meanwhile: of a burst, the first would make room for the last though their requests lie there unread.
const UNSEEN: usize = 64;
/// How long a connection counts as one of them at most.
const LOOK: Duration = Duration::from_millis(20);
/// How long the service waits before it looks again when the system gives it no connection.
const REFUSED: Duration = Duration::from_millis(50);
/// Files that the store, temporary files and models may need beside the connections.
const OTHER_FILES: usize = 256;
/// The most connections, however many files a process may have.
const CONNECTIONS_MAX: usize = 16_384;

/// How a service takes connections.
#[derive(Clone, Copy, Debug)]
pub struct Reception {
    /// Connections of one address (of IPv6, of one /64).
    pub per_address: usize,
    /// Whether a proxy on this machine passes on what comes from many people.
    pub behind_proxy: bool,
    /// The answer where the body of a request did not come in time.
    pub late: fn() -> Response,
}

/// Answers requests until `stopping` says so; gives when those under way are finished.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    reception: Reception,
    mut stopping: watch::Receiver<bool>,
) {
    let roll = Arc::new(Roll::new(connections_max(), reception.per_address));
    let unseen = Arc::new(Semaphore::new(UNSEEN));
    let behind_proxy = reception.behind_proxy;
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            accepted = accept(&listener, &roll, &unseen) => accepted,
        };
        let Some(arrival) = accepted else { continue };
        let ip = arrival.peer.ip();
        // What a proxy on this machine passes on comes from many people.
        let from = (!(behind_proxy && ip.is_loopback())).then(|| network(ip));
        let Some(entry) = roll.enter(from) else { continue };
        tokio::spawn(converse(arrival, router.clone(), reception.late, entry, stopping.clone()));
    }
    drop(listener);
    roll.emptied().await;
}

/// A connection that has been taken.
struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    /// Until somebody has looked whether a request has come with it.
    unseen: Option<OwnedSemaphorePermit>,
}

/// The next connection, when there is room for one.
async fn accept(listener: &TcpListener, roll: &Roll, unseen: &Arc<Semaphore>) -> Option<Arrival> {
    roll.room().await;
    // Nobody closes the semaphore.
    let unseen = Arc::clone(unseen).acquire_owned().await.ok();
    match listener.accept().await {
        Ok((stream, peer)) => Some(Arrival { stream, peer, unseen }),
        Err(error) => {
            tracing::warn!("a connection could not be taken: {error}");
            roll.make_room();
            tokio::time::sleep(REFUSED).await;
            None
        }
    }
}

/// Answers the requests of one connection.
async fn converse(
    Arrival { stream, peer, unseen }: Arrival,
    router: Router,
    too_late: fn() -> Response,
    entry: RollEntry,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are small and somebody waits for them.
    let _ = stream.set_nodelay(true);
    // Bytes or not, the time is what counts.
    let _ = tokio::time::timeout(LOOK, stream.readable()).await;
    drop(unseen);
    let entry = Arc::new(entry);
    let service = {
        let entry = Arc::clone(&entry);
        service_fn(move |request| {
            answer(router.clone(), too_late, request, peer, Arc::clone(&entry))
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, UNREAD)), service);
    tokio::pin!(connection);
    let mut ends = false;
    loop {
        tokio::select! {
            // A request that lies there is begun before the connection is asked to go.
            biased;
            // That a connection breaks off is the business of the one who opened it.
            _ = connection.as_mut() => break,
            () = entry.sent_away() => break,
            _ = stopping.wait_for(|stopping| *stopping), if !ends => {
                ends = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers one request; the connection is busy until the answer is sent.
async fn answer(
    router: Router,
    too_late: fn() -> Response,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    entry: Arc<RollEntry>,
) -> Result<Response, std::convert::Infallible> {
    let busy = entry.begin();
    let late = Arc::new(AtomicBool::new(false));
    let mut request: Request = request.map(|body| match body.is_end_stream() {
        true => Body::empty(),
        false => Body::new(Timed::new(body, Arc::clone(&late))),
    });
    request.extensions_mut().insert(ConnectInfo(peer));
    let answered = TowerToHyperService::new(router).call(request).await?;
    let answered = if late.load(Ordering::Relaxed) && !answered.status().is_success() {
        too_late()
    } else {
        answered
    };
    Ok(answered.map(|body| Body::new(Held::new(body, busy))))
}

/// As many connections as the files that this process may open leave room for.
fn connections_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = files.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let files: usize = files.unwrap_or(1024);
    files.saturating_sub(OTHER_FILES).max(files / 2).clamp(1, CONNECTIONS_MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::io::{Read as _, Write as _};

    /// One thread takes all connections of a burst before it reads from any: of those that have sent a request, none
    /// makes room unread, however many come after it.
    #[test]
    fn a_burst_above_the_limit_is_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        };
        let streams: Vec<_> = (0..120).map(connect).collect();
        let (tell, told) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        let reception = Reception { per_address: 40, behind_proxy: false, late: Response::default };
        let serving = std::thread::spawn(move || {
            runtime.block_on(serve(listener, router, reception, told));
        });
        let answered = |mut stream: &std::net::TcpStream| {
            let mut start = [0; 12];
            stream.read_exact(&mut start).is_ok_and(|()| &start == b"HTTP/1.1 200")
        };
        assert_eq!(streams.iter().filter(|stream| answered(stream)).count(), 120);
        drop(streams);
        tell.send(true).unwrap();
        serving.join().unwrap();
    }
}
