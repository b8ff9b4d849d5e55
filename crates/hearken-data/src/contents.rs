//! Prompts and what completes them, as the columns of a row have them: of one kind, and in order.

use crate::bad_record::FieldError;
use crate::content::{Content, Message, Role};
use crate::row::{Row, optional};
use crate::transcript::{ASSISTANT, HUMAN, TranscriptForm, is_transcript, prompt_turns, turn};
use crate::value::unexpected;

/// The columns `prompt` and `completion`, of one kind.
pub(crate) fn prompt_and_completion(row: &Row<'_>) -> Result<(Content, Content), FieldError> {
    let (prompt, completion) = (row.content("prompt")?, row.content("completion")?);
    check_kinds(row, &prompt, "completion", &completion)?;
    check_completion(row, "completion", &completion)?;
    Ok((prompt, completion))
}

/// Whether a completion is of the same kind as its prompt.
fn check_kinds(
    row: &Row<'_>,
    prompt: &Content,
    field: &str,
    completion: &Content,
) -> Result<(), FieldError> {
    if std::mem::discriminant(prompt) == std::mem::discriminant(completion) {
        return Ok(());
    }
    let expected = format!("{}, as in {}", prompt.kind(), row.name("prompt"));
    Err(unexpected(row.name(field), completion.kind().into(), expected))
}

/// Whether the messages of a completion start with one of the assistant that says something.
fn check_completion(row: &Row<'_>, field: &str, completion: &Content) -> Result<(), FieldError> {
    let Content::Messages(messages) = completion else { return Ok(()) };
    match messages.first() {
        Some(message) if message.role == Role::Assistant && message.is_empty() => {
            let field = format!("{}[0].content", row.name(field));
            Err(FieldError::Empty { field, expected: "text" })
        }
        Some(Message { role: Role::Assistant, .. }) => Ok(()),
        Some(Message { role, .. }) => Err(unexpected(
            format!("{}[0].role", row.name(field)),
            format!("the text {:?}", role.as_str()),
            "a completion that starts with a message of the assistant".into(),
        )),
        None => Err(FieldError::Empty { field: row.name(field), expected: "a list of messages" }),
    }
}

/// The contents of a preference.
pub(crate) struct PairContents {
    pub(crate) prompt: Option<Content>,
    pub(crate) chosen: Content,
    pub(crate) rejected: Content,
}

pub(crate) fn check_different<T: PartialEq>(
    row: &Row<'_>,
    fields: [&str; 2],
    chosen: &T,
    rejected: &T,
) -> Result<(), FieldError> {
    if chosen == rejected {
        let [chosen, rejected] = fields.map(|field| row.name(field));
        return Err(FieldError::IdenticalPair { chosen, rejected });
    }
    Ok(())
}

/// The columns `prompt`, `chosen` and `rejected`, whatever form they take.
pub(crate) fn pair(row: &Row<'_>) -> Result<PairContents, FieldError> {
    let prompt = optional(row, "prompt", |row| row.content("prompt"))?;
    let (chosen, rejected) = (row.content("chosen")?, row.content("rejected")?);
    check_different(row, ["chosen", "rejected"], &chosen, &rejected)?;
    match (prompt, chosen, rejected) {
        (Some(Content::Text(text)), Content::Messages(chosen), Content::Messages(rejected)) => {
            check_repeats(row, &text, &chosen, &rejected)?;
            split_messages(row, chosen, rejected)
        }
        (
            Some(Content::Messages(prompt)),
            Content::Messages(chosen),
            Content::Messages(rejected),
        ) => complete_messages(row, prompt, chosen, rejected),
        (None, Content::Messages(chosen), Content::Messages(rejected)) => {
            split_messages(row, chosen, rejected)
        }
        (None, Content::Text(chosen), Content::Text(rejected))
            if is_transcript(&chosen) || is_transcript(&rejected) =>
        {
            split_transcripts(row, &chosen, &rejected)
        }
        (Some(prompt), chosen, rejected) => {
            check_kinds(row, &prompt, "chosen", &chosen)?;
            check_kinds(row, &prompt, "rejected", &rejected)?;
            Ok(PairContents { prompt: Some(prompt), chosen, rejected })
        }
        (None, chosen, rejected) if chosen.kind() != rejected.kind() => Err(unexpected(
            row.name("rejected"),
            rejected.kind().into(),
            format!("{}, as in {}", chosen.kind(), row.name("chosen")),
        )),
        (prompt, chosen, rejected) => Ok(PairContents { prompt, chosen, rejected }),
    }
}

/// Whether the text of a prompt only repeats the first message of both lists, as in UltraFeedback.
fn check_repeats(
    row: &Row<'_>,
    text: &str,
    chosen: &[Message],
    rejected: &[Message],
) -> Result<(), FieldError> {
    let asked = |messages: &[Message]| {
        let first = messages.iter().find(|message| message.role != Role::System);
        first.is_some_and(|message| message.role == Role::User && message.content == text)
    };
    if asked(chosen) && asked(rejected) {
        return Ok(());
    }
    Err(unexpected(
        row.name("prompt"),
        "text that is not the first user message of both completions".into(),
        "a list of messages, as in the completions".into(),
    ))
}

/// A prompt of messages and what completes it; completions that repeat the prompt lose it.
fn complete_messages(
    row: &Row<'_>,
    prompt: Vec<Message>,
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> Result<PairContents, FieldError> {
    if chosen.starts_with(&prompt) && rejected.starts_with(&prompt) {
        chosen.drain(..prompt.len());
        rejected.drain(..prompt.len());
    }
    let (chosen, rejected) = (Content::Messages(chosen), Content::Messages(rejected));
    check_completion(row, "chosen", &chosen)?;
    check_completion(row, "rejected", &rejected)?;
    Ok(PairContents { prompt: Some(Content::Messages(prompt)), chosen, rejected })
}

/// Two conversations that start alike: what they share is the prompt. Messages are compared whole,
/// never their characters.
fn split_messages(
    row: &Row<'_>,
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> Result<PairContents, FieldError> {
    let shared = chosen.iter().zip(&rejected).take_while(|(left, right)| left == right).count();
    let different = |difference: String| FieldError::DifferentPrompts {
        chosen: row.name("chosen"),
        rejected: row.name("rejected"),
        difference,
    };
    if shared == 0 {
        return Err(different("they share no message at their start".into()));
    }
    for (field, messages) in [("chosen", &chosen), ("rejected", &rejected)] {
        match messages.get(shared) {
            None => {
                let expected = "a message after those that both lists share";
                return Err(FieldError::Empty { field: row.name(field), expected });
            }
            Some(message) if message.role == Role::Assistant && message.is_empty() => {
                let field = format!("{}[{shared}].content", row.name(field));
                return Err(FieldError::Empty { field, expected: "text" });
            }
            Some(Message { role: Role::Assistant, .. }) => {}
            Some(Message { role, .. }) => {
                return Err(different(format!("they part at message {shared}, of the {role}")));
            }
        }
    }
    let completion = rejected.split_off(shared);
    Ok(PairContents {
        rejected: Content::Messages(completion),
        chosen: Content::Messages(chosen.split_off(shared)),
        prompt: Some(Content::Messages(chosen)),
    })
}

/// Splits two transcripts at their last `"\n\nAssistant:"`.
fn split_transcripts(
    row: &Row<'_>,
    chosen: &str,
    rejected: &str,
) -> Result<PairContents, FieldError> {
    let (prompt, chosen) = split_transcript(row, "chosen", chosen)?;
    let (rejected_prompt, rejected) = split_transcript(row, "rejected", rejected)?;
    if prompt != rejected_prompt {
        let shared = prompt.bytes().zip(rejected_prompt.bytes()).take_while(|(l, r)| l == r);
        return Err(FieldError::DifferentPrompts {
            chosen: row.name("chosen"),
            rejected: row.name("rejected"),
            difference: format!(
                "up to the last turn of the assistant, the transcripts are equal for only {} bytes",
                shared.count()
            ),
        });
    }
    for (field, completion) in [("chosen", chosen), ("rejected", rejected)] {
        if completion.trim().is_empty() {
            let expected = "text after the last \"\\n\\nAssistant:\"";
            return Err(FieldError::Empty { field: row.name(field), expected });
        }
    }
    Ok(match row.options().transcripts {
        TranscriptForm::Text => PairContents {
            prompt: Some(Content::Text(prompt.into())),
            chosen: Content::Text(chosen.into()),
            rejected: Content::Text(rejected.into()),
        },
        TranscriptForm::Messages => PairContents {
            prompt: Some(Content::Messages(prompt_turns(prompt))),
            chosen: Content::Messages(vec![turn(Role::Assistant, chosen)]),
            rejected: Content::Messages(vec![turn(Role::Assistant, rejected)]),
        },
    })
}

/// The prompt, up to and including the last `"\n\nAssistant:"`, and the completion.
fn split_transcript<'t>(
    row: &Row<'_>,
    field: &str,
    text: &'t str,
) -> Result<(&'t str, &'t str), FieldError> {
    let error = |found: &str| {
        let expected = "a transcript that starts with \"\\n\\nHuman:\" and ends with a turn of \
                        the assistant";
        Err(unexpected(row.name(field), found.into(), expected.into()))
    };
    if !is_transcript(text) {
        return error("text that does not start with \"\\n\\nHuman:\"");
    }
    let Some(last) = text.rfind(ASSISTANT) else {
        return error("no \"\\n\\nAssistant:\" in it");
    };
    let (prompt, completion) = text.split_at(last + ASSISTANT.len());
    if completion.contains(HUMAN) {
        return error("a transcript that ends with a turn of the human");
    }
    Ok((prompt, completion))
}
