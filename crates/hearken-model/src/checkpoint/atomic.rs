//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::CheckpointError;

/// Distinguishes the temporary files that one process writes at the same time.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes the file at `path` through `write`: into a temporary file beside it, which is synced to
/// disk and renamed to `path`. A crash at any moment leaves the old file or the new one.
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
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
        return Err(failed("write it")(source));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));

    let temporary = Temporary::beside(parent, name);
    write_synced(&temporary.0, write).map_err(failed("write it"))?;
    std::fs::rename(&temporary.0, path).map_err(failed("put the new file in its place"))?;
    sync_directory(parent).map_err(failed("sync its directory"))
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

fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, file);
    write(&mut buffered)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Makes the rename itself durable.
fn sync_directory(dir: &Path) -> io::Result<()> {
    // Only Unix lets a directory be opened as a file.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// A temporary file's path; the file is removed when this is dropped. After a rename there is
/// nothing left to remove.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(parent: &Path, name: &std::ffi::OsStr) -> Self {
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{number}.tmp", std::process::id()));
        Self(parent.join(temporary))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
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
