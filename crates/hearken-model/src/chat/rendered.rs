//! Conversations as tokens, by a model's own template.
//!
//! The template's text is encoded as Transformers encodes it: special tokens in it are parsed, also
//! where a user wrote them, and none is added. So BOS is there where the template writes it, and
//! once.
//!
//! What the assistant writes is what the template marks with `{% generation %}`. Of a template
//! without marks it is told by rendering prefix after prefix: an answer begins where the messages
//! before it end with a generation prompt, and ends where the messages up to it do, behind the end
//! token. Both have to be the beginning of the whole conversation, token by token; a template that
//! writes the beginning otherwise where more follows is refused.

use std::borrow::Cow;
use std::ops::Range;

use hearken_data::Message;
use serde_json::{Map, Value};

use super::{ChatTokens, Conversation};
use crate::template::{ChatTemplates, Ending, TemplateError};
use crate::tokenizer::{ByteSpan, Tokenizer, TokenizerError};

/// The column whose entries are variables.
const KWARGS: &str = "chat_template_kwargs";
/// How much of a text an error shows.
const SHOWN_CHARS: usize = 60;

/// Messages as JSON, with the variables that the template gets.
struct Input<'a> {
    tokenizer: &'a Tokenizer,
    templates: &'a ChatTemplates,
    messages: Cow<'a, [Value]>,
    variables: Map<String, Value>,
}

/// A text, its tokens, and what the template marks in it.
struct Encoded {
    text: String,
    ids: Vec<u32>,
    /// `None` where the template has no marks.
    marked: Option<Vec<bool>>,
}

pub(super) fn encode(
    tokenizer: &Tokenizer,
    templates: &ChatTemplates,
    conversation: Conversation<'_>,
    ending: &Ending,
) -> Result<Vec<u32>, TokenizerError> {
    let input = Input::of(tokenizer, templates, conversation);
    input.ids(input.messages.len(), ending)
}

pub(super) fn encode_whole(
    tokenizer: &Tokenizer,
    templates: &ChatTemplates,
    conversation: Conversation<'_>,
) -> Result<ChatTokens, TokenizerError> {
    let input = Input::of(tokenizer, templates, conversation);
    let encoded = input.encoded(&Ending::Closed)?;
    let supervised = input.supervised(&encoded, 0, &Ending::Closed)?;
    Ok(ChatTokens { ids: encoded.ids, turns: Vec::new(), supervised })
}

pub(super) fn encode_completion(
    tokenizer: &Tokenizer,
    templates: &ChatTemplates,
    conversation: Conversation<'_>,
    prompt: usize,
) -> Result<(ChatTokens, usize), TokenizerError> {
    let input = Input::of(tokenizer, templates, conversation);
    let Encoded { mut ids, marked, text } = input.encoded(&Ending::Closed)?;
    let given = input.prefix_len(&ids, prompt, &Ending::GenerationPrompt)?;
    let encoded = Encoded { ids: ids.clone(), marked, text };
    let mut supervised = input.supervised(&encoded, prompt, &Ending::Closed)?;
    supervised[..given].fill(false);
    let end = input.end_of_turn(&ids, given..ids.len());
    if tokenizer.decode_with_special(&ids[end..]).trim().is_empty() {
        ids.truncate(end);
        supervised.truncate(end);
    }
    Ok((ChatTokens { ids, turns: Vec::new(), supervised }, given))
}

/// What a model sees of a conversation.
#[derive(Debug)]
pub struct Seen {
    /// The text that the template makes.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Which of them the assistant writes; an error where there is no telling.
    pub supervised: Result<Vec<bool>, TokenizerError>,
}

/// What a template makes of messages that may have any role and any field, with `variables` beside
/// them.
///
/// # Errors
///
/// The template refuses the messages, or their text cannot be encoded.
pub fn encode_json(
    tokenizer: &Tokenizer,
    templates: &ChatTemplates,
    messages: &[Value],
    variables: Map<String, Value>,
    ending: &Ending,
) -> Result<Seen, TokenizerError> {
    let variables = with_kwargs(variables);
    let input = Input { tokenizer, templates, messages: Cow::Borrowed(messages), variables };
    let encoded = input.encoded(ending)?;
    let supervised = input.supervised(&encoded, 0, ending);
    Ok(Seen { text: encoded.text, ids: encoded.ids, supervised })
}

/// The variables of a record: its tools and documents, the entries of `chat_template_kwargs`, and the
/// columns that the template reads. Data sets keep tools as JSON in a text too.
fn variables(templates: &ChatTemplates, columns: &Map<String, Value>) -> Map<String, Value> {
    let is_given = |name: &str| matches!(name, "tools" | "documents" | KWARGS);
    let taken = columns.iter().filter(|(name, value)| {
        !value.is_null() && *name != "messages" && (is_given(name) || templates.reads(name))
    });
    with_kwargs(taken.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn with_kwargs(mut variables: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(further)) = variables.remove(KWARGS) {
        variables.extend(further);
    }
    if let Some(Value::String(text)) = variables.get("tools")
        && let Ok(tools @ Value::Array(_)) = serde_json::from_str(text)
    {
        variables.insert("tools".to_owned(), tools);
    }
    variables
}

impl<'a> Input<'a> {
    fn of(
        tokenizer: &'a Tokenizer,
        templates: &'a ChatTemplates,
        conversation: Conversation<'_>,
    ) -> Self {
        let messages = conversation.messages.iter().map(Message::to_json).collect();
        let variables = variables(templates, conversation.columns);
        Self { tokenizer, templates, messages: Cow::Owned(messages), variables }
    }

    /// The tokens of the first `messages` messages.
    fn ids(&self, messages: usize, ending: &Ending) -> Result<Vec<u32>, TokenizerError> {
        let rendered =
            self.templates.render(&self.messages[..messages], &self.variables, ending)?;
        self.tokenizer.encode_rendered(&rendered.text)
    }

    fn encoded(&self, ending: &Ending) -> Result<Encoded, TokenizerError> {
        let rendered = self.templates.render(&self.messages, &self.variables, ending)?;
        let has_tools = self.variables.get("tools").is_some_and(|tools| !tools.is_null());
        if !self.templates.template(has_tools)?.marks_generation() {
            let ids = self.tokenizer.encode_rendered(&rendered.text)?;
            return Ok(Encoded { text: rendered.text, ids, marked: None });
        }
        let (ids, places) = self.tokenizer.encode_rendered_with_places(&rendered.text)?;
        let mut marked = vec![false; ids.len()];
        for range in &rendered.generated {
            if let Some(tokens) = tokens_of(&rendered.text, range, &places) {
                marked[tokens].fill(true);
            }
        }
        Ok(Encoded { text: rendered.text, ids, marked: Some(marked) })
    }

    /// Which of the tokens of the whole conversation the assistant writes, from message `from` on.
    fn supervised(
        &self,
        whole: &Encoded,
        from: usize,
        ending: &Ending,
    ) -> Result<Vec<bool>, TokenizerError> {
        if let Some(marked) = &whole.marked {
            return Ok(marked.clone());
        }
        let ids = &whole.ids;
        let mut supervised = vec![false; ids.len()];
        for (index, message) in self.messages.iter().enumerate().skip(from) {
            if message.get("role").and_then(Value::as_str) != Some("assistant") {
                continue;
            }
            if index == 0 {
                let problem = "the first message is the assistant's, so there is no telling where \
                               its header ends, unless the template marks {% generation %}";
                let has_tools = self.variables.contains_key("tools");
                let origin = self.templates.template(has_tools)?.origin().to_owned();
                let problem = problem.to_owned();
                return Err(TemplateError::Failed { origin, line: None, problem }.into());
            }
            let start = self.prefix_len(ids, index, &Ending::GenerationPrompt)?;
            let is_last = index + 1 == self.messages.len();
            let end = match is_last && *ending != Ending::GenerationPrompt {
                true => ids.len(),
                false => self.prefix_len(ids, index + 1, &Ending::Closed)?,
            };
            let end = self.end_of_turn(ids, start.min(end)..end);
            supervised[start.min(end)..end].fill(true);
        }
        Ok(supervised)
    }

    /// Where a turn of the assistant in `tokens` ends: behind its last end token, if it has one.
    fn end_of_turn(&self, ids: &[u32], tokens: Range<usize>) -> usize {
        let ends = self.tokenizer.eos();
        let last = ids[tokens.clone()].iter().rposition(|id| ends.contains(id));
        last.map_or(tokens.end, |last| tokens.start + last + 1)
    }

    /// How many tokens the first `messages` messages have, which have to be the beginning of `whole`.
    fn prefix_len(
        &self,
        whole: &[u32],
        messages: usize,
        ending: &Ending,
    ) -> Result<usize, TokenizerError> {
        let alone = self.ids(messages, ending)?;
        if whole.starts_with(&alone) {
            return Ok(alone.len());
        }
        let token = alone.iter().zip(whole).take_while(|(left, right)| left == right).count();
        let shown = |ids: &[u32]| {
            let text = self.tokenizer.decode_with_special(ids);
            text.chars().take(SHOWN_CHARS).collect::<String>()
        };
        let has_tools = self.variables.contains_key("tools");
        Err(TokenizerError::from(TemplateError::Unstable {
            origin: self.templates.template(has_tools)?.origin().to_owned(),
            messages,
            token,
            alone: shown(&alone[token..]),
            whole: shown(&whole[token..]),
        }))
    }
}

/// The tokens of a part of a text, by the bytes in which each token lies: from the first that has its
/// first character to the first that has its last, as in Transformers. White space that no token has
/// is passed over.
fn tokens_of(text: &str, part: &Range<usize>, places: &[ByteSpan]) -> Option<Range<usize>> {
    let token_at =
        |byte: usize| places.iter().position(|&(start, end)| start <= byte && byte < end);
    let characters: Vec<usize> =
        text[part.clone()].char_indices().map(|(at, _)| part.start + at).collect();
    let first = characters.iter().find_map(|&byte| token_at(byte))?;
    let last = characters.iter().rev().find_map(|&byte| token_at(byte))?;
    Some(first..last.max(first) + 1)
}
