//! Reading records from a file, one by one.

use std::io;
use std::path::Path;

use crate::bad_record::BadRecord;
use crate::kind::RecordKind;
use crate::options::{OnBadRecord, ReadOptions};
use crate::report::{ReadError, ReadReport};
use crate::row::{Record, Row, known_columns};
use crate::rows::{RawColumns, Rows};

/// Reads the records of a file: one JSON object per line, one JSON array of objects, or
/// comma-separated values where the name ends in `.csv`; plain or gzip. Blank lines and a byte order
/// mark are passed over; columns that `T` does not know are ignored.
///
/// # Errors
/// If the file cannot be read or holds no usable record, if the mapping names an unknown column,
/// and, under [`OnBadRecord::Stop`], at the first bad record.
pub fn read<T: Record>(
    path: &Path,
    options: &ReadOptions,
) -> Result<(Vec<T>, ReadReport), ReadError> {
    Records::open(path, options)?.all()
}

/// [`read()`] from anything, such as standard input; errors call it `name`.
///
/// # Errors
/// As [`read()`].
pub fn read_from<T: Record>(
    reader: impl io::Read + 'static,
    name: &Path,
    options: &ReadOptions,
) -> Result<(Vec<T>, ReadReport), ReadError> {
    check_mapping::<T>(name, options)?;
    let rows = Rows::of(reader, name, options.line_bytes_max)?;
    Records::of_rows(rows, options.clone()).all()
}

fn check_mapping<T: Record>(path: &Path, options: &ReadOptions) -> Result<(), ReadError> {
    let known = known_columns::<T>();
    match options.columns.keys().find(|field| !known.contains(&field.as_str())) {
        Some(field) => {
            Err(ReadError::UnknownField { path: path.into(), field: field.clone(), known })
        }
        None => Ok(()),
    }
}

/// The records of a file in their order. How many there are is known at the end.
///
/// ```
/// use hearken_data::{Prompt, ReadOptions, Records};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("prompts.jsonl");
/// std::fs::write(&path, "{\"prompt\": \"a\"}\n{\"prompt\": 1}")?;
///
/// let options = ReadOptions::default();
/// let mut prompts = Records::<Prompt>::open(&path, &options)?;
/// assert_eq!(prompts.next().unwrap()?.source.line, 1);
/// assert!(prompts.next().unwrap().is_err());
/// assert!(prompts.next().is_none());
/// assert_eq!(prompts.report().read, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Records<T> {
    rows: Rows,
    options: ReadOptions,
    report: ReadReport,
    /// After an error nothing is read.
    ended: bool,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: Record> Records<T> {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened or is no file of records, or the mapping names an unknown column.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, ReadError> {
        check_mapping::<T>(path, options)?;
        Ok(Self::of_rows(Rows::open(path, options.line_bytes_max)?, options.clone()))
    }

    /// The records of JSON lines in memory, named after `path`.
    pub(crate) fn of_lines(path: &Path, lines: Vec<u8>, options: ReadOptions) -> Self {
        Self::of_rows(Rows::of_lines(path, lines), options)
    }

    fn of_rows(rows: Rows, options: ReadOptions) -> Self {
        let report = ReadReport::default();
        Self { rows, options, report, ended: false, of: std::marker::PhantomData }
    }

    /// What came of the rows up to here.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    /// What came of the rows up to here, for those who read the records to their end.
    pub fn into_report(self) -> ReadReport {
        self.report
    }

    /// Counts what no record came of before there were rows, beside what is counted already.
    pub fn leaving_out(mut self, left_out: Vec<(String, usize)>) -> Self {
        self.report.left_out.extend(left_out);
        self
    }

    /// The rest of the records together.
    ///
    /// # Errors
    /// As [`read`].
    pub fn all(mut self) -> Result<(Vec<T>, ReadReport), ReadError> {
        let records = self.by_ref().collect::<Result<Vec<T>, ReadError>>()?;
        self.expect_some()?;
        Ok((records, self.report))
    }

    /// What [`read`] says of a file without a usable record.
    ///
    /// # Errors
    /// If none was read up to here and some were wanted.
    pub fn expect_some(&self) -> Result<(), ReadError> {
        if self.report.read == 0 && self.options.limit != Some(0) {
            let (path, report) = (self.rows.path().to_path_buf(), self.report.clone());
            return Err(ReadError::NoRecords { path, report });
        }
        Ok(())
    }

    /// The next record that is usable.
    fn usable(&mut self) -> Result<Option<T>, ReadError> {
        if self.options.limit.is_some_and(|limit| limit <= self.report.read) {
            return Ok(None);
        }
        while let Some(row) = self.rows.advance()? {
            let at = row.at;
            let record = row.columns.and_then(|columns| {
                Ok(T::from_row(&Row::of(columns.parsed()?, &self.options, at.clone()))?)
            });
            match (record, self.options.on_bad_record) {
                (Ok(record), _) => {
                    self.report.read += 1;
                    return Ok(Some(record));
                }
                (Err(reason), OnBadRecord::Stop) => return Err(ReadError::Bad { at, reason }),
                (Err(reason), OnBadRecord::Skip) => self.report.skip(&at, &reason),
            }
        }
        Ok(None)
    }
}

impl<T: Record> Iterator for Records<T> {
    type Item = Result<T, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.usable().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The kind of a file's records, told by the columns of its first row that is an object, and these
/// columns as a phrase. `None` where no row is.
///
/// # Errors
/// If the file cannot be read.
pub fn kind_of(
    path: &Path,
    options: &ReadOptions,
) -> Result<Option<(Option<RecordKind>, String)>, ReadError> {
    let mut rows = Rows::open(path, options.line_bytes_max)?;
    while let Some(row) = rows.advance()? {
        let parsed = row.columns.and_then(RawColumns::parsed);
        if let Ok(columns) = parsed {
            let row = Row::of(columns, options, row.at);
            return Ok(Some((RecordKind::of(|column| row.has(column)), row.found_columns())));
        }
    }
    Ok(None)
}

/// Hands every row of a file to `take`; the first bad one ends it.
pub(crate) fn each_row(
    path: &Path,
    options: &ReadOptions,
    mut take: impl FnMut(&Row<'_>) -> Result<(), BadRecord>,
) -> Result<(), ReadError> {
    let mut rows = Rows::open(path, options.line_bytes_max)?;
    while let Some(row) = rows.advance()? {
        let at = row.at;
        let parsed = row.columns.and_then(RawColumns::parsed);
        parsed
            .and_then(|columns| take(&Row::of(columns, options, at.clone())))
            .map_err(|reason| ReadError::Bad { at, reason })?;
    }
    Ok(())
}
