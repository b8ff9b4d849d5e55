//! An engine on a thread of its own, for whoever asks.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use hearken_data::{Completion, StopReason};
use hearken_model::{Adapter, AdapterError, Model, Tokenizer};
use hearken_tensor::Device;

use crate::engine::Engine;
use crate::error::{AttachError, GenerateError};
use crate::reading::{Read, Reading, read_completions};
use crate::request::{EngineOptions, EngineStats, SamplingRequest, TokenSampled};
use crate::sampling::Sampling;
use crate::wishes::{AdapterId, TokenReport, Wishes};

/// A model that completes requests on a thread of its own, several at a time.
///
/// The handle can be copied and sent to other threads. The thread ends when no handle and no
/// [`Generation`] is left.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    messages: Sender<EngineMessage>,
    /// Requests asked for.
    asked: Arc<AtomicU64>,
}

/// One request on its way: an iterator over what comes of it, which waits for the next. It ends after
/// the last sample's end, or with an error. Whoever drops it cancels the request.
#[derive(Debug)]
pub struct Generation {
    updates: Receiver<Result<Update, GenerateError>>,
    _ticket: Ticket,
    /// Samples that have not ended.
    left: usize,
}

/// A request on its way, whose updates somebody else hears. Whoever drops it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    messages: Sender<EngineMessage>,
}

/// An adapter that an engine has. When this is dropped, what runs through the adapter ends, and it leaves.
#[derive(Debug)]
pub struct Attached {
    id: AdapterId,
    messages: Sender<EngineMessage>,
}

impl Attached {
    /// What requests name it by.
    pub fn id(&self) -> AdapterId {
        self.id
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // A thread that has ended has no adapters.
        drop(self.messages.send(EngineMessage::Detach(self.id)));
    }
}

/// Hears what comes of a request, on the engine's thread, which waits for it. Where it breaks off, the
/// request is cancelled; it is dropped after the last update.
pub type Sink = Box<dyn FnMut(Result<Update, GenerateError>) -> ControlFlow<()> + Send>;

/// Hears what a reading found, on the engine's thread.
pub type Listener = Box<dyn FnOnce(Result<Read, GenerateError>) + Send>;

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
        /// The token under the model itself, where the request wants that.
        report: Option<TokenReport>,
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
enum EngineMessage {
    Complete(Box<QueuedRequest>),
    Read(Reading, Listener),
    Attach(Box<Adapter>, PathBuf, Sender<Result<AdapterId, AdapterError>>),
    Detach(AdapterId),
    Cancel(u64),
    Stats(Sender<EngineStats>),
}

/// A request with a way back.
struct QueuedRequest {
    number: u64,
    request: SamplingRequest,
    sampling: Sampling,
    wishes: Wishes,
    sink: Sink,
}

impl fmt::Debug for QueuedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("number", &self.number).finish_non_exhaustive()
    }
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

    /// Whether both are handles of one engine.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.asked, &other.asked)
    }

    /// Asks for completions. What is wrong with the request comes as the first update.
    pub fn complete(&self, request: SamplingRequest, sampling: Sampling) -> Generation {
        self.complete_with(request, sampling, Wishes::default())
    }

    /// [`EngineHandle::complete`] for a request that wants more.
    pub fn complete_with(
        &self,
        request: SamplingRequest,
        sampling: Sampling,
        wishes: Wishes,
    ) -> Generation {
        let (updates, receiver) = channel();
        let nothing = sampling.max_new_tokens == 0;
        let left = if nothing { 0 } else { request.samples };
        let sink = Box::new(move |update| match updates.send(update) {
            Ok(()) => ControlFlow::Continue(()),
            // Its cancellation is on the way.
            Err(_) => ControlFlow::Break(()),
        });
        let ticket = self.complete_into(request, sampling, wishes, sink);
        Generation { updates: receiver, _ticket: ticket, left }
    }

    /// Asks for completions whose updates `sink` hears. It is dropped without having heard the end of
    /// all samples, or an error, where the thread has ended.
    pub fn complete_into(
        &self,
        request: SamplingRequest,
        sampling: Sampling,
        wishes: Wishes,
        sink: Sink,
    ) -> Ticket {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let asked = QueuedRequest { number, request, sampling, wishes, sink };
        // A thread that has ended drops the way back, which its other end sees.
        drop(self.messages.send(EngineMessage::Complete(Box::new(asked))));
        Ticket { number, messages: self.messages.clone() }
    }

    /// Adds an adapter, until what is returned is dropped; see [`Engine::attach`]. Blocks until the engine has read it,
    /// between two steps.
    ///
    /// # Errors
    /// As there, and if the thread has ended.
    pub fn attach(&self, adapter: Adapter, base: &Path) -> Result<Attached, AttachError> {
        let (sender, attached) = channel();
        let message = EngineMessage::Attach(Box::new(adapter), base.to_owned(), sender);
        // A thread that has ended drops the sender.
        drop(self.messages.send(message));
        let id = attached.recv().map_err(|_| AttachError::Gone)??;
        Ok(Attached { id, messages: self.messages.clone() })
    }

    /// Has completions read between two steps; `listener` hears what was found. It is dropped without having heard
    /// anything where the thread has ended.
    pub fn read_into(&self, reading: Reading, listener: Listener) {
        // A thread that has ended drops the way back, which its other end sees.
        drop(self.messages.send(EngineMessage::Read(reading, listener)));
    }

    /// What the engine has done so far, and how full its cache is.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn stats(&self) -> Result<EngineStats, GenerateError> {
        let (sender, stats) = channel();
        drop(self.messages.send(EngineMessage::Stats(sender)));
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

impl Drop for Ticket {
    fn drop(&mut self) {
        // A thread that has ended has nothing to cancel.
        drop(self.messages.send(EngineMessage::Cancel(self.number)));
    }
}

/// What the thread does.
struct Loop<'m, D: Device> {
    engine: Engine<'m, D>,
    inbox: Receiver<EngineMessage>,
    /// Who is told of each of the engine's requests.
    asked: BTreeMap<usize, Way>,
}

/// The way back to who asked.
struct Way {
    number: u64,
    sink: Sink,
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

    fn take(&mut self, message: EngineMessage) {
        match message {
            EngineMessage::Complete(asked) => self.submit(*asked),
            EngineMessage::Cancel(number) => {
                let found = self.asked.iter().find(|(_, way)| way.number == number);
                if let Some(request) = found.map(|(&request, _)| request) {
                    self.asked.remove(&request);
                    self.engine.cancel(request);
                }
            }
            EngineMessage::Read(reading, listener) => {
                let model = self.engine.model(reading.adapter);
                listener(rayon::scope(|_| read_completions(model?, &reading)));
            }
            EngineMessage::Attach(adapter, base, sender) => {
                let attached = self.engine.attach(&adapter, &base);
                if let Err(unwanted) = sender.send(attached)
                    && let Ok(id) = unwanted.0
                {
                    self.engine.detach(id);
                }
            }
            EngineMessage::Detach(id) => self.engine.detach(id),
            // Who has gone is not told.
            EngineMessage::Stats(sender) => drop(sender.send(self.engine.stats())),
        }
    }

    fn submit(&mut self, asked: QueuedRequest) {
        let QueuedRequest { number, request, sampling, wishes, mut sink } = asked;
        let left = request.samples;
        let nothing = left == 0 || sampling.max_new_tokens == 0;
        match self.engine.submit_with(request, &sampling, wishes) {
            Ok(_) if nothing => {}
            Ok(request) => {
                self.asked.insert(request, Way { number, sink, left });
            }
            // Nothing is left to be cancelled.
            Err(error) => drop(sink(Err(error))),
        }
    }

    fn step(&mut self) {
        let Self { engine, asked, .. } = self;
        let observe = &mut |event: TokenSampled<'_>| {
            let TokenSampled { request, sample, ids, logprob, stop_reason, report } = event;
            let report = report.cloned();
            let update =
                ids.last().map(|&id| Update::Token { sample, id, logprob, stop_reason, report });
            match asked.get_mut(&request).zip(update) {
                Some((way, update)) => (way.sink)(Ok(update)),
                None => ControlFlow::Break(()),
            }
        };
        // On a thread of the pool, kernels start sooner; between steps it belongs to others.
        let ended = rayon::scope(|_| engine.step(observe));
        match ended {
            Ok(ended) => {
                for ended in ended {
                    let Some(way) = self.asked.get_mut(&ended.request) else { continue };
                    let (sample, completion) = (ended.sample, ended.completion);
                    // Whoever breaks off has dropped the ticket.
                    let _ = (way.sink)(Ok(Update::Ended { sample, completion }));
                    way.left -= 1;
                    if way.left == 0 {
                        self.asked.remove(&ended.request);
                    }
                }
            }
            Err(error) => {
                let way = error.request().and_then(|request| self.asked.remove(&request));
                if let Some(mut way) = way {
                    let _ = (way.sink)(Err(error));
                }
            }
        }
    }
}
