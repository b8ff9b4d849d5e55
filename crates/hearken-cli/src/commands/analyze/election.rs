//! Votes without prompts and answers, and what voting rules choose.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use hearken_analysis::voting::{Election, ElectionForm, RuleResult, Voting};

use crate::table::table;

/// As much of a file as tells its form.
const START: u64 = 64 << 10;

/// The election that a file holds; `None` where the sources are something else.
pub(super) fn load(sources: &[String]) -> Result<Option<Election>> {
    for source in sources {
        let path = Path::new(source);
        if source.contains("://") || !path.is_file() || hearken_store::is_database(source) {
            continue;
        }
        let unreadable = || format!("{source}: cannot be read");
        let mut start = Vec::new();
        let file = File::open(path).with_context(unreadable)?;
        file.take(START).read_to_end(&mut start).with_context(unreadable)?;
        let Some(form) = ElectionForm::of(&String::from_utf8_lossy(&start)) else { continue };
        if sources.len() > 1 {
            bail!(
                "{source}: found an election beside other sources; expected it to be the only one"
            );
        }
        let text = std::fs::read_to_string(path).with_context(unreadable)?;
        let election = Election::parse(form, &text)
            .map_err(|error| anyhow!("{source}:{}: {error}", error.line))?;
        return Ok(Some(election));
    }
    Ok(None)
}

/// All that is said of an election.
pub(super) fn summary(voting: &Voting) -> String {
    let mut text = format!("{} alternatives, ", voting.candidates.len());
    if voting.ballots > 0 {
        let _ = write!(text, "{} ballots, ", voting.ballots);
    }
    let _ = writeln!(text, "{} votes on pairs", voting.votes);
    for note in &voting.notes {
        let _ = writeln!(text, "  {note}");
    }
    text + "\n" + &rules(voting)
}

/// What each rule chooses, and whether they agree.
pub(super) fn rules(voting: &Voting) -> String {
    const SHOWN: usize = 4;
    let row = |r: &RuleResult| {
        let mut winners: Vec<&str> = r.winners.iter().take(SHOWN).map(String::as_str).collect();
        if r.winners.len() > SHOWN {
            winners.push("…");
        }
        let note = r.note.clone().unwrap_or_default();
        vec![r.rule.replace('_', " "), winners.join(", "), note]
    };
    let rows: Vec<Vec<String>> = voting.rules.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = table(&["rule", "chooses", "to know"], &rows);
    for sentence in voting.verdict() {
        let _ = writeln!(text, "{sentence}");
    }
    text
}
