//! Hearken's own format: JSON lines of items and judgements, as a store keeps them.
//!
//! A line is `{"item": {…}}` or `{"judgement": {…}}`. By hand it may be written shorter: what is
//! inside alone, an item's prompt a text, its candidates texts, without `id` and `task`.

use std::io::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::{candidate, split};
use super::error::FormatError;
use super::import::{Collector, FormatReader};
use crate::bad_record::BadRecord;
use crate::content::{Message, Role};
use crate::feedback::{Candidate, Item, Judgement, Task};
use crate::json::{self, without_position};
use crate::row::Row;

/// Kinds of lines that a store has beside items and judgements.
const OF_A_STORE: [&str; 4] = ["document", "assignment", "event", "removed"];

/// Whether a row has the columns of the format.
pub(super) fn is_record(columns: &Map<String, Value>) -> bool {
    let holds = |key: &str| columns.get(key).is_some_and(Value::is_object);
    let wrapped = columns.len() == 1 && (holds("item") || holds("judgement"));
    let of_a_store = columns.len() == 1 && OF_A_STORE.iter().any(|key| holds(key));
    wrapped || of_a_store || columns.contains_key("candidates") || columns.contains_key("verdict")
}

/// Reads the lines.
pub(super) struct Own;

/// A judgement as a store writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    judgement: Judgement,
}

impl FormatReader for Own {
    fn row(&mut self, row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
        take(row.columns().clone(), into)
    }

    fn line(&mut self, bytes: &[u8], into: &mut Collector<'_>) -> Option<Result<(), BadRecord>> {
        // Most lines are judgements, and these need no detour. Where one is bad, the detour finds
        // better words for it.
        if bytes.starts_with(b"{\"judgement\":")
            && let Ok(Wrapped { judgement }) = serde_json::from_slice(bytes)
        {
            return Some(into.judgement(judgement));
        }
        Some(json::columns(bytes).and_then(|columns| {
            if let Some((name, found)) = columns.unreadable.into_iter().next() {
                let what = format!("`{name}`: found {found}; expected JSON");
                return Err(BadRecord::Unfit { what });
            }
            take(columns.values, into)
        }))
    }
}

fn take(mut columns: Map<String, Value>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    if columns.len() == 1 {
        if let Some(Value::Object(inside)) = columns.get_mut("item") {
            return into.item(item(std::mem::take(inside))?).map(|_| ());
        }
        if columns.get("judgement").is_some_and(Value::is_object) {
            let inside = columns.remove("judgement").expect("it is there");
            return into.judgement(parsed("a judgement", inside)?);
        }
        if OF_A_STORE.iter().any(|key| columns.contains_key(*key)) {
            into.leave_out("line of a store that is neither item nor judgement");
            return Ok(());
        }
    }
    if columns.contains_key("candidates") {
        return into.item(item(columns)?).map(|_| ());
    }
    if columns.contains_key("verdict") {
        return into.judgement(parsed("a judgement", Value::Object(columns))?);
    }
    let found: Vec<String> = columns.keys().map(|key| format!("`{key}`")).collect();
    let what = format!(
        "found the keys {}; expected an item with `candidates` or a judgement with `verdict`",
        if found.is_empty() { "(none)".to_owned() } else { found.join(", ") }
    );
    Err(BadRecord::Unfit { what })
}

fn parsed<T: serde::de::DeserializeOwned>(what: &str, value: Value) -> Result<T, BadRecord> {
    serde_json::from_value(value).map_err(|error| BadRecord::Unfit {
        what: format!("found {what} with a mistake: {}", without_position(&error)),
    })
}

/// An item, with what the short form leaves out.
fn item(mut columns: Map<String, Value>) -> Result<Item, BadRecord> {
    if let Some(Value::String(text)) = columns.get("prompt") {
        let prompt = [Message::new(Role::User, text.as_str())];
        let prompt = serde_json::to_value(prompt).expect("messages serialize");
        columns.insert("prompt".into(), prompt);
    }
    conversations(&mut columns)?;
    if let Some(Value::Array(candidates)) = columns.get_mut("candidates") {
        for candidate in candidates.iter_mut().filter(|candidate| candidate.is_string()) {
            *candidate = Value::Object(Map::from_iter([("text".to_owned(), candidate.take())]));
        }
        let task = match candidates.as_slice() {
            [one] if one.get("steps").is_some() => Task::Steps,
            [_] => Task::Rating,
            [_, _] => Task::Pairwise,
            _ => Task::Ranking,
        };
        if !columns.contains_key("task") {
            columns.insert("task".into(), Value::from(task.as_str()));
        }
    }
    let is_named = columns.contains_key("id");
    if !is_named {
        columns.insert("id".into(), Value::from(""));
    }
    let mut item: Item = parsed("an item", Value::Object(columns))?;
    if !is_named {
        item.id = item.hash();
    }
    Ok(item)
}

/// Candidates that are conversations, given by their `messages`; what several begin with, is the prompt where there is
/// none.
fn conversations(columns: &mut Map<String, Value>) -> Result<(), BadRecord> {
    let has_prompt = columns.contains_key("prompt");
    let Some(Value::Array(candidates)) = columns.get_mut("candidates") else { return Ok(()) };
    let mut talks: Vec<(usize, Vec<Message>)> = Vec::new();
    for (index, one) in candidates.iter_mut().enumerate() {
        let Some(one) = one.as_object_mut() else { continue };
        let Some(said) = one.remove("messages") else { continue };
        let said: Vec<Message> = parsed("the messages of a candidate", said)?;
        let is_more = ["text", "steps"].into_iter().find(|key| one.contains_key(*key));
        let what = match (said.is_empty(), is_more) {
            (true, _) => "found a candidate whose `messages` are empty".to_owned(),
            (false, Some(key)) => format!("found a candidate with `messages` and `{key}`"),
            (false, None) => {
                talks.push((index, said));
                continue;
            }
        };
        return Err(BadRecord::Unfit { what: format!("{what}; expected one of them") });
    }
    let mut prompt = None;
    if !has_prompt && 1 < talks.len() && talks.len() == candidates.len() {
        let (shared, rest) = split(talks.into_iter().map(|(_, said)| said).collect());
        prompt = Some(serde_json::to_value(shared).expect("messages serialize"));
        talks = rest.into_iter().enumerate().collect();
    }
    for (index, said) in talks {
        let Candidate { text, meta, .. } = candidate(said);
        let one = candidates[index].as_object_mut().expect("invariant: it had messages");
        one.insert("text".into(), Value::from(text));
        let kept = one.entry("meta").or_insert_with(|| Value::Object(Map::new()));
        if let Some(kept) = kept.as_object_mut() {
            kept.extend(meta);
        }
    }
    if let Some(prompt) = prompt {
        columns.insert("prompt".into(), prompt);
    }
    Ok(())
}

/// Writes all items, then all judgements, revised ones included.
pub(super) fn write(
    items: &[&Item],
    judgements: &[&Judgement],
    writer: &mut dyn Write,
) -> Result<usize, FormatError> {
    lines("item", items, writer)?;
    lines("judgement", judgements, writer)?;
    Ok(items.len() + judgements.len())
}

fn lines<T: Serialize>(
    kind: &str,
    records: &[T],
    writer: &mut dyn Write,
) -> Result<(), FormatError> {
    for record in records {
        write!(writer, "{{\"{kind}\":")?;
        serde_json::to_writer(&mut *writer, record)?;
        writer.write_all(b"}\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Item, String> {
        let Value::Object(columns) = serde_json::from_str(line).unwrap() else { panic!() };
        item(columns).map_err(|error| error.to_string())
    }

    /// Two conversations are compared after what both begin with, and keep their turns.
    #[test]
    fn conversations_keep_their_turns_and_share_their_beginning() {
        let say = |role: &str, text: &str| format!(r#"{{"role": "{role}", "content": "{text}"}}"#);
        let of = |texts: &[&str]| {
            let roles = ["user", "assistant"].into_iter().cycle();
            let said: Vec<String> = roles.zip(texts).map(|(role, text)| say(role, text)).collect();
            format!(r#"{{"messages": [{}], "model": "m"}}"#, said.join(", "))
        };
        let (one, other) = (of(&["Hi", "Yes?", "Why?", "So."]), of(&["Hi", "Hello!"]));
        let pair = read(&format!(r#"{{"candidates": [{one}, {other}]}}"#)).unwrap();
        assert_eq!((pair.task, pair.prompt.len(), pair.assistant_turns()), (Task::Pairwise, 1, 2));
        assert_eq!(pair.candidates[0].messages().unwrap().len(), 3);
        assert_eq!((pair.candidates[1].messages(), &*pair.candidates[1].text), (None, "Hello!"));
        assert_eq!(pair.candidates[0].model.as_deref(), Some("m"));
        assert!(!pair.takes_better_answers());
        let alone = read(&format!(r#"{{"candidates": [{one}]}}"#)).unwrap();
        assert_eq!((alone.task, alone.prompt.len(), alone.assistant_turns()), (Task::Rating, 0, 2));
        let both =
            r#"{"candidates": [{"text": "a", "messages": [{"role": "user", "content": "b"}]}]}"#;
        assert!(read(both).unwrap_err().contains("`messages` and `text`"));
        assert!(read(r#"{"candidates": [{"messages": []}]}"#).unwrap_err().contains("empty"));
    }
}
