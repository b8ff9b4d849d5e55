//! Two answers at once, as lines of JSON while they come.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_core::Stream;
use hearken_data::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::exchange::{Exchange, Said};
use crate::render::{Heading, markdown};
use crate::state::AppState;

/// Lines that may wait for a slow connection before the models wait too.
const WAITING_MAX: usize = 256;

/// The lines of a response.
struct Lines(mpsc::Receiver<String>);

impl Stream for Lines {
    type Item = Result<String, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_recv(context).map(|line| line.map(Ok))
    }
}

/// Has both answers written and gives them as they come: `{"place": 0, "text": "…"}` for each piece,
/// `{"place": 0, "html": "…"}` or `{"place": 0, "error": "…"}` at the end of each, and where both are
/// there `{"exchange": "…"}`, the name to vote under.
pub(super) fn answers(state: AppState, exchange: Unanswered) -> Body {
    let (lines, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let writing = exchange.presented.map(|answer| {
            let place = usize::from(answer != exchange.presented[0]);
            let (state, lines) = (state.clone(), lines.clone());
            let conversation = exchange.conversation.clone();
            let answerer = answer.min(state.parts().answerers.len() - 1);
            tokio::task::spawn_blocking(move || {
                write(&state, answerer, &conversation, &Place { place, lines })
            })
        });
        let mut said = Vec::new();
        for (place, writing) in writing.into_iter().enumerate() {
            if let Ok(answer) = writing.await {
                said.extend(answer);
            } else {
                let line = json!({"place": place, "error": "the model broke off"});
                let _ = lines.send(format!("{line}\n")).await;
            }
        }
        if let Ok([at_left, at_right]) = <[Said; 2]>::try_from(said) {
            let last = keep(&state, exchange, [at_left, at_right]).await;
            // Where the page is gone there is nobody to tell.
            let _ = lines.send(format!("{last}\n")).await;
        }
    });
    Body::from_stream(Lines(receiver))
}

/// A conversation that is about to be answered.
pub(super) struct Unanswered {
    pub(super) annotator: String,
    pub(super) conversation: Vec<Message>,
    pub(super) presented: [usize; 2],
}

struct Place {
    place: usize,
    lines: mpsc::Sender<String>,
}

impl Place {
    /// Sends a line; `false` where nobody reads any more.
    fn send(&self, key: &str, value: &str) -> bool {
        let mut line = json!({"place": self.place});
        line[key] = Value::from(value);
        self.lines.blocking_send(format!("{line}\n")).is_ok()
    }
}

/// Has one answer written. Blocks until it is there.
fn write(
    state: &AppState,
    answerer: usize,
    conversation: &[Message],
    place: &Place,
) -> Option<Said> {
    let answerer = &state.parts().answerers[answerer];
    let mut on_text = |text: &str| match place.send("text", text) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    match answerer.answer(conversation, &mut on_text) {
        Ok(text) if text.trim().is_empty() => {
            place.send("error", "The model answered with nothing.");
            None
        }
        Ok(text) => {
            place.send("html", &markdown(&text, Heading::Answer));
            Some(Said { model: answerer.model().to_owned(), text })
        }
        Err(problem) => {
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

async fn keep(state: &AppState, asked: Unanswered, by_place: [Said; 2]) -> Value {
    let Unanswered { annotator, conversation, presented } = asked;
    let [left, right] = by_place;
    let answers = if presented[0] == 0 { [left, right] } else { [right, left] };
    let at = state.now();
    let exchange = Exchange { annotator, conversation, answers, presented, at, judgement: None };
    match state.blocking(move |state| exchange.keep(state)).await {
        Ok(id) => json!({"exchange": id}),
        Err(error) => json!({"place": 0, "error": error.to_string()}),
    }
}

#[cfg(test)]
mod tests {
    use super::without_name;

    #[test]
    fn problems_do_not_name_the_model() {
        let problem = "http://x/v1: the model gpt-9 is overloaded";
        assert_eq!(without_name(problem, "gpt-9"), "the model the model is overloaded");
        assert_eq!(without_name("a", ""), "a");
    }
}
