//! A GGUF file: what it says of the model, and where its tensors are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hearken_tensor::mapped_file::{MappedFile, map};

use crate::blocks::BlockFormat;
use crate::error::GgufError;

/// What the header starts with.
pub(crate) const MAGIC: &[u8] = b"GGUF";
/// The version that is written.
pub(crate) const VERSION: u32 = 3;
/// The distance between starts of tensors that holds where a file does not name one.
pub(crate) const ALIGNMENT: usize = 32;
/// The most axes of a tensor.
const AXES_MAX: u32 = 4;
/// How deep lists may lie in lists.
const DEPTH_MAX: usize = 4;

/// A value of the header.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any integer.
    Integer(i128),
    /// f32 or f64.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Values of one type.
    List(Vec<Value>),
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Rows first, unlike in the file.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub format: BlockFormat,
    /// Where it starts in the file.
    start: usize,
    /// Its bytes.
    bytes: usize,
}

/// An open file: its header is read, its tensors are mapped.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    data: MappedFile,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl GgufFile {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, is no GGUF, is cut short, or says what cannot be: more names than bytes, tensors
    /// that lie outside, formats that are not known.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let data = map(path).map_err(|error| GgufError::Io {
            path: path.into(),
            action: "read",
            error,
        })?;
        let mut header = Header { bytes: &data, at: 0 };
        let (values, tensors) =
            header.read().map_err(|problem| GgufError::malformed(path, problem))?;
        Ok(Self { path: path.into(), data, values, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the header says under a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The tensors by their names.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The values of a tensor, row by row.
    pub fn values(&self, info: &TensorInfo) -> Vec<f32> {
        info.format.read(&self.data[info.start..info.start + info.bytes])
    }

    fn wrong(&self, key: &str, expected: &str) -> GgufError {
        let found = match self.value(key) {
            None => "nothing".to_owned(),
            Some(Value::List(list)) => format!("a list of {}", list.len()),
            Some(Value::Text(text)) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Some(other) => format!("{other:?}"),
        };
        GgufError::malformed(&self.path, format!("key `{key}`: found {found}, expected {expected}"))
    }

    /// A text, if there is the key.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "text")),
        }
    }

    /// A count, if there is the key.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => match usize::try_from(*number) {
                Ok(count) => Ok(Some(count)),
                Err(_) => Err(self.wrong(key, "an integer from 0")),
            },
            Some(_) => Err(self.wrong(key, "an integer from 0")),
        }
    }

    /// A count that has to be there.
    pub(crate) fn required(&self, key: &str) -> Result<usize, GgufError> {
        self.count(key)?.ok_or_else(|| self.wrong(key, "an integer from 0"))
    }

    /// A number, if there is the key.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(_) => Err(self.wrong(key, "a number with a fraction")),
        }
    }

    /// A flag, if there is the key.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A list, if there is the key, each element read by `of`.
    pub(crate) fn list<'f, T>(
        &'f self,
        key: &str,
        expected: &str,
        of: impl Fn(&'f Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(list)) => {
                let read: Option<Vec<T>> = list.iter().map(of).collect();
                read.map(Some).ok_or_else(|| self.wrong(key, expected))
            }
            Some(_) => Err(self.wrong(key, expected)),
        }
    }
}

/// The header while it is read. Every count is held to the bytes that are left before anything is made of
/// that size.
struct Header<'d> {
    bytes: &'d [u8],
    at: usize,
}

type Read<T> = Result<T, String>;

impl<'d> Header<'d> {
    fn read(&mut self) -> Read<(BTreeMap<String, Value>, BTreeMap<String, TensorInfo>)> {
        if self.bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(
                "found a file that does not start with \"GGUF\", expected a GGUF file".into()
            );
        }
        self.at = MAGIC.len();
        let version = self.u32()?;
        if version != 2 && version != VERSION {
            let order = match version.swap_bytes() {
                2 | 3 => " (or a file for processors with the other order of bytes)",
                _ => "",
            };
            return Err(format!("found version {version}{order}, expected 2 or 3"));
        }
        let (tensor_count, value_count) = (self.u64()?, self.u64()?);
        let mut values = BTreeMap::new();
        for _ in 0..value_count {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(kind, 0).map_err(|problem| format!("key `{key}`: {problem}"))?;
            values.insert(key, value);
        }
        let mut infos = Vec::new();
        for _ in 0..tensor_count {
            infos.push(self.tensor()?);
        }
        let alignment = match values.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Integer(found @ 1..=65_536)) => *found as usize,
            Some(other) => {
                return Err(format!("key `general.alignment`: found {other:?}, expected a size"));
            }
        };
        let start = self.at.next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for (name, info) in infos {
            let place = start.checked_add(info.start);
            let end = place.and_then(|place| place.checked_add(info.bytes));
            let (Some(place), true) = (place, end.is_some_and(|end| end <= self.bytes.len()))
            else {
                return Err(format!(
                    "tensor `{name}` ends behind the file's {} bytes: the file is cut short",
                    self.bytes.len()
                ));
            };
            if tensors.insert(name.clone(), TensorInfo { start: place, ..info }).is_some() {
                return Err(format!("found the tensor `{name}` twice"));
            }
        }
        Ok((values, tensors))
    }

    fn tensor(&mut self) -> Read<(String, TensorInfo)> {
        let name = self.text()?;
        let axes = self.u32()?;
        if !(1..=AXES_MAX).contains(&axes) {
            return Err(format!("tensor `{name}`: found {axes} axes, expected 1 to {AXES_MAX}"));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let size = self.u64()?;
            let size = usize::try_from(size).map_err(|_| format!("tensor `{name}`: too large"))?;
            shape.insert(0, size);
        }
        let number = self.u32()?;
        let offset = self.u64()?;
        let format = BlockFormat::numbered(number).ok_or_else(|| {
            format!(
                "tensor `{name}`: found number format {number} of ggml, expected one of {}",
                BlockFormat::names()
            )
        })?;
        let row = shape[shape.len() - 1];
        if !row.is_multiple_of(format.values()) {
            return Err(format!(
                "tensor `{name}`: found rows of {row} values, expected whole blocks of {} ({})",
                format.values(),
                format.name()
            ));
        }
        let elements = shape.iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
        let bytes =
            elements.and_then(|elements| (elements / format.values()).checked_mul(format.bytes()));
        let (Some(bytes), Ok(start)) = (bytes, usize::try_from(offset)) else {
            return Err(format!(
                "tensor `{name}`: found the shape {shape:?}, which no file can hold"
            ));
        };
        Ok((name, TensorInfo { shape, format, start, bytes }))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Read<Value> {
        Ok(match kind {
            0 => Value::Integer(self.take::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.take()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.take()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.take()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.take()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.take()?).into()),
            7 => Value::Bool(self.take::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 => return self.list(depth),
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.take()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.take()?)),
            other => return Err(format!("found a value of type {other}, expected 0 to 12")),
        })
    }

    fn list(&mut self, depth: usize) -> Read<Value> {
        if depth == DEPTH_MAX {
            return Err(format!("found lists in lists more than {DEPTH_MAX} deep"));
        }
        let (kind, count) = (self.u32()?, self.u64()?);
        let left = (self.bytes.len() - self.at) as u64;
        if left < count {
            return Err(format!("found a list of {count} values with {left} bytes left"));
        }
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(self.value(kind, depth + 1)?);
        }
        Ok(Value::List(list))
    }

    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, _) =
            self.bytes[self.at..].split_first_chunk::<N>().ok_or_else(|| self.too_short())?;
        self.at += N;
        Ok(*taken)
    }

    fn too_short(&self) -> String {
        format!("the file is cut short: its header goes on behind byte {}", self.bytes.len())
    }

    fn u32(&mut self) -> Read<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Read<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Read<String> {
        let length = self.u64()?;
        let length = usize::try_from(length).map_err(|_| self.too_short())?;
        let rest: &'d [u8] = &self.bytes[self.at..];
        let text = rest.get(..length).ok_or_else(|| self.too_short())?;
        self.at += length;
        // Tokens of some files are halves of characters; no name of a key or tensor is.
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}
