//! A program that answers JSON lines with JSON lines.

use std::{
    io::BufRead as _,
    process::Command,
    time::{Duration, Instant},
};

use hearken_program::{Program, ProgramOutput, Silence};
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
/// requests. The program is killed when this is dropped or has failed.
#[derive(Debug)]
pub(crate) struct LineProgram {
    protocol: Protocol,
    label: String,
    program: Program<String>,
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
        command.args(&options.args);
        let program = Program::start(command, read_line)
            .map_err(|source| JudgeError::Start { program: label.clone(), source })?;
        Ok(Self { protocol, label, program, deadline: options.deadline, next_id: 0 })
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
            self.program.kill();
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
        self.program.send(self.request_lines(requests));
        self.next_id += expected as u64;
        let start = Instant::now();
        let mut found = Vec::with_capacity(expected);
        while found.len() < expected {
            let left = self.deadline.saturating_sub(start.elapsed());
            let line = match self.program.answer(left) {
                Ok(line) => line,
                Err(Silence::Late) => return Err(self.late(found.len(), expected)),
                Err(Silence::Ended) => {
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
        match self.program.answer(patience) {
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
            stderr: self.program.stderr(),
        }
    }

    fn ended(&mut self, received: usize, expected: usize) -> JudgeError {
        JudgeError::Ended {
            program: self.label.clone(),
            ending: self.program.ending(),
            what: self.protocol.what,
            received,
            expected,
            stderr: self.program.stderr(),
        }
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

fn read_line(output: &mut ProgramOutput) -> Option<String> {
    let mut line = Vec::new();
    output
        .read_until(b'\n', &mut line)
        .is_ok_and(|bytes| 0 < bytes)
        .then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}
