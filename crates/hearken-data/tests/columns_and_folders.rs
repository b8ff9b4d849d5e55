//! Parquet files of every codec, compressed files, folders, patterns; and what is broken in them.
//!
//! `fixtures/parquet/make.py` wrote the Parquet files, by pyarrow and datasets.

use std::fs;
use std::path::{Path, PathBuf};

use hearken_data::{
    AnyRow, Content, Demonstration, OnBadRecord, ParquetColumns, Preference, Prompt, ReadError,
    ReadOptions, RecordKind, kind_of, read,
};

const FILES: [&str; 9] =
    ["none", "snappy", "gzip", "brotli", "lz4", "zstd", "v2", "dictionary", "datasets"];
const ROWS: usize = 7;

fn parquet(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    folder.join(format!("{name}.parquet"))
}

fn skipping() -> ReadOptions {
    ReadOptions { on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() }
}

#[test]
fn parquet_of_every_codec_reads_as_the_same_records() {
    for name in FILES {
        let (records, report) = read::<Preference>(&parquet(name), &skipping()).unwrap();
        assert_eq!((report.read, report.skipped), (ROWS - 1, 1), "{name}");
        assert!(
            report.reasons[0]
                .ends_with(":3: `margin`: found NaN, which JSON does not have, expected a number"),
            "{name}: {}",
            report.reasons[0]
        );
        let numbers = [0, 1, 3, 4, 5, 6];
        for (record, number) in records.iter().zip(numbers) {
            let Some(Content::Messages(prompt)) = &record.prompt else { panic!("{name}") };
            assert_eq!(prompt[0].content, format!("Question {number}: ä€😀"), "{name}");
            let Content::Messages(chosen) = &record.chosen else { panic!("{name}") };
            assert_eq!(chosen[0].content, format!("good {number}"), "{name}");
            assert_eq!(record.margin, Some(f64::from(number) / 10.0), "{name}");
            assert_eq!(record.source.line, number as usize + 1, "{name}");
        }
        let kind = kind_of(&parquet(name), &skipping()).unwrap().unwrap().0;
        assert_eq!(kind, Some(RecordKind::Preferences), "{name}");
    }
}

#[test]
fn further_columns_keep_their_types() {
    let (prompts, _) = read::<Prompt>(&parquet("v2"), &ReadOptions::default()).unwrap();
    let columns = &prompts[3].extra;
    assert_eq!(columns["tags"], serde_json::json!(["a", "a", "a"]));
    assert_eq!(columns["small"], 3);
    assert_eq!(columns["at"], "2024-02-29T12:30:03.000Z");
    assert!(columns["source"].is_null());
    assert_eq!(prompts[4].extra["source"], "web");
    // Bytes of an image are nothing that JSON has; nobody reads them.
    assert!(!columns.contains_key("image"));
}

#[test]
fn a_damaged_parquet_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        let whole = fs::read(parquet(name)).unwrap();
        let path = folder.path().join("damaged.parquet");
        for length in (5..whole.len()).step_by(whole.len() / 40) {
            fs::write(&path, &whole[..length]).unwrap();
            let error = read::<Prompt>(&path, &ReadOptions::default()).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(error.contains("found broken Parquet"), "{error}");
        }
        // One byte that is another one: an error or other text, and no panic.
        for at in (4..whole.len()).step_by(23) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            fs::write(&path, damaged).unwrap();
            match read::<Prompt>(&path, &skipping()) {
                Ok((records, _)) => assert!(records.len() <= ROWS),
                Err(error) => {
                    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
                }
            }
        }
    }
}

#[test]
fn zstd_reads_as_what_it_packs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.jsonl.zst");
    let lines = "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n";
    // Frames that follow each other, as of several writers.
    let frames = [zstd::encode_all(lines.as_bytes(), 3), zstd::encode_all(lines.as_bytes(), 19)];
    let packed = frames.map(Result::unwrap).concat();
    fs::write(&path, &packed).unwrap();
    assert_eq!(read::<Prompt>(&path, &ReadOptions::default()).unwrap().0.len(), 4);
    let cells = folder.path().join("prompts.csv.zst");
    fs::write(&cells, zstd::encode_all(&b"prompt,answer\na,1\n"[..], 3).unwrap()).unwrap();
    assert_eq!(read::<Prompt>(&cells, &ReadOptions::default()).unwrap().0.len(), 1);
    let tabs = folder.path().join("prompts.tsv");
    fs::write(&tabs, "prompt\tanswer\na, b\t1\n").unwrap();
    let (prompts, _) = read::<Prompt>(&tabs, &ReadOptions::default()).unwrap();
    assert_eq!(prompts[0].prompt, Content::Text("a, b".into()));

    fs::write(&path, &packed[..packed.len() - 5]).unwrap();
    let error = read::<Prompt>(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("incomplete frame"), "{error}");
}

#[test]
fn what_a_few_bytes_unpack_to_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.jsonl.zst");
    let frame = zstd::encode_all(&vec![b'x'; 64 << 20][..], 3).unwrap();
    fs::write(&path, frame.repeat(20)).unwrap();
    let options = ReadOptions { line_bytes_max: 1 << 20, ..skipping() };
    let error = read::<Prompt>(&path, &options).unwrap_err().to_string();
    assert!(
        error.contains("bomb.jsonl.zst:1: cannot be read from here on: found a line of more"),
        "{error}"
    );
}

#[test]
fn a_quotation_mark_that_is_never_closed_is_named_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.csv");
    let rest = "question,answer\n".repeat(1000);
    fs::write(&path, format!("answer,prompt\n1,\"a \"\" b\"\n2,c \" d\n3,\"e\n{rest}")).unwrap();
    for options in [ReadOptions::default(), skipping()] {
        let error = read::<Prompt>(&path, &options).unwrap_err().to_string();
        let expected =
            ":4: cannot be read from here on: found a quotation mark that is never closed";
        assert!(error.ends_with(expected), "{error}");
    }
    let limited = ReadOptions { line_bytes_max: 1000, ..ReadOptions::default() };
    let error = read::<Prompt>(&path, &limited).unwrap_err().to_string();
    assert!(error.contains("the quotation mark of line 4 is not closed"), "{error}");
    fs::write(&path, "answer,prompt\n1,\"a\"\"\nb\"\n2,c \" d").unwrap();
    assert_eq!(read::<Prompt>(&path, &ReadOptions::default()).unwrap().0.len(), 2);
}

#[test]
fn a_folder_and_a_pattern_read_as_their_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, prompt) in [("train-1", "b"), ("train-0", "a"), ("test-0", "c")] {
        let line = format!("{{\"prompt\": \"{prompt}\"}}\n");
        fs::write(folder.path().join(format!("{name}.jsonl")), line).unwrap();
    }
    let prompts = |place: &Path| -> Result<Vec<(String, String)>, ReadError> {
        let (prompts, _) = read::<Prompt>(place, &ReadOptions::default())?;
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(prompts
            .into_iter()
            .map(|prompt| {
                let Content::Text(text) = &prompt.prompt else { panic!("text") };
                (name(&prompt.source.path), text.clone())
            })
            .collect())
    };
    let two = [("train-0.jsonl", "a"), ("train-1.jsonl", "b")];
    let two: Vec<_> = two.map(|(file, text)| (file.to_owned(), text.to_owned())).into();
    assert_eq!(prompts(folder.path()).unwrap(), two);
    assert_eq!(prompts(&folder.path().join("train-*.jsonl")).unwrap(), two);
    let test = PathBuf::from(format!("{}#test", folder.path().display()));
    assert_eq!(prompts(&test).unwrap().len(), 1);
    let nothing = prompts(&folder.path().join("*.csv")).unwrap_err().to_string();
    assert!(nothing.ends_with("*.csv: found no file that fits the pattern"), "{nothing}");
}

#[test]
fn a_column_of_the_wrong_type_is_named_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let rows = folder.path().join("rows.jsonl");
    fs::write(&rows, "{\"prompt\": 1, \"completion\": \"a\"}\n").unwrap();
    let (rows, _) = read::<AnyRow>(&rows, &ReadOptions::default()).unwrap();
    let mut columns = ParquetColumns::default();
    for row in &rows {
        columns.take(row).unwrap();
    }
    columns.write::<std::io::Error>(&path, rows.into_iter().map(Ok)).unwrap();
    let error = read::<Demonstration>(&path, &ReadOptions::default()).unwrap_err().to_string();
    let expected = "rows.parquet:1: `prompt`: found the number 1, expected text";
    assert!(error.contains(expected), "{error}");
}
