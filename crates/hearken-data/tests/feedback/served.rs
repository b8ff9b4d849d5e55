//! The log of a served model, imported: what its users said are judgements, and what nothing was said of are prompts.

use hearken_data::feedback::formats::{Format, ImportOptions, import, records_of};
use hearken_data::feedback::served::ServedLog;
use hearken_data::feedback::{Task, Verdict};
use hearken_data::{Preference, ReadOptions};
use serde_json::json;

fn completion(id: &str, version: &str, text: &str) -> String {
    let line = json!({
        "request_id": id, "choice": 0, "at": "2026-11-30T10:00:00Z", "model": "m", "version": version,
        "prompt": [{"role": "user", "content": "Hi"}], "completion": text, "prompt_ids": [1],
        "completion_ids": [2], "logprobs": [-0.5], "stop_reason": "end_of_text", "temperature": 1.0,
        "top_p": 1.0, "min_p": 0.0, "seed": 3,
    });
    format!("{line}\n")
}

fn feedback(id: &str, of: &str, said: &serde_json::Value) -> String {
    let line = json!({
        "feedback_id": id, "at": "2026-11-30T10:01:00Z", "request_id": of, "choice": 0, "by": "user-1",
        "said": said,
    });
    format!("{line}\n")
}

/// What is said of an answer may stand in a file after the one that has the answer.
#[test]
fn a_log_of_several_files_becomes_judgements_of_the_versions_that_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["log.1.jsonl", "log.jsonl"].map(|name| folder.path().join(name));
    let answers = completion("a", "v1", "Hello.") + &completion("b", "v2", "Go away.");
    std::fs::write(&first, answers).unwrap();
    let said = feedback("f1", "a", &json!({"over": [{"request_id": "b"}]}))
        + &feedback("f2", "b", &json!({"edit": "Welcome."}))
        + &feedback("f3", "gone", &json!({"thumb": "up"}));
    std::fs::write(&second, said).unwrap();
    let read = import(&[&first, &second], None, &ImportOptions::default()).unwrap();
    assert_eq!(read.report.formats, [Format::Served]);
    assert_eq!((read.items.len(), read.judgements.len(), read.prompts.len()), (2, 2, 1));
    assert_eq!(read.report.left_out.len(), 1, "{:?}", read.report.left_out);
    assert_eq!((read.items[0].task, read.items[1].task), (Task::Pairwise, Task::Rating));
    assert_eq!(read.judgements[0].verdict, Verdict::preferred(0));
    assert_eq!(read.items[0].candidates[0].model.as_deref(), Some("v1"));
    assert_eq!(read.judgements[1].better.as_ref().unwrap().text, "Welcome.");
    // Importing it again gives the same.
    assert_eq!(import(&[&first, &second], None, &ImportOptions::default()).unwrap(), read);
    let options = ReadOptions::default();
    let pairs = records_of::<Preference>(&second, &read.items, &read.judgements, &options);
    assert_eq!(pairs.unwrap().count(), 1);
    // A line that is neither is named.
    std::fs::write(&second, "{\"request_id\": \"a\", \"choice\": 0, \"completion\": 7}\n").unwrap();
    let error = import(&[&second], None, &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("log.jsonl:1") && error.contains("hearken serve --log"), "{error}");
}

#[test]
fn a_line_that_is_still_being_written_is_not_read_and_one_in_the_middle_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.jsonl");
    let (first, second) = (completion("a", "v1", "Hello."), completion("b", "v2", "Go away."));
    std::fs::write(&log, format!("{first}{}", &second[..second.len() / 2])).unwrap();
    let names = || {
        let read = ServedLog::read(&log, i64::MIN).map_err(|error| error.to_string())?;
        Ok::<usize, String>(read.prompts().len())
    };
    assert_eq!(names(), Ok(1));
    std::fs::write(&log, format!("{first}{}\n", &second[..second.len() / 2])).unwrap();
    assert!(names().unwrap_err().contains("log.jsonl:2"));
    std::fs::write(&log, format!("{}\n{first}", &second[..second.len() / 2])).unwrap();
    assert!(names().unwrap_err().contains("log.jsonl:1"));
    std::fs::write(folder.path().join("log.1.jsonl"), &second[..second.len() / 2]).unwrap();
    std::fs::write(&log, first).unwrap();
    assert!(names().unwrap_err().contains("log.1.jsonl:1"));
}
