//! Parameters into a safetensors file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{CheckpointError, write_atomically};

/// Values converted to bytes at a time.
const CHUNK: usize = 1 << 16;

/// The number format of stored weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NumberFormat {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floats of IEEE 754.
    F16,
}

impl NumberFormat {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// What config.json calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Whether a value keeps its size; infinity and NaN do in every format.
    pub(crate) fn has_room(self, value: f32) -> bool {
        self != Self::F16 || !value.is_finite() || f16::from_f32(value).is_finite()
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    fn write(self, value: f32, bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(value.to_le_bytes()),
            Self::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
            Self::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
        }
    }
}

/// Writes `tensors`, each a name, a shape and its values row by row, to one safetensors file; see
/// [`save_tensors_with`].
///
/// # Panics
///
/// As [`save_tensors_with`].
///
/// # Errors
///
/// As [`save_tensors_with`].
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
) -> Result<(), CheckpointError> {
    let described: Vec<_> =
        tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    save_tensors_with(path, &described, |index| Cow::Borrowed(tensors[index].2.as_slice()))
}

/// Writes tensors, each a name and a shape, to one safetensors file, as f32; see [`save_tensors_as`].
///
/// # Panics
///
/// As [`save_tensors_as`].
///
/// # Errors
///
/// As [`save_tensors_as`].
pub fn save_tensors_with<'v>(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    values: impl FnMut(usize) -> Cow<'v, [f32]>,
) -> Result<(), CheckpointError> {
    let described: Vec<_> = tensors
        .iter()
        .map(|(name, shape)| (name.clone(), shape.clone(), NumberFormat::F32))
        .collect();
    save_tensors_as(path, &described, values)
}

/// Writes tensors, each a name, a shape and its format, to one safetensors file, sorted by name. What a
/// format cannot say exactly is rounded to the nearest, ties to even.
/// `values` gives the values of the tensor with an index, row by row, when they are due, so that no
/// two tensors need to be held at a time. The file says `{"format": "pt"}`, which Transformers asks
/// for.
///
/// # Panics
///
/// A tensor's values do not fill its shape, or two tensors have the same name.
///
/// # Errors
///
/// The disk is full or the directory cannot be written to; see [`write_atomically`].
pub fn save_tensors_as<'v>(
    path: &Path,
    tensors: &[(String, Vec<usize>, NumberFormat)],
    mut values: impl FnMut(usize) -> Cow<'v, [f32]>,
) -> Result<(), CheckpointError> {
    let mut sorted = BTreeMap::new();
    for (index, (name, shape, stored)) in tensors.iter().enumerate() {
        let before = sorted.insert(name, (shape, *stored, index));
        assert!(before.is_none(), "two tensors are called {name}");
    }

    let mut end = 0;
    let mut infos = Vec::with_capacity(sorted.len());
    for (name, (shape, stored, _)) in &sorted {
        let start = end;
        end += shape.iter().product::<usize>() * stored.bytes();
        let dtype = stored.dtype();
        let info = TensorInfo { dtype, shape: (*shape).clone(), data_offsets: (start, end) };
        infos.push(((*name).clone(), info));
    }
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(format), infos).expect("the offsets follow from the shapes");
    let mut header = serde_json::to_vec(&header).expect("a header is plain JSON");
    // Readers expect the data to be aligned; JSON may end in spaces.
    header.resize(header.len().next_multiple_of(8), b' ');

    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        sorted.iter().try_for_each(|(name, (shape, stored, index))| {
            let values = values(*index);
            let elements: usize = shape.iter().product();
            assert_eq!(values.len(), elements, "{name}: values against shape {shape:?}");
            write_values(file, *stored, &values)
        })
    })
}

fn write_values(file: &mut dyn io::Write, stored: NumberFormat, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK.min(values.len()) * stored.bytes());
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        for &value in chunk {
            stored.write(value, &mut bytes);
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}
