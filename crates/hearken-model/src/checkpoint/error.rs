//! What can be wrong with a checkpoint, as facts.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use super::NoRoom;

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The model directory does not exist.
    #[error(
        "{}: no such directory; expected a Hugging Face model directory with config.json and model.safetensors",
        dir.display()
    )]
    NoDirectory {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// There are no weights in any known form.
    #[error(
        "{}: no weights; expected model.safetensors, or model.safetensors.index.json with its shards",
        dir.display()
    )]
    NoWeights {
        /// The model directory.
        dir: PathBuf,
    },
    /// The only weights are Python pickles, which can run code when they are read.
    #[error(
        "{}: found {found} but no model.safetensors; pickled weights are not read, convert them once with \
         Transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)",
        dir.display()
    )]
    OnlyPickledWeights {
        /// The model directory.
        dir: PathBuf,
        /// The pickled file.
        found: &'static str,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried: "read it", "write it", ….
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is cut short, or is not what its name says.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// The index names a shard that is not there.
    #[error("{}: names the shard {shard}, which is not in the directory", index.display())]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The shard's file name.
        shard: String,
    },
    /// The index places a tensor in a shard that does not hold it.
    #[error("{}: places tensor {name} in {shard}, which does not hold it", index.display())]
    NotInShard {
        /// The index file.
        index: PathBuf,
        /// The shard's file name.
        shard: String,
        /// The tensor.
        name: String,
    },
    /// Two files hold a tensor of the same name.
    #[error("tensor {name} is in two files: {} and {}", first.display(), second.display())]
    TwoFiles {
        /// The tensor.
        name: String,
        /// The file that comes first.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// One parameter is stored under both of its possible names.
    #[error("{}: holds one parameter twice, as {full} and as {short}", path.display())]
    TwoNames {
        /// The checkpoint.
        path: PathBuf,
        /// The name with the base model's prefix.
        full: String,
        /// The name without it.
        short: String,
    },
    /// A tensor is stored in a number format that is not read.
    #[error("{}: tensor {name} is stored as {found}; expected F32, F16 or BF16", path.display())]
    DataType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The number format, as safetensors calls it.
        found: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor {name} has shape {found:?}; expected {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// As stored.
        found: Vec<usize>,
        /// As config.json makes it.
        expected: Vec<usize>,
    },
    /// A tensor was asked for that no file holds.
    #[error("{}: holds no tensor {name}", path.display())]
    NoSuchTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A value would become infinite.
    #[error("{}: cannot be written in float16: {no_room}; expected bf16 or f32", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// The value.
        no_room: NoRoom,
    },
    /// The names in the files are not those of the model.
    #[error("{}: {}", path.display(), describe_names(missing, unknown))]
    Names {
        /// The checkpoint.
        path: PathBuf,
        /// What the model has and the files lack.
        missing: Vec<MissingTensor>,
        /// What the files hold and the model does not have.
        unknown: Vec<String>,
    },
    /// The head is tied to the embedding, but a stored copy of it differs.
    #[error(
        "{}: {head} differs from {embedding} at element {element} ({head_value} against {embedding_value}), \
         but config.json says tie_word_embeddings = true; expected two equal tensors, or false there",
        path.display()
    )]
    TiedHead {
        /// The checkpoint.
        path: PathBuf,
        /// The stored head.
        head: String,
        /// The embedding that it must equal.
        embedding: String,
        /// The first element that differs, counted through the tensor row by row.
        element: usize,
        /// The head's value there.
        head_value: f32,
        /// The embedding's value there.
        embedding_value: f32,
    },
}

/// A parameter that no file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTensor {
    /// Its full name.
    pub name: String,
    /// The most similar name among those in the files that are no parameter of the model.
    pub closest: Option<String>,
}

/// How many names an error lists before it only counts.
const NAMES_LISTED: usize = 5;

fn describe_names(missing: &[MissingTensor], unknown: &[String]) -> String {
    let mut text = String::new();
    if !missing.is_empty() {
        let names = missing.iter().map(|tensor| match &tensor.closest {
            Some(closest) => format!("{} (closest name in the file: {closest})", tensor.name),
            None => tensor.name.clone(),
        });
        let _ = write!(text, "{} missing: {}", count(missing.len()), list(names));
    }
    if !unknown.is_empty() {
        let joint = if text.is_empty() { "" } else { "; " };
        let names = list(unknown.iter().cloned());
        let _ = write!(text, "{joint}{} unknown to the model: {names}", count(unknown.len()));
    }
    text
}

fn count(tensors: usize) -> String {
    if tensors == 1 { "1 tensor is".into() } else { format!("{tensors} tensors are") }
}

fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES_LISTED);
    let mut text = names.take(NAMES_LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_names_are_cut_and_counted() {
        let unknown: Vec<String> = (0..7).map(|i| format!("t{i}")).collect();
        let missing = [
            MissingTensor { name: "a".into(), closest: Some("t0".into()) },
            MissingTensor { name: "b".into(), closest: None },
        ];
        assert_eq!(
            describe_names(&missing, &unknown),
            "2 tensors are missing: a (closest name in the file: t0), b; \
             7 tensors are unknown to the model: t0, t1, t2, t3, t4 and 2 more"
        );
        assert_eq!(describe_names(&[], &unknown[..1]), "1 tensor is unknown to the model: t0");
    }
}
