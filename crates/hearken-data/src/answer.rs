//! Answers to be scored: whole, or in steps.

use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::{Content, Message, Role};
use crate::contents::prompt_and_completion;
use crate::judged_steps::{SHEPHERD, Solution, ids_with_ends, of_math_shepherd};
use crate::kind::RecordKind;
use crate::row::{Form, Record, Row, deserialize_from_columns};
use crate::source::Source;

/// An answer that nobody has judged yet.
///
/// ```
/// use hearken_data::{Answer, AnswerContent, Content};
///
/// let parse = serde_json::from_str::<Answer>;
/// let answer = parse(r#"{"prompt": "1 + 2 + 3", "completion": "1 + 2 = 3\n3 + 3 = 6"}"#)?;
/// let AnswerContent::Whole(Some(_), completion) = answer.content else { panic!() };
/// assert_eq!(completion.steps("\n"), ["1 + 2 = 3", "3 + 3 = 6"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer, with what it answers.
    pub content: AnswerContent,
    /// All columns, under the file's names.
    pub extra: Map<String, Value>,
    /// Where it comes from.
    pub source: Source,
}

/// An answer, with what it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerContent {
    /// A prompt, unless prompt and completion are one text, and its completion.
    Whole(Option<Content>, Content),
    /// A solution in steps.
    Steps(Solution),
}

impl Answer {
    fn new(content: AnswerContent, row: &Row<'_>) -> Self {
        Self { content, extra: row.all_but(&[]), source: row.source() }
    }

    fn whole(row: &Row<'_>, content: Content) -> Self {
        Self::new(AnswerContent::Whole(None, content), row)
    }

    fn steps(row: &Row<'_>, [prompt, steps]: [&str; 2]) -> Result<Self, FieldError> {
        let (prompt, steps) = (row.content(prompt)?, row.texts(steps)?);
        Ok(Self::new(AnswerContent::Steps(Solution::Texts { prompt, steps }), row))
    }
}

impl Record for Answer {
    /// The solutions whose steps were judged.
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::JudgedSteps);

    const FORMS: &'static [Form<Self>] = &[
        Form {
            required: &["input_ids", "step_ends"],
            optional: &[],
            parse: |row| {
                let (input_ids, ends) = ids_with_ends(row)?;
                Ok(Self::new(AnswerContent::Steps(Solution::Ids { input_ids, ends }), row))
            },
        },
        Form {
            required: &["prompt", "completions"],
            optional: &[],
            parse: |row| Self::steps(row, ["prompt", "completions"]),
        },
        Form {
            required: &["problem", "steps"],
            optional: &[],
            parse: |row| Self::steps(row, ["problem", "steps"]),
        },
        Form {
            required: SHEPHERD,
            optional: &[],
            parse: |row| Ok(Self::new(AnswerContent::Steps(of_math_shepherd(row)?.solution), row)),
        },
        Form {
            required: &["prompt_ids", "completion_ids"],
            optional: &[],
            parse: |row| {
                let prompt = Content::Ids(row.ids("prompt_ids")?);
                let completion = Content::Ids(row.ids("completion_ids")?);
                Ok(Self::new(AnswerContent::Whole(Some(prompt), completion), row))
            },
        },
        Form {
            required: &["prompt", "completion"],
            optional: &[],
            parse: |row| {
                let (prompt, completion) = prompt_and_completion(row)?;
                Ok(Self::new(AnswerContent::Whole(Some(prompt), completion), row))
            },
        },
        Form {
            required: &["input_ids"],
            optional: &[],
            parse: |row| Ok(Self::whole(row, Content::Ids(row.ids("input_ids")?))),
        },
        Form {
            required: &["text"],
            optional: &[],
            parse: |row| Ok(Self::whole(row, Content::Text(row.text("text")?))),
        },
        Form {
            required: &["messages"],
            optional: &[],
            parse: |row| Ok(Self::whole(row, Content::Messages(row.messages("messages")?))),
        },
    ];
}

deserialize_from_columns!(Answer);

impl Content {
    /// The steps of a text, or of the last message: what stands before and between `separator`, without what is blank.
    pub fn steps(&self, separator: &str) -> Vec<String> {
        let text = match self {
            Self::Text(text) => text.as_str(),
            Self::Messages(messages) => {
                messages.last().map_or("", |message| message.content.as_str())
            }
            Self::Ids(_) => "",
        };
        let steps = text.split(separator).map(str::trim_end).filter(|step| !step.trim().is_empty());
        steps.map(str::to_owned).collect()
    }
}

impl Solution {
    /// The same as a prompt and its completion, or as one sequence of tokens.
    pub fn whole(&self, separator: &str) -> (Option<Content>, Content) {
        match self {
            Self::Ids { input_ids, .. } => (None, Content::Ids(input_ids.clone())),
            Self::Texts { prompt, steps } => {
                let text = steps.join(separator);
                let completion = match prompt {
                    Content::Messages(_) => {
                        Content::Messages(vec![Message::new(Role::Assistant, text)])
                    }
                    Content::Text(_) | Content::Ids(_) => Content::Text(text),
                };
                (Some(prompt.clone()), completion)
            }
        }
    }
}
