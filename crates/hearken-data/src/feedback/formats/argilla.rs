//! Argilla: records with fields and the responses of users to questions.
//!
//! Read are `records.to_json` (`fields` and `responses`), the flat columns of
//! `records.to_datasets` (`QUESTION.responses`, `QUESTION.responses.users`,
//! `QUESTION.responses.status`), and the columns of Argilla 1 (`QUESTION` with `user_id`, `value` and
//! `status`, as one object of lists or a list of objects).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::contest::{groups, order, ranks};
use super::conversation::{candidate, is_single, text_prompt};
use super::error::FormatError;
use super::export::{Detail, ExportEntry, ExportRecords, Output};
use super::fields::JsonFields;
use super::import::Collector;
use super::names::{self, FeedbackColumns};
use super::suggestion;
use crate::bad_record::{BadRecord, FieldError};
use crate::content::Role;
use crate::feedback::{Candidate, Item, Task, Verdict};
use crate::row::Row;
use crate::value::as_number;

const RESPONSES: &str = ".responses";
const SUGGESTION: &str = ".suggestion";

/// Whether the columns are those of a record.
pub(super) fn is_record(columns: &Map<String, Value>) -> bool {
    let whole = columns.get("fields").is_some_and(Value::is_object)
        && columns.get("responses").is_some_and(Value::is_object);
    let is_asked = |key: &String| key.ends_with(RESPONSES) || key.ends_with(SUGGESTION);
    whole || columns.keys().any(is_asked) || columns.values().any(is_answers)
}

/// Whether a value is the responses to a question in the manner of Argilla 1.
fn is_answers(value: &Value) -> bool {
    let has = |object: &Map<String, Value>| {
        ["user_id", "value"].iter().all(|key| object.contains_key(*key))
    };
    match value {
        Value::Object(object) => has(object) && object["user_id"].is_array(),
        Value::Array(list) => list.first().and_then(Value::as_object).is_some_and(has),
        _ => false,
    }
}

/// A user's response to a question.
struct Response {
    question: String,
    user: String,
    value: Value,
    status: String,
}

/// One item for each record; the responses of one user are one judgement of each kind.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let record = JsonFields::of(row);
    let is_whole = row.columns().get("fields").is_some_and(Value::is_object);
    let (data, responses) = if is_whole {
        (record.object("fields")?, whole_responses(&record)?)
    } else {
        (record.clone(), flat_responses(&record)?)
    };
    let columns = FeedbackColumns::of(&into.options.columns);
    let prompt_key = columns.prompt(&data).map(str::to_owned);
    let prompt = match prompt_key.as_deref().and_then(|key| Some((key, data.get(key)?))) {
        Some((_, Value::String(text))) => text_prompt(text),
        Some((key, _)) => data.messages(key)?,
        None => Vec::new(),
    };
    let keys = columns.candidates(&data).ok_or_else(|| {
        let found: Vec<String> = data.keys().map(|key| format!("`{key}`")).collect();
        let expected = "answers under names such as response_1 and response_2, or a mapping that \
                        names them (\"candidates\")";
        data.error("fields", found.join(", "), expected)
    })?;
    let mut candidates = Vec::new();
    for key in &keys {
        candidates.push(match data.get(key) {
            Some(Value::Array(_)) => candidate(data.messages(key)?),
            _ => Candidate::text(data.text(key)?),
        });
    }
    let judged = judged(&responses, &keys, into);
    let suggested = suggested(&record, is_whole, &keys)?;
    let first = judged.first().map(|one| &one.verdict);
    let first = first.or_else(|| suggested.kept.first().map(|one| &one.verdict));
    let task = match (candidates.len(), first) {
        (1, _) | (_, Some(Verdict::Ratings { .. })) => Task::Rating,
        (2, _) => Task::Pairwise,
        _ => Task::Ranking,
    };
    let mut item = Item::new(task, prompt, candidates);
    if is_whole {
        let known: Vec<&str> =
            keys.iter().map(String::as_str).chain(prompt_key.as_deref()).collect();
        item.meta = data.rest(&known);
        if record.has("metadata") {
            item.meta.extend(record.object("metadata")?.rest(&[]));
        }
    }
    let mut others = suggested.others;
    for Suggested { by, verdict, score } in suggested.kept {
        others += usize::from(!suggestion::keep(&mut item, &by, &verdict, score));
    }
    (0..others).for_each(|_| into.leave_out("suggestion that is no verdict"));
    let place = into.item(item)?;
    for one in judged {
        into.judge(place, one.user, one.verdict)?.rationale = one.rationale;
    }
    Ok(())
}

/// A suggestion that is a verdict.
struct Suggested {
    by: String,
    verdict: Verdict,
    score: Option<f64>,
}

#[derive(Default)]
struct AllSuggested {
    kept: Vec<Suggested>,
    /// How many are no verdicts.
    others: usize,
}

/// `suggestions: {question: {value, agent?, score?}}`, or the columns `QUESTION.suggestion`, `QUESTION.suggestion.agent` and
/// `QUESTION.suggestion.score`; of Argilla 1 `QUESTION-suggestion`. The ratings of one agent are one suggestion.
fn suggested(
    record: &JsonFields<'_>,
    is_whole: bool,
    names: &[String],
) -> Result<AllSuggested, FieldError> {
    let mut found: Vec<(Response, Option<f64>)> = Vec::new();
    let mut add = |question: &str, value: Value, by: Option<&Value>, score: Option<&Value>| {
        if !value.is_null() {
            let user = by.and_then(Value::as_str).unwrap_or("suggestion").to_owned();
            let (question, status) = (question.to_owned(), String::new());
            let score = score.and_then(as_number);
            found.push((Response { question, user, value, status }, score));
        }
    };
    if is_whole && record.has("suggestions") {
        let questions = record.object("suggestions")?;
        for question in questions.keys().filter(|key| questions.has(key)) {
            let one = questions.object(question)?;
            let value = one.get("value").cloned().unwrap_or(Value::Null);
            add(question, value, one.get("agent"), one.get("score"));
        }
    } else {
        for key in record.keys().filter(|key| record.has(key)) {
            let question = key.strip_suffix(SUGGESTION).or_else(|| key.strip_suffix("-suggestion"));
            let (Some(question), Some(value)) = (question, record.get(key)) else { continue };
            let (by, score) = (format!("{key}.agent"), format!("{key}.score"));
            add(question, value.clone(), record.get(&by), record.get(&score));
        }
    }
    let mut all = AllSuggested::default();
    let mut ratings: BTreeMap<String, BTreeMap<String, Vec<Option<f64>>>> = BTreeMap::new();
    for (response, score) in found {
        match answer(&response, names) {
            ResponseValue::Verdict(verdict) => {
                all.kept.push(Suggested { by: response.user, verdict, score });
            }
            ResponseValue::Rating { axis, candidate, value } => {
                let axes = ratings.entry(response.user).or_default();
                axes.entry(axis).or_insert_with(|| vec![None; names.len()])[candidate] =
                    Some(value);
            }
            ResponseValue::Text(_) | ResponseValue::Other => all.others += 1,
        }
    }
    let rated = ratings.into_iter().map(|(by, axes)| Suggested {
        by,
        verdict: Verdict::Ratings { axes },
        score: None,
    });
    all.kept.extend(rated);
    Ok(all)
}

fn status(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or("submitted").to_owned()
}

/// `responses: {question: [{value, user_id, status?}]}`.
fn whole_responses(record: &JsonFields<'_>) -> Result<Vec<Response>, FieldError> {
    let questions = record.object("responses")?;
    let mut responses = Vec::new();
    for question in questions.keys().filter(|key| questions.has(key)) {
        responses.extend(listed(question, &questions)?);
    }
    Ok(responses)
}

/// A list of objects, each a response.
fn listed(question: &str, of: &JsonFields<'_>) -> Result<Vec<Response>, FieldError> {
    let mut responses = Vec::new();
    for response in of.objects(question)? {
        let Some(value) = response.get("value") else { continue };
        responses.push(Response {
            question: question.to_owned(),
            user: response.label("user_id")?,
            value: value.clone(),
            status: status(response.get("status")),
        });
    }
    Ok(responses)
}

/// Lists side by side, one entry for each user.
fn beside(
    question: &str,
    values: &[Value],
    users: Option<&Value>,
    states: Option<&Value>,
) -> Vec<Response> {
    let at = |list: Option<&Value>, index: usize| {
        list.and_then(Value::as_array).and_then(|list| list.get(index)).cloned()
    };
    let response = |(index, value): (usize, &Value)| {
        let user = at(users, index).filter(|user| !user.is_null());
        let user = user.map(|user| user.as_str().map_or_else(|| user.to_string(), str::to_owned));
        Response {
            question: question.to_owned(),
            user: user.unwrap_or_default(),
            value: value.clone(),
            status: status(at(states, index).as_ref()),
        }
    };
    values.iter().enumerate().map(response).filter(|one| !one.value.is_null()).collect()
}

fn flat_responses(record: &JsonFields<'_>) -> Result<Vec<Response>, FieldError> {
    let mut responses = Vec::new();
    for key in record.keys().filter(|key| record.has(key)) {
        if let Some(question) = key.strip_suffix(RESPONSES) {
            let users = record.get(&format!("{key}.users"));
            let states = record.get(&format!("{key}.status"));
            responses.extend(beside(question, record.list(key)?, users, states));
            continue;
        }
        match record.get(key) {
            Some(Value::Object(object)) if is_answers(&Value::Object(object.clone())) => {
                let answers = record.object(key)?;
                let values = answers.list("value")?;
                let (users, states) = (answers.get("user_id"), answers.get("status"));
                responses.extend(beside(key, values, users, states));
            }
            Some(list @ Value::Array(_)) if is_answers(list) => {
                responses.extend(listed(key, record)?);
            }
            _ => {}
        }
    }
    Ok(responses)
}

/// A user's responses as a judgement.
struct JudgedResponse {
    user: String,
    verdict: Verdict,
    rationale: Option<String>,
}

fn judged(
    responses: &[Response],
    names: &[String],
    into: &mut Collector<'_>,
) -> Vec<JudgedResponse> {
    let mut users: Vec<String> = Vec::new();
    for response in responses {
        if !users.contains(&response.user) {
            users.push(response.user.clone());
        }
    }
    let mut judged = Vec::new();
    for user in users {
        let mut verdicts = Vec::new();
        let mut axes: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        let mut rationale = Vec::new();
        for response in responses.iter().filter(|response| response.user == user) {
            match response.status.as_str() {
                "submitted" => {}
                "discarded" => {
                    into.leave_out("discarded response");
                    continue;
                }
                _ => {
                    into.leave_out("response that is a draft");
                    continue;
                }
            }
            match answer(response, names) {
                ResponseValue::Verdict(verdict) => verdicts.push(verdict),
                ResponseValue::Rating { axis, candidate, value } => {
                    axes.entry(axis).or_insert_with(|| vec![None; names.len()])[candidate] =
                        Some(value);
                }
                ResponseValue::Text(text) => rationale.push(text),
                ResponseValue::Other => into.leave_out("response that is no verdict"),
            }
        }
        if !axes.is_empty() {
            verdicts.push(Verdict::Ratings { axes });
        }
        let user = if user.is_empty() { into.nameless() } else { user };
        let rationale = (!rationale.is_empty()).then(|| rationale.join("\n\n"));
        judged.extend(verdicts.into_iter().map(|verdict| JudgedResponse {
            user: user.clone(),
            verdict,
            rationale: rationale.clone(),
        }));
    }
    judged
}

enum ResponseValue {
    Verdict(Verdict),
    Rating { axis: String, candidate: usize, value: f64 },
    Text(String),
    Other,
}

fn answer(response: &Response, names: &[String]) -> ResponseValue {
    match &response.value {
        Value::String(text) if names.len() == 2 => {
            let side = || names::find(names, text).map(Verdict::preferred);
            match names::verdict(text).or_else(side) {
                Some(verdict) => ResponseValue::Verdict(verdict),
                None => ResponseValue::Text(text.clone()),
            }
        }
        Value::String(text) => ResponseValue::Text(text.clone()),
        Value::Number(number) => {
            let Some(value) = number.as_f64() else { return ResponseValue::Other };
            // "helpfulness_response_1", or the one candidate there is.
            let suffixed = names.iter().enumerate().find_map(|(index, name)| {
                let axis = response.question.strip_suffix(name.as_str())?;
                Some((axis.trim_end_matches(['_', '-', '.']), index))
            });
            match suffixed {
                Some((axis, candidate)) => {
                    let axis = if axis.is_empty() { "rating" } else { axis };
                    ResponseValue::Rating { axis: axis.to_owned(), candidate, value }
                }
                None if names.len() == 1 => {
                    ResponseValue::Rating { axis: response.question.clone(), candidate: 0, value }
                }
                None => ResponseValue::Other,
            }
        }
        Value::Array(ranked) => match ranking(ranked, names) {
            Some(order) => ResponseValue::Verdict(Verdict::Ranking { order }),
            None => ResponseValue::Other,
        },
        _ => ResponseValue::Other,
    }
}

/// `[{"value": name, "rank": 1}]`, where ranks may be equal, or names in order.
fn ranking(ranked: &[Value], names: &[String]) -> Option<Vec<Vec<usize>>> {
    let mut places = Vec::new();
    let mut values = Vec::new();
    for (index, one) in ranked.iter().enumerate() {
        let (name, rank) = match one {
            Value::String(name) => (name.as_str(), (index + 1) as f64),
            Value::Object(object) => {
                (object.get("value")?.as_str()?, object.get("rank").and_then(as_number)?)
            }
            _ => return None,
        };
        places.push(names::find(names, name)?);
        values.push(rank);
    }
    let order = groups(&values);
    let order: Vec<Vec<usize>> =
        order.into_iter().map(|group| group.into_iter().map(|at| places[at]).collect()).collect();
    (!order.is_empty()).then_some(order)
}

/// One list of records as `records.from_json` reads it.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut rows = Vec::new();
    for (item, entries) in records.by_item() {
        if item.task == Task::Steps || !item.candidates.iter().all(is_single) {
            output.drop_many("step labels, or an answer of several messages", entries.len());
            continue;
        }
        let mut responses: Map<String, Value> = Map::new();
        for entry in entries {
            let Some(answers) = answers(&entry, output) else { continue };
            for (question, value) in answers {
                let response = json!({ "value": value, "user_id": entry.judgement.annotator, "status": "submitted" });
                let list = responses.entry(question).or_insert_with(|| json!([]));
                list.as_array_mut().expect("it was made as a list").push(response);
            }
            output.lose_all_but(entry.judgement, &[Detail::Annotator, Detail::Rationale]);
        }
        if responses.is_empty() {
            continue;
        }
        let metadata: Map<String, Value> = item
            .meta
            .iter()
            .filter(|(key, _)| key.as_str() != super::conversation::FORM)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        rows.push(json!({
            "id": item.id,
            "fields": fields(item),
            "metadata": metadata,
            "suggestions": {},
            "responses": responses,
            "vectors": {},
        }));
    }
    output.array(&rows)
}

fn name(index: usize) -> String {
    format!("response_{}", index + 1)
}

fn fields(item: &Item) -> Map<String, Value> {
    let prompt = match item.prompt.as_slice() {
        [only] if only.role == Role::User && !only.has_more() => json!(only.content),
        prompt => json!(prompt),
    };
    let answers = item.candidates.iter().enumerate();
    let answers = answers.map(|(index, candidate)| (name(index), json!(candidate.full_text())));
    std::iter::once(("prompt".to_owned(), prompt)).chain(answers).collect()
}

/// Questions and values that say what a judgement says.
fn answers(entry: &ExportEntry<'_>, output: &mut Output<'_>) -> Option<Vec<(String, Value)>> {
    let (item, verdict) = (entry.item, &entry.judgement.verdict);
    let choice = |value: &str| vec![("preference".to_owned(), json!(value))];
    let mut answers = match verdict {
        Verdict::Preferred { candidate, .. } => choice(&name(*candidate)),
        Verdict::Tie => choice("tie"),
        Verdict::BothBad => choice("both_bad"),
        Verdict::Ratings { axes } => axes
            .iter()
            .flat_map(|(axis, values)| {
                values.iter().enumerate().filter_map(move |(index, value)| {
                    Some((format!("{axis}_{}", name(index)), json!((*value)?)))
                })
            })
            .collect(),
        Verdict::Ranking { .. } => {
            let order = order(item, verdict)?;
            let ranks = ranks(&order, item.candidates.len());
            let ranked = ranks.iter().enumerate().filter_map(|(index, rank)| {
                Some(json!({ "value": name(index), "rank": (*rank)? }))
            });
            vec![("ranking".to_owned(), ranked.collect())]
        }
        other => {
            output.drop(match other {
                Verdict::Soft { .. } => "a probability",
                Verdict::CantTell { .. } => "can't tell",
                Verdict::Approval { .. } => "approval of a single candidate",
                _ => "step labels",
            });
            return None;
        }
    };
    if let Some(rationale) = &entry.judgement.rationale {
        answers.push(("rationale".to_owned(), json!(rationale)));
    }
    Some(answers)
}
