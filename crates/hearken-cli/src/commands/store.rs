//! `hearken store`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hearken_store::{Copied, Exported};

use super::output_file::check_output;
use crate::output::{print, say};
use crate::table::table;

/// Look into a store of judgements, copy it, back it up
///
/// A store is a file of JSON lines (`NAME.jsonl`), a SQLite file (any other path), or a PostgreSQL
/// database (`postgres://USER@HOST/DATABASE`).
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Store {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  hearken import runs/quickstart/data/preferences.jsonl --into runs/judged.db
  hearken store info runs/judged.db
  # While the service runs
  mkdir -p backups && hearken store backup runs/judged.db backups/monday.db
  # Into a store that is new or empty
  hearken store restore backups/monday.db runs/restored.db
  hearken store export runs/judged.db judgements.jsonl
  hearken store copy runs/judged.db postgres://ada@db.example/labels";

#[derive(Debug, Subcommand)]
enum Action {
    /// Print where a store is and how much is in it
    Info {
        /// The store
        store: String,
    },
    /// Copy everything from one store to another, which must be new or empty
    Copy {
        /// The store to read; a SQLite or PostgreSQL store may be in use
        from: String,
        /// The store to fill
        to: String,
    },
    /// Write a copy of one moment to a new file, also while the store is in use
    Backup {
        /// The store
        store: String,
        /// The new file: JSON lines if it ends in .jsonl, SQLite otherwise
        file: PathBuf,
    },
    /// Fill a store, which must be new or empty, from a backup
    Restore {
        /// The backup
        file: PathBuf,
        /// The store to fill
        store: String,
    },
    /// Write items and judgements as JSON lines to a new file
    Export {
        /// The store
        store: String,
        /// The new file
        file: PathBuf,
        /// Write accounts, settings, assignments and the audit log as well
        #[arg(long)]
        all: bool,
    },
}

impl Store {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.action {
            Action::Info { store } => info(&store)?,
            Action::Copy { from, to } => copy(&from, &to)?,
            Action::Restore { file, store } => match file.to_str() {
                Some(from) if file.is_file() => copy(from, &store)?,
                _ => bail!("{}: there is no such file", file.display()),
            },
            Action::Backup { store, file } => {
                check_output(&file, &[Path::new(&store)])?;
                hearken_store::backup(&*open(&store)?, &file)?;
                print(&format!("{}\n", file.display()))?;
            }
            Action::Export { store, file, all } => {
                check_output(&file, &[Path::new(&store)])?;
                let what = if all { Exported::Everything } else { Exported::Data };
                hearken_store::export_json_lines(&*open(&store)?, &file, what)?;
                print(&format!("{}\n", file.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Opens a store that exists, and passes on what it has noticed.
fn open(url: &str) -> Result<Box<dyn hearken_store::Store>> {
    let store = hearken_store::open_existing(url)?;
    store.notices().iter().for_each(|notice| say(notice));
    Ok(store)
}

fn info(url: &str) -> Result<()> {
    let store = open(url)?;
    let counts = store.counts()?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let taken = store.taken(i64::try_from(since.as_millis())?)?;
    let judged = taken.iter().filter(|item| item.judged > 0).count();
    let held: u64 = taken.iter().map(|item| u64::from(item.held)).sum();
    let rows = [
        ("items", counts.items.to_string()),
        ("items with a judgement", judged.to_string()),
        ("judgements", counts.judgements.to_string()),
        ("annotators who have judged", counts.annotators.to_string()),
        ("items in the hands of annotators", held.to_string()),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(name, count)| vec![name.to_owned(), count]).into();
    print(&table(&["store", &store.home()], &rows))?;
    Ok(())
}

fn copy(from: &str, to: &str) -> Result<()> {
    if !to.contains("://") {
        check_output(Path::new(to), &[Path::new(from)])?;
    }
    let from = open(from)?;
    let to = hearken_store::open(to)?;
    let Copied { documents, items, assignments, judgements, events } =
        hearken_store::copy(&*from, &*to)?;
    print(&format!(
        "{}: {items} items, {judgements} judgements, {assignments} assignments, {documents} \
         documents, {events} events\n",
        to.home()
    ))?;
    Ok(())
}
