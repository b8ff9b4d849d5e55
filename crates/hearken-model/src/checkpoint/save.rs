//! Parameters into a safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{CheckpointError, write_atomically};

/// Values converted to bytes at a time.
const CHUNK: usize = 1 << 16;

/// Writes `tensors`, each a name, a shape and its values row by row, to one safetensors file, as f32
/// and sorted by name. It says `{"format": "pt"}`, which Transformers asks for.
///
/// # Panics
///
/// A tensor's values do not fill its shape, or two tensors have the same name.
///
/// # Errors
///
/// The disk is full or the directory cannot be written to; see [`write_atomically`].
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
) -> Result<(), CheckpointError> {
    let mut sorted = BTreeMap::new();
    for (name, shape, values) in tensors {
        let elements: usize = shape.iter().product();
        assert_eq!(values.len(), elements, "{name}: values against shape {shape:?}");
        let before = sorted.insert(name, (shape, values));
        assert!(before.is_none(), "two tensors are called {name}");
    }

    let mut end = 0;
    let mut infos = Vec::with_capacity(sorted.len());
    for (name, (shape, values)) in &sorted {
        let start = end;
        end += size_of_val(values.as_slice());
        let info =
            TensorInfo { dtype: Dtype::F32, shape: (*shape).clone(), data_offsets: (start, end) };
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
        sorted.values().try_for_each(|(_, values)| write_values(file, values))
    })
}

fn write_values(file: &mut dyn io::Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK.min(values.len()) * size_of::<f32>());
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}
