//! AlpacaEval: two outputs and a preference from 1 to 2.

use serde_json::{Value, json};

use super::contest::{ContestWinner, contests};
use super::conversation::{in_form, text_prompt};
use super::error::FormatError;
use super::export::{Detail, ExportRecords, Output, row};
use super::fields::JsonFields;
use super::import::Collector;
use crate::bad_record::BadRecord;
use crate::feedback::{Candidate, Item, Origin, Task, Verdict};
use crate::row::Row;

const KNOWN: [&str; 8] = [
    "instruction",
    "output_1",
    "output_2",
    "generator_1",
    "generator_2",
    "preference",
    "annotator",
    "time_per_example",
];

/// `preference` − 1 is the probability that output 2 is better; 0 and 1.5 are ties, and `null` where
/// the annotator gave no answer that could be read.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let mut prompt = fields.text("instruction")?.to_owned();
    if let Some(input) = fields.optional_text("input")?.filter(|input| !input.is_empty()) {
        prompt = format!("{prompt}\n\n{input}");
    }
    let mut candidates = Vec::new();
    for (output, generator) in [("output_1", "generator_1"), ("output_2", "generator_2")] {
        let mut candidate = Candidate::text(fields.text(output)?);
        candidate.model = fields.optional_label(generator)?;
        candidates.push(candidate);
    }
    let mut item = Item::new(Task::Pairwise, text_prompt(&prompt), candidates);
    item.meta = fields.rest(&KNOWN);
    let place = into.item(in_form(item, "text"))?;
    let verdict = match fields.get("preference") {
        None => None,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("nan") => None,
        Some(_) => Some(match fields.number("preference")? {
            0.0 | 1.5 => Verdict::Tie,
            1.0 => Verdict::preferred(0),
            2.0 => Verdict::preferred(1),
            between if 1.0 < between && between < 2.0 => {
                Verdict::Soft { probability: 2.0 - between }
            }
            _ => {
                return Err(fields
                    .wrong("preference", "a number from 1 to 2, or 0 for a tie")
                    .into());
            }
        }),
    };
    let Some(verdict) = verdict else {
        into.leave_out("preference that is null");
        return Ok(());
    };
    let (annotator, origin) = match fields.optional_label("annotator")? {
        Some(annotator) => (annotator, Origin::Ai),
        None => (into.nameless(), Origin::Human),
    };
    let duration_ms = fields.optional_number("time_per_example")?.filter(|s| 0.0 <= *s);
    let judgement = into.judge(place, annotator, verdict)?;
    judgement.origin = origin;
    judgement.duration_ms = duration_ms.map(|seconds| (seconds * 1000.0).round() as u64);
    Ok(())
}

/// One JSON list with a row for each contest.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut rows = Vec::new();
    for entry in &records.entries {
        let mut count = 0;
        for contest in contests(entry, output) {
            let preference = match contest.outcome {
                ContestWinner::First(_) => 1.0,
                ContestWinner::Second(_) => 2.0,
                ContestWinner::Tie => 1.5,
                ContestWinner::Soft(first) => 2.0 - first,
                ContestWinner::BothBad => {
                    output.drop("both bad");
                    continue;
                }
            };
            let [prompt] = entry.item.prompt.as_slice() else {
                output.drop("a prompt of several messages");
                continue;
            };
            let [one, two] = [contest.first, contest.second].map(|at| &entry.item.candidates[at]);
            let mut row = row! {
                "instruction": prompt.content,
                "output_1": one.full_text(),
                "generator_1": one.model,
                "output_2": two.full_text(),
                "generator_2": two.model,
                "annotator": entry.judgement.annotator,
                "preference": preference,
            };
            if let Some(ms) = entry.judgement.duration_ms {
                row.insert("time_per_example".into(), json!(ms as f64 / 1000.0));
            }
            let own = ["input", super::conversation::FORM];
            let rest = entry.item.meta.iter().filter(|(key, _)| !own.contains(&key.as_str()));
            row.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
            rows.push(Value::Object(row));
            count += 1;
        }
        if 0 < count {
            output.lose_all_but(entry.judgement, &[Detail::Annotator, Detail::Time]);
        }
    }
    output.array(&rows)
}
