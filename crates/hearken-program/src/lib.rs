//! Programs that are started once and asked again and again, over their standard input and output.
//!
//! Not here: what is asked and what an answer is.
#![deny(missing_docs)]

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a program whose output has ended may take to end itself.
const ENDING: Duration = Duration::from_secs(1);

/// A program under way, whose answers are `A`s. It is killed, on Unix with whatever it started, when this is dropped.
///
/// Threads of its own write what it is sent and read what it says, so that neither a program that does not read nor one that
/// answers before it has read everything is waited for in vain.
///
/// ```
/// use std::io::BufRead as _;
/// use std::process::Command;
/// use std::time::Duration;
/// use hearken_program::Program;
///
/// let line = |output: &mut hearken_program::ProgramOutput| output.lines().next()?.ok();
/// # if !cfg!(unix) { return Ok(()); }
/// let program = Program::start(Command::new("cat"), line)?;
/// program.send(b"are you there?\n".to_vec());
/// assert_eq!(program.answer(Duration::from_secs(9)).unwrap(), "are you there?");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Program<A> {
    child: Child,
    requests: Sender<Vec<u8>>,
    answers: Receiver<A>,
    stderr: Arc<Mutex<Tail>>,
    /// Reads standard error.
    reader: JoinHandle<()>,
}

/// What a program writes to its standard output.
pub type ProgramOutput = BufReader<ChildStdout>;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The time is over.
    Late,
    /// There will be none: the output has ended, or is no answer.
    Ended,
}

impl<A: Send + 'static> Program<A> {
    /// Starts a program, whose answers `read` takes from its output one by one, until it says `None`.
    ///
    /// # Errors
    /// If there is no such program, or it may not be run.
    #[expect(clippy::missing_panics_doc, reason = "the three streams are piped")]
    pub fn start(
        mut command: Command,
        read: impl FnMut(&mut ProgramOutput) -> Option<A> + Send + 'static,
    ) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: what the program starts dies with it, and Ctrl-C in the terminal does not take it away from
        // a step that is still to be finished.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let requests = write_requests(child.stdin.take().expect("standard input is piped"));
        let answers = read_answers(child.stdout.take().expect("standard output is piped"), read);
        let (stderr, reader) = keep_tail(child.stderr.take().expect("standard error is piped"));
        Ok(Self { child, requests, answers, stderr, reader })
    }
}

impl<A> Program<A> {
    /// Hands bytes to the program and does not wait until it has read them. One that has ended is noticed by its missing answer.
    pub fn send(&self, request: Vec<u8>) {
        let _ = self.requests.send(request);
    }

    /// The next answer.
    ///
    /// # Errors
    /// If it does not come in time, or no more can come.
    pub fn answer(&self, patience: Duration) -> Result<A, Silence> {
        self.answers.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => Silence::Late,
            RecvTimeoutError::Disconnected => Silence::Ended,
        })
    }

    /// How a program came to its end whose answers have ended, as words behind its name; [`Program::stderr`] is whole then.
    pub fn ending(&mut self) -> String {
        const LOOKS: u32 = 200;
        let mut ending = None;
        // Standard output closes a moment before the process is gone, and what it wrote to standard error last may not be
        // read yet when it is. That stream may stay open longer, where a program that it started has it.
        for _ in 0..LOOKS {
            if ending.is_none() {
                match self.child.try_wait() {
                    Ok(status) => ending = status.map(|status| format!("ended with {status}")),
                    Err(_) => break,
                }
            }
            if ending.is_some() && self.reader.is_finished() {
                break;
            }
            thread::sleep(ENDING / LOOKS);
        }
        ending.unwrap_or_else(|| "closed its standard output".to_owned())
    }

    /// What the program wrote to standard error last.
    pub fn stderr(&self) -> String {
        lock(&self.stderr).text()
    }

    /// Kills the program with everything it started, and collects it. Harmless if it has ended.
    pub fn kill(&mut self) {
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

impl<A> Drop for Program<A> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write_requests(mut stdin: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, requests) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for request in requests {
            if stdin.write_all(&request).and_then(|()| stdin.flush()).is_err() {
                break;
            }
        }
    });
    sender
}

fn read_answers<A: Send + 'static>(
    stdout: ChildStdout,
    mut read: impl FnMut(&mut ProgramOutput) -> Option<A> + Send + 'static,
) -> Receiver<A> {
    // One answer may wait: a program that writes without being asked fills the pipe and not the memory.
    let (sender, answers) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut output = BufReader::new(stdout);
        while let Some(answer) = read(&mut output) {
            if sender.send(answer).is_err() {
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

fn keep_tail(mut stream: impl Read + Send + 'static) -> (Arc<Mutex<Tail>>, JoinHandle<()>) {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let kept = Arc::clone(&tail);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            lock(&kept).push(&buffer[..bytes]);
        }
    });
    (tail, reader)
}

/// The tail is plain bytes: a thread that died while it held the lock leaves nothing inconsistent.
fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}
