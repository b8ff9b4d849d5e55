//! Answers as events of a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use hearken_data::Completion;
use hearken_generate::TokenReport;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::answer::Progressed;
use crate::error::ApiError;

/// What makes chunks of an answer that is on its way.
pub(crate) trait Chunks: Send + Unpin + 'static {
    /// How many choices there are.
    fn choices(&self) -> usize;

    /// What is sent before the first token.
    fn begin(&mut self) -> Vec<Bytes>;

    /// What is sent for a part of the answer.
    fn part(&mut self, told: Progressed) -> Vec<Bytes>;

    /// What is sent when all has been said.
    fn end(&mut self) -> Vec<Bytes>;

    /// What is sent where there will be nothing more.
    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![event(&error.body())]
    }
}

/// What makes the choices of an answer that is sent at once.
pub(crate) trait Choices: Chunks {
    type Choice;

    /// Takes a token, and the text that is certain with it.
    fn take(&mut self, choice: usize, id: u32, text: &str, report: Option<TokenReport>);

    /// A choice of which nothing more will come.
    fn ended(&mut self, choice: usize, completion: Completion) -> Self::Choice;
}

/// The choices of an answer, in their order, once all have ended.
pub(crate) async fn whole<C: Choices>(
    mut told: mpsc::Receiver<Progressed>,
    choices: &mut C,
) -> Result<Vec<C::Choice>, ApiError> {
    let mut ended = Vec::new();
    while let Some(told) = told.recv().await {
        match told {
            Progressed::Token { choice, id, text, report } => {
                choices.take(choice, id, &text, report);
            }
            Progressed::Ended { choice, completion } => {
                ended.push((choice, choices.ended(choice, completion)));
            }
            Progressed::Failed(error) => return Err(error),
        }
    }
    check_all_ended(ended.len(), choices.choices())?;
    ended.sort_by_key(|(index, _)| *index);
    Ok(ended.into_iter().map(|(_, choice)| choice).collect())
}

/// What ends a stream that is whole.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A value as an event without a name.
pub(crate) fn event(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).expect("answers have no maps with keys but texts");
    Bytes::from(format!("data: {json}\n\n"))
}

/// Whether nothing of an answer is missing.
pub(crate) fn check_all_ended(ended: usize, choices: usize) -> Result<(), ApiError> {
    match ended == choices {
        true => Ok(()),
        false => Err(ApiError::Internal("the answer was broken off".to_owned())),
    }
}

/// The events of one answer.
struct Events<C> {
    told: mpsc::Receiver<Progressed>,
    chunks: C,
    /// What waits to be sent, the next one last.
    ready: Vec<Bytes>,
    /// Choices that have ended.
    ended: usize,
    is_over: bool,
}

impl<C: Chunks> Stream for Events<C> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let events = self.get_mut();
        loop {
            if let Some(next) = events.ready.pop() {
                return Poll::Ready(Some(Ok(next)));
            }
            if events.is_over {
                return Poll::Ready(None);
            }
            events.ready = match std::task::ready!(events.told.poll_recv(context)) {
                Some(Progressed::Failed(error)) => {
                    events.is_over = true;
                    events.chunks.failed(&error)
                }
                Some(told) => {
                    events.ended += usize::from(matches!(told, Progressed::Ended { .. }));
                    events.chunks.part(told)
                }
                None => {
                    events.is_over = true;
                    match check_all_ended(events.ended, events.chunks.choices()) {
                        Ok(()) => events.chunks.end(),
                        Err(error) => events.chunks.failed(&error),
                    }
                }
            };
            events.ready.reverse();
        }
    }
}

/// The answer as a stream of events. Whoever drops it cancels what is not sampled yet.
pub(crate) fn response(told: mpsc::Receiver<Progressed>, mut chunks: impl Chunks) -> Response {
    let mut ready = chunks.begin();
    ready.reverse();
    let events = Events { told, chunks, ready, ended: 0, is_over: false };
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies would wait for more.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
