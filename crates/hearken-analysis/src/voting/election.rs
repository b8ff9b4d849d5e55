//! Elections: votes on named alternatives without prompts and answers, as a matrix of pairs or as bare ballots.

use std::collections::HashMap;

use hearken_stats::social_choice::{Ballot, PairMatrix, Profile};
use serde::{Deserialize, Serialize};

use super::{Voting, decide, undecided};
use crate::VERSION;

/// How a file writes an election down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionForm {
    /// Comma-separated values: the alternatives after a blank corner, and a row for each; a cell is the number of votes that prefer
    /// its row to its column.
    Matrix,
    /// Lines `COUNT: A > B = C > D`; what a line leaves out is compared with nothing. `#` starts a comment.
    Ballots,
}

/// Votes on named alternatives.
#[derive(Clone, Debug, PartialEq)]
pub struct Election {
    /// The alternatives, in the order of their first mention.
    pub alternatives: Vec<String>,
    /// The votes on them.
    pub votes: ElectionVotes,
}

/// The votes of an election.
#[derive(Clone, Debug, PartialEq)]
pub enum ElectionVotes {
    /// Votes on pairs.
    Pairs(PairMatrix),
    /// Rankings.
    Ballots(Profile),
}

/// What voting rules make of an election.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElectionAnalysis {
    /// [`VERSION`].
    pub version: u32,
    /// What each rule chooses.
    pub voting: Voting,
}

/// What a file says that no election can be read from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}; expected {expected}")]
pub struct ElectionError {
    /// The line, from 1.
    pub line: usize,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: &'static str,
}

fn error(line: usize, found: impl Into<String>, expected: &'static str) -> ElectionError {
    ElectionError { line, found: found.into(), expected }
}

impl ElectionForm {
    /// The form of a text that begins like an election: with a blank cell, or with a count and a colon.
    ///
    /// ```
    /// use hearken_analysis::voting::ElectionForm;
    ///
    /// assert_eq!(ElectionForm::of("# cities\n42: Memphis > Nashville"), Some(ElectionForm::Ballots));
    /// assert_eq!(ElectionForm::of(",A,B\nA,,3\nB,2,"), Some(ElectionForm::Matrix));
    /// assert_eq!(ElectionForm::of("{\"id\": 1}"), None);
    /// ```
    pub fn of(text: &str) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
        if line.starts_with(',') || line.starts_with("\"\",") {
            return Some(Self::Matrix);
        }
        let (count, _) = line.split_once(':')?;
        count.trim().parse::<f64>().is_ok().then_some(Self::Ballots)
    }
}

impl Election {
    /// Reads an election.
    ///
    /// # Errors
    /// If the text is not of that form; the error names the line.
    pub fn parse(form: ElectionForm, text: &str) -> Result<Self, ElectionError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let election = match form {
            ElectionForm::Matrix => matrix(text)?,
            ElectionForm::Ballots => ballots(text)?,
        };
        if election.alternatives.len() < 2 {
            let found = match &election.alternatives[..] {
                [one] => format!("one alternative, {one:?}"),
                _ => "no alternatives".to_owned(),
            };
            return Err(error(text.lines().count().max(1), found, "two or more"));
        }
        Ok(election)
    }

    /// What each rule chooses.
    pub fn analyze(&self) -> ElectionAnalysis {
        let names: Vec<&str> = self.alternatives.iter().map(String::as_str).collect();
        let mut voting = undecided(&names);
        let (pairs, profile) = match &self.votes {
            ElectionVotes::Pairs(pairs) => (pairs.clone(), None),
            ElectionVotes::Ballots(profile) => (profile.pairs(), Some(profile)),
        };
        voting.votes = total(&pairs);
        decide(&mut voting, &pairs, profile);
        ElectionAnalysis { version: VERSION, voting }
    }
}

/// All votes of a matrix; halves of ties are rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of votes")]
fn total(pairs: &PairMatrix) -> usize {
    let n = pairs.candidates();
    let all = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
    all.map(|(a, b)| pairs.support(a, b)).sum::<f64>().round() as usize
}

const CELL: &str = "a number of votes, 0 or more";

fn matrix(text: &str) -> Result<Election, ElectionError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut alternatives: Vec<String> = Vec::new();
    let mut places = HashMap::new();
    let mut votes = PairMatrix::new(0);
    let mut filled = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|wrong| {
            let line = wrong.position().map_or(1, csv::Position::line);
            error(
                usize::try_from(line).unwrap_or(usize::MAX),
                wrong.to_string(),
                "comma-separated values",
            )
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        let line = usize::try_from(line).unwrap_or(usize::MAX);
        if alternatives.is_empty() {
            alternatives = record.iter().skip(1).map(str::to_owned).collect();
            places = header(line, &alternatives)?;
            votes = PairMatrix::new(alternatives.len());
            filled = vec![false; alternatives.len()];
            continue;
        }
        let name = record.get(0).unwrap_or_default();
        let Some(&row) = places.get(name) else {
            return Err(error(
                line,
                format!("a row named {name:?}"),
                "an alternative of the first line",
            ));
        };
        if std::mem::replace(&mut filled[row], true) {
            return Err(error(
                line,
                format!("a second row for {name:?}"),
                "one row per alternative",
            ));
        }
        if record.len() != alternatives.len() + 1 {
            let found = format!("{} cells after the name", record.len() - 1);
            return Err(error(line, found, "one per alternative of the first line"));
        }
        for (column, cell) in record.iter().skip(1).enumerate() {
            cells(line, row, column, cell, &mut votes)?;
        }
    }
    if let Some(missing) = filled.iter().position(|filled| !filled) {
        let found = format!("no row for {:?}", alternatives[missing]);
        return Err(error(text.lines().count(), found, "one row per alternative"));
    }
    Ok(Election { alternatives, votes: ElectionVotes::Pairs(votes) })
}

/// The place of each alternative that the first line names.
fn header(line: usize, alternatives: &[String]) -> Result<HashMap<String, usize>, ElectionError> {
    let mut places = HashMap::new();
    for (at, name) in alternatives.iter().enumerate() {
        if name.is_empty() {
            return Err(error(line, format!("no name in column {}", at + 2), "an alternative"));
        }
        if places.insert(name.clone(), at).is_some() {
            return Err(error(line, format!("{name:?} twice"), "each alternative once"));
        }
    }
    Ok(places)
}

/// Adds one cell; the diagonal says nothing.
fn cells(
    line: usize,
    row: usize,
    column: usize,
    cell: &str,
    votes: &mut PairMatrix,
) -> Result<(), ElectionError> {
    let number = cell.parse::<f64>().ok().filter(|votes| votes.is_finite() && *votes >= 0.0);
    match number {
        Some(number) if row != column => votes.add(row, column, number),
        Some(0.0) => {}
        None if row == column && matches!(cell, "" | "-" | "–") => {}
        _ if row == column => {
            let found = format!("{cell:?} in column {}", column + 2);
            return Err(error(line, found, "0 or nothing where an alternative meets itself"));
        }
        _ => return Err(error(line, format!("{cell:?} in column {}", column + 2), CELL)),
    }
    Ok(())
}

const BALLOT: &str = "a count, a colon and names, \"42: A > B = C\"";

fn ballots(text: &str) -> Result<Election, ElectionError> {
    let mut alternatives = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut list = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (number, line) = (at + 1, line.split('#').next().unwrap_or_default().trim());
        if line.is_empty() {
            continue;
        }
        let Some((count, ranking)) = line.split_once(':') else {
            return Err(error(number, format!("{line:?}"), BALLOT));
        };
        let count = count.trim();
        let weight = count.parse::<u32>().ok().filter(|&count| count > 0);
        let Some(weight) = weight else {
            return Err(error(
                number,
                format!("{count:?} before the colon"),
                "a number of voters, 1 or more",
            ));
        };
        let mut tiers = Vec::new();
        let mut ranked = Vec::new();
        for tier in ranking.split('>') {
            let mut equals = Vec::new();
            for name in tier.split('=').map(str::trim) {
                check(number, name)?;
                let place = *places.entry(name.to_owned()).or_insert_with(|| {
                    alternatives.push(name.to_owned());
                    alternatives.len() - 1
                });
                if ranked.contains(&place) {
                    return Err(error(
                        number,
                        format!("{name:?} twice"),
                        "each alternative at most once",
                    ));
                }
                ranked.push(place);
                equals.push(place);
            }
            tiers.push(equals);
        }
        list.push(Ballot { tiers, weight: f64::from(weight) });
    }
    let profile =
        Profile::new(alternatives.len(), list).expect("each alternative once, of those named");
    Ok(Election { alternatives, votes: ElectionVotes::Ballots(profile) })
}

/// Refuses what is no name, above all numbers between commas as other ballot files have them: they would pass for one name.
fn check(line: usize, name: &str) -> Result<(), ElectionError> {
    if name.is_empty() {
        return Err(error(line, "no name beside a colon, > or =", BALLOT));
    }
    if name.contains([',', ';', ':', '<', '{', '}']) {
        return Err(error(
            line,
            format!("{name:?}"),
            "names without , ; : < { }, with > or = between them",
        ));
    }
    Ok(())
}
