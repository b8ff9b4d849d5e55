//! What no home accepts.

use hearken_data::feedback::{Item, Judgement};
use serde::Serialize;

use super::Known;
use crate::error::StoreError;

/// Bytes of an id or a name. An index entry of PostgreSQL has room for little more than twice as many.
const NAME_BYTES_MAX: usize = 1000;

/// Bytes of one record as JSON: less than a value of any home may have.
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

pub(super) fn item(item: &Item) -> Result<(), StoreError> {
    name("the id of the item", &item.id)?;
    item.check().map_err(|what| StoreError::Invalid(format!("item {:?}: {what}", item.id)))?;
    let bytes: usize = item.candidates.iter().map(|it| it.text.len()).sum();
    if bytes > RECORD_BYTES_MAX {
        return Err(StoreError::Invalid(format!(
            "item {:?} has {bytes} bytes of text, at most {RECORD_BYTES_MAX} are possible",
            item.id
        )));
    }
    Ok(())
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
