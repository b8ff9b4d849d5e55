//! A file in a folder of this process, in memory where the system has such a place.

use std::path::{Path, PathBuf};

/// Writes what is to be read.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = root.join(format!("hearken-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a scratch file");
    path
}
