//! Bad files, and how files are told apart.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use hearken_data::OnBadRecord;
use hearken_data::feedback::formats::{Format, ImportOptions, import};

use crate::support::{File, error, read};

fn check_error(name: &str, content: impl AsRef<[u8]>, expected: &str) {
    let found = error(name, content);
    assert!(found.contains(expected), "found:\n{found}\nexpected:\n{expected}");
}

const PAIR: &str = r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#;

#[test]
fn bad_lines_are_named_with_what_was_found_and_expected() {
    check_error(
        "p.jsonl",
        format!("{PAIR}\n{{\"chosen\""),
        "p.jsonl:2: found invalid JSON at column",
    );
    check_error(
        "p.jsonl",
        format!("{PAIR}\n[1]"),
        "p.jsonl:2: found a list of 1, expected a JSON object",
    );
    check_error(
        "p.jsonl",
        format!("{PAIR}\n{{\"prompt\": \"p\", \"chosen\": 3, \"rejected\": \"b\"}}"),
        "p.jsonl:2: `chosen`: found the number 3, expected text or a list of messages",
    );
    check_error(
        "own.jsonl",
        r#"{"candidates": ["a"], "task": "pairwise"}"#,
        "own.jsonl:1: a pairwise item needs exactly 2 candidates, found 1",
    );
    check_error(
        "own.jsonl",
        r#"{"candidates": ["a", "b"], "promt": "x"}"#,
        "own.jsonl:1: found an item with a mistake: unknown field `promt`",
    );
}

#[test]
fn bytes_that_are_not_utf8_are_named_by_their_offset() {
    let mut bytes = format!("{PAIR}\n{{\"prompt\": \"").into_bytes();
    bytes.extend([0xe9, b'"', b'}']);
    check_error(
        "p.jsonl",
        &bytes,
        "p.jsonl:2: found a byte that is not UTF-8 at byte 13 of the line",
    );
    let mut bytes = b"id,winner,left,right\n1,left,".to_vec();
    bytes.extend([0xff, b',', b'x', b'\n']);
    check_error("c.csv", &bytes, "c.csv:2: found a byte that is not UTF-8 at byte 8 of the line");
}

#[test]
fn lines_above_the_limit_are_refused_or_skipped() {
    let long = "x".repeat(50 << 20);
    let text = format!(
        "{PAIR}\n{{\"prompt\": \"{long}\", \"chosen\": \"a\", \"rejected\": \"b\"}}\n{PAIR}"
    );
    let file = File::new("p.jsonl", text);
    // 50 MB is within the default limit of 64 MiB.
    assert_eq!(file.import().unwrap().items.len(), 2);
    let options = ImportOptions { line_bytes_max: 1 << 20, ..ImportOptions::default() };
    let error = import(&[&file.path], None, &options).unwrap_err().to_string();
    assert!(error.contains("p.jsonl:2: found a line of more than 1048576 bytes"), "{error}");
    let options = ImportOptions { on_bad_record: OnBadRecord::Skip, ..options };
    let import = import(&[&file.path], None, &options).unwrap();
    assert_eq!((import.report.rows, import.report.skipped), (3, 1));
    assert_eq!(import.report.repeated_judgements, 1);
}

#[test]
fn gzip_is_read_and_a_truncated_file_said_to_be_one() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for line in 0..2000 {
        let line = format!("{{\"prompt\": \"{line}\", \"chosen\": \"a\", \"rejected\": \"b\"}}\n");
        encoder.write_all(line.as_bytes()).unwrap();
    }
    let bytes = encoder.finish().unwrap();
    assert_eq!(read("p.jsonl.gz", &bytes).items.len(), 2000);
    check_error("p.jsonl.gz", &bytes[..bytes.len() / 2], "cannot be read from here on");
}

#[test]
fn empty_files_and_unknown_columns_are_errors() {
    check_error("p.jsonl", "", "p.jsonl: found no row, expected at least one");
    check_error("p.json", "[]", "p.json: found no row, expected at least one");
    check_error("c.csv", "", "c.csv: found no row, expected at least one");
    let text = error("p.jsonl", r#"{"foo": 1, "bar": 2}"#);
    assert!(text.starts_with("p.jsonl: found the columns `foo`, `bar` in the first row"), "{text}");
    for format in Format::all() {
        assert!(text.contains(format.as_str()), "{text} does not list {format}");
    }
    check_error("p.jsonl", "{}", "found the columns (none)");
}

#[test]
fn csv_rows_of_another_length_are_named() {
    let head =
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie";
    check_error(
        "c.csv",
        format!("{head}\n1,2,3\n"),
        "c.csv:2: found 3 cells, expected 9, as in the header",
    );
    let row = "1,m,n,\"[\"\"q\"\"]\",\"[\"\"a\"\"]\",\"[\"\"b\"\"]\",1,1,0";
    check_error("c.csv", format!("{head}\n{row}\n"), "found 2 of three that are 1");
    let row = "1,m,n,q,a,b,1,0,0";
    check_error(
        "c.csv",
        format!("{head}\n{row}\n"),
        "`prompt`: found the text \"q\", expected a JSON list",
    );
}

#[test]
fn importing_twice_gives_the_same_names() {
    let text = format!("{PAIR}\n{PAIR}\n");
    let (one, other) = (read("p.jsonl", &text), read("p.json", format!("[{PAIR}]")));
    assert_eq!(one.items, other.items);
    assert_eq!(one.judgements, other.judgements);
    assert_eq!(one.report.repeated_judgements, 1);
    let file = File::new("a.jsonl", PAIR);
    let beside = file.beside("b.jsonl", PAIR);
    let import = import(&[&file.path, &beside], None, &ImportOptions::default()).unwrap();
    assert_eq!((import.items.len(), import.judgements.len()), (1, 1));
}

#[test]
fn two_records_of_one_name_have_to_be_equal() {
    let item = r#"{"id": "i", "candidates": ["a", "b"]}"#;
    let import = read("i.jsonl", format!("{item}\n{item}"));
    assert_eq!((import.items.len(), import.report.repeated_items), (1, 1));
    let other = item.replace("\"b\"", "\"c\"");
    check_error(
        "i.jsonl",
        format!("{item}\n{other}"),
        "i.jsonl:2: found another item with the id \"i\" of an earlier one",
    );
    let vote = r#"{"id": "j", "item": "i", "annotator": "x", "verdict": {"kind": "tie"}}"#;
    let other = vote.replace("tie", "both_bad");
    check_error(
        "i.jsonl",
        format!("{item}\n{vote}\n{other}"),
        "found two different judgements with the id \"j\", expected one",
    );
}

#[test]
fn judgements_have_to_fit_their_items_wherever_these_stand() {
    let item = r#"{"id": "i", "candidates": ["a", "b"]}"#;
    let vote = r#"{"id": "j", "item": "i", "annotator": "x", "verdict": {"kind": "preferred", "candidate": 2}}"#;
    check_error("i.jsonl", format!("{item}\n{vote}"), "i.jsonl:2: candidate 2 of 2");
    check_error("i.jsonl", format!("{vote}\n{item}"), "judgement \"j\": candidate 2 of 2");
    let import = read("i.jsonl", vote);
    assert_eq!((import.items.len(), import.report.without_item), (0, 1));
}

#[test]
fn options_of_an_import_hold_for_every_item() {
    let file = File::new("p.jsonl", PAIR);
    let options = ImportOptions {
        annotator: Some("me".into()),
        overlap: Some(3),
        sensitive: true,
        limit: Some(1),
        ..ImportOptions::default()
    };
    let import = import(&[&file.path], Some(Format::TrlPreference), &options).unwrap();
    let item = &import.items[0];
    assert_eq!((item.overlap, item.sensitive), (Some(3), true));
    assert_eq!(import.judgements[0].annotator, "me");
}

#[test]
fn a_limit_of_nothing_reads_nothing() {
    let file = File::new("p.jsonl", PAIR);
    let options = ImportOptions { limit: Some(0), ..ImportOptions::default() };
    let import = import(&[&file.path], Some(Format::TrlPreference), &options).unwrap();
    assert_eq!((import.items.len(), import.judgements.len(), import.report.rows), (0, 0, 0));
}

#[test]
fn comparisons_of_llmfao_need_their_pairs() {
    let votes = "id,prompt,model_x,model_y,worker,winner,left,right\n7,1,2,3,w,right,Two,Three\n";
    let file = File::new("crowd-comparisons.csv", votes);
    let error = file.import().unwrap_err().to_string();
    assert!(error.contains("expected the file of pairs beside it (pairs-crowd.jsonl)"), "{error}");
    let pair = r#"{"id": 7, "prompt": 1, "text": "q", "model_x": 2, "result_x": "a", "model_y": 3, "result_y": "b"}"#;
    file.beside("pairs-crowd.jsonl", pair);
    let import = file.import().unwrap();
    assert_eq!(import.items[0].candidates[1].model.as_deref(), Some("Three"));
    assert_eq!(import.judgements[0].annotator, "w");
    file.beside("pairs-crowd.jsonl", pair.replace("\"id\": 7", "\"id\": 8"));
    let error = file.import().unwrap_err().to_string();
    assert!(error.contains("crowd-comparisons.csv:2: found a vote on pair 7"), "{error}");
}

#[test]
fn what_is_wrong_with_a_pair_is_told_with_its_line_when_all_are_read() {
    let pair = |id: u32, model: &str| {
        format!(
            r#"{{"id": {id}, "prompt": 1, "text": "t", "model_x": {model}, "result_x": "a", "model_y": 2, "result_y": "b{id}"}}"#
        )
    };
    let told = error("pairs-crowd.jsonl", [pair(1, "1"), pair(2, "[1]")].join("\n"));
    assert!(told.starts_with("pairs-crowd.jsonl:2: "), "{told}");
}

#[test]
fn a_judgement_before_its_item_is_told_with_its_file() {
    let rows = [
        r#"{"judgement": {"id": "j", "item": "i", "annotator": "a", "verdict": {"kind": "preferred", "candidate": 7}}}"#,
        r#"{"item": {"id": "i", "prompt": "x", "candidates": ["a", "b"]}}"#,
    ];
    let told = error("own.jsonl", rows.join("\n"));
    assert!(told.starts_with("own.jsonl: judgement \"j\""), "{told}");
}
