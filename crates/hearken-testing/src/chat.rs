//! A server that plays an LLM API, for tests.
//!
//! It listens on a port of the loopback interface until it is dropped, and speaks both protocols:
//! requests to `…/messages` are answered as Anthropic does, others as OpenAI does.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{self, Server};

/// A request that the server got.
#[derive(Clone, Debug, Default)]
pub struct ChatReceived {
    /// The path, e.g. `/v1/chat/completions`.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The JSON of the body; `null` where there is none.
    pub body: Value,
}

impl ChatReceived {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn is_anthropic(&self) -> bool {
        self.path.ends_with("/messages")
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Streams the words as the protocol has it, each after the delay.
    Words {
        /// The pieces of the answer.
        words: Vec<String>,
        /// The pause before each.
        delay: Duration,
    },
    /// A response that is complete.
    Status {
        /// The code.
        status: u16,
        /// Further header lines, each without its line end.
        headers: Vec<String>,
        /// The body.
        body: String,
    },
    /// The head of a stream of events, then these bytes, each piece after its delay, then the end of
    /// the connection.
    Pieces(Vec<(Duration, Vec<u8>)>),
    /// Nothing, for this long; then the end of the connection.
    Silence(Duration),
}

impl Reply {
    /// Streams the words, each after `delay`.
    pub fn words(words: &[&str], delay: Duration) -> Self {
        Self::Words { words: words.iter().map(|&word| word.to_owned()).collect(), delay }
    }

    /// A response that is complete.
    pub fn status(status: u16, body: impl Into<String>) -> Self {
        Self::Status { status, headers: Vec::new(), body: body.into() }
    }
}

/// The server.
pub struct Stub {
    server: Server,
    requests: Arc<Mutex<Vec<ChatReceived>>>,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stub").field(&self.server).finish()
    }
}

impl Stub {
    /// Starts a server that replies as `answer` says. `GET …/models` lists one model, `stub`, unless
    /// `answer` replies with a status.
    ///
    /// # Panics
    /// If no port can be opened.
    pub fn start(answer: impl Fn(&ChatReceived) -> Reply + Send + Sync + 'static) -> Self {
        let requests: Arc<Mutex<Vec<ChatReceived>>> = Arc::default();
        let got = Arc::clone(&requests);
        let server = Server::start(move |request, stream| {
            let server::Request { path, headers, body, .. } = request;
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let request = ChatReceived { path, headers, body };
            got.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            reply(&request, answer(&request), stream)
        });
        Self { server, requests }
    }

    /// The base URL: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<ChatReceived> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn reply(request: &ChatReceived, reply: Reply, stream: &TcpStream) -> std::io::Result<()> {
    let is_list = request.path.ends_with("/models");
    match reply {
        Reply::Status { status, headers, body } => respond(stream, status, &headers, &body),
        _ if is_list => {
            respond(stream, 200, &[], &json!({ "data": [{ "id": "stub" }] }).to_string())
        }
        Reply::Words { words, delay } => {
            let pieces = if request.is_anthropic() { anthropic(&words) } else { openai(&words) };
            let delayed = pieces.into_iter().map(|(waits, piece)| {
                (if waits { delay } else { Duration::ZERO }, piece.into_bytes())
            });
            stream_pieces(stream, delayed)
        }
        Reply::Pieces(pieces) => stream_pieces(stream, pieces.into_iter()),
        Reply::Silence(pause) => {
            thread::sleep(pause);
            Ok(())
        }
    }
}

fn respond(
    mut stream: &TcpStream,
    status: u16,
    headers: &[String],
    body: &str,
) -> std::io::Result<()> {
    let named = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("content-type"));
    let kind = if named { "" } else { "content-type: application/json\r\n" };
    let lines: String = headers.iter().map(|line| line.clone() + "\r\n").collect();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Stub\r\ncontent-length: {length}\r\nconnection: close\r\n{kind}{lines}\r\n{body}"
    )
}

fn stream_pieces(
    mut stream: &TcpStream,
    pieces: impl Iterator<Item = (Duration, Vec<u8>)>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    )?;
    for (delay, piece) in pieces {
        thread::sleep(delay);
        stream.write_all(&piece)?;
        stream.flush()?;
    }
    Ok(())
}

/// Whether a piece waits, and what it is.
type Pieces = Vec<(bool, String)>;

fn openai(words: &[String]) -> Pieces {
    let event = |delta: Value, stop: Value| {
        let chunk = json!({
            "object": "chat.completion.chunk",
            "model": "stub",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": stop }],
        });
        format!("data: {chunk}\n\n")
    };
    let mut pieces = vec![(false, event(json!({ "role": "assistant" }), Value::Null))];
    pieces.extend(words.iter().map(|word| (true, event(json!({ "content": word }), Value::Null))));
    pieces.push((false, event(json!({}), json!("stop"))));
    pieces.push((false, "data: [DONE]\n\n".to_owned()));
    pieces
}

fn anthropic(words: &[String]) -> Pieces {
    let event = |kind: &str, mut body: Value| {
        body["type"] = json!(kind);
        format!("event: {kind}\ndata: {body}\n\n")
    };
    let message = json!({ "message": { "model": "stub", "usage": { "input_tokens": 1 } } });
    let mut pieces = vec![
        (false, event("message_start", message)),
        (false, event("content_block_start", json!({ "index": 0 }))),
        (false, event("ping", json!({}))),
    ];
    pieces.extend(words.iter().map(|word| {
        let delta = json!({ "index": 0, "delta": { "type": "text_delta", "text": word } });
        (true, event("content_block_delta", delta))
    }));
    let end = json!({ "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": words.len() } });
    pieces.push((false, event("content_block_stop", json!({ "index": 0 }))));
    pieces.push((false, event("message_delta", end)));
    pieces.push((false, event("message_stop", json!({}))));
    pieces
}
