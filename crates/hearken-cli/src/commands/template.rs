//! `hearken template`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{FieldError, Form, Message, Record, Row, Source};
use hearken_hub::ModelPart;
use hearken_model::Tokenizer;
use hearken_model::chat::{BUILT_IN_FORMAT, Seen, builtin, encode_json};
use hearken_model::template::Ending;
use serde::Serialize;
use serde_json::{Map, Value};

use super::output_lines::{LineArguments, OutputLines, WithColumns};
use super::template_arguments::TemplateArguments;
use crate::{hub, output};

/// Show what a model sees of conversations
///
/// Every line of the input has `messages`, and may have `tools`, `documents`, `add_generation_prompt`,
/// `continue_final_message` and any other variable of the chat template. It becomes a line with `text`
/// (what the template makes of it), `input_ids` (its tokens) and `loss_mask` (1 where the assistant
/// writes the token; null where the template does not let that be told).
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Template {
    /// A Hugging Face model directory, or its name on the hub; its tokenizer and template are read, no weights
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    #[command(flatten)]
    choice: TemplateArguments,

    #[command(flatten)]
    lines: LineArguments,
}

const EXAMPLES: &str = "\
Examples:
  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' > chats.jsonl
  hearken template --model runs/quickstart/base --input chats.jsonl \\
      --output seen.jsonl
  # With variables of the template; with another template
  hearken template --model runs/quickstart/base --input - --output - \\
      --variable add_generation_prompt=true < chats.jsonl
  echo '{% for m in messages %}{{ m.content }}{% endfor %}' > mine.jinja
  hearken template --model runs/quickstart/base --template mine.jinja \\
      --input chats.jsonl --output plain.jsonl";

/// The columns of a line.
const COLUMNS: [&str; 3] = ["text", "input_ids", "loss_mask"];
const MESSAGES: &str = "messages";
const GENERATION_PROMPT: &str = "add_generation_prompt";
const CONTINUE: &str = "continue_final_message";

/// A conversation with the variables of its line, and where it stands.
struct ConversationLine {
    messages: Vec<Value>,
    ending: Ending,
    columns: Map<String, Value>,
    source: Source,
}

impl Record for ConversationLine {
    const FORMS: &'static [Form<Self>] =
        &[Form { required: &[MESSAGES], optional: &[], parse: Self::parse }];
}

impl ConversationLine {
    fn parse(row: &Row<'_>) -> Result<Self, FieldError> {
        let columns = row.all_but(&[]);
        let unexpected = |field: &str, found: &Value, expected: &str| FieldError::Unexpected {
            field: format!("`{field}`"),
            found: found.to_string(),
            expected: expected.to_owned(),
        };
        let given = columns.get(MESSAGES).unwrap_or(&Value::Null);
        // A template may have roles and fields that no trainer knows.
        let messages = given
            .as_array()
            .filter(|list| !list.is_empty() && list.iter().all(Value::is_object))
            .ok_or_else(|| {
                unexpected(MESSAGES, given, "a list of messages with something in it")
            })?;
        let flag = columns.get(GENERATION_PROMPT).unwrap_or(&Value::Null);
        let wants_prompt = match flag {
            Value::Null => false,
            Value::Bool(wanted) => *wanted,
            found => return Err(unexpected(GENERATION_PROMPT, found, "true or false")),
        };
        let ending = match columns.get(CONTINUE).unwrap_or(&Value::Null) {
            Value::Null | Value::Bool(false) if wants_prompt => Ending::GenerationPrompt,
            Value::Null | Value::Bool(false) => Ending::Closed,
            found if wants_prompt => {
                let expected = format!("false, since `{GENERATION_PROMPT}` is true");
                return Err(unexpected(CONTINUE, found, &expected));
            }
            Value::Bool(true) => Ending::Continued("content".to_owned()),
            Value::String(field) => Ending::Continued(field.clone()),
            found => return Err(unexpected(CONTINUE, found, "true, false or a field's name")),
        };
        Ok(Self { messages: messages.clone(), ending, source: row.source(), columns })
    }
}

impl WithColumns for ConversationLine {
    fn columns(&self) -> (&Map<String, Value>, &Source) {
        (&self.columns, &self.source)
    }
}

#[derive(Serialize)]
struct TemplateLine<'a> {
    #[serde(flatten)]
    kept: Option<&'a Map<String, Value>>,
    text: String,
    input_ids: Vec<u32>,
    loss_mask: Option<Vec<u8>>,
}

impl Template {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.lines.check(&self.model)?;
        let conversations: Vec<ConversationLine> = self.lines.read(&COLUMNS)?;
        let expected = conversations.len();
        let is_own = |_: usize, line: &Map<String, Value>| {
            COLUMNS.iter().all(|column| line.contains_key(*column))
        };
        let present = self.lines.present(expected, is_own)?;
        if present == expected {
            output::say(&format!("{expected} lines are there already"));
            return Ok(ExitCode::SUCCESS);
        }
        let place = hub::model(&self.model, ModelPart::Tokenizer)?;
        let mut tokenizer = Tokenizer::load(&place)?;
        self.choice.choose(&mut tokenizer)?;
        if tokenizer.chat_templates().is_none() {
            output::say(&format!("{}: {BUILT_IN_FORMAT}", self.model.display()));
        }
        let mut lines: OutputLines<TemplateLine<'_>> = self.lines.open(present)?;
        let mut unknown = 0;
        for conversation in &conversations[present..] {
            let at = &conversation.source;
            let seen = see(&tokenizer, conversation).with_context(|| at.to_string())?;
            if let Err(error) = &seen.supervised {
                if unknown == 0 {
                    output::say(&format!("{at}: no loss mask: {error}"));
                }
                unknown += 1;
            }
            let mask = seen.supervised.ok();
            lines.write(TemplateLine {
                kept: self.lines.kept(conversation),
                text: seen.text,
                input_ids: seen.ids,
                loss_mask: mask.map(|mask| mask.into_iter().map(u8::from).collect()),
            })?;
        }
        if 1 < unknown {
            output::say(&format!("{unknown} lines have no loss mask"));
        }
        lines.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What the model sees of a conversation.
fn see(tokenizer: &Tokenizer, conversation: &ConversationLine) -> Result<Seen> {
    let ConversationLine { messages, ending, columns, .. } = conversation;
    if let Some(templates) = tokenizer.chat_templates() {
        let mut variables = columns.clone();
        for name in [MESSAGES, GENERATION_PROMPT, CONTINUE] {
            variables.remove(name);
        }
        return Ok(encode_json(tokenizer, templates, messages, variables, ending)?);
    }
    let of_ours: Vec<Message> = serde_json::from_value(Value::Array(messages.clone()))?;
    let wants_prompt = match ending {
        Ending::Continued(_) => bail!("the built-in chat format cannot continue a message"),
        ending => *ending == Ending::GenerationPrompt,
    };
    let chat = builtin::encode_messages(tokenizer, &of_ours, wants_prompt)?;
    let text = tokenizer.decode_with_special(&chat.ids);
    Ok(Seen { text, ids: chat.ids, supervised: Ok(chat.supervised) })
}
