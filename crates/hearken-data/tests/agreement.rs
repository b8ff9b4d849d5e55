//! Trainers, `import` with `export` behind it, and `doctor` say the same of every form of record and of
//! every mistake in one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use hearken_data::feedback::formats::{
    ExportOptions, Format, FormatError, Import, ImportOptions, export, import,
};
use hearken_data::{
    Demonstration, JudgedSteps, Preference, Prompt, ReadError, ReadOptions, Record, RecordKind,
    RecordedRollout, UnpairedPreference, kind_of, read,
};
use serde_json::Value;
use tempfile::TempDir;

struct Kept {
    _folder: TempDir,
    path: PathBuf,
}

fn file(name: &str, bytes: impl AsRef<[u8]>) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Kept { _folder: folder, path }
}

/// What a trainer makes of a file: its records as rows, or why the first bad one is bad.
fn trained_as<T: Record + serde::Serialize>(kept: &Kept) -> Result<Vec<Value>, String> {
    let rows = |records: Vec<T>| {
        records.iter().map(|record| serde_json::to_value(record).unwrap()).collect()
    };
    match read::<T>(&kept.path, &ReadOptions::default()) {
        Ok((records, _)) => Ok(rows(records)),
        Err(ReadError::Bad { reason, .. }) => Err(reason.to_string()),
        Err(error) => panic!("{error}"),
    }
}

fn trained(kind: RecordKind, kept: &Kept) -> Result<Vec<Value>, String> {
    match kind {
        RecordKind::Preferences => trained_as::<Preference>(kept),
        RecordKind::UnpairedPreferences => trained_as::<UnpairedPreference>(kept),
        RecordKind::Demonstrations => trained_as::<Demonstration>(kept),
        RecordKind::Prompts => trained_as::<Prompt>(kept),
        RecordKind::RecordedRollouts => trained_as::<RecordedRollout>(kept),
        RecordKind::JudgedSteps => trained_as::<JudgedSteps>(kept),
    }
}

fn imported(kept: &Kept) -> Result<Import, String> {
    match import(&[&kept.path], None, &ImportOptions::default()) {
        Ok(import) => Ok(import),
        Err(FormatError::Read(ReadError::Bad { reason, .. })) => Err(reason.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The file that a store writes that has imported this one.
fn exported(import: &Import, format: Format) -> Kept {
    let mut bytes = Vec::new();
    let options = ExportOptions::default();
    export(&import.items, &import.judgements, format, &options, &mut bytes).unwrap();
    file("exported.jsonl", bytes)
}

/// What `doctor` shows a file as.
fn shown_as(kept: &Kept) -> Option<RecordKind> {
    kind_of(&kept.path, &ReadOptions::default()).unwrap().unwrap().0
}

const SAID: &str =
    r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]"#;
const OTHER: &str =
    r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]"#;

/// Every form of judgements that people can read, with columns that nobody reads among them.
#[allow(clippy::too_many_lines, reason = "a table")]
fn judged() -> Vec<(RecordKind, String)> {
    use RecordKind::{JudgedSteps, Preferences, UnpairedPreferences};
    let turns = |last: &str| {
        format!(
            r#"[{{"role": "assistant", "content": "{last}"}}, {{"role": "user", "content": "{last}?"}}, {{"role": "assistant", "content": "ok"}}]"#
        )
    };
    let ask = r#"[{"role": "system", "content": "Be"}, {"role": "user", "content": "Hi"}]"#;
    let rows = [
        (Preferences, r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}"#.to_owned()),
        (Preferences, r#"{"chosen": "whole a", "rejected": "whole b", "id": NaN}"#.to_owned()),
        (Preferences, r#"{"prompt": "p", "chosen": "\n", "rejected": " "}"#.to_owned()),
        (Preferences, r#"{"prompt": "p", "chosen": "b", "rejected": "a", "margin": 1.5}"#.to_owned()),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "margin": -0.25, "probability": 0.9}"#
                .to_owned(),
        ),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "z", "rejected": "b", "probability": 0.7}"#.to_owned(),
        ),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "probability": 0.5}"#.to_owned(),
        ),
        (Preferences, format!(r#"{{"chosen": {SAID}, "rejected": {OTHER}}}"#)),
        (Preferences, format!(r#"{{"prompt": "Hi", "chosen": {SAID}, "rejected": {OTHER}}}"#)),
        (
            Preferences,
            format!(
                r#"{{"prompt": {ask}, "chosen": [{{"role": "assistant", "content": "z"}}], "rejected": [{{"role": "assistant", "content": "a"}}]}}"#
            ),
        ),
        (
            Preferences,
            format!(
                r#"{{"prompt": {ask}, "chosen": {}, "rejected": {}}}"#,
                turns("one"),
                turns("two")
            ),
        ),
        (
            Preferences,
            r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: b", "rejected": "\n\nHuman: Hi\n\nAssistant: a"}"#
                .to_owned(),
        ),
        // Blanks of a transcript that messages cannot keep.
        (
            Preferences,
            r#"{"chosen": "\n\nHuman:Hi\n\nAssistant:b", "rejected": "\n\nHuman:Hi\n\nAssistant: a"}"#
                .to_owned(),
        ),
        (
            UnpairedPreferences,
            r#"{"prompt": "p", "completion": " a", "label": true, "score": Infinity}"#.to_owned(),
        ),
        (UnpairedPreferences, r#"{"prompt": "p", "completion": "b", "label": 0}"#.to_owned()),
        (UnpairedPreferences, r#"{"prompt": "p", "completion": "c", "label": "true"}"#.to_owned()),
        (
            UnpairedPreferences,
            r#"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "b"}], "label": false}"#
                .to_owned(),
        ),
        (
            JudgedSteps,
            r#"{"prompt": "p", "completions": ["a", "b"], "labels": [true, false]}"#.to_owned(),
        ),
        (
            JudgedSteps,
            r#"{"prompt": [{"role": "user", "content": "q"}], "completions": ["a"], "labels": [false]}"#
                .to_owned(),
        ),
    ];
    rows.into()
}

#[test]
fn judgements_reach_a_trainer_through_a_store_as_they_stand_in_the_file() {
    for (kind, row) in judged() {
        let kept = file("a.jsonl", &row);
        assert_eq!(shown_as(&kept), Some(kind), "{row}");
        let direct = trained(kind, &kept).unwrap_or_else(|error| panic!("{row}: {error}"));
        let format = match kind {
            RecordKind::Preferences => Format::TrlPreference,
            RecordKind::JudgedSteps => Format::TrlStepwise,
            _ => Format::TrlUnpaired,
        };
        let import = imported(&kept).unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!((import.items.len(), import.judgements.len()), (1, 1), "{row}");
        assert_eq!(trained(kind, &exported(&import, format)), Ok(direct), "{row}");
    }
}

#[test]
fn every_layout_says_the_same() {
    let rows: Vec<String> = judged()
        .into_iter()
        .filter_map(|(kind, row)| (kind == RecordKind::Preferences).then_some(row))
        .collect();
    let lines = trained(RecordKind::Preferences, &file("a.jsonl", rows.join("\n"))).unwrap();
    assert_eq!(lines.len(), rows.len());
    let array = file("a.json", format!("[{}]", rows.join(",\n")));
    assert_eq!(trained(RecordKind::Preferences, &array), Ok(lines));
    let cells = file("a.csv", "prompt,completion,label\np,\"a\nb\",True\nq, c,0\n");
    let json = r#"[{"prompt": "p", "completion": "a\nb", "label": true}, {"prompt": "q", "completion": " c", "label": false}]"#;
    let kind = RecordKind::UnpairedPreferences;
    assert_eq!(trained(kind, &cells), trained(kind, &file("a.json", json)));
    assert_eq!(shown_as(&cells), Some(kind));
    assert_eq!(imported(&cells).unwrap().judgements.len(), 2);
}

/// Nobody judged these: a trainer takes them, and an import says what they are.
#[test]
fn what_nobody_judged_is_known_by_all() {
    use RecordKind::{Demonstrations, Prompts};
    for (kind, row) in [
        (Demonstrations, r#"{"text": "Roses"}"#),
        (Demonstrations, r#"{"prompt": "a", "completion": "b", "extra": NaN}"#),
        (Demonstrations, &format!(r#"{{"messages": {SAID}}}"#)),
        (Prompts, r#"{"prompt": "a", "answer": "4"}"#),
        (Prompts, r#"{"prompt": [{"role": "user", "content": "a"}]}"#),
    ] {
        let kept = file("a.jsonl", row);
        assert_eq!(shown_as(&kept), Some(kind), "{row}");
        assert_eq!(trained(kind, &kept).unwrap().len(), 1, "{row}");
        match (kind, imported(&kept)) {
            (Prompts, Ok(import)) => assert_eq!(import.prompts.len(), 1, "{row}"),
            (_, told) => assert!(told.unwrap_err().contains("demonstration, which"), "{row}"),
        }
    }
}

#[test]
fn token_ids_are_for_trainers_alone() {
    for (kind, row) in [
        (RecordKind::Preferences, r#"{"prompt_ids": [5], "chosen_ids": [7], "rejected_ids": [8]}"#),
        (RecordKind::Preferences, r#"{"chosen_ids": [5, 7], "rejected_ids": [5, 8]}"#),
        (
            RecordKind::UnpairedPreferences,
            r#"{"prompt_ids": [5], "completion_ids": [7], "label": true}"#,
        ),
        (RecordKind::Prompts, r#"{"prompt_ids": [5]}"#),
        (
            RecordKind::JudgedSteps,
            r#"{"input_ids": [5, 6], "step_ends": [1], "step_labels": [0.5]}"#,
        ),
    ] {
        let kept = file("a.jsonl", row);
        assert_eq!(shown_as(&kept), Some(kind), "{row}");
        assert_eq!(trained(kind, &kept).unwrap().len(), 1, "{row}");
        let told = imported(&kept).unwrap_err();
        assert!(told.contains("token ids, which people cannot read"), "{row}: {told}");
    }
    for row in [
        r#"{"input_ids": [5, 6, 0], "loss_mask": [0, 1, 1]}"#,
        r#"{"prompt_ids": [5], "completion_ids": [7, 0]}"#,
    ] {
        let kept = file("a.jsonl", row);
        assert_eq!(shown_as(&kept), Some(RecordKind::Demonstrations), "{row}");
        assert_eq!(trained(RecordKind::Demonstrations, &kept).unwrap().len(), 1, "{row}");
        assert!(imported(&kept).unwrap_err().contains("demonstration, which"), "{row}");
    }
    let row = r#"{"iteration": 0, "prompt_ids": [5], "completion_ids": [7], "score": 1}"#;
    let kept = file("a.jsonl", row);
    assert_eq!(shown_as(&kept), Some(RecordKind::RecordedRollouts));
    assert_eq!(trained(RecordKind::RecordedRollouts, &kept).unwrap().len(), 1);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_mistake_is_told_in_the_same_words_by_all() {
    use RecordKind::{Demonstrations, JudgedSteps, Preferences, Prompts, UnpairedPreferences};
    let user = |text: &str| format!(r#"{{"role": "user", "content": "{text}"}}"#);
    let assistant = |text: &str| format!(r#"{{"role": "assistant", "content": "{text}"}}"#);
    let pair = |prompt: &str, chosen: &[String], rejected: &[String]| {
        format!(
            r#"{{{prompt}"chosen": [{}], "rejected": [{}]}}"#,
            chosen.join(", "),
            rejected.join(", ")
        )
    };
    let yes = [user("Hi"), assistant("Yes")];
    let no = [user("Hi"), assistant("No")];
    let elsewhere = [user("Bye"), assistant("No")];
    let rows = [
        (Preferences, pair(r#""prompt": "Bye", "#, &yes, &no), "not the first user message"),
        (Preferences, pair("", &yes, &elsewhere), "different prompts"),
        (Preferences, pair("", &yes, &yes), "identical"),
        (Preferences, pair("", &yes, &no[..1]), "a message after those"),
        (Preferences, pair("", &[user("Hi"), assistant("")], &no), "nothing in it"),
        (Preferences, pair("", &[], &no), "nothing in it"),
        (Preferences, r#"{"prompt": "p", "chosen": "a"}"#.into(), "found the columns"),
        (Preferences, r#"{"prompt": "p", "chosen": "a", "rejected": "a"}"#.into(), "identical"),
        (Preferences, r#"{"prompt": "p", "chosen": "a", "rejected": ""}"#.into(), "nothing in it"),
        (Preferences, r#"{"prompt": "", "chosen": "a", "rejected": "b"}"#.into(), "nothing in it"),
        (Preferences, r#"{"prompt": 3, "chosen": "a", "rejected": "b"}"#.into(), "the number 3"),
        (Preferences, r#"{"chosen": "a", "rejected": [1]}"#.into(), "a list of numbers"),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "probability": 1.5}"#.into(),
            "from 0 to 1",
        ),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "margin": "big"}"#.into(),
            "expected a number",
        ),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "a", "rejected": "b", "margin": NaN}"#.into(),
            "NaN",
        ),
        (
            Preferences,
            r#"{"prompt": "p", "chosen": "half \ud83d", "rejected": "b"}"#.into(),
            "a lone surrogate",
        ),
        (
            Preferences,
            r#"{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "plain"}"#.into(),
            "does not start with",
        ),
        (
            UnpairedPreferences,
            r#"{"prompt": "p", "completion": "", "label": true}"#.into(),
            "nothing in it",
        ),
        (
            UnpairedPreferences,
            r#"{"prompt": "p", "completion": "a", "label": 2}"#.into(),
            "the number 2",
        ),
        (UnpairedPreferences, r#"{"completion": "a", "label": true}"#.into(), "found the columns"),
        (
            JudgedSteps,
            r#"{"prompt": "p", "completions": ["a", "b"], "labels": [true]}"#.into(),
            "1 labels",
        ),
        (
            JudgedSteps,
            r#"{"prompt": "p", "completions": ["a", " "], "labels": [true, true]}"#.into(),
            "an empty step",
        ),
        (
            JudgedSteps,
            r#"{"prompt": "p", "completions": ["a"], "ratings": [2]}"#.into(),
            "-1, 0, 1 or null",
        ),
        (
            JudgedSteps,
            r#"{"problem": "p", "steps": ["a"], "label": 1}"#.into(),
            "the first wrong step",
        ),
        (JudgedSteps, r#"{"input": "p", "label": "p", "task": "t"}"#.into(), "steps, each with"),
        (Demonstrations, r#"{"prompt": "a", "completion": ""}"#.into(), "nothing in it"),
        (Demonstrations, r#"{"text": NaN}"#.into(), "NaN"),
        (Demonstrations, format!(r#"{{"messages": [{}]}}"#, user("a")), "nothing to train on"),
        (Prompts, r#"{"prompt": ""}"#.into(), "nothing in it"),
        (Prompts, r#"{"prompt": "\udc00"}"#.into(), "a lone surrogate"),
    ];
    for (kind, row, expected) in rows {
        let kept = file("a.jsonl", &row);
        assert_eq!(shown_as(&kept), Some(kind), "{row}");
        let told = trained(kind, &kept).unwrap_err();
        assert!(told.contains(expected), "{row}: {told}");
        assert_eq!(imported(&kept).unwrap_err(), told, "{row}");
    }
}

/// People compared whole conversations: such pairs of HH-RLHF are kept for analyses and reach no trainer.
#[test]
fn pairs_of_transcripts_that_no_trainer_takes_leave_no_record() {
    let row =
        r#"{"chosen": "\n\nHuman: x\n\nAssistant: c", "rejected": "\n\nHuman: y\n\nAssistant: c"}"#;
    let kept = file("a.jsonl", row);
    assert!(trained(RecordKind::Preferences, &kept).unwrap_err().contains("different prompts"));
    let import = imported(&kept).unwrap();
    assert_eq!(import.report.left_out.len(), 1);
    let exported = exported(&import, Format::TrlPreference);
    assert_eq!(std::fs::read(&exported.path).unwrap(), b"");
}
