//! One request on a thread of its own, so that the caller waits no longer than it wants.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use hearken_patience::asked_pause;
use ureq::Agent;

/// What arrives of a response, in this order: a head, pieces, an end; or a failure at any point.
#[derive(Debug)]
pub(super) enum ResponsePart {
    /// Status and headers.
    Head(Head),
    /// Bytes of the body.
    Piece(Vec<u8>),
    /// The body is complete.
    End,
    /// No connection, or it broke.
    Failed(ureq::Error),
}

/// Status and headers of a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: String,
    /// The pause that the server asks for.
    pub(super) retry_after: Option<Duration>,
}

/// What is sent.
pub(super) struct ChatRequest {
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The JSON of a POST; without one it is a GET.
    pub(super) body: Option<Vec<u8>>,
}

/// Pieces that wait to be read at most.
const WAITING_MAX: usize = 16;
const PIECE_BYTES: usize = 8 << 10;

/// Sends a request. Where the receiver is dropped, the connection is closed with the next piece, and
/// at the latest when the agent's time is over.
pub(super) fn send(agent: &Agent, request: ChatRequest) -> Receiver<ResponsePart> {
    let (sender, parts) = sync_channel(WAITING_MAX);
    let agent = agent.clone();
    thread::spawn(move || {
        let last = match receive(&agent, request, &sender) {
            Ok(()) => ResponsePart::End,
            Err(error) => ResponsePart::Failed(error),
        };
        // Nobody may be listening any longer.
        let _ = sender.send(last);
    });
    parts
}

fn receive(
    agent: &Agent,
    request: ChatRequest,
    sender: &SyncSender<ResponsePart>,
) -> Result<(), ureq::Error> {
    let (url, headers) = (&request.url, request.headers);
    let mut response = if let Some(body) = request.body {
        let post =
            headers.iter().fold(agent.post(url), |post, (name, value)| post.header(*name, value));
        post.content_type("application/json")
            .header("accept", "text/event-stream, application/json")
            .send(&body)?
    } else {
        headers.iter().fold(agent.get(url), |get, (name, value)| get.header(*name, value)).call()?
    };
    let header = |name: &str| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("").trim().to_owned()
    };
    let head = Head {
        status: response.status().as_u16(),
        content_type: header("content-type").to_ascii_lowercase(),
        retry_after: asked_pause(response.headers()),
    };
    if sender.send(ResponsePart::Head(head)).is_err() {
        return Ok(());
    }
    let mut reader = response.body_mut().as_reader();
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let count = reader.read(&mut piece).map_err(ureq::Error::from)?;
        if count == 0 {
            return Ok(());
        }
        piece.truncate(count);
        if sender.send(ResponsePart::Piece(piece)).is_err() {
            return Ok(());
        }
    }
}
