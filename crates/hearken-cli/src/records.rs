//! Items and judgements, wherever they are kept: a store, or a file in any of the known formats.

use std::path::Path;

use anyhow::{Result, bail};
use hearken_data::feedback::formats::{Format, ImportOptions, import};
use hearken_data::feedback::{Item, Judgement};
use hearken_data::record_files;
use hearken_store::Everything;

use crate::hub;

/// Items and the judgements about them, in the order in which they were appended.
#[derive(Debug, Default)]
pub(crate) struct StoredRecords {
    pub(crate) items: Vec<Item>,
    pub(crate) judgements: Vec<Judgement>,
    /// Whether people were asked with this program, and not another file converted.
    pub(crate) is_store: bool,
    /// What is not among them, and how much of it.
    pub(crate) left_out: Option<(String, usize)>,
}

/// Loads all records of a store (a SQLite file, a file of JSON lines, `postgres://…`) or of a file
/// whose format is told by its first row. A store may be in use.
pub(crate) fn load(source: &str) -> Result<StoredRecords> {
    if source.contains("://") || hearken_store::is_database(source) {
        let store = hearken_store::open_existing(source)?;
        return Ok(StoredRecords::of(hearken_store::everything(&*store)?, true));
    }
    let source = hub::records(Path::new(source))?;
    let shown = source.display();
    if !record_files(&source)?.iter().any(|file| file.exists()) {
        bail!("{shown}: there is no such file or store");
    }
    // A store of JSON lines is a file in Hearken's own format.
    let import = import(&[&source], None, &ImportOptions::default())?;
    if 0 < import.report.without_item {
        bail!(
            "{shown}: found {} judgements about items that are not in the file; expected those \
             items too",
            import.report.without_item
        );
    }
    let is_store = import.report.formats == [Format::Hearken];
    let all = match source.is_file() {
        true => Everything::of_file(&source, import.items, import.judgements)?,
        false => Everything { items: import.items, judgements: import.judgements, withdrawn: 0 },
    };
    Ok(StoredRecords::of(all, is_store))
}

impl StoredRecords {
    fn of(all: Everything, is_store: bool) -> Self {
        let left_out = all.left_out();
        Self { items: all.items, judgements: all.judgements, is_store, left_out }
    }
}
