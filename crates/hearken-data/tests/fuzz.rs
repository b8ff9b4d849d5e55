//! Files with all kinds of things wrong with them: reading one never panics, and trainers and `import`
//! take the same rows of it.
//!
//! What is made follows from a seed. `cargo xtask fuzz ROUNDS` tries more of it than the suite does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::Path;

use hearken_data::feedback::formats::{
    ExportOptions, Format, ImportOptions, detect, export, holds_judgements, import, records_of,
};
use hearken_data::{
    Demonstration, OnBadRecord, Preference, Prompt, ReadError, ReadOptions, Record,
    RecordedRollout, UnpairedPreference, kind_of, read,
};

const ROUNDS: u64 = 3000;

/// Rows to start from.
const ROWS: [&str; 20] = [
    r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5", "margin": 1.5}"#,
    r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#,
    r#"{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "b"}], "probability": 0.25}"#,
    r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: b", "rejected": "\n\nHuman: Hi\n\nAssistant: a"}"#,
    r#"{"prompt": "p", "completion": " a", "label": true}"#,
    r#"{"prompt_ids": [5], "completion_ids": [7, 0], "label": 1, "kl_completion_ids": [3]}"#,
    r#"{"prompt_ids": [5, 6], "chosen_ids": [7, 0], "rejected_ids": [8, 0]}"#,
    r#"{"text": "Roses are \u2665"}"#,
    r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
    r#"{"input_ids": [5, 6, 0], "loss_mask": [0, 1, 1]}"#,
    r#"{"iteration": 0, "group": 3, "prompt_ids": [5, 6], "completion_ids": [7, 0], "score": 0.5}"#,
    r#"{"prompt": "p", "completions": ["one", "two"], "labels": [true, false]}"#,
    r#"{"item": {"id": "i", "prompt": "?", "candidates": ["a", "b"]}}"#,
    r#"{"judgement": {"id": "j", "item": "i", "annotator": "a", "verdict": {"kind": "preferred", "candidate": 1}}}"#,
    r#"{"instruction": "i", "models": ["m"], "completions": [{"model": "m", "response": "a", "annotations": {"honesty": {"Rating": "2"}}}]}"#,
    r#"{"prompt": "q", "answers": [{"answer": "a", "rank": 3.0}, {"answer": "b", "rank": 1.0}]}"#,
    r#"{"model_a": "m", "model_b": "n", "winner": "tie", "conversation_a": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "conversation_b": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "tstamp": 1.5}"#,
    r#"{"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1.75, "annotator": "x"}"#,
    r#"{"data": {"text1": "a", "text2": "b"}, "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "left"}}], "completed_by": 7}]}"#,
    r#"{"question": {"problem": "p"}, "labeler": "l", "label": {"steps": [{"completions": [{"text": "x", "rating": -1}], "chosen_completion": 0}], "finish_reason": "found_error"}}"#,
];

/// Pieces that a row may get where none belongs.
const PIECES: [&str; 36] = [
    "NaN",
    "-Infinity",
    "1e999",
    "-0.0",
    "\\ud83d",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u00",
    "null",
    "true",
    "\"\"",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "{}",
    "[]",
    "[[[[",
    "\n",
    "\r\n",
    "\u{feff}",
    "\0",
    "é",
    "💡",
    "18446744073709551616",
    "-1",
    "\"role\": \"tool\"",
    "\n\nHuman:",
    "\\n\\nAssistant:",
    "\"chosen\":",
    "\"label\": \"1\"",
    ",,\"",
];

/// `SplitMix64`: Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.below(choices.len())]
    }
}

fn mutated(mut row: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..dice.below(4) {
        let at = dice.below(row.len() + 1);
        match dice.below(5) {
            0 => row.truncate(at),
            1 if at < row.len() => row[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => {
                let end = (at + dice.below(12)).min(row.len());
                row.drain(at..end);
            }
            3 => {
                let end = (at + dice.below(40)).min(row.len());
                let part = row[at..end].to_vec();
                row.splice(at..at, part);
            }
            _ => {
                row.splice(at..at, dice.of(&PIECES).bytes());
            }
        }
    }
    row
}

/// The bytes of a file, and its name.
fn made(dice: &mut Dice) -> (Vec<u8>, &'static str) {
    if dice.one_in(6) {
        return (cells(dice), "a.csv");
    }
    let favourite = dice.below(ROWS.len());
    let rows: Vec<Vec<u8>> = (0..=dice.below(4))
        .map(|_| {
            let which = if dice.one_in(3) { dice.below(ROWS.len()) } else { favourite };
            mutated(ROWS[which].into(), dice)
        })
        .collect();
    if dice.one_in(3) {
        let array = [b"[".as_slice(), &rows.join(&b",\n"[..]), b"]"].concat();
        let array = if dice.one_in(3) { mutated(array, dice) } else { array };
        return (array, "a.json");
    }
    (rows.join(&b'\n'), "a.jsonl")
}

fn cells(dice: &mut Dice) -> Vec<u8> {
    const HEADERS: [&str; 6] = [
        "prompt,completion,label",
        "prompt,chosen,rejected,margin",
        "text",
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie",
        "id,winner,left,right,worker",
        "prompt,prompt,,\"a\"\"b\"",
    ];
    let header = dice.of(&HEADERS);
    let mut text = format!("{header}\n");
    for _ in 0..dice.below(4) {
        let columns = header.split(',').count() + dice.below(5) / 4;
        for column in 0..columns {
            let cell = dice.of(&[
                "a",
                "",
                "1",
                "true",
                "\"x,y\"",
                "\"[\"\"q\"\"]\"",
                "0.5",
                "\"\n\"",
                "é",
            ]);
            let _ = write!(text, "{}{cell}", if column == 0 { "" } else { "," });
        }
        text.push('\n');
    }
    mutated(text.into(), dice)
}

fn read_as<T: Record>(path: &Path) -> Option<usize> {
    let _ = read::<T>(path, &ReadOptions::default());
    let skip = ReadOptions { on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() };
    match read::<T>(path, &skip) {
        Ok((records, report)) => {
            assert_eq!(records.len(), report.read);
            Some(report.skipped)
        }
        Err(ReadError::NoRecords { report, .. }) => Some(report.skipped),
        Err(_) => None,
    }
}

fn import_as(path: &Path, format: Option<Format>) -> Option<usize> {
    let skip = ImportOptions { on_bad_record: OnBadRecord::Skip, ..ImportOptions::default() };
    let _ = import(&[path], format, &ImportOptions::default());
    let import = import(&[path], format, &skip).ok()?;
    for format in Format::all().filter(|format| format.is_written()) {
        let options = ExportOptions::default();
        export(&import.items, &import.judgements, format, &options, &mut std::io::sink()).unwrap();
    }
    let options = ReadOptions::default();
    let _ = records_of::<Preference>(path, &import.items, &import.judgements, &options);
    Some(import.report.skipped)
}

#[test]
fn no_file_makes_a_reader_panic_and_trainers_and_imports_skip_the_same_rows() {
    let rounds = std::env::var("HEARKEN_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let folder = tempfile::tempdir().unwrap();
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let (bytes, name) = made(&mut Dice(round));
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let shown = || format!("round {round}, {name}: {}", String::from_utf8_lossy(&bytes));
        let _ = (detect(&path), kind_of(&path, &ReadOptions::default()));
        let _ = holds_judgements(&path, &ReadOptions::default());
        let pairs = read_as::<Preference>(&path);
        let singles = read_as::<UnpairedPreference>(&path);
        let _ = (read_as::<Demonstration>(&path), read_as::<Prompt>(&path));
        let _ = read_as::<RecordedRollout>(&path);
        import_as(&path, None);
        for (skipped, format) in [(pairs, Format::TrlPreference), (singles, Format::TrlUnpaired)] {
            // Token ids are no text that people could read; and one unusable row more or less than
            // all of them is another error.
            let has_ids = bytes.windows(4).any(|window| window == b"_ids");
            if let (Some(skipped), Some(of_import), false) =
                (skipped, import_as(&path, Some(format)), has_ids)
            {
                assert_eq!(skipped, of_import, "{}", shown());
            }
        }
    }
}
