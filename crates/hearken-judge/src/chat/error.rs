//! What can go wrong when a model is asked.

use std::time::Duration;

/// Why there is no answer. No message shows the key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// The URL, or the key as a header, cannot be used.
    #[error("{url}: cannot be asked: {reason}")]
    BadRequest {
        /// The URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// There is no connection to the server.
    #[error("{url}: no connection: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// A stage took longer than it may.
    #[error("{url}: {stage} within {} s{}", limit.as_secs_f64(), so_far(*received))]
    Slow {
        /// The URL.
        url: String,
        /// What did not happen: "no text", ….
        stage: &'static str,
        /// The time that it may take.
        limit: Duration,
        /// Bytes of text that had come.
        received: usize,
    },
    /// The server refuses the key, or wants one.
    #[error("{url}: the server refuses the key, or wants one (status {status}): {message}")]
    Unauthorized {
        /// The URL.
        url: String,
        /// HTTP status code.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// The server does not have the model.
    #[error("{url}: the server has no model {model:?}: {message}")]
    UnknownModel {
        /// The URL.
        url: String,
        /// The name that was asked for.
        model: String,
        /// What the server says.
        message: String,
    },
    /// The server answers with an error.
    #[error("{url}: status {status} after {attempts} attempt(s): {message}")]
    Status {
        /// The URL.
        url: String,
        /// HTTP status code.
        status: u16,
        /// Requests made.
        attempts: usize,
        /// What the server says.
        message: String,
    },
    /// The server breaks the answer off with an error.
    #[error("{url}: the server reports an error{}: {message}", so_far(*received))]
    Reported {
        /// The URL.
        url: String,
        /// What the server says.
        message: String,
        /// Bytes of text that had come.
        received: usize,
    },
    /// The response is not of the protocol.
    #[error("{url}: found {found}, expected {expected}")]
    Nonsense {
        /// The URL.
        url: String,
        /// The beginning of the response, or what it is.
        found: String,
        /// What the protocol asks for.
        expected: &'static str,
    },
    /// The connection ended before the answer did.
    #[error("{url}: the answer broke off{}: {reason}", so_far(*received))]
    Truncated {
        /// The URL.
        url: String,
        /// What happened.
        reason: String,
        /// Bytes of text that had come.
        received: usize,
    },
    /// The response is longer than the limit.
    #[error("{url}: the response is longer than {limit} bytes")]
    TooLong {
        /// The URL.
        url: String,
        /// [`ChatOptions::response_bytes_max`](super::ChatOptions::response_bytes_max).
        limit: usize,
    },
    /// The answer ended without any text.
    #[error("{url}: the answer is empty (stop reason {stop:?})")]
    Empty {
        /// The URL.
        url: String,
        /// The server's stop reason.
        stop: String,
    },
    /// The caller broke off.
    #[error("the answer was cancelled after {received} bytes")]
    Cancelled {
        /// Bytes of text that had come.
        received: usize,
    },
}

fn so_far(received: usize) -> String {
    if received == 0 { String::new() } else { format!(" after {received} bytes of text") }
}
