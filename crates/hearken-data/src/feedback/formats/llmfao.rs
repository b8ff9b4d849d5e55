//! LLMFAO: pairs of answers as JSON lines, and comparisons of them, a vote a row, as CSV.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Format;
use super::contest::{ContestWinner, contests};
use super::conversation::{in_form, is_single, text_prompt};
use super::error::FormatError;
use super::export::{Detail, ExportRecords, Output, row};
use super::fields::JsonFields;
use super::import::{Collector, FormatReader};
use crate::bad_record::{BadRecord, FieldError};
use crate::feedback::{Candidate, Gold, Item, Origin, Task, Verdict};
use crate::options::ReadOptions;
use crate::read::each_row;
use crate::report::ReadError;
use crate::row::Row;
use crate::source::Source;

/// The file of pairs that belongs to comparisons in the same folder.
const PAIRS: &str = "pairs-crowd.jsonl";
/// The file of the names of the models, in the folder of the pairs.
const MODELS: &str = "models.jsonl";
/// The end of the name of a file of comparisons; what comes before names the judge, where the
/// rows name no worker.
const COMPARISONS: &str = "-crowd-comparisons";

/// The rows of all files, until the last is read: votes come before the pairs they name.
#[derive(Default)]
pub(super) struct Llmfao {
    file: PathBuf,
    votes: Vec<LlmfaoVote>,
    pairs: HashMap<String, (Source, Map<String, Value>)>,
    /// The order of the pairs.
    ids: Vec<String>,
    models: HashMap<String, String>,
}

struct LlmfaoVote {
    at: Source,
    name: String,
    pair: String,
    verdict: Verdict,
    annotator: Option<String>,
    origin: Origin,
}

impl FormatReader for Llmfao {
    fn start(&mut self, path: &Path, _format: Format) {
        self.file = path.to_path_buf();
    }

    fn row(&mut self, row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
        let fields = JsonFields::of(row);
        if fields.has("result_x") {
            self.pair(&fields, row)
        } else {
            let vote = self.vote(&fields, row, into.row_name())?;
            self.votes.push(vote);
            Ok(())
        }
    }

    fn finish(&mut self, into: &mut Collector<'_>) -> Result<(), FormatError> {
        self.find_pairs()?;
        self.find_models();
        let mut places = HashMap::new();
        for id in std::mem::take(&mut self.ids) {
            let at = self.pairs[&id].0.clone();
            let bad = |reason| bad(at.clone(), reason);
            let item = self.item(&id).map_err(bad)?;
            places.insert(id, into.item(item).map_err(bad)?);
        }
        for vote in std::mem::take(&mut self.votes) {
            let Some(&place) = places.get(&vote.pair) else {
                let what =
                    format!("found a vote on pair {}, expected one of the pairs given", vote.pair);
                return Err(bad(vote.at, BadRecord::Unfit { what }));
            };
            into.begin(vote.name);
            let annotator = vote.annotator.unwrap_or_else(|| into.nameless());
            let judgement = into
                .judge(place, annotator, vote.verdict)
                .map_err(|reason| bad(vote.at, reason))?;
            judgement.presented = vec![0, 1];
            judgement.origin = vote.origin;
        }
        Ok(())
    }
}

fn bad(at: Source, reason: BadRecord) -> FormatError {
    ReadError::Bad { at, reason }.into()
}

fn verdict(fields: &JsonFields<'_>, key: &str) -> Result<Verdict, FieldError> {
    match fields.text(key)? {
        "left" => Ok(Verdict::preferred(0)),
        "right" => Ok(Verdict::preferred(1)),
        "tie" => Ok(Verdict::Tie),
        _ => Err(fields.wrong(key, "one of left, right, tie")),
    }
}

impl Llmfao {
    fn pair(&mut self, fields: &JsonFields<'_>, row: &Row<'_>) -> Result<(), BadRecord> {
        let id = fields.label("id")?;
        for key in ["text", "result_x", "result_y"] {
            fields.text(key)?;
        }
        if fields.has("golden") {
            verdict(fields, "golden")?;
        }
        match self.pairs.insert(id.clone(), (row.source(), row.columns().clone())) {
            Some((_, before)) if before != *row.columns() => {
                let what = format!("found another pair {id}, expected the same content");
                Err(BadRecord::Unfit { what })
            }
            Some(_) => Ok(()),
            None => {
                self.ids.push(id);
                Ok(())
            }
        }
    }

    fn vote(
        &mut self,
        fields: &JsonFields<'_>,
        row: &Row<'_>,
        name: &str,
    ) -> Result<LlmfaoVote, FieldError> {
        for (number, model) in [("model_x", "left"), ("model_y", "right")] {
            if fields.has(number) && fields.has(model) {
                self.models.insert(fields.label(number)?, fields.label(model)?);
            }
        }
        let (annotator, origin) = match fields.optional_label("worker")? {
            Some(worker) => (Some(worker), Origin::Human),
            None => (self.judge(), Origin::Ai),
        };
        Ok(LlmfaoVote {
            at: row.source(),
            name: format!("{name}{}", self.suffix(annotator.as_deref())),
            pair: fields.label("id")?,
            verdict: verdict(fields, "winner")?,
            annotator,
            origin,
        })
    }

    /// What the name of the file says of the judge.
    fn judge(&self) -> Option<String> {
        let name = self.file.file_name()?.to_string_lossy().into_owned();
        let (judge, _) = name.split_once(COMPARISONS)?;
        Some(judge.to_owned())
    }

    /// Two models' files may hold equal rows: there the judge belongs to the name of the vote.
    fn suffix(&self, annotator: Option<&str>) -> String {
        match (self.judge(), annotator) {
            (Some(judge), Some(annotator)) if judge == annotator => format!("-{judge}"),
            _ => String::new(),
        }
    }

    /// Reads the pairs beside the comparisons, where none were given.
    fn find_pairs(&mut self) -> Result<(), FormatError> {
        if !self.pairs.is_empty() || self.votes.is_empty() {
            return Ok(());
        }
        let path = self.file.with_file_name(PAIRS);
        if !path.exists() {
            let needed = format!("the file of pairs beside it ({PAIRS}) or in the same import");
            return Err(FormatError::Companion { path: self.file.clone(), needed });
        }
        each_row(&path, &ReadOptions::default(), |row| self.pair(&JsonFields::of(row), row))?;
        Ok(())
    }

    /// Reads the names of the models beside the last file, where it has them; else a model keeps
    /// the name that a comparison gives it, or its number.
    fn find_models(&mut self) {
        let path = self.file.with_file_name(MODELS);
        let mut models = Vec::new();
        let read = each_row(&path, &ReadOptions::default(), |row| {
            let fields = JsonFields::of(row);
            if let (Ok(id), Ok(name)) = (fields.label("id"), fields.label("name")) {
                models.push((id, name));
            }
            Ok(())
        });
        if read.is_ok() {
            self.models.extend(models);
        }
    }

    fn item(&self, id: &str) -> Result<Item, BadRecord> {
        const KNOWN: [&str; 8] =
            ["prompt", "text", "model_x", "model_y", "result_x", "result_y", "golden", "reason"];
        let fields = JsonFields::of_map(&self.pairs[id].1);
        let candidate = |text: &str, model: &str| -> Result<Candidate, FieldError> {
            let mut candidate = Candidate::text(fields.text(text)?);
            let number = fields.optional_label(model)?;
            candidate.model = number.map(|id| self.models.get(&id).cloned().unwrap_or(id));
            Ok(candidate)
        };
        let candidates = vec![candidate("result_x", "model_x")?, candidate("result_y", "model_y")?];
        let mut item = Item::new(Task::Pairwise, text_prompt(fields.text("text")?), candidates);
        item.meta = fields.rest(&KNOWN);
        if fields.has("golden") {
            item.gold = Some(Gold {
                verdict: verdict(&fields, "golden")?,
                reason: fields.optional_text("reason")?.map(str::to_owned),
                screening: true,
            });
        }
        Ok(in_form(item, "text"))
    }
}

/// The number of each model, in the order of first appearance.
fn numbers(items: &[Item]) -> HashMap<&str, usize> {
    let mut numbers = HashMap::new();
    for model in items.iter().flat_map(|item| &item.candidates).filter_map(|c| c.model.as_deref()) {
        let next = numbers.len();
        numbers.entry(model).or_insert(next);
    }
    numbers
}

/// The number of an item: that of its file, else its place in the list.
fn number(item: &Item, place: usize) -> Value {
    item.meta.get("id").cloned().unwrap_or_else(|| Value::from(place))
}

fn is_pair(item: &Item) -> bool {
    item.candidates.len() == 2 && item.prompt.len() <= 1 && item.candidates.iter().all(is_single)
}

/// The votes; the pairs they name are the format `llmfao-pairs`.
pub(super) fn write_comparisons(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let numbers = numbers(records.items);
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "id", "prompt", "model_x", "model_y", "worker", "winner", "left", "right",
    ])?;
    for entry in &records.entries {
        if !is_pair(entry.item) {
            output.drop("no pair of answers to a prompt of one message");
            continue;
        }
        let Some(contest) = contests(entry, output).into_iter().next() else { continue };
        let winner = match contest.outcome {
            ContestWinner::First(_) => "left",
            ContestWinner::Second(_) => "right",
            ContestWinner::Tie => "tie",
            ContestWinner::BothBad => {
                output.drop("both bad");
                continue;
            }
            ContestWinner::Soft(_) => {
                output.drop("a probability");
                continue;
            }
        };
        let names = entry.item.candidates.iter().map(|c| c.model.as_deref().unwrap_or(""));
        let names: Vec<&str> = names.collect();
        let model = |name: &str| numbers.get(name).map(ToString::to_string).unwrap_or_default();
        table.write_record([
            text(&number(entry.item, entry.place)),
            text(entry.item.meta.get("prompt").unwrap_or(&Value::Null)),
            model(names[0]),
            model(names[1]),
            entry.judgement.annotator.clone(),
            winner.to_owned(),
            names[0].to_owned(),
            names[1].to_owned(),
        ])?;
        output.written += 1;
        // Left is candidate 0: a page that showed the other order is not told.
        let kept: &[Detail] = match entry.judgement.presented.as_slice() {
            [] | [0, 1] => &[Detail::Annotator, Detail::Presented],
            _ => &[Detail::Annotator],
        };
        output.lose_all_but(entry.judgement, kept);
    }
    let bytes = table.into_inner().map_err(csv::IntoInnerError::into_error)?;
    output.writer.write_all(&bytes)?;
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The pairs, gold ones with their verdict.
pub(super) fn write_pairs(
    records: &ExportRecords<'_>,
    output: &mut Output<'_>,
) -> Result<(), FormatError> {
    let numbers = numbers(records.items);
    for (place, item) in records.items.iter().enumerate() {
        if !is_pair(item) {
            output.drop("no pair of answers to a prompt of one message");
            continue;
        }
        let model = |at: usize| item.candidates[at].model.as_deref().map(|name| numbers[name]);
        let prompt = item.prompt.first().map_or("", |prompt| prompt.content.as_str());
        let mut row = row! {
            "id": number(item, place),
            "text": prompt,
            "model_x": model(0),
            "result_x": item.candidates[0].full_text(),
            "model_y": model(1),
            "result_y": item.candidates[1].full_text(),
        };
        let own = ["id", super::conversation::FORM];
        let rest = item.meta.iter().filter(|(key, _)| !own.contains(&key.as_str()));
        row.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
        if let Some(gold) = &item.gold {
            let winner = match gold.verdict {
                Verdict::Preferred { candidate: 0, .. } => "left",
                Verdict::Preferred { .. } => "right",
                _ => "tie",
            };
            row.insert("golden".into(), winner.into());
            row.insert("reason".into(), gold.reason.as_deref().into());
        }
        output.line(&row)?;
    }
    output.drop_many("judgement", records.entries.len());
    Ok(())
}
