//! `hearken analyze`.

mod election;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_analysis::voting::Election;
use hearken_analysis::{Analysis, Figure, Options, analyze, election_html, html};
use hearken_data::write_whole;
use hearken_stats::Estimate;
use hearken_stats::estimate::Interval;

use super::output_file::check_outputs;
use crate::output::{print, say};
use crate::sources;
use crate::table::table;

/// Say what judgements say: agreement, annotators, patterns, leaderboard, voting rules
///
/// Reads stores and files of judgements in any of the import formats and prints a summary; --html writes the
/// whole report as one page, --json every number under the names of docs/analyze.md. Several sources are put
/// together: votes in one file find their pairs in another. A folder stands for its files of comparisons.
///
/// A file of bare votes, a matrix of pairs (CSV) or ballots (lines "42: A > B = C"), is an election: voting rules say what they
/// would choose.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Analyze {
    /// Stores or files of judgements
    #[arg(value_name = "STORE_OR_FILE", required = true)]
    sources: Vec<String>,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the report, a page by itself, to FILE
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Rounds of every bootstrap; 0 leaves those intervals unbounded
    #[arg(long, value_name = "N", default_value_t = 1000)]
    bootstrap: usize,

    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  hearken import runs/quickstart/data/preferences.jsonl --into runs/judged.db
  hearken analyze runs/judged.db --html report.html
  hearken analyze postgres://user@host/labels --json numbers.json
  # Files as others publish them
  hearken analyze crowd-comparisons.csv gpt4-crowd-comparisons.csv \\
      --bootstrap 200
  hearken analyze ballots.txt --html election.html";

impl Analyze {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_results([&self.json, &self.html], &self.sources)?;
        if let Some(election) = election::load(&self.sources)? {
            return self.elect(&election);
        }
        let records = sources::load(&self.sources)?;
        if records.judgements.is_empty() {
            bail!(
                "{}: found {} items and no judgement; expected judgements, as a store or a file of docs/formats.md has them",
                self.sources.join(", "),
                records.items.len()
            );
        }
        say(&format!(
            "{} items, {} judgements; analyzing …",
            records.items.len(),
            records.judgements.len()
        ));
        let options =
            Options { bootstrap_rounds: self.bootstrap, seed: self.seed, ..Options::default() };
        let analysis = analyze(&records, &options);
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&analysis)? + "\n"))?;
        }
        if let Some(path) = &self.html {
            write(path, &html(&analysis))?;
        }
        print(&summary(&analysis))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Voting rules on votes without prompts and answers.
    fn elect(&self, election: &Election) -> Result<ExitCode> {
        let analysis = election.analyze();
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&analysis)? + "\n"))?;
        }
        if let Some(path) = &self.html {
            write(path, &election_html(&analysis))?;
        }
        print(&election::summary(&analysis.voting))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a file and says so.
/// Refuses results that would overwrite one another or what is read.
pub(super) fn check_results(results: [&Option<PathBuf>; 2], sources: &[String]) -> Result<()> {
    let results: Vec<&Path> = results.into_iter().flatten().map(PathBuf::as_path).collect();
    let sources: Vec<&Path> = sources.iter().map(Path::new).collect();
    check_outputs(&results, &sources)
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    say(&format!("wrote {}", path.display()));
    Ok(())
}

/// Value, interval and n in units of 1/`scale`, or why not.
pub(super) fn figure(figure: &Figure, scale: f64, digits: usize) -> [String; 3] {
    match figure {
        Figure::Known(e) => {
            let Estimate { value, low, high, n, .. } = e.map(|x| scale * x);
            let interval = Interval { low, high, digits };
            [format!("{value:.digits$}"), interval.to_string(), n.to_string()]
        }
        Figure::Missing { .. } => ["–".into(), String::new(), String::new()],
    }
}

fn summary(analysis: &Analysis) -> String {
    let parts = [
        progress(analysis),
        agreement(analysis),
        annotators(analysis),
        judges(analysis),
        patterns(analysis),
        leaderboard(analysis),
        election::rules(&analysis.voting),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

fn progress(analysis: &Analysis) -> String {
    let p = &analysis.progress;
    let mut text = format!(
        "{} judgements by {} annotators on {} of {} items\n",
        p.judgements_by_annotators, p.annotators, p.items_judged, p.items
    );
    let kinds: Vec<String> =
        p.judgements_by_kind.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    let _ = writeln!(text, "  {}", kinds.join(", "));
    if let Some(e) = p.seconds.median.known() {
        let _ = writeln!(text, "  {:.1} s per judgement in the median, n={}", e.value, e.n);
    }
    for note in &p.notes {
        let _ = writeln!(text, "  {note}");
    }
    text
}

/// A title and a table of what, value, interval, n.
fn facts(title: &str, rows: &[(&str, &Figure, f64, usize)]) -> String {
    let row = |(what, number, scale, digits): &(&str, &Figure, f64, usize)| {
        let [value, interval, n] = figure(number, *scale, *digits);
        let last = match number {
            Figure::Known(_) => n,
            Figure::Missing { missing } => missing.clone(),
        };
        vec![(*what).to_owned(), value, interval, last]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    table(&[title, "value", "95 % interval", "n"], &rows)
}

fn agreement(analysis: &Analysis) -> String {
    let c = &analysis.agreement.comparisons;
    facts(
        "agreement",
        &[
            ("equal verdicts, %", &c.raw, 100.0, 1),
            ("equal verdicts without ties, %", &c.raw_decisive, 100.0, 1),
            ("Cohen's kappa", &c.cohen, 1.0, 4),
            ("Fleiss' kappa", &c.fleiss, 1.0, 4),
            ("Krippendorff's alpha, nominal", &c.alpha_nominal, 1.0, 4),
            ("Krippendorff's alpha, ordinal", &c.alpha_ordinal, 1.0, 4),
            ("Krippendorff's alpha, interval", &c.alpha_interval, 1.0, 4),
            ("left side of decisive votes, %", &analysis.annotators.left_share, 100.0, 2),
        ],
    )
}

fn annotators(analysis: &Analysis) -> String {
    let a = &analysis.annotators;
    let mut text = String::new();
    let conspicuous: Vec<_> = a.list.iter().filter(|k| !k.conspicuous.is_empty()).collect();
    let _ = writeln!(
        text,
        "{} of {} annotators are conspicuous (level {}, corrected)",
        conspicuous.len(),
        a.list.len(),
        a.level
    );
    for k in conspicuous {
        for reason in &k.conspicuous {
            let _ = writeln!(text, "  {}: {}", k.name, reason.why);
        }
    }
    if analysis.groups.found {
        let [larger, smaller] = &analysis.groups.members;
        let _ = writeln!(
            text,
            "  annotators fall into two groups of {} and {} that prefer differently",
            larger.len(),
            smaller.len()
        );
    }
    text
}

fn judges(analysis: &Analysis) -> String {
    let row = |j: &hearken_analysis::judges::Judge| {
        let [agreement, interval, n] = figure(&j.agreement, 100.0, 1);
        let [left, _, _] = figure(&j.left_share, 100.0, 1);
        vec![j.name.clone(), j.votes.to_string(), left, agreement, interval, n]
    };
    let rows: Vec<Vec<String>> = analysis.judges.list.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["judge", "votes", "left, %", "agrees with people, %", "95 % interval", "n"], &rows)
}

fn patterns(analysis: &Analysis) -> String {
    let row = |p: &hearken_analysis::patterns::Pattern| {
        let [effect, interval, _] = figure(&p.effect, 1.0, 3);
        let [more, _, n] = figure(&p.more_wins, 100.0, 1);
        let holm = p.test.map_or_else(String::new, |test| format!("{:.4}", test.p_holm));
        vec![p.feature.clone(), effect, interval, holm, more, n]
    };
    let rows: Vec<Vec<String>> = analysis.patterns.features.iter().map(row).collect();
    if analysis.patterns.pairs == 0 {
        return String::new();
    }
    let header = ["feature", "log-odds per SD", "95 % interval", "p, Holm", "more wins, %", "n"];
    table(&header, &rows)
}

fn leaderboard(analysis: &Analysis) -> String {
    const SHOWN: usize = 20;
    let board = &analysis.leaderboard;
    let row = |m: &hearken_analysis::leaderboard::ModelRow| {
        let [rating, interval, n] = figure(&m.rating, 1.0, 0);
        let bounds = m.rank_bounds.map_or_else(String::new, |b| format!("{}–{}", b.best, b.worst));
        let [rate, _, _] = figure(&m.win_rate, 100.0, 1);
        vec![m.model.clone(), m.rank.to_string(), bounds, rating, interval, rate, n]
    };
    let rows: Vec<Vec<String>> = board.models.iter().take(SHOWN).map(row).collect();
    let mut text = String::new();
    for note in &board.notes {
        let _ = writeln!(text, "{note}");
    }
    if rows.is_empty() {
        return text;
    }
    text += &table(&["model", "rank", "bounds", "rating", "95 % interval", "wins, %", "n"], &rows);
    if board.models.len() > SHOWN {
        let _ = writeln!(text, "… and {} more", board.models.len() - SHOWN);
    }
    let triads = &board.triads;
    let _ = writeln!(text, "{} of {} triads of models are cyclic", triads.cyclic, triads.complete);
    text
}
