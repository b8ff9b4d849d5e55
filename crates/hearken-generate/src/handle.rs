//! An engine on a thread of its own, for whoever asks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use hearken_data::{Completion, StopReason};
use hearken_model::{Model, Tokenizer};
use hearken_tensor::Device;

use crate::engine::Engine;
use crate::error::GenerateError;
use crate::request::{EngineOptions, EngineStats, Event, Request};
use crate::sampling::Sampling;

/// A model that completes requests on a thread of its own, several at a time.
///
/// The handle can be copied and sent to other threads. The thread ends when no handle and no
/// [`Generation`] is left.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    messages: Sender<Message>,
    /// Requests asked for.
    asked: Arc<AtomicU64>,
}

/// One request on its way: an iterator over what comes of it, which waits for the next. It ends after
/// the last sample's end, or with an error. Whoever drops it cancels the request.
#[derive(Debug)]
pub struct Generation {
    number: u64,
    updates: Receiver<Result<Update, GenerateError>>,
    messages: Sender<Message>,
    /// Samples that have not ended.
    left: usize,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A token has been sampled.
    Token {
        /// Index of the sample within the request.
        sample: usize,
        /// The token.
        id: u32,
        /// Its log-probability in nats, as recorded in the completion.
        logprob: f64,
        /// Why the completion ends, if this is its last token.
        stop_reason: Option<StopReason>,
    },
    /// A completion has ended.
    Ended {
        /// Index of the sample within the request.
        sample: usize,
        /// What was sampled.
        completion: Completion,
    },
}

/// What the thread is told.
#[derive(Debug)]
enum Message {
    Complete(Box<Asked>),
    Cancel(u64),
    Stats(Sender<EngineStats>),
}

/// A request with a way back.
#[derive(Debug)]
struct Asked {
    number: u64,
    request: Request,
    sampling: Sampling,
    updates: Sender<Result<Update, GenerateError>>,
}

impl EngineHandle {
    /// Starts the thread. The tokenizer is needed only for stop sequences.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn start<D: Device>(
        model: Model<D>,
        tokenizer: Option<Arc<Tokenizer>>,
        options: EngineOptions,
    ) -> Result<Self, GenerateError> {
        let (messages, inbox) = channel();
        let (opened, is_open) = channel();
        thread::spawn(move || {
            let engine = match Engine::new(&model, tokenizer.as_deref(), options) {
                Ok(engine) => engine,
                Err(error) => return drop(opened.send(Err(error))),
            };
            // Who has gone is not told; then there are no messages either.
            drop(opened.send(Ok(())));
            Loop { engine, inbox, asked: BTreeMap::new() }.run();
        });
        is_open.recv().map_err(|_| GenerateError::Gone)??;
        Ok(Self { messages, asked: Arc::default() })
    }

    /// Asks for completions. What is wrong with the request comes as the first update.
    pub fn complete(&self, request: Request, sampling: Sampling) -> Generation {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let (updates, receiver) = channel();
        let nothing = sampling.max_new_tokens == 0;
        let left = if nothing { 0 } else { request.samples };
        let asked = Asked { number, request, sampling, updates };
        // A thread that has ended drops the way back, which the receiver sees.
        drop(self.messages.send(Message::Complete(Box::new(asked))));
        Generation { number, updates: receiver, messages: self.messages.clone(), left }
    }

    /// What the engine has done so far, and how full its cache is.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn stats(&self) -> Result<EngineStats, GenerateError> {
        let (sender, stats) = channel();
        drop(self.messages.send(Message::Stats(sender)));
        stats.recv().map_err(|_| GenerateError::Gone)
    }
}

impl Iterator for Generation {
    type Item = Result<Update, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.updates.recv() {
            Ok(update) => {
                match &update {
                    Ok(Update::Token { .. }) => {}
                    Ok(Update::Ended { .. }) => self.left -= 1,
                    Err(_) => self.left = 0,
                }
                Some(update)
            }
            Err(_) if self.left == 0 => None,
            Err(_) => {
                self.left = 0;
                Some(Err(GenerateError::Gone))
            }
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // A thread that has ended has nothing to cancel.
        drop(self.messages.send(Message::Cancel(self.number)));
    }
}

/// What the thread does.
struct Loop<'m, D: Device> {
    engine: Engine<'m, D>,
    inbox: Receiver<Message>,
    /// Who is told of each of the engine's requests.
    asked: BTreeMap<usize, Way>,
}

/// The way back to who asked.
struct Way {
    number: u64,
    updates: Sender<Result<Update, GenerateError>>,
    /// Samples that have not ended.
    left: usize,
}

impl<D: Device> Loop<'_, D> {
    fn run(mut self) {
        loop {
            if self.engine.is_idle() {
                let Ok(message) = self.inbox.recv() else { return };
                self.take(message);
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            if !self.engine.is_idle() {
                self.step();
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Complete(asked) => self.submit(*asked),
            Message::Cancel(number) => {
                let found = self.asked.iter().find(|(_, way)| way.number == number);
                if let Some(request) = found.map(|(&request, _)| request) {
                    self.asked.remove(&request);
                    self.engine.cancel(request);
                }
            }
            // Who has gone is not told.
            Message::Stats(sender) => drop(sender.send(self.engine.stats())),
        }
    }

    fn submit(&mut self, asked: Asked) {
        let Asked { number, request, sampling, updates } = asked;
        let left = request.samples;
        let nothing = left == 0 || sampling.max_new_tokens == 0;
        match self.engine.submit(request, &sampling) {
            Ok(_) if nothing => {}
            Ok(request) => {
                self.asked.insert(request, Way { number, updates, left });
            }
            Err(error) => drop(updates.send(Err(error))),
        }
    }

    fn step(&mut self) {
        let asked = &self.asked;
        let ended = self.engine.step(&mut |event: Event<'_>| {
            let Event { request, sample, ids, logprob, stop_reason } = event;
            let update = ids.last().map(|&id| Update::Token { sample, id, logprob, stop_reason });
            let told = asked.get(&request).zip(update);
            match told.is_some_and(|(way, update)| way.updates.send(Ok(update)).is_ok()) {
                true => ControlFlow::Continue(()),
                // Its cancellation is on the way.
                false => ControlFlow::Break(()),
            }
        });
        match ended {
            Ok(ended) => {
                for ended in ended {
                    let Some(way) = self.asked.get_mut(&ended.request) else { continue };
                    let (sample, completion) = (ended.sample, ended.completion);
                    drop(way.updates.send(Ok(Update::Ended { sample, completion })));
                    way.left -= 1;
                    if way.left == 0 {
                        self.asked.remove(&ended.request);
                    }
                }
            }
            Err(error) => {
                let way = error.request().and_then(|request| self.asked.remove(&request));
                if let Some(way) = way {
                    drop(way.updates.send(Err(error)));
                }
            }
        }
    }
}
