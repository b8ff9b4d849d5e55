//! What no home accepts.

use hearken_data::feedback::{Candidate, Item, Judgement, Media};
use serde::Serialize;

use super::Known;
use crate::error::StoreError;

/// Bytes of an id or a name. An index entry of PostgreSQL has room for little more than twice as many.
const NAME_BYTES_MAX: usize = 1000;

/// Bytes of the texts and images of one item: less than a value of any home may have.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Refuses a name that some home could not hold: an empty one, a very long one, one with a NUL.
fn name(what: &str, name: &str) -> Result<(), StoreError> {
    if name.is_empty() {
        return Err(StoreError::Invalid(format!("{what} is empty")));
    }
    if name.len() > NAME_BYTES_MAX {
        let start: String = name.chars().take(40).collect();
        return Err(StoreError::Invalid(format!(
            "{what} {start:?}… has {} bytes, at most {NAME_BYTES_MAX} are possible",
            name.len()
        )));
    }
    if name.contains('\0') {
        return Err(StoreError::Invalid(format!("{what} {name:?} has a NUL character")));
    }
    Ok(())
}

pub(super) fn document_name(kind: &str, key: &str) -> Result<(), StoreError> {
    name("the kind of the document", kind)?;
    name("the key of the document", key)
}

pub(super) fn assignment_names(id: &str, annotator: &str) -> Result<(), StoreError> {
    name("the id of the assignment", id)?;
    name("the annotator of the assignment", annotator)
}

pub(super) fn annotator(annotator: &str) -> Result<(), StoreError> {
    name("the annotator", annotator)
}

/// Refuses what an item that is added now must not say; a copy keeps what a store has.
pub(super) fn new_item(item: &Item) -> Result<(), StoreError> {
    item.check_new().map_err(|what| StoreError::Invalid(format!("item {:?}: {what}", item.id)))
}

pub(super) fn item(item: &Item) -> Result<(), StoreError> {
    name("the id of the item", &item.id)?;
    item.check().map_err(|what| StoreError::Invalid(format!("item {:?}: {what}", item.id)))?;
    let bytes = bytes_of(item);
    if bytes > RECORD_BYTES_MAX {
        return Err(StoreError::Invalid(format!(
            "item {:?} has {bytes} bytes of text, at most {RECORD_BYTES_MAX} are possible",
            item.id
        )));
    }
    Ok(())
}

/// Bytes of what is shown of an item: prompt, texts, steps, images that stand in it.
fn bytes_of(item: &Item) -> usize {
    let media = |media: &[Media]| media.iter().map(|one| one.source.len()).sum::<usize>();
    let candidate = |it: &Candidate| {
        it.text.len() + it.steps.iter().map(String::len).sum::<usize>() + media(&it.media)
    };
    let prompt: usize = item.prompt.iter().map(|message| message.content.len()).sum();
    prompt + media(&item.media) + item.candidates.iter().map(candidate).sum::<usize>()
}

/// Refuses a judgement that does not fit its item.
pub(super) fn judgement(judgement: &Judgement, known: &Known) -> Result<(), StoreError> {
    let id = &judgement.id;
    let invalid = |what: String| Err(StoreError::Invalid(format!("judgement {id:?}: {what}")));
    name("the id of the judgement", id)?;
    name(&format!("judgement {id:?}: the annotator"), &judgement.annotator)?;
    if !judgement.item_hash.is_empty() && judgement.item_hash != known.hash {
        return invalid(format!(
            "\"item_hash\" is {:?}, the stored item {:?} has {:?}: the annotator saw another item",
            judgement.item_hash, judgement.item, known.hash
        ));
    }
    if judgement.propensity.is_some_and(|propensity| !propensity.is_finite()) {
        return invalid("\"propensity\" is not finite".into());
    }
    judgement.check(&known.item).or_else(invalid)
}

/// A record as JSON.
pub(crate) fn json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("records hold strings, finite numbers and lists of them")
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::Task;
    use hearken_data::{Message, Role};

    use super::*;

    #[test]
    fn everything_that_is_shown_counts_as_the_size_of_an_item() {
        let media = |source: &str| Media { source: source.into(), alt: String::new() };
        let candidate = Candidate {
            text: "a".repeat(10),
            steps: vec!["b".repeat(100)],
            media: vec![media(&"c".repeat(1000))],
            ..Candidate::default()
        };
        let prompt = vec![Message::new(Role::User, "d".repeat(10_000))];
        let mut item = Item::new(Task::Rating, prompt, vec![candidate]);
        item.media = vec![media(&"e".repeat(100_000))];
        assert_eq!(bytes_of(&item), 111_110);
    }
}
