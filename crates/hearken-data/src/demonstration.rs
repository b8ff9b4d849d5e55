//! Demonstrations: sequences to imitate.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::{Content, Message, Role};
use crate::contents::prompt_and_completion;
use crate::kind::RecordKind;
use crate::row::{Form, Record, Row, deserialize_from_columns};
use crate::source::Source;
use crate::split::{PromptKey, Prompted};

/// One sequence to imitate, for supervised fine-tuning.
///
/// ```
/// use hearken_data::{Content, Demonstration, DemonstrationContent::*, Message, Role};
///
/// let parse = |line| serde_json::from_str::<Demonstration>(line).map(|record| record.content);
///
/// // Plain text.
/// assert_eq!(parse(r#"{"text": "Roses are red."}"#)?, Text("Roses are red.".into()));
///
/// // A prompt and its completion, as text, as messages, or as token ids.
/// let line = r#"{"prompt": "2 + 2 =", "completion": " 4"}"#;
/// let (prompt, completion) = (Content::Text("2 + 2 =".into()), Content::Text(" 4".into()));
/// assert_eq!(parse(line)?, Completion { prompt, completion });
///
/// // A conversation.
/// let line = r#"{"messages": [{"role": "user", "content": "Hi"},
///                             {"role": "assistant", "content": "Hello!"}]}"#;
/// let (hi, hello) = (Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Hello!"));
/// assert_eq!(parse(line)?, Messages(vec![hi, hello]));
///
/// // Token ids, and which of them are trained on.
/// let line = r#"{"input_ids": [5, 6, 0], "loss_mask": [0, 1, 1]}"#;
/// let (input_ids, loss_mask) = (vec![5, 6, 0], vec![false, true, true]);
/// assert_eq!(parse(line)?, Ids { input_ids, loss_mask });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    /// What is imitated.
    pub content: DemonstrationContent,
    /// The other columns, under the file's names.
    pub extra: Map<String, Value>,
    /// Where it comes from.
    pub source: Source,
}

/// What a [`Demonstration`] shows, and so which of its tokens are trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum DemonstrationContent {
    /// `text`: everything is trained on.
    Text(String),
    /// `prompt` and `completion`, or `prompt_ids` and `completion_ids`: the completion is trained
    /// on. Both are of one kind.
    Completion {
        /// What is given.
        prompt: Content,
        /// What is imitated.
        completion: Content,
    },
    /// `messages`: the assistant's are trained on; there is at least one.
    Messages(Vec<Message>),
    /// `input_ids` and `loss_mask`, of equal length.
    Ids {
        /// The tokens.
        input_ids: Vec<u32>,
        /// True where the token is trained on; true at least once.
        loss_mask: Vec<bool>,
    },
}

impl Record for Demonstration {
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::Demonstrations);

    const FORMS: &'static [Form<Self>] = &[
        Form { required: &["input_ids", "loss_mask"], optional: &[], parse: from_ids },
        Form {
            required: &["prompt_ids", "completion_ids"],
            optional: &[],
            parse: |row| {
                let prompt = Content::Ids(row.ids("prompt_ids")?);
                let completion = Content::Ids(row.ids("completion_ids")?);
                let content = DemonstrationContent::Completion { prompt, completion };
                Ok(demonstration(row, content, &["prompt_ids", "completion_ids"]))
            },
        },
        Form { required: &["messages"], optional: &[], parse: from_messages },
        Form {
            required: &["prompt", "completion"],
            optional: &[],
            parse: |row| {
                let (prompt, completion) = prompt_and_completion(row)?;
                let content = DemonstrationContent::Completion { prompt, completion };
                Ok(demonstration(row, content, &["prompt", "completion"]))
            },
        },
        Form {
            required: &["text"],
            optional: &[],
            parse: |row| {
                let content = DemonstrationContent::Text(row.text("text")?);
                Ok(demonstration(row, content, &["text"]))
            },
        },
    ];
}

fn demonstration(row: &Row<'_>, content: DemonstrationContent, taken: &[&str]) -> Demonstration {
    Demonstration { content, extra: row.all_but(taken), source: row.source() }
}

fn from_ids(row: &Row<'_>) -> Result<Demonstration, FieldError> {
    let (input_ids, loss_mask) = (row.ids("input_ids")?, row.mask("loss_mask")?);
    if input_ids.len() != loss_mask.len() {
        return Err(FieldError::LengthMismatch {
            field: row.name("loss_mask"),
            found: loss_mask.len(),
            ids: row.name("input_ids"),
            expected: input_ids.len(),
        });
    }
    if !loss_mask.contains(&true) {
        let expected = "at least one token that counts";
        return Err(FieldError::NothingTrained { field: row.name("loss_mask"), expected });
    }
    let content = DemonstrationContent::Ids { input_ids, loss_mask };
    Ok(demonstration(row, content, &["input_ids", "loss_mask"]))
}

fn from_messages(row: &Row<'_>) -> Result<Demonstration, FieldError> {
    let messages = row.messages("messages")?;
    let mut from_assistant =
        messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    if from_assistant.clone().next().is_none() {
        let expected = "at least one message of the assistant";
        return Err(FieldError::NothingTrained { field: row.name("messages"), expected });
    }
    if let Some((index, _)) = from_assistant.find(|(_, message)| message.is_empty()) {
        let field = format!("{}[{index}].content", row.name("messages"));
        return Err(FieldError::Empty { field, expected: "text, since it is trained on" });
    }
    Ok(demonstration(row, DemonstrationContent::Messages(messages), &["messages"]))
}

impl Serialize for Demonstration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = serializer.serialize_map(None)?;
        let own = match &self.content {
            DemonstrationContent::Text(text) => {
                columns.serialize_entry("text", text)?;
                ["text", "text"]
            }
            DemonstrationContent::Messages(messages) => {
                columns.serialize_entry("messages", messages)?;
                ["messages", "messages"]
            }
            DemonstrationContent::Completion { prompt, completion } => {
                let own = [
                    prompt.column("prompt", "prompt_ids"),
                    completion.column("completion", "completion_ids"),
                ];
                columns.serialize_entry(own[0], prompt)?;
                columns.serialize_entry(own[1], completion)?;
                own
            }
            DemonstrationContent::Ids { input_ids, loss_mask } => {
                columns.serialize_entry("input_ids", input_ids)?;
                columns.serialize_entry("loss_mask", loss_mask)?;
                ["input_ids", "loss_mask"]
            }
        };
        // Under a mapping the file may hold another column of such a name.
        for (name, value) in self.extra.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            columns.serialize_entry(name, value)?;
        }
        columns.end()
    }
}

deserialize_from_columns!(Demonstration);

impl Prompted for Demonstration {
    /// The prompt; of messages, those before the assistant's first; of token columns, the tokens
    /// before the first that is trained on; where that leaves nothing, the whole sequence.
    fn prompt_key(&self) -> PromptKey {
        match &self.content {
            DemonstrationContent::Text(text) => PromptKey::of_text(text),
            DemonstrationContent::Completion { prompt, .. } => PromptKey::of(prompt),
            DemonstrationContent::Messages(messages) => {
                let first = messages.iter().position(|message| message.role == Role::Assistant);
                let given = first.filter(|first| 0 < *first).unwrap_or(messages.len());
                PromptKey::of_messages(&messages[..given])
            }
            DemonstrationContent::Ids { input_ids, loss_mask } => {
                let first = loss_mask.iter().position(|trained| *trained);
                let given = first.filter(|first| 0 < *first).unwrap_or(input_ids.len());
                PromptKey::of_ids(&input_ids[..given])
            }
        }
    }
}
