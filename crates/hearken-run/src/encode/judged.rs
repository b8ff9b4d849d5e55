//! Completions that were judged good or bad, alone or in pairs.

use hearken_data::{
    FieldError, Form, Preference, PromptKey, Prompted, Record, RecordKind, Row, Source,
    UnpairedPreference,
};

use super::encoder::Encoder;
use super::example::{Encoded, Example};
use super::unpaired::UnpairedExample;
use crate::error::EncodeError;

/// A record that judges completions one by one: a completion with its label, or a pair, whose chosen
/// completion is good and whose rejected one is bad.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// One completion.
    Single(UnpairedPreference),
    /// Two.
    Pair(Preference),
}

impl Record for Judged {
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::UnpairedPreferences);

    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["prompt_ids", "completion_ids", "label"],
            optional: &["kl_completion_ids"],
            parse: single,
        },
        Form { required: &["prompt", "completion", "label"], optional: &[], parse: single },
        Form {
            required: &["chosen_ids", "rejected_ids"],
            optional: &["prompt_ids", "margin", "probability"],
            parse: pair,
        },
        Form {
            required: &["chosen", "rejected"],
            optional: &["prompt", "margin", "probability"],
            parse: pair,
        },
    ];
}

fn single(row: &Row<'_>) -> Result<Judged, FieldError> {
    UnpairedPreference::from_row(row).map(Judged::Single)
}

fn pair(row: &Row<'_>) -> Result<Judged, FieldError> {
    Preference::from_row(row).map(Judged::Pair)
}

impl Prompted for Judged {
    fn prompt_key(&self) -> PromptKey {
        match self {
            Self::Single(single) => single.prompt_key(),
            Self::Pair(pair) => pair.prompt_key(),
        }
    }
}

/// The completions of one record: one, or a good and a bad one.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedExamples {
    /// In this order.
    pub completions: Vec<UnpairedExample>,
}

impl Example for JudgedExamples {
    type Record = Judged;

    fn encode(record: &Judged, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError> {
        let singles: Vec<UnpairedPreference> = match record {
            Judged::Single(single) => vec![single.clone()],
            Judged::Pair(pair) => match pair.clone().unpair() {
                Some(singles) => singles.into(),
                None => return Err(without_prompt(&pair.source)),
            },
        };
        let (mut completions, mut whole) = (Vec::with_capacity(singles.len()), true);
        for single in &singles {
            match UnpairedExample::encode(single, encoder)? {
                Encoded::Whole(example) => completions.push(example),
                Encoded::Truncated(example) => {
                    whole = false;
                    completions.push(example);
                }
                Encoded::Dropped => return Ok(Encoded::Dropped),
            }
        }
        let example = Self { completions };
        Ok(if whole { Encoded::Whole(example) } else { Encoded::Truncated(example) })
    }

    fn rows(&self) -> usize {
        self.completions.iter().map(Example::rows).sum()
    }
}

fn without_prompt(at: &Source) -> EncodeError {
    EncodeError::NoTokens { at: at.clone(), field: "the prompt" }
}
