//! A response on its way to being an answer.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{ASK_EVERY, ChatAnswer, ChatClient, Stop, shown};
use super::error::ChatError;
use super::events::{Events, StreamEvent};
use super::protocol::{self, EventContent};
use super::transfer::{Head, ResponsePart};
use crate::item::excerpt;

/// The parts of a response so far, and the times that they may take.
pub(super) struct Stream<'c> {
    client: &'c ChatClient,
    parts: Receiver<ResponsePart>,
    start: Instant,
    sent: Instant,
    last_text: Option<Instant>,
    first_text_after: Option<Duration>,
    /// Bytes of the body.
    bytes: usize,
    told: EventContent,
}

impl<'c> Stream<'c> {
    pub(super) fn new(
        client: &'c ChatClient,
        parts: Receiver<ResponsePart>,
        start: Instant,
    ) -> Self {
        Self {
            client,
            parts,
            start,
            sent: Instant::now(),
            last_text: None,
            first_text_after: None,
            bytes: 0,
            told: EventContent::default(),
        }
    }

    /// Waits for the next part as long as the timeouts and the caller allow.
    fn next(
        &self,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ResponsePart, ChatError> {
        let timeouts = &self.client.options.timeouts;
        let received = self.told.text.len();
        loop {
            let (stage, since, limit) = match self.last_text {
                None => ("no text", self.sent, timeouts.first_text),
                Some(last) => ("no further text", last, timeouts.between_texts),
            };
            let slow = |stage, limit| {
                Err(ChatError::Slow { url: shown(&self.client.url), stage, limit, received })
            };
            let left = limit.saturating_sub(since.elapsed());
            let left_in_all = timeouts.total.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return slow(stage, limit);
            }
            if left_in_all.is_zero() {
                return slow("no whole answer", timeouts.total);
            }
            match self.parts.recv_timeout(left.min(left_in_all).min(ASK_EVERY)) {
                Ok(part) => return Ok(part),
                Err(RecvTimeoutError::Disconnected) => return Ok(ResponsePart::End),
                Err(RecvTimeoutError::Timeout) => {
                    if on_text("").is_break() {
                        return Err(ChatError::Cancelled { received });
                    }
                }
            }
        }
    }

    pub(super) fn head(
        &mut self,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Head, ChatError> {
        match self.next(on_text)? {
            ResponsePart::Head(head) => Ok(head),
            ResponsePart::Failed(error) => Err(self.client.transport(&error, 0)),
            ResponsePart::Piece(_) | ResponsePart::End => Err(self.broken("without a response")),
        }
    }

    fn broken(&self, reason: &str) -> ChatError {
        ChatError::Truncated {
            url: shown(&self.client.url),
            reason: reason.to_owned(),
            received: self.told.text.len(),
        }
    }

    /// The next bytes; `None` at the end.
    fn piece(
        &mut self,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<Vec<u8>>, ChatError> {
        match self.next(on_text)? {
            ResponsePart::Piece(piece) => {
                self.bytes += piece.len();
                let limit = self.client.options.response_bytes_max;
                if limit < self.bytes {
                    return Err(ChatError::TooLong { url: shown(&self.client.url), limit });
                }
                Ok(Some(piece))
            }
            ResponsePart::End | ResponsePart::Head(_) => Ok(None),
            ResponsePart::Failed(error @ ureq::Error::Timeout(_)) => {
                Err(self.client.transport(&error, self.told.text.len()))
            }
            ResponsePart::Failed(error) => {
                let reason = self.client.without_key(&format!("the connection broke: {error}"));
                Err(self.broken(&reason))
            }
        }
    }

    pub(super) fn rest_of_body(
        &mut self,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Vec<u8>, ChatError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(on_text)? {
            body.extend(piece);
        }
        Ok(body)
    }

    pub(super) fn events(
        &mut self,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ChatError> {
        let mut events = Events::default();
        while let Some(piece) = self.piece(on_text)? {
            for event in events.push(&piece) {
                self.event(&event, on_text)?;
                if self.told.is_end {
                    return Ok(());
                }
            }
        }
        match events.end() {
            Some(event) => self.event(&event, on_text),
            None => Ok(()),
        }
    }

    fn event(
        &mut self,
        event: &StreamEvent,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ChatError> {
        match protocol::event(self.client.options.api, event) {
            Some(told) => self.take(told, on_text),
            None => Err(self.client.nonsense(event.data.as_bytes(), "an event of the protocol")),
        }
    }

    pub(super) fn whole(
        &mut self,
        body: &[u8],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ChatError> {
        const EXPECTED: &str = "a stream of events, or the JSON of an answer";
        let value: Value =
            serde_json::from_slice(body).map_err(|_| self.client.nonsense(body, EXPECTED))?;
        let told = match protocol::error_message(&value) {
            Some(error) => EventContent { error: Some(error), ..EventContent::default() },
            None => protocol::whole(self.client.options.api, &value)
                .ok_or_else(|| self.client.nonsense(body, EXPECTED))?,
        };
        self.take(told, on_text)
    }

    fn take(
        &mut self,
        told: EventContent,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), ChatError> {
        let received = self.told.text.len();
        if let Some(error) = told.error {
            let message = self.client.without_key(&excerpt(&error));
            return Err(ChatError::Reported { url: shown(&self.client.url), message, received });
        }
        let all = &mut self.told;
        all.model = all.model.take().or(told.model);
        all.stop = told.stop.or(all.stop.take());
        all.prompt_tokens = told.prompt_tokens.or(all.prompt_tokens);
        all.completion_tokens = told.completion_tokens.or(all.completion_tokens);
        all.tokens.extend(told.tokens);
        all.is_end |= told.is_end;
        if told.text.is_empty() {
            return Ok(());
        }
        all.text += &told.text;
        self.last_text = Some(Instant::now());
        self.first_text_after.get_or_insert(self.start.elapsed());
        match on_text(&told.text) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ChatError::Cancelled { received: self.told.text.len() }),
        }
    }

    /// The answer, if the response came to its end.
    pub(super) fn answer(self) -> Result<ChatAnswer, ChatError> {
        if !self.told.is_end && self.told.stop.is_none() {
            return Err(self.broken("the server ended the response before the answer"));
        }
        let stop = self.told.stop.unwrap_or_default();
        if self.told.text.is_empty() {
            return Err(ChatError::Empty { url: shown(&self.client.url), stop });
        }
        Ok(ChatAnswer {
            text: self.told.text,
            model: self.told.model.unwrap_or_else(|| self.client.options.model.clone()),
            stop: match stop.as_str() {
                "" | "stop" | "end_turn" | "stop_sequence" => Stop::End,
                "length" | "max_tokens" => Stop::Length,
                _ => Stop::Other(stop),
            },
            prompt_tokens: self.told.prompt_tokens,
            completion_tokens: self.told.completion_tokens,
            tokens: self.told.tokens,
            first_text_after: self.first_text_after.unwrap_or_default(),
            duration: self.start.elapsed(),
        })
    }
}
