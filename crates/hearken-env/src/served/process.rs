//! A process that is asked in frames.
//!
//! A frame is four bytes with its length, little-endian, then a line of JSON, then plain bytes.

use std::io::{self, Read as _};
use std::process::Command;
use std::time::Duration;

use hearken_program::{Program, ProgramOutput, Silence};
use serde_json::{Map, Value};

/// The longest frame that is read: what a server that writes something else than frames says is longer.
const FRAME_MAX: u32 = 1 << 28;
/// Bytes of a bad frame that an error shows.
const SHOWN_MAX: usize = 200;

/// Why an environment that a process serves cannot be stepped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No program is named.
    #[error(
        "{server}: found no program that serves it, expected one (environment.server.command, or --server)"
    )]
    NoProgram {
        /// The environment.
        server: String,
    },
    /// The program cannot be started.
    #[error("{server}: cannot be started: {source}")]
    Start {
        /// The environment and the program.
        server: String,
        /// What the system says.
        source: io::Error,
    },
    /// It has ended.
    #[error("{server}: it {ending} while it was asked to {request}{}", said(stderr))]
    Ended {
        /// The environment and the program.
        server: String,
        /// How.
        ending: String,
        /// What it was asked for.
        request: &'static str,
        /// What it wrote to standard error last.
        stderr: String,
    },
    /// It did not answer in time.
    #[error(
        "{server}: no answer within {seconds} s when it was asked to {request}{}",
        said(stderr)
    )]
    Late {
        /// The environment and the program.
        server: String,
        /// How long it was waited for.
        seconds: f64,
        /// What it was asked for.
        request: &'static str,
        /// What it wrote to standard error last.
        stderr: String,
    },
    /// What it wrote is no answer.
    #[error(
        "{server}: found {found} when it was asked to {request}, expected {expected}{}",
        said(stderr)
    )]
    Answer {
        /// The environment and the program.
        server: String,
        /// What it was asked for.
        request: &'static str,
        /// What there was.
        found: String,
        /// What belongs there.
        expected: String,
        /// What it wrote to standard error last.
        stderr: String,
    },
    /// It says that it cannot do what it was asked for.
    #[error("{server}: asked to {request}, it says: {message}")]
    Refused {
        /// The environment and the program.
        server: String,
        /// What it was asked for.
        request: &'static str,
        /// What it says.
        message: String,
    },
}

/// What a process wrote to standard error, on one line.
fn said(stderr: &str) -> String {
    let words: Vec<&str> = stderr.split_whitespace().collect();
    if words.is_empty() { String::new() } else { format!("; it wrote: {}", words.join(" ")) }
}

/// An answer: its JSON and the bytes behind it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) head: Map<String, Value>,
    pub(super) data: Vec<u8>,
}

/// What was read in the place of a frame.
#[derive(Debug)]
enum Arrived {
    Body(Vec<u8>),
    TooLong([u8; 4]),
}

/// A process that was started and answers one request after another.
#[derive(Debug)]
pub(super) struct Process {
    label: String,
    program: Program<Arrived>,
    timeout: Duration,
}

impl Process {
    /// Starts a program, with `shown` as what errors call it.
    pub(super) fn start(
        program: &[String],
        shown: &str,
        timeout: Duration,
    ) -> Result<Self, ServerError> {
        let [name, arguments @ ..] = program else {
            return Err(ServerError::NoProgram { server: shown.to_owned() });
        };
        let label = format!("{shown} ({name})");
        let mut command = Command::new(name);
        command.args(arguments);
        let program = Program::start(command, read_frame)
            .map_err(|source| ServerError::Start { server: label.clone(), source })?;
        Ok(Self { label, program, timeout })
    }

    /// Sends a request and waits for its answer; `request` is what errors call it.
    pub(super) fn ask(
        &mut self,
        request: &'static str,
        head: &Value,
        data: &[u8],
    ) -> Result<Frame, ServerError> {
        let mut body = head.to_string().into_bytes();
        body.push(b'\n');
        body.extend_from_slice(data);
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.append(&mut body);
        self.program.send(frame);
        let body = match self.program.answer(self.timeout) {
            Ok(Arrived::Body(body)) => body,
            Ok(Arrived::TooLong(length)) => {
                let expected = format!(
                    "at most {FRAME_MAX}: standard output is for frames, which begin with their length"
                );
                let found = too_long(length);
                return Err(self.unexpected(request, found, expected));
            }
            Err(Silence::Late) => {
                return Err(ServerError::Late {
                    server: self.label.clone(),
                    seconds: self.timeout.as_secs_f64(),
                    request,
                    stderr: self.program.stderr(),
                });
            }
            Err(Silence::Ended) => {
                return Err(ServerError::Ended {
                    server: self.label.clone(),
                    ending: self.program.ending(),
                    request,
                    stderr: self.program.stderr(),
                });
            }
        };
        self.frame(request, body)
    }

    /// Cuts an answer into its JSON and what is behind it.
    fn frame(&self, request: &'static str, mut body: Vec<u8>) -> Result<Frame, ServerError> {
        let end = body.iter().position(|&byte| byte == b'\n').unwrap_or(body.len());
        let data = body.split_off((end + 1).min(body.len()));
        let Ok(Value::Object(head)) = serde_json::from_slice(&body) else {
            let found = shown(&body);
            return Err(self.unexpected(request, found, "a JSON object and a new line"));
        };
        match head.get("error") {
            None => Ok(Frame { head, data }),
            Some(error) => {
                let message = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
                Err(ServerError::Refused { server: self.label.clone(), request, message })
            }
        }
    }

    /// The error of an answer that is not what is expected.
    pub(super) fn unexpected(
        &self,
        request: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> ServerError {
        ServerError::Answer {
            server: self.label.clone(),
            request,
            found: found.into(),
            expected: expected.into(),
            stderr: self.program.stderr(),
        }
    }
}

/// A length that none has, and the text that its bytes may be.
fn too_long(length: [u8; 4]) -> String {
    let count = u32::from_le_bytes(length);
    let is_text = length.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let text = String::from_utf8_lossy(&length);
    let text = if is_text { format!(" (the text {text:?})") } else { String::new() };
    format!("a frame of {count} bytes{text}")
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_MAX)]).into_owned();
    format!("{text:?}")
}

/// The next frame, as far as it is one.
fn read_frame(output: &mut ProgramOutput) -> Option<Arrived> {
    let mut length = [0; 4];
    output.read_exact(&mut length).ok()?;
    let count = u32::from_le_bytes(length);
    if FRAME_MAX < count {
        return Some(Arrived::TooLong(length));
    }
    // The buffer grows with what arrives, not with what is promised.
    let mut body = Vec::new();
    let read = output.take(u64::from(count)).read_to_end(&mut body).ok()?;
    (read == count as usize).then_some(Arrived::Body(body))
}
