//! A process that is asked in frames: its start, its answers in time, its end.
//!
//! A frame is four bytes with its length, little-endian, then a line of JSON, then plain bytes.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};

/// The longest frame that is read: what a server that writes something else than frames says is longer.
const FRAME_MAX: u32 = 1 << 28;
/// Bytes of a bad frame that an error shows.
const SHOWN_MAX: usize = 200;
/// How long a process whose output has ended may take to end itself.
const ENDING: Duration = Duration::from_secs(1);

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

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it wrote: {stderr}") }
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

/// A process that was started and answers one request after another. It is killed, on Unix with whatever it started,
/// when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    label: String,
    child: Child,
    requests: Sender<Vec<u8>>,
    answers: Receiver<Arrived>,
    stderr: Arc<Mutex<Tail>>,
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
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: what the program starts dies with it, and Ctrl-C in the terminal does not take it away
        // from a step that is still to be finished.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .map_err(|source| ServerError::Start { server: label.clone(), source })?;
        let requests = write_requests(child.stdin.take().expect("standard input is piped"));
        let answers = read_answers(child.stdout.take().expect("standard output is piped"));
        let stderr = keep_tail(child.stderr.take().expect("standard error is piped"));
        Ok(Self { label, child, requests, answers, stderr, timeout })
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
        // A program that has ended is noticed by its missing answer.
        let _ = self.requests.send(frame);
        let body = match self.answers.recv_timeout(self.timeout) {
            Ok(Arrived::Body(body)) => body,
            Ok(Arrived::TooLong(length)) => {
                let expected = format!(
                    "at most {FRAME_MAX}: standard output is for frames, which begin with their length"
                );
                let found = too_long(length);
                return Err(self.unexpected(request, found, expected));
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(ServerError::Late {
                    server: self.label.clone(),
                    seconds: self.timeout.as_secs_f64(),
                    request,
                    stderr: lock(&self.stderr).text(),
                });
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended(request)),
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
            stderr: lock(&self.stderr).text(),
        }
    }

    fn ended(&mut self, request: &'static str) -> ServerError {
        const LOOKS: u32 = 200;
        // Standard output closes a moment before the process is gone.
        let mut ending = "closed its standard output".to_owned();
        for _ in 0..LOOKS {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    ending = format!("ended with {status}");
                    break;
                }
                Ok(None) => thread::sleep(ENDING / LOOKS),
                Err(_) => break,
            }
        }
        ServerError::Ended {
            server: self.label.clone(),
            ending,
            request,
            stderr: lock(&self.stderr).text(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // No such group: nothing is left to be killed.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Writes requests from a thread, so that a program that does not read is found to be late.
fn write_requests(mut stdin: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, frames) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for frame in frames {
            if stdin.write_all(&frame).and_then(|()| stdin.flush()).is_err() {
                break;
            }
        }
    });
    sender
}

fn read_answers(mut stdout: ChildStdout) -> Receiver<Arrived> {
    // One answer may wait: a server that writes without being asked fills the pipe and not the memory.
    let (sender, answers) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut length = [0; 4];
        while stdout.read_exact(&mut length).is_ok() {
            let count = u32::from_le_bytes(length);
            if FRAME_MAX < count {
                let _ = sender.send(Arrived::TooLong(length));
                break;
            }
            // The buffer grows with what arrives, not with what is promised.
            let mut body = Vec::new();
            let is_whole = (&mut stdout)
                .take(u64::from(count))
                .read_to_end(&mut body)
                .is_ok_and(|bytes| bytes == count as usize);
            if !is_whole || sender.send(Arrived::Body(body)).is_err() {
                break;
            }
        }
    });
    answers
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    const BYTES_MAX: usize = 1000;

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(Self::BYTES_MAX);
        self.0.drain(..excess);
    }

    /// What is there, on one line.
    fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn keep_tail(mut stream: impl Read + Send + 'static) -> Arc<Mutex<Tail>> {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let kept = Arc::clone(&tail);
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            lock(&kept).push(&buffer[..bytes]);
        }
    });
    tail
}

/// The tail is plain bytes: a thread that died while it held the lock leaves nothing inconsistent.
fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}
