//! What can go wrong on the other side.

use std::io;

use crate::chat::ChatError;

/// Why there are no scores or preferences.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The program did not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Program and arguments.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program ended, or closed its output, before it had scored everything.
    #[error("{program} {ending} after {received} of {expected} {what}{}", said(stderr))]
    Ended {
        /// Program and arguments.
        program: String,
        /// How it ended, as a verb phrase.
        ending: String,
        /// What its answers are: "scores", ….
        what: &'static str,
        /// Answers of this batch that had arrived.
        received: usize,
        /// Items of this batch.
        expected: usize,
        /// The end of what it wrote on standard error.
        stderr: String,
    },
    /// The program did not answer in time.
    #[error(
        "{program} gave {received} of {expected} {what} within the deadline of {seconds} s{}",
        said(stderr)
    )]
    CommandDeadline {
        /// Program and arguments.
        program: String,
        /// The deadline.
        seconds: f64,
        /// What its answers are: "scores", ….
        what: &'static str,
        /// Answers of this batch that had arrived.
        received: usize,
        /// Items of this batch.
        expected: usize,
        /// The end of what it wrote on standard error.
        stderr: String,
    },
    /// A line is not an answer to the request it follows.
    #[error("{program}: answer {answer} of {expected} is not {form}: {reason}; found: {line}")]
    BadAnswer {
        /// Program and arguments.
        program: String,
        /// Which answer of the batch, from 1.
        answer: usize,
        /// Items of this batch.
        expected: usize,
        /// The form of an answer.
        form: &'static str,
        /// What is wrong.
        reason: String,
        /// The beginning of the line.
        line: String,
    },
    /// There are more lines than requests.
    #[error("{program} wrote more than one line per request; the line too many: {line}")]
    TooManyAnswers {
        /// Program and arguments.
        program: String,
        /// The beginning of the line.
        line: String,
    },
    /// The URL cannot be used.
    #[error("{url}: not a usable http or https URL: {reason}")]
    BadUrl {
        /// The URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The server kept answering with an error status, or gave one that repeating does not cure.
    #[error("{url}: status {status} after {attempts} attempt(s): {body}")]
    Status {
        /// The URL.
        url: String,
        /// HTTP status code.
        status: u16,
        /// Requests made.
        attempts: usize,
        /// The beginning of the body.
        body: String,
    },
    /// No connection, or it broke.
    #[error("{url}: no answer after {attempts} attempt(s): {reason}")]
    Transport {
        /// The URL.
        url: String,
        /// Requests made.
        attempts: usize,
        /// Why.
        reason: String,
    },
    /// The server did not answer in time, repeated attempts included.
    #[error("{url}: no scores within the deadline of {seconds} s ({attempts} attempt(s))")]
    HttpDeadline {
        /// The URL.
        url: String,
        /// The deadline.
        seconds: f64,
        /// Requests made.
        attempts: usize,
    },
    /// The body is not what the protocol asks for.
    #[error("{url}: the body is not {{\"scores\": [NUMBER, …]}}: {reason}; found: {body}")]
    BadBody {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
        /// The beginning of the body.
        body: String,
    },
    /// Too few or too many scores.
    #[error("{url}: {found} scores for {expected} items")]
    Count {
        /// The URL.
        url: String,
        /// Scores in the body.
        found: usize,
        /// Items sent.
        expected: usize,
    },
    /// A language model gives no answer.
    #[error("{0}")]
    Chat(Box<ChatError>),
    /// An answer that names no winner, where that ends the run.
    #[error(
        "{judge}: the answer names no winner; found {answer:?}, expected {expected}, for prompt {prompt:?}"
    )]
    NoWinner {
        /// The judge.
        judge: String,
        /// The beginning or end of what it said.
        answer: String,
        /// What it may say.
        expected: &'static str,
        /// The beginning of the prompt.
        prompt: String,
    },
    /// A judge that has an opinion on no comparison of a whole batch.
    #[error(
        "{judge}: found a winner in none of {comparisons} comparisons, so that there is nothing to \
         learn from; expected at least one"
    )]
    NoOpinion {
        /// The judge.
        judge: String,
        /// How many it was asked.
        comparisons: usize,
    },
    /// What may be spent is spent.
    #[error(
        "the budget is spent: {spent} of {limit} {what}, and the next question may take more than is left"
    )]
    Budget {
        /// What is counted: "tokens" or "money".
        what: &'static str,
        /// How much is spent.
        spent: String,
        /// How much may be.
        limit: String,
    },
    /// An answer cannot be kept.
    #[error("{0}")]
    Kept(String),
    /// A question that is longer than the model's context.
    #[error("{model}: found a question of {found}, expected one that the model has room for")]
    TooLong {
        /// The model.
        model: String,
        /// How long it is.
        found: String,
    },
    /// A model in this process cannot be asked.
    #[error("{model}: {reason}")]
    Model {
        /// The model.
        model: String,
        /// Why not.
        reason: String,
    },
    /// Too few or too many preferences, or one that is no probability.
    #[error("{judge}: {reason}")]
    Broken {
        /// The judge.
        judge: String,
        /// What is wrong.
        reason: String,
    },
}

impl From<ChatError> for JudgeError {
    fn from(error: ChatError) -> Self {
        Self::Chat(Box::new(error))
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; it wrote on standard error: {stderr}")
    }
}
