//! Nectar: `prompt` and `answers`, each with a rank.

use serde_json::{Map, Value, json};

use super::contest::{groups, order, ranks};
use super::conversation::{in_form, text_prompt, transcript, turns};
use super::error::FormatError;
use super::export::{ExportRecords, Output, row};
use super::fields::JsonFields;
use super::import::Collector;
use crate::bad_record::BadRecord;
use crate::content::{Message, Role};
use crate::feedback::{Candidate, Item, Origin, Task, Verdict};
use crate::row::Row;
use crate::transcript::ASSISTANT;

/// One item for each row; answers of equal rank are equal.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let mut candidates = Vec::new();
    let mut ranks = Vec::new();
    for answer in fields.objects("answers")? {
        let mut candidate = Candidate::text(answer.text("answer")?);
        candidate.model = answer.optional_label("model")?;
        candidate.meta = answer.rest(&["answer", "model", "rank"]);
        candidates.push(candidate);
        ranks.push(answer.number("rank")?);
    }
    let text = fields.text("prompt")?;
    let mut meta = fields.rest(&["prompt", "answers", "num_responses"]);
    let messages = turns(text.trim_end()).filter(|turns| !turns.is_empty());
    let item = match messages {
        Some(mut messages) => {
            // The prompt ends with the mark of the answers' turn.
            if matches!(messages.last(), Some(last) if last.role == Role::Assistant && last.content.is_empty())
            {
                messages.pop();
            }
            meta.insert("prompt".into(), Value::from(text));
            in_form(Item::new(Task::Ranking, messages, candidates), "transcript")
        }
        None => in_form(Item::new(Task::Ranking, text_prompt(text), candidates), "text"),
    };
    let place = into.item(Item { meta: item.meta.into_iter().chain(meta).collect(), ..item })?;
    let annotator = into.options.annotator.clone().unwrap_or_else(|| "gpt-4".to_owned());
    let verdict = Verdict::Ranking { order: groups(&ranks) };
    into.judge(place, annotator, verdict)?.origin = Origin::Ai;
    Ok(())
}

/// One row for each judgement that orders its candidates.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let item = entry.item;
        let Some(order) = order(item, &entry.judgement.verdict) else {
            output.drop("no order of the answers");
            continue;
        };
        let ranks = ranks(&order, item.candidates.len());
        if ranks.iter().any(Option::is_none) {
            output.lose("answers without a rank");
        }
        let Some(prompt) = prompt(item) else {
            output.drop("a conversation that no transcript can hold");
            continue;
        };
        let answers: Vec<Value> = item
            .candidates
            .iter()
            .zip(ranks)
            .filter_map(|(candidate, rank)| Some(Value::Object(answer(candidate, rank?))))
            .collect();
        let mut row = row! { "prompt": prompt, "num_responses": answers.len() };
        row.insert("answers".into(), Value::Array(answers));
        let known = ["prompt", super::conversation::FORM];
        let rest = item.meta.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        row.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
        output.line(&row)?;
        output.lose_all_but(entry.judgement, &[]);
    }
    Ok(())
}

fn answer(candidate: &Candidate, rank: usize) -> Map<String, Value> {
    let mut answer = row! { "answer": candidate.full_text(), "rank": rank as f64 };
    answer.extend(candidate.model.iter().map(|model| ("model".to_owned(), json!(model))));
    answer.extend(candidate.meta.clone());
    answer
}

fn prompt(item: &Item) -> Option<String> {
    if let Some(text) = item.meta.get("prompt").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    match (super::conversation::form(item), item.prompt.as_slice()) {
        ("text", [Message { content, .. }]) => Some(content.clone()),
        (_, prompt) => transcript(prompt).map(|text| format!("{text}{ASSISTANT} ")),
    }
}
