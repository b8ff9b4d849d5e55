//! A teacher behind a server: `hearken serve` with its model.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hearken_config::TeacherSection;
use hearken_judge::sampling_server::{
    LogprobsRequest, SamplingServer, SamplingServerError, TokenLogprobs,
};
use hearken_model::{Model, Tokenizer};
use hearken_objective::numerics::log_sum_exp;
use hearken_run::error::TrainError;
use hearken_run::ranks::Ranks;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::rollout::Sequence;

/// Requests to the server at a time.
const AT_ONCE: usize = 4;
/// Sequences of a request.
const SEQUENCES: usize = 8;

/// The student's model, and its tokenizer where it has one.
type Student<'a, D> = (&'a Model<D>, Option<&'a Tokenizer>);

/// What a teacher says of the place of a token: log p of some distinct tokens there, that one among them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TeacherToken {
    pub(super) ids: Vec<u32>,
    pub(super) logprobs: Vec<f64>,
}

impl TeacherToken {
    fn new(token: u32, of: TokenLogprobs) -> Self {
        let TokenLogprobs { logprob, likeliest } = of;
        let (mut ids, mut logprobs): (Vec<u32>, Vec<f64>) = likeliest.into_iter().unzip();
        if !ids.contains(&token) {
            ids.push(token);
            logprobs.push(logprob);
        }
        Self { ids, logprobs }
    }

    /// What all other tokens have together.
    pub(super) fn unnamed(&self) -> f64 {
        // Rounding may leave a little less than nothing.
        (-log_sum_exp(&self.logprobs).exp_m1()).max(0.0)
    }
}

/// A teacher behind a server.
#[derive(Debug)]
pub(super) struct ServedTeacher {
    server: SamplingServer,
    model: Option<String>,
    top_k: usize,
    /// Whether its tokens are the student's, once that is known.
    is_known: OnceLock<()>,
}

impl ServedTeacher {
    /// A client of the server at `url`; nothing is sent.
    ///
    /// # Errors
    /// If the variable that should have the server's key is not there, or the address is none.
    pub(super) fn open(config: &TeacherSection, url: &str) -> Result<Self, TrainError> {
        let key = config.key_env.as_deref().map(|variable| {
            std::env::var(variable).map_err(|_| {
                TrainError::Other(format!(
                    "`teacher.key_env`: found no environment variable {variable}, expected one that has the key of \
                     the server"
                ))
            })
        });
        let server = SamplingServer::new(url, key.transpose()?, config.timeout_s.duration());
        let server =
            server.map_err(|error| TrainError::Other(format!("`teacher.server`: {error}")))?;
        let (model, top_k) = (config.model.clone(), *config.top_k);
        Ok(Self { server, model, top_k, is_known: OnceLock::new() })
    }

    /// What the teacher says of each token of completions, its logits divided by a temperature.
    ///
    /// # Errors
    /// If the server fails, or its model has other tokens than the student.
    pub(super) fn told<D: Device>(
        &self,
        student: Student<'_, D>,
        sequences: &[Sequence<'_>],
        ranks: &Ranks,
        temperature: f64,
    ) -> Result<Vec<Vec<TeacherToken>>, TrainError> {
        let likeliest = self.top_k.min(student.0.config().vocab);
        let said = self.ask_together(student, sequences, ranks, temperature, likeliest)?;
        let of_sequence = |(sequence, said): (&Sequence<'_>, Vec<TokenLogprobs>)| {
            let tokens = sequence.completion.iter().zip(said);
            tokens.map(|(&token, of)| TeacherToken::new(token, of)).collect()
        };
        Ok(sequences.iter().zip(said).map(of_sequence).collect())
    }

    /// The teacher's log-probabilities of the tokens of completions.
    ///
    /// # Errors
    /// As [`ServedTeacher::told`].
    pub(super) fn logprobs<D: Device>(
        &self,
        student: Student<'_, D>,
        sequences: &[Sequence<'_>],
        ranks: &Ranks,
        temperature: f64,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let said = self.ask_together(student, sequences, ranks, temperature, 0)?;
        let of = |said: Vec<TokenLogprobs>| said.into_iter().map(|one| one.logprob).collect();
        Ok(said.into_iter().map(of).collect())
    }

    /// Each process asks of its share.
    fn ask_together<D: Device>(
        &self,
        student: Student<'_, D>,
        sequences: &[Sequence<'_>],
        ranks: &Ranks,
        temperature: f64,
        likeliest: usize,
    ) -> Result<Vec<Vec<TokenLogprobs>>, TrainError> {
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.tokens()).collect();
        let shares = ranks.shares(&lengths);
        let asked = self.check(student).and_then(|()| {
            let asked = self.ask(&shares.pick(sequences), temperature, likeliest);
            asked.map_err(|error| failed(&error))
        });
        Ok(ranks.whole(&shares, ranks.agree(asked)?))
    }

    /// Asks of all, several at a time.
    fn ask(
        &self,
        sequences: &[Sequence<'_>],
        temperature: f64,
        likeliest: usize,
    ) -> Result<Vec<Vec<TokenLogprobs>>, SamplingServerError> {
        let parts: Vec<&[Sequence<'_>]> = sequences.chunks(SEQUENCES).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut answered = Vec::new();
            while let Some((index, part)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, parts.get(at)?)))
            {
                let sequences: Vec<_> =
                    part.iter().map(|one| (one.prompt, one.completion)).collect();
                let model = self.model.as_deref();
                let request =
                    LogprobsRequest { model, sequences: &sequences, temperature, likeliest };
                let answer = self.server.logprobs(&request);
                let has_failed = answer.is_err();
                answered.push((index, answer));
                if has_failed {
                    next.store(parts.len(), Ordering::Relaxed);
                }
            }
            answered
        };
        let mut answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|one| one.join().expect("no client panics"));
            ended.flatten().collect()
        });
        answers.sort_by_key(|(index, _)| *index);
        let answers: Result<Vec<_>, _> = answers.into_iter().map(|(_, answer)| answer).collect();
        Ok(answers?.concat())
    }

    /// Refuses a teacher that has other tokens than the student.
    fn check<D: Device>(&self, (model, tokenizer): Student<'_, D>) -> Result<(), TrainError> {
        if self.is_known.get().is_some() {
            return Ok(());
        }
        let of_teacher =
            self.server.tokens(self.model.as_deref()).map_err(|error| failed(&error))?;
        let (found, expected) = (of_teacher.vocab, model.config().vocab);
        let own = tokenizer.map(Tokenizer::fingerprint);
        if found != expected || own.is_some_and(|own| own != of_teacher.tokenizer) {
            return Err(TrainError::Other(format!(
                "`teacher.server`: {} has a model with another tokenizer or vocabulary ({found} tokens) than the \
                 student ({expected}), expected the same",
                self.server.url()
            )));
        }
        // Another thread may have found out as well.
        let _ = self.is_known.set(());
        Ok(())
    }
}

fn failed(error: &SamplingServerError) -> TrainError {
    TrainError::Teacher(error.to_string())
}
