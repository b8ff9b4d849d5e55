//! Answers that are kept, so that nothing is asked twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearken_data::{JsonLinesAppender, Message, WriteError, hexadecimal};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    AnswerDraw, Budget, GoOn, LanguageModel, Price, Reply, Spent, Usage, Weighed, estimated_tokens,
};
use crate::JudgeError;

/// The most tokens of an answer that has no limit, as far as a budget is concerned.
const UNLIMITED_TOKENS: u64 = 4096;

/// Why the file of kept answers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A line is no kept answer.
    #[error("{}:{line}: found {found:?}, expected a kept answer of a judge ({reason})", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// How it begins.
        found: String,
        /// What is wrong.
        reason: String,
    },
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CachedAnswer {
    /// The hash of who was asked what.
    key: String,
    /// Who was asked.
    model: String,
    /// What it said.
    #[serde(flatten)]
    answer: KeptAnswer,
    /// What it cost, in the unit of the prices of then.
    money: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptAnswer {
    Reply(Reply),
    Weighed(Weighed),
    /// The model tells no probabilities, whatever it is asked.
    TellsNone(bool),
}

/// A file of answers, a line each, that is read when it is opened and grows with every answer. A run that is killed goes
/// on where it was, since what it had asked is in the file.
#[derive(Debug)]
pub struct KeptAnswers {
    state: Mutex<CacheState>,
    spent: Spent,
}

#[derive(Debug)]
struct CacheState {
    known: HashMap<String, KeptAnswer>,
    file: Option<JsonLinesAppender>,
    found: u64,
    too_long: u64,
}

impl KeptAnswers {
    /// Answers that are kept for as long as this lives.
    pub fn in_memory() -> Self {
        let state = CacheState { known: HashMap::new(), file: None, found: 0, too_long: 0 };
        Self { state: Mutex::new(state), spent: Spent::default() }
    }

    /// Opens the file, or starts it. A last line that a killed process left without its end goes.
    ///
    /// # Errors
    /// If it cannot be read or written, or a line is something else.
    pub fn open(path: &Path) -> Result<Self, KeptError> {
        let file = JsonLinesAppender::open(path)?;
        let unreadable = |error| KeptError::Read { path: path.to_owned(), error };
        let lines = BufReader::new(File::open(path).map_err(unreadable)?).lines();
        let (mut known, mut spent) = (HashMap::new(), Spent::default());
        for (index, line) in lines.enumerate() {
            let line = line.map_err(unreadable)?;
            let kept: CachedAnswer =
                serde_json::from_str(&line).map_err(|error| KeptError::Line {
                    path: path.to_owned(),
                    line: index + 1,
                    found: line.chars().take(80).collect(),
                    reason: error.to_string(),
                })?;
            let usage = match &kept.answer {
                KeptAnswer::Reply(reply) => reply.usage,
                KeptAnswer::Weighed(weighed) => weighed.usage,
                KeptAnswer::TellsNone(_) => Usage::default(),
            };
            if !matches!(kept.answer, KeptAnswer::TellsNone(_)) {
                spent.add(usage, kept.money);
            }
            known.insert(kept.key, kept.answer);
        }
        let state = CacheState { known, file: Some(file), found: 0, too_long: 0 };
        Ok(Self { state: Mutex::new(state), spent })
    }

    /// What the answers cost that the file had when it was opened.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// How many answers were found and not asked for.
    pub fn found(&self) -> u64 {
        self.lock().found
    }

    /// How many questions were longer than the model's context, and have no answer.
    pub fn too_long(&self) -> u64 {
        self.lock().too_long
    }

    fn find(&self, key: &str) -> Option<KeptAnswer> {
        let mut state = self.lock();
        let found = state.known.get(key).cloned();
        state.found += u64::from(found.is_some());
        found
    }

    fn keep(&self, kept: CachedAnswer) -> Result<(), WriteError> {
        let mut state = self.lock();
        if let Some(file) = &mut state.file {
            file.append(&kept)?;
        }
        state.known.insert(kept.key, kept.answer);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        // An answer is in the map once it is in the file: a thread that died in between loses one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model whose answers are kept, within a budget.
pub struct KeptModel {
    model: Arc<dyn LanguageModel>,
    kept: Arc<KeptAnswers>,
    budget: Arc<Budget>,
    price: Price,
}

impl KeptModel {
    /// A model whose answers go to `kept`, and whose tokens cost `price` of `budget`.
    pub fn new(
        model: Arc<dyn LanguageModel>,
        kept: Arc<KeptAnswers>,
        budget: Arc<Budget>,
        price: Price,
    ) -> Self {
        Self { model, kept, budget, price }
    }

    /// The hash of who is asked what.
    fn key(&self, conversation: &[Message], what: &serde_json::Value) -> String {
        let messages: serde_json::Value = conversation.iter().map(Message::to_json).collect();
        let asked = json!([self.model.identity(), messages, what]).to_string();
        hexadecimal(&Sha256::digest(asked.as_bytes())[..16])
    }

    /// What a question may cost at most.
    fn most(conversation: &[Message], tokens: u64) -> Usage {
        let texts = conversation.iter().map(|message| estimated_tokens(&message.content));
        Usage { prompt_tokens: texts.sum(), completion_tokens: tokens, estimated: true }
    }

    /// Counts a question that is too long.
    fn counted<A>(&self, answer: Result<A, JudgeError>) -> Result<A, JudgeError> {
        if let Err(JudgeError::TooLong { .. }) = &answer {
            self.kept.lock().too_long += 1;
        }
        answer
    }

    fn keep(&self, key: String, answer: KeptAnswer, money: f64) -> Result<(), JudgeError> {
        let model = self.model.name().to_owned();
        let kept = CachedAnswer { key, model, answer, money };
        self.kept.keep(kept).map_err(|error| JudgeError::Kept(KeptError::from(error).to_string()))
    }
}

impl LanguageModel for KeptModel {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn identity(&self) -> String {
        self.model.identity()
    }

    fn reply(
        &self,
        conversation: &[Message],
        draw: &AnswerDraw,
        go_on: &GoOn<'_>,
    ) -> Result<Reply, JudgeError> {
        let key = self.key(conversation, &json!({ "draw": draw }));
        if let Some(KeptAnswer::Reply(reply)) = self.kept.find(&key) {
            return Ok(reply);
        }
        let limit = draw.max_tokens.map_or(UNLIMITED_TOKENS, u64::from);
        let reserved = self.budget.reserve(Self::most(conversation, limit), self.price)?;
        let reply = self.counted(self.model.reply(conversation, draw, go_on))?;
        let money = self.price.of(reply.usage);
        reserved.spend(reply.usage, money);
        self.keep(key, KeptAnswer::Reply(reply.clone()), money)?;
        Ok(reply)
    }

    fn weigh(
        &self,
        conversation: &[Message],
        choices: &[String],
        go_on: &GoOn<'_>,
    ) -> Result<Weighed, JudgeError> {
        let key = self.key(conversation, &json!({ "choices": choices }));
        if let Some(KeptAnswer::Weighed(weighed)) = self.kept.find(&key) {
            return Ok(weighed);
        }
        let tells = self.key(&[], &json!("tells none"));
        if let Some(KeptAnswer::TellsNone(true)) = self.kept.find(&tells) {
            return Ok(Weighed { probabilities: None, usage: Usage::default() });
        }
        let reserved = self.budget.reserve(Self::most(conversation, 1), self.price)?;
        let weighed = self.counted(self.model.weigh(conversation, choices, go_on))?;
        let money = self.price.of(weighed.usage);
        reserved.spend(weighed.usage, money);
        self.keep(key, KeptAnswer::Weighed(weighed.clone()), money)?;
        if weighed.probabilities.is_none() {
            self.keep(tells, KeptAnswer::TellsNone(true), 0.0)?;
        }
        Ok(weighed)
    }
}
