//! What a served model wrote and what its users said of it: the lines of `hearken serve --log`.
//!
//! A line is a completion, or what somebody said of one. [`ServedLog`] puts them together: prompts, and items with judgements whose
//! candidates name the version that wrote them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::formats::text_prompted;
use super::{BetterAnswer, Candidate, Item, Judgement, Task, Verdict};
use crate::bad_record::BadRecord;
use crate::calendar::parse_time;
use crate::completion::StopReason;
use crate::content::{Content, Message};
use crate::hexadecimal::hexadecimal;
use crate::options::ReadOptions;
use crate::report::ReadError;
use crate::row::Row;
use crate::rows::{RawColumns, Rows};
use crate::source::Source;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// The longest accepted line, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A completion, as it is written down when it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedCompletion {
    /// The request that asked for it.
    pub request_id: String,
    /// Its number among the choices of the request.
    pub choice: usize,
    /// When it ended, in UTC, as `2026-01-31T08:05:00.250Z`.
    pub at: String,
    /// The name that the model is served under.
    pub model: String,
    /// The version of the weights that wrote it.
    pub version: String,
    /// The prompt: messages, a text, or token ids.
    pub prompt: Value,
    /// The completion as text.
    pub completion: String,
    /// Tokens of the prompt; empty where something was redacted, since they would tell it.
    #[serde(default)]
    pub prompt_ids: Vec<u32>,
    /// Tokens of the completion, end token included; empty as those of the prompt.
    #[serde(default)]
    pub completion_ids: Vec<u32>,
    /// Natural logarithms of the probabilities under which they were sampled.
    #[serde(default)]
    pub logprobs: Vec<f64>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The temperature.
    pub temperature: f64,
    /// The probability that the tokens sampled among have together.
    pub top_p: f64,
    /// How many tokens were sampled among.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// The least probability of those sampled among, as a fraction of the likeliest's.
    pub min_p: f64,
    /// The seed.
    pub seed: u64,
    /// Whether nobody has seen it: a candidate wrote it beside the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Whether personal data were taken out of the prompt or the completion.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// Who asked, where the request says so: a pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One answer of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AnswerName {
    /// The request.
    pub request_id: String,
    /// The number of the choice.
    #[serde(default)]
    pub choice: usize,
}

/// What somebody said of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServedFeedback {
    /// Names it.
    pub feedback_id: String,
    /// When it was said, in UTC.
    pub at: String,
    /// The answer.
    #[serde(flatten)]
    pub of: AnswerName,
    /// Who said it: a pseudonym.
    pub by: String,
    /// What was said.
    pub said: Said,
}

/// What can be said of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Whether it is good.
    Thumb(Thumb),
    /// What it should have been.
    Edit(String),
    /// It is better than these answers to the same prompt.
    Over(Vec<AnswerName>),
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thumb {
    /// Good.
    Up,
    /// Bad.
    Down,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ServedLine {
    /// A completion.
    Completion(Box<ServedCompletion>),
    /// What somebody said of one.
    Feedback(ServedFeedback),
}

impl ServedLine {
    /// The line that these columns are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(columns: Value) -> Result<Self, String> {
        let is_feedback = columns.get("feedback_id").is_some();
        let line = if is_feedback {
            serde_json::from_value(columns).map(Self::Feedback)
        } else {
            serde_json::from_value(columns).map(Self::Completion)
        };
        let line = line.map_err(|error| {
            format!("{error}, expected a line as `hearken serve --log` writes it")
        })?;
        match line.at_ms() {
            Some(_) => Ok(line),
            None => Err("\"at\" is no time, expected one as 2026-01-31T08:05:00Z".to_owned()),
        }
    }

    fn at(&self) -> &str {
        match self {
            Self::Completion(one) => &one.at,
            Self::Feedback(one) => &one.at,
        }
    }

    /// When it was written: milliseconds since 1970. `None` where that is no time.
    pub fn at_ms(&self) -> Option<i64> {
        parse_time(self.at())
    }
}

/// The moment before which lines are too old, if they are kept for so many days.
pub fn oldest_kept(now_ms: i64, days: f64) -> i64 {
    // Beyond i64 all is young enough.
    now_ms.saturating_sub((days * DAY_MS as f64) as i64)
}

/// The files of a log, the oldest first: those that were put aside (`completions.1.jsonl`, `completions.2.jsonl`, …), then the one
/// that grows, where it is there.
///
/// # Errors
/// If the folder cannot be read.
pub fn log_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut aside: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    for entry in std::fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let name = entry?.file_name();
        if let Some(number) = aside_number(path, &name.to_string_lossy()) {
            aside.insert(number, path.with_file_name(name));
        }
    }
    let mut files: Vec<PathBuf> = aside.into_values().collect();
    files.extend(path.exists().then(|| path.to_owned()));
    Ok(files)
}

/// The file under which a log is put aside with this number.
pub fn aside(path: &Path, number: u64) -> PathBuf {
    let (stem, extension) = stem_and_extension(path);
    path.with_file_name(format!("{stem}.{number}{extension}"))
}

/// The number of a file that was put aside.
pub fn aside_number(path: &Path, name: &str) -> Option<u64> {
    let (stem, extension) = stem_and_extension(path);
    name.strip_prefix(&stem)?.strip_prefix('.')?.strip_suffix(&extension)?.parse().ok()
}

fn stem_and_extension(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map_or(String::new(), |of| format!(".{}", of.display()));
    (stem, extension)
}

/// Whether a file has no end of a line at its end, or has grown while it was read.
fn is_unfinished(file: &Path, len_before: u64) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(file)?;
    if file.metadata()?.len() != len_before {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Completions and what was said of them.
#[derive(Clone, Debug, Default)]
pub struct ServedLog {
    completions: HashMap<AnswerName, ServedCompletion>,
    /// In the order of the lines.
    order: Vec<AnswerName>,
    feedback: Vec<ServedFeedback>,
}

impl ServedLog {
    /// Reads a log with all that was put aside of it. Lines from before `since`, in milliseconds since 1970, are passed over, and
    /// a last one that is still being written.
    ///
    /// # Errors
    /// If a file cannot be read, or a line is bad.
    pub fn read(path: &Path, since: i64) -> Result<Self, ReadError> {
        let open = |error| ReadError::Open { path: path.to_owned(), error, advice: String::new() };
        let files = log_files(path).map_err(open)?;
        if files.is_empty() {
            return Err(open(std::io::ErrorKind::NotFound.into()));
        }
        let (mut log, options) = (Self::default(), ReadOptions::default());
        for file in files {
            let mut rows = Rows::open(&file, LINE_BYTES_MAX)?;
            let len_before = std::fs::metadata(&file).map_err(open)?.len();
            let mut bad = None;
            while let Some(row) = rows.advance()? {
                if let Some(error) = bad.take() {
                    return Err(error);
                }
                let at = row.at.clone();
                let columns = row.columns.and_then(RawColumns::parsed);
                let line = columns.and_then(|columns| {
                    let columns = Row::of(columns, &options, at.clone()).columns().clone();
                    ServedLine::of(Value::Object(columns)).map_err(|what| BadRecord::Unfit { what })
                });
                match line {
                    Ok(line) if line.at_ms().is_some_and(|at| since <= at) => log.add(line),
                    Ok(_) => {}
                    Err(reason) => bad = Some(ReadError::Bad { at: Source::clone(&at), reason }),
                }
            }
            // The service may be writing the last line at this moment: without its end it is none yet.
            if let Some(error) = bad
                && !(file == path && is_unfinished(&file, len_before).map_err(open)?)
            {
                return Err(error);
            }
        }
        Ok(log)
    }

    /// Adds a line.
    pub fn add(&mut self, line: ServedLine) {
        match line {
            ServedLine::Feedback(one) => self.feedback.push(one),
            ServedLine::Completion(one) => {
                let name = AnswerName { request_id: one.request_id.clone(), choice: one.choice };
                if self.completions.insert(name.clone(), *one).is_none() {
                    self.order.push(name);
                }
            }
        }
    }

    /// An answer.
    pub fn answer(&self, name: &AnswerName) -> Option<&ServedCompletion> {
        self.completions.get(name)
    }

    /// Answers that people have seen, in order.
    pub fn answers(&self) -> impl Iterator<Item = &ServedCompletion> {
        self.order.iter().map(|name| &self.completions[name]).filter(|one| !one.shadow)
    }

    /// What was said, in order.
    pub fn feedback(&self) -> &[ServedFeedback] {
        &self.feedback
    }

    /// The prompts of all answers that people have seen, each once, in order; those that are token ids are not among them.
    pub fn prompts(&self) -> Vec<Content> {
        let mut known = HashSet::new();
        let mut all = Vec::new();
        for answer in self.answers() {
            if let Some(prompt) =
                prompt_of(answer).filter(|_| known.insert(answer.prompt.to_string()))
            {
                all.push(prompt);
            }
        }
        all
    }

    /// What was said as judgements of items, in order:
    ///
    /// - a thumb is a judgement of the one answer;
    /// - an edit says that the answer is bad, and holds the better one: a comparison, and a demonstration;
    /// - an answer that was picked over others is a comparison with each.
    ///
    /// Of thumbs, edits and choices by one person on the same the last of each holds. What is about an answer that is not there, as where it was
    /// too old, or of two answers that are alike, is left out.
    pub fn judgements(&self) -> Vec<(Item, Judgement)> {
        let mut last: HashMap<(String, String, bool), String> = HashMap::new();
        let mut all = Vec::new();
        for one in &self.feedback {
            let Some(answer) = self.answer(&one.of) else { continue };
            for (number, (item, verdict, better)) in self.said(one, answer).into_iter().enumerate()
            {
                let id = match number {
                    0 => one.feedback_id.clone(),
                    number => format!("{}-{number}", one.feedback_id),
                };
                let mut judgement = Judgement::new(id.clone(), &item, one.by.clone(), verdict);
                judgement.at = parse_time(&one.at).unwrap_or(0);
                judgement.better = better;
                let is_edit = matches!(one.said, Said::Edit(_));
                judgement.revises = last.insert((one.by.clone(), item.id.clone(), is_edit), id);
                all.push((item, judgement));
            }
        }
        all
    }

    fn said(
        &self,
        one: &ServedFeedback,
        answer: &ServedCompletion,
    ) -> Vec<(Item, Verdict, Option<Box<BetterAnswer>>)> {
        let alone = || item(Task::Rating, &[answer]);
        match &one.said {
            Said::Thumb(thumb) => {
                let verdict = Verdict::Approval { good: *thumb == Thumb::Up };
                alone().map(|item| (item, verdict, None)).into_iter().collect()
            }
            Said::Edit(text) => {
                let better = Box::new(BetterAnswer { text: text.clone(), candidate: Some(0) });
                let verdict = Verdict::Approval { good: false };
                let holds = |item: &Item| better.check(item).is_ok();
                let item = alone().filter(holds);
                item.map(|item| (item, verdict, Some(better.clone()))).into_iter().collect()
            }
            Said::Over(others) => {
                let others = others.iter().filter_map(|other| self.answer(other));
                let is_other = |other: &&ServedCompletion| {
                    other.prompt == answer.prompt && !is_same(&other.completion, &answer.completion)
                };
                let pair = |other| item(Task::Pairwise, &[answer, other]);
                let pairs = others.filter(is_other).filter_map(pair);
                pairs.map(|item| (item, Verdict::preferred(0), None)).collect()
            }
        }
    }

    /// Comparisons that thumbs amount to: of two answers to one prompt that one person found good and bad, the good one is better.
    pub fn pairs_of_thumbs(&self) -> Vec<(Item, Judgement)> {
        let mut thumbs: BTreeMap<(String, String), Vec<(&ServedFeedback, Thumb)>> = BTreeMap::new();
        for one in &self.feedback {
            let (Said::Thumb(thumb), Some(answer)) = (&one.said, self.answer(&one.of)) else {
                continue;
            };
            let said = thumbs.entry((answer.prompt.to_string(), one.by.clone())).or_default();
            said.retain(|(before, _)| before.of != one.of);
            said.push((one, *thumb));
        }
        let mut all = Vec::new();
        for said in thumbs.values() {
            let of = |which: Thumb| said.iter().filter(move |(_, thumb)| *thumb == which);
            for (good, _) in of(Thumb::Up) {
                for (bad, _) in of(Thumb::Down) {
                    let both = [&self.completions[&good.of], &self.completions[&bad.of]];
                    if is_same(&both[0].completion, &both[1].completion) {
                        continue;
                    }
                    let Some(item) = item(Task::Pairwise, &both) else { continue };
                    let id = format!("{}-over-{}", good.feedback_id, bad.feedback_id);
                    let verdict = Verdict::preferred(0);
                    let mut judgement = Judgement::new(id, &item, good.by.clone(), verdict);
                    judgement.at = parse_time(&good.at).max(parse_time(&bad.at)).unwrap_or(0);
                    all.push((item, judgement));
                }
            }
        }
        all
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.trim() == other.trim()
}

fn prompt_of(answer: &ServedCompletion) -> Option<Content> {
    match &answer.prompt {
        Value::String(text) if !text.is_empty() => Some(Content::Text(text.clone())),
        value => {
            let messages = Vec::<Message>::deserialize(value).ok()?;
            (!messages.is_empty()).then_some(Content::Messages(messages))
        }
    }
}

/// Answers to one prompt as an item, each with the version that wrote it; `None` where there is nothing to read.
fn item(task: Task, answers: &[&ServedCompletion]) -> Option<Item> {
    if answers.iter().any(|answer| answer.completion.trim().is_empty()) {
        return None;
    }
    let candidate = |one: &&ServedCompletion| Candidate::text(&*one.completion).by(&*one.version);
    let candidates = answers.iter().map(candidate).collect();
    let mut item = match prompt_of(answers[0])? {
        Content::Text(text) => text_prompted(task, &text, candidates),
        Content::Messages(messages) => Item::new(task, messages, candidates),
        Content::Ids(_) => return None,
    };
    // The same words of two versions are two answers.
    let names: Vec<Value> = answers.iter().map(|one| json!([one.request_id, one.choice])).collect();
    let named = json!([item.hash(), names]).to_string();
    item.id = format!("served-{}", &hexadecimal(&Sha256::digest(named.as_bytes()))[..32]);
    item.meta.insert("served".into(), Value::Array(names));
    Some(item)
}

/// The pseudonym of whoever calls themselves `name`: what tells people apart without saying who they are.
pub fn pseudonym(name: &str) -> String {
    format!("user-{}", &hexadecimal(&Sha256::digest(name.as_bytes()))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: Value) -> ServedLine {
        ServedLine::of(value).unwrap()
    }

    fn completion(id: &str, version: &str, text: &str) -> Value {
        json!({
            "request_id": id, "choice": 0, "at": "2026-11-30T10:00:00Z", "model": "m", "version": version,
            "prompt": [{"role": "user", "content": "Hi"}], "completion": text, "prompt_ids": [1],
            "completion_ids": [2], "logprobs": [-0.5], "stop_reason": "end_of_text", "temperature": 1.0,
            "top_p": 1.0, "min_p": 0.0, "seed": 3,
        })
    }

    fn feedback(id: &str, of: &str, said: &Value) -> Value {
        json!({
            "feedback_id": id, "at": "2026-11-30T10:01:00Z", "request_id": of, "choice": 0, "by": "user-1",
            "said": said,
        })
    }

    fn log() -> ServedLog {
        let mut log = ServedLog::default();
        for value in [
            completion("a", "v1", "Hello."),
            completion("b", "v2", "Go away."),
            completion("c", "v2", "Hello. "),
            feedback("f1", "a", &json!({"thumb": "down"})),
            feedback("f2", "a", &json!({"thumb": "up"})),
            feedback("f3", "b", &json!({"thumb": "down"})),
            feedback("f4", "b", &json!({"edit": "Welcome."})),
            feedback("f5", "a", &json!({"over": [{"request_id": "b"}, {"request_id": "c"}]})),
            feedback("f6", "gone", &json!({"thumb": "up"})),
        ] {
            log.add(line(value));
        }
        log
    }

    #[test]
    fn what_users_say_becomes_judgements_of_the_versions_that_wrote() {
        let judged = log().judgements();
        let ids: Vec<&str> = judged.iter().map(|(_, one)| one.id.as_str()).collect();
        // Of answers that are alike none is better, and what is gone is not judged.
        assert_eq!(ids, ["f1", "f2", "f3", "f4", "f5"]);
        for (item, judgement) in &judged {
            assert_eq!(judgement.check(item), Ok(()));
        }
        assert_eq!(judged[1].1.revises.as_deref(), Some("f1"));
        assert_eq!(judged[1].1.verdict, Verdict::Approval { good: true });
        let better = judged[3].1.better.as_ref().unwrap();
        assert_eq!((better.text.as_str(), better.candidate), ("Welcome.", Some(0)));
        let (item, judgement) = &judged[4];
        assert_eq!(judgement.verdict, Verdict::preferred(0));
        let by: Vec<Option<&str>> =
            item.candidates.iter().map(|one| one.model.as_deref()).collect();
        assert_eq!(by, [Some("v1"), Some("v2")]);
        assert_eq!(item.candidates[0].text, "Hello.");
    }

    #[test]
    fn thumbs_on_answers_to_one_prompt_are_comparisons() {
        let pairs = log().pairs_of_thumbs();
        assert_eq!(pairs.len(), 1);
        let texts: Vec<&str> = pairs[0].0.candidates.iter().map(|one| one.text.as_str()).collect();
        // The first thumb on "Hello." was taken back.
        assert_eq!(texts, ["Hello.", "Go away."]);
        assert_eq!(pairs[0].1.verdict, Verdict::preferred(0));
    }

    #[test]
    fn prompts_come_once_and_shadows_are_seen_by_nobody() {
        let mut log = log();
        let mut shadow = completion("d", "v2", "Unseen.");
        shadow["shadow"] = json!(true);
        shadow["prompt"] = json!("A text");
        log.add(line(shadow));
        assert_eq!(log.prompts(), [Content::Messages(vec![Message::new(crate::Role::User, "Hi")])]);
    }

    #[test]
    fn old_lines_are_passed_over_and_bad_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut old = completion("old", "v1", "Long ago.");
        old["at"] = json!("2026-10-01T00:00:00Z");
        std::fs::write(aside(&path, 2), format!("{old}\n")).unwrap();
        std::fs::write(aside(&path, 10), format!("{}\n", completion("a", "v1", "Hello."))).unwrap();
        std::fs::write(&path, format!("{}\n", feedback("f", "a", &json!({"thumb": "up"}))))
            .unwrap();
        let names = log_files(&path).unwrap();
        let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["log.2.jsonl", "log.10.jsonl", "log.jsonl"]);
        let now = parse_time("2026-11-30T12:00:00Z").unwrap();
        let all = ServedLog::read(&path, i64::MIN).unwrap();
        assert_eq!(all.answers().count(), 2);
        let young = ServedLog::read(&path, oldest_kept(now, 30.0)).unwrap();
        assert_eq!((young.answers().count(), young.feedback().len()), (1, 1));
        std::fs::write(&path, "{\"feedback_id\": 3}\n").unwrap();
        let error = ServedLog::read(&path, i64::MIN).unwrap_err().to_string();
        assert!(
            error.contains("log.jsonl:1: ") && error.contains("hearken serve --log"),
            "{error}"
        );
        let missing =
            ServedLog::read(&folder.path().join("none.jsonl"), 0).unwrap_err().to_string();
        assert!(missing.contains("none.jsonl"), "{missing}");
    }
}
