//! SHP: pairs of comments, of which the one with more votes is preferred.

use serde_json::{Map, Value, json};

use super::contest::contests;
use super::conversation::{in_form, text_prompt};
use super::error::FormatError;
use super::export::{ExportRecords, Output, Ties, row};
use super::fields::JsonFields;
use super::import::Collector;
use super::trl::decided;
use crate::bad_record::{BadRecord, FieldError};
use crate::feedback::{Candidate, Item, Task, Verdict};
use crate::row::Row;

/// Columns of each of the two comments, without the letter at their end.
const OF_COMMENT: [&str; 3] = ["c_root_id", "created_at_utc", "score"];

/// `labels` is 1 where A is preferred.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let a_wins = fields.flag("labels")?;
    let comment = |letter: &str| -> Result<Candidate, FieldError> {
        let mut candidate = Candidate::text(fields.text(&format!("human_ref_{letter}"))?);
        for name in OF_COMMENT {
            if let Some(value) = fields.get(&format!("{name}_{letter}")) {
                candidate.meta.insert(name.to_owned(), value.clone());
            }
        }
        Ok(candidate)
    };
    let candidates = vec![comment("A")?, comment("B")?];
    let mut known: Vec<String> = ["A", "B"]
        .iter()
        .flat_map(|letter| OF_COMMENT.iter().map(move |name| format!("{name}_{letter}")))
        .collect();
    known.extend(["history", "human_ref_A", "human_ref_B", "labels"].map(str::to_owned));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let mut item = Item::new(Task::Pairwise, text_prompt(fields.text("history")?), candidates);
    item.meta = fields.rest(&known);
    let place = into.item(in_form(item, "text"))?;
    into.judge(place, into.nameless(), Verdict::preferred(usize::from(!a_wins)))?;
    Ok(())
}

/// One row for each preference.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let mut rows = 0;
        for contest in contests(entry, output) {
            let chosen = match (decided(contest, Ties::Drop), entry.item.prompt.as_slice()) {
                (Err(reason), _) => Err(reason),
                (Ok((_, _, Some(_))), _) => Err("a probability"),
                (_, prompt) if prompt.len() != 1 => Err("a prompt of several messages"),
                (Ok((chosen, _, None)), _) => Ok(chosen),
            };
            match chosen {
                Err(reason) => output.drop(reason),
                Ok(chosen) => {
                    let [a, b] =
                        [contest.first, contest.second].map(|at| &entry.item.candidates[at]);
                    output.line(&comments(entry.item, a, b, chosen == contest.first))?;
                    rows += 1;
                }
            }
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, &[]);
        }
    }
    Ok(())
}

fn comments(item: &Item, a: &Candidate, b: &Candidate, a_wins: bool) -> Map<String, Value> {
    let mut row = row! {
        "history": item.prompt[0].content,
        "human_ref_A": a.full_text(),
        "human_ref_B": b.full_text(),
        "labels": i32::from(a_wins),
    };
    for (letter, comment) in [("A", a), ("B", b)] {
        for name in OF_COMMENT {
            row.extend(comment.meta.get(name).map(|v| (format!("{name}_{letter}"), json!(v))));
        }
    }
    let rest = item.meta.iter().filter(|(key, _)| key.as_str() != super::conversation::FORM);
    row.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
    row
}
