//! Files of a model directory, each whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use hearken_data::Unfinished;
use serde_json::Value;

use super::CheckpointError;

/// Writes the file at `path` through `write`, whole or not at all, as [`Unfinished`] has it.
///
/// # Errors
///
/// The disk is full or the directory cannot be written to, or `write` fails. The temporary file is
/// removed and whatever was at `path` stays.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let failed =
        |action| move |source| CheckpointError::Io { path: path.to_owned(), action, source };
    let unfinished = Unfinished::beside(path).map_err(failed("write it"))?;
    unfinished.fill(write).map_err(failed("write it"))?;
    unfinished.put().map_err(failed("put the new file in its place"))
}

/// Writes `value` as indented JSON with a final newline; see [`write_atomically`].
///
/// # Errors
///
/// As [`write_atomically`].
pub fn write_json_atomically(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        let expected = format!("{}: cannot write it: no storage space", path.display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(dir.path()), ["config.json"]);
    }

    #[test]
    fn a_file_that_cannot_take_its_place_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, |file| file.write_all(b"x")).unwrap_err();
        assert!(
            error.to_string().contains("taken: cannot put the new file in its place"),
            "{error}"
        );
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[test]
    fn json_is_indented_and_keeps_the_order_of_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        write_json_atomically(&path, &serde_json::json!({"b": 1, "a": [true]})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n  \"b\": 1,\n  \"a\": [\n    true\n  ]\n}\n");
    }
}
