//! One prompt with its two answers, kept by the service from the end of the stream to the vote: what
//! is stored as an item is what the models said, not what a page sends back.

use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role};
use hearken_store::Expected;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::codec;
use crate::error::AppError;
use crate::queue::LIVE;
use crate::state::AppState;

/// The kind of document in which exchanges are kept.
const KIND: &str = "live";
/// How long an exchange waits for a vote.
const LIFE_MS: i64 = 86_400_000;

/// One answer of an exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExchangeAnswer {
    pub(super) model: String,
    pub(super) text: String,
}

/// A conversation and the two answers to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) annotator: String,
    pub(super) conversation: Vec<Message>,
    pub(super) answers: [ExchangeAnswer; 2],
    /// Place `k` showed answer `presented[k]`.
    pub(super) presented: [usize; 2],
    pub(super) at: i64,
    /// The name of the judgement, once there is a vote.
    pub(super) judgement: Option<String>,
    /// The place of the answer with which the conversation goes on, once there is a vote.
    #[serde(default)]
    pub(super) chosen: Option<usize>,
}

impl Exchange {
    /// Keeps it and gives the name under which it is found. Removes those that nobody voted on. May
    /// block.
    pub(super) fn keep(&self, state: &AppState) -> Result<String, AppError> {
        for old in state.store().documents(KIND)? {
            let at = old.body["at"].as_i64().unwrap_or(0);
            if at + LIFE_MS < state.now() {
                state.store().delete_document(KIND, &old.key)?;
            }
        }
        let id = codec::random_hex::<16>();
        state.store().put_document(KIND, &id, &json!(self), Expected::Nothing)?;
        Ok(id)
    }

    /// The exchange of this name and its version. May block.
    pub(super) fn find(
        state: &AppState,
        id: &str,
        annotator: &str,
    ) -> Result<(Self, u64), AppError> {
        let plain = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let document = if plain { state.store().document(KIND, id)? } else { None };
        let document = document.ok_or_else(gone)?;
        let exchange: Self = serde_json::from_value(document.body).map_err(|error| {
            AppError::Internal(format!("a live exchange in the store: {error}"))
        })?;
        if exchange.annotator != annotator {
            return Err(gone());
        }
        Ok((exchange, document.version))
    }

    /// Writes down that `judgement` is the vote on it. May block.
    ///
    /// # Errors
    ///
    /// There was another vote.
    pub(super) fn claim(
        mut self,
        state: &AppState,
        id: &str,
        version: u64,
        judgement: &str,
        chosen: usize,
    ) -> Result<Self, AppError> {
        match &self.judgement {
            Some(earlier) if earlier == judgement => return Ok(self),
            Some(_) => return Err(voted()),
            None => {
                (self.judgement, self.chosen) = (Some(judgement.to_owned()), Some(chosen));
            }
        }
        let expected = Expected::Version(version);
        match state.store().put_document(KIND, id, &json!(self), expected)? {
            Some(_) => Ok(self),
            None => Err(voted()),
        }
    }

    /// The item that is stored with the vote. Nobody else is asked about it.
    pub(super) fn item(&self, id: &str) -> Item {
        let candidates = self
            .answers
            .iter()
            .map(|said| Candidate::text(said.text.clone()).by(said.model.clone()))
            .collect();
        let mut item = Item::new(Task::Pairwise, self.conversation.clone(), candidates);
        item.id = format!("live-{id}");
        item.overlap = Some(1);
        item.meta.insert("source".into(), json!(LIVE));
        item
    }

    /// The conversation with the chosen answer as its last turn; before there is a vote none.
    pub(super) fn continued(&self) -> Option<Vec<Message>> {
        let said = &self.answers[self.presented[self.chosen?.min(1)]];
        let mut conversation = self.conversation.clone();
        conversation.push(Message::new(Role::Assistant, said.text.clone()));
        Some(conversation)
    }
}

fn gone() -> AppError {
    AppError::NotFound("these answers are not kept any longer; ask again".into())
}

fn voted() -> AppError {
    AppError::Conflict("these answers were judged already".into())
}
