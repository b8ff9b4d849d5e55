//! Records in and out of the store as files.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use axum::body::{Body, Bytes};
use hearken_analysis::JudgedItems;
use hearken_data::OnBadRecord;
use hearken_data::feedback::formats::{
    self, ExportOptions, ExportReport, Format, FormatError, ImportOptions, ImportReport,
};
use hearken_data::feedback::{Selection, in_force};
use hearken_store::{Everything, Store};
use serde::Serialize;
use tempfile::TempDir;

use crate::error::AppError;
use crate::pieces;
use crate::state::AppState;

/// Records that are added in one piece.
const ADD_CHUNK: usize = 5_000;

/// Everything a store has, judgements in the order in which they were appended. May block.
///
/// # Errors
///
/// The store cannot be read.
pub fn records(store: &dyn Store) -> Result<JudgedItems, AppError> {
    let Everything { items, judgements, .. } = hearken_store::everything(store)?;
    Ok(JudgedItems { items, judgements })
}

/// What an import came to.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Imported {
    /// What the file held.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub file: ImportReport,
    /// Items that are new to the store.
    pub items_added: u64,
    /// Items that were there already.
    pub items_already_there: u64,
    /// Judgements that are new to the store.
    pub judgements_added: u64,
    /// Judgements that were there already.
    pub judgements_already_there: u64,
}

/// Why files were not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read or understood.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] hearken_store::StoreError),
}

/// Reads files and adds what they hold to the store. May block.
///
/// Items are added before judgements, in pieces: where it breaks off, importing again adds the rest.
///
/// # Errors
///
/// A file cannot be read; an item or judgement contradicts one that is there; the store cannot be
/// written.
pub fn import<P: AsRef<Path>>(
    store: &dyn Store,
    paths: &[P],
    format: Option<Format>,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let import = formats::import(paths, format, options)?;
    let mut imported = Imported {
        file: import.report,
        items_added: 0,
        items_already_there: 0,
        judgements_added: 0,
        judgements_already_there: 0,
    };
    for items in import.items.chunks(ADD_CHUNK) {
        let added = store.add_items(items)?;
        imported.items_added += added.added;
        imported.items_already_there += added.already_there;
    }
    for judgements in import.judgements.chunks(ADD_CHUNK) {
        let added = store.add_judgements(judgements)?;
        imported.judgements_added += added.added;
        imported.judgements_already_there += added.already_there;
    }
    Ok(imported)
}

/// A file that somebody sends, kept in a folder of its own until it is read.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Removed with what is in it when it is dropped.
    _folder: TempDir,
    path: PathBuf,
    /// What messages call it.
    name: String,
    file: Option<File>,
    /// What is not written yet.
    waiting: Vec<u8>,
}

/// Bytes that are written at once.
const WRITTEN: usize = 1 << 20;

fn no_temporary_file(error: &io::Error) -> AppError {
    AppError::Unavailable(format!("temporary file: {error}"))
}

impl Upload {
    /// A file without a byte; what it holds, the ending of its name says.
    pub(crate) fn named(name: &str) -> Result<Self, AppError> {
        let folder = tempfile::tempdir().map_err(|error| no_temporary_file(&error))?;
        let path = folder.path().join(upload_name(name));
        let file = File::create_new(&path).map_err(|error| no_temporary_file(&error))?;
        let waiting = Vec::new();
        Ok(Self { _folder: folder, path, name: name.to_owned(), file: Some(file), waiting })
    }

    /// Adds to it.
    pub(crate) async fn take(&mut self, bytes: &[u8]) -> Result<(), AppError> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() < WRITTEN { Ok(()) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<(), AppError> {
        let (Some(mut file), bytes) = (self.file.take(), std::mem::take(&mut self.waiting)) else {
            return Ok(());
        };
        let writing = tokio::task::spawn_blocking(move || file.write_all(&bytes).map(|()| file));
        let written = writing.await.map_err(io::Error::other).and_then(|written| written);
        self.file = Some(written.map_err(|error| no_temporary_file(&error))?);
        Ok(())
    }

    /// Imports it.
    pub(crate) async fn import(
        mut self,
        state: &AppState,
        format: Option<Format>,
        skip_bad: bool,
        items_only: bool,
    ) -> Result<Imported, AppError> {
        self.write().await?;
        let options = ImportOptions {
            on_bad_record: if skip_bad { OnBadRecord::Skip } else { OnBadRecord::Stop },
            items_only,
            bytes_max: Some(state.options().unpacked_bytes),
            ..ImportOptions::default()
        };
        state.long(move |state| self.read(state, format, &options)).await
    }

    fn read(
        self,
        state: &AppState,
        format: Option<Format>,
        options: &ImportOptions,
    ) -> Result<Imported, AppError> {
        let imported = import(state.store(), &[&self.path], format, options);
        state.distributor().forget();
        state.bell().ring();
        imported.map_err(|error| match error {
            // The page says the name that the file has for its owner.
            ImportError::Format(error) => {
                let place = self.path.display().to_string();
                let message = error.to_string().replace(&place, &self.name);
                match error {
                    FormatError::TooMuch { .. } => AppError::TooLarge(message),
                    _ => AppError::Unprocessable(message),
                }
            }
            ImportError::Store(error) => error.into(),
        })
    }
}

/// The name under which an upload is read: its ending says what it holds, `a.csv.gz` has two.
fn upload_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let plain = |ending: &str| -> String {
        ending.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
    };
    let endings: Vec<String> = match name.rsplit('.').take(3).collect::<Vec<_>>()[..] {
        ["gz", inner, _] => vec![plain(inner), "gz".to_owned()],
        [ending, _, ..] => vec![plain(ending)],
        _ => vec!["jsonl".to_owned()],
    };
    format!("upload.{}", endings.join("."))
}

/// Writes everything in `format`: for training what `selection` makes of it. May block.
pub(crate) fn export(
    state: &AppState,
    format: Format,
    options: ExportOptions,
    selection: &Selection,
    writer: &mut dyn Write,
) -> Result<ExportReport, AppError> {
    let all = hearken_store::everything(state.store())?;
    let withdrawn = all.left_out();
    let Everything { mut items, mut judgements, .. } = all;
    let (mut judged, mut left_out) = (in_force(&judgements).len(), Vec::new());
    if let Some(kind) = format.trains() {
        let selected = hearken_store::select(&items, &judgements, selection, kind);
        let selected = selected.map_err(AppError::Unprocessable)?;
        (items, judgements, left_out) = (selected.items, selected.judgements, selected.left_out);
    }
    let report = formats::export(&items, &judgements, format, &options, writer);
    let mut report = report.map_err(|error| AppError::Unprocessable(error.to_string()))?;
    judged += withdrawn.as_ref().map_or(0, |(_, count)| *count);
    left_out.extend(withdrawn);
    if format.trains().is_some() || !left_out.is_empty() {
        report.leave_out(judged, left_out);
    }
    Ok(report)
}

/// The formats that can be written.
pub(crate) fn written_formats() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        Format::all().filter(|format| format.is_written()).map(Format::as_str).collect();
    names.sort_unstable();
    names
}

/// Type and name of a file of this format.
pub(crate) fn file_of(format: Format) -> (&'static str, String) {
    let (kind, ending) = if format.is_csv() {
        ("text/csv; charset=utf-8", "csv")
    } else {
        ("application/x-ndjson", "jsonl")
    };
    (kind, format!("judgements-{format}.{ending}"))
}

/// Bytes of a file that are read at once.
const PIECE: u64 = 256 << 10;

/// The next `bytes` of a file, piece by piece, read on threads that may block.
pub(crate) fn body_of(file: File, bytes: u64) -> Body {
    pieces::body((file, bytes), |(file, left)| async move {
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            (&file).take(PIECE.min(left)).read_to_end(&mut piece)?;
            let left = left - piece.len() as u64;
            Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (file, left))))
        });
        reading.await.map_err(io::Error::other)?
    })
}

#[cfg(test)]
mod tests {
    use super::upload_name;

    #[test]
    fn an_upload_keeps_the_endings_that_say_what_it_holds() {
        for (name, expected) in [
            ("votes.csv", "upload.csv"),
            ("Votes.CSV.gz", "upload.csv.gz"),
            ("a.b.jsonl.gz", "upload.jsonl.gz"),
            ("items.gz", "upload.gz"),
            ("items", "upload.jsonl"),
            ("a/../b.js/on", "upload.json"),
        ] {
            assert_eq!(upload_name(name), expected, "{name}");
        }
    }
}
