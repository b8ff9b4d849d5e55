//! Comparisons and ratings of summaries, as in Stiennon et al. 2020, arXiv:2009.01325.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::contest::contests;
use super::conversation::{in_form, text_prompt};
use super::error::FormatError;
use super::export::{Detail, ExportRecords, Output, Ties, row};
use super::fields::JsonFields;
use super::import::Collector;
use super::trl::decided;
use crate::bad_record::{BadRecord, FieldError};
use crate::feedback::{Candidate, Item, Strength, Task, Verdict};
use crate::row::Row;

/// The middle of the scale from 1, the first summary, to 9, the second.
const MIDDLE: i64 = 5;
/// The key of the metadata under which a post keeps the name of its column.
const POST: &str = "post";

/// Columns of `info` beside the post.
const INFO: [&str; 4] = ["id", "title", "subreddit", "site"];

/// `summaries` and a `choice`, or one `summary` with its `axes`.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let info = fields.object("info")?;
    let key = if info.has("post") { "post" } else { "article" };
    let text = info.text(key)?;
    let mut meta = fields.rest(&["info", "summaries", "summary", "choice", "worker", "extra"]);
    meta.extend(info.rest(&[key]));
    meta.insert(POST.into(), Value::from(key));
    let item = |task, candidates| {
        let mut item = Item::new(task, text_prompt(text), candidates);
        item.meta = meta;
        in_form(item, "text")
    };
    let annotator = fields.label("worker")?;
    if fields.has("summary") {
        let summary = fields.object("summary")?;
        let axes = axes(&summary)?;
        let place = into.item(item(Task::Rating, vec![candidate(&summary, &["axes", "note"])?]))?;
        let judgement = into.judge(place, annotator, Verdict::Ratings { axes })?;
        judgement.rationale = note(&summary)?;
        return Ok(());
    }
    let summaries = fields.objects("summaries")?;
    let [first, second] = summaries.as_slice() else {
        return Err(fields.wrong("summaries", "two summaries").into());
    };
    let choice = fields.integer("choice", 0, 1)? as usize;
    let strength =
        if fields.has("extra") { strength(&fields.object("extra")?, choice)? } else { None };
    let candidates = vec![candidate(first, &["note"])?, candidate(second, &["note"])?];
    let place = into.item(item(Task::Pairwise, candidates))?;
    let notes: Vec<String> = [note(first)?, note(second)?].into_iter().flatten().collect();
    let judgement =
        into.judge(place, annotator, Verdict::Preferred { candidate: choice, strength })?;
    judgement.rationale = (!notes.is_empty()).then(|| notes.join("\n\n"));
    Ok(())
}

fn candidate(summary: &JsonFields<'_>, but: &[&str]) -> Result<Candidate, FieldError> {
    let mut candidate = Candidate::text(summary.text("text")?);
    candidate.model = summary.optional_label("policy")?;
    candidate.meta = summary.rest(&[&["text", "policy"], but].concat());
    Ok(candidate)
}

fn note(summary: &JsonFields<'_>) -> Result<Option<String>, FieldError> {
    Ok(summary.optional_text("note")?.filter(|note| !note.is_empty()).map(str::to_owned))
}

fn axes(summary: &JsonFields<'_>) -> Result<BTreeMap<String, Vec<Option<f64>>>, FieldError> {
    let axes = summary.object("axes")?;
    axes.keys().map(|axis| Ok((axis.to_owned(), vec![axes.optional_number(axis)?]))).collect()
}

/// The confidence as a strength, where it is on the side of the choice.
fn strength(extra: &JsonFields<'_>, choice: usize) -> Result<Option<Strength>, FieldError> {
    if !extra.has("confidence") {
        return Ok(None);
    }
    let distance = extra.integer("confidence", 1, 9)? - MIDDLE;
    let agrees = if choice == 0 { distance < 0 } else { 0 < distance };
    let points = distance.unsigned_abs() as u8;
    Ok(agrees.then_some(Strength { points, scale: 4 }))
}

/// One row for each judgement.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let [prompt] = entry.item.prompt.as_slice() else {
            output.drop("a prompt of several messages");
            continue;
        };
        let key = entry.item.meta.get(POST).and_then(Value::as_str).unwrap_or("post");
        let mut info = Map::new();
        info.insert(key.to_owned(), json!(prompt.content));
        let mut row = Map::new();
        let own = [POST, super::conversation::FORM];
        for (key, value) in entry.item.meta.iter().filter(|(key, _)| !own.contains(&key.as_str())) {
            let of_info = INFO.contains(&key.as_str());
            if of_info { &mut info } else { &mut row }.insert(key.clone(), value.clone());
        }
        row.insert("info".to_owned(), Value::Object(info));
        let worker = entry.judgement.annotator.as_str();
        if let (Verdict::Ratings { axes }, [one]) =
            (&entry.judgement.verdict, entry.item.candidates.as_slice())
        {
            let axes: Map<String, Value> =
                axes.iter().map(|(axis, values)| (axis.clone(), json!(values[0]))).collect();
            let mut summary = self::summary(one);
            summary.insert("axes".into(), Value::Object(axes));
            summary.extend(entry.judgement.rationale.iter().map(|r| ("note".to_owned(), json!(r))));
            row.extend(row! { "summary": summary, "worker": worker });
            output.line(&row)?;
            output.lose_all_but(entry.judgement, &[Detail::Annotator, Detail::Rationale]);
            continue;
        }
        let mut rows = 0;
        for contest in contests(entry, output) {
            match decided(contest, Ties::Drop) {
                Ok((chosen, _, None)) => {
                    let pair = [contest.first, contest.second]
                        .map(|at| summary(&entry.item.candidates[at]));
                    let mut row = row.clone();
                    let choice = usize::from(chosen != contest.first);
                    row.extend(row! { "summaries": pair, "choice": choice, "worker": worker });
                    if let Some(confidence) = confidence(&entry.judgement.verdict) {
                        row.insert("extra".into(), json!({ "confidence": confidence }));
                    }
                    output.line(&row)?;
                    rows += 1;
                }
                Ok(_) => output.drop("a probability"),
                Err(reason) => output.drop(reason),
            }
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, &[Detail::Annotator, Detail::Strength]);
        }
    }
    Ok(())
}

fn summary(candidate: &Candidate) -> Map<String, Value> {
    let mut summary = row! { "text": candidate.full_text() };
    summary.extend(candidate.model.iter().map(|model| ("policy".to_owned(), json!(model))));
    summary.extend(candidate.meta.clone());
    summary
}

fn confidence(verdict: &Verdict) -> Option<i64> {
    let Verdict::Preferred { candidate, strength: Some(strength) } = verdict else { return None };
    let points = super::contest::scaled(*strength, 4);
    Some(if *candidate == 0 { MIDDLE - points } else { MIDDLE + points })
}
