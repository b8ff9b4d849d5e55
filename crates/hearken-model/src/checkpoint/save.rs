//! Parameters into a safetensors file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{CheckpointError, write_atomically};

/// Values converted to bytes at a time.
const CHUNK: usize = 1 << 16;

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

/// Writes tensors, each a name and a shape, to one safetensors file, as f32 and sorted by name.
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
pub fn save_tensors_with<'v>(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    mut values: impl FnMut(usize) -> Cow<'v, [f32]>,
) -> Result<(), CheckpointError> {
    let mut sorted = BTreeMap::new();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let before = sorted.insert(name, (shape, index));
        assert!(before.is_none(), "two tensors are called {name}");
    }

    let mut end = 0;
    let mut infos = Vec::with_capacity(sorted.len());
    for (name, (shape, _)) in &sorted {
        let start = end;
        end += shape.iter().product::<usize>() * size_of::<f32>();
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
        sorted.iter().try_for_each(|(name, (shape, index))| {
            let values = values(*index);
            let elements: usize = shape.iter().product();
            assert_eq!(values.len(), elements, "{name}: values against shape {shape:?}");
            write_values(file, &values)
        })
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
