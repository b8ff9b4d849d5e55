//! The weight files of one model as one set of named tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::safetensors_file::SafetensorsFile;
use super::{CheckpointError, NumberFormat};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
const PICKLED: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Named tensors in one safetensors file or in several.
///
/// The files are mapped: opening reads the headers, and a tensor's bytes are read when it is asked
/// for.
#[derive(Debug)]
pub struct TensorFiles {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    /// Which of `files` holds the tensor.
    holder: BTreeMap<String, usize>,
}

impl TensorFiles {
    /// Opens the weights in a model directory: `model.safetensors`, or else the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// There are no such files, one of them is cut short or malformed, a shard is missing, the index
    /// places a tensor where it is not, or two shards hold the same name and the index has none. Where
    /// the index names a tensor's shard, a copy in another one is not read.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        if !dir.is_dir() {
            return Err(CheckpointError::NoDirectory { dir: dir.into() });
        }
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if single.exists() {
            return Self::over(dir, vec![SafetensorsFile::open(&single)?], &BTreeMap::new());
        }
        if index.exists() {
            return Self::open_shards(dir, &index);
        }
        match PICKLED.into_iter().find(|name| dir.join(name).exists()) {
            Some(found) => Err(CheckpointError::OnlyPickledWeights { dir: dir.into(), found }),
            None => Err(CheckpointError::NoWeights { dir: dir.into() }),
        }
    }

    /// Opens one safetensors file of any name.
    ///
    /// # Errors
    ///
    /// It cannot be read, is cut short or malformed.
    pub fn open_file(path: &Path) -> Result<Self, CheckpointError> {
        Self::over(path, vec![SafetensorsFile::open(path)?], &BTreeMap::new())
    }

    fn open_shards(dir: &Path, index: &Path) -> Result<Self, CheckpointError> {
        let places = read_index(index)?;
        let mut shards: Vec<&str> = places.values().map(String::as_str).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut files = Vec::with_capacity(shards.len());
        for &shard in &shards {
            let path = dir.join(shard);
            if !path.exists() {
                let shard = shard.to_owned();
                return Err(CheckpointError::MissingShard { index: index.into(), shard });
            }
            files.push(SafetensorsFile::open(&path)?);
        }
        let mut placed = BTreeMap::new();
        for (name, shard) in &places {
            let position =
                shards.binary_search(&shard.as_str()).expect("every shard of the index is listed");
            if files[position].shape(name).is_none() {
                return Err(CheckpointError::NotInShard {
                    index: index.into(),
                    shard: shard.clone(),
                    name: name.clone(),
                });
            }
            placed.insert(name.clone(), position);
        }
        Self::over(dir, files, &placed)
    }

    /// The tensors of `files`; those that are `placed` in one of them are read there.
    fn over(
        path: &Path,
        files: Vec<SafetensorsFile>,
        placed: &BTreeMap<String, usize>,
    ) -> Result<Self, CheckpointError> {
        let mut holder = placed.clone();
        for (position, file) in files.iter().enumerate() {
            // A shard that was written anew may leave a stale copy of what the index has elsewhere.
            for name in file.names().into_iter().filter(|name| !placed.contains_key(name)) {
                if let Some(first) = holder.insert(name.clone(), position) {
                    return Err(CheckpointError::TwoFiles {
                        name,
                        first: files[first].path().into(),
                        second: file.path().into(),
                    });
                }
            }
        }
        Ok(Self { path: path.into(), files, holder })
    }

    /// The directory, or the single file, that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.holder.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.holder.contains_key(name)
    }

    /// The tensor's shape, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.files[*self.holder.get(name)?].shape(name)
    }

    /// The format of most values.
    pub fn stored(&self) -> NumberFormat {
        let mut values: BTreeMap<NumberFormat, usize> = BTreeMap::new();
        for (name, &position) in &self.holder {
            let file = &self.files[position];
            if let (Some(stored), Some(shape)) = (file.stored(name), file.shape(name)) {
                *values.entry(stored).or_default() += shape.iter().product::<usize>();
            }
        }
        values
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map_or(NumberFormat::F32, |(stored, _)| stored)
    }

    /// The file that holds the tensor; the whole checkpoint's path if none does.
    pub fn file_of(&self, name: &str) -> &Path {
        self.holder.get(name).map_or(&self.path, |&position| self.files[position].path())
    }

    /// The values of a tensor of `shape`, row by row. NumberFormat f16 and bf16 become f32 exactly.
    ///
    /// # Errors
    ///
    /// No such tensor, another shape, or another number format.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let Some(&position) = self.holder.get(name) else {
            let (path, name) = (self.path.clone(), name.to_owned());
            return Err(CheckpointError::NoSuchTensor { path, name });
        };
        self.files[position].read(name, shape)
    }
}

/// Tensor name → shard file name, from the index's `weight_map`.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io {
        path: path.into(),
        action: "read it",
        source,
    })?;
    let malformed = |problem| CheckpointError::Malformed { path: path.into(), problem };
    let index: Value =
        serde_json::from_slice(&bytes).map_err(|error| malformed(format!("not JSON: {error}")))?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        return Err(malformed("has no object weight_map from tensor names to shard files".into()));
    };
    let mut places = BTreeMap::new();
    for (name, shard) in map {
        // A shard lies beside its index: a path that leads elsewhere is refused.
        let file = shard.as_str().filter(|file| {
            Path::new(file).file_name().is_some_and(|last| last.to_str() == Some(file))
        });
        let Some(file) = file else {
            return Err(malformed(format!(
                "weight_map.{name} is {shard}; expected the name of a shard file"
            )));
        };
        places.insert(name.clone(), file.to_owned());
    }
    Ok(places)
}
