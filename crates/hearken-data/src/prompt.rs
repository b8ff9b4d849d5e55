//! Prompts: what a policy is asked to complete.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::{Content, Role};
use crate::contents::pair;
use crate::kind::RecordKind;
use crate::row::{Form, Record, Row, deserialize_from_columns};
use crate::source::Source;
use crate::split::{PromptKey, Prompted};
use crate::value::unexpected;

/// What a policy is asked to complete, with the other columns of its row, which reward functions
/// read.
///
/// ```
/// use hearken_data::{Content, Prompt};
///
/// let parse = serde_json::from_str::<Prompt>;
///
/// // Text; a list of messages stands in the same column.
/// let prompt = parse(r#"{"prompt": "2 + 2 =", "answer": 4}"#)?;
/// assert_eq!(prompt.prompt, Content::Text("2 + 2 =".into()));
/// assert_eq!(prompt.extra["answer"], 4);
///
/// // Token ids.
/// assert_eq!(parse(r#"{"prompt_ids": [5, 6]}"#)?.prompt, Content::Ids(vec![5, 6]));
///
/// // A preference whose two sides show where the prompt ends.
/// let prompt = parse(r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!",
///                        "rejected": "\n\nHuman: Hi\n\nAssistant: What?"}"#)?;
/// assert_eq!(prompt.prompt, Content::Text("\n\nHuman: Hi\n\nAssistant:".into()));
///
/// // A conversation, whose last answer is what a policy writes anew.
/// let prompt = parse(r#"{"messages": [{"role": "user", "content": "Hi"},
///                                    {"role": "assistant", "content": "Hello!"}]}"#)?;
/// assert!(matches!(prompt.prompt, Content::Messages(asked) if asked.len() == 1));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// What is to be completed.
    pub prompt: Content,
    /// The other columns, under the file's names.
    pub extra: Map<String, Value>,
    /// Where it comes from.
    pub source: Source,
}

impl Record for Prompt {
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::Prompts);

    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["prompt_ids"],
            optional: &[],
            parse: |row| Ok(prompt(row, Content::Ids(row.ids("prompt_ids")?), &["prompt_ids"])),
        },
        Form {
            required: &["prompt"],
            optional: &[],
            parse: |row| Ok(prompt(row, row.content("prompt")?, &["prompt"])),
        },
        Form { required: &["chosen", "rejected"], optional: &[], parse: from_preference },
        Form { required: &["messages"], optional: &[], parse: from_messages },
    ];
}

fn prompt(row: &Row<'_>, prompt: Content, taken: &[&str]) -> Prompt {
    Prompt { prompt, extra: row.all_but(taken), source: row.source() }
}

fn from_preference(row: &Row<'_>) -> Result<Prompt, FieldError> {
    let taken = &["chosen", "rejected"];
    match pair(row)?.prompt {
        Some(shared) => Ok(prompt(row, shared, taken)),
        None => Err(unexpected(
            row.name("chosen"),
            "a whole text that does not show where its prompt ends".into(),
            "a column `prompt`, or lists of messages, or transcripts".into(),
        )),
    }
}

/// A conversation up to what the assistant says last, or all of it where somebody else speaks last.
fn from_messages(row: &Row<'_>) -> Result<Prompt, FieldError> {
    let mut messages = row.messages("messages")?;
    while messages.last().is_some_and(|message| message.role == Role::Assistant) {
        messages.pop();
    }
    if messages.is_empty() {
        let expected = "a message of somebody else before the assistant's last";
        return Err(FieldError::Empty { field: row.name("messages"), expected });
    }
    Ok(prompt(row, Content::Messages(messages), &["messages"]))
}

impl Serialize for Prompt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = serializer.serialize_map(None)?;
        let column = self.prompt.column("prompt", "prompt_ids");
        columns.serialize_entry(column, &self.prompt)?;
        // Under a mapping the file may hold another column of this name.
        for (name, value) in self.extra.iter().filter(|(name, _)| *name != column) {
            columns.serialize_entry(name, value)?;
        }
        columns.end()
    }
}

deserialize_from_columns!(Prompt);

impl Prompted for Prompt {
    fn prompt_key(&self) -> PromptKey {
        PromptKey::of(&self.prompt)
    }
}
