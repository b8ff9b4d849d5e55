//! Two answers at once, as lines of JSON while they come.
//!
//! Models are waited for on threads of their own, two for a prompt, so that however many are slow, whatever else the
//! service does has its threads. How many prompts there may be at once the limits say.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use futures_core::Stream;
use hearken_data::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep};

use super::exchange::{Exchange, ExchangeAnswer};
use crate::limits::Seat;
use crate::render::{Heading, markdown};
use crate::state::AppState;

/// Lines that may wait for a slow connection before the models wait too.
const WAITING_MAX: usize = 64;
/// How long a model waits for a connection that takes no line.
const UNREAD: Duration = Duration::from_secs(30);
/// How often it looks whether there is room for the next line.
const LOOK: Duration = Duration::from_millis(10);
/// How long a connection waits for a model that says nothing.
const SILENCE: Duration = Duration::from_secs(300);
/// How long an answer may take, and how long it may be in bytes.
const ANSWER_TIME: Duration = Duration::from_secs(900);
const ANSWER_BYTES: usize = 200_000;

/// The lines of a response; they end where nothing comes for too long.
struct ResponseLines {
    lines: mpsc::Receiver<String>,
    patience: Duration,
    end: Pin<Box<Sleep>>,
}

impl ResponseLines {
    fn new(lines: mpsc::Receiver<String>, patience: Duration) -> Self {
        Self { lines, patience, end: Box::pin(sleep(patience)) }
    }
}

impl Stream for ResponseLines {
    type Item = Result<String, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let lines = self.get_mut();
        if let Poll::Ready(line) = lines.lines.poll_recv(context) {
            lines.end.as_mut().reset(tokio::time::Instant::now() + lines.patience);
            return Poll::Ready(line.map(Ok));
        }
        lines.end.as_mut().poll(context).map(|()| None)
    }
}

/// Has both answers written and gives them as they come: `{"place": 0, "text": "…"}` for each piece,
/// `{"place": 0, "html": "…"}` or `{"place": 0, "error": "…"}` at the end of each, and where both are
/// there `{"exchange": "…"}`, the name to vote under. The seat is free when both models have ended.
pub(super) fn answers(state: AppState, exchange: Unanswered, seat: Seat) -> Body {
    let (lines, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let _seat = seat;
        let writing = exchange.presented.map(|answer| {
            let place = usize::from(answer != exchange.presented[0]);
            let (state, lines) = (state.clone(), lines.clone());
            let conversation = exchange.conversation.clone();
            let answerer = answer.min(state.parts().answerers.len() - 1);
            on_own_thread(move || {
                write(&state, answerer, &conversation, &StreamSlot { place, lines })
            })
        });
        let mut said = Vec::new();
        for (place, writing) in writing.into_iter().enumerate() {
            if let Ok(answer) = writing.await {
                said.extend(answer);
            } else {
                let line = json!({"place": place, "error": "the model broke off"});
                // Where the page is gone there is nobody to tell.
                let _ = lines.try_send(format!("{line}\n"));
            }
        }
        if let Ok([at_left, at_right]) = <[ExchangeAnswer; 2]>::try_from(said) {
            let last = keep(&state, exchange, [at_left, at_right]).await;
            let _ = tokio::time::timeout(UNREAD, lines.send(format!("{last}\n"))).await;
        }
    });
    Body::from_stream(ResponseLines::new(receiver, SILENCE))
}

/// Runs `work` on a new thread; its result never comes where there is no thread, or `work` panics.
fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (tell, told) = oneshot::channel();
    let started = std::thread::Builder::new().name("hearken-live".into()).spawn(move || {
        // Nobody waits for it any more only where the service ends.
        let _ = tell.send(work());
    });
    if let Err(error) = started {
        tracing::error!("no thread for a live answer: {error}");
    }
    told
}

/// A conversation that is about to be answered.
pub(super) struct Unanswered {
    pub(super) annotator: String,
    pub(super) conversation: Vec<Message>,
    pub(super) presented: [usize; 2],
}

struct StreamSlot {
    place: usize,
    lines: mpsc::Sender<String>,
}

impl StreamSlot {
    /// Sends a line; `false` where nobody reads any more.
    fn send(&self, key: &str, value: &str) -> bool {
        let mut line = json!({"place": self.place});
        line[key] = Value::from(value);
        is_taken(&self.lines, format!("{line}\n"), UNREAD)
    }
}

/// Sends a line, for which it waits for room; `false` where nobody reads it in time.
fn is_taken(lines: &mpsc::Sender<String>, mut line: String, patience: Duration) -> bool {
    let started = Instant::now();
    loop {
        match lines.try_send(line) {
            Ok(()) => return true,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(_)) if patience <= started.elapsed() => return false,
            Err(TrySendError::Full(unsent)) => line = unsent,
        }
        std::thread::sleep(LOOK);
    }
}

/// Why an answer was not heard to its end.
enum Cut {
    /// Nobody reads it.
    Unread,
    /// It takes more than an answer may.
    TooLong,
}

/// Has one answer written. Blocks until it is there; none where it failed or was cut.
fn write(
    state: &AppState,
    answerer: usize,
    conversation: &[Message],
    place: &StreamSlot,
) -> Option<ExchangeAnswer> {
    let answerer = &state.parts().answerers[answerer];
    let (started, mut bytes, mut cut) = (Instant::now(), 0, None);
    let mut on_text = |text: &str| {
        bytes += text.len();
        if ANSWER_BYTES < bytes || ANSWER_TIME < started.elapsed() {
            cut = Some(Cut::TooLong);
        } else if !place.send("text", text) {
            cut = Some(Cut::Unread);
        }
        if cut.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let answered = answerer.answer(conversation, &mut on_text);
    match (answered, cut) {
        (_, Some(Cut::Unread)) => None,
        (_, Some(Cut::TooLong)) => {
            place.send("error", "The answer takes too long.");
            None
        }
        (Ok(text), None) if text.trim().is_empty() => {
            place.send("error", "The model answered with nothing.");
            None
        }
        (Ok(text), None) => {
            place.send("html", &markdown(&text, Heading::Answer));
            Some(ExchangeAnswer { model: answerer.model().to_owned(), text })
        }
        (Err(problem), None) => {
            place.send("error", &without_name(&problem, answerer.model()));
            None
        }
    }
}

/// A message of a model's client without the address and the model's name, which annotators do not
/// see; a name may end in `@` and a temperature, of which the client knows nothing.
fn without_name(problem: &str, model: &str) -> String {
    let text = match problem.split_once(": ") {
        Some((address, rest)) if address.starts_with("http") => rest,
        _ => problem,
    };
    let name = model.rsplit_once('@').map_or(model, |(name, _)| name);
    if name.is_empty() {
        return text.to_owned();
    }
    text.replace(model, "the model").replace(name, "the model")
}

async fn keep(state: &AppState, asked: Unanswered, by_place: [ExchangeAnswer; 2]) -> Value {
    let Unanswered { annotator, conversation, presented } = asked;
    let [left, right] = by_place;
    let answers = if presented[0] == 0 { [left, right] } else { [right, left] };
    let at = state.now();
    let (judgement, chosen) = (None, None);
    let exchange = Exchange { annotator, conversation, answers, presented, at, judgement, chosen };
    match state.blocking(move |state| exchange.keep(state)).await {
        Ok(id) => json!({"exchange": id}),
        Err(error) => json!({"place": 0, "error": error.to_string()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_ends_where_a_model_says_nothing_for_too_long() {
        let (sender, receiver) = mpsc::channel(2);
        let mut lines = ResponseLines::new(receiver, Duration::from_millis(50));
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut lines).poll_next(cx)).await;
        assert!(is_taken(&sender, "a".to_owned(), Duration::ZERO));
        assert_eq!(next().await, Some(Ok("a".to_owned())));
        // The sender is still there: only the silence ends it.
        assert_eq!(next().await, None);
        drop(lines);
        assert!(!is_taken(&sender, "b".to_owned(), UNREAD));
    }

    #[test]
    fn a_model_stops_where_nobody_takes_its_lines() {
        let (sender, mut receiver) = mpsc::channel(1);
        let patience = Duration::from_millis(30);
        assert!(is_taken(&sender, "a".to_owned(), patience));
        assert!(!is_taken(&sender, "b".to_owned(), patience));
        assert_eq!(receiver.try_recv(), Ok("a".to_owned()));
        assert!(is_taken(&sender, "c".to_owned(), patience));
    }

    #[test]
    fn problems_do_not_name_the_model() {
        let problem = "http://x/v1: the model gpt-9 is overloaded";
        assert_eq!(without_name(problem, "gpt-9"), "the model the model is overloaded");
        assert_eq!(without_name("a", ""), "a");
    }
}
