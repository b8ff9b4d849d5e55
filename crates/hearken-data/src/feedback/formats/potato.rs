//! Potato: annotations, a row for each person and instance, and the data file whose instances they name.
//!
//! Annotations are `instance_id`, `user_id` and `labels` (JSON lines), or a column `SCHEME.LABEL` for each label (CSV and
//! TSV). An instance is `id` with a list of answers, or with `left` and `right`. Both files are given together.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::conversation::text_prompt;
use super::error::FormatError;
use super::fields::JsonFields;
use super::import::{Collector, FormatReader};
use super::names::{self, FeedbackColumns};
use crate::bad_record::{BadRecord, FieldError};
use crate::feedback::{Candidate, Item, Origin, Strength, Task, Verdict};
use crate::report::ReadError;
use crate::row::Row;
use crate::source::Source;
use crate::value::as_number;

/// Names of the list of answers of an instance.
const LISTS: [&str; 7] =
    ["responses", "answers", "completions", "candidates", "items", "texts", "options"];
/// Schemes that ask for the verdict as a whole, where there are several.
const WHOLE: [&str; 3] = ["overall", "preference", "better"];

/// Whether the columns are those of an instance to compare.
pub(super) fn is_instance(columns: &Map<String, Value>) -> bool {
    let is_text = |key: &str| columns.get(key).is_some_and(Value::is_string);
    columns.contains_key("id")
        && (list(columns).is_some() || ["left", "right"].into_iter().all(is_text))
}

fn list(columns: &Map<String, Value>) -> Option<(&'static str, &Vec<Value>)> {
    let texts = |key| columns.get(key).and_then(Value::as_array).map(|all| (key, all));
    LISTS
        .into_iter()
        .filter_map(texts)
        .find(|(_, all)| 1 < all.len() && all.iter().all(Value::is_string))
}

/// The rows of all files, until the last is read.
#[derive(Default)]
pub(super) struct Potato {
    instances: HashMap<String, (Source, Map<String, Value>)>,
    /// The order of the instances.
    ids: Vec<String>,
    annotations: Vec<Annotation>,
}

struct Annotation {
    at: Source,
    name: String,
    instance: String,
    user: String,
    origin: Origin,
    /// Scheme, label and value.
    labels: Vec<(String, String, Value)>,
}

impl FormatReader for Potato {
    fn row(&mut self, row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
        let fields = JsonFields::of(row);
        if fields.has("instance_id") && fields.has("user_id") {
            let name = into.row_name().to_owned();
            self.annotations.push(annotation(&fields, row.source(), name)?);
            return Ok(());
        }
        let id = fields.label("id")?;
        match self.instances.insert(id.clone(), (row.source(), row.columns().clone())) {
            Some((_, before)) if before != *row.columns() => {
                let what = format!("found another instance {id:?}, expected the same content");
                return Err(BadRecord::Unfit { what });
            }
            Some(_) => {}
            None => self.ids.push(id),
        }
        Ok(())
    }

    fn finish(&mut self, into: &mut Collector<'_>) -> Result<(), FormatError> {
        let mut places = HashMap::new();
        for id in std::mem::take(&mut self.ids) {
            let (at, columns) = &self.instances[&id];
            let item = item(&JsonFields::of_map(columns), columns, into);
            let placed = item.map_err(BadRecord::from).and_then(|item| {
                let answers = item.candidates.len();
                Ok((into.item(item)?, answers))
            });
            places.insert(id, placed.map_err(|reason| bad(at.clone(), reason))?);
        }
        let scale = self.annotations.iter().flat_map(|it| &it.labels).filter_map(points).max();
        for one in std::mem::take(&mut self.annotations) {
            let Some(&(place, answers)) = places.get(&one.instance) else {
                let what = format!(
                    "found an annotation of the instance {:?}, expected the data file that holds it among the files given",
                    one.instance
                );
                return Err(bad(one.at, BadRecord::Unfit { what }));
            };
            let (verdict, rationale) = one.said(answers, scale.unwrap_or(1), into);
            let Some(verdict) = verdict else {
                into.leave_out("annotation without a verdict");
                continue;
            };
            into.begin(one.name);
            let judged = into.judge(place, one.user, verdict);
            let judgement = judged.map_err(|reason| bad(one.at, reason))?;
            judgement.rationale = rationale;
            judgement.origin = one.origin;
        }
        Ok(())
    }
}

fn bad(at: Source, reason: BadRecord) -> FormatError {
    ReadError::Bad { at, reason }.into()
}

fn annotation(fields: &JsonFields<'_>, at: Source, name: String) -> Result<Annotation, FieldError> {
    let mut labels = Vec::new();
    if fields.has("labels") {
        let schemes = fields.object("labels")?;
        for scheme in schemes.keys().filter(|scheme| schemes.has(scheme)) {
            match schemes.get(scheme) {
                Some(Value::Object(values)) => {
                    let each = values
                        .iter()
                        .map(|(label, value)| (scheme.to_owned(), label.clone(), value.clone()));
                    labels.extend(each);
                }
                Some(value) => labels.push((scheme.to_owned(), String::new(), value.clone())),
                None => {}
            }
        }
    } else {
        for key in fields.keys().filter(|key| fields.has(key)) {
            let is_own = ["instance_id", "user_id"].contains(&key)
                || key.starts_with("annotator_origin")
                || ["._spans", "._room", "._room_id"].into_iter().any(|end| key.ends_with(end));
            if let Some(value) = fields.get(key).filter(|_| !is_own) {
                let (scheme, label) = key.split_once('.').unwrap_or((key, ""));
                labels.push((scheme.to_owned(), label.to_owned(), value.clone()));
            }
        }
    }
    let origin = fields.get("annotator_origin").map(Value::to_string);
    let is_human = origin.is_none_or(|origin| origin.contains("human"));
    Ok(Annotation {
        at,
        name,
        instance: fields.label("instance_id")?,
        user: fields.label("user_id")?,
        origin: if is_human { Origin::Human } else { Origin::Ai },
        labels,
    })
}

/// How far from the middle a label of a scale is.
fn points((_, label, value): &(String, String, Value)) -> Option<u8> {
    let value = Some(value).filter(|_| label == "scale_value").and_then(number)?;
    Some(value.abs().round().clamp(0.0, 100.0) as u8)
}

/// A number, also one that is written as a text.
fn number(value: &Value) -> Option<f64> {
    let of_text = || value.as_str().and_then(|text| text.trim().parse().ok());
    as_number(value).or_else(of_text).filter(|number| number.is_finite())
}

impl Annotation {
    /// What was decided on an instance with so many answers, and why.
    fn said(
        &self,
        answers: usize,
        scale: u8,
        into: &mut Collector<'_>,
    ) -> (Option<Verdict>, Option<String>) {
        let (mut verdicts, mut rationale) = (Vec::new(), Vec::new());
        for (scheme, label, value) in &self.labels {
            let is_pair = answers == 2;
            let verdict = match (label.as_str(), value) {
                ("selection", Value::String(choice)) if is_pair => {
                    let sides = ["A".to_owned(), "B".to_owned()];
                    names::verdict(choice)
                        .or_else(|| names::find(&sides, choice).map(Verdict::preferred))
                }
                ("scale_value", value) if is_pair => number(value).map(|value| side(value, scale)),
                (_, Value::String(text)) if label.starts_with("text") => {
                    rationale.push(text.clone());
                    continue;
                }
                _ => None,
            };
            match verdict {
                Some(verdict) => verdicts.push((scheme, verdict)),
                None => into.leave_out("label that is no verdict"),
            }
        }
        let whole = verdicts.iter().position(|(scheme, _)| WHOLE.contains(&scheme.as_str()));
        (1..verdicts.len()).for_each(|_| into.leave_out("verdict on a further question"));
        let verdict = verdicts.into_iter().nth(whole.unwrap_or(0)).map(|(_, verdict)| verdict);
        let rationale: Vec<String> =
            rationale.into_iter().filter(|text| !text.trim().is_empty()).collect();
        (verdict, (!rationale.is_empty()).then(|| rationale.join("\n\n")))
    }
}

/// Below 0 the first is better, above it the second.
fn side(value: f64, scale: u8) -> Verdict {
    let points = value.abs().round() as u8;
    if points == 0 {
        return Verdict::Tie;
    }
    let strength = Some(Strength { points, scale: scale.max(points) });
    Verdict::Preferred { candidate: usize::from(0.0 < value), strength }
}

fn item(
    fields: &JsonFields<'_>,
    columns: &Map<String, Value>,
    into: &Collector<'_>,
) -> Result<Item, FieldError> {
    let named = FeedbackColumns::of(&into.options.columns);
    let prompt_key = named.prompt(fields).map(str::to_owned);
    let prompt = match prompt_key.as_deref().and_then(|key| Some((key, fields.get(key)?))) {
        Some((_, Value::String(text))) => text_prompt(text),
        Some((key, Value::Array(_))) => fields.messages(key)?,
        _ => Vec::new(),
    };
    let mut known: Vec<String> = prompt_key.into_iter().collect();
    let texts = match list(columns) {
        Some((key, _)) if !into.options.columns.contains_key("candidates") => {
            known.push(key.to_owned());
            fields.texts(key)?
        }
        _ => {
            let keys = named.candidates(fields).ok_or_else(|| {
                let expected = "a list of answers such as `responses`, or `left` and `right`";
                fields.error("", "none".to_owned(), expected)
            })?;
            let texts = keys.iter().map(|key| Ok(fields.text(key)?.to_owned()));
            let texts = texts.collect::<Result<Vec<String>, FieldError>>()?;
            known.extend(keys);
            texts
        }
    };
    let candidates: Vec<Candidate> = texts.into_iter().map(Candidate::text).collect();
    let task = match candidates.len() {
        1 => Task::Rating,
        2 => Task::Pairwise,
        _ => Task::Ranking,
    };
    let mut item = Item::new(task, prompt, candidates);
    let known: Vec<&str> = known.iter().map(String::as_str).chain(["id"]).collect();
    item.meta = fields.rest(&known);
    item.meta.insert("potato_id".into(), json!(fields.label("id")?));
    Ok(item)
}
