//! Scores from a program that reads and writes JSON lines.

use crate::item::finite_score;
use crate::line_program::{CommandOptions, LineProgram, Protocol};
use crate::{Item, JudgeError};

const SCORES: Protocol = Protocol { what: "scores", form: "{\"score\": NUMBER}" };

/// A program that is started once and asked batch after batch.
///
/// Each request is a line on its standard input, `{"id": N, "prompt": …, "completion": …}` and the
/// item's further fields; each answer a line on its standard output, `{"score": NUMBER}`, in the
/// order of the requests. An answer may repeat the request's `id`, which is then compared. The
/// program may answer line by line (it must then flush each) or read many requests first, as
/// many as a batch has; how many those are is not part of the protocol. Its standard error is kept
/// for error messages.
///
/// The program, and on Unix whatever it started, is killed when the scorer is dropped or has failed.
#[derive(Debug)]
pub struct CommandScorer(LineProgram);

impl CommandScorer {
    /// Starts the program.
    ///
    /// # Errors
    /// [`JudgeError::Start`] if there is no such program or it may not be run.
    ///
    /// # Panics
    /// Never: the three streams are piped.
    pub fn start(options: &CommandOptions) -> Result<Self, JudgeError> {
        LineProgram::start(options, SCORES).map(Self)
    }

    /// One score per item, in order.
    ///
    /// # Errors
    /// If the program ends, is late, or writes anything but one `{"score": NUMBER}` per request. It is
    /// killed then, and the scorer is of no further use.
    pub fn score(&mut self, items: &[Item<'_>]) -> Result<Vec<f64>, JudgeError> {
        let requests = items.iter().map(|item| item.to_object()).collect();
        self.0.ask(requests, |answer| finite_score(answer.get("score")))
    }
}
