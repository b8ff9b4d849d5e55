//! One file of the hub into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use hearken_data::{hexadecimal, sync_all, sync_parent};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use crate::Watcher;
use crate::cache::{Repository, make_folder_of};
use crate::client::{Client, HubSubject, Taken};
use crate::error::HubError;

const BUFFER_BYTES: usize = 1 << 16;
/// How often a file with a wrong hash is fetched.
const WRONG_HASHES_MAX: usize = 2;

/// What the hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its hash, by which the cache has it.
    hash: String,
    size: u64,
}

impl Described {
    fn read(url: &str, headers: &HeaderMap) -> Result<Self, HubError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let answer =
            |found: String, expected| HubError::Answer { url: url.to_owned(), found, expected };
        let tag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
        let hash = tag.trim_start_matches("W/").trim_matches('"');
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if hash.is_empty() || !hash.chars().all(is_name) {
            return Err(answer(format!("the tag {tag:?}"), "a hash as ETag or X-Linked-Etag"));
        }
        let size = text("x-linked-size").or_else(|| text("content-length"));
        let size = size.and_then(|size| size.trim().parse().ok()).ok_or_else(|| {
            answer(format!("the size {size:?}"), "a number as X-Linked-Size or Content-Length")
        })?;
        Ok(Self { hash: hash.to_owned(), size })
    }
}

/// A file that is fetched.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) repository: &'a Repository,
    pub(crate) asked: &'a HubSubject<'a>,
    pub(crate) commit: &'a str,
    /// The name of the file.
    pub(crate) name: &'a str,
    pub(crate) url: String,
}

impl Download<'_> {
    /// Puts the file into the folder of its commit.
    pub(crate) fn run(&self, watcher: &mut dyn Watcher) -> Result<(), HubError> {
        let headers = self.client.head(&self.url, self.asked)?;
        let described = Described::read(&self.url, &headers)?;
        let blob = self.repository.blob(&described.hash);
        let is_there = || fs::metadata(&blob).is_ok_and(|found| found.len() == described.size);
        if !is_there() {
            let _lock = self.repository.lock(&described.hash)?;
            // Another process may have fetched it meanwhile.
            if !is_there() {
                self.fetch(&described, &blob, watcher)?;
            }
        }
        self.repository.link(self.commit, self.name, &described.hash)
    }

    fn fetch(
        &self,
        described: &Described,
        blob: &Path,
        watcher: &mut dyn Watcher,
    ) -> Result<(), HubError> {
        make_folder_of(blob)?;
        let part = PathBuf::from(format!("{}.incomplete", blob.display()));
        for attempt in 1.. {
            self.complete(described, &part, watcher)?;
            let found = hash_of(&part, &described.hash)
                .map_err(HubError::io(&part, "read what was fetched"))?;
            match found {
                Some(found) if found != described.hash => {
                    // What was there from before may be at fault.
                    fs::remove_file(&part).map_err(HubError::io(&part, "remove it"))?;
                    if attempt == WRONG_HASHES_MAX {
                        let expected = described.hash.clone();
                        return Err(self.damaged("the hash", found, expected));
                    }
                }
                _ => break,
            }
        }
        sync_all(&part)
            .and_then(|()| fs::rename(&part, blob))
            .and_then(|()| sync_parent(blob))
            .map_err(HubError::io(blob, "put it there"))
    }

    /// Fetches what is missing of the file.
    fn complete(
        &self,
        described: &Described,
        part: &Path,
        watcher: &mut dyn Watcher,
    ) -> Result<(), HubError> {
        let size = described.size;
        let opened = OpenOptions::new().create(true).append(true).open(part);
        let mut file = opened.map_err(HubError::io(part, "write"))?;
        let mut here = file.metadata().map_err(HubError::io(part, "read"))?.len();
        if size < here {
            file.set_len(0).map_err(HubError::io(part, "write"))?;
            here = 0;
        }
        watcher.bytes(self.name, here, size);
        if here == size {
            return Ok(());
        }
        self.client.file(&self.url, here, self.asked, |response| {
            let begins = begins(&response);
            if begins != Some(here) {
                file.set_len(0).map_err(HubError::io(part, "write"))?;
                here = 0;
                // What the server sends is the file from its start, or nothing that helps.
                if begins != Some(0) {
                    return Ok(Taken::Until(0, "it has another range".to_owned()));
                }
            }
            let ended = self.copy(response, &mut file, part, &mut here, size, watcher)?;
            if ended.is_none() && here == size {
                return Ok(Taken::Whole);
            }
            let why = ended.map_or_else(String::new, |error| format!(": {error}"));
            Ok(Taken::Until(here, format!("found {here} bytes, expected {size}{why}")))
        })
    }

    /// Writes down what an answer brings; the error that ended it, if one did.
    fn copy(
        &self,
        response: Response<Body>,
        file: &mut File,
        part: &Path,
        here: &mut u64,
        size: u64,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<io::Error>, HubError> {
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if watcher.stop_requested() {
                return Err(HubError::Stopped { what: self.asked.what.to_owned() });
            }
            let bytes = match body.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(bytes) => bytes,
                Err(error) => return Ok(Some(error)),
            };
            if size < *here + bytes as u64 {
                fs::remove_file(part).map_err(HubError::io(part, "remove it"))?;
                let found = format!("of more than {size} bytes");
                return Err(self.damaged("a size", found, format!("{size}")));
            }
            file.write_all(&buffer[..bytes]).map_err(HubError::io(part, "write"))?;
            *here += bytes as u64;
            watcher.bytes(self.name, *here, size);
        }
    }

    fn damaged(&self, what: &'static str, found: String, expected: String) -> HubError {
        HubError::Damaged { url: self.url.clone(), what, found, expected }
    }
}

/// At which byte of the file an answer begins.
fn begins(response: &Response<Body>) -> Option<u64> {
    match response.status().as_u16() {
        206 => {
            let range = response.headers().get("content-range")?.to_str().ok()?;
            range.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
        }
        200 => Some(0),
        _ => None,
    }
}

/// The hash of a file as the hub has it: SHA-256, or SHA-1 as Git has it; `None` where `like` is neither.
fn hash_of(path: &Path, like: &str) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok(match like.len() {
        64 => {
            let mut hash = Sha256::new();
            each_part(&mut file, |part| hash.update(part))?;
            Some(hexadecimal(&hash.finalize()))
        }
        40 => {
            let mut hash = Sha1::new();
            hash.update(format!("blob {length}\0"));
            each_part(&mut file, |part| hash.update(part))?;
            Some(hexadecimal(&hash.finalize()))
        }
        _ => None,
    })
}

fn each_part(file: &mut File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => take(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'hello\n' | git hash-object --stdin`, and `printf 'hello\n' | sha256sum`.
    #[test]
    fn hashes_are_those_of_git_and_of_its_large_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "hello\n").unwrap();
        let of = |length: usize| hash_of(&path, &"0".repeat(length)).unwrap();
        assert_eq!(of(40).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(
            of(64).unwrap(),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
        assert_eq!(of(10), None);
    }
}
