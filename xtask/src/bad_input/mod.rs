//! Inputs with one thing wrong each, given to the program: does it say what, and leave all files
//! alone?
//!
//! `cargo xtask bad-input [SEED]` makes a workshop with a model, records and configurations that
//! work, and from them several hundred cases: one key, record or file of a model is damaged in each.
//! A case passes if the program ends with exit code 1 and a message that names the place, and if
//! every file that was there before is there afterwards, byte for byte. Counts by kind go to
//! docs/results/bad-input.json.

mod configurations;
mod models;
mod records;
mod workshop;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::results;
use workshop::Workshop;

/// What is wrong, what is run, and what the message has to name.
#[derive(Debug)]
struct Case {
    kind: &'static str,
    /// For people who read the findings.
    what: String,
    /// Files to write before the program starts, from the workshop's root.
    files: Vec<(String, Vec<u8>)>,
    arguments: Vec<String>,
    /// The message names one of these.
    places: Vec<String>,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Clear,
    Accepted,
    Vague,
    FileLost,
    Panicked,
    TimedOut,
}

impl Verdict {
    const ALL: [Self; 6] =
        [Self::Clear, Self::Accepted, Self::Vague, Self::FileLost, Self::Panicked, Self::TimedOut];

    fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear message with the place",
            Self::Accepted => "accepted",
            Self::Vague => "message without the place",
            Self::FileLost => "a file was lost or changed",
            Self::Panicked => "panic",
            Self::TimedOut => "no end within the time limit",
        }
    }
}

/// The longest that a case may take.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(root: &Path, seed: u64) -> Result<()> {
    let program = results::build(root)?;
    let workshop = Workshop::make(&program, root)?;
    let mut draws = Draws(seed);
    let mut cases = configurations::cases(&workshop, &mut draws)?;
    cases.extend(records::cases(&mut draws));
    cases.extend(models::cases(&workshop, &mut draws)?);
    let mut counts: BTreeMap<&str, BTreeMap<Verdict, u64>> = BTreeMap::new();
    for (index, case) in cases.iter().enumerate() {
        let (verdict, message) = judge(&program, &workshop, case)?;
        *counts.entry(case.kind).or_default().entry(verdict).or_default() += 1;
        if verdict != Verdict::Clear {
            let shown: String = message.chars().take(600).collect();
            crate::say(&format!("{index}: {}: {}\n{shown}\n", verdict.name(), case.what));
        }
    }
    let kinds: Vec<_> = counts
        .iter()
        .map(|(kind, verdicts)| {
            let count = |verdict| verdicts.get(&verdict).copied().unwrap_or(0);
            let counted = Verdict::ALL.map(|verdict| (verdict.name(), count(verdict)));
            json!({"kind": kind, "cases": verdicts.values().sum::<u64>(),
                   "verdicts": counted.into_iter().collect::<BTreeMap<_, _>>()})
        })
        .collect();
    let about = results::about(root, &format!("cargo xtask bad-input {seed}"))?;
    let found = json!({"about": about, "seed": seed, "cases": cases.len(), "kinds": kinds});
    results::write(root, "bad-input.json", &found)?;
    let unclear: u64 = counts
        .values()
        .flatten()
        .filter(|(verdict, _)| **verdict != Verdict::Clear)
        .map(|(_, count)| count)
        .sum();
    crate::say(&format!("{} cases, {unclear} without a clear message", cases.len()));
    if 0 < unclear {
        bail!("{unclear} of {} cases did not end with a clear message", cases.len());
    }
    Ok(())
}

fn judge(program: &Path, workshop: &Workshop, case: &Case) -> Result<(Verdict, String)> {
    let scratch = workshop.restore()?;
    for (path, bytes) in &case.files {
        let path = scratch.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    let before = workshop::contents(scratch)?;
    let log = std::fs::File::create(workshop.log())?;
    let mut child = Command::new(program)
        .current_dir(scratch)
        .args(&case.arguments)
        // A path that is not there may be a name of the hub.
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .spawn()
        .context("cannot start the program")?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if LIMIT < start.elapsed() {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let message = String::from_utf8_lossy(&std::fs::read(workshop.log())?).into_owned();
    let after = workshop::contents(scratch)?;
    let is_kept = before.iter().all(|(path, hash)| after.get(path) == Some(hash));
    let names_place = case.places.iter().any(|place| message.contains(place));
    let verdict = match status.map(|status| status.code()) {
        None => Verdict::TimedOut,
        // Killed by a signal, or Rust's exit code of a panic.
        Some(None | Some(101)) => Verdict::Panicked,
        _ if message.contains("panicked") => Verdict::Panicked,
        _ if !is_kept => Verdict::FileLost,
        Some(Some(0)) => Verdict::Accepted,
        _ if names_place => Verdict::Clear,
        _ => Verdict::Vague,
    };
    Ok((verdict, message))
}

/// Numbers from a seed: Steele, Lea and Flood 2014, SplitMix64.
#[derive(Debug)]
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An index below `count`.
    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).expect("it is below a usize")
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// `words`, as arguments.
fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
