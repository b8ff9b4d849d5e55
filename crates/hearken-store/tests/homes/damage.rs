//! Damaged, foreign and missing homes: a clear error, and nothing is made worse.

use std::fs;
use std::path::{Path, PathBuf};

use hearken_store::{Expected, Store, StoreError, open, open_existing};
use serde_json::json;
use tempfile::TempDir;

use super::examples::{claim, granted, item, items, judgement};
use super::postgres_server::{PASSWORD, PostgresServer};

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn url(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The error of a store that does not open.
fn refusal(path: &Path) -> StoreError {
    match open(url(path)) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// A file of JSON lines: 3 items, 3 judgements.
fn lines_home(folder: &TempDir) -> PathBuf {
    let path = path(folder, "prefs.jsonl");
    let store = open(url(&path)).unwrap();
    let three = items(0..3);
    store.add_items(&three).unwrap();
    for (n, item) in three.iter().enumerate() {
        store.submit(&judgement(&format!("j{n}"), item, "ada"), 2, 1).unwrap();
    }
    path
}

#[test]
fn an_unfinished_last_line_is_removed_with_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let path = lines_home(&folder);
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for cut in [last + 1, last + 20, whole.len() - 2] {
        fs::write(&path, &whole[..cut]).unwrap();
        let store = open(url(&path)).unwrap();
        assert_eq!(store.counts().unwrap().judgements, 2);
        let notices = store.notices();
        assert!(notices[0].contains("prefs.jsonl:6"), "{notices:?}");
        let event = &store.events(0, 10).unwrap()[0].record;
        assert_eq!(event.action, "store.unfinished_line_removed");
        assert_eq!(event.details["bytes"], json!(cut - last));
        // The lost one can be sent again.
        store.submit(&judgement("j2", &item(2), "ada"), 2, 1).unwrap();
        drop(store);
        let store = open(url(&path)).unwrap();
        assert_eq!(store.counts().unwrap().judgements, 3);
        assert_eq!(store.notices(), Vec::<String>::new());
    }
}

#[test]
fn a_last_line_without_a_line_break_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = lines_home(&folder);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let store = open(url(&path)).unwrap();
    assert_eq!(store.counts().unwrap().judgements, 3);
    store.add_items(&items(5..6)).unwrap();
    drop(store);
    assert_eq!(open(url(&path)).unwrap().counts().unwrap().items, 4);
}

#[test]
fn a_wrong_line_is_named_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = lines_home(&folder);
    let lines: Vec<String> =
        fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let check = |number: usize, line: &[u8], words: &[&str]| {
        let mut text = Vec::new();
        for (index, old) in lines.iter().enumerate() {
            text.extend_from_slice(if index + 1 == number { line } else { old.as_bytes() });
            text.push(b'\n');
        }
        text.extend_from_slice(b"{\"item\":{\"unfin");
        fs::write(&path, &text).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        let said = error.to_string();
        let place = format!("prefs.jsonl:{number}");
        for word in words.iter().copied().chain([place.as_str()]) {
            assert!(said.contains(word), "{said:?} does not contain {word:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), text, "the file is as it was");
    };
    check(2, b"{\"item\": {\"id\"", &["EOF"]);
    check(2, b"hello", &["expected value", "hello"]);
    check(2, b"{\"itme\": {}}", &["unknown variant `itme`", "judgement"]);
    check(2, b"{\"judgement\": {\"id\": \"x\"}}", &["missing field `item`"]);
    check(2, b"{\"item\": {\"id\": \"\xff\"}}", &["unicode"]);
    check(3, lines[0].as_bytes(), &["already", "item-0"]);
    check(5, lines[3].as_bytes(), &["already", "j0"]);
    check(1, lines[3].as_bytes(), &["item-0", "no line before"]);
    let wrong = lines[3].replace("\"candidate\":0", "\"candidate\":7");
    check(4, wrong.as_bytes(), &["candidate 7 of 2"]);
    let surplus = lines[3].replacen("{\"id\"", "{\"surplus\":1,\"id\"", 1);
    check(4, surplus.as_bytes(), &["surplus"]);
}

#[test]
fn a_line_of_fifty_megabytes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder, "large.jsonl");
    let mut large = item(0);
    large.candidates[1].text = "x".repeat(50 << 20);
    open(url(&path)).unwrap().add_items(std::slice::from_ref(&large)).unwrap();
    let store = open(url(&path)).unwrap();
    store.add_items(&items(1..2)).unwrap();
    assert_eq!(store.item("item-0").unwrap().unwrap(), large);
    assert_eq!(store.item("item-1").unwrap().unwrap(), item(1));
}

#[test]
fn a_file_of_json_lines_has_one_user_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = lines_home(&folder);
    let store = open(url(&path)).unwrap();
    let error = refusal(&path);
    let StoreError::InUse { holder, .. } = &error else { panic!("{error:?}") };
    if cfg!(target_os = "linux") {
        assert!(holder.contains(&format!("process {}", std::process::id())), "{error}");
    }
    drop(store);
    open(url(&path)).unwrap();
}

#[test]
fn a_change_by_another_program_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = lines_home(&folder);
    let store = open(url(&path)).unwrap();
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"removed\":{\"kind\":\"a\",\"key\":\"b\"}}\n");
    fs::write(&path, &text).unwrap();
    let error = store.add_items(&items(7..8)).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), text, "what the other program wrote is there");
    drop(store);
    open(url(&path)).unwrap().add_items(&items(7..8)).unwrap();
}

#[test]
fn what_a_document_said_is_gone_from_the_files() {
    for name in ["gone.jsonl", "gone.db"] {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder, name);
        let store = open(url(&path)).unwrap();
        store.add_items(&items(0..1)).unwrap();
        let put =
            |key, body| store.put_document("account", key, &body, Expected::Anything).unwrap();
        put("ada", json!({"email": "ada@example.org", "filler": "x".repeat(9000)}));
        put("bob", json!({"email": "bob@example.org"}));
        put("ada", json!({"erased": true}));
        store.delete_document("account", "bob").unwrap();
        drop(store);
        let contains = |word: &str| {
            let files = fs::read_dir(folder.path()).unwrap();
            files.flatten().any(|file| {
                let bytes = fs::read(file.path()).unwrap();
                bytes.windows(word.len()).any(|window| window == word.as_bytes())
            })
        };
        assert!(contains("erased"), "{name}");
        assert!(!contains("ada@example.org") && !contains("bob@example.org"), "{name}");
        let store = open(url(&path)).unwrap();
        assert_eq!(store.documents("account").unwrap().len(), 1);
        assert_eq!(store.counts().unwrap().items, 1);
    }
}

/// A SQLite store of some hundred pages.
fn sqlite_home(folder: &TempDir) -> PathBuf {
    let path = path(folder, "prefs.db");
    let store = open(url(&path)).unwrap();
    let many = items(0..2000);
    store.add_items(&many).unwrap();
    granted(&*store, &claim("item-5", "ada", 0));
    path
}

#[test]
fn a_truncated_sqlite_file_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = sqlite_home(&folder);
    let whole = fs::read(&path).unwrap();
    for bytes in [50, 1000, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..bytes]).unwrap();
        let error = refusal(&path);
        let said = error.to_string();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{bytes} bytes: {error:?}");
        assert!(said.contains("prefs.db") && said.contains("restore"), "{said}");
    }
    fs::write(&path, b"").unwrap();
    let error = open_existing(url(&path)).err().unwrap();
    assert!(error.to_string().contains("empty"), "{error}");
}

#[test]
fn a_page_of_noise_is_an_error_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = sqlite_home(&folder);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let read = open(url(&path)).and_then(|store| store.items(0, usize::MAX));
    let error = read.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("prefs.db"), "{error}");
}

#[test]
fn foreign_and_later_sqlite_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = path(&folder, "foreign.db");
    let other = rusqlite::Connection::open(&foreign).unwrap();
    other
        .execute_batch("CREATE TABLE guests (name TEXT); INSERT INTO guests VALUES ('x')")
        .unwrap();
    drop(other);
    let before = fs::read(&foreign).unwrap();
    let error = refusal(&foreign);
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(fs::read(&foreign).unwrap(), before);

    let later = sqlite_home(&folder);
    let connection = rusqlite::Connection::open(&later).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = refusal(&later);
    assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error:?}");

    let text = path(&folder, "notes.txt");
    fs::write(&text, "a letter to a friend, ".repeat(100)).unwrap();
    let error = refusal(&text);
    assert!(error.to_string().contains("no SQLite database"), "{error}");
}

#[test]
fn addresses_that_lead_nowhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["missing.db", "missing.jsonl"] {
        let missing = path(&folder, name);
        let error = open_existing(url(&missing)).err().unwrap();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert!(!missing.exists());
        let error = refusal(&path(&folder, "no-folder").join(name));
        assert!(error.to_string().contains("no-folder"), "{error}");
    }
    assert!(refusal(folder.path()).to_string().contains("folder"));
    for url in ["mysql://ada:s3cret@host/db", ""] {
        let error = open(url).err().unwrap();
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_dead_server_is_said_and_survived() {
    let Some(mut server) = PostgresServer::start() else { return };
    let url = server.new_database("labels");
    let error = open_existing(&url).err().unwrap();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    let store = open(&url).unwrap();
    assert!(!store.home().contains(PASSWORD), "{}", store.home());
    store.add_items(&items(0..2)).unwrap();
    store.submit(&judgement("j0", &item(0), "ada"), 2, 1).unwrap();

    server.kill();
    for attempt in [
        store.counts().map(drop),
        store.item("item-0").map(drop),
        store.submit(&judgement("j1", &item(1), "ada"), 2, 1).map(drop),
        store.add_items(&items(0..9)).map(drop),
    ] {
        let error = attempt.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains("postgres://hearken@127.0.0.1") && !said.contains(PASSWORD),
            "{said}"
        );
    }
    assert!(open(&url).is_err());
    server.launch();
    // The very next call works.
    store.submit(&judgement("j1", &item(1), "ada"), 2, 1).unwrap();
    assert_eq!(store.counts().unwrap().judgements, 2);
    // A restart that nobody noticed.
    server.kill();
    server.launch();
    assert_eq!(store.counts().unwrap().judgements, 2);
    store.add_items(&items(2..3)).unwrap();
    refuse_to_connect(&server, &url);
    later_schemas_are_refused(&url, &*store);
}

fn refuse_to_connect(server: &PostgresServer, url: &str) {
    let wrong = url.replace(PASSWORD, "a-wrong-one");
    let error = open(&wrong).err().unwrap().to_string();
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(!error.contains("a-wrong-one"), "{error}");
    let error = open(&server.url("nothing")).err().unwrap().to_string();
    assert!(error.contains("createdb"), "{error}");
}

fn later_schemas_are_refused(url: &str, store: &dyn Store) {
    let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
    client.batch_execute("UPDATE hearken.schema_version SET version = 99").unwrap();
    let error = open(url).err().unwrap();
    assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error:?}");
    assert_eq!(store.counts().unwrap().items, 3);
}
