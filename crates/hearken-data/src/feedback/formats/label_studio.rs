//! Label Studio: tasks with their annotations.
//!
//! Which keys of `data` hold the prompt and the answers is up to each project. Common names are
//! known; others come from [`ImportOptions::columns`](super::ImportOptions::columns).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::contest::{ContestWinner, contests};
use super::conversation::{candidate, is_single, text_prompt};
use super::error::FormatError;
use super::export::{Detail, ExportEntry, ExportRecords, Output};
use super::fields::JsonFields;
use super::import::Collector;
use super::names::{self, FeedbackColumns};
use super::suggestion;
use crate::bad_record::{BadRecord, FieldError};
use crate::calendar;
use crate::content::{Message, Role};
use crate::feedback::{Candidate, Gold, Item, Task, Verdict};
use crate::row::Row;
use crate::value::describe;

/// One item for each task, one judgement for each annotation that was not cancelled.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let data = fields.object("data")?;
    let shown = TaskData::of(&data, into)?;
    let mut found = Vec::new();
    for annotation in fields.objects("annotations")? {
        if annotation.is_set("was_cancelled")? {
            into.leave_out("cancelled annotation");
            continue;
        }
        found.extend(annotated(&annotation, &shown, into)?);
    }
    let (predicted, others) = predicted(&fields, &shown, into);
    (0..others).for_each(|_| into.leave_out("predictions of a model"));
    let first = found.first().map(|one| &one.verdict);
    let task = match first.or_else(|| predicted.first().map(|(_, verdict, _)| verdict)) {
        Some(Verdict::Ratings { .. }) => Task::Rating,
        _ if shown.candidates.len() == 1 => Task::Rating,
        _ if shown.candidates.len() == 2 => Task::Pairwise,
        _ => Task::Ranking,
    };
    let mut item = Item::new(task, shown.prompt, shown.candidates);
    item.meta = shown.meta;
    item.gold = found.iter().find(|one| one.is_truth).map(|one| Gold {
        verdict: one.verdict.clone(),
        reason: None,
        screening: false,
    });
    for (by, verdict, score) in predicted {
        if !suggestion::keep(&mut item, &by, &verdict, score) {
            into.leave_out("predictions of a model");
        }
    }
    let place = into.item(item)?;
    for one in found {
        let judgement = into.judge(place, one.annotator, one.verdict)?;
        judgement.rationale = one.rationale;
        judgement.duration_ms = one.duration_ms;
        judgement.at = one.at;
        judgement.presented = one.presented;
    }
    Ok(())
}

/// Who predicted, what, and how sure.
type Predicted = (String, Verdict, Option<f64>);

/// The predictions of a task that are verdicts, and how many are none.
fn predicted(
    task: &JsonFields<'_>,
    shown: &TaskData,
    into: &mut Collector<'_>,
) -> (Vec<Predicted>, usize) {
    let (mut kept, mut others) = (Vec::new(), 0);
    let count = task.get("predictions").and_then(Value::as_array).map_or(0, Vec::len);
    let Ok(predictions) = task.objects("predictions") else { return (kept, count) };
    for prediction in predictions {
        let mut said = AnnotationResult::default();
        let results = prediction.objects("result").unwrap_or_default();
        // A model may say what no person could: it is counted, and stops nothing.
        let is_read = results.iter().all(|result| said.take(result, shown, into).is_ok());
        let AnnotationResult { mut verdicts, axes, .. } = said;
        if !axes.is_empty() {
            verdicts.push(Verdict::Ratings { axes });
        }
        let by = prediction.optional_label("model_version").ok().flatten();
        let by = by.unwrap_or_else(|| "model".to_owned());
        let score = prediction.optional_number("score").ok().flatten();
        others += usize::from(!is_read || verdicts.is_empty());
        if is_read {
            kept.extend(verdicts.into_iter().map(|verdict| (by.clone(), verdict, score)));
        }
    }
    (kept, others)
}

/// What the data of a task show.
struct TaskData {
    prompt: Vec<Message>,
    candidates: Vec<Candidate>,
    /// The name of each candidate: its key in the data, or its id in a list.
    names: Vec<String>,
    meta: Map<String, Value>,
}

impl TaskData {
    fn of(data: &JsonFields<'_>, into: &Collector<'_>) -> Result<Self, FieldError> {
        let columns = FeedbackColumns::of(&into.options.columns);
        let prompt_key = columns.prompt(data);
        let prompt = match prompt_key.and_then(|key| data.get(key)) {
            Some(Value::String(text)) => text_prompt(text),
            Some(Value::Array(_)) => data.messages(prompt_key.expect("it was just looked up"))?,
            _ => Vec::new(),
        };
        if let Some(list) =
            ["items", "answers", "responses"].into_iter().find(|key| is_list(data, key))
        {
            let (mut candidates, mut names) = (Vec::new(), Vec::new());
            for answer in data.objects(list)? {
                names.push(answer.label("id")?);
                let text = if answer.has("body") { "body" } else { "title" };
                let mut candidate = Candidate::text(answer.text(text)?);
                candidate.model = answer.optional_label("model")?;
                candidates.push(candidate);
            }
            let known: Vec<&str> = prompt_key.into_iter().chain([list]).collect();
            return Ok(Self { prompt, candidates, names, meta: data.rest(&known) });
        }
        let keys = columns.candidates(data).ok_or_else(|| {
            let found: Vec<String> = data.keys().map(|key| format!("`{key}`")).collect();
            let expected = "two answers under names such as answer1 and answer2, or a mapping that \
                            names them (\"candidates\")";
            data.error("", format!("the keys {}", found.join(", ")), expected)
        })?;
        let mut candidates = Vec::new();
        for key in &keys {
            candidates.push(match data.get(key) {
                Some(Value::Array(_)) => candidate(data.messages(key)?),
                _ => Candidate::text(data.text(key)?),
            });
        }
        let known: Vec<&str> = keys.iter().map(String::as_str).chain(prompt_key).collect();
        let mut meta = data.rest(&known);
        for (candidate, key) in candidates.iter_mut().zip(&keys) {
            let model = format!("{key}_model");
            if let Some(Value::String(name)) = meta.remove(&model) {
                candidate.model = Some(name);
            }
        }
        Ok(Self { prompt, candidates, names: keys, meta })
    }

    /// The candidate of a name.
    fn find(&self, name: &str) -> Option<usize> {
        names::find(&self.names, name)
    }
}

fn is_list(data: &JsonFields<'_>, key: &str) -> bool {
    data.get(key).and_then(Value::as_array).is_some_and(|all| all.iter().all(Value::is_object))
}

/// An annotation as a judgement.
struct Annotated {
    annotator: String,
    verdict: Verdict,
    rationale: Option<String>,
    duration_ms: Option<u64>,
    at: i64,
    presented: Vec<usize>,
    is_truth: bool,
}

/// The judgements of an annotation: one at most for each of its results, one for all its ratings.
fn annotated(
    annotation: &JsonFields<'_>,
    shown: &TaskData,
    into: &mut Collector<'_>,
) -> Result<Vec<Annotated>, FieldError> {
    let mut said = AnnotationResult::default();
    for result in annotation.objects("result")? {
        said.take(&result, shown, into)?;
    }
    let AnnotationResult { mut verdicts, axes, rationale } = said;
    if !axes.is_empty() {
        verdicts.push(Verdict::Ratings { axes });
    }
    if verdicts.is_empty() {
        into.leave_out("annotation without a verdict");
    }
    let annotator = match annotation.get("completed_by") {
        Some(Value::Object(_)) => {
            let person = annotation.object("completed_by")?;
            person.label(if person.has("id") { "id" } else { "email" })?
        }
        Some(_) => annotation.label("completed_by")?,
        None => into.nameless(),
    };
    let seconds = annotation.optional_number("lead_time")?.filter(|seconds| 0.0 <= *seconds);
    let at = annotation.optional_text("created_at")?.and_then(calendar::parse_time).unwrap_or(0);
    let rationale = (!rationale.is_empty()).then(|| rationale.join("\n\n"));
    let is_truth = annotation.is_set("ground_truth")?;
    let judged = verdicts.into_iter().map(|verdict| Annotated {
        annotator: annotator.clone(),
        // A pair is shown in the order of the data.
        presented: if shown.candidates.len() == 2 { vec![0, 1] } else { Vec::new() },
        verdict,
        rationale: rationale.clone(),
        duration_ms: seconds.map(|seconds| (seconds * 1000.0).round() as u64),
        at,
        is_truth,
    });
    Ok(judged.collect())
}

/// What the results of an annotation say.
#[derive(Default)]
struct AnnotationResult {
    verdicts: Vec<Verdict>,
    axes: BTreeMap<String, Vec<Option<f64>>>,
    rationale: Vec<String>,
}

impl AnnotationResult {
    fn take(
        &mut self,
        result: &JsonFields<'_>,
        shown: &TaskData,
        into: &mut Collector<'_>,
    ) -> Result<(), FieldError> {
        let value = result.object("value")?;
        match result.text("type")? {
            "pairwise" => {
                let side = match value.text("selected")? {
                    "left" => 0,
                    "right" => 1,
                    _ => return Err(value.wrong("selected", "left or right")),
                };
                self.verdicts.push(Verdict::preferred(side));
            }
            "choices" => match choice(&value, shown)? {
                Some(verdict) => self.verdicts.push(verdict),
                None => into.leave_out("choice that is no verdict"),
            },
            "ranker" => self.verdicts.push(Verdict::Ranking { order: ranker(&value, shown)? }),
            "rating" => {
                let names = result.optional_text("to_name")?.unwrap_or("");
                let axis = result.optional_text("from_name")?.unwrap_or("rating");
                let (axis, Some(index)) = rated(axis, names, shown) else {
                    into.leave_out("rating of none of the answers");
                    return Ok(());
                };
                let none = || vec![None; shown.candidates.len()];
                self.axes.entry(axis).or_insert_with(none)[index] = Some(value.number("rating")?);
            }
            "textarea" => match value.get("text") {
                Some(Value::String(text)) => self.rationale.push(text.clone()),
                _ => self.rationale.extend(value.texts("text")?),
            },
            _ => into.leave_out("result of another kind"),
        }
        Ok(())
    }
}

fn choice(value: &JsonFields<'_>, shown: &TaskData) -> Result<Option<Verdict>, FieldError> {
    let choices = value.texts("choices")?;
    let Some(choice) = choices.first() else { return Ok(None) };
    if shown.candidates.len() != 2 {
        return Ok(None);
    }
    Ok(names::verdict(choice).or_else(|| shown.find(choice).map(Verdict::preferred)))
}

/// Buckets of ids, the best first; those under "_" are in no bucket. Without buckets the one list is
/// an order.
fn ranker(value: &JsonFields<'_>, shown: &TaskData) -> Result<Vec<Vec<usize>>, FieldError> {
    let lists = value.object("ranker")?;
    let buckets: Vec<&str> = lists.keys().filter(|key| *key != "_").collect();
    let mut order = Vec::new();
    for bucket in &buckets {
        let mut group = Vec::new();
        for id in lists.list(bucket)? {
            let name = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            let index = shown
                .find(&name)
                .ok_or_else(|| lists.error(bucket, describe(id), "the id of one of the items"))?;
            group.push(index);
        }
        if buckets.len() == 1 {
            order.extend(group.into_iter().map(|index| vec![index]));
        } else if !group.is_empty() {
            order.push(group);
        }
    }
    Ok(order)
}

/// The axis and the candidate of a rating: the element it stands on names the candidate, or the end
/// of the rating's own name does.
fn rated(from_name: &str, to_name: &str, shown: &TaskData) -> (String, Option<usize>) {
    if let Some(index) = shown.find(to_name) {
        return (from_name.to_owned(), Some(index));
    }
    for (index, name) in shown.names.iter().enumerate() {
        if let Some(axis) = from_name.strip_suffix(&format!("_{name}")) {
            return (axis.to_owned(), Some(index));
        }
    }
    (from_name.to_owned(), (shown.candidates.len() == 1).then_some(0))
}

/// One list of tasks with their annotations.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut tasks = Vec::new();
    for (number, (item, entries)) in records.by_item().into_iter().enumerate() {
        if item.task == Task::Steps || !item.candidates.iter().all(is_single) {
            output.drop_many("step labels, or an answer of several messages", entries.len());
            continue;
        }
        let as_list = 2 < item.candidates.len();
        let mut annotations = Vec::new();
        for entry in entries {
            let Some(result) = result(&entry, as_list, output) else { continue };
            let seconds = entry.judgement.duration_ms.map(|ms| ms as f64 / 1000.0);
            let mut annotation = json!({
                "result": result,
                "completed_by": entry.judgement.annotator,
                "was_cancelled": false,
                "ground_truth": false,
                "lead_time": seconds,
            });
            if entry.judgement.at != 0 {
                annotation["created_at"] = json!(calendar::time(entry.judgement.at));
            }
            annotations.push(annotation);
            let mut kept = vec![Detail::Annotator, Detail::Rationale, Detail::Time];
            if entry.judgement.presented.is_sorted() {
                kept.push(Detail::Presented);
            }
            output.lose_all_but(entry.judgement, &kept);
        }
        if !annotations.is_empty() {
            let data = data(item, as_list);
            tasks.push(json!({ "id": number + 1, "data": data, "annotations": annotations, "predictions": [] }));
        }
    }
    output.array(&tasks)
}

fn data(item: &Item, as_list: bool) -> Map<String, Value> {
    let prompt = match item.prompt.as_slice() {
        [only] if only.role == Role::User && !only.has_more() => json!(only.content),
        prompt => json!(prompt),
    };
    let mut data = Map::from_iter([("prompt".to_owned(), prompt)]);
    if as_list {
        let items = item.candidates.iter().enumerate().map(|(index, candidate)| {
            json!({ "id": name(index), "title": name(index), "body": candidate.full_text(), "model": candidate.model })
        });
        data.insert("items".into(), items.collect());
    } else {
        for (index, candidate) in item.candidates.iter().enumerate() {
            data.insert(name(index), Value::from(candidate.full_text()));
            let model = candidate.model.as_deref();
            data.extend(model.map(|model| (format!("{}_model", name(index)), Value::from(model))));
        }
    }
    let meta = item.meta.iter().filter(|(key, _)| key.as_str() != super::conversation::FORM);
    data.extend(meta.map(|(key, value)| (key.clone(), value.clone())));
    data
}

fn name(index: usize) -> String {
    format!("answer{}", index + 1)
}

/// The results of an annotation; `None`, and counted, where there are none.
fn result(entry: &ExportEntry<'_>, as_list: bool, output: &mut Output<'_>) -> Option<Vec<Value>> {
    let object = if as_list { "items".to_owned() } else { format!("{},{}", name(0), name(1)) };
    let of = |kind: &str, from_name: &str, value: Value| {
        vec![json!({ "type": kind, "from_name": from_name, "to_name": object, "value": value })]
    };
    let chosen = |choice: &str| of("choices", "verdict", json!({ "choices": [choice] }));
    let mut results = match &entry.judgement.verdict {
        Verdict::Ratings { axes } => ratings(axes),
        Verdict::Ranking { order } if as_list => {
            if order.iter().any(|group| 1 < group.len()) {
                output.drop("equal ranks");
                return None;
            }
            let ids: Vec<String> = order.iter().flatten().map(|&index| name(index)).collect();
            of("ranker", "rank", json!({ "ranker": { "rank": ids } }))
        }
        Verdict::CantTell { .. } => chosen("Can't tell"),
        _ => match contests(entry, output).into_iter().next()?.outcome {
            ContestWinner::First(_) => of("pairwise", "preference", json!({ "selected": "left" })),
            ContestWinner::Second(_) => {
                of("pairwise", "preference", json!({ "selected": "right" }))
            }
            ContestWinner::Tie => chosen("Tie"),
            ContestWinner::BothBad => chosen("Both bad"),
            ContestWinner::Soft(_) => {
                output.drop("a probability");
                return None;
            }
        },
    };
    if let Some(rationale) = &entry.judgement.rationale {
        results.extend(of("textarea", "rationale", json!({ "text": [rationale] })));
    }
    Some(results)
}

/// A result for each rating that was given.
fn ratings(axes: &BTreeMap<String, Vec<Option<f64>>>) -> Vec<Value> {
    let mut results = Vec::new();
    for (axis, values) in axes {
        for (index, value) in values.iter().enumerate().filter(|(_, value)| value.is_some()) {
            results.push(json!({
                "type": "rating",
                "from_name": axis,
                "to_name": name(index),
                "value": { "rating": value },
            }));
        }
    }
    results
}
