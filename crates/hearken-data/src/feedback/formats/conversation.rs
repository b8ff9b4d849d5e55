//! Conversations as items hold them: messages of the prompt, and candidates that are text.

use serde_json::Value;

use crate::content::{Message, Role};
pub(super) use crate::feedback::item::MESSAGES;
use crate::feedback::{Candidate, Item, Task};
pub(super) use crate::transcript::turns;
use crate::transcript::{ASSISTANT, HUMAN};

/// The key in [`Item::meta`] that says in which form its file had the prompt, where that was not a
/// list of messages: "text" or "transcript".
pub(super) const FORM: &str = "form";

/// A prompt that is text: one message of the user.
pub(super) fn text_prompt(text: &str) -> Vec<Message> {
    if text.is_empty() { Vec::new() } else { vec![Message::new(Role::User, text)] }
}

/// Notes the form of the prompt.
pub(super) fn in_form(mut item: Item, form: &str) -> Item {
    item.meta.insert(FORM.into(), Value::from(form));
    item
}

/// An item whose prompt is a text: trainers read it as one, and no chat template is asked about it.
pub fn text_prompted(task: Task, prompt: &str, candidates: Vec<Candidate>) -> Item {
    in_form(Item::new(task, text_prompt(prompt), candidates), "text")
}

/// The form that [`in_form`] noted; "messages" where it noted none.
pub(super) fn form(item: &Item) -> &str {
    item.meta.get(FORM).and_then(Value::as_str).unwrap_or("messages")
}

/// A candidate that is what follows a prompt: mostly one message of the assistant. Of several, the
/// text shows all, and the metadata keep them apart.
pub(super) fn candidate(messages: Vec<Message>) -> Candidate {
    if let [only] = messages.as_slice()
        && only.role == Role::Assistant
        && !only.has_more()
    {
        return Candidate::text(only.content.as_str());
    }
    let mut candidate = Candidate::text(shown(&messages));
    let kept = serde_json::to_value(messages).expect("messages serialize");
    candidate.meta.insert(MESSAGES.into(), kept);
    candidate
}

/// Several messages as one Markdown text; the first of the assistant needs no name.
fn shown(messages: &[Message]) -> String {
    let turn = |(index, message): (usize, &Message)| match (index, message.role) {
        (0, Role::Assistant) => said(message),
        (_, role) => {
            let name = role.as_str();
            format!("**{}{}:** {}", name[..1].to_ascii_uppercase(), &name[1..], said(message))
        }
    };
    messages.iter().enumerate().map(turn).collect::<Vec<_>>().join("\n\n")
}

/// What a message says, calls of tools included.
fn said(message: &Message) -> String {
    match message.field("tool_calls").filter(|_| message.calls_tools()) {
        None => message.content.clone(),
        Some(calls) => {
            let calls = format!("```json\n{calls:#}\n```");
            let text = [message.content.as_str(), &calls].join("\n\n");
            text.trim_start().to_owned()
        }
    }
}

/// The messages of a candidate.
pub(super) fn messages(candidate: &Candidate) -> Vec<Message> {
    candidate
        .messages()
        .unwrap_or_else(|| vec![Message::new(Role::Assistant, candidate.full_text())])
}

/// Whether a candidate is one message of the assistant.
pub(super) fn is_single(candidate: &Candidate) -> bool {
    !candidate.meta.contains_key(MESSAGES)
}

/// Conversations with their common start taken off: the prompt, and what follows it in each, which
/// is one message at least.
pub(super) fn split(conversations: Vec<Vec<Message>>) -> (Vec<Message>, Vec<Vec<Message>>) {
    let shortest = conversations.iter().map(Vec::len).min().unwrap_or(0);
    let first = &conversations[0];
    let is_shared = |i: usize| conversations.iter().all(|other| other[i] == first[i]);
    let shared = (0..shortest.saturating_sub(1)).take_while(|&i| is_shared(i)).count();
    let prompt = first[..shared].to_vec();
    let rest = conversations.into_iter().map(|mut one| one.split_off(shared)).collect();
    (prompt, rest)
}

/// Messages as a transcript; `None` where it would read otherwise: another role, or a turn that
/// holds the mark of one.
pub(super) fn transcript(messages: &[Message]) -> Option<String> {
    let mut text = String::new();
    for Message { role, content, .. } in messages {
        text += match role {
            Role::User => HUMAN,
            Role::Assistant => ASSISTANT,
            _ => return None,
        };
        text.push(' ');
        text += content;
    }
    (turns(&text).as_deref() == Some(messages)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    fn assistant(text: &str) -> Message {
        Message::new(Role::Assistant, text)
    }

    #[test]
    fn transcripts_and_turns_are_inverse() {
        let text =
            "\n\nHuman: Hi.  Human: not a turn\n\nAssistant: Yes?\n\nHuman: a\n\nb\n\nAssistant: ";
        let read = turns(text).unwrap();
        assert_eq!(read.len(), 4);
        assert_eq!(read[2], user("a\n\nb"));
        assert_eq!(read[3], assistant(""));
        assert_eq!(transcript(&read).as_deref(), Some(text));
        assert_eq!(turns("Hi"), None);
        assert_eq!(transcript(&[user("x\n\nAssistant: y")]), None);
    }

    #[test]
    fn a_prompt_is_what_conversations_share_and_each_keeps_an_answer() {
        let same = vec![user("a"), assistant("b")];
        let (prompt, rest) = split(vec![same.clone(), same]);
        assert_eq!(prompt, [user("a")]);
        assert_eq!(rest, [[assistant("b")], [assistant("b")]]);
        let long = vec![user("a"), assistant("b"), user("c"), assistant("d")];
        let (prompt, rest) = split(vec![long.clone(), vec![user("a"), assistant("e")]]);
        assert_eq!(prompt, [user("a")]);
        assert_eq!(messages(&candidate(rest[0].clone())), long[1..]);
        assert_eq!(candidate(rest[0].clone()).text, "b\n\n**User:** c\n\n**Assistant:** d");
    }
}
