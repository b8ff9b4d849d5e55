//! One safetensors file: mapped, its header checked, its tensors converted to f32.

use std::fmt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use hearken_tensor::mapped_file::{self, MappedFile};
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{CheckpointError, NumberFormat};

/// Bytes of the number before the header that says how long it is.
const LENGTH_BYTES: usize = 8;

/// A mapped file with its checked header.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    path: PathBuf,
    map: MappedFile,
    /// Where the tensors' bytes begin.
    data_start: usize,
    header: Metadata,
}

impl SafetensorsFile {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let map = mapped_file::map(path).map_err(|source| CheckpointError::Io {
            path: path.into(),
            action: "read it",
            source,
        })?;
        let malformed = |problem| CheckpointError::Malformed { path: path.into(), problem };
        check(&map).map_err(malformed)?;
        let (header_bytes, header) =
            SafeTensors::read_metadata(&map).map_err(|error| malformed(contradiction(&error)))?;
        Ok(Self { path: path.into(), map, data_start: LENGTH_BYTES + header_bytes, header })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in the order of their bytes.
    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// The format of a tensor, if it is one that weights are stored in.
    pub(super) fn stored(&self, name: &str) -> Option<NumberFormat> {
        match self.header.info(name)?.dtype {
            Dtype::F32 => Some(NumberFormat::F32),
            Dtype::F16 => Some(NumberFormat::F16),
            Dtype::BF16 => Some(NumberFormat::Bf16),
            _ => None,
        }
    }

    /// The tensor's values, row by row, if its shape is `shape`.
    pub(super) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let Some(info) = self.header.info(name) else {
            return Err(CheckpointError::NoSuchTensor {
                path: self.path.clone(),
                name: name.into(),
            });
        };
        if info.shape != shape {
            return Err(CheckpointError::Shape {
                path: self.path.clone(),
                name: name.into(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.data_start + start..self.data_start + end];
        values(info.dtype, bytes).ok_or_else(|| CheckpointError::DataType {
            path: self.path.clone(),
            name: name.into(),
            found: format!("{:?}", info.dtype),
        })
    }
}

/// `bytes` as f32, if `dtype` is one of the three that weights are stored in.
fn values(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let (pairs, quads) = (bytes.as_chunks::<2>().0, bytes.as_chunks::<4>().0);
    match dtype {
        Dtype::F32 => Some(quads.iter().map(|&quad| f32::from_le_bytes(quad)).collect()),
        Dtype::F16 => Some(pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect()),
        Dtype::BF16 => Some(pairs.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect()),
        _ => None,
    }
}

/// Looks for what goes wrong in practice, to say it better than the parser does.
fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err("is a Git LFS pointer, not the weights; fetch them with `git lfs pull`".into());
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(format!(
            "has {} bytes and is cut short; a safetensors file starts with {LENGTH_BYTES} bytes that say how long its header is",
            bytes.len()
        ));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header else {
        return Err(format!(
            "says that its header has {length} bytes, but {} bytes follow: cut short, or no safetensors file",
            rest.len()
        ));
    };
    let Entries(entries) = serde_json::from_slice(header).map_err(|error| {
        format!("the header is not the JSON object of a safetensors file: {error}")
    })?;
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("the header lists tensor {twice} twice"));
    }
    let data_bytes = (rest.len() - header.len()) as u64;
    let mut used = 0;
    for (name, entry) in &entries {
        let end = entry["data_offsets"][1].as_u64().unwrap_or(0);
        if data_bytes < end {
            return Err(format!(
                "is cut short: tensor {name} ends {end} bytes after the header, but {data_bytes} follow it"
            ));
        }
        used = end.max(used);
    }
    if used < data_bytes {
        return Err(format!("has {} bytes after its last tensor", data_bytes - used));
    }
    Ok(())
}

fn contradiction(error: &SafeTensorError) -> String {
    format!("the header contradicts itself: {error}")
}

/// A JSON object with its repeated keys, which a map would lose.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
