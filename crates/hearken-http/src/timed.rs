//! Bodies of requests that have to come in time, bodies of answers that say when they are sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::{BoxError, Error};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::roll::Busy;

/// How long a body may take whatever its size, and how long it may stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes a second that a long body comes at, at least, on average.
const BYTES_PER_S: f64 = 16_384.0;

/// The body of a request.
pub(crate) struct Timed {
    body: Incoming,
    started: Instant,
    bytes: u64,
    end: Pin<Box<Sleep>>,
    late: Arc<AtomicBool>,
}

impl Timed {
    /// The same body; where it takes too long, it breaks off and `late` is set.
    pub(crate) fn new(body: Incoming, late: Arc<AtomicBool>) -> Self {
        let end = Box::pin(sleep(PATIENCE));
        Self { body, started: Instant::now(), bytes: 0, end, late }
    }
}

/// When a body has to have more than `bytes` bytes.
fn deadline(started: Instant, now: Instant, bytes: u64) -> Instant {
    let by_size = started + PATIENCE + Duration::from_secs_f64(bytes as f64 / BYTES_PER_S);
    by_size.min(now + PATIENCE)
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let timed = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut timed.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                timed.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                timed.end.as_mut().reset(deadline(timed.started, Instant::now(), timed.bytes));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(timed.end.as_mut().poll(context));
        timed.late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its connection is busy until it is sent.
pub(crate) struct Held {
    body: Body,
    _busy: Busy,
}

impl Held {
    pub(crate) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_has_longer_and_none_may_stop() {
        let started = Instant::now();
        let after = |bytes, s| deadline(started, started + Duration::from_secs(s), bytes) - started;
        assert_eq!(after(0, 0), PATIENCE);
        assert_eq!(after(16_384, 29), Duration::from_secs(31));
        assert_eq!(after(1 << 30, 10), Duration::from_secs(40));
    }
}
