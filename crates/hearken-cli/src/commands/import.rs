//! `hearken import`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_data::OnBadRecord;
use hearken_data::feedback::Item;
use hearken_data::feedback::formats::{Format, Import as Imported, ImportOptions, import};
use hearken_store::{Added, Store, StoreError};

use super::output_file::check_output;
use crate::table::table;
use crate::{hub, output};

/// Bring items and judgements from files into a store
///
/// Each file tells its format by its first row: JSON lines, a JSON list or CSV, plain or gzip, with
/// the columns of Hearken, TRL, HH-RLHF, UltraFeedback, HelpSteer, Nectar, LMArena, PRM800K, Label
/// Studio, Argilla, Potato, LLMFAO, AlpacaEval and others. Ids are hashes of what the rows say, so importing
/// a file again adds nothing. Without --into, the files are read and counted only.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command")]
pub(crate) struct Import {
    /// The files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The store: a SQLite file (made if missing), FILE.jsonl, or postgres://…
    #[arg(long, value_name = "STORE")]
    into: Option<String>,

    /// The format of all files, instead of what the first row of each tells
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Leave out the judgements of the files, and count them: the items are to be judged anew
    #[arg(long)]
    items_only: bool,

    /// How many annotators are to judge each item
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    overlap: Option<u32>,

    /// Who judged, where the format does not say
    #[arg(long, value_name = "NAME")]
    annotator: Option<String>,

    /// Blur the items until the annotator asks for them
    #[arg(long)]
    sensitive: bool,

    /// Leave bad rows out and count them, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,

    /// The most rows to read of each file
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// For LMArena: leave out votes on answers that are empty, broken off or an error, on conversations
    /// that tell who answers, and by those who saw the names
    #[arg(long)]
    clean: bool,

    /// The most judgements of an annotator that count per day (UTC): the first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    judgements_per_day: Option<u32>,

    /// For Label Studio, Argilla and Potato: which column is the `prompt`, which (with commas) the `candidates`
    #[arg(long = "column", value_name = "NAME=COLUMN", value_parser = column)]
    columns: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  hearken import runs/quickstart/data/preferences.jsonl --into runs/judged.db \\
      --overlap 3
  # Files as others publish them
  hearken import crowd-comparisons.csv pairs-crowd.jsonl --into votes.db
  hearken import export.json --column prompt=question \\
      --column candidates=left,right
  hearken import battles.json --into arena.db --clean --judgements-per-day 50
  hearken import harmless-base.jsonl.gz --into hearken.db --sensitive";

fn column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name @ ("prompt" | "candidates"), column)) => Ok((name.into(), column.into())),
        _ => Err("expected prompt=COLUMN or candidates=COLUMN,COLUMN".into()),
    }
}

impl Import {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let options = ImportOptions {
            on_bad_record: if self.skip_bad { OnBadRecord::Skip } else { OnBadRecord::Stop },
            annotator: self.annotator,
            items_only: self.items_only,
            overlap: self.overlap,
            sensitive: self.sensitive,
            limit: self.limit,
            clean: self.clean,
            judgements_per_day: self.judgements_per_day.map(|number| number as usize),
            columns: self.columns.into_iter().collect(),
            ..ImportOptions::default()
        };
        if let Some(into) = self.into.as_deref().filter(|into| !into.contains("://")) {
            let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
            check_output(Path::new(into), &files)?;
        }
        let files: Result<Vec<PathBuf>> =
            self.files.iter().map(|file| hub::records(file)).collect();
        let imported = import(&files?, self.format, &options)?;
        if imported.items.is_empty() && imported.judgements.is_empty() {
            bail!(
                "{}: found {} prompts without answers, and so nothing to judge; expected items with \
                 candidates (`hearken generate` answers prompts)",
                self.files[0].display(),
                imported.prompts.len()
            );
        }
        let added = match &self.into {
            Some(into) => Some(add(hearken_store::open(into)?.as_ref(), &imported)?),
            None => None,
        };
        output::print(&report(&imported, added, self.into.as_deref()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a store made of items and judgements.
#[derive(Clone, Copy)]
struct Stored {
    items: Added,
    judgements: Added,
}

fn add(store: &dyn Store, imported: &Imported) -> Result<Stored> {
    let items = match store.add_items(&imported.items) {
        Err(StoreError::Conflict(_) | StoreError::Invalid(_)) => {
            add_new_items(store, &imported.items)?
        }
        result => result?,
    };
    let judgements = store.add_judgements(&imported.judgements)?;
    Ok(Stored { items, judgements })
}

/// Adds what is not there. An item that is there and asks the same stays as it is, whatever is said
/// about its handling; one that asks something else under the same name is an error.
pub(super) fn add_new_items(store: &dyn Store, items: &[Item]) -> Result<Added> {
    let mut new = Vec::new();
    for item in items {
        match store.item(&item.id)? {
            Some(known) if known.hash() == item.hash() => {}
            _ => new.push(item.clone()),
        }
    }
    let there = (items.len() - new.len()) as u64;
    let added = store.add_items(&new)?;
    Ok(Added { already_there: added.already_there + there, ..added })
}

fn report(imported: &Imported, stored: Option<Stored>, into: Option<&str>) -> String {
    let report = &imported.report;
    let count = |number: usize| number.to_string();
    let mut header = vec!["", "in the files", "repeated"];
    let mut items = vec!["items".to_owned(), count(report.items), count(report.repeated_items)];
    let mut judgements =
        vec!["judgements".to_owned(), count(report.judgements), count(report.repeated_judgements)];
    if let Some(stored) = stored {
        header.extend(["added", "already there", ""]);
        for (row, added) in [(&mut items, stored.items), (&mut judgements, stored.judgements)] {
            row.extend([added.added.to_string(), added.already_there.to_string(), String::new()]);
        }
    } else {
        header.push("");
        items.push(String::new());
        judgements.push(String::new());
    }
    let formats: Vec<&str> = report.formats.iter().map(|format| format.as_str()).collect();
    let into = into.map(|into| format!(" into {into}")).unwrap_or_default();
    let mut text = format!("{} rows of {}{into}\n", report.rows, formats.join(", "));
    text += &table(&header, &[items, judgements]);
    let mut notes: Vec<Vec<String>> = report
        .left_out
        .iter()
        .map(|(what, n)| vec![what.clone(), count(*n), String::new()])
        .collect();
    if 0 < report.skipped {
        notes.push(vec!["bad row, skipped".into(), count(report.skipped), String::new()]);
    }
    if 0 < report.without_item {
        let what = "judgement about an item that the files do not hold";
        notes.push(vec![what.into(), count(report.without_item), String::new()]);
    }
    if !notes.is_empty() {
        text += "\n";
        text += &table(&["left out or noted", "count", ""], &notes);
    }
    for reason in &report.reasons {
        text.push_str(reason);
        text.push('\n');
    }
    text
}
