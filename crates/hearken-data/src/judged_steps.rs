//! Judged steps: a solution in steps, and what was said of each of them.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

use crate::bad_record::FieldError;
use crate::content::Content;
use crate::kind::RecordKind;
use crate::row::{Form, Record, Row, deserialize_from_columns};
use crate::source::Source;
use crate::split::{PromptKey, Prompted};
use crate::value::{as_number, describe, truth, unexpected};

/// What the labels of steps say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepScale {
    /// From 0, bad, to 1, good: what lies between is the probability of good.
    Binary,
    /// −1, bad; 0, neutral; 1, good.
    Ternary,
}

/// A solution in steps.
#[derive(Clone, Debug, PartialEq)]
pub enum Solution {
    /// A prompt, and the steps as texts, each with something in it.
    Texts {
        /// What is solved: text or messages.
        prompt: Content,
        /// At least one.
        steps: Vec<String>,
    },
    /// The tokens of prompt and steps, and where steps end.
    Ids {
        /// All of them.
        input_ids: Vec<u32>,
        /// Places of tokens, rising: a step is judged there.
        ends: Vec<usize>,
    },
}

/// A solution in steps, and what was said of each of them, as process reward models learn from.
///
/// ```
/// use hearken_data::{JudgedSteps, Solution, StepScale};
///
/// let parse = serde_json::from_str::<JudgedSteps>;
///
/// // TRL's columns.
/// let judged = parse(r#"{"prompt": "1 + 2 + 3", "completions": ["1 + 2 = 3", "3 + 3 = 7"],
///                        "labels": [true, false]}"#)?;
/// assert_eq!(judged.labels, [Some(1.0), Some(0.0)]);
/// assert_eq!(judged.scale, Some(StepScale::Binary));
///
/// // ProcessBench's: the number of the first wrong step, or -1.
/// let judged = parse(r#"{"problem": "1 + 2 + 3", "steps": ["a", "b", "c"], "label": 1}"#)?;
/// assert_eq!(judged.labels, [Some(1.0), Some(0.0), None]);
///
/// // Token ids.
/// let judged = parse(r#"{"input_ids": [5, 6, 7, 8], "step_ends": [1, 3], "step_labels": [1, 0]}"#)?;
/// assert_eq!(judged.solution, Solution::Ids { input_ids: vec![5, 6, 7, 8], ends: vec![1, 3] });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedSteps {
    /// What was judged.
    pub solution: Solution,
    /// One for each step, of which some may say nothing.
    pub labels: Vec<Option<f64>>,
    /// What the labels say, where their columns or their types tell.
    pub scale: Option<StepScale>,
    /// The other columns, under the file's names.
    pub extra: Map<String, Value>,
    /// Where it comes from.
    pub source: Source,
}

const IDS: &[&str] = &["input_ids", "step_ends", "step_labels"];
const RATED: &[&str] = &["prompt", "completions", "ratings"];
const STEPWISE: &[&str] = &["prompt", "completions", "labels"];
const FIRST_ERROR: &[&str] = &["problem", "steps", "label"];
pub(crate) const SHEPHERD: &[&str] = &["input", "label", "task"];

impl Record for JudgedSteps {
    const FROM_JUDGEMENTS: Option<RecordKind> = Some(RecordKind::JudgedSteps);

    const FORMS: &'static [Form<Self>] = &[
        Form { required: IDS, optional: &[], parse: of_ids },
        Form {
            required: RATED,
            optional: &[],
            parse: |row| of_texts(row, RATED, Some(StepScale::Ternary)),
        },
        Form { required: STEPWISE, optional: &[], parse: |row| of_texts(row, STEPWISE, None) },
        Form { required: FIRST_ERROR, optional: &[], parse: of_first_error },
        Form { required: SHEPHERD, optional: &[], parse: of_math_shepherd },
    ];
}

/// `input_ids`, `step_ends`, `step_labels`.
fn of_ids(row: &Row<'_>) -> Result<JudgedSteps, FieldError> {
    let (input_ids, ends) = ids_with_ends(row)?;
    judged(row, Solution::Ids { input_ids, ends }, IDS, None)
}

/// Tokens, and the places of them at which steps end.
pub(crate) fn ids_with_ends(row: &Row<'_>) -> Result<(Vec<u32>, Vec<usize>), FieldError> {
    let input_ids = row.ids("input_ids")?;
    let ends: Vec<usize> = row.ids("step_ends")?.into_iter().map(|place| place as usize).collect();
    for (index, end) in ends.iter().enumerate() {
        let least = index.checked_sub(1).map_or(0, |before| ends[before] + 1);
        if *end < least || input_ids.len() <= *end {
            return Err(unexpected(
                format!("{}[{index}]", row.name("step_ends")),
                end.to_string(),
                format!(
                    "the place of a token, from {least} to {}, each above the one before",
                    input_ids.len() - 1
                ),
            ));
        }
    }
    Ok((input_ids, ends))
}

/// `prompt`, `completions` and a column of labels.
fn of_texts(
    row: &Row<'_>,
    columns: &'static [&'static str],
    scale: Option<StepScale>,
) -> Result<JudgedSteps, FieldError> {
    let (prompt, steps) = (row.content("prompt")?, row.texts("completions")?);
    judged(row, Solution::Texts { prompt, steps }, columns, scale)
}

/// ProcessBench: `problem`, `steps`, and in `label` the number of the first wrong step, from 0; -1 where none is.
fn of_first_error(row: &Row<'_>) -> Result<JudgedSteps, FieldError> {
    let (prompt, steps) = (Content::Text(row.text("problem")?), row.texts("steps")?);
    let found = row.number("label")?;
    let is_place = found.fract().abs() == 0.0 && -1.0 <= found && found < steps.len() as f64;
    if !is_place {
        let expected =
            format!("the first wrong step, from 0 to {}, or -1 for none", steps.len() - 1);
        return Err(unexpected(row.name("label"), found.to_string(), expected));
    }
    let label = |index: usize| match (index as f64).total_cmp(&found) {
        _ if found < 0.0 => Some(1.0),
        std::cmp::Ordering::Less => Some(1.0),
        std::cmp::Ordering::Equal => Some(0.0),
        // What follows from a mistake was not judged.
        std::cmp::Ordering::Greater => None,
    };
    Ok(JudgedSteps {
        labels: (0..steps.len()).map(label).collect(),
        solution: Solution::Texts { prompt, steps },
        scale: Some(StepScale::Binary),
        extra: row.all_but(FIRST_ERROR),
        source: row.source(),
    })
}

/// The mark behind each step in `input` of Math-Shepherd.
const MARK: &str = "ки";

/// Math-Shepherd: question and steps in `input`, each step followed by a mark, in whose place `label` has + or -.
pub(crate) fn of_math_shepherd(row: &Row<'_>) -> Result<JudgedSteps, FieldError> {
    let (input, label) = (row.text("input")?, row.text("label")?);
    let mut parts: Vec<&str> = input.split(MARK).collect();
    // What stands behind the last mark is no step.
    let rest = parts.pop().unwrap_or_default();
    if parts.is_empty() || !rest.trim().is_empty() {
        let found =
            if parts.is_empty() { "none".to_owned() } else { format!("{rest:?} at its end") };
        return Err(unexpected(
            row.name("input"),
            found,
            format!("steps, each with {MARK:?} behind it"),
        ));
    }
    let (mut at, mut labels) = (0, Vec::with_capacity(parts.len()));
    for (index, part) in parts.iter().enumerate() {
        let after = label.get(at..).and_then(|rest| rest.strip_prefix(part));
        let sign = after.and_then(|rest| rest.chars().next());
        labels.push(match sign {
            Some('+') => Some(1.0),
            Some('-') => Some(0.0),
            _ => {
                let expected = "the text of `input` with + or - for each of its marks".to_owned();
                let found = format!("another text at step {}", index + 1);
                return Err(unexpected(row.name("label"), found, expected));
            }
        });
        at += part.len() + 1;
    }
    // The question stands before the first step.
    let first = parts[0];
    let begins = first.rfind("Step 1:").filter(|at| !first[..*at].trim().is_empty());
    let Some(begins) = begins else {
        let expected = "a question, then `Step 1:`".to_owned();
        return Err(unexpected(row.name("input"), "no first step".into(), expected));
    };
    let (question, first) = first.split_at(begins);
    let steps = [first].into_iter().chain(parts[1..].iter().copied());
    let steps: Vec<String> = steps.map(|step| step.trim().to_owned()).collect();
    check_steps(&steps, &row.name("input"))?;
    let prompt = Content::Text(format!("{}\n", question.trim()));
    Ok(JudgedSteps {
        solution: Solution::Texts { prompt, steps },
        labels,
        scale: Some(StepScale::Binary),
        extra: row.all_but(&["input", "label"]),
        source: row.source(),
    })
}

/// A record whose labels stand in the last of `columns`.
fn judged(
    row: &Row<'_>,
    solution: Solution,
    columns: &'static [&'static str],
    scale: Option<StepScale>,
) -> Result<JudgedSteps, FieldError> {
    let column = columns.last().expect("a column of labels");
    let values = row.list(column, "a list of labels")?;
    let (steps, what) = match &solution {
        Solution::Texts { steps, .. } => (steps.len(), "completions"),
        Solution::Ids { ends, .. } => (ends.len(), "step_ends"),
    };
    if values.len() != steps {
        let expected = format!("{steps}, one for each of {}", row.name(what));
        return Err(unexpected(row.name(column), format!("{} labels", values.len()), expected));
    }
    let (mut labels, mut are_flags) = (Vec::with_capacity(steps), true);
    for (index, value) in values.iter().enumerate() {
        are_flags &= value.is_boolean() || value.is_null();
        labels.push(label(value, scale).map_err(|expected| {
            unexpected(format!("{}[{index}]", row.name(column)), describe(value), expected)
        })?);
    }
    let scale = scale.or(are_flags.then_some(StepScale::Binary));
    Ok(JudgedSteps { solution, labels, scale, extra: row.all_but(columns), source: row.source() })
}

/// One label; none where it is null.
fn label(value: &Value, scale: Option<StepScale>) -> Result<Option<f64>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let is_ternary = scale == Some(StepScale::Ternary);
    let number = match value {
        Value::Bool(_) if !is_ternary => truth(value).map(|good| f64::from(u8::from(good))),
        value => as_number(value),
    };
    let fits = |number: &f64| {
        let is_whole = [-1.0, 0.0, 1.0].contains(number);
        is_whole || (!is_ternary && (0.0..=1.0).contains(number))
    };
    number.filter(fits).map(Some).ok_or_else(|| {
        let expected = match is_ternary {
            true => "-1, 0, 1 or null",
            false => "true, false, a number from 0 to 1, -1 or null",
        };
        expected.to_owned()
    })
}

/// Refuses steps without text.
fn check_steps(steps: &[String], column: &str) -> Result<(), FieldError> {
    match steps.iter().position(|step| step.trim().is_empty()) {
        None => Ok(()),
        Some(index) => Err(unexpected(
            format!("{column}[{index}]"),
            "an empty step".into(),
            "text in every step".into(),
        )),
    }
}

impl Row<'_> {
    /// A required list of steps, each with something in it.
    ///
    /// # Errors
    /// If it is absent, empty, or holds something else.
    pub fn texts(&self, field: &str) -> Result<Vec<String>, FieldError> {
        let text = |(index, value): (usize, &Value)| {
            let name = || format!("{}[{index}]", self.name(field));
            let found = value.as_str().map(str::to_owned);
            found.ok_or_else(|| unexpected(name(), describe(value), "text".into()))
        };
        let values = self.list(field, "a list of steps")?;
        let steps: Vec<String> = values.iter().enumerate().map(text).collect::<Result<_, _>>()?;
        check_steps(&steps, &self.name(field))?;
        Ok(steps)
    }
}

impl Serialize for JudgedSteps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut columns = serializer.serialize_map(None)?;
        let labels = match &self.solution {
            Solution::Texts { prompt, steps } => {
                columns.serialize_entry("prompt", prompt)?;
                columns.serialize_entry("completions", steps)?;
                if self.scale == Some(StepScale::Ternary) { "ratings" } else { "labels" }
            }
            Solution::Ids { input_ids, ends } => {
                columns.serialize_entry("input_ids", input_ids)?;
                columns.serialize_entry("step_ends", ends)?;
                "step_labels"
            }
        };
        let value = |label: &Option<f64>| match (*label, self.scale) {
            (None, _) => Value::Null,
            (Some(label), Some(StepScale::Binary)) if [0.0, 1.0].contains(&label) => {
                Value::from(0.0 < label)
            }
            (Some(label), _) if label.fract().abs() == 0.0 => Value::from(label as i64),
            (Some(label), _) => Value::from(label),
        };
        columns.serialize_entry(labels, &self.labels.iter().map(value).collect::<Vec<_>>())?;
        for (name, value) in &self.extra {
            columns.serialize_entry(name, value)?;
        }
        columns.end()
    }
}

deserialize_from_columns!(JudgedSteps);

impl Prompted for JudgedSteps {
    fn prompt_key(&self) -> PromptKey {
        match &self.solution {
            Solution::Texts { prompt, .. } => PromptKey::of(prompt),
            Solution::Ids { input_ids, ends } => {
                // Without a mark between prompt and steps, what stands before the first end is the nearest thing to it.
                PromptKey::of(&Content::Ids(input_ids[..=ends[0]].to_vec()))
            }
        }
    }
}
