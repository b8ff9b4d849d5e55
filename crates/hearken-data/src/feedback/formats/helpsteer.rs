//! HelpSteer2, HelpSteer2-Preference and HelpSteer3.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::contest::scaled;
use super::conversation::{candidate, in_form, is_single, text_prompt};
use super::error::FormatError;
use super::export::{Detail, ExportEntry, ExportRecords, Output, row};
use super::fields::JsonFields;
use super::import::{Collector, FormatReader};
use crate::bad_record::{BadRecord, FieldError};
use crate::content::{Message, Role};
use crate::feedback::{Candidate, Item, Judgement, Strength, Task, Verdict};
use crate::report::ReadError;
use crate::row::Row;
use crate::source::Source;
use crate::transcript::is_transcript;

/// Points on each side of the scale of preferences.
const SCALE: u8 = 3;
/// The strength that says that neither response is acceptable.
const NEITHER: i64 = -100;
const AXES: [&str; 5] = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"];

/// `prompt`, `response` and ratings on five axes; consecutive rows of one prompt are one item.
#[derive(Default)]
pub(super) struct Ratings {
    rows: Vec<RatedRow>,
}

/// One row.
struct RatedRow {
    at: Source,
    prompt: String,
    response: String,
    ratings: Vec<f64>,
    meta: Map<String, Value>,
    name: String,
}

impl FormatReader for Ratings {
    fn row(&mut self, row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
        let fields = JsonFields::of(row);
        let ratings = AXES.iter().map(|axis| fields.number(axis)).collect::<Result<_, _>>()?;
        let rated = RatedRow {
            at: row.source(),
            prompt: fields.text("prompt")?.to_owned(),
            response: fields.text("response")?.to_owned(),
            ratings,
            meta: fields.rest(&[&AXES[..], &["prompt", "response"]].concat()),
            name: into.row_name().to_owned(),
        };
        let goes_on = self.rows.first().is_some_and(|first| first.prompt == rated.prompt);
        // Checked as it comes, so that what is wrong is said of this row and costs no other.
        let before = if goes_on { self.rows.as_slice() } else { &[] };
        let fits = item(before.iter().chain([&rated])).check();
        fits.map_err(|what| BadRecord::Unfit { what })?;
        if !goes_on {
            self.flush(into)?;
        }
        self.rows.push(rated);
        Ok(())
    }

    fn finish(&mut self, into: &mut Collector<'_>) -> Result<(), FormatError> {
        let at = self.rows.first().map(|first| first.at.clone()).unwrap_or_default();
        self.flush(into).map_err(|reason| ReadError::Bad { at, reason }.into())
    }
}

impl Ratings {
    fn flush(&mut self, into: &mut Collector<'_>) -> Result<(), BadRecord> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let axes: BTreeMap<String, Vec<Option<f64>>> = AXES
            .iter()
            .enumerate()
            .map(|(axis, name)| {
                ((*name).to_owned(), rows.iter().map(|row| Some(row.ratings[axis])).collect())
            })
            .collect();
        let place = into.item(item(rows.iter()))?;
        let after = into.row_name().to_owned();
        into.begin(rows.iter().map(|row| &row.name[..16]).collect());
        into.judge(place, into.nameless(), Verdict::Ratings { axes })?;
        into.begin(after);
        Ok(())
    }
}

/// The item of consecutive rows of one prompt.
fn item<'a>(rows: impl Iterator<Item = &'a RatedRow> + Clone) -> Item {
    let text = rows.clone().next().map_or("", |first| first.prompt.as_str());
    let candidates = rows.map(|row| {
        let mut candidate = Candidate::text(row.response.as_str());
        candidate.meta.clone_from(&row.meta);
        candidate
    });
    item_in_form(Item::new(Task::Rating, prompt(text), candidates.collect()), text)
}

/// The prompts of HelpSteer2 with several turns: each turn behind `<extra_id_1>` and its role.
const TURN: &str = "<extra_id_1>";

fn prompt(text: &str) -> Vec<Message> {
    let mut turns = text.split(TURN);
    let mut messages = text_prompt(turns.next().unwrap_or("").trim_end_matches('\n'));
    if messages.is_empty() || !text.contains(TURN) {
        return text_prompt(text);
    }
    for turn in turns {
        let (role, said) = turn.split_once('\n').unwrap_or((turn, ""));
        let role = match role.trim() {
            "Assistant" => Role::Assistant,
            "User" => Role::User,
            _ => return text_prompt(text),
        };
        let said = said.strip_suffix('\n').unwrap_or(said);
        messages.push(Message::new(role, said));
    }
    if messages.last().is_some_and(|last| last.role == Role::Assistant && last.content.is_empty()) {
        messages.pop();
    }
    messages
}

/// Keeps the text of a prompt that was taken apart.
fn item_in_form(mut item: Item, text: &str) -> Item {
    if 1 < item.prompt.len() {
        item.meta.insert("prompt".into(), Value::from(text));
    }
    if is_transcript(text) { in_form(item, "text") } else { item }
}

fn prompt_text(item: &Item) -> Option<String> {
    if let Some(text) = item.meta.get("prompt").and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    match item.prompt.as_slice() {
        [one] => Some(one.content.clone()),
        _ => None,
    }
}

/// One row for each candidate of each judgement that rates the five axes.
pub(super) fn write_ratings(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let Verdict::Ratings { axes } = &entry.judgement.verdict else {
            output.drop("no ratings");
            continue;
        };
        let Some(prompt) = prompt_text(entry.item) else {
            output.drop("a prompt of several messages");
            continue;
        };
        let mut rows = Vec::new();
        for (index, candidate) in entry.item.candidates.iter().enumerate() {
            let mut row = row! { "prompt": prompt, "response": candidate.full_text() };
            let rating = |axis: &&str| axes.get(*axis).and_then(|values| values[index]);
            let ratings: Option<Vec<f64>> = AXES.iter().map(rating).collect();
            let Some(ratings) = ratings else { break };
            for (axis, rating) in AXES.iter().zip(ratings) {
                row.insert((*axis).to_owned(), whole(rating));
            }
            row.extend(candidate.meta.clone());
            rows.push(row);
        }
        if rows.len() < entry.item.candidates.len() {
            output.drop(
                "not rated on all of helpfulness, correctness, coherence, complexity, verbosity",
            );
            continue;
        }
        rows.iter().try_for_each(|row| output.line(row))?;
        output.lose_all_but(entry.judgement, &[]);
    }
    Ok(())
}

/// A number, without a point where it is an integer.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
}

/// The verdict of a strength: negative where response 1 is better.
fn verdict(strength: i64) -> Verdict {
    let points = strength.unsigned_abs() as u8;
    match strength {
        NEITHER => Verdict::BothBad,
        0 => Verdict::Tie,
        _ => Verdict::Preferred {
            candidate: usize::from(0 < strength),
            strength: Some(Strength { points, scale: SCALE }),
        },
    }
}

/// The strength of a verdict; an error is the reason why it has none.
fn strength(verdict: &Verdict) -> Result<i64, &'static str> {
    match verdict {
        Verdict::BothBad => Ok(NEITHER),
        Verdict::Tie => Ok(0),
        Verdict::Preferred { strength: None, .. } => Err("a preference without strength"),
        Verdict::Preferred { candidate, strength: Some(strength) } => {
            let points = scaled(*strength, SCALE);
            Ok(if *candidate == 0 { -points } else { points })
        }
        Verdict::CantTell { .. } => Err("can't tell"),
        Verdict::Soft { .. } => Err("a probability"),
        _ => Err("no verdict on a pair"),
    }
}

/// What one annotator of a row says.
struct Opinion {
    strength: i64,
    rationale: Option<String>,
}

fn checked(fields: &JsonFields<'_>, key: &str) -> Result<i64, FieldError> {
    let strength = fields.integer(key, NEITHER, i64::from(SCALE))?;
    if strength == NEITHER || -i64::from(SCALE) <= strength {
        return Ok(strength);
    }
    Err(fields.wrong(key, "an integer from -3 to 3, or -100 for neither"))
}

fn judge(
    into: &mut Collector<'_>,
    place: usize,
    opinions: Vec<Opinion>,
    overall: i64,
) -> Result<(), BadRecord> {
    let name = into.nameless();
    if opinions.is_empty() {
        into.judge(place, name, verdict(overall))?.presented = vec![0, 1];
        return Ok(());
    }
    // Who is who is not told from row to row: the name is that of a place in the list.
    for (index, opinion) in opinions.into_iter().enumerate() {
        let annotator = format!("{name}-{}", index + 1);
        let judgement = into.judge(place, annotator, verdict(opinion.strength))?;
        judgement.presented = vec![0, 1];
        judgement.rationale = opinion.rationale;
    }
    Ok(())
}

fn joined(parts: &[Option<&str>]) -> Option<String> {
    let parts: Vec<&str> =
        parts.iter().flatten().copied().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// `prompt`, `response_1`, `response_2`, `preference_strength`, and each annotator's strength.
pub(super) fn read_preference(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let text = fields.text("prompt")?;
    let overall = checked(&fields, "preference_strength")?;
    let opinions = if fields.has("all_preferences_unprocessed") {
        let list = fields.objects("all_preferences_unprocessed")?;
        let opinion = |one: &JsonFields<'_>| {
            let said = [one.optional_text("statement")?, one.optional_text("elaboration")?];
            Ok(Opinion { strength: checked(one, "strength")?, rationale: joined(&said) })
        };
        list.iter().map(opinion).collect::<Result<Vec<_>, FieldError>>()?
    } else {
        Vec::new()
    };
    let candidates = ["response_1", "response_2"].map(|key| fields.text(key).map(Candidate::text));
    let [first, second] = candidates;
    let mut item = Item::new(Task::Pairwise, prompt(text), vec![first?, second?]);
    item.meta = fields.rest(&["prompt", "response_1", "response_2", "all_preferences_unprocessed"]);
    let place = into.item(item_in_form(item, text))?;
    judge(into, place, opinions, overall)
}

/// `context`, `response1`, `response2`, `overall_preference`, and each annotator's score.
pub(super) fn read_three(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let overall = checked(&fields, "overall_preference")?;
    let opinions = if fields.has("individual_preference") {
        let list = fields.objects("individual_preference")?;
        let opinion = |one: &JsonFields<'_>| {
            let said = ["reasoning", "feedback1", "feedback2"].map(|key| one.optional_text(key));
            let [reasoning, first, second] = said;
            let rationale = joined(&[reasoning?, first?, second?]);
            Ok(Opinion { strength: checked(one, "score")?, rationale })
        };
        list.iter().map(opinion).collect::<Result<Vec<_>, FieldError>>()?
    } else {
        Vec::new()
    };
    let answer = |key: &str| {
        Ok::<_, FieldError>(candidate(vec![Message::new(Role::Assistant, fields.text(key)?)]))
    };
    let candidates = vec![answer("response1")?, answer("response2")?];
    let mut item = Item::new(Task::Pairwise, fields.messages("context")?, candidates);
    item.meta = fields.rest(&["context", "response1", "response2", "individual_preference"]);
    let place = into.item(item)?;
    judge(into, place, opinions, overall)
}

/// The pairs with the judgements that have a strength, and those strengths.
fn pairs<'a>(
    records: &ExportRecords<'a>,
    output: &mut Output<'_>,
) -> Vec<(&'a Item, Vec<(&'a Judgement, i64)>)> {
    let mut pairs = Vec::new();
    for (item, entries) in records.by_item() {
        let mut judged = Vec::new();
        for ExportEntry { judgement, .. } in entries {
            match strength(&judgement.verdict) {
                Ok(_) if !item.candidates.iter().all(is_single) => {
                    output.drop("an answer of several messages");
                }
                Ok(strength) => judged.push((judgement, strength)),
                Err(reason) => output.drop(reason),
            }
        }
        if !judged.is_empty() {
            pairs.push((item, judged));
        }
    }
    pairs
}

/// The mean strength of those who accept one of the responses, rounded; the value of the imported
/// row where there is one.
fn overall(item: &Item, key: &str, judged: &[(&Judgement, i64)]) -> Value {
    if let Some(value) = item.meta.get(key) {
        return value.clone();
    }
    let counted: Vec<i64> =
        judged.iter().map(|(_, strength)| *strength).filter(|one| *one != NEITHER).collect();
    if counted.is_empty() {
        return json!(NEITHER);
    }
    json!((counted.iter().sum::<i64>() as f64 / counted.len() as f64).round() as i64)
}

const KEPT: [Detail; 2] = [Detail::Strength, Detail::Rationale];

fn settle(output: &mut Output<'_>, judged: &[(&Judgement, i64)]) {
    for (judgement, _) in judged {
        output.lose_all_but(judgement, &KEPT);
        let by = judgement.verdict.clone();
        if matches!(by, Verdict::Preferred { strength: Some(s), .. } if s.scale != SCALE) {
            output.lose("scale of the strength");
        }
    }
}

/// One row for each item.
pub(super) fn write_preference(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for (item, judged) in pairs(records, output) {
        let Some(prompt) = prompt_text(item) else {
            output.drop_many("a prompt of several messages", judged.len());
            continue;
        };
        let all = judged.iter().map(|(judgement, strength)| {
            json!({ "strength": strength, "statement": judgement.rationale.as_deref().unwrap_or("") })
        });
        let mut row = row! {
            "prompt": prompt,
            "response_1": item.candidates[0].full_text(),
            "response_2": item.candidates[1].full_text(),
            "preference_strength": overall(item, "preference_strength", &judged),
        };
        row.extend(rest(item, &["preference_strength", "prompt"]));
        row.insert("all_preferences_unprocessed".into(), all.collect());
        output.line(&row)?;
        settle(output, &judged);
    }
    Ok(())
}

/// One row for each item.
pub(super) fn write_three(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for (item, judged) in pairs(records, output) {
        let individual = judged.iter().map(|(judgement, strength)| {
            json!({ "score": strength, "reasoning": judgement.rationale.as_deref().unwrap_or("") })
        });
        let mut row = row! {
            "context": item.prompt,
            "response1": item.candidates[0].full_text(),
            "response2": item.candidates[1].full_text(),
            "overall_preference": overall(item, "overall_preference", &judged),
        };
        row.extend(rest(item, &["overall_preference"]));
        row.insert("individual_preference".into(), individual.collect());
        output.line(&row)?;
        settle(output, &judged);
    }
    Ok(())
}

/// What else the imported row said.
fn rest(item: &Item, but: &[&str]) -> Map<String, Value> {
    let own = |key: &str| but.contains(&key) || key == super::conversation::FORM;
    let rest = item.meta.iter().filter(|(key, _)| !own(key));
    rest.map(|(key, value)| (key.clone(), value.clone())).collect()
}
