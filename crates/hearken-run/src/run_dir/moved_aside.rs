//! Runs that were moved aside: what a new run replaces lies beside it, as `NAME.old-1`, until the new one has
//! its first checkpoint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file that says what a folder is, and what was put there.
const NOTICE: &str = "moved-aside.json";

#[derive(Debug, Serialize, Deserialize)]
struct Notice {
    note: String,
    entries: Vec<String>,
}

/// Moves those of `entries` that are in `root` into a new folder beside it, in their order, and returns the
/// folder; `None` where there are none.
///
/// # Errors
/// If the system refuses, with the path.
pub(crate) fn move_aside(
    root: &Path,
    entries: &[&str],
) -> Result<Option<PathBuf>, (PathBuf, io::Error)> {
    let there = |name: &&&str| root.join(name).symlink_metadata().is_ok();
    let entries: Vec<String> = entries.iter().filter(there).map(|&name| name.into()).collect();
    if entries.is_empty() {
        return Ok(None);
    }
    let base = base(root)?;
    let folder = new_folder(&base)?;
    let note = format!(
        "This was in {}. It is removed when the run there has its first checkpoint; rename the folder to \
         keep it.",
        root.display()
    );
    let notice = serde_json::to_vec_pretty(&Notice { note, entries: entries.clone() });
    let notice = notice.expect("a notice is a plain struct");
    let path = folder.join(NOTICE);
    fs::write(&path, notice).map_err(|error| (path, error))?;
    for name in &entries {
        let from = root.join(name);
        fs::rename(&from, folder.join(name)).map_err(|error| (from, error))?;
    }
    Ok(Some(folder))
}

/// The folder that [`move_aside`] would make now.
pub(crate) fn next(root: &Path) -> PathBuf {
    let base = base(root).unwrap_or_else(|_| root.to_owned());
    let mut folders = (1_u32..).map(|number| numbered(&base, number));
    folders.find(|folder| !folder.exists()).expect("there are more numbers than folders")
}

/// Removes what was moved aside from `root`; anything else in those folders stays, and so do folders that
/// were renamed.
///
/// # Errors
/// If the system refuses, with the path.
pub(crate) fn remove(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    let base = base(root)?;
    let (Some(parent), Some(name)) = (parent(&base), base.file_name()) else { return Ok(()) };
    let prefix = format!("{}.old-", name.to_string_lossy());
    let listed = fs::read_dir(parent).map_err(|error| (parent.to_owned(), error))?;
    for entry in listed {
        let folder = entry.map_err(|error| (parent.to_owned(), error))?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        if name.strip_prefix(&prefix).is_some_and(is_number) {
            remove_folder(&folder)?;
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    // A folder without a notice is somebody's own.
    let Ok(text) = fs::read(folder.join(NOTICE)) else { return Ok(()) };
    let Ok(notice) = serde_json::from_slice::<Notice>(&text) else { return Ok(()) };
    for name in notice.entries.iter().map(String::as_str).chain([NOTICE]) {
        let path = folder.join(name);
        let removed = match path.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| (path, error))?;
    }
    // What else lies there keeps the folder.
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// The path of a folder with its name in the end: that of `.`, or of what a link leads to, is looked up.
fn base(root: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
    let is_link = root.symlink_metadata().is_ok_and(|found| found.is_symlink());
    if root.file_name().is_some() && !is_link {
        return Ok(root.to_owned());
    }
    root.canonicalize().map_err(|error| (root.to_owned(), error))
}

fn parent(base: &Path) -> Option<&Path> {
    base.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn numbered(base: &Path, number: u32) -> PathBuf {
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    base.with_file_name(format!("{name}.old-{number}"))
}

fn new_folder(base: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
    let mut number = 1_u32;
    loop {
        let folder = numbered(base, number);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err((folder, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_aside_is_removed_later_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        fs::create_dir_all(root.join("final")).unwrap();
        fs::write(root.join("mine"), "kept").unwrap();
        fs::create_dir(folder.path().join("run.old-1")).unwrap();
        assert_eq!(move_aside(&root, &["best"]).unwrap(), None);
        let aside = move_aside(&root, &["best", "final"]).unwrap().unwrap();
        assert_eq!(aside, folder.path().join("run.old-2"));
        assert!(aside.join("final").is_dir() && !root.join("final").exists());

        fs::create_dir(root.join("final")).unwrap();
        let renamed = move_aside(&root, &["final"]).unwrap().unwrap();
        fs::rename(&renamed, folder.path().join("dear")).unwrap();
        fs::create_dir(root.join("final")).unwrap();
        let with_more = move_aside(&root, &["final"]).unwrap().unwrap();
        fs::write(with_more.join("notes"), "kept").unwrap();

        remove(&root).unwrap();
        assert!(!aside.exists() && folder.path().join("run.old-1").is_dir());
        assert!(folder.path().join("dear/final").is_dir());
        assert!(with_more.join("notes").exists() && !with_more.join("final").exists());
        assert_eq!(fs::read_to_string(root.join("mine")).unwrap(), "kept");
    }
}
