//! Stored log-probabilities of a reference.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use hearken_model::checkpoint::save_tensors;
use hearken_model::config::base_dir;
use hearken_run::error::TrainError;
use hearken_run::run_dir::{RunDirError, entries};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::loss::RefLogprobs;
use super::tree::Tree;

/// A file of log-probabilities, named after all that they depend on.
#[derive(Debug)]
pub(super) struct CacheFile {
    path: PathBuf,
    /// Predicted tokens of each branch of each tree.
    lengths: Vec<Vec<usize>>,
}

const TENSOR: &str = "logprobs";

impl CacheFile {
    /// The file in `folder` for these trees under the model in the first of `model_dirs`, with an adapter in another.
    ///
    /// # Errors
    /// If the model's files cannot be read.
    pub(super) fn new(
        folder: &Path,
        model_dirs: &[&Path],
        dtype: &str,
        trees: &[&Tree],
    ) -> Result<Self, TrainError> {
        let mut hasher = Sha256::new();
        hasher.update(b"reference log-probabilities 1\0");
        hasher.update(dtype.as_bytes());
        for dir in model_dirs {
            hash_model(&mut hasher, dir)?;
        }
        for tree in trees {
            hash_tree(&mut hasher, tree);
        }
        let name = hearken_data::hexadecimal(&hasher.finalize());
        let branches = |tree: &&Tree| {
            (0..tree.branches.len()).map(|branch| tree.completion_tokens(branch)).collect()
        };
        Ok(Self {
            path: folder.join(format!("{name}.safetensors")),
            lengths: trees.iter().map(branches).collect(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its numbers.
    pub(super) fn bytes(&self) -> u64 {
        4 * self.lengths.iter().flatten().sum::<usize>() as u64
    }

    /// What stands for log-probabilities that are not computed.
    pub(super) fn zeros(&self) -> Vec<RefLogprobs> {
        let tree = |lengths: &Vec<usize>| lengths.iter().map(|&len| vec![0.0; len]).collect();
        self.lengths.iter().map(tree).collect()
    }

    /// What the file holds; `None` where there is no file.
    ///
    /// # Errors
    /// If the file cannot be read or is not such a file.
    pub(super) fn read(&self) -> Result<Option<Vec<RefLogprobs>>, TrainError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&self.path).map_err(RunDirError::io(&self.path, "be read"))?;
        let wanted: usize = self.lengths.iter().flatten().sum();
        let broken = |message: String| RunDirError::Broken { path: self.path.clone(), message };
        let advice = "remove the file, and it is computed anew";
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| broken(format!("{error}; {advice}")))?;
        let tensor = tensors.tensor(TENSOR).ok();
        let tensor = tensor.filter(|of| of.dtype() == Dtype::F32 && of.shape() == [wanted]);
        let Some(tensor) = tensor else {
            let message = format!("found no {wanted} reference log-probabilities; {advice}");
            return Err(broken(message).into());
        };
        let value =
            |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks have 4 bytes"));
        let mut values = tensor.data().chunks_exact(4).map(value);
        let mut tree = |lengths: &Vec<usize>| -> RefLogprobs {
            lengths.iter().map(|&len| values.by_ref().take(len).collect()).collect()
        };
        Ok(Some(self.lengths.iter().map(&mut tree).collect()))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn write(&self, logprobs: &[RefLogprobs]) -> Result<(), TrainError> {
        let folder = self.path.parent().expect("a file in a folder");
        fs::create_dir_all(folder).map_err(RunDirError::io(folder, "be created"))?;
        let values: Vec<f32> = logprobs.iter().flatten().flatten().copied().collect();
        let tensors = [(TENSOR.to_owned(), vec![values.len()], values)];
        save_tensors(&self.path, &tensors).map_err(|error| TrainError::State(error.into()))
    }
}

/// Everything that the log-probabilities of a model follow from: its configuration and weights.
fn hash_model(hasher: &mut Sha256, dir: &Path) -> Result<(), TrainError> {
    let mut buffer = vec![0; 1 << 20];
    for path in entries(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let weights = path.extension().is_some_and(|extension| extension == "safetensors");
        if !path.is_file() || !(weights || name == "config.json") {
            continue;
        }
        hasher.update(name.as_bytes());
        let mut file = File::open(&path).map_err(RunDirError::io(&path, "be read"))?;
        loop {
            let read = file.read(&mut buffer).map_err(RunDirError::io(&path, "be read"))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
    }
    // An adapter's model lies elsewhere; where it is not, loading it says so.
    match base_dir(dir) {
        Ok(base) if base != dir => hash_model(hasher, &base),
        _ => Ok(()),
    }
}

fn hash_tree(hasher: &mut Sha256, tree: &Tree) {
    hasher.update((tree.prompt_len as u64).to_le_bytes());
    for tokens in std::iter::once(&tree.prefix).chain(&tree.branches) {
        hasher.update((tokens.len() as u64).to_le_bytes());
        for token in tokens {
            hasher.update(token.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::TreeLabel;
    use super::*;

    fn tree(token: u32) -> Tree {
        Tree {
            prefix: vec![5, 6],
            prompt_len: 2,
            branches: vec![vec![token], vec![8, 9]],
            label: TreeLabel::GOOD,
            explored: None,
        }
    }

    fn cache(folder: &Path, token: u32) -> CacheFile {
        CacheFile::new(&folder.join("cache"), &[folder], "f32", &[&tree(token)]).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = cache(folder.path(), 7);
        assert_eq!(file.read().unwrap(), None);
        let logprobs = vec![vec![vec![-1.5], vec![-2.0, -0.25]]];
        file.write(&logprobs).unwrap();
        assert_eq!(file.read().unwrap(), Some(logprobs));
    }

    #[test]
    fn other_tokens_other_weights_and_another_precision_have_another_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), "one").unwrap();
        let first = cache(folder.path(), 7).path;
        assert_eq!(first, cache(folder.path(), 7).path);
        assert_ne!(first, cache(folder.path(), 4).path);
        let trees = [&tree(7)];
        let half = CacheFile::new(&folder.path().join("cache"), &[folder.path()], "bf16", &trees);
        assert_ne!(first, half.unwrap().path);
        fs::write(folder.path().join("model.safetensors"), "two").unwrap();
        assert_ne!(first, cache(folder.path(), 7).path);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = cache(folder.path(), 7);
        fs::create_dir_all(folder.path().join("cache")).unwrap();
        fs::write(file.path(), "not a tensor").unwrap();
        let message = file.read().unwrap_err().to_string();
        assert!(message.contains("remove the file"), "{message}");
    }
}
