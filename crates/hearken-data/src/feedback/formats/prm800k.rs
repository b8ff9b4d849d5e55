//! PRM800K: a label for each step of a solution, and for its alternatives.

use serde_json::{Map, Value, json};

use super::conversation::text_prompt;
use super::error::FormatError;
use super::export::{Detail, ExportRecords, Output, row};
use super::fields::JsonFields;
use super::import::Collector;
use crate::bad_record::{BadRecord, FieldError};
use crate::calendar;
use crate::feedback::{Candidate, Item, Task, Verdict};
use crate::row::Row;

/// The key of [`Item::meta`] that names the solution to which an item is an alternative.
const ALTERNATIVE: &str = "alternative_to";

/// A step and its label.
#[derive(Clone)]
struct LabelledStep {
    text: String,
    label: Option<i8>,
}

/// The path that the labeler took, and the other completions of each step.
struct Solution {
    path: Vec<LabelledStep>,
    /// The step's place, and what else was offered there.
    alternatives: Vec<(usize, LabelledStep)>,
}

/// Whether a row that may lack its `labeler` is one: a question with its problem, and steps in the label.
pub(super) fn is_row(columns: &Map<String, Value>) -> bool {
    let has = |column: &str, key: &str| {
        columns
            .get(column)
            .and_then(Value::as_object)
            .is_some_and(|object| object.contains_key(key))
    };
    has("question", "problem") && has("label", "steps")
}

/// One item for the path that was taken, and one for each alternative, whose last step alone is
/// labelled.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let (question, label) = (fields.object("question")?, fields.object("label")?);
    let problem = question.text("problem")?;
    let reason = label.optional_text("finish_reason")?.unwrap_or("");
    let mut solution = solution(&label, into)?;
    if solution.path.is_empty() {
        // A problem that was given up before its first step still has the steps it came with.
        let given = if question.has("pre_generated_steps") {
            question.texts("pre_generated_steps")?
        } else {
            Vec::new()
        };
        solution.path = given.into_iter().map(|text| LabelledStep { text, label: None }).collect();
    }
    if solution.path.is_empty() {
        into.leave_out("solution without steps");
        return Ok(());
    }
    let gave_up = matches!(reason, "give_up" | "bad_problem");
    let labels: Vec<Option<i8>> = solution.path.iter().map(|step| step.label).collect();
    let verdict = if gave_up && labels.iter().all(Option::is_none) {
        Verdict::CantTell { reason: reason.to_owned() }
    } else {
        Verdict::Steps { labels }
    };
    let at = label_time(&fields)?.unwrap_or_default();
    let judged = LabellingSession {
        annotator: fields.optional_label("labeler")?.unwrap_or_else(|| into.nameless()),
        at,
        duration_ms: label
            .optional_number("total_time")?
            .filter(|ms| 0.0 <= *ms)
            .map(|ms| ms as u64),
    };
    let mut meta = fields.rest(&["labeler", "timestamp", "question", "label"]);
    meta.extend(question.rest(&["problem"]));
    if !reason.is_empty() {
        meta.insert("finish_reason".into(), Value::from(reason));
    }
    let texts = |steps: &[LabelledStep]| steps.iter().map(|step| step.text.clone()).collect();
    let main = item(problem, texts(&solution.path), meta.clone());
    let main_id = main.id.clone();
    let place = into.item(main)?;
    judged.judge(place, verdict, into)?;
    for (at, step) in solution.alternatives {
        let mut steps: Vec<String> = texts(&solution.path[..at]);
        steps.push(step.text);
        let mut meta = meta.clone();
        meta.insert(ALTERNATIVE.into(), Value::from(main_id.as_str()));
        let mut labels = vec![None; at];
        labels.push(step.label);
        let place = into.item(item(problem, steps, meta))?;
        judged.judge(place, Verdict::Steps { labels }, into)?;
    }
    Ok(())
}

fn label_time(fields: &JsonFields<'_>) -> Result<Option<i64>, FieldError> {
    let Some(text) = fields.optional_text("timestamp")? else { return Ok(None) };
    let wrong = || fields.wrong("timestamp", "a time such as 2022-07-24T01:29:50.512");
    calendar::parse_time(text).map(Some).ok_or_else(wrong)
}

/// Who labelled, when, and for how long.
struct LabellingSession {
    annotator: String,
    at: i64,
    duration_ms: Option<u64>,
}

impl LabellingSession {
    fn judge(
        &self,
        place: usize,
        verdict: Verdict,
        into: &mut Collector<'_>,
    ) -> Result<(), BadRecord> {
        let judgement = into.judge(place, self.annotator.as_str(), verdict)?;
        judgement.at = self.at;
        judgement.duration_ms = self.duration_ms;
        Ok(())
    }
}

fn item(problem: &str, steps: Vec<String>, meta: Map<String, Value>) -> Item {
    let candidate = Candidate { steps, ..Candidate::default() };
    let mut item = Item::new(Task::Steps, text_prompt(problem), vec![candidate]);
    item.meta = meta;
    item
}

/// `completions` may be `null` where a human wrote the step; `chosen_completion` is `null` there, and
/// where the solution ends with an error.
fn solution(label: &JsonFields<'_>, into: &mut Collector<'_>) -> Result<Solution, FieldError> {
    let mut solution = Solution { path: Vec::new(), alternatives: Vec::new() };
    let steps = if label.has("steps") { label.objects("steps")? } else { Vec::new() };
    let count = steps.len();
    for (place, step) in steps.iter().enumerate() {
        let mut offered = Vec::new();
        if step.has("completions") {
            for completion in step.objects("completions")? {
                let rated = completion.has("rating");
                let rating = rated.then(|| completion.integer("rating", -1, 1)).transpose()?;
                if completion.is_set("flagged")? {
                    into.leave_out("flag on a step");
                }
                let text = completion.text("text")?.to_owned();
                offered.push(LabelledStep { text, label: rating.map(|rating| rating as i8) });
            }
        }
        let chosen = if step.has("chosen_completion") {
            let chosen = step.integer("chosen_completion", 0, i64::from(u32::MAX))? as usize;
            if offered.len() <= chosen {
                let expected = format!("the place of one of {} completions", offered.len());
                return Err(step.wrong("chosen_completion", &expected));
            }
            Some(chosen)
        } else {
            None
        };
        let taken = match (chosen, human(step)?) {
            (Some(chosen), _) => Some(offered.remove(chosen)),
            (None, Some(text)) => Some(LabelledStep { text, label: None }),
            // The last step, after which nothing was chosen: what is wrong with it is the label.
            (None, None) if !offered.is_empty() => Some(offered.remove(0)),
            (None, None) => None,
        };
        let at = solution.path.len();
        solution.alternatives.extend(offered.into_iter().map(|step| (at, step)));
        match taken {
            Some(taken) => solution.path.push(taken),
            None if place + 1 == count => into.leave_out("last step without a text"),
            None => {
                return Err(step.error(
                    "completions",
                    "nothing, and no human_completion".into(),
                    "the text of the step",
                ));
            }
        }
    }
    Ok(solution)
}

/// A step that a human wrote: a text, or an object with one.
fn human(step: &JsonFields<'_>) -> Result<Option<String>, FieldError> {
    match step.get("human_completion") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Object(_)) => {
            Ok(Some(step.object("human_completion")?.text("text")?.to_owned()))
        }
        Some(_) => Err(step.wrong("human_completion", "text, or an object with `text`")),
    }
}

/// One row for each judgement of steps; steps without a label are written as those of a human.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    const QUESTION: [&str; 5] = [
        "ground_truth_solution",
        "ground_truth_answer",
        "pre_generated_steps",
        "pre_generated_answer",
        "pre_generated_verifier_score",
    ];
    for entry in &records.entries {
        let (item, judgement) = (entry.item, entry.judgement);
        if item.task != Task::Steps || item.prompt.len() != 1 {
            output.drop("no solution of steps with a problem of one message");
            continue;
        }
        let texts = &item.candidates[0].steps;
        let (steps, gave_up): (Vec<Value>, Option<&str>) = match &judgement.verdict {
            Verdict::Steps { labels } => {
                (texts.iter().zip(labels).map(|(text, label)| step(text, *label)).collect(), None)
            }
            Verdict::CantTell { reason } => (Vec::new(), Some(reason)),
            _ => {
                output.drop("no step labels");
                continue;
            }
        };
        let found_error = matches!(&judgement.verdict, Verdict::Steps { labels } if labels.last() == Some(&Some(-1)));
        let given = item.meta.get("finish_reason").and_then(Value::as_str);
        let reason =
            gave_up.or(given).unwrap_or(if found_error { "found_error" } else { "solution" });
        let mut question = row! { "problem": item.prompt[0].content };
        let mut row = row! { "labeler": judgement.annotator, "timestamp": Value::Null };
        if judgement.at != 0 {
            row.insert("timestamp".into(), json!(calendar::time(judgement.at)));
        }
        let own = ["finish_reason", ALTERNATIVE, super::conversation::FORM];
        for (key, value) in item.meta.iter().filter(|(key, _)| !own.contains(&key.as_str())) {
            let of_question = QUESTION.contains(&key.as_str());
            if of_question { &mut question } else { &mut row }.insert(key.clone(), value.clone());
        }
        if gave_up.is_some() {
            question.insert("pre_generated_steps".into(), json!(texts));
        }
        row.insert("question".into(), Value::Object(question));
        let time = judgement.duration_ms;
        row.insert(
            "label".into(),
            json!({ "steps": steps, "total_time": time, "finish_reason": reason }),
        );
        output.line(&row)?;
        output.lose_all_but(judgement, &[Detail::Annotator, Detail::Time, Detail::Presented]);
    }
    Ok(())
}

fn step(text: &str, label: Option<i8>) -> Value {
    match label {
        Some(rating) => json!({
            "completions": [{ "text": text, "rating": rating, "flagged": null }],
            "human_completion": null,
            "chosen_completion": 0,
        }),
        None => json!({ "completions": null, "human_completion": text, "chosen_completion": null }),
    }
}
