//! Writing a file: header, then tensors, one after the other.

use std::io::{self, Write};
use std::path::Path;

use hearken_data::write_whole;
use hearken_model::checkpoint::CheckpointError;

use crate::blocks::BlockFormat;
use crate::error::GgufError;
use crate::file::{ALIGNMENT, MAGIC, VERSION};

/// A value of the header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HeaderValue {
    Count(u32),
    Float(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i32>),
    Floats(Vec<f32>),
}

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorToWrite {
    pub(crate) name: String,
    /// What it is called where it is read; `None` for one that is computed.
    pub(crate) source: Option<String>,
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: BlockFormat,
}

impl TensorToWrite {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() / self.stored.values() * self.stored.bytes()
    }
}

enum Failed {
    Io(io::Error),
    Checkpoint(CheckpointError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes a file, whole or not at all; `values` gives the values of a tensor when they are due.
pub(crate) fn write_gguf(
    path: &Path,
    header: &[(String, HeaderValue)],
    tensors: &[TensorToWrite],
    values: impl Fn(&TensorToWrite) -> Result<Vec<f32>, CheckpointError>,
) -> Result<(), GgufError> {
    let mut start = Vec::new();
    start.extend(MAGIC);
    start.extend(VERSION.to_le_bytes());
    start.extend((tensors.len() as u64).to_le_bytes());
    start.extend((header.len() as u64).to_le_bytes());
    for (key, value) in header {
        text(&mut start, key);
        value.write(&mut start);
    }
    let mut offset = 0;
    for tensor in tensors {
        text(&mut start, &tensor.name);
        start.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            start.extend((*size as u64).to_le_bytes());
        }
        start.extend(tensor.stored.number().to_le_bytes());
        start.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    start.resize(start.len().next_multiple_of(ALIGNMENT), 0);
    let written = write_whole(path, |sink: &mut dyn Write| -> Result<(), Failed> {
        sink.write_all(&start)?;
        let mut bytes = Vec::new();
        for tensor in tensors {
            bytes.clear();
            let values = values(tensor).map_err(Failed::Checkpoint)?;
            tensor.stored.write(&values, &mut bytes);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            sink.write_all(&bytes)?;
        }
        Ok(())
    });
    written.map_err(|failed| match failed {
        Failed::Io(error) => GgufError::Io { path: path.into(), action: "written", error },
        Failed::Checkpoint(error) => error.into(),
    })
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}

impl HeaderValue {
    fn write(&self, into: &mut Vec<u8>) {
        let kind = |into: &mut Vec<u8>, number: u32| into.extend(number.to_le_bytes());
        let list = |into: &mut Vec<u8>, of: u32, count: usize| {
            kind(into, 9);
            kind(into, of);
            into.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::Count(number) => {
                kind(into, 4);
                into.extend(number.to_le_bytes());
            }
            Self::Float(number) => {
                kind(into, 6);
                into.extend(number.to_le_bytes());
            }
            Self::Flag(flag) => {
                kind(into, 7);
                into.push(u8::from(*flag));
            }
            Self::Text(value) => {
                kind(into, 8);
                text(into, value);
            }
            Self::Texts(texts) => {
                list(into, 8, texts.len());
                for value in texts {
                    text(into, value);
                }
            }
            Self::Integers(numbers) => {
                list(into, 5, numbers.len());
                for number in numbers {
                    into.extend(number.to_le_bytes());
                }
            }
            Self::Floats(numbers) => {
                list(into, 6, numbers.len());
                for number in numbers {
                    into.extend(number.to_le_bytes());
                }
            }
        }
    }
}
