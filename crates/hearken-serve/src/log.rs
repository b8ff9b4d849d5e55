//! Completions and what users say of them as lines of a file, for labelling and training.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hearken_data::feedback::served::{
    AnswerName, ServedCompletion, ServedFeedback, ServedLine, ServedLog, aside, aside_number,
    log_files, oldest_kept,
};
use hearken_data::write_whole;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::options::{Consent, Log};

/// The file, and how much is in it.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

/// What is remembered of an answer that was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    /// A digest of the prompt.
    pub(crate) prompt: [u8; 32],
    /// A digest of the completion, without white space around it.
    pub(crate) text: [u8; 32],
    /// The name that the model is served under.
    pub(crate) model: String,
    /// The version that wrote it.
    pub(crate) version: String,
    /// When it ended: milliseconds since 1970.
    at: i64,
}

/// A digest of a completion as it is compared with others.
pub(crate) fn digest_of_text(text: &str) -> [u8; 32] {
    Sha256::digest(text.trim().as_bytes()).into()
}

impl KeptAnswer {
    fn of(line: &ServedCompletion, at: i64) -> Self {
        let prompt = match &line.prompt {
            Value::Null => format!("{:?}", line.prompt_ids),
            given => given.to_string(),
        };
        Self {
            prompt: Sha256::digest(prompt.as_bytes()).into(),
            text: digest_of_text(&line.completion),
            model: line.model.clone(),
            version: line.version.clone(),
            at,
        }
    }
}

/// A file of completions and feedback. What is in it stays until it is too old: where it grows too large it is put aside.
#[derive(Debug)]
pub(crate) struct CompletionLog {
    log: Log,
    open: Mutex<Open>,
    /// The answers in the files that somebody has seen.
    answers: Mutex<HashMap<AnswerName, KeptAnswer>>,
}

impl CompletionLog {
    /// Opens the file, or makes it; what it holds stays, unless it is too old.
    pub(crate) fn open(log: Log) -> io::Result<Self> {
        if let Some(days) = log.days_max {
            forget(&log.path, oldest_kept(now_ms(), days))?;
        }
        let mut answers = HashMap::new();
        if !log_files(&log.path)?.is_empty() {
            let read = ServedLog::read(&log.path, i64::MIN);
            let read = read.map_err(|error| io::Error::other(error.to_string()))?;
            for answer in read.answers() {
                let at = hearken_data::calendar::parse_time(&answer.at).unwrap_or(0);
                answers.insert(name_of(answer), KeptAnswer::of(answer, at));
            }
        }
        let open = Mutex::new(open(&log.path)?);
        Ok(Self { log, open, answers: Mutex::new(answers) })
    }

    /// Whether the answers to a request are written down that says `store`, or says nothing of it.
    pub(crate) fn keeps(&self, store: Option<bool>) -> bool {
        store.unwrap_or(self.log.consent == Consent::All)
    }

    /// Takes personal data out of a completion; its tokens would tell them and go, too.
    pub(crate) fn redact(&self, line: &mut ServedCompletion) {
        let in_prompt = self.log.redaction.redact_json(&mut line.prompt);
        let redacted = self.redact_text(&line.completion);
        let in_completion = redacted != line.completion;
        line.completion = redacted;
        if in_prompt || in_completion {
            line.redacted = true;
            (line.prompt_ids, line.completion_ids) = (Vec::new(), Vec::new());
            line.logprobs = Vec::new();
        }
    }

    /// Takes personal data out of a text.
    pub(crate) fn redact_text(&self, text: &str) -> String {
        self.log.redaction.redact(text).into_owned()
    }

    /// An answer that was written down, that somebody has seen, and that is not too old.
    pub(crate) fn answer(&self, name: &AnswerName) -> Option<KeptAnswer> {
        let oldest = self.log.days_max.map_or(i64::MIN, |days| oldest_kept(now_ms(), days));
        lock(&self.answers).get(name).filter(|answer| oldest <= answer.at).cloned()
    }

    /// Appends a line.
    ///
    /// # Errors
    /// It cannot be written, or the file cannot be put aside. What was there stays whole.
    pub(crate) fn write(&self, line: &ServedLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut now = lock(&self.open);
        let bytes = text.len() as u64;
        if 0 < now.bytes && self.log.bytes_max < now.bytes + bytes {
            fs::rename(&self.log.path, next_aside(&self.log.path)?)?;
            *now = open(&self.log.path)?;
        }
        // In one write, so that a kill leaves whole lines.
        if let Err(error) = now.file.write_all(&text) {
            // A full disk takes a part of a line, to which the next would be added.
            let _ = now.file.set_len(now.bytes);
            return Err(error);
        }
        now.bytes += bytes;
        drop(now);
        if let ServedLine::Completion(answer) = line
            && !answer.shadow
        {
            let at = line.at_ms().unwrap_or(0);
            lock(&self.answers).insert(name_of(answer), KeptAnswer::of(answer, at));
        }
        Ok(())
    }

    /// Removes the completions that somebody asked for, or those of one request, with all that was said of them, and what that person
    /// said of others. Blocks.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn forget_whose(&self, whose: &Whose) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let mut requests: HashSet<String> = HashSet::new();
        let mut gone: HashSet<AnswerName> = HashSet::new();
        let mut now = lock(&self.open);
        let pruned = prune(&self.log.path, &mut |line| {
            let goes = match line {
                ServedLine::Completion(one) => {
                    let goes = whose.asked_for(one);
                    if goes {
                        removed.completions += 1;
                        requests.insert(one.request_id.clone());
                        gone.insert(name_of(one));
                    }
                    goes
                }
                // What was said of an answer stands behind it.
                ServedLine::Feedback(one) => {
                    let goes = requests.contains(&one.of.request_id) || whose.said(one);
                    removed.feedback += usize::from(goes);
                    goes
                }
            };
            if goes { Fate::Goes } else { Fate::Stays }
        });
        // Also where a later file could not be written: the open one may be another by now.
        *now = open(&self.log.path)?;
        drop(now);
        lock(&self.answers).retain(|name, _| !gone.contains(name));
        pruned.map(|()| removed)
    }

    /// Removes lines that are too old. Blocks.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn forget_old(&self, now_ms: i64) -> io::Result<()> {
        let Some(days) = self.log.days_max else { return Ok(()) };
        let oldest = oldest_kept(now_ms, days);
        let mut now = lock(&self.open);
        forget(&self.log.path, oldest)?;
        *now = open(&self.log.path)?;
        drop(now);
        lock(&self.answers).retain(|_, answer| oldest <= answer.at);
        Ok(())
    }
}

fn name_of(answer: &ServedCompletion) -> AnswerName {
    AnswerName { request_id: answer.request_id.clone(), choice: answer.choice }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

/// `completions.jsonl` becomes `completions.1.jsonl`, the next `completions.2.jsonl`, …: behind all that are there, so that they stay in
/// their order where the first are gone.
fn next_aside(path: &Path) -> io::Result<PathBuf> {
    let numbers = log_files(path)?.into_iter().filter_map(|file| {
        aside_number(path, &file.file_name().unwrap_or_default().to_string_lossy())
    });
    Ok(aside(path, numbers.max().unwrap_or(0) + 1))
}

/// Removes lines from before `oldest` from all files of a log.
fn forget(path: &Path, oldest: i64) -> io::Result<()> {
    prune(path, &mut |line| match line.at_ms() {
        Some(at) if at < oldest => Fate::Goes,
        // Lines come in the order of time: nothing is old behind one that is young.
        _ => Fate::StaysAndAllBehind,
    })
}

/// Whose lines are removed.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// Those of a person, by their pseudonym.
    Person(String),
    /// Those of a request.
    Request(String),
}

impl Whose {
    fn asked_for(&self, one: &ServedCompletion) -> bool {
        match self {
            Self::Person(by) => one.by.as_ref() == Some(by),
            Self::Request(id) => one.request_id == *id,
        }
    }

    fn said(&self, one: &ServedFeedback) -> bool {
        matches!(self, Self::Person(by) if one.by == *by)
    }
}

/// How many lines were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) completions: usize,
    pub(crate) feedback: usize,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Stays,
    /// Nothing more of its file goes.
    StaysAndAllBehind,
}

/// Removes lines from all files of a log, in the order in which they were written; files of which nothing is left go.
fn prune(path: &Path, fate: &mut dyn FnMut(&ServedLine) -> Fate) -> io::Result<()> {
    for file in log_files(path)? {
        let (mut kept, mut has_gone, mut all_behind) = (Vec::new(), false, false);
        for (number, line) in BufReader::new(File::open(&file)?).lines().enumerate() {
            let line = line?;
            if !all_behind {
                let bad = |what: String| {
                    io::Error::other(format!("{}:{}: {what}", file.display(), number + 1))
                };
                let parsed: Value =
                    serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
                let fate = fate(&ServedLine::of(parsed).map_err(bad)?);
                if fate == Fate::Goes {
                    has_gone = true;
                    continue;
                }
                all_behind = fate == Fate::StaysAndAllBehind;
                if all_behind && !has_gone {
                    break;
                }
            }
            kept.push(line);
        }
        match (has_gone, kept.is_empty()) {
            (false, _) => {}
            (true, true) => fs::remove_file(&file)?,
            (true, false) => {
                let text = kept.join("\n") + "\n";
                write_whole(&file, |writer| writer.write_all(text.as_bytes()))?;
            }
        }
    }
    Ok(())
}
