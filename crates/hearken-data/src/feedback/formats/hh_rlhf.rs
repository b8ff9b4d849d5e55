//! HH-RLHF: `chosen` and `rejected`, whole transcripts.

use super::contest::contests;
use super::conversation::{candidate, in_form, in_text_order, messages, split, transcript, turns};
use super::error::FormatError;
use super::export::{Output, Records, Ties, row};
use super::fields::Fields;
use super::import::Collector;
use super::rows::Row;
use super::trl::decided;
use crate::bad_record::{BadRecord, FieldError};
use crate::content::Message;
use crate::feedback::{Candidate, Item, Task, Verdict};

/// Two conversations whose prompts may differ: the prompt of the item is what they share.
pub(super) fn read(row: &Row, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = Fields::of(&row.columns);
    let (chosen, rejected) = (conversation(&fields, "chosen")?, conversation(&fields, "rejected")?);
    let (prompt, rest) = split(vec![chosen, rejected]);
    if rest.iter().any(|one| 1 < one.len()) {
        into.leave_out("different prompts: the pair keeps them, as answers of several messages");
    }
    let mut rest = rest.into_iter().map(candidate);
    let mut next = || rest.next().expect("there are two conversations");
    let (candidates, first) = in_text_order(next(), next());
    let mut item = Item::new(Task::Pairwise, prompt, candidates);
    item.meta = fields.rest(&["chosen", "rejected"]);
    let place = into.item(in_form(item, "transcript"))?;
    into.judge(place, into.nameless(), Verdict::preferred(first))?;
    Ok(())
}

fn conversation(fields: &Fields<'_>, key: &str) -> Result<Vec<Message>, FieldError> {
    turns(fields.text(key)?)
        .filter(|turns| !turns.is_empty())
        .ok_or_else(|| fields.wrong(key, "a transcript that starts with \"\\n\\nHuman:\""))
}

/// One row for each preference.
pub(super) fn write(records: &Records<'_>, output: &mut Output<'_>) -> Result<(), FormatError> {
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
