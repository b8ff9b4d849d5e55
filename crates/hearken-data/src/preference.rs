//! Preferences: of two completions of one prompt, the one preferred.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::Content;
use crate::contents::{PairContents, check_different, pair};
use crate::kind::RecordKind;
use crate::row::{Form, Record, Row, deserialize_from_columns, known_columns, optional};
use crate::source::Source;
use crate::split::{PromptKey, Prompted};
use crate::unpaired_preference::UnpairedPreference;
use crate::value::unexpected;

/// Of two completions of one prompt, the one preferred.
///
/// All three contents are of one kind. Without a prompt, `chosen` and `rejected` are whole
/// sequences, of text or of token ids; messages always have one, since the messages that the two
/// lists share at their start are it.
///
/// ```
/// use hearken_data::{Content, Message, Preference, Role};
///
/// let parse = serde_json::from_str::<Preference>;
/// let text = |text: &str| Content::Text(text.into());
///
/// // A prompt and two completions.
/// let preference = parse(r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}"#)?;
/// assert_eq!(preference.prompt, Some(text("2 + 2 =")));
///
/// // Two whole sequences.
/// let preference = parse(r#"{"chosen": "The sky is blue.", "rejected": "The sky is."}"#)?;
/// assert_eq!(preference.prompt, None);
///
/// // A prompt of messages, and the messages that complete it.
/// let preference = parse(r#"{"prompt": [{"role": "user", "content": "Hi"}],
///                            "chosen": [{"role": "assistant", "content": "Hello!"}],
///                            "rejected": [{"role": "assistant", "content": "What?"}]}"#)?;
/// let hi = Content::Messages(vec![Message::new(Role::User, "Hi")]);
/// assert_eq!(preference.prompt, Some(hi.clone()));
///
/// // The same, with the prompt inside the two lists.
/// let preference = parse(r#"{"chosen": [{"role": "user", "content": "Hi"},
///                                       {"role": "assistant", "content": "Hello!"}],
///                            "rejected": [{"role": "user", "content": "Hi"},
///                                         {"role": "assistant", "content": "What?"}]}"#)?;
/// assert_eq!(preference.prompt, Some(hi));
///
/// // A pair of HH-RLHF transcripts: the prompt ends with the last "\n\nAssistant:".
/// let preference = parse(r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!",
///                            "rejected": "\n\nHuman: Hi\n\nAssistant: What?"}"#)?;
/// assert_eq!(preference.prompt, Some(text("\n\nHuman: Hi\n\nAssistant:")));
/// assert_eq!(preference.chosen, text(" Hello!"));
///
/// // Token ids, a margin, and the probability that chosen is preferred.
/// let preference = parse(r#"{"prompt_ids": [5, 6], "chosen_ids": [7, 0], "rejected_ids": [8, 0],
///                            "margin": 1.5, "probability": 0.9}"#)?;
/// assert_eq!(preference.chosen, Content::Ids(vec![7, 0]));
/// assert_eq!((preference.margin, preference.probability), (Some(1.5), Some(0.9)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// What both complete; `None` where `chosen` and `rejected` are whole sequences.
    pub prompt: Option<Content>,
    /// The preferred completion.
    pub chosen: Content,
    /// The other completion.
    pub rejected: Content,
    /// By how much `chosen` is better: score(chosen) − score(rejected).
    pub margin: Option<f64>,
    /// The probability that `chosen` is preferred, in [0, 1], where labels are soft.
    pub probability: Option<f64>,
    /// The other columns, under the file's names.
    pub extra: Map<String, Value>,
    /// Where it comes from.
    pub source: Source,
}

impl Preference {
    /// The two judgements inside: `chosen` is good, `rejected` is bad. `None` without a prompt.
    pub fn unpair(self) -> Option<[UnpairedPreference; 2]> {
        let Self { prompt, chosen, rejected, extra, source, .. } = self;
        let judge = |prompt, completion, label, source| UnpairedPreference {
            prompt,
            completion,
            label,
            kl_completion_ids: None,
            extra: extra.clone(),
            source,
        };
        let prompt = prompt?;
        Some([
            judge(prompt.clone(), chosen, true, source.clone()),
            judge(prompt, rejected, false, source),
        ])
    }
}

impl Record for Preference {
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::Preferences);

    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["chosen_ids", "rejected_ids"],
            optional: &["prompt_ids", "margin", "probability"],
            parse: |row| {
                let prompt = optional(row, "prompt_ids", |row| row.ids("prompt_ids"))?;
                let (chosen, rejected) = (row.ids("chosen_ids")?, row.ids("rejected_ids")?);
                check_different(row, ["chosen_ids", "rejected_ids"], &chosen, &rejected)?;
                let pair = PairContents {
                    prompt: prompt.map(Content::Ids),
                    chosen: Content::Ids(chosen),
                    rejected: Content::Ids(rejected),
                };
                let taken = ["chosen_ids", "rejected_ids", "prompt_ids", "margin", "probability"];
                preference(row, pair, &taken)
            },
        },
        Form {
            required: &["chosen", "rejected"],
            optional: &["prompt", "margin", "probability"],
            parse: |row| {
                let taken = ["chosen", "rejected", "prompt", "margin", "probability"];
                preference(row, pair(row)?, &taken)
            },
        },
    ];
}

fn preference(row: &Row<'_>, pair: PairContents, taken: &[&str]) -> Result<Preference, FieldError> {
    let margin = row.optional_number("margin")?;
    let probability = row.optional_number("probability")?;
    if let Some(p) = probability.filter(|p| !(0.0..=1.0).contains(p)) {
        let expected = "a probability, from 0 to 1";
        let found = format!("the number {p}");
        return Err(unexpected(row.name("probability"), found, expected.into()));
    }
    let PairContents { prompt, chosen, rejected } = pair;
    let (extra, source) = (row.all_but(taken), row.source());
    Ok(Preference { prompt, chosen, rejected, margin, probability, extra, source })
}

impl Serialize for Preference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = serializer.serialize_map(None)?;
        if let Some(prompt) = &self.prompt {
            columns.serialize_entry(prompt.column("prompt", "prompt_ids"), prompt)?;
        }
        columns.serialize_entry(self.chosen.column("chosen", "chosen_ids"), &self.chosen)?;
        columns
            .serialize_entry(self.rejected.column("rejected", "rejected_ids"), &self.rejected)?;
        if let Some(margin) = self.margin {
            columns.serialize_entry("margin", &margin)?;
        }
        if let Some(probability) = self.probability {
            columns.serialize_entry("probability", &probability)?;
        }
        // Under a mapping the file may hold other columns of such names.
        let own = |name: &str| known_columns::<Self>().contains(&name);
        for (name, value) in self.extra.iter().filter(|(name, _)| !own(name)) {
            columns.serialize_entry(name, value)?;
        }
        columns.end()
    }
}

deserialize_from_columns!(Preference);

impl Prompted for Preference {
    /// The prompt; without one, both sequences, since where the prompt ends is not known.
    fn prompt_key(&self) -> PromptKey {
        match &self.prompt {
            Some(prompt) => PromptKey::of(prompt),
            None => PromptKey::of(&self.chosen).and(PromptKey::of(&self.rejected)),
        }
    }
}
