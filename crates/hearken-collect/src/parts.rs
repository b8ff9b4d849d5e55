//! What the command line hands in, because this crate knows no engine.

use std::fmt;
use std::ops::ControlFlow;

use hearken_analysis::{FeatureReport, JudgedItems};
use hearken_data::Message;
use hearken_judge::chat::ChatClient;

use crate::queue::Order;

/// Something that answers a conversation: a client of an LLM API, or a local checkpoint.
pub trait Answerer: Send + Sync {
    /// The name of the model as it is stored with its answers. Annotators do not see it.
    fn model(&self) -> &str;

    /// Answers, giving each piece of text to `on_text` as it comes; `ControlFlow::Break` ends the answer.
    /// Returns the whole answer. Called on a thread that may block.
    ///
    /// # Errors
    ///
    /// A sentence for the annotator.
    fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String>;
}

/// A model behind an LLM API.
impl Answerer for ChatClient {
    fn model(&self) -> &str {
        &self.options().model
    }

    fn answer(
        &self,
        conversation: &[Message],
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<String, String> {
        let answer = ChatClient::answer(self, conversation, on_text);
        answer.map(|answer| answer.text).map_err(|error| error.to_string())
    }
}

/// Trains the small reward network on response features.
pub trait FeatureTrainer: Send + Sync {
    /// Trains and tests on the records of a project. Called on a thread that may block.
    ///
    /// # Errors
    ///
    /// A sentence for the page, e.g. that there are too few judgements.
    fn train(&self, records: &JudgedItems) -> Result<FeatureReport, String>;
}

/// Rounds of asking, learning and promoting, for which people judge in this service.
pub trait LoopRounds: Send + Sync {
    /// What there is to say about them now, as a part of a page. Called on a thread that may block, for every look at the page.
    ///
    /// # Errors
    ///
    /// A sentence for the page, such as that a file cannot be read.
    fn html(&self) -> Result<String, String>;
}

/// What the service gets from the program that starts it; every part may be missing.
#[derive(Default)]
pub struct Parts {
    /// Who answers live prompts: none, one or two. One answers twice.
    pub answerers: Vec<Box<dyn Answerer>>,
    /// Trains the small reward network.
    pub feature_trainer: Option<Box<dyn FeatureTrainer>>,
    /// Further answers to what is labelled next: a project chooses one by its name, as it does [`RANDOM`]. The
    /// probability that one tells is stored with each judgement.
    ///
    /// [`RANDOM`]: crate::queue::RANDOM
    pub orders: Vec<Box<dyn Order>>,
    /// Rounds that are shown on a page of their own.
    pub rounds: Option<Box<dyn LoopRounds>>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&str> = self.answerers.iter().map(|answerer| answerer.model()).collect();
        let trains = self.feature_trainer.is_some();
        f.debug_struct("Parts")
            .field("answerers", &models)
            .field("feature_trainer", &trains)
            .field("rounds", &self.rounds.is_some())
            .field("orders", &self.orders.iter().map(|order| order.name()).collect::<Vec<_>>())
            .finish()
    }
}
