//! The cache on the disk: contents by hash, links to them by commit, commits by branch.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

use hearken_data::{HubKind, HubSnapshot, is_commit, sync_parent, write_whole};

use crate::error::HubError;

/// The folder of one model or data set.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repository {
    pub(crate) fn new(cache: &Path, kind: HubKind, name: &str) -> Self {
        let folder = HubSnapshot::repository_folder(cache, kind, name);
        let own = folder.file_name().unwrap_or_default();
        Self { locks: cache.join(".locks").join(own), folder }
    }

    /// The commit that a revision was at when it was asked for last.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes the commit of a revision.
    pub(crate) fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(revision);
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        make_folder_of(&path)?;
        write_whole(&path, |file| file.write_all(commit.as_bytes()))
            .map_err(HubError::io(&path, "write the commit"))
    }

    /// The folder of a commit, whether it is there or not.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a content is.
    pub(crate) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// Waits until no other process fetches this content; others wait as long as the file is open.
    pub(crate) fn lock(&self, hash: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_folder_of(&path)?;
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(HubError::io(&path, "open the lock"))?;
        file.lock().map_err(HubError::io(&path, "take the lock"))?;
        Ok(file)
    }

    /// Gives a content its name in a commit.
    pub(crate) fn link(&self, commit: &str, name: &str, hash: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(name);
        make_folder_of(&path)?;
        let up = "../".repeat(2 + Path::new(name).components().count() - 1);
        let target = format!("{up}blobs/{hash}");
        // A link to what is no longer there makes room.
        if fs::symlink_metadata(&path).is_ok() {
            fs::remove_file(&path).map_err(HubError::io(&path, "replace it"))?;
        }
        make_link(&target, &self.blob(hash), &path)
            .and_then(|()| sync_parent(&path))
            .map_err(HubError::io(&path, "link it"))
    }
}

#[cfg(unix)]
fn make_link(target: &str, _: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Where links need a permission, a content has its name alone, as in Python's cache.
#[cfg(not(unix))]
fn make_link(_: &str, blob: &Path, path: &Path) -> io::Result<()> {
    fs::copy(blob, path).map(|_| ())
}

pub(crate) fn make_folder_of(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(HubError::io(folder, "make the folder"))
}

/// Whether the name of a file stays in its folder.
pub(crate) fn stays_inside(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)))
}
