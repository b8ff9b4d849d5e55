//! Reading files whole, broken and bad; writing them.

use std::fs;
use std::io::{Read as _, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use hearken_data::{
    Content, JsonLinesAppender, OnBadRecord, Preference, Prompt, ReadOptions, ReadReport, read,
    write_jsonl,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with one file of the given name and bytes.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a file in it");
    (folder, path)
}

fn texts(prompts: &[Prompt]) -> Vec<&str> {
    let text = |prompt: &Prompt| match &prompt.prompt {
        Content::Text(text) => text.clone(),
        other => panic!("expected text, found {other:?}"),
    };
    prompts.iter().map(text).map(|text| &*text.leak()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes what is written");
    encoder.finish().expect("memory takes what is written")
}

/// The error of reading `bytes`, without the folder in front of the file's name.
fn error(name: &str, bytes: impl AsRef<[u8]>, options: &ReadOptions) -> String {
    let (folder, path) = file(name, bytes);
    let error = read::<Prompt>(&path, options).expect_err("the file is bad").to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

fn skip() -> ReadOptions {
    ReadOptions { on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() }
}

#[test]
fn every_layout_gives_the_same_records_and_their_lines() {
    let lines = "{\"prompt\": \"a\"}\n\n  \r\n{\"prompt\": \"ü\"}\r\n{\"prompt\": \"c\"}";
    let array = "[\n{\"prompt\": \"a\"},\n\n\n{\n \"prompt\": \"ü\"},{\"prompt\": \"c\"}\n]\n";
    let files: [(&str, Vec<u8>, [usize; 3]); 6] = [
        ("lines.jsonl", lines.into(), [1, 4, 5]),
        ("lines.json", lines.into(), [1, 4, 5]),
        ("mark.jsonl", format!("\u{feff}{lines}\n").into(), [1, 4, 5]),
        ("lines.jsonl.gz", gzip(lines.as_bytes()), [1, 4, 5]),
        ("array.json", array.into(), [2, 5, 6]),
        ("array.json.gz", gzip(format!("\u{feff}\n{array}").as_bytes()), [3, 6, 7]),
    ];
    for (name, bytes, starts) in files {
        let (_folder, path) = file(name, bytes);
        let (prompts, report) = read::<Prompt>(&path, &ReadOptions::default()).unwrap();
        assert_eq!(texts(&prompts), ["a", "ü", "c"], "{name}");
        assert_eq!(report, ReadReport { read: 3, ..ReadReport::default() }, "{name}");
        let found: Vec<usize> = prompts.iter().map(|prompt| prompt.source.line).collect();
        assert_eq!(found, starts, "{name}");
        assert_eq!(prompts[0].source.to_string(), format!("{}:{}", path.display(), starts[0]));
    }
}

#[test]
fn gzip_members_that_follow_each_other_are_one_file() {
    let bytes = [gzip(b"{\"prompt\": \"a\"}\n"), gzip(b"{\"prompt\": \"b\"}\n")].concat();
    let (_folder, path) = file("two.jsonl.gz", bytes);
    let (prompts, _) = read::<Prompt>(&path, &ReadOptions::default()).unwrap();
    assert_eq!(texts(&prompts), ["a", "b"]);
}

#[test]
fn a_limit_reads_no_further() {
    let options = ReadOptions { limit: Some(1), ..ReadOptions::default() };
    for (name, bytes) in [
        ("lines.jsonl", "{\"prompt\": \"a\"}\nnonsense"),
        ("array.json", "[{\"prompt\": \"a\"}, nonsense"),
    ] {
        let (_folder, path) = file(name, bytes);
        let (prompts, report) = read::<Prompt>(&path, &options).unwrap();
        assert_eq!((texts(&prompts), report.read), (vec!["a"], 1), "{name}");
    }
}

#[test]
fn errors_name_file_line_and_field() {
    let stop = ReadOptions::default();
    let good = "{\"prompt\": \"a\"}\n";
    assert_eq!(
        error("p.jsonl", format!("{good}\n{{\"prompt\": 3}}\n"), &stop),
        "p.jsonl:3: `prompt`: found the number 3, expected text or a list of messages"
    );
    assert_eq!(
        error("p.jsonl", format!("{good}[]\n"), &stop),
        "p.jsonl:2: found a list of 0, expected a JSON object"
    );
    assert_eq!(
        error("p.jsonl", format!("{good}{{\"prompt\": \n"), &stop),
        "p.jsonl:2: found invalid JSON at column 11 (EOF while parsing a value), expected one JSON \
         object per line"
    );
    assert_eq!(
        error("p.jsonl", b"{\"prompt\": \"a\"}\n{\"prompt\": \"\xff\"}\n", &stop),
        "p.jsonl:2: found a byte that is not UTF-8 at byte 13 of the line, expected UTF-8 text"
    );
    let short = ReadOptions { line_bytes_max: 20, ..ReadOptions::default() };
    assert_eq!(
        error("p.jsonl", format!("{good}{{\"prompt\": \"0123456789\"}}\n"), &short),
        "p.jsonl:2: found a line of more than 20 bytes, expected one JSON object per line"
    );
    assert_eq!(
        error("p.json", "[\n{\"prompt\": \"a\"},\n7]", &stop),
        "p.json:3: found the number 7, expected a JSON object"
    );
    assert_eq!(
        error("p.json", "[\n{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}]", &stop),
        "p.json:3: found invalid JSON (expected `,` or `]`), expected an array of objects"
    );
    assert_eq!(
        error("p.json", "[{\"prompt\": \"a\"},", &stop),
        "p.json:1: found invalid JSON (EOF while parsing a value), expected an array of objects"
    );
}

#[test]
fn files_that_hold_nothing_or_are_not_there_are_errors() {
    let stop = ReadOptions::default();
    for empty in ["", "\n \n", "[]"] {
        let expected = "p.jsonl: found no usable record, expected at least one";
        assert_eq!(error("p.jsonl", empty, &stop), expected);
    }
    assert_eq!(
        error("p.jsonl", "{}\n{}\n", &skip()),
        "p.jsonl: found no usable record (2 bad ones, the first: p.jsonl:1: found the columns \
         (none); expected `prompt_ids`, or `prompt`, or `chosen` + `rejected`, or `messages`), expected at least \
         one"
    );
    let folder = tempfile::tempdir().unwrap();
    let missing = read::<Prompt>(&folder.path().join("no.jsonl"), &stop).unwrap_err().to_string();
    assert!(missing.contains("no.jsonl: cannot be opened: No such file"), "{missing}");
    let is_folder = read::<Prompt>(folder.path(), &stop).unwrap_err().to_string();
    assert!(is_folder.contains("found a folder without files of records"), "{is_folder}");
}

#[test]
fn a_truncated_gzip_file_is_an_error_even_where_bad_records_are_skipped() {
    let lines: Vec<String> = (0..5000).map(|n| format!("{{\"prompt\": \"{}\"}}", n * n)).collect();
    let whole = gzip(lines.join("\n").as_bytes());
    for options in [ReadOptions::default(), skip()] {
        let error = error("p.jsonl.gz", &whole[..whole.len() / 2], &options);
        assert!(error.starts_with("p.jsonl.gz:"), "{error}");
        assert!(error.contains("cannot be read from here on: "), "{error}");
        let line = error.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
        assert!(line.is_some_and(|line| (1000..5000).contains(&line)), "{error}");
    }
}

#[test]
fn an_unknown_field_in_the_mapping_is_an_error() {
    let columns = [("promt".to_owned(), "question".to_owned())].into();
    let options = ReadOptions { columns, ..ReadOptions::default() };
    assert_eq!(
        error("p.jsonl", "{\"question\": \"a\"}", &options),
        "p.jsonl: the column mapping gives a name to `promt`; expected one of prompt_ids, prompt, \
         chosen, rejected, messages"
    );
}

#[test]
fn skipping_counts_bad_records_and_keeps_the_first_reasons() {
    let bad = ["nonsense", "[1]", "{}", "{\"prompt\": \"\"}", "{\"prompt\": 1}", "{\"prompt\": 2}"];
    let bytes = format!("{}\n{{\"prompt\": \"a\"}}\n{}", bad.join("\n"), "x".repeat(100));
    let (_folder, path) = file("p.jsonl", bytes);
    let options = ReadOptions { line_bytes_max: 50, ..skip() };
    let (prompts, report) = read::<Prompt>(&path, &options).unwrap();
    assert_eq!(texts(&prompts), ["a"]);
    assert_eq!((report.read, report.skipped), (1, 7));
    assert_eq!(report.reasons.len(), ReadReport::REASONS_MAX);
    assert!(report.reasons[3].ends_with("p.jsonl:4: `prompt`: found nothing in it, expected text"));
    assert_eq!(prompts[0].source.line, 7);
}

#[test]
fn written_records_are_read_back() {
    let (folder, path) = file("out.jsonl", "what was there before");
    let rows =
        [json!({"chosen": "a\nb", "rejected": "c"}), json!({"chosen": "ü", "rejected": "d"})];
    let preferences: Vec<Preference> =
        rows.iter().map(|row| serde_json::from_value(row.clone()).unwrap()).collect();
    for path in [path, folder.path().join("out.jsonl.gz")] {
        assert_eq!(write_jsonl(&path, &preferences).unwrap(), 2);
        let (again, _) = read::<Preference>(&path, &ReadOptions::default()).unwrap();
        let pairs = again.iter().zip(&preferences);
        assert!(pairs.clone().all(|(l, r)| (&l.chosen, &l.rejected) == (&r.chosen, &r.rejected)));
        assert_eq!(pairs.len(), 2);
    }
    let compressed = fs::read(folder.path().join("out.jsonl.gz")).unwrap();
    assert_eq!(compressed[..2], [0x1f, 0x8b]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_other() {
    struct Unwritable;
    impl serde::Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("cannot be serialized"))
        }
    }
    let (folder, path) = file("out.jsonl", "old");
    let error = write_jsonl(&path, [Unwritable]).unwrap_err().to_string();
    assert!(error.ends_with("out.jsonl: cannot be written: cannot be serialized"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = folder.path().join("missing").join("out.jsonl");
    let error = write_jsonl(&nowhere, [1]).unwrap_err().to_string();
    assert!(error.contains("cannot be written: No such file or directory"), "{error}");
}

#[test]
fn a_log_grows_and_survives_a_partial_last_line() {
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(10_000));
    for (before, after) in [
        (String::new(), String::new()),
        ("{\"n\":0}\n".into(), "{\"n\":0}\n".into()),
        ("{\"n\":0}".into(), "{\"n\":0}\n".into()),
        ("{\"n\":0}\n{\"n\":".into(), "{\"n\":0}\n".into()),
        (format!("{{\"n\":0}}\n{}", &long[..9_000]), "{\"n\":0}\n".into()),
        (long.clone(), format!("{long}\n")),
    ] {
        let (_folder, path) = file("log.jsonl", &before);
        let mut log = JsonLinesAppender::open(&path).unwrap();
        log.append(&json!({"n": 1})).unwrap();
        log.append(&Value::from(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}{{\"n\":1}}\n2\n"));
    }
}

/// The most memory that this process has taken, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| 1024 * kilobytes)
}

/// Ten gigabytes without a line end, and a quarter of one that is packed into some thousand bytes.
#[test]
fn what_never_ends_a_line_is_refused_at_the_limit_in_bounded_memory() {
    const BOUND: u64 = 300 << 20;
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long.jsonl");
    fs::File::create(&long).unwrap().set_len(10 << 30).unwrap();
    let bomb = folder.path().join("bomb.jsonl.zst");
    let mut packer = zstd::Encoder::new(fs::File::create(&bomb).unwrap(), 1).unwrap();
    std::io::copy(&mut std::io::repeat(b'x').take(1 << 28), &mut packer).unwrap();
    packer.finish().unwrap();
    assert!(fs::metadata(&bomb).unwrap().len() < 1 << 20);
    for (path, expected) in [
        (&long, ":1: cannot be read from here on: found a line of more than "),
        (&bomb, ":1: found a line of more than 1048576 bytes"),
    ] {
        let options = ReadOptions { line_bytes_max: 1 << 20, ..ReadOptions::default() };
        let error = read::<Prompt>(path, &options).unwrap_err().to_string();
        assert!(error.contains(&format!("{}{expected}", path.display())), "{error}");
    }
    assert!(peak_bytes().is_none_or(|peak| peak < BOUND), "{:?}", peak_bytes());
}
