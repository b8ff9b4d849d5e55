//! A disk without room: a clear error, nothing acknowledged, the store usable afterwards.

use std::path::Path;
use std::process::Command;

use hearken_store::{StoreError, open};

use super::examples::{claim, granted, item, items, judged, judgement};

/// A small disk in the memory, gone when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, and a word on standard error, where mounting is not permitted.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("skipped: a small disk cannot be mounted here (needs root)");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

fn fill_up(folder: &Path, name: &str) {
    let path = folder.join(name);
    let url = path.to_str().unwrap();
    let store = open(url).unwrap();
    store.add_items(&items(0..100)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    // Fill the disk with a stranger's file.
    let filler = folder.join("filler");
    let mut bytes = 8 << 20;
    while bytes >= 512 {
        let mut old = std::fs::read(&filler).unwrap_or_default();
        old.resize(old.len() + bytes, b'x');
        if std::fs::write(&filler, &old).is_err() {
            bytes /= 2;
        }
    }
    let mut acknowledged = Vec::new();
    let mut refused = None;
    for n in 1..100 {
        let mut large = judgement(&format!("j{n}"), &item(n), "ada");
        large.rationale = Some("because ".repeat(10_000));
        match store.submit(&large, 2, 1) {
            Ok(_) => acknowledged.push(large),
            Err(error) => {
                refused = Some((error, large));
                break;
            }
        }
    }
    let (error, large) = refused.expect("the disk is full at some point");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    let error = store.add_items(&items(200..9000)).unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(store.judgement(&large.id).unwrap(), None);
    assert_eq!(store.counts().unwrap().judgements, acknowledged.len() as u64);
    assert_eq!(store.counts().unwrap().items, 100);

    std::fs::remove_file(&filler).unwrap();
    store.submit(&large, 2, 1).unwrap();
    store.submit(&judged("held", &assignment, &item(0)), 2, 1).unwrap();
    store.add_items(&items(200..300)).unwrap();
    drop(store);
    let store = open(url).unwrap();
    assert_eq!(store.notices(), Vec::<String>::new());
    assert_eq!(store.counts().unwrap().items, 200);
    assert_eq!(store.counts().unwrap().judgements, acknowledged.len() as u64 + 2);
    for judgement in &acknowledged {
        assert_eq!(store.judgement(&judgement.id).unwrap().as_ref(), Some(judgement));
    }
}

#[test]
fn json_lines_survive_a_full_disk() {
    if let Some(disk) = SmallDisk::mount(4) {
        fill_up(disk.folder.path(), "prefs.jsonl");
    }
}

#[test]
fn sqlite_survives_a_full_disk() {
    if let Some(disk) = SmallDisk::mount(4) {
        fill_up(disk.folder.path(), "prefs.db");
    }
}
