//! UltraFeedback, whole and binarized.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::contest::contests;
use super::conversation::{messages, text_prompt};
use super::error::FormatError;
use super::export::{ExportRecords, Output, Ties, row};
use super::fields::JsonFields;
use super::import::Collector;
use super::trl::{decided, in_text_order, pair};
use crate::bad_record::{BadRecord, FieldError};
use crate::feedback::{Candidate, Item, Origin, Task, Verdict};
use crate::hexadecimal::hexadecimal;
use crate::row::Row;
use crate::value::as_number;

/// The axes of a completion.
const AXES: [&str; 4] = ["instruction_following", "honesty", "truthfulness", "helpfulness"];
const KNOWN: [&str; 3] = ["response", "model", "annotations"];

/// `instruction` and `completions`, each with `annotations` whose ratings are texts: "2", "N/A".
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let completions = fields.objects("completions")?;
    let mut axes: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    let mut candidates = Vec::with_capacity(completions.len());
    for (index, completion) in completions.iter().enumerate() {
        let mut candidate = Candidate::text(completion.text("response")?);
        candidate.model = completion.optional_label("model")?;
        candidate.meta = completion.rest(&KNOWN);
        if completion.has("annotations") {
            let (ratings, texts) = annotations(&completion.object("annotations")?, into)?;
            for (axis, rating) in ratings {
                axes.entry(axis).or_insert_with(|| vec![None; completions.len()])[index] = rating;
            }
            if !texts.is_empty() {
                candidate.meta.insert("annotations".into(), Value::Object(texts));
            }
        }
        candidates.push(candidate);
    }
    if candidates.is_empty() {
        into.leave_out("row without completions");
        return Ok(());
    }
    let mut item = Item::new(Task::Rating, text_prompt(fields.text("instruction")?), candidates);
    item.meta = fields.rest(&["instruction", "completions"]);
    let place = into.item(item)?;
    if axes.is_empty() {
        into.leave_out("completions without ratings");
        return Ok(());
    }
    let annotator = into.options.annotator.clone().unwrap_or_else(|| "gpt-4".to_owned());
    into.judge(place, annotator, Verdict::Ratings { axes })?.origin = Origin::Ai;
    Ok(())
}

type Ratings = Vec<(String, Option<f64>)>;

/// The ratings by axis, and what is said beside them.
fn annotations(
    fields: &JsonFields<'_>,
    into: &mut Collector<'_>,
) -> Result<(Ratings, Map<String, Value>), FieldError> {
    let mut ratings = Vec::new();
    let mut texts = Map::new();
    for axis in fields.keys().filter(|axis| fields.has(axis)) {
        let annotation = fields.object(axis)?;
        let rating = match annotation.get("Rating") {
            None => None,
            Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("n/a") => {
                into.leave_out("rating that is \"N/A\"");
                None
            }
            Some(value) => {
                let wrong = || annotation.wrong("Rating", "a number, text that is one, or \"N/A\"");
                Some(as_number(value).ok_or_else(wrong)?)
            }
        };
        ratings.push((axis.to_owned(), rating));
        let rest = annotation.rest(&["Rating"]);
        if !rest.is_empty() {
            texts.insert(axis.to_owned(), Value::Object(rest));
        }
    }
    Ok((ratings, texts))
}

/// One row for each judgement that rates.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let Verdict::Ratings { axes } = &entry.judgement.verdict else {
            output.drop("no ratings");
            continue;
        };
        let item = entry.item;
        let [prompt] = item.prompt.as_slice() else {
            output.drop("a prompt of several messages");
            continue;
        };
        let completions: Vec<Value> = item
            .candidates
            .iter()
            .enumerate()
            .map(|(index, candidate)| Value::Object(completion(candidate, index, axes)))
            .collect();
        let models: Vec<&str> =
            item.candidates.iter().map(|one| one.model.as_deref().unwrap_or("")).collect();
        let mut row = row! { "source": "hearken", "instruction": prompt.content, "models": models };
        row.extend(item.meta.clone());
        row.insert("completions".into(), Value::Array(completions));
        output.line(&row)?;
        output.lose_all_but(entry.judgement, &[]);
    }
    Ok(())
}

fn completion(
    candidate: &Candidate,
    index: usize,
    axes: &BTreeMap<String, Vec<Option<f64>>>,
) -> Map<String, Value> {
    let said = candidate.meta.get("annotations").and_then(Value::as_object);
    // The known axes stand in the order of the dataset, others behind them.
    let others = axes.keys().map(String::as_str).filter(|axis| !AXES.contains(axis));
    let mut annotations = Map::new();
    for axis in AXES.into_iter().filter(|axis| axes.contains_key(*axis)).chain(others) {
        let rating = match axes[axis][index] {
            Some(rating) => rating.to_string(),
            None => "N/A".to_owned(),
        };
        let mut annotation = row! { "Rating": rating };
        let said = said.and_then(|said| said.get(axis)).and_then(Value::as_object);
        annotation.extend(said.cloned().unwrap_or_default());
        annotations.insert(axis.to_owned(), Value::Object(annotation));
    }
    let mut completion = row! { "annotations": annotations };
    let meta = candidate.meta.iter().filter(|(key, _)| key.as_str() != "annotations");
    completion.extend(meta.map(|(key, value)| (key.clone(), value.clone())));
    completion.extend(candidate.model.iter().map(|model| ("model".to_owned(), json!(model))));
    completion.insert("response".into(), Value::from(candidate.full_text()));
    completion
}

/// `prompt`, `chosen` and `rejected` as whole conversations, and their scores.
pub(super) fn read_binarized(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let (_, mut answers) = pair(row)?;
    for (candidate, score) in answers.candidates.iter_mut().zip(["score_chosen", "score_rejected"])
    {
        if let Some(score) = fields.optional_number(score)? {
            candidate.meta.insert("score".into(), json!(score));
        }
    }
    let first = in_text_order(&mut answers.candidates);
    let meta = fields.rest(&[
        "prompt",
        "prompt_id",
        "chosen",
        "rejected",
        "messages",
        "score_chosen",
        "score_rejected",
    ]);
    let place = into.item(answers.item(Task::Pairwise, meta))?;
    into.judge(place, into.nameless(), Verdict::preferred(first))?.origin = Origin::Ai;
    Ok(())
}

/// One row for each preference; a score that is not known is `null`.
pub(super) fn write_binarized(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let mut rows = 0;
        for contest in contests(entry, output) {
            let (chosen, rejected) = match decided(contest, Ties::Drop) {
                Ok((chosen, rejected, None)) => (chosen, rejected),
                Ok(_) => {
                    output.drop("a probability");
                    continue;
                }
                Err(reason) => {
                    output.drop(reason);
                    continue;
                }
            };
            let item = entry.item;
            let whole = |index: usize| {
                let answer = messages(&item.candidates[index]);
                json!(item.prompt.iter().cloned().chain(answer).collect::<Vec<_>>())
            };
            let score = |index: usize| item.candidates[index].meta.get("score");
            let prompt = item.prompt.first().map_or("", |first| first.content.as_str());
            output.line(&row! {
                "prompt": prompt,
                "prompt_id": hexadecimal(&Sha256::digest(prompt.as_bytes())),
                "chosen": whole(chosen),
                "rejected": whole(rejected),
                "messages": whole(chosen),
                "score_chosen": score(chosen),
                "score_rejected": score(rejected),
            })?;
            rows += 1;
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, &[]);
        }
    }
    Ok(())
}
