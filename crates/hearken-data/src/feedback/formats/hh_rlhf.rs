//! HH-RLHF: `chosen` and `rejected`, whole transcripts.

use super::contest::contests;
use super::conversation::{candidate, in_form, messages, split, transcript, turns};
use super::error::FormatError;
use super::export::{ExportRecords, Output, Ties, row};
use super::fields::JsonFields;
use super::import::Collector;
use super::trl::{decided, in_text_order, read_preference};
use crate::bad_record::{BadRecord, FieldError};
use crate::content::Message;
use crate::feedback::{Candidate, Item, Task, Verdict};
use crate::row::Row;

/// A pair as the trainers read it. People compared whole conversations: pairs of which no trainer can
/// make a record, since their prompts differ or an answer is empty, are kept for analyses all the same.
pub(super) fn read(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    match read_preference(row, into) {
        Err(BadRecord::Field(
            error @ (FieldError::DifferentPrompts { .. } | FieldError::Empty { .. }),
        )) => {
            let fields = JsonFields::of(row);
            match (conversation(&fields, "chosen"), conversation(&fields, "rejected")) {
                (Some(chosen), Some(rejected)) => compared(&fields, [chosen, rejected], into),
                _ => Err(error.into()),
            }
        }
        result => result,
    }
}

/// Two conversations whose prompts may differ: the prompt of the item is what they share.
fn compared(
    fields: &JsonFields<'_>,
    conversations: [Vec<Message>; 2],
    into: &mut Collector<'_>,
) -> Result<(), BadRecord> {
    let (prompt, rest) = split(conversations.into());
    if rest.iter().any(|one| 1 < one.len()) {
        into.leave_out("different prompts: the pair keeps them, as answers of several messages");
    }
    let mut candidates: Vec<Candidate> = rest.into_iter().map(candidate).collect();
    let first = in_text_order(&mut candidates);
    let mut item = Item::new(Task::Pairwise, prompt, candidates);
    item.meta = fields.rest(&["chosen", "rejected"]);
    let place = into.item(in_form(item, "transcript"))?;
    into.judge(place, into.nameless(), Verdict::preferred(first))?;
    Ok(())
}

fn conversation(fields: &JsonFields<'_>, key: &str) -> Option<Vec<Message>> {
    turns(fields.text(key).ok()?).filter(|turns| !turns.is_empty())
}

/// One row for each preference.
pub(super) fn write(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let mut rows = 0;
        for contest in contests(entry, output) {
            let row = decided(contest, Ties::Drop).and_then(|(chosen, rejected, probability)| {
                if probability.is_some() {
                    return Err("a probability");
                }
                let whole = |index: usize| whole(entry.item, &entry.item.candidates[index]);
                Ok(row! { "chosen": whole(chosen)?, "rejected": whole(rejected)? })
            });
            match row {
                Ok(row) => {
                    output.line(&row)?;
                    rows += 1;
                }
                Err(reason) => output.drop(reason),
            }
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, &[]);
        }
    }
    Ok(())
}

fn whole(item: &Item, candidate: &Candidate) -> Result<String, &'static str> {
    if item.prompt.is_empty() && !candidate.meta.contains_key(super::conversation::MESSAGES) {
        return Err("no prompt");
    }
    let conversation: Vec<Message> =
        item.prompt.iter().cloned().chain(messages(candidate)).collect();
    transcript(&conversation).ok_or("a conversation that no transcript can hold")
}
