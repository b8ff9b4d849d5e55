//! Unpaired preferences: one completion, judged good or bad.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::Content;
use crate::contents::prompt_and_completion;
use crate::kind::RecordKind;
use crate::row::{Form, Record, Row, deserialize_from_columns, known_columns, optional};
use crate::source::Source;
use crate::split::{PromptKey, Prompted};

/// One completion, judged good or bad, as KTO and BCO learn from.
///
/// ```
/// use hearken_data::{Content, UnpairedPreference};
///
/// let parse = serde_json::from_str::<UnpairedPreference>;
///
/// // Text; prompt and completion may also be lists of messages.
/// let judged = parse(r#"{"prompt": "2 + 2 =", "completion": " 4", "label": true}"#)?;
/// assert_eq!((judged.completion, judged.label), (Content::Text(" 4".into()), true));
///
/// // Token ids, with another prompt's completion from which KTO estimates its KL term.
/// let judged = parse(r#"{"prompt_ids": [5, 6], "completion_ids": [7, 0], "label": false,
///                        "kl_completion_ids": [8, 0]}"#)?;
/// assert_eq!(judged.kl_completion_ids, Some(vec![8, 0]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct UnpairedPreference {
    /// What is completed.
    pub prompt: Content,
    /// What is judged; of the same kind as `prompt`.
    pub completion: Content,
    /// Whether it is good.
    pub label: bool,
    /// A completion of another prompt, to be scored after this one; token columns only.
    pub kl_completion_ids: Option<Vec<u32>>,
    /// The other columns, under the file's names.
    pub extra: Map<String, Value>,
    /// Where it comes from.
    pub source: Source,
}

impl Record for UnpairedPreference {
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::UnpairedPreferences);

    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["prompt_ids", "completion_ids", "label"],
            optional: &["kl_completion_ids"],
            parse: |row| {
                let prompt = Content::Ids(row.ids("prompt_ids")?);
                let completion = Content::Ids(row.ids("completion_ids")?);
                let kl = optional(row, "kl_completion_ids", |row| row.ids("kl_completion_ids"))?;
                judged(row, prompt, completion, kl)
            },
        },
        Form {
            required: &["prompt", "completion", "label"],
            optional: &[],
            parse: |row| {
                let (prompt, completion) = prompt_and_completion(row)?;
                judged(row, prompt, completion, None)
            },
        },
    ];
}

fn judged(
    row: &Row<'_>,
    prompt: Content,
    completion: Content,
    kl_completion_ids: Option<Vec<u32>>,
) -> Result<UnpairedPreference, FieldError> {
    let (label, source) = (row.flag("label")?, row.source());
    let taken = match prompt {
        Content::Ids(_) => {
            ["prompt_ids", "completion_ids", "label", "kl_completion_ids"].as_slice()
        }
        _ => &["prompt", "completion", "label"],
    };
    let extra = row.all_but(taken);
    Ok(UnpairedPreference { prompt, completion, label, kl_completion_ids, extra, source })
}

impl Serialize for UnpairedPreference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = serializer.serialize_map(None)?;
        columns.serialize_entry(self.prompt.column("prompt", "prompt_ids"), &self.prompt)?;
        let column = self.completion.column("completion", "completion_ids");
        columns.serialize_entry(column, &self.completion)?;
        columns.serialize_entry("label", &self.label)?;
        if let Some(ids) = &self.kl_completion_ids {
            columns.serialize_entry("kl_completion_ids", ids)?;
        }
        // Under a mapping the file may hold other columns of such names.
        let own = |name: &str| known_columns::<Self>().contains(&name);
        for (name, value) in self.extra.iter().filter(|(name, _)| !own(name)) {
            columns.serialize_entry(name, value)?;
        }
        columns.end()
    }
}

deserialize_from_columns!(UnpairedPreference);

impl Prompted for UnpairedPreference {
    fn prompt_key(&self) -> PromptKey {
        PromptKey::of(&self.prompt)
    }
}
