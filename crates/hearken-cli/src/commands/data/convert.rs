//! `hearken data convert`: the same rows in another layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_data::{
    AnyRow, OnBadRecord, ParquetColumns, ReadError, ReadOptions, Records, can_write, is_parquet,
    record_files, write_file, write_rows,
};

use crate::commands::output_file::check_output;
use crate::{hub, output};

/// Write rows in another layout: Parquet, JSON lines, JSON, CSV or TSV, all but Parquet plain or with .gz or .zst
///
/// Reads whatever `data.train` reads. Columns stay as they are; of Parquet each has one type, which all its values
/// have, and the input is read twice for it.
#[derive(Args, Debug)]
pub(super) struct Convert {
    /// What is read: a file, a pattern or a folder
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// What is written; the name's ending says how
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,

    /// The most rows written
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Leave out rows that cannot be read, and count them
    #[arg(long)]
    skip_bad: bool,
}

impl Convert {
    pub(super) fn run(self) -> Result<ExitCode> {
        let Self { output, limit, skip_bad, .. } = &self;
        let input = &hub::records(&self.input)?;
        if let Err(expected) = can_write(output) {
            bail!("{}: {expected}", output.display());
        }
        let files = record_files(input)?;
        check_output(output, &files.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        let on_bad_record = if *skip_bad { OnBadRecord::Skip } else { OnBadRecord::Stop };
        let options = ReadOptions { on_bad_record, limit: *limit, ..ReadOptions::default() };
        let columns = columns(input, output, &options)?;
        let mut rows = Records::<AnyRow>::open(input, &options)?;
        let mut left_out: BTreeMap<String, (String, usize)> = BTreeMap::new();
        let mut see = |row: Result<AnyRow, ReadError>| {
            let row = row?;
            for (column, what) in &row.left_out {
                left_out.entry(column.clone()).or_insert_with(|| (what.clone(), 0)).1 += 1;
            }
            Ok::<AnyRow, anyhow::Error>(row)
        };
        let count = if let OutputColumns::Typed(typed) = &columns {
            typed.write(output, rows.by_ref().map(see))
        } else {
            let header =
                if let OutputColumns::Header(names) = &columns { names.as_slice() } else { &[] };
            write_file(output, |sink| -> Result<usize> {
                let count = write_rows(output, header, rows.by_ref().map(&mut see), sink)?;
                rows.expect_some()?;
                Ok(count)
            })
        };
        let count = count.map_err(|error| match error.is::<std::io::Error>() {
            true => error.context(format!("{}: cannot be written", output.display())),
            false => error,
        })?;
        output::say(&format!("{}: {count} rows", output.display()));
        for (column, (what, count)) in left_out {
            output::say(&format!("column `{column}` left out of {count} rows, the first: {what}"));
        }
        let report = rows.into_report();
        if let Some(first) = report.reasons.first() {
            output::say(&format!("{} rows left out, the first: {first}", report.skipped));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the layout of the output has to know of the rows before the first of them is written: the input is read
/// twice for it.
enum OutputColumns {
    /// Nothing.
    AsTheyCome,
    /// The names of all columns, in the order in which rows bring them.
    Header(Vec<String>),
    /// These with their types.
    Typed(ParquetColumns),
}

fn columns(input: &Path, output: &Path, options: &ReadOptions) -> Result<OutputColumns> {
    let is_parquet = is_parquet(output);
    if !is_parquet && !hearken_data::has_header(output) {
        return Ok(OutputColumns::AsTheyCome);
    }
    let (mut names, mut typed) = (Vec::new(), ParquetColumns::default());
    let mut rows = Records::<AnyRow>::open(input, options)?;
    for row in rows.by_ref() {
        let row = row?;
        if is_parquet {
            typed.take(&row)?;
            continue;
        }
        for name in row.columns.keys() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    rows.expect_some()?;
    Ok(if is_parquet { OutputColumns::Typed(typed) } else { OutputColumns::Header(names) })
}
