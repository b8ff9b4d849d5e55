//! Items: what is shown to an annotator.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Verdict;
use crate::content::{Message, Role};
use crate::split::{PromptKey, Prompted};

/// What is asked about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Which of two candidates is better.
    Pairwise,
    /// Put several candidates in order; equal ranks are allowed.
    Ranking,
    /// Rate each candidate on the axes of the project.
    Rating,
    /// Label each step of the one candidate: good, neutral or bad.
    Steps,
}

impl Task {
    /// Every task, in the order in which errors list them.
    pub const ALL: [Task; 4] = [Task::Pairwise, Task::Ranking, Task::Rating, Task::Steps];

    /// The name in files: `"pairwise"`, `"ranking"`, ….
    pub fn as_str(self) -> &'static str {
        match self {
            Task::Pairwise => "pairwise",
            Task::Ranking => "ranking",
            Task::Rating => "rating",
            Task::Steps => "steps",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An image or an animated image that belongs to a candidate or to the prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// Where it is: a path relative to the folder of the file it came from, or a `data:` URL.
    pub source: String,
    /// What a reader who cannot see it is told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub alt: String,
}

/// One answer of an item. It never changes once it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The answer as Markdown; empty where the media are all there is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The steps of a solution, in order; `text` is then empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// Images, or the animated image of a trajectory clip.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// Who wrote it. Annotators never see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whatever else the source of the item said about it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

impl Candidate {
    /// A candidate that is text and nothing else.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The same candidate, written by `model`.
    pub fn by(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The messages of a candidate that is a conversation, or more than one message of the assistant; `None` where it is
    /// one answer.
    pub fn messages(&self) -> Option<Vec<Message>> {
        Vec::deserialize(self.meta.get(MESSAGES)?).ok()
    }

    /// The whole answer as one text: `text`, or the steps with a line break between them.
    pub fn full_text(&self) -> String {
        if self.steps.is_empty() { self.text.clone() } else { self.steps.join("\n") }
    }
}

/// An item whose right verdict is known, to measure annotators with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gold {
    /// The verdict that counts as right.
    pub verdict: Verdict,
    /// Why, shown to an annotator in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it is shown before any other item, to admit an annotator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub screening: bool,
}

/// What is shown to annotators: a prompt and its candidates. It never changes once it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The name of the item, unique in its store. Where a file has none, [`Item::hash`] becomes it.
    pub id: String,
    /// What is asked.
    pub task: Task,
    /// The conversation that the candidates answer; empty where there is none (clips).
    #[serde(default)]
    pub prompt: Vec<Message>,
    /// Images that belong to the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// The answers, in the order of the source; a verdict names them by their index here.
    #[schemars(length(min = 1))]
    pub candidates: Vec<Candidate>,
    /// The known verdict of a gold item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<Gold>,
    /// How many annotators judge it; `None` where the setting of the project holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<u32>,
    /// Items of higher priority are handed out first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Whether the page blurs it until the annotator asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Whatever else the source said about it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(priority: &i64) -> bool {
    *priority == 0
}

impl Item {
    /// An item of `task` with nothing but a prompt and candidates; its name is its [`Item::hash`].
    pub fn new(task: Task, prompt: Vec<Message>, candidates: Vec<Candidate>) -> Self {
        let mut item = Self {
            id: String::new(),
            task,
            prompt,
            media: Vec::new(),
            candidates,
            gold: None,
            overlap: None,
            priority: 0,
            sensitive: false,
            meta: Map::new(),
        };
        item.id = item.hash();
        item
    }

    /// The hash of what an annotator judges: task, prompt, media and candidates, without the name,
    /// the handling or the metadata. 32 hexadecimal digits of SHA-256.
    pub fn hash(&self) -> String {
        super::hash::of_item(self)
    }

    /// What is wrong with the item, if anything: too few candidates for its task, an empty name, a
    /// gold verdict that does not fit.
    ///
    /// # Errors
    ///
    /// A sentence that says what was found and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let candidates = self.candidates.len();
        if self.id.is_empty() {
            return Err("the item has an empty \"id\"".into());
        }
        let fits = match self.task {
            Task::Pairwise => candidates == 2,
            Task::Ranking => candidates >= 2,
            Task::Rating => candidates >= 1,
            Task::Steps => candidates == 1 && !self.candidates[0].steps.is_empty(),
        };
        if !fits {
            let expected = match self.task {
                Task::Pairwise => "exactly 2 candidates",
                Task::Ranking => "at least 2 candidates",
                Task::Rating => "at least 1 candidate",
                Task::Steps => "exactly 1 candidate with \"steps\"",
            };
            return Err(format!("a {} item needs {expected}, found {candidates}", self.task));
        }
        match &self.gold {
            Some(gold) => gold.verdict.check(self).map_err(|what| format!("\"gold\": {what}")),
            None => Ok(()),
        }
    }
}

impl Item {
    /// As [`Item::check`], and what an item must not say that is given to people from now on.
    ///
    /// # Errors
    ///
    /// A sentence that says what was found and what was expected.
    pub fn check_new(&self) -> Result<(), String> {
        self.check()?;
        match self.overlap {
            Some(0) => Err("\"overlap\" is at least 1, found 0".into()),
            _ => Ok(()),
        }
    }
}

/// Where the metadata of a candidate that is more than one message of the assistant keep them apart.
pub(crate) const MESSAGES: &str = "messages";

impl Item {
    /// Whether an annotator can write an answer that takes the place of one: those that are there are text.
    pub fn takes_better_answers(&self) -> bool {
        let is_text = |one: &Candidate| {
            one.steps.is_empty() && one.media.is_empty() && !one.meta.contains_key(MESSAGES)
        };
        self.task != Task::Steps && self.candidates.iter().all(is_text)
    }

    /// How many turns of the assistant the longest of its conversations has; 0 where no candidate is one.
    pub fn assistant_turns(&self) -> usize {
        let turns = |one: &Candidate| {
            let messages = one.messages().unwrap_or_default();
            messages.iter().filter(|message| message.role == Role::Assistant).count()
        };
        self.candidates.iter().map(turns).max().unwrap_or(0)
    }
}

/// Where the metadata of an item keep what models suggested.
pub(crate) const SUGGESTIONS: &str = "suggestions";

impl Item {
    /// The verdict that a model suggested before people judged, where the metadata have one that fits: the first of
    /// `"suggestions"`.
    pub fn suggestion(&self) -> Option<Verdict> {
        let all = self.meta.get(SUGGESTIONS)?.as_array()?;
        let verdicts = all.iter().filter_map(|one| Verdict::deserialize(one.get("verdict")?).ok());
        verdicts.into_iter().find(|verdict| verdict.check(self).is_ok())
    }
}

impl Prompted for Item {
    /// The prompt; of an item without one, the whole item.
    fn prompt_key(&self) -> PromptKey {
        if self.prompt.is_empty() {
            return PromptKey::of_text(&self.hash());
        }
        PromptKey::of_messages(&self.prompt)
    }
}
