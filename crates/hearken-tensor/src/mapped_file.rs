//! Files that are read as memory, without copying them first.
//!
//! Here because mapping is `unsafe`, and this crate is the only one that may use it.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file, read from disk as they are touched.
///
/// It reads as a `[u8]`. An empty file is an empty slice.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

/// Maps the file at `path` for reading.
///
/// The file must stay as it is while it is mapped: another process that cuts it short makes reading
/// the missing part end this process (SIGBUS). Replacing it by a rename is fine, since the mapping
/// keeps the old file.
///
/// # Errors
///
/// The file cannot be opened, is no regular file, or cannot be mapped.
pub fn map(path: &Path) -> io::Result<MappedFile> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // An empty range cannot be mapped.
    if metadata.len() == 0 {
        return Ok(MappedFile(None));
    }
    // SAFETY: the mapping is private to this value and only ever read, through `&[u8]` slices that
    // it outlives. What the compiler cannot know is that nobody writes into the file meanwhile:
    // this program replaces files by renames and never writes into one in place, and the
    // documentation above asks the same of others.
    let map = unsafe { Mmap::map(&file)? };
    Ok(MappedFile(Some(map)))
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_reads_as_its_bytes() {
        let path = std::env::temp_dir().join(format!("hearken-mapped-{}", std::process::id()));
        std::fs::write(&path, b"bytes").unwrap();
        assert_eq!(&*map(&path).unwrap(), b"bytes");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(&*map(&path).unwrap(), b"");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(map(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_is_no_file() {
        assert_eq!(map(&std::env::temp_dir()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
