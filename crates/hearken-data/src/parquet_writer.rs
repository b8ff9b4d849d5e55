//! Rows into a Parquet file: a type for every column follows from the rows, lists and objects are lists and
//! structs.
//!
//! Nested values are taken apart into columns with levels of definition and repetition, as in Melnik et al. 2010,
//! "Dremel", doi:10.14778/1920841.1920886, section 4.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use crate::source::Source;
use crate::table::AnyRow;
use crate::whole_file::Unfinished;

/// The most rows of a group, and the most bytes of text that one holds before it is written.
const GROUP_ROWS: usize = 10_000;
const GROUP_BYTES: usize = 64 << 20;
/// The largest integer up to which all are numbers with a point, too.
const EXACT_INTEGER: u64 = 1 << 53;

/// Columns of rows that are to be written, with their types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParquetColumns {
    columns: Vec<(String, ColumnKind)>,
}

/// Two values that no type of a column holds both, or one that none holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{at}: column `{column}`: found {found}, expected {expected}: a column of Parquet has one type"
)]
pub struct NoColumnType {
    /// Where the second value is.
    pub at: Source,
    /// The column, with the fields that lead to the value.
    pub column: String,
    /// What it is.
    pub found: String,
    /// What the values before it are.
    pub expected: String,
}

/// The type of a column, as far as its values tell.
#[derive(Clone, Debug, PartialEq)]
enum ColumnKind {
    /// Nothing but nulls.
    Unknown,
    Flag,
    Integer {
        /// The largest size, for as long as a fraction may turn up.
        largest: u64,
    },
    Number,
    Text,
    List(Box<ColumnKind>),
    Object(Vec<(String, ColumnKind)>),
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "null",
            Self::Flag => "true or false",
            Self::Integer { .. } => "an integer",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        })
    }
}

/// Why values do not go together: the way to them, what was found and what was expected.
struct Clash {
    way: String,
    found: String,
    expected: String,
}

impl ColumnKind {
    fn of(value: &Value) -> Result<Self, Clash> {
        let mut kind = Self::Unknown;
        kind.take(value)?;
        Ok(kind)
    }

    /// Widens the type so that it holds `value`, too.
    fn take(&mut self, value: &Value) -> Result<(), Clash> {
        match (&mut *self, value) {
            (_, Value::Null) | (Self::Flag, Value::Bool(_)) | (Self::Text, Value::String(_)) => {}
            (Self::List(element), Value::Array(values)) => {
                values
                    .iter()
                    .try_for_each(|value| element.take(value))
                    .map_err(|clash| inside("[]", clash))?;
            }
            (Self::Object(fields), Value::Object(found)) => take_fields(fields, found)?,
            (Self::Integer { .. } | Self::Number, Value::Number(number)) => {
                *self = self.with_number(number)?;
            }
            (Self::Unknown, Value::Bool(_)) => *self = Self::Flag,
            (Self::Unknown, Value::String(_)) => *self = Self::Text,
            (Self::Unknown, Value::Number(number)) => *self = Self::of_number(number)?,
            (Self::Unknown, Value::Array(_)) => {
                *self = Self::List(Box::new(Self::Unknown));
                self.take(value)?;
            }
            (Self::Unknown, Value::Object(_)) => {
                *self = Self::Object(Vec::new());
                self.take(value)?;
            }
            (own, value) => {
                let found = Self::of(value)?.to_string();
                return Err(Clash { way: String::new(), found, expected: own.to_string() });
            }
        }
        Ok(())
    }

    /// The type of numbers that holds another one, too.
    fn with_number(&self, number: &serde_json::Number) -> Result<Self, Clash> {
        let found = Self::of_number(number)?;
        match (self, &found) {
            (Self::Integer { largest: a }, Self::Integer { largest: b }) => {
                Ok(Self::Integer { largest: *a.max(b) })
            }
            (Self::Number, Self::Integer { largest })
            | (Self::Integer { largest }, Self::Number)
                if EXACT_INTEGER < *largest =>
            {
                let expected =
                    format!("integers up to {EXACT_INTEGER} beside numbers with a point");
                Err(Clash { way: String::new(), found: number.to_string(), expected })
            }
            _ => Ok(Self::Number),
        }
    }

    fn of_number(number: &serde_json::Number) -> Result<Self, Clash> {
        if let Some(number) = number.as_i64() {
            return Ok(Self::Integer { largest: number.unsigned_abs() });
        }
        match number.as_u64() {
            None => Ok(Self::Number),
            Some(number) => {
                let expected = format!("integers up to {}", i64::MAX);
                Err(Clash { way: String::new(), found: number.to_string(), expected })
            }
        }
    }

    /// The columns that its values are taken apart into.
    fn leaves(&self) -> usize {
        match self {
            Self::List(element) => element.leaves(),
            Self::Object(fields) => fields.iter().map(|(_, kind)| kind.leaves()).sum(),
            _ => 1,
        }
    }

    fn to_type(&self, name: &str) -> Result<TypePtr, ParquetError> {
        let leaf = |physical: Physical, logical: Option<LogicalType>| {
            Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical)
                .build()
        };
        Ok(Arc::new(match self {
            Self::Flag => leaf(Physical::BOOLEAN, None)?,
            Self::Integer { .. } => leaf(Physical::INT64, None)?,
            Self::Number => leaf(Physical::DOUBLE, None)?,
            // Of nulls alone any type says as much.
            Self::Text | Self::Unknown => leaf(Physical::BYTE_ARRAY, Some(LogicalType::String))?,
            Self::List(element) => {
                let list = Type::group_type_builder("list")
                    .with_repetition(Repetition::REPEATED)
                    .with_fields(vec![element.to_type("element")?])
                    .build()?;
                Type::group_type_builder(name)
                    .with_repetition(Repetition::OPTIONAL)
                    .with_logical_type(Some(LogicalType::List))
                    .with_fields(vec![Arc::new(list)])
                    .build()?
            }
            Self::Object(fields) => Type::group_type_builder(name)
                .with_repetition(Repetition::OPTIONAL)
                .with_fields(types(fields)?)
                .build()?,
        }))
    }

    /// Whether there is an object of which no value has a field: Parquet has no struct without fields.
    fn is_bare(&self) -> bool {
        match self {
            Self::List(element) => element.is_bare(),
            Self::Object(fields) => {
                fields.is_empty() || fields.iter().any(|(_, kind)| kind.is_bare())
            }
            _ => false,
        }
    }
}

fn types(fields: &[(String, ColumnKind)]) -> Result<Vec<TypePtr>, ParquetError> {
    fields.iter().map(|(name, kind)| kind.to_type(name)).collect()
}

fn take_fields(
    fields: &mut Vec<(String, ColumnKind)>,
    found: &Map<String, Value>,
) -> Result<(), Clash> {
    for (name, value) in found {
        let place = fields.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| {
            fields.push((name.clone(), ColumnKind::Unknown));
            fields.len() - 1
        });
        fields[place].1.take(value).map_err(|clash| inside(&format!(".{name}"), clash))?;
    }
    Ok(())
}

fn inside(step: &str, clash: Clash) -> Clash {
    Clash { way: format!("{step}{}", clash.way), ..clash }
}

impl ParquetColumns {
    /// Widens the types so that they hold a row, too.
    ///
    /// # Errors
    /// If a column has values of two types, as text and numbers, or an integer that Parquet has no room for.
    pub fn take(&mut self, row: &AnyRow) -> Result<(), NoColumnType> {
        take_fields(&mut self.columns, &row.columns).map_err(|clash| {
            let column = clash.way.trim_start_matches('.').to_owned();
            let Clash { found, expected, .. } = clash;
            NoColumnType { at: row.source.clone(), column, found, expected }
        })
    }

    /// Writes rows that all were taken before, whole or not at all, and returns how many.
    ///
    /// # Errors
    /// If a column holds objects without a field, for which Parquet has no type, there is no column, the rows fail,
    /// or the file cannot be written.
    pub fn write<E: From<io::Error>>(
        &self,
        path: &Path,
        rows: impl IntoIterator<Item = Result<AnyRow, E>>,
    ) -> Result<usize, E> {
        let bare = self.columns.iter().find(|(_, kind)| kind.is_bare());
        if let Some((name, _)) = bare {
            let what = format!(
                "column `{name}` has objects without a field, for which Parquet has no type"
            );
            return Err(io::Error::other(what).into());
        }
        if self.columns.is_empty() {
            return Err(
                io::Error::other("found rows without columns, expected at least one").into()
            );
        }
        let schema = types(&self.columns)
            .and_then(|fields| Type::group_type_builder("schema").with_fields(fields).build())
            .map_err(io::Error::other)?;
        let unfinished = Unfinished::beside(path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(unfinished.path())?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
            .map_err(io::Error::other)?;
        let (mut count, mut group) = (0, Group::new(self));
        for row in rows {
            group.push(self, &row?.columns);
            count += 1;
            if GROUP_ROWS <= group.rows || GROUP_BYTES <= group.bytes {
                group.write(&mut writer).map_err(io::Error::other)?;
            }
        }
        group.write(&mut writer).map_err(io::Error::other)?;
        writer.close().map_err(io::Error::other)?;
        unfinished.put()?;
        Ok(count)
    }
}

/// Rows that are written together, taken apart into columns.
struct Group {
    leaves: Vec<Leaf>,
    rows: usize,
    bytes: usize,
}

/// One column: its values, and for every place in it how much of the way to it is there, and at which depth it
/// repeats.
struct Leaf {
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    values: Values,
}

enum Values {
    Flags(Vec<bool>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Texts(Vec<ByteArray>),
}

/// Where a value stands: how much of the way to it is there, at which depth it repeats, and how deep lists are.
#[derive(Clone, Copy)]
struct Levels {
    definition: i16,
    repetition: i16,
    depth: i16,
}

impl Group {
    fn new(columns: &ParquetColumns) -> Self {
        let mut leaves = Vec::new();
        columns.columns.iter().for_each(|(_, kind)| add_leaves(kind, &mut leaves));
        Self { leaves, rows: 0, bytes: 0 }
    }

    fn push(&mut self, columns: &ParquetColumns, row: &Map<String, Value>) {
        let start = Levels { definition: 0, repetition: 0, depth: 0 };
        self.push_fields(&columns.columns, row, start, 0);
        self.rows += 1;
    }

    fn push_fields(
        &mut self,
        fields: &[(String, ColumnKind)],
        values: &Map<String, Value>,
        levels: Levels,
        mut first: usize,
    ) {
        for (name, kind) in fields {
            self.push_value(kind, values.get(name).unwrap_or(&Value::Null), levels, first);
            first += kind.leaves();
        }
    }

    fn push_value(&mut self, kind: &ColumnKind, value: &Value, levels: Levels, first: usize) {
        let there = Levels { definition: levels.definition + 1, ..levels };
        match (kind, value) {
            (ColumnKind::List(element), Value::Array(values)) if !values.is_empty() => {
                let depth = levels.depth + 1;
                for (index, value) in values.iter().enumerate() {
                    let repetition = if index == 0 { levels.repetition } else { depth };
                    let levels = Levels { definition: levels.definition + 2, repetition, depth };
                    self.push_value(element, value, levels, first);
                }
            }
            (ColumnKind::List(_), Value::Array(_)) => self.push_nothing(kind, there, first),
            (ColumnKind::Object(fields), Value::Object(values)) => {
                self.push_fields(fields, values, there, first);
            }
            (_, Value::Null) => self.push_nothing(kind, levels, first),
            _ => {
                let leaf = &mut self.leaves[first];
                leaf.definitions.push(there.definition);
                leaf.repetitions.push(there.repetition);
                self.bytes += leaf.values.push(value);
            }
        }
    }

    /// Where the way to a value ends.
    fn push_nothing(&mut self, kind: &ColumnKind, levels: Levels, first: usize) {
        for leaf in &mut self.leaves[first..first + kind.leaves()] {
            leaf.definitions.push(levels.definition);
            leaf.repetitions.push(levels.repetition);
        }
    }

    /// Writes what there is, and begins anew.
    fn write(
        &mut self,
        writer: &mut SerializedFileWriter<std::fs::File>,
    ) -> Result<(), ParquetError> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        self.bytes = 0;
        let mut group = writer.next_row_group()?;
        for leaf in &mut self.leaves {
            let mut column = group.next_column()?.expect("a column for each leaf of the schema");
            leaf.write(column.untyped())?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn add_leaves(kind: &ColumnKind, leaves: &mut Vec<Leaf>) {
    let values = match kind {
        ColumnKind::List(element) => return add_leaves(element, leaves),
        ColumnKind::Object(fields) => {
            return fields.iter().for_each(|(_, kind)| add_leaves(kind, leaves));
        }
        ColumnKind::Flag => Values::Flags(Vec::new()),
        ColumnKind::Integer { .. } => Values::Integers(Vec::new()),
        ColumnKind::Number => Values::Numbers(Vec::new()),
        ColumnKind::Text | ColumnKind::Unknown => Values::Texts(Vec::new()),
    };
    leaves.push(Leaf { definitions: Vec::new(), repetitions: Vec::new(), values });
}

impl Values {
    /// Adds a value of its type; returns the bytes that it takes.
    fn push(&mut self, value: &Value) -> usize {
        match (self, value) {
            (Self::Flags(flags), Value::Bool(flag)) => flags.push(*flag),
            (Self::Integers(integers), Value::Number(number)) => {
                integers.push(number.as_i64().expect("the type was found to be an integer"));
            }
            (Self::Numbers(numbers), Value::Number(number)) => {
                numbers.push(number.as_f64().expect("every number has a nearest f64"));
            }
            (Self::Texts(texts), Value::String(text)) => {
                texts.push(text.as_str().into());
                return text.len();
            }
            (_, value) => panic!("{value} was not taken before it was written"),
        }
        size_of::<f64>()
    }
}

impl Leaf {
    fn write(&mut self, column: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let (definitions, repetitions) =
            (Some(self.definitions.as_slice()), Some(self.repetitions.as_slice()));
        match (column, &self.values) {
            (ColumnWriter::BoolColumnWriter(column), Values::Flags(values)) => {
                column.write_batch(values, definitions, repetitions)
            }
            (ColumnWriter::Int64ColumnWriter(column), Values::Integers(values)) => {
                column.write_batch(values, definitions, repetitions)
            }
            (ColumnWriter::DoubleColumnWriter(column), Values::Numbers(values)) => {
                column.write_batch(values, definitions, repetitions)
            }
            (ColumnWriter::ByteArrayColumnWriter(column), Values::Texts(values)) => {
                column.write_batch(values, definitions, repetitions)
            }
            _ => panic!("the schema has other types than the columns"),
        }?;
        self.definitions.clear();
        self.repetitions.clear();
        match &mut self.values {
            Values::Flags(values) => values.clear(),
            Values::Integers(values) => values.clear(),
            Values::Numbers(values) => values.clear(),
            Values::Texts(values) => values.clear(),
        }
        Ok(())
    }
}
