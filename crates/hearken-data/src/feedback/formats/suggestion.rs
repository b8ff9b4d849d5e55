//! What a model or another program suggested for an item before people judged it.

use serde_json::{Map, Value, json};

use crate::feedback::item::SUGGESTIONS;
use crate::feedback::{Item, Verdict};

/// Keeps a suggestion with its item, as metadata, so that it uses up nobody's place among those who judge. `false` where
/// the verdict does not fit the item.
pub(super) fn keep(item: &mut Item, by: &str, verdict: &Verdict, score: Option<f64>) -> bool {
    if verdict.check(item).is_err() {
        return false;
    }
    let mut suggestion =
        Map::from_iter([("by".to_owned(), json!(by)), ("verdict".to_owned(), json!(verdict))]);
    suggestion.extend(score.map(|score| ("score".to_owned(), json!(score))));
    let all = item.meta.entry(SUGGESTIONS).or_insert_with(|| json!([]));
    match all {
        Value::Array(all) => all.push(Value::Object(suggestion)),
        // The file has a column of that name.
        _ => return false,
    }
    true
}
