//! The rows of a Parquet file, one row group after the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use crate::calendar;
use crate::caught::caught;
use crate::json::Columns;
use crate::report::ReadError;

/// How every Parquet file starts and ends.
pub(crate) const MAGIC: &[u8] = b"PAR1";

/// How many rows of a column are decoded at a time.
const DECODED_ROWS: usize = 128;

/// A file of which one row group at a time is read.
pub(crate) struct ParquetRows {
    reader: SerializedFileReader<File>,
    group: usize,
    rows: Option<ReaderIter>,
    /// Rows handed out.
    row: usize,
}

impl ParquetRows {
    /// Opens a file, of which `path` is the name in errors.
    pub(crate) fn open(path: &Path, file: File) -> Result<Self, ReadError> {
        let reader = guarded(|| {
            let reader = SerializedFileReader::new(file)?;
            let groups = reader.metadata().row_groups().iter();
            let mut columns = groups.flat_map(RowGroupMetaData::columns);
            let is_placed = |column: &ColumnChunkMetaData| {
                let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
                0 <= start && 0 <= column.compressed_size()
            };
            match columns.all(is_placed) {
                true => Ok(reader),
                false => Err(ParquetError::General("a column lies before the file".into())),
            }
        })
        .map_err(|error| ReadError::Read { path: path.into(), line: 0, error })?;
        Ok(Self { reader, group: 0, rows: None, row: 0 })
    }

    /// The next row and its number, from 1.
    pub(crate) fn next(&mut self, path: &Path) -> Result<Option<(usize, Columns)>, ReadError> {
        let line = self.row + 1;
        let row = guarded(|| self.next_row()).map_err(|error| ReadError::Read {
            path: path.into(),
            line,
            error,
        })?;
        self.row = line;
        Ok(row.map(|row| (line, columns(row))))
    }

    fn next_row(&mut self) -> Result<Option<Row>, ParquetError> {
        loop {
            if let Some(rows) = &mut self.rows
                && let Some(row) = rows.next()
            {
                return row.map(Some);
            }
            if self.group == self.reader.num_row_groups() {
                return Ok(None);
            }
            let group = self.reader.get_row_group(self.group)?;
            let schema = self.reader.metadata().file_metadata().schema_descr_ptr();
            let tree = TreeBuilder::new().with_batch_size(DECODED_ROWS);
            self.rows = Some(tree.as_iter(schema, &*group)?);
            self.group += 1;
        }
    }
}

/// What the decoder gives. On some damaged files it panics where it should fail; the file is then as
/// unreadable as after an error, and nothing of its state is used again.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> io::Result<T> {
    match caught(read) {
        Some(read) => {
            read.map_err(|error| io::Error::other(format!("found broken Parquet ({error})")))
        }
        None => Err(io::Error::other("found broken Parquet (the decoder gave up)")),
    }
}

/// The columns of a row; one that holds what JSON cannot say is unreadable.
fn columns(row: Row) -> Columns {
    let mut columns = Columns { values: Map::new(), unreadable: BTreeMap::new() };
    for (name, field) in row.into_columns() {
        match value(field) {
            Ok(value) => {
                columns.values.insert(name, value);
            }
            Err(what) => {
                columns.unreadable.insert(name, what);
            }
        }
    }
    columns
}

/// A field as JSON, or what it holds that JSON does not have.
fn value(field: Field) -> Result<Value, String> {
    const MS_PER_MICRO: i64 = 1000;
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) | Field::TimeMillis(number) => number.into(),
        Field::Long(number) | Field::TimeMicros(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => self::number(number.into())?,
        // The shortest decimal that is this f32, so that 0.1 stays 0.1.
        Field::Float(number) => {
            self::number(number.to_string().parse().unwrap_or(f64::from(number)))?
        }
        Field::Double(number) => self::number(number)?,
        decimal @ Field::Decimal(_) => {
            let text = decimal.to_string();
            text.parse().map_or(Value::from(text), Value::Number)
        }
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => text.into(),
            Err(_) => return Err(format!("{} bytes that are no text", bytes.len())),
        },
        Field::Date(day) => calendar::date(day.into()).into(),
        Field::TimestampMillis(at) => calendar::time(at).into(),
        Field::TimestampMicros(at) => calendar::time(at.div_euclid(MS_PER_MICRO)).into(),
        Field::Group(row) => {
            let fields = row.into_columns().into_iter();
            let fields = fields.map(|(name, field)| Ok((name, value(field)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        Field::ListInternal(list) => {
            let elements = list.elements().iter().cloned().map(value);
            Value::Array(elements.collect::<Result<_, String>>()?)
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned().map(|(key, field)| {
                let key = match value(key)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Ok((key, value(field)?))
            });
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
    })
}

fn number(number: f64) -> Result<Value, String> {
    let json = Number::from_f64(number).map(Value::Number);
    json.ok_or_else(|| format!("{number}, which JSON does not have"))
}
