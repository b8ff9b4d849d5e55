//! A program that answers JSON lines with JSON lines.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use crate::{JudgeError, item::excerpt};

/// Which program is asked, and how long a batch may take.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandOptions {
    /// The program: a path, or a name looked up in the search path.
    pub program: String,
    /// Its arguments; no shell is involved.
    pub args: Vec<String>,
    /// The longest time from sending a batch to its last answer.
    pub deadline: Duration,
}

/// What a program is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// What its answers are, as errors name them: "scores".
    pub(crate) what: &'static str,
    /// The form of an answer.
    pub(crate) form: &'static str,
}

/// How long a batch that has all its answers waits for a line too many: what writes two lines per request is
/// found out before its answers are used, unless it takes longer than this from one line to the next.
const SURPLUS: Duration = Duration::from_millis(20);

/// A program that is started once and asked batch after batch; what is asked of it is its protocol's.
///
/// Each request is an object on a line, numbered by its `id`; each answer a line, in the order of the
/// requests. The program, and on Unix whatever it started, is killed when this is dropped or has
/// failed.
#[derive(Debug)]
pub(crate) struct LineProgram {
    protocol: Protocol,
    label: String,
    child: Child,
    requests: Sender<Vec<u8>>,
    answers: Receiver<String>,
    stderr: Arc<Mutex<Tail>>,
    deadline: Duration,
    next_id: u64,
}

impl LineProgram {
    /// Starts the program.
    ///
    /// # Errors
    /// [`JudgeError::Start`] if there is no such program or it may not be run.
    pub(crate) fn start(options: &CommandOptions, protocol: Protocol) -> Result<Self, JudgeError> {
        let label = std::iter::once(&options.program)
            .chain(&options.args)
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        let mut command = Command::new(&options.program);
        command
            .args(&options.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own: what the program starts dies with it, and Ctrl-C in the terminal does not
        // take it away from a step that is still to be finished.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .map_err(|source| JudgeError::Start { program: label.clone(), source })?;
        let requests = write_requests(child.stdin.take().expect("standard input is piped"));
        let answers = read_answers(child.stdout.take().expect("standard output is piped"));
        let stderr = keep_tail(child.stderr.take().expect("standard error is piped"));
        let deadline = options.deadline;
        Ok(Self { protocol, label, child, requests, answers, stderr, deadline, next_id: 0 })
    }

    /// The program with its arguments.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// One answer per request, in order, as `read` reads it. An `id` of a request is replaced.
    ///
    /// # Errors
    /// If the program ends, is late, or writes anything but one answer that `read` accepts per request.
    /// It is killed then, and is of no further use.
    pub(crate) fn ask<T>(
        &mut self,
        requests: Vec<Map<String, Value>>,
        read: impl Fn(&Map<String, Value>) -> Result<T, String>,
    ) -> Result<Vec<T>, JudgeError> {
        let result = self.exchange(requests, read);
        if result.is_err() {
            self.kill();
        }
        result
    }

    fn exchange<T>(
        &mut self,
        requests: Vec<Map<String, Value>>,
        read: impl Fn(&Map<String, Value>) -> Result<T, String>,
    ) -> Result<Vec<T>, JudgeError> {
        self.expect_silence(Duration::ZERO)?;
        let (first_id, expected) = (self.next_id, requests.len());
        // A program that has ended is noticed by its missing answers.
        let _ = self.requests.send(self.request_lines(requests));
        self.next_id += expected as u64;
        let start = Instant::now();
        let mut found = Vec::with_capacity(expected);
        while found.len() < expected {
            let left = self.deadline.saturating_sub(start.elapsed());
            let line = match self.answers.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return Err(self.late(found.len(), expected)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.ended(found.len(), expected));
                }
            };
            let id = first_id + found.len() as u64;
            let answer = parse_answer(&line, id).and_then(|answer| read(&answer));
            found.push(answer.map_err(|reason| JudgeError::BadAnswer {
                program: self.label.clone(),
                answer: found.len() + 1,
                expected,
                form: self.protocol.form,
                reason,
                line: excerpt(&line),
            })?);
        }
        self.expect_silence(SURPLUS)?;
        Ok(found)
    }

    /// A line that nobody asked for means that answers and requests are out of step.
    fn expect_silence(&self, patience: Duration) -> Result<(), JudgeError> {
        match self.answers.recv_timeout(patience) {
            Ok(line) => Err(JudgeError::TooManyAnswers {
                program: self.label.clone(),
                line: excerpt(&line),
            }),
            Err(_) => Ok(()),
        }
    }

    fn request_lines(&self, requests: Vec<Map<String, Value>>) -> Vec<u8> {
        let mut lines = Vec::new();
        for (fields, id) in requests.into_iter().zip(self.next_id..) {
            let mut request = Map::new();
            request.insert("id".into(), id.into());
            request.extend(fields.into_iter().filter(|(key, _)| key != "id"));
            lines.extend_from_slice(Value::Object(request).to_string().as_bytes());
            lines.push(b'\n');
        }
        lines
    }

    fn late(&self, received: usize, expected: usize) -> JudgeError {
        JudgeError::CommandDeadline {
            program: self.label.clone(),
            seconds: self.deadline.as_secs_f64(),
            what: self.protocol.what,
            received,
            expected,
            stderr: lock(&self.stderr).text(),
        }
    }

    fn ended(&mut self, received: usize, expected: usize) -> JudgeError {
        // Standard output closes a moment before the process is gone.
        let patience = Instant::now() + Duration::from_secs(1);
        let mut ending = "closed its standard output".to_owned();
        while Instant::now() < patience {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    ending = format!("ended with {status}");
                    break;
                }
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Err(_) => break,
            }
        }
        JudgeError::Ended {
            program: self.label.clone(),
            ending,
            what: self.protocol.what,
            received,
            expected,
            stderr: lock(&self.stderr).text(),
        }
    }

    /// Kills the program with everything it started, and collects it. Harmless if it has ended.
    fn kill(&mut self) {
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

impl Drop for LineProgram {
    fn drop(&mut self) {
        self.kill();
    }
}

fn parse_answer(line: &str, id: u64) -> Result<Map<String, Value>, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON ({error})"))?;
    let Value::Object(answer) = value else {
        return Err("not a JSON object".to_owned());
    };
    if let Some(found) = answer.get("id")
        && found.as_u64() != Some(id)
    {
        return Err(format!("it answers request {found}, the next in order is {id}"));
    }
    Ok(answer)
}

/// Writes batches from a thread, so that a program which answers before it has read everything does
/// not wait for us while we wait for it. The thread ends with the sender.
fn write_requests(mut stdin: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, batches) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for batch in batches {
            if stdin.write_all(&batch).and_then(|()| stdin.flush()).is_err() {
                break;
            }
        }
    });
    sender
}

fn read_answers(stdout: ChildStdout) -> Receiver<String> {
    let (sender, answers) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| 0 < bytes) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
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
    const BYTES_MAX: usize = 2000;

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(Self::BYTES_MAX);
        self.0.drain(..excess);
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
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
