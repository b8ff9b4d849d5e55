//! Bodies that are made piece by piece, each when the connection has taken the one before: a slow reader holds
//! one piece and no thread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody as _};
use futures_core::Stream;

/// The next piece and what the one after it is made from; `None` at the end.
pub(crate) type Made<S> = io::Result<Option<(Bytes, S)>>;

type Making<S> = Pin<Box<dyn Future<Output = Made<S>> + Send>>;

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        let frame =
            std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        match frame {
            Ok(frame) => {
                // What is no data is passed over.
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

struct Pieces<S, M> {
    make: M,
    from: Option<S>,
    making: Option<Making<S>>,
}

/// The body whose pieces `make` makes, the first from `first`. Where it fails the connection breaks: whoever reads
/// sees that something is missing.
pub(crate) fn body<S, F>(first: S, make: impl Fn(S) -> F + Send + Unpin + 'static) -> Body
where
    S: Send + Unpin + 'static,
    F: Future<Output = Made<S>> + Send + 'static,
{
    let make = move |from| -> Making<S> { Box::pin(make(from)) };
    Body::from_stream(Pieces { make, from: Some(first), making: None })
}

impl<S: Unpin, M: Fn(S) -> Making<S> + Unpin> Stream for Pieces<S, M> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let pieces = self.get_mut();
        if let Some(from) = pieces.from.take() {
            pieces.making = Some((pieces.make)(from));
        }
        let Some(making) = &mut pieces.making else { return Poll::Ready(None) };
        let made = ready!(making.as_mut().poll(context));
        pieces.making = None;
        Poll::Ready(match made {
            Ok(Some((piece, next))) => {
                pieces.from = Some(next);
                Some(Ok(piece))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }
}
