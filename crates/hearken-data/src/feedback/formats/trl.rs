//! TRL's columns: preferences, single completions, steps, prompts.

use serde_json::{Map, Value, json};

use super::contest::{Contest, Outcome, contests, order};
use super::conversation::{
    candidate, form, in_form, in_text_order, is_single, messages, split, text_prompt, transcript,
};
use super::error::FormatError;
use super::export::{Entry, NeutralSteps, Output, Records, TextForm, Ties, row};
use super::fields::{Fields, truth};
use super::import::Collector;
use super::rows::Row;
use crate::bad_record::{BadRecord, FieldError};
use crate::content::{Message, Role};
use crate::feedback::{Candidate, Item, Task, Verdict};
use crate::row::describe;
use crate::transcript::ASSISTANT;

/// Text or messages.
enum Side {
    Text(String),
    Messages(Vec<Message>),
}

fn side(fields: &Fields<'_>, key: &str) -> Result<Side, FieldError> {
    match fields.get(key) {
        Some(Value::String(text)) => Ok(Side::Text(text.clone())),
        Some(Value::Array(_)) => Ok(Side::Messages(fields.messages(key)?)),
        _ => Err(fields.wrong(key, "text or a list of messages")),
    }
}

fn optional_side(fields: &Fields<'_>, key: &str) -> Result<Option<Side>, FieldError> {
    fields.has(key).then(|| side(fields, key)).transpose()
}

/// The prompt and the answers that follow it, with the form they were in.
struct Answers {
    prompt: Vec<Message>,
    candidates: Vec<Candidate>,
    form: &'static str,
}

impl Answers {
    fn item(self, task: Task, candidates: Vec<Candidate>, meta: Map<String, Value>) -> Item {
        let mut item = Item::new(task, self.prompt, candidates);
        item.meta = meta;
        if self.form == "text" { in_form(item, self.form) } else { item }
    }
}

fn answers(
    fields: &Fields<'_>,
    prompt: Option<Side>,
    sides: Vec<(&str, Side)>,
) -> Result<Answers, FieldError> {
    let texts: Option<Vec<&str>> = sides
        .iter()
        .map(|(_, side)| match side {
            Side::Text(text) => Some(text.as_str()),
            Side::Messages(_) => None,
        })
        .collect();
    if let (Some(texts), None | Some(Side::Text(_))) = (texts, &prompt) {
        let prompt = match &prompt {
            Some(Side::Text(text)) => text_prompt(text),
            _ => Vec::new(),
        };
        let candidates = texts.into_iter().map(Candidate::text).collect();
        return Ok(Answers { prompt, candidates, form: "text" });
    }
    let mut conversations = Vec::new();
    for (key, side) in sides {
        match side {
            Side::Messages(messages) if messages.is_empty() => {
                return Err(fields.error(key, "an empty list".into(), "at least one message"));
            }
            Side::Messages(messages) => conversations.push(messages),
            Side::Text(_) => {
                return Err(fields.wrong(key, "a list of messages, as in the other columns"));
            }
        }
    }
    let (prompt, rest) = match prompt {
        // With an explicit prompt of messages, the sides mostly hold the last message alone.
        Some(Side::Messages(prompt)) => {
            let repeats = conversations
                .iter()
                .all(|one| one.starts_with(&prompt) && prompt.len() < one.len());
            let skip = if repeats { prompt.len() } else { 0 };
            let rest = conversations.into_iter().map(|mut one| one.split_off(skip)).collect();
            (prompt, rest)
        }
        // A prompt that is text repeats the first message, as in UltraFeedback.
        Some(Side::Text(_)) | None => split(conversations),
    };
    let candidates = rest.into_iter().map(candidate).collect();
    Ok(Answers { prompt, candidates, form: "messages" })
}

/// `prompt?`, `chosen`, `rejected`; with Hearken's `probability`, a soft preference.
pub(super) fn read_preference(row: &Row, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = Fields::of(&row.columns);
    let sides =
        vec![("chosen", side(&fields, "chosen")?), ("rejected", side(&fields, "rejected")?)];
    let mut answers = answers(&fields, optional_side(&fields, "prompt")?, sides)?;
    let probability = fields.optional_number("probability")?;
    if probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
        return Err(fields.wrong("probability", "a number from 0 to 1").into());
    }
    if fields.has("margin") {
        into.leave_out("margin of a preference");
    }
    let rejected = answers.candidates.pop().expect("there are two sides");
    let chosen = answers.candidates.pop().expect("there are two sides");
    let (candidates, first) = in_text_order(chosen, rejected);
    let meta = fields.rest(&["prompt", "chosen", "rejected", "probability", "margin"]);
    let place = into.item(answers.item(Task::Pairwise, candidates, meta))?;
    let verdict = match probability {
        None => Verdict::preferred(first),
        Some(p) => Verdict::Soft { probability: if first == 0 { p } else { 1.0 - p } },
    };
    into.judge(place, into.nameless(), verdict)?;
    Ok(())
}

/// `prompt`, `completion`, `label`.
pub(super) fn read_unpaired(row: &Row, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = Fields::of(&row.columns);
    let sides = vec![("completion", side(&fields, "completion")?)];
    let mut answers = answers(&fields, Some(side(&fields, "prompt")?), sides)?;
    let good = fields.flag("label")?;
    let meta = fields.rest(&["prompt", "completion", "label"]);
    let candidates = std::mem::take(&mut answers.candidates);
    let place = into.item(answers.item(Task::Rating, candidates, meta))?;
    into.judge(place, into.nameless(), Verdict::Approval { good })?;
    Ok(())
}

/// `prompt`, `completions`, `labels`: true is a good step, false a bad one.
pub(super) fn read_stepwise(row: &Row, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = Fields::of(&row.columns);
    let steps = fields.texts("completions")?;
    let label = |(index, value): (usize, &Value)| {
        let key = format!("labels[{index}]");
        let wrong = || fields.error(&key, describe(value), "true or false");
        truth(value).map(|good| Some(if good { 1 } else { -1 })).ok_or_else(wrong)
    };
    let labels: Vec<Option<i8>> =
        fields.list("labels")?.iter().enumerate().map(label).collect::<Result<_, _>>()?;
    if labels.len() != steps.len() {
        let found = format!("{} labels", labels.len());
        let expected = format!("{}, one for each of `completions`", steps.len());
        return Err(fields.error("labels", found, &expected).into());
    }
    let (prompt, is_text) = match side(&fields, "prompt")? {
        Side::Text(text) => (text_prompt(&text), true),
        Side::Messages(messages) => (messages, false),
    };
    let mut item =
        Item::new(Task::Steps, prompt, vec![Candidate { steps, ..Candidate::default() }]);
    item.meta = fields.rest(&["prompt", "completions", "labels"]);
    let place = into.item(if is_text { in_form(item, "text") } else { item })?;
    into.judge(place, into.nameless(), Verdict::Steps { labels })?;
    Ok(())
}

/// `prompt` and `completion`: there is nothing to compare or to judge.
#[allow(clippy::unnecessary_wraps)] // one signature for every format
pub(super) fn read_demonstration(_: &Row, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    into.leave_out("demonstration, which nobody judged");
    Ok(())
}

/// `prompt` alone.
pub(super) fn read_prompt(row: &Row, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let prompt = match side(&Fields::of(&row.columns), "prompt")? {
        Side::Text(text) => text_prompt(&text),
        Side::Messages(messages) => messages,
    };
    into.prompt(prompt);
    Ok(())
}

/// Prompt and answers as a row has them, in one form.
struct Written {
    prompt: Option<Value>,
    answers: Vec<Value>,
}

/// Whether conversations start with the assistant and differ in nothing but what it says.
fn differ_in_answers_alone(candidates: &[&Candidate]) -> bool {
    let asked = |candidate: &&Candidate| -> Vec<Option<Message>> {
        let messages = messages(candidate).into_iter();
        messages.map(|one| (one.role != Role::Assistant).then_some(one)).collect()
    };
    let first = asked(&candidates[0]);
    first.first() == Some(&None) && candidates.iter().all(|one| asked(one) == first)
}

/// The prompt and some answers of an item; what stands in the way is a reason to drop the record.
fn written(
    item: &Item,
    candidates: &[&Candidate],
    wish: TextForm,
) -> Result<Written, &'static str> {
    if candidates.iter().any(|one| !one.media.is_empty()) || !item.media.is_empty() {
        return Err("images");
    }
    let is_text = match wish {
        TextForm::AsImported => form(item) == "text",
        TextForm::Text => true,
        TextForm::Messages => false,
    };
    if !candidates.iter().all(|one| is_single(one)) && !differ_in_answers_alone(candidates) {
        return Err("different prompts");
    }
    if candidates.iter().any(|one| one.full_text().trim().is_empty()) {
        return Err("an empty answer");
    }
    let texts = || candidates.iter().map(|one| Value::from(one.full_text())).collect();
    if item.prompt.is_empty() {
        return Ok(Written { prompt: None, answers: texts() });
    }
    if !is_text {
        let answers = candidates.iter().map(|one| json!(messages(one))).collect();
        return Ok(Written { prompt: Some(json!(item.prompt)), answers });
    }
    match (item.prompt.as_slice(), candidates.iter().all(|one| is_single(one))) {
        ([Message { role: Role::User, content }], true) if form(item) != "transcript" => {
            Ok(Written { prompt: Some(Value::from(content.as_str())), answers: texts() })
        }
        (prompt, true) => {
            let prompt = transcript(prompt).ok_or("a conversation that no text can hold")?;
            let answers =
                candidates.iter().map(|one| Value::from(format!(" {}", one.full_text()))).collect();
            Ok(Written { prompt: Some(Value::from(prompt + ASSISTANT)), answers })
        }
        _ => Err("a conversation that no text can hold"),
    }
}

/// One row for each preference.
pub(super) fn write_preferences(
    records: &Records<'_>,
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
            output.lose_all_but(entry.judgement, &[]);
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
        (Outcome::First(_), _) => Ok((first, second, None)),
        (Outcome::Second(_), _) => Ok((second, first, None)),
        (Outcome::Soft(0.5) | Outcome::Tie, Ties::Half) => Ok((first, second, Some(0.5))),
        (Outcome::Soft(0.5) | Outcome::Tie, Ties::Drop) => Err("tie"),
        (Outcome::Soft(p), _) if 0.5 < p => Ok((first, second, Some(p))),
        (Outcome::Soft(p), _) => Ok((second, first, Some(1.0 - p))),
        (Outcome::BothBad, _) => Err("both bad"),
    }
}

fn preference(
    entry: &Entry<'_>,
    contest: Contest,
    output: &Output<'_>,
) -> Result<Map<String, Value>, &'static str> {
    let (chosen, rejected, probability) = decided(contest, output.options.ties)?;
    let pair = [chosen, rejected].map(|index| &entry.item.candidates[index]);
    let Written { prompt, answers } = written(entry.item, &pair, output.options.form)?;
    if answers[0] == answers[1] {
        return Err("identical answers");
    }
    let mut row = Map::new();
    row.extend(prompt.map(|prompt| ("prompt".to_owned(), prompt)));
    row.extend(["chosen", "rejected"].map(str::to_owned).into_iter().zip(answers));
    row.extend(probability.map(|probability| ("probability".to_owned(), json!(probability))));
    Ok(row)
}

/// Single completions with a label: of a decided pair, both; of two bad ones, both as bad.
pub(super) fn write_unpaired(
    records: &Records<'_>,
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
                Ok(Written { prompt: Some(prompt), answers }) => {
                    let completion = &answers[0];
                    output.line(
                        &row! { "prompt": prompt, "completion": completion, "label": good },
                    )?;
                    rows += 1;
                }
                Ok(Written { prompt: None, .. }) => output.drop("no prompt"),
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
    records: &Records<'_>,
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
                Ok(Written { prompt: Some(prompt), answers }) => {
                    output.line(&row! { "prompt": prompt, "completion": answers[0] })?;
                    output.lose_all_but(entry.judgement, &[]);
                }
                Ok(Written { prompt: None, .. }) => output.drop("no prompt"),
                Err(reason) => output.drop(reason),
            }
        }
    }
    Ok(())
}

/// Solutions with a label for each step up to the last that is labelled.
pub(super) fn write_stepwise(
    records: &Records<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let Verdict::Steps { labels } = &entry.judgement.verdict else {
            output.drop("no step labels");
            continue;
        };
        let end = labels.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let flags: Result<Vec<bool>, &'static str> = labels[..end]
            .iter()
            .map(|label| match (label, output.options.neutral_steps) {
                (None, _) => Err("a step without a label before one that has it"),
                (Some(1), _) | (Some(0), NeutralSteps::Good) => Ok(true),
                (Some(0), NeutralSteps::Drop) => Err("a neutral step"),
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
                let prompt = match (form(entry.item), entry.item.prompt.as_slice()) {
                    ("text", [one]) => Value::from(one.content.as_str()),
                    (_, prompt) => json!(prompt),
                };
                output.line(&row! { "prompt": prompt, "completions": steps, "labels": flags })?;
                output.lose_all_but(entry.judgement, &[]);
            }
        }
    }
    Ok(())
}

/// The distinct prompts of the items.
pub(super) fn write_prompts(
    records: &Records<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut seen = std::collections::HashSet::new();
    for item in records.items {
        let none = Candidate::text("-");
        match written(item, &[&none], output.options.form) {
            Ok(Written { prompt: Some(prompt), .. }) => {
                if seen.insert(prompt.to_string()) {
                    output.line(&row! { "prompt": prompt })?;
                }
            }
            Ok(Written { prompt: None, .. }) => output.drop("no prompt"),
            Err(reason) => output.drop(reason),
        }
    }
    output.drop_many("judgement", records.entries.len());
    Ok(())
}
