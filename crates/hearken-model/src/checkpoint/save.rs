//! Parameters into a safetensors file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use serde_json::{Map, Value, json};

use super::tensor_files::{INDEX, SINGLE};
use super::{CheckpointError, write_atomically, write_json_atomically};

/// The most bytes of a file of weights, where nothing else is asked for: as Transformers has it.
pub const SHARD_BYTES: u64 = 5_000_000_000;

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

    /// The first value that would become infinite; infinity and NaN stay what they are.
    pub fn without_room(self, values: &[f32]) -> Option<f32> {
        let is_lost = |value: &f32| value.is_finite() && f16::from_f32(*value).is_infinite();
        values.iter().copied().find(|value| self == Self::F16 && is_lost(value))
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

/// A value for which a format has no room.
#[derive(Clone, Debug, PartialEq)]
pub struct NoRoom {
    /// The tensor.
    pub name: String,
    /// Its value.
    pub value: f32,
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} holds {}, and float16 ends at 65504", self.name, self.value)
    }
}

/// How the weights of a model are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFormat {
    /// The format of their values.
    pub stored: NumberFormat,
    /// The most bytes of a file, unless a tensor alone has more.
    pub shard_bytes: u64,
}

impl From<NumberFormat> for WeightFormat {
    /// In files of the usual size.
    fn from(stored: NumberFormat) -> Self {
        Self { stored, shard_bytes: SHARD_BYTES }
    }
}

/// A tensor that is written: its name, its shape and its format.
pub type Described = (String, Vec<usize>, NumberFormat);

/// Writes the weights of a model into a folder: `model.safetensors`, or where they have more than `shard_bytes`
/// together, `model-00001-of-0000N.safetensors` and so on with `model.safetensors.index.json`. A shard is filled with
/// tensors in their order until the next one has no room, as Transformers fills it. Files of the other layout that
/// are there are removed.
///
/// # Panics
///
/// As [`save_tensors_as`].
///
/// # Errors
///
/// As [`save_tensors_as`].
pub fn save_weights<'v>(
    folder: &Path,
    tensors: &[Described],
    shard_bytes: u64,
    mut values: impl FnMut(usize) -> Cow<'v, [f32]>,
) -> Result<(), CheckpointError> {
    let shards = shards(tensors, shard_bytes);
    if let [_] | [] = shards.as_slice() {
        save_tensors_as(&folder.join(SINGLE), tensors, values)?;
        return remove_if_there(&folder.join(INDEX));
    }
    let mut places = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        let own = &tensors[shard.clone()];
        save_tensors_as(&folder.join(&file), own, |index| values(shard.start + index))?;
        places.extend(own.iter().map(|(name, ..)| (name.clone(), file.clone().into())));
    }
    let parameters: usize = tensors.iter().map(|(_, shape, _)| elements(shape)).sum();
    let size: u64 = tensors.iter().map(bytes).sum();
    places.sort_keys();
    let index = json!({
        "metadata": {"total_parameters": parameters, "total_size": size},
        "weight_map": Value::Object(places),
    });
    write_json_atomically(&folder.join(INDEX), &index)?;
    // Readers take the single file first.
    remove_if_there(&folder.join(SINGLE))
}

/// Which tensors come into which file.
fn shards(tensors: &[Described], shard_bytes: u64) -> Vec<Range<usize>> {
    let mut shards: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        let size = bytes(tensor);
        match shards.last_mut() {
            Some(last) if filled + size <= shard_bytes => {
                last.end = index + 1;
                filled += size;
            }
            _ => {
                shards.push(index..index + 1);
                filled = size;
            }
        }
    }
    shards
}

fn bytes((_, shape, stored): &Described) -> u64 {
    (elements(shape) * stored.bytes()) as u64
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn remove_if_there(path: &Path) -> Result<(), CheckpointError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CheckpointError::Io { path: path.to_owned(), action: "remove it", source: error })
        }
        _ => Ok(()),
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
/// format cannot say exactly is rounded to the nearest, ties to even; what it has no room for is an error.
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
/// The disk is full or the directory cannot be written to, see [`write_atomically`]; or f16 has no room for a value.
pub fn save_tensors_as<'v>(
    path: &Path,
    tensors: &[Described],
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

    let mut no_room = None;
    let written = write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        sorted.iter().try_for_each(|(name, (shape, stored, index))| {
            let values = values(*index);
            let elements: usize = shape.iter().product();
            assert_eq!(values.len(), elements, "{name}: values against shape {shape:?}");
            if let Some(value) = stored.without_room(&values) {
                no_room = Some(NoRoom { name: (*name).clone(), value });
                return Err(io::ErrorKind::InvalidData.into());
            }
            write_values(file, *stored, &values)
        })
    });
    match no_room {
        Some(no_room) => Err(CheckpointError::NoRoom { path: path.to_owned(), no_room }),
        None => written,
    }
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
