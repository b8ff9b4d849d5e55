//! What is imported beside judgements, and instead of them: suggestions, items only, exports of Potato.

use hearken_data::feedback::formats::{Format, ImportOptions, import};
use hearken_data::feedback::{Origin, Strength, Task, Verdict};
use serde_json::json;

use crate::support::{File, counts, read};

#[test]
fn suggestions_of_argilla_are_kept_with_the_item_or_counted() {
    let whole = r#"[{"fields": {"prompt": "q", "response_1": "a", "response_2": "b"}, "suggestions": {"better": {"value": "response_2", "agent": "gpt", "score": 0.8}, "topic": {"value": "music"}}, "responses": {}}]"#;
    let flat = r#"{"prompt": "q", "response_1": "a", "response_2": "b", "better.suggestion": "response_2", "better.suggestion.agent": "gpt", "better.suggestion.score": 0.8, "topic.suggestion": "music"}"#;
    for (name, text) in [("a.json", whole), ("a.jsonl", flat)] {
        let import = read(name, text);
        assert_eq!(import.report.formats, [Format::Argilla]);
        assert!(import.judgements.is_empty());
        let expected =
            json!([{"by": "gpt", "verdict": {"kind": "preferred", "candidate": 1}, "score": 0.8}]);
        assert_eq!(import.items[0].meta["suggestions"], expected, "{name}");
        assert_eq!(counts(&import.report.left_out), [("suggestion that is no verdict", 1)]);
    }
}

#[test]
fn predictions_of_label_studio_are_kept_with_the_item_or_counted() {
    let text = r#"[{"data": {"text1": "a", "text2": "b"}, "annotations": [], "predictions": [{"model_version": "m1", "score": 0.9, "result": [{"type": "pairwise", "value": {"selected": "right"}}]}, {"result": [{"type": "pairwise", "value": {"selected": "up"}}]}]}]"#;
    let import = read("ls.json", text);
    let expected =
        json!([{"by": "m1", "verdict": {"kind": "preferred", "candidate": 1}, "score": 0.9}]);
    assert_eq!(import.items[0].meta["suggestions"], expected);
    assert_eq!(counts(&import.report.left_out), [("predictions of a model", 1)]);
}

#[test]
fn items_come_without_the_judgements_of_their_file() {
    let file =
        File::new("p.jsonl", "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}\n");
    let options = ImportOptions { items_only: true, ..ImportOptions::default() };
    let import = import(&[&file.path], None, &options).unwrap();
    assert_eq!((import.items.len(), import.judgements.len()), (1, 0));
    let left_out = counts(&import.report.left_out);
    assert_eq!(left_out, [("judgement of the file: the items alone were asked for", 1)]);
}

#[test]
fn exports_of_potato_are_judgements_of_the_instances_beside_them() {
    let data = r#"{"id": "1", "prompt": "q", "responses": ["a", "b"], "topic": "t"}
{"id": "2", "prompt": "r", "left": "c", "right": "d"}"#;
    let lines = r#"{"instance_id": "1", "user_id": "ada", "labels": {"fluency": {"selection": "A"}, "preference": {"selection": "B"}, "why": {"text_box": "It is."}}, "spans": {}, "links": {}}
{"instance_id": "1", "user_id": "bob", "labels": {"preference": {"selection": "tie"}}, "spans": {}}
{"instance_id": "2", "user_id": "ada", "labels": {"scale": {"scale_value": "-2"}}}
{"instance_id": "2", "user_id": "bob", "labels": {"scale": {"scale_value": "3"}}}
{"instance_id": "2", "user_id": "gpt", "annotator_origin": {"kind": "machine"}, "labels": {"preference": {"selection": "A"}}}
{"instance_id": "2", "user_id": "cy", "labels": {"mood": {"happy": true}}}"#;
    let csv =
        "instance_id,user_id,preference.selection,preference._spans\n1,ada,B,[]\n1,bob,tie,[]\n";
    let annotations = File::new("annotations.jsonl", lines);
    let data = annotations.beside("data.jsonl", data);
    let read = import(&[&annotations.path, &data], None, &ImportOptions::default()).unwrap();
    assert_eq!(read.report.formats, [Format::Potato, Format::PotatoItems]);
    let strength = |points| Some(Strength { points, scale: 3 });
    let verdicts: Vec<&Verdict> = read.judgements.iter().map(|one| &one.verdict).collect();
    let expected = [
        &Verdict::preferred(1),
        &Verdict::Tie,
        &Verdict::Preferred { candidate: 0, strength: strength(2) },
        &Verdict::Preferred { candidate: 1, strength: strength(3) },
        &Verdict::preferred(0),
    ];
    assert_eq!(verdicts, expected);
    assert_eq!(read.judgements[0].rationale.as_deref(), Some("It is."));
    assert_eq!(read.judgements[4].origin, Origin::Ai);
    assert_eq!(read.items[0].task, Task::Pairwise);
    assert_eq!(read.items[0].meta["topic"], "t");
    let left_out = counts(&read.report.left_out);
    let expected = [
        ("annotation without a verdict", 1),
        ("label that is no verdict", 1),
        ("verdict on a further question", 1),
    ];
    assert_eq!(left_out, expected);

    let table = annotations.beside("annotations.csv", csv);
    let read = import(&[&table, &data], None, &ImportOptions::default()).unwrap();
    assert_eq!(read.judgements.len(), 2, "{:?}", read.report);
    assert_eq!(read.judgements[0].verdict, Verdict::preferred(1));
    let error = import(&[&table], None, &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("expected the data file that holds it"), "{error}");
}
