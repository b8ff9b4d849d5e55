//! LMArena: clean battles, the raw log of a server, and the CSV file of the 55k competition.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::arena_rules::{ShownBattle, flaw};
use super::contest::{ContestWinner, contests};
use super::conversation::{candidate, messages, split};
use super::error::FormatError;
use super::export::{Detail, ExportEntry, ExportRecords, Output, row};
use super::fields::JsonFields;
use super::import::Collector;
use crate::bad_record::{BadRecord, FieldError};
use crate::content::{Message, Role};
use crate::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict};
use crate::hexadecimal::hexadecimal;
use crate::row::Row;
use crate::value::{describe, truth};

/// Two conversations, side by side.
fn battle(
    [a, b]: [Vec<Message>; 2],
    [model_a, model_b]: [String; 2],
    meta: Map<String, Value>,
) -> Item {
    let (prompt, rest) = split(vec![a, b]);
    let mut candidates: Vec<Candidate> = rest.into_iter().map(candidate).collect();
    for (candidate, model) in candidates.iter_mut().zip([model_a, model_b]) {
        candidate.model = Some(model).filter(|model| !model.is_empty());
    }
    let mut item = Item::new(Task::Pairwise, prompt, candidates);
    item.meta = meta;
    item
}

/// Whether the vote counts; one that does not is counted as left out.
fn counts(
    [a, b]: &[Vec<Message>; 2],
    [model_a, model_b]: &[String; 2],
    fields: &JsonFields<'_>,
    into: &mut Collector<'_>,
) -> bool {
    if !into.options.clean {
        return true;
    }
    let anonymous = fields.get("anony").and_then(truth);
    let shown = ShownBattle { conversations: [a, b], models: [model_a, model_b], anonymous };
    let flaw = flaw(&shown);
    if let Some(flaw) = flaw {
        into.leave_out(flaw);
    }
    flaw.is_none()
}

fn verdict(winner: &str) -> Option<Verdict> {
    match winner {
        "model_a" => Some(Verdict::preferred(0)),
        "model_b" => Some(Verdict::preferred(1)),
        "tie" => Some(Verdict::Tie),
        "tie (bothbad)" | "both_bad" | "bothbad" => Some(Verdict::BothBad),
        _ => None,
    }
}

/// A judge is a text, or a list for a model: `["gpt-4", "pair-v2"]`.
fn judge(fields: &JsonFields<'_>) -> Result<Option<(String, Origin)>, FieldError> {
    let key = if fields.has("judge_hash") { "judge_hash" } else { "judge" };
    match fields.get(key) {
        None => Ok(None),
        Some(Value::Array(parts)) => {
            let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            Ok(Some((parts.join("/"), Origin::Ai)))
        }
        Some(_) => Ok(Some((fields.label(key)?, Origin::Human))),
    }
}

const BATTLE: [&str; 8] = [
    "model_a",
    "model_b",
    "winner",
    "judge",
    "judge_hash",
    "conversation_a",
    "conversation_b",
    "tstamp",
];

/// A clean battle; A stood on the left.
pub(super) fn read_battle(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    const EXPECTED: &str = "one of model_a, model_b, tie, tie (bothbad), both_bad";
    let fields = JsonFields::of(row);
    let winner = fields.text("winner")?;
    let verdict = verdict(winner).ok_or_else(|| fields.wrong("winner", EXPECTED))?;
    let conversations = [said(&fields, "conversation_a")?, said(&fields, "conversation_b")?];
    let models = [fields.label("model_a")?, fields.label("model_b")?];
    if !counts(&conversations, &models, &fields, into) {
        return Ok(());
    }
    let place = into.item(battle(conversations, models, fields.rest(&BATTLE)))?;
    let (annotator, origin) = judge(&fields)?.unwrap_or_else(|| (into.nameless(), Origin::Human));
    let judgement = into.judge(place, annotator, verdict)?;
    judgement.presented = vec![0, 1];
    judgement.origin = origin;
    judgement.at = milliseconds(&fields)?;
    Ok(())
}

fn said(fields: &JsonFields<'_>, key: &str) -> Result<Vec<Message>, FieldError> {
    let messages = fields.messages(key)?;
    if messages.is_empty() {
        return Err(fields.error(key, "an empty list".into(), "at least one message"));
    }
    Ok(messages)
}

fn milliseconds(fields: &JsonFields<'_>) -> Result<i64, FieldError> {
    Ok(fields.optional_number("tstamp")?.map_or(0, |seconds| (seconds * 1000.0).round() as i64))
}

/// A line of the log of a server; only votes count.
pub(super) fn read_log(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let verdict = match fields.text("type")? {
        "leftvote" => Verdict::preferred(0),
        "rightvote" => Verdict::preferred(1),
        "tievote" => Verdict::Tie,
        "bothbad_vote" => Verdict::BothBad,
        _ => {
            into.leave_out("line of the log that is no vote between two models");
            return Ok(());
        }
    };
    let states = fields.objects("states")?;
    let [a, b] = states.as_slice() else {
        return Err(fields.wrong("states", "two conversations").into());
    };
    let names = fields.list("models")?;
    let model = |state: &JsonFields<'_>, index: usize| -> Result<String, FieldError> {
        // Before the reveal the list of models holds empty texts.
        let told = names.get(index).and_then(Value::as_str).unwrap_or("");
        Ok(state.optional_text("model_name")?.unwrap_or(told).to_owned())
    };
    let models = [model(a, 0)?, model(b, 1)?];
    let conversations = [state(a)?, state(b)?];
    if !counts(&conversations, &models, &fields, into) {
        return Ok(());
    }
    let place = into.item(battle(
        conversations,
        models,
        fields.rest(&["tstamp", "type", "models", "states", "ip"]),
    ))?;
    let annotator = match fields.optional_text("ip")? {
        // An address is personal; its hash still tells who is who.
        Some(ip) => format!("ip-{}", hexadecimal(&Sha256::digest(ip.as_bytes())[..8])),
        None => into.nameless(),
    };
    let judgement = into.judge(place, annotator, verdict)?;
    judgement.presented = vec![0, 1];
    judgement.at = milliseconds(&fields)?;
    Ok(())
}

/// The conversation of a state: `roles` names the user first, `messages` are pairs of a name and a
/// text, `null` where nothing was said.
fn state(fields: &JsonFields<'_>) -> Result<Vec<Message>, FieldError> {
    let roles = fields.texts("roles")?;
    let offset = fields.optional_number("offset")?.unwrap_or(0.0).max(0.0) as usize;
    let mut messages = Vec::new();
    for (index, value) in fields.list("messages")?.iter().enumerate().skip(offset) {
        let wrong =
            || fields.error(&format!("messages[{index}]"), describe(value), "a role and a text");
        let [role, text] = value.as_array().map(Vec::as_slice).ok_or_else(wrong)? else {
            return Err(wrong());
        };
        let Some(text) = text.as_str() else { continue };
        let is_user = role.as_str() == roles.first().map(String::as_str);
        messages.push(Message::new(if is_user { Role::User } else { Role::Assistant }, text));
    }
    if messages.is_empty() {
        return Err(fields.error("messages", "nothing that was said".into(), "a conversation"));
    }
    Ok(messages)
}

const CSV: [&str; 8] = [
    "model_a",
    "model_b",
    "prompt",
    "response_a",
    "response_b",
    "winner_model_a",
    "winner_model_b",
    "winner_tie",
];

/// A row of the CSV file: `prompt` and the responses are JSON lists of turns inside their cells.
pub(super) fn read_csv(row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
    let fields = JsonFields::of(row);
    let mut won = Vec::new();
    for (key, verdict) in [
        ("winner_model_a", Verdict::preferred(0)),
        ("winner_model_b", Verdict::preferred(1)),
        ("winner_tie", Verdict::Tie),
    ] {
        if fields.get(key).and_then(truth).ok_or_else(|| fields.wrong(key, "0 or 1"))? {
            won.push(verdict);
        }
    }
    let [verdict] = won.as_slice() else {
        let found = format!("{} of three that are 1", won.len());
        let expected = "exactly one of winner_model_a, winner_model_b, winner_tie";
        return Err(fields.error("winner_model_a", found, expected).into());
    };
    let asked = turns(&fields, "prompt", into)?;
    let mut conversation = |key: &str| -> Result<Vec<Message>, FieldError> {
        let answered = turns(&fields, key, into)?;
        let pairs = asked.iter().zip(answered.iter().map(Some).chain(std::iter::repeat(None)));
        Ok(pairs
            .flat_map(|(asked, answered)| {
                let answer = answered.map(|text| Message::new(Role::Assistant, text.as_str()));
                std::iter::once(Message::new(Role::User, asked.as_str())).chain(answer)
            })
            .collect())
    };
    let conversations = [conversation("response_a")?, conversation("response_b")?];
    if conversations.iter().any(Vec::is_empty) {
        return Err(fields.error("prompt", "an empty list".into(), "at least one turn").into());
    }
    let models = [fields.label("model_a")?, fields.label("model_b")?];
    if !counts(&conversations, &models, &fields, into) {
        return Ok(());
    }
    let place = into.item(battle(conversations, models, fields.rest(&CSV)))?;
    into.judge(place, into.nameless(), verdict.clone())?.presented = vec![0, 1];
    Ok(())
}

/// The turns inside a cell; one that is `null` is empty.
fn turns(
    fields: &JsonFields<'_>,
    key: &str,
    into: &mut Collector<'_>,
) -> Result<Vec<String>, FieldError> {
    let text = fields.text(key)?;
    let parsed = serde_json::from_str::<Vec<Option<String>>>(text).or_else(|_| {
        let mended = mend_surrogates(text);
        let parsed = serde_json::from_str(&mended)?;
        into.leave_out("half of a character that takes two escapes");
        Ok::<_, serde_json::Error>(parsed)
    });
    match parsed {
        Ok(turns) => Ok(turns.into_iter().map(Option::unwrap_or_default).collect()),
        Err(_) => Err(fields.wrong(key, "a JSON list of texts inside the cell")),
    }
}

/// Replaces `\ud83d` without its other half, which no JSON text may hold, by `\ufffd`.
fn mend_surrogates(text: &str) -> String {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut mended = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let taken = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.push_str("\\ufffd");
                at += 6;
                continue;
            }
            // An escaped backslash starts no escape.
            _ if rest.starts_with("\\\\") => 2,
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        mended.push_str(&rest[..taken]);
        at += taken;
    }
    mended
}

fn winner(outcome: ContestWinner) -> Result<&'static str, &'static str> {
    match outcome {
        ContestWinner::First(_) => Ok("model_a"),
        ContestWinner::Second(_) => Ok("model_b"),
        ContestWinner::Tie => Ok("tie"),
        ContestWinner::BothBad => Ok("tie (bothbad)"),
        ContestWinner::Soft(_) => Err("a probability"),
    }
}

/// The two candidates that a battle shows, A the one on the left where that is known.
fn sides(entry: &ExportEntry<'_>, first: usize, second: usize) -> (usize, usize, bool) {
    let place = |index: usize| entry.judgement.presented.iter().position(|&one| one == index);
    let swapped = matches!((place(first), place(second)), (Some(one), Some(other)) if other < one);
    if swapped { (second, first, true) } else { (first, second, false) }
}

fn swapped(winner: &'static str) -> &'static str {
    match winner {
        "model_a" => "model_b",
        "model_b" => "model_a",
        other => other,
    }
}

/// Writes the row of a contest between candidates A and B, won by the name given; `false` where there
/// is no row.
type WriteContest<'w> = dyn FnMut(&ExportEntry<'_>, [usize; 2], &'static str, &mut Output<'_>) -> Result<bool, FormatError>
    + 'w;

/// Every contest of the records, with the sides it is written with.
fn each_contest(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
    write: &mut WriteContest<'_>,
    kept: &[Detail],
) -> Result<(), FormatError> {
    for entry in &records.entries {
        let mut rows = 0;
        for contest in contests(entry, output) {
            match winner(contest.outcome) {
                Err(reason) => output.drop(reason),
                Ok(winner) => {
                    let (a, b, turned) = sides(entry, contest.first, contest.second);
                    let winner = if turned { swapped(winner) } else { winner };
                    rows += usize::from(write(entry, [a, b], winner, output)?);
                }
            }
        }
        if 0 < rows {
            output.lose_all_but(entry.judgement, kept);
        }
    }
    Ok(())
}

fn conversation(item: &Item, index: usize) -> Vec<Message> {
    item.prompt.iter().cloned().chain(messages(&item.candidates[index])).collect()
}

fn annotator(judgement: &Judgement) -> Value {
    match judgement.origin {
        Origin::Ai => json!(judgement.annotator.split('/').collect::<Vec<_>>()),
        _ => json!(judgement.annotator),
    }
}

/// Clean battles.
pub(super) fn write_battles(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let kept = [Detail::Annotator, Detail::Presented, Detail::Time];
    let mut write =
        |entry: &ExportEntry<'_>, [a, b]: [usize; 2], winner, output: &mut Output<'_>| {
            let model = |index: usize| entry.item.candidates[index].model.as_deref().unwrap_or("");
            let mut row = row! {
                "question_id": entry.judgement.id,
                "model_a": model(a),
                "model_b": model(b),
                "winner": winner,
                "judge": annotator(entry.judgement),
                "conversation_a": conversation(entry.item, a),
                "conversation_b": conversation(entry.item, b),
                "turn": conversation(entry.item, a).iter().filter(|m| m.role == Role::User).count(),
                "tstamp": entry.judgement.at as f64 / 1000.0,
            };
            row.extend(entry.item.meta.clone());
            output.line(&row)?;
            Ok(true)
        };
    each_contest(records, output, &mut write, &kept)
}

/// The rows of the CSV file, which knows no two bad answers.
pub(super) fn write_csv(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([&["id"], &CSV[..]].concat())?;
    let mut write = |entry: &ExportEntry<'_>,
                     [a, b]: [usize; 2],
                     winner: &str,
                     output: &mut Output<'_>| {
        if winner == "tie (bothbad)" {
            output.drop("both bad");
            return Ok(false);
        }
        let Some([(asked, one), (_, other)]) = columns(entry.item, [a, b]) else {
            output.drop("a conversation that is no turns of user and assistant");
            return Ok(false);
        };
        let model = |index: usize| entry.item.candidates[index].model.clone().unwrap_or_default();
        let flag = |name: &str| u8::from(winner == name).to_string();
        let id = entry.item.meta.get("id").and_then(Value::as_str).unwrap_or(&entry.judgement.id);
        table.write_record([
            id.to_owned(),
            model(a),
            model(b),
            serde_json::to_string(&asked)?,
            serde_json::to_string(&one)?,
            serde_json::to_string(&other)?,
            flag("model_a"),
            flag("model_b"),
            flag("tie"),
        ])?;
        output.written += 1;
        Ok(true)
    };
    each_contest(records, output, &mut write, &[Detail::Presented])?;
    let bytes = table.into_inner().map_err(csv::IntoInnerError::into_error)?;
    output.writer.write_all(&bytes)?;
    Ok(())
}

type Turns = (Vec<String>, Vec<String>);

/// The turns of the user and of the assistant in both conversations, where they alternate and the
/// user says the same in both.
fn columns(item: &Item, sides: [usize; 2]) -> Option<[Turns; 2]> {
    let turns = |index: usize| -> Option<Turns> {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for (place, message) in conversation(item, index).into_iter().enumerate() {
            match (place % 2, message.role) {
                (0, Role::User) => asked.push(message.content),
                (1, Role::Assistant) => answered.push(message.content),
                _ => return None,
            }
        }
        Some((asked, answered))
    };
    let [one, other] = sides.map(turns);
    let (one, other) = (one?, other?);
    (one.0 == other.0).then_some([one, other])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_mended_and_pairs_kept() {
        let mended = mend_surrogates("[\"\\ud83d\\ude00 \\ud83d x \\\\ud83d \\udc00é\"]");
        let parsed: Vec<String> = serde_json::from_str(&mended).unwrap();
        assert_eq!(parsed, ["😀 \u{fffd} x \\ud83d \u{fffd}é"]);
    }
}
