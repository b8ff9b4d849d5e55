//! Files and folders that appear whole or not at all: the one writer of everything that replaces a file.
//!
//! What is new is made under another name beside its place, brought to the disk, and renamed; then the
//! folder that has the name is brought to the disk too. A crash at any moment leaves what was there or what
//! is new, and a failure removes what was begun.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How the name of something unfinished ends.
const ENDING: &str = ".tmp";
const BUFFER_BYTES: usize = 1 << 20;

/// A file or folder that is being made beside its place. It is removed when this is dropped before
/// [`Unfinished::put`] or [`Unfinished::put_new`].
#[derive(Debug)]
pub struct Unfinished {
    beside: PathBuf,
    place: PathBuf,
}

impl Unfinished {
    /// A name beside `place` that nothing else has. Nothing is written. Where `place` is a link, what it
    /// leads to is replaced, not the link.
    ///
    /// # Errors
    /// If `place` names no file.
    pub fn beside(place: &Path) -> io::Result<Self> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let is_link = fs::symlink_metadata(place).is_ok_and(|found| found.is_symlink());
        let place = if is_link { fs::canonicalize(place) } else { Ok(place.to_owned()) }?;
        let Some(name) = place.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        let name = name.to_string_lossy().into_owned();
        loop {
            let number = NAMES.fetch_add(1, Ordering::Relaxed);
            let beside =
                place.with_file_name(format!(".{name}.{}-{number}{ENDING}", std::process::id()));
            // A process that was killed may have had the same number as this one.
            if fs::symlink_metadata(&beside).is_err() {
                return Ok(Self { beside, place });
            }
        }
    }

    /// Where it is made.
    pub fn path(&self) -> &Path {
        &self.beside
    }

    /// Makes a file of what `write` hands to its writer.
    ///
    /// # Errors
    /// If the folder is missing or may not be written, the disk is full, or `write` fails.
    pub fn fill<T, E: From<io::Error>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let file = OpenOptions::new().write(true).create_new(true).open(&self.beside)?;
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
        let written = write(&mut buffered)?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(written)
    }

    /// Puts it in its place, where there may be a file, whose permissions it takes over.
    ///
    /// # Errors
    /// If the system refuses, or there is a folder that is not empty. What was there stays.
    pub fn put(self) -> io::Result<()> {
        if let Ok(before) = fs::metadata(&self.place)
            && before.is_file()
        {
            fs::set_permissions(&self.beside, before.permissions())?;
        }
        sync_all(&self.beside)?;
        fs::rename(&self.beside, &self.place)?;
        sync_parent(&self.place)
    }

    /// Puts a file in its place, where there must be nothing.
    ///
    /// # Errors
    /// If there is something ([`io::ErrorKind::AlreadyExists`]), or the system refuses.
    pub fn put_new(self) -> io::Result<()> {
        sync_all(&self.beside)?;
        // A rename would replace what another process may have put there in the meantime.
        fs::hard_link(&self.beside, &self.place)?;
        fs::remove_file(&self.beside)?;
        sync_parent(&self.place)
    }
}

impl Drop for Unfinished {
    /// After a rename there is nothing left to remove.
    fn drop(&mut self) {
        // What went wrong before matters more than whether the leftover could be removed.
        let _ = match fs::symlink_metadata(&self.beside) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&self.beside),
            Ok(_) => fs::remove_file(&self.beside),
            Err(error) => Err(error),
        };
    }
}

/// Whether a file has the name of something unfinished, which a killed process leaves behind.
pub fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let middle = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(ENDING));
    middle.and_then(|rest| rest.rsplit_once('.')).is_some_and(|(name, numbers)| {
        let numbers = numbers.split_once('-');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        !name.is_empty() && numbers.is_some_and(|(a, b)| is_number(a) && is_number(b))
    })
}

/// Writes a file with what `write` hands to its writer: whole, or not at all. What is no file, such as a
/// terminal or a pipe, is written to as it is.
///
/// # Errors
/// If the folder is missing or may not be written, the disk is full, or `write` fails. An existing file at
/// `path` is then untouched.
pub fn write_whole<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let mut buffered = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        let written = write(&mut buffered)?;
        buffered.flush()?;
        return Ok(written);
    }
    let unfinished = Unfinished::beside(path)?;
    let written = unfinished.fill(write)?;
    unfinished.put()?;
    Ok(written)
}

/// Brings a file, or a folder with all that is in it, to the disk.
///
/// # Errors
/// If the system cannot.
pub fn sync_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_all(&entry?.path())?;
        }
        return sync_folder(path);
    }
    File::open(path)?.sync_all()
}

/// Makes what happened to the entry of `path` in its folder last.
///
/// # Errors
/// If the system cannot.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix lets a folder be opened as a file.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let names = fs::read_dir(dir).unwrap().map(name);
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "old").unwrap();
        let error = write_whole::<(), io::Error>(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["config.json"]);
    }

    #[test]
    fn what_cannot_take_its_place_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        write_whole::<_, io::Error>(&path, |file| file.write_all(b"x")).unwrap_err();
        let made = Unfinished::beside(&path).unwrap();
        fs::create_dir(made.path()).unwrap();
        fs::write(made.path().join("new"), "x").unwrap();
        made.put().unwrap_err();
        assert_eq!(names(folder.path()), ["taken"]);
        assert_eq!(names(&path), ["inside"]);
    }

    #[test]
    fn a_new_file_does_not_replace_one_that_appeared_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let made = Unfinished::beside(&path).unwrap();
        made.fill(|file| file.write_all(b"new")).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert_eq!(made.put_new().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(names(folder.path()), ["store"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("secret"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("secret", &link).unwrap();
        write_whole::<_, io::Error>(&link, |file| file.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_killed_process_leaves_is_known_by_its_name() {
        let left = Unfinished::beside(Path::new("metrics.jsonl")).unwrap();
        assert!(is_unfinished(left.path()), "{:?}", left.path());
        for other in [".tmp", ".notes.tmp", "a.1-2.tmp", ".vimrc.1-.tmp", ".x.1-2.part"] {
            assert!(!is_unfinished(Path::new(other)), "{other}");
        }
    }
}
