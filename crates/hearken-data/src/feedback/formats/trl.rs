//! TRL's columns: preferences, single completions, steps, prompts.

use serde_json::{Map, Value, json};

use super::contest::{Contest, ContestWinner, contests, order};
use super::conversation::{
    candidate, form, in_form, is_single, messages, text_prompt, transcript, turns,
};
use super::error::FormatError;
use super::export::{
    Detail, ExportEntry, ExportRecords, NeutralSteps, Output, TextForm, Ties, row,
};
use super::fields::JsonFields;
use super::import::Collector;
use crate::bad_record::BadRecord;
use crate::content::{Content, Message, Role};
use crate::demonstration::Demonstration;
use crate::feedback::{Candidate, Item, Task, Verdict};
use crate::judged_steps::{JudgedSteps, Solution, StepScale};
use crate::preference::Preference;
use crate::prompt::Prompt;
use crate::row::{Record, Row};
use crate::transcript::ASSISTANT;
use crate::unpaired_preference::UnpairedPreference;

/// The messages and candidates of an item, and in which form its file had them.
pub(super) struct Answers {
    pub(super) prompt: Vec<Message>,
    /// In the order of the columns.
    pub(super) candidates: Vec<Candidate>,
    form: &'static str,
}

impl Answers {
    /// What annotators see of a prompt and what completes it. A transcript that the trainers cut in
    /// two is shown as the conversation that it is.
    pub(super) fn of(
        prompt: Option<Content>,
        completions: Vec<Content>,
        is_transcript: bool,
    ) -> Result<Self, BadRecord> {
        if is_transcript && let Some(answers) = Self::of_transcripts(prompt.as_ref(), &completions)
        {
            return Ok(answers);
        }
        let form = match &completions[0] {
            Content::Messages(_) => "messages",
            _ => "text",
        };
        let prompt = match prompt {
            None => Vec::new(),
            Some(Content::Text(text)) => text_prompt(&text),
            Some(Content::Messages(messages)) => messages,
            Some(Content::Ids(_)) => return Err(token_ids()),
        };
        let one = |content| match content {
            Content::Text(text) => Ok(Candidate::text(text)),
            Content::Messages(messages) => Ok(candidate(messages)),
            Content::Ids(_) => Err(token_ids()),
        };
        let candidates = completions.into_iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { prompt, candidates, form })
    }

    /// `None` where the messages would not give the transcript back, to the letter.
    fn of_transcripts(prompt: Option<&Content>, completions: &[Content]) -> Option<Self> {
        let Some(Content::Text(whole)) = prompt else { return None };
        let prompt = turns(whole.strip_suffix(ASSISTANT)?)?;
        if transcript(&prompt)? + ASSISTANT != *whole {
            return None;
        }
        let one = |content: &Content| match content {
            Content::Text(text) => text.strip_prefix(' ').map(Candidate::text),
            _ => None,
        };
        let candidates = completions.iter().map(one).collect::<Option<_>>()?;
        Some(Self { prompt, candidates, form: "transcript" })
    }

    pub(super) fn item(self, task: Task, meta: Map<String, Value>) -> Item {
        let mut item = Item::new(task, self.prompt, self.candidates);
        item.meta = meta;
        if self.form == "messages" { item } else { in_form(item, self.form) }
    }
}

fn token_ids() -> BadRecord {
    let what = "found token ids, which people cannot read; expected text or lists of messages";
    BadRecord::Unfit { what: what.into() }
}

/// A pair as the trainers read it: the item's parts, and which of its candidates is chosen.
pub(super) fn pair(row: &Row<'_>) -> Result<(Preference, Answers), BadRecord> {
    let preference = Preference::from_row(row)?;
    let sides = vec![preference.chosen.clone(), preference.rejected.clone()];
    let is_transcript = !row.has("prompt");
    let answers = Answers::of(preference.prompt.clone(), sides, is_transcript)?;
    Ok((preference, answers))
}

/// Two candidates in the order of their texts, so that the order tells nothing of the verdict and
/// one pair is one item, whoever won; and the place of the first one.
pub(super) fn in_text_order(candidates: &mut [Candidate]) -> usize {
    if candidates[0].text <= candidates[1].text {
        return 0;
    }
    candidates.swap(0, 1);
    1
}

/// `prompt?`, `chosen`, `rejected`; with Hearken's `probability`, a soft preference.
pub(super) fn read_preference(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let (preference, mut answers) = pair(row)?;
    let first = in_text_order(&mut answers.candidates);
    let known = ["prompt", "chosen", "rejected", "probability", "margin"];
    let item = answers.item(Task::Pairwise, JsonFields::of(row).rest(&known));
    let place = into.item(item)?;
    let verdict = match preference.probability {
        None => Verdict::preferred(first),
        Some(p) => Verdict::Soft { probability: if first == 0 { p } else { 1.0 - p } },
    };
    let margin = preference.margin.map(|margin| if first == 0 { margin } else { -margin });
    into.judge(place, into.nameless(), verdict)?.margin = margin;
    Ok(())
}

/// `prompt`, `completion`, `label`.
pub(super) fn read_unpaired(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let judged = UnpairedPreference::from_row(row)?;
    let answers = Answers::of(Some(judged.prompt), vec![judged.completion], false)?;
    let meta = JsonFields::of(row).rest(&["prompt", "completion", "label"]);
    let place = into.item(answers.item(Task::Rating, meta))?;
    into.judge(place, into.nameless(), Verdict::Approval { good: judged.label })?;
    Ok(())
}

/// Solutions whose steps are labelled, in every form that trainers read but that of token ids.
pub(super) fn read_stepwise(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let judged = JudgedSteps::from_row(row)?;
    let Solution::Texts { prompt, steps } = judged.solution else { return Err(token_ids()) };
    let label = |label: &Option<f64>| match (*label, judged.scale) {
        (None, _) => Ok(None),
        (Some(label), Some(StepScale::Ternary)) => Ok(Some(label as i8)),
        (Some(label), _) if label <= 0.0 => Ok(Some(-1)),
        (Some(label), _) if 1.0 <= label => Ok(Some(1)),
        (Some(label), _) => Err(BadRecord::Unfit {
            what: format!(
                "found the probability {label} of a step, expected labels that say good or bad"
            ),
        }),
    };
    let labels: Vec<Option<i8>> = judged.labels.iter().map(label).collect::<Result<_, _>>()?;
    let (prompt, is_text) = match prompt {
        Content::Text(text) => (text_prompt(&text), true),
        Content::Messages(messages) => (messages, false),
        Content::Ids(_) => return Err(token_ids()),
    };
    let mut item =
        Item::new(Task::Steps, prompt, vec![Candidate { steps, ..Candidate::default() }]);
    item.meta = judged.extra;
    let place = into.item(if is_text { in_form(item, "text") } else { item })?;
    into.judge(place, into.nameless(), Verdict::Steps { labels })?;
    Ok(())
}

/// Sequences to imitate: there is nothing to compare or to judge.
pub(super) fn read_demonstration(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    Demonstration::from_row(row)?;
    into.leave_out("demonstration, which nobody judged");
    Ok(())
}

/// Prompts alone.
pub(super) fn read_prompt(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    into.prompt(match Prompt::from_row(row)?.prompt {
        Content::Text(text) => text_prompt(&text),
        Content::Messages(messages) => messages,
        Content::Ids(_) => return Err(token_ids()),
    });
    Ok(())
}

/// Prompt and answers as a row has them, in one form.
struct WrittenRow {
    prompt: Option<Value>,
    answers: Vec<Value>,
}

/// The prompt and some answers of an item; what stands in the way is a reason to drop the record.
fn written(
    item: &Item,
    candidates: &[&Candidate],
    wish: TextForm,
) -> Result<WrittenRow, &'static str> {
    if candidates.iter().any(|one| !one.media.is_empty()) || !item.media.is_empty() {
        return Err("images");
    }
    let are_single = candidates.iter().all(|one| is_single(one));
    let is_text = match wish {
        TextForm::AsImported => match form(item) {
            "text" => true,
            "transcript" => are_single && transcript(&item.prompt).is_some(),
            _ => false,
        },
        TextForm::Text => true,
        TextForm::Messages => false,
    };
    let is_answer = |one: &&Candidate| messages(one)[0].role == Role::Assistant;
    let is_transcript = form(item) == "transcript";
    let share_a_prompt =
        !is_transcript && !item.prompt.is_empty() && candidates.iter().all(is_answer);
    if !are_single && !share_a_prompt {
        return Err("different prompts");
    }
    // The trainers take blanks for an answer where it stands alone, not at the end of a transcript.
    let is_empty = |one: &&Candidate| {
        let said = &messages(one)[0];
        said.is_empty() || is_transcript && said.content.trim().is_empty()
    };
    if candidates.iter().any(is_empty) {
        return Err("an empty answer");
    }
    let texts = || candidates.iter().map(|one| Value::from(one.full_text())).collect();
    if item.prompt.is_empty() {
        return Ok(WrittenRow { prompt: None, answers: texts() });
    }
    if !is_text {
        let answers = candidates.iter().map(|one| json!(messages(one))).collect();
        return Ok(WrittenRow { prompt: Some(json!(item.prompt)), answers });
    }
    match (item.prompt.as_slice(), are_single) {
        ([only], true) if only.role == Role::User && !only.has_more() && !is_transcript => {
            Ok(WrittenRow { prompt: Some(Value::from(only.content.as_str())), answers: texts() })
        }
        (prompt, true) => {
            let prompt = transcript(prompt).ok_or("a conversation that no text can hold")?;
            let answers =
                candidates.iter().map(|one| Value::from(format!(" {}", one.full_text()))).collect();
            Ok(WrittenRow { prompt: Some(Value::from(prompt + ASSISTANT)), answers })
        }
        _ => Err("a conversation that no text can hold"),
    }
}

/// The prompt and the answers of an item as trainers read them, in the form that its file had.
///
/// # Errors
/// Why trainers cannot read it: images, an empty answer, answers that do not share the prompt.
pub fn contents_of(item: &Item) -> Result<(Option<Content>, Vec<Content>), &'static str> {
    let read = |value: Value| match value {
        Value::String(text) => Ok(Content::Text(text)),
        other => serde_json::from_value(other).map(Content::Messages).map_err(|_| "messages"),
    };
    let candidates: Vec<&Candidate> = item.candidates.iter().collect();
    let WrittenRow { prompt, answers } = written(item, &candidates, TextForm::AsImported)?;
    let prompt = prompt.map(read).transpose()?;
    Ok((prompt, answers.into_iter().map(read).collect::<Result<_, _>>()?))
}

/// One row for each preference.
pub(super) fn write_preferences(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let mut rows = 0;
        for contest in contests(entry, output) {
            match preference(entry, contest, output) {
                Ok(row) => {
                    output.line(&row)?;
                    rows += 1;
                }
                Err(reason) => output.drop(reason),
            }
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, &[Detail::Margin]);
        }
    }
    Ok(())
}

/// The chosen and the rejected candidate, and the probability of that where it is soft.
pub(super) fn decided(
    contest: Contest,
    ties: Ties,
) -> Result<(usize, usize, Option<f64>), &'static str> {
    let Contest { first, second, outcome } = contest;
    match (outcome, ties) {
        (ContestWinner::First(_), _) => Ok((first, second, None)),
        (ContestWinner::Second(_), _) => Ok((second, first, None)),
        (ContestWinner::Tie, Ties::Half) => Ok((first, second, Some(0.5))),
        (ContestWinner::Tie, Ties::Drop) => Err("tie"),
        (ContestWinner::Soft(p), _) if 0.5 <= p => Ok((first, second, Some(p))),
        (ContestWinner::Soft(p), _) => Ok((second, first, Some(1.0 - p))),
        (ContestWinner::BothBad, _) => Err("both bad"),
    }
}

fn preference(
    entry: &ExportEntry<'_>,
    contest: Contest,
    output: &Output<'_>,
) -> Result<Map<String, Value>, &'static str> {
    let (chosen, rejected, probability) = decided(contest, output.options.ties)?;
    let pair = [chosen, rejected].map(|index| &entry.item.candidates[index]);
    let WrittenRow { prompt, answers } = written(entry.item, &pair, output.options.form)?;
    if answers[0] == answers[1] {
        return Err("identical answers");
    }
    let mut row = Map::new();
    row.extend(prompt.map(|prompt| ("prompt".to_owned(), prompt)));
    row.extend(["chosen", "rejected"].map(str::to_owned).into_iter().zip(answers));
    let margin = entry.judgement.margin.map(|margin| if chosen == 0 { margin } else { -margin });
    row.extend(margin.map(|margin| ("margin".to_owned(), json!(margin))));
    row.extend(probability.map(|probability| ("probability".to_owned(), json!(probability))));
    Ok(row)
}

/// Single completions with a label: of a decided pair, both; of two bad ones, both as bad.
pub(super) fn write_unpaired(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let mut labels: Vec<(usize, bool)> = Vec::new();
        if let Verdict::Approval { good } = entry.judgement.verdict {
            labels.push((0, good));
        } else {
            for contest in contests(entry, output) {
                match decided(contest, Ties::Drop) {
                    Ok((_, _, Some(_))) => output.drop("a probability"),
                    Ok((chosen, rejected, None)) => {
                        labels.extend([(chosen, true), (rejected, false)]);
                    }
                    Err("both bad") => {
                        labels.extend([(contest.first, false), (contest.second, false)]);
                    }
                    Err(reason) => output.drop(reason),
                }
            }
        }
        let mut rows = 0;
        for (index, good) in labels {
            match written(entry.item, &[&entry.item.candidates[index]], output.options.form) {
                Ok(WrittenRow { prompt: Some(prompt), answers }) => {
                    let completion = &answers[0];
                    output.line(
                        &row! { "prompt": prompt, "completion": completion, "label": good },
                    )?;
                    rows += 1;
                }
                Ok(WrittenRow { prompt: None, .. }) => output.drop("no prompt"),
                Err(reason) => output.drop(reason),
            }
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, &[]);
        }
    }
    Ok(())
}

/// The best answer of each judgement that has one, and single answers that are approved; each
/// answer once.
pub(super) fn write_demonstrations(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut seen = std::collections::HashSet::new();
    for entry in &records.entries {
        let mut chosen: Vec<usize> = Vec::new();
        if let Verdict::Approval { good: true } = entry.judgement.verdict {
            chosen.push(0);
        } else if let Some([best, ..]) = order(entry.item, &entry.judgement.verdict).as_deref() {
            match best.as_slice() {
                [one] => chosen.push(*one),
                _ => output.drop("several best answers"),
            }
        } else {
            output.drop("no best answer");
        }
        for index in chosen {
            if !seen.insert((entry.place, index)) {
                output.drop("an answer that is there already");
                continue;
            }
            match written(entry.item, &[&entry.item.candidates[index]], output.options.form) {
                Ok(WrittenRow { prompt: Some(prompt), answers }) => {
                    output.line(&row! { "prompt": prompt, "completion": answers[0] })?;
                    output.lose_all_but(entry.judgement, &[]);
                }
                Ok(WrittenRow { prompt: None, .. }) => output.drop("no prompt"),
                Err(reason) => output.drop(reason),
            }
        }
    }
    Ok(())
}

/// Solutions with a label for each step up to the last that is labelled.
pub(super) fn write_stepwise(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let Verdict::Steps { labels } = &entry.judgement.verdict else {
            output.drop("no step labels");
            continue;
        };
        let end = labels.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if output.options.neutral_steps == NeutralSteps::Keep && 0 < end {
            let steps = &entry.item.candidates[0].steps;
            let prompt = stepwise_prompt(entry.item);
            output.line(&row! { "prompt": prompt, "completions": steps, "ratings": labels })?;
            output.lose_all_but(entry.judgement, &[]);
            continue;
        }
        let flags: Result<Vec<bool>, &'static str> = labels[..end]
            .iter()
            .map(|label| match (label, output.options.neutral_steps) {
                (None, _) => Err("a step without a label before one that has it"),
                (Some(1), _) | (Some(0), NeutralSteps::Good) => Ok(true),
                (Some(0), NeutralSteps::Drop | NeutralSteps::Keep) => Err("a neutral step"),
                (Some(_), _) => Ok(false),
            })
            .collect();
        let flags = match flags {
            Ok(flags) if flags.is_empty() => Err("no step labels"),
            flags => flags,
        };
        match flags {
            Err(reason) => output.drop(reason),
            Ok(flags) => {
                let steps = &entry.item.candidates[0].steps[..end];
                if end < labels.len() {
                    output.lose("steps after the last label");
                }
                let prompt = stepwise_prompt(entry.item);
                output.line(&row! { "prompt": prompt, "completions": steps, "labels": flags })?;
                output.lose_all_but(entry.judgement, &[]);
            }
        }
    }
    Ok(())
}

fn stepwise_prompt(item: &Item) -> Value {
    match (form(item), item.prompt.as_slice()) {
        ("text", [one]) => Value::from(one.content.as_str()),
        (_, prompt) => json!(prompt),
    }
}

/// The distinct prompts of the items.
pub(super) fn write_prompts(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut seen = std::collections::HashSet::new();
    for item in records.items {
        let none = Candidate::text("-");
        match written(item, &[&none], output.options.form) {
            Ok(WrittenRow { prompt: Some(prompt), .. }) => {
                if seen.insert(prompt.to_string()) {
                    output.line(&row! { "prompt": prompt })?;
                }
            }
            Ok(WrittenRow { prompt: None, .. }) => output.drop("no prompt"),
            Err(reason) => output.drop(reason),
        }
    }
    output.drop_many("judgement", records.entries.len());
    Ok(())
}
