//! A disk without room: a clear error, nothing acknowledged, the store usable afterwards.

use hearken_store::{StoreError, open};

use super::examples::{claim, granted, item, items, judged, judgement};
use super::small_disk::SmallDisk;

fn fill_up(disk: &SmallDisk, name: &str) {
    let path = disk.path().join(name);
    let url = path.to_str().unwrap();
    let store = open(url).unwrap();
    store.add_items(&items(0..100)).unwrap();
    let assignment = granted(&*store, &claim("item-0", "ada", 0));
    disk.fill();
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

    disk.make_room();
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
        fill_up(&disk, "prefs.jsonl");
    }
}

#[test]
fn sqlite_survives_a_full_disk() {
    if let Some(disk) = SmallDisk::mount(4) {
        fill_up(&disk, "prefs.db");
    }
}
