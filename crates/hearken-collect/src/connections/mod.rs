//! Connections from their first byte to their last: how long they may take, and how many there may be.
//!
//! Whoever opens a connection and sends nothing, sends slowly or reads nothing holds a connection and some
//! kilobytes of memory, no thread, and that not for long. Where all connections are taken, the one that has
//! waited longest for a request makes room; one whose request is being answered never does.

mod patient;
mod roll;
mod timed;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::patient::Patient;
use self::roll::{Entry, Roll};
use self::timed::{Held, Timed};
use crate::error::problem_json;
use crate::limits::network;
use crate::options::Options;

/// How long the head of a request may take, and how long a connection waits for the next one.
const HEAD: Duration = Duration::from_secs(20);
/// How long a connection may take nothing of what is sent to it.
const UNREAD: Duration = Duration::from_secs(30);
/// Bytes of the head of a request, and bytes of an answer that wait for a slow connection.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the service waits before it looks again when the system gives it no connection.
const REFUSED: Duration = Duration::from_millis(50);
/// Files that the store, temporary files and models may need beside the connections.
const OTHER_FILES: usize = 256;
/// The most connections, however many files a process may have.
const CONNECTIONS_MAX: usize = 16_384;

/// Answers requests until `stopping` says so; gives when those under way are finished.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    options: &Options,
    mut stopping: watch::Receiver<bool>,
) {
    let roll = Arc::new(Roll::new(connections_max(), options.connections_per_address));
    let behind_proxy = options.public_url.is_some();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            accepted = accept(&listener, &roll) => accepted,
        };
        let Some((stream, peer)) = accepted else { continue };
        // What a proxy on this machine passes on comes from many people.
        let from = (!(behind_proxy && peer.ip().is_loopback())).then(|| network(peer.ip()));
        let Some(entry) = roll.enter(from) else { continue };
        tokio::spawn(converse(stream, peer, router.clone(), entry, stopping.clone()));
    }
    drop(listener);
    roll.emptied().await;
}

/// The next connection, when there is room for one.
async fn accept(listener: &TcpListener, roll: &Roll) -> Option<(TcpStream, SocketAddr)> {
    roll.room().await;
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
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
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    entry: Entry,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are small and somebody waits for them.
    let _ = stream.set_nodelay(true);
    let entry = Arc::new(entry);
    let service = {
        let entry = Arc::clone(&entry);
        service_fn(move |request| answer(router.clone(), request, peer, Arc::clone(&entry)))
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
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    entry: Arc<Entry>,
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
        problem_json(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come in time")
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
