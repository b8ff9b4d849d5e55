//! Recorded rollouts: what was sampled and how it scored, for replaying an optimizer's path.

use serde::Serialize;

use crate::row::{Form, Record, deserialize_from_columns, optional};
use crate::source::Source;
use crate::split::{PromptKey, Prompted};

/// One completion that was sampled elsewhere, with its score. A file of these replaces generation
/// and scoring when a training run is replayed.
///
/// ```
/// use hearken_data::RecordedRollout;
///
/// let line = r#"{"iteration": 0, "group": 3, "prompt_ids": [5, 6], "completion_ids": [7, 0],
///                "score": 0.5}"#;
/// let rollout: RecordedRollout = serde_json::from_str(line)?;
/// assert_eq!((rollout.group, rollout.score), (Some(3), 0.5));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordedRollout {
    /// The iteration it belongs to, from 0.
    pub iteration: u64,
    /// Its group within the iteration: the completions of one prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u64>,
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// The completion, its end-of-text token included where it was sampled.
    pub completion_ids: Vec<u32>,
    /// The score.
    pub score: f64,
    /// Where it comes from.
    #[serde(skip)]
    pub source: Source,
}

impl Record for RecordedRollout {
    const FORMS: &'static [Form<Self>] = &[Form {
        required: &["iteration", "prompt_ids", "completion_ids", "score"],
        optional: &["group"],
        parse: |row| {
            Ok(Self {
                iteration: row.count("iteration")?,
                group: optional(row, "group", |row| row.count("group"))?,
                prompt_ids: row.ids("prompt_ids")?,
                completion_ids: row.ids("completion_ids")?,
                score: row.number("score")?,
                source: row.source(),
            })
        },
    }];
}

deserialize_from_columns!(RecordedRollout);

impl Prompted for RecordedRollout {
    fn prompt_key(&self) -> PromptKey {
        PromptKey::of_ids(&self.prompt_ids)
    }
}
