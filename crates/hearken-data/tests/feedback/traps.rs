//! What the formats do that a reader would not expect.

use std::collections::BTreeMap;

use hearken_data::feedback::formats::{ExportOptions, Format, ImportOptions, detect, import};
use hearken_data::feedback::{Origin, Strength, Task, Verdict};
use hearken_data::{Message, OnBadRecord, Role};

use crate::support::{File, counts, read, write};

#[test]
fn ratings_of_ultrafeedback_are_texts_and_may_be_missing() {
    let text = r#"{"instruction": "i", "models": ["m"], "completions": [{"model": "m", "response": "a", "annotations": {"honesty": {"Rating": "2"}}}, {"model": "n", "response": "b", "annotations": {"honesty": {"Rating": "N/A"}}}]}"#;
    let import = read("uf.jsonl", text);
    let axes = BTreeMap::from([("honesty".to_owned(), vec![Some(2.0), None])]);
    assert_eq!(import.judgements[0].verdict, Verdict::Ratings { axes });
    assert_eq!(import.judgements[0].origin, Origin::Ai);
    assert_eq!(counts(&import.report.left_out), [("rating that is \"N/A\"", 1)]);
}

#[test]
fn minus_one_hundred_is_neither_and_negative_is_the_first() {
    let text = r#"{"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -2, "all_preferences_unprocessed": [{"strength": -100}, {"strength": -3}, {"strength": 1}, {"strength": 0}]}"#;
    let import = read("h.jsonl", text);
    let preferred = |candidate, points| Verdict::Preferred {
        candidate,
        strength: Some(Strength { points, scale: 3 }),
    };
    let verdicts: Vec<Verdict> = import.judgements.iter().map(|one| one.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::BothBad, preferred(0, 3), preferred(1, 1), Verdict::Tie]);
    let annotators: Vec<&str> = import.judgements.iter().map(|j| j.annotator.as_str()).collect();
    assert_eq!(annotators[..2], ["helpsteer2-preference-1", "helpsteer2-preference-2"]);
}

#[test]
fn prompts_of_hh_rlhf_that_differ_are_kept_and_not_trained_on() {
    let text = r#"{"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: e\n\nAssistant: f"}
{"chosen": "\n\nHuman: a\n\nAssistant: ", "rejected": "\n\nHuman: a\n\nAssistant: f"}
{"chosen": "\n\nHuman: a\n\nAssistant: A  Human: stray", "rejected": "\n\nHuman: a\n\nAssistant: f"}"#;
    let import = read("hh.jsonl", text);
    assert_eq!(import.items[0].prompt.last(), Some(&Message::new(Role::Assistant, "b")));
    let (bytes, report) =
        write(&import.items, &import.judgements, Format::TrlPreference, ExportOptions::default());
    assert_eq!(counts(&report.dropped), [("an empty answer", 1), ("different prompts", 1)]);
    assert_eq!((report.judgements, report.written), (3, 1));
    assert!(String::from_utf8(bytes).unwrap().contains("A  Human: stray"));
}

/// What is wrong may be found late in a row, when a part of it was understood already.
#[test]
fn nothing_of_a_bad_row_is_kept() {
    let good = r#"{"model_a": "m", "model_b": "n", "winner": "tie", "conversation_a": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "conversation_b": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "tstamp": 1.5}"#;
    let bad = good.replace("1.5", r#""noon""#).replace(r#""q""#, r#""other""#);
    let file = File::new("battles.jsonl", format!("{good}\n{bad}\n"));
    let options = ImportOptions { on_bad_record: OnBadRecord::Skip, ..ImportOptions::default() };
    let import = import(&[&file.path], None, &options).unwrap();
    assert_eq!((import.items.len(), import.judgements.len()), (1, 1));
    assert_eq!((import.report.items, import.report.judgements, import.report.skipped), (1, 1, 1));
    assert_eq!(import.judgements[0].at, 1500);
}

/// A file's order of chosen and rejected is no information about the candidates.
#[test]
fn one_pair_is_one_item_whoever_won() {
    let text = r#"{"prompt": "p", "chosen": "a", "rejected": "b"}
{"prompt": "p", "chosen": "b", "rejected": "a"}"#;
    let import = read("p.jsonl", text);
    assert_eq!((import.items.len(), import.judgements.len()), (1, 2));
    assert_eq!(import.judgements[1].verdict, Verdict::preferred(1));
}

#[test]
fn steps_of_prm800k_may_be_null_human_neutral_or_alternatives() {
    let text = r#"{"labeler": "l", "question": {"problem": "p"}, "label": {"steps": [{"completions": null, "human_completion": {"text": "by hand"}, "chosen_completion": null}, {"completions": [{"text": "x", "rating": -1}, {"text": "y", "rating": 0}], "human_completion": null, "chosen_completion": 1}, {"completions": [{"text": "z", "rating": -1, "flagged": true}], "human_completion": null, "chosen_completion": null}], "total_time": 1500, "finish_reason": "found_error"}}"#;
    let import = read("prm.jsonl", text);
    assert_eq!(import.items[0].candidates[0].steps, ["by hand", "y", "z"]);
    let labels = vec![None, Some(0), Some(-1)];
    assert_eq!(import.judgements[0].verdict, Verdict::Steps { labels });
    assert_eq!(import.judgements[0].duration_ms, Some(1500));
    assert_eq!(import.items[1].candidates[0].steps, ["by hand", "x"]);
    assert_eq!(import.items[1].meta["alternative_to"], import.items[0].id);
    assert_eq!(import.judgements[1].verdict, Verdict::Steps { labels: vec![None, Some(-1)] });
}

#[test]
fn rows_of_prm800k_may_lack_their_labeler() {
    let text = r#"{"question": {"problem": "p"}, "label": {"steps": [{"completions": [{"text": "x", "rating": 1}], "chosen_completion": 0}], "finish_reason": "solution"}}"#;
    let import = read("prm.jsonl", text);
    assert_eq!(import.judgements[0].verdict, Verdict::Steps { labels: vec![Some(1)] });
    assert_eq!(import.judgements[0].annotator, "prm800k");
    // A question with a label is many another thing.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("questions.jsonl");
    std::fs::write(&path, r#"{"question": "p", "label": 1}"#).unwrap();
    assert!(detect(&path).is_err());
}

#[test]
fn votes_of_lmarena_have_many_names() {
    let battle = |id: u32, winner: &str| {
        format!(
            r#"{{"question_id": {id}, "model_a": "m", "model_b": "n", "winner": "{winner}", "judge": "u", "conversation_a": [{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": "a", "num_tokens": 1}}], "conversation_b": [{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": "b"}}]}}"#
        )
    };
    let winners = ["model_a", "model_b", "tie", "tie (bothbad)", "both_bad"];
    let text: Vec<String> = winners.iter().zip(0..).map(|(one, id)| battle(id, one)).collect();
    let import = read("battles.jsonl", text.join("\n"));
    let verdicts: Vec<&str> = import.judgements.iter().map(|one| one.verdict.kind()).collect();
    assert_eq!(verdicts, ["preferred", "preferred", "tie", "both_bad", "both_bad"]);
    assert_eq!(import.items.len(), 1);
    assert!(import.judgements.iter().all(|one| one.presented == [0, 1]));
}

#[test]
fn votes_of_lmarena_are_cleaned_where_that_is_asked_for() {
    let battle = |at: u32, judge: &str, answer: &str, anony: bool| {
        format!(
            r#"{{"model_a": "m", "model_b": "n", "winner": "model_a", "judge": "{judge}", "anony": {anony}, "tstamp": {at}, "conversation_a": [{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": "{answer}"}}], "conversation_b": [{{"role": "user", "content": "x"}}, {{"role": "assistant", "content": "b"}}]}}"#
        )
    };
    let rows = [
        battle(1, "u", "one", true),
        battle(2, "u", "two", true),
        battle(3, "u", "three", true),
        battle(90_000, "u", "four", true),
        battle(4, "v", "I am Claude.", true),
        battle(5, "v", "five", false),
        battle(6, "v", "cut▌", true),
        battle(7, "v", "", true),
        battle(8, "v", "**NETWORK ERROR DUE TO HIGH TRAFFIC.**", true),
    ];
    let file = File::new("battles.jsonl", rows.join("\n"));
    assert_eq!(file.import().unwrap().judgements.len(), 9);
    let options =
        ImportOptions { clean: true, judgements_per_day: Some(2), ..ImportOptions::default() };
    let import = import(&[&file.path], None, &options).unwrap();
    let kept: Vec<i64> = import.judgements.iter().map(|one| one.at).collect();
    assert_eq!(kept, [1_000, 2_000, 90_000_000]);
    assert_eq!(import.report.left_out.len(), 6, "{:?}", import.report.left_out);
    assert!(import.report.left_out.iter().all(|(_, count)| *count == 1));
}

#[test]
fn the_raw_log_gives_votes_without_addresses() {
    let state = |model: &str, said: &str| {
        format!(
            r#"{{"roles": ["USER", "ASSISTANT"], "offset": 0, "messages": [["USER", "x"], ["ASSISTANT", "{said}"], ["USER", "y"], ["ASSISTANT", null]], "model_name": "{model}"}}"#
        )
    };
    let line = |kind: &str| {
        let (left, right) = (state("m", "a"), state("n", "b"));
        format!(
            r#"{{"tstamp": 1.5, "type": "{kind}", "models": ["", ""], "states": [{left}, {right}], "ip": "10.0.0.1"}}"#
        )
    };
    let chat = r#"{"tstamp": 1.0, "type": "chat", "model": "m", "state": {}}"#;
    let text = [chat.to_owned(), line("leftvote"), line("bothbad_vote")].join("\n");
    let import = read("log.jsonl", text);
    assert_eq!(import.report.formats, [Format::ArenaLog]);
    assert_eq!(import.judgements.len(), 2);
    assert_eq!(import.items[0].candidates[1].model.as_deref(), Some("n"));
    assert_eq!(import.judgements[0].at, 1500);
    assert!(import.judgements[0].annotator.starts_with("ip-"));
    assert!(!format!("{:?}", import.judgements).contains("10.0.0.1"));
    assert_eq!(
        counts(&import.report.left_out),
        [("line of the log that is no vote between two models", 1)]
    );
}

#[test]
fn cells_of_the_competition_hold_json() {
    let text = "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n\
                1,m,n,\"[\"\"line\\nbreak \\ud83d\"\"]\",\"[null]\",\"[\"\"b\"\"]\",0,1,0\n";
    let import = read("train.csv", text);
    assert_eq!(import.items[0].prompt, [Message::new(Role::User, "line\nbreak \u{fffd}")]);
    assert_eq!(import.items[0].candidates[0].text, "");
    assert_eq!(import.judgements[0].verdict, Verdict::preferred(1));
}

#[test]
fn equal_ranks_stay_equal() {
    let text = r#"{"prompt": "q", "answers": [{"answer": "a", "rank": 3.0}, {"answer": "b", "rank": 1.0}, {"answer": "c", "rank": 3.0}]}"#;
    let order = vec![vec![1], vec![0, 2]];
    assert_eq!(read("n.jsonl", text).judgements[0].verdict, Verdict::Ranking { order });
    // Argilla: ranks that a user dragged, not the places in the list.
    let text = r#"[{"fields": {"prompt": "q", "response-1": "a", "response-2": "b", "response-3": "c"}, "responses": {"rank": [{"value": [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 1}, {"value": "response-3", "rank": 2}], "user_id": "u"}]}}]"#;
    let order = vec![vec![1, 0], vec![2]];
    assert_eq!(read("a.json", text).judgements[0].verdict, Verdict::Ranking { order });
}

#[test]
fn argilla_has_three_ways_to_write_responses() {
    for text in [
        r#"{"prompt": "q", "response_1": "a", "response_2": "b", "best.responses": ["response_1", "response_2"], "best.responses.users": ["u", "v"], "best.responses.status": ["submitted", "draft"]}"#,
        r#"{"prompt": "q", "response_1": "a", "response_2": "b", "best": {"user_id": ["u", "v"], "value": ["response_1", "response_2"], "status": ["submitted", "draft"]}}"#,
        r#"{"prompt": "q", "response_1": "a", "response_2": "b", "best": [{"user_id": "u", "value": "response_1", "status": "submitted"}, {"user_id": "v", "value": "response_2", "status": "draft"}], "best-suggestion": "response_2"}"#,
    ] {
        let import = read("a.jsonl", text);
        assert_eq!(import.report.formats, [Format::Argilla], "{text}");
        assert_eq!(import.judgements.len(), 1, "{text}");
        assert_eq!(import.judgements[0].annotator, "u");
        assert_eq!(import.judgements[0].verdict, Verdict::preferred(0));
        assert_eq!(counts(&import.report.left_out), [("response that is a draft", 1)]);
    }
}

#[test]
fn label_studio_says_selected_and_keeps_who() {
    let text = r#"[{"data": {"text1": "a", "text2": "b"}, "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "left"}}], "completed_by": {"id": 7, "email": "x@y"}, "ground_truth": true}, {"result": [], "completed_by": 8, "was_cancelled": true}], "predictions": [{}]}]"#;
    let import = read("ls.json", text);
    assert_eq!(import.judgements.len(), 1);
    assert_eq!(import.judgements[0].annotator, "7");
    assert_eq!(import.items[0].gold.as_ref().unwrap().verdict, Verdict::preferred(0));
    assert_eq!(
        counts(&import.report.left_out),
        [("cancelled annotation", 1), ("predictions of a model", 1)]
    );
    let wrong = text.replace("selected", "side");
    let error = File::new("ls.json", wrong).import().unwrap_err().to_string();
    assert!(error.contains("`annotations[0].result[0].value.selected`: found nothing"), "{error}");
}

#[test]
fn answers_under_other_names_are_named_by_a_mapping() {
    let text = r#"[{"data": {"frage": "q", "eins": "a", "zwei": "b"}, "annotations": [{"result": [{"type": "pairwise", "value": {"selected": "right"}}], "completed_by": 1}]}]"#;
    let file = File::new("ls.json", text);
    let error = file.import().unwrap_err().to_string();
    assert!(error.contains("found the keys `frage`, `eins`, `zwei`"), "{error}");
    let columns = [("prompt", "frage"), ("candidates", "eins, zwei")];
    let columns = columns.map(|(one, other)| (one.to_owned(), other.to_owned())).into();
    let options = ImportOptions { columns, ..ImportOptions::default() };
    let import = import(&[&file.path], None, &options).unwrap();
    assert_eq!(import.items[0].prompt, [Message::new(Role::User, "q")]);
    assert_eq!(import.items[0].candidates[1].text, "b");
}

#[test]
fn preferences_of_alpaca_eval_are_probabilities() {
    let row = |preference: &str, annotator: &str| {
        format!(
            r#"{{"instruction": "i", "output_1": "a", "output_2": "b", "preference": {preference}, "annotator": "{annotator}"}}"#
        )
    };
    let rows = [row("1.75", "x"), row("0", "x"), row("null", "x"), row("1", "y")];
    let import = read("a.json", format!("[{}]", rows.join(",")));
    let verdicts: Vec<&Verdict> = import.judgements.iter().map(|one| &one.verdict).collect();
    let soft = Verdict::Soft { probability: 0.25 };
    assert_eq!(verdicts, [&soft, &Verdict::Tie, &Verdict::preferred(0)]);
    assert_eq!(counts(&import.report.left_out), [("preference that is null", 1)]);
}

#[test]
fn items_may_be_written_by_hand() {
    let text = r#"{"prompt": "Which?", "candidates": ["a", {"text": "b", "model": "m"}]}
{"id": "mine", "prompt": [{"role": "user", "content": "Order"}], "candidates": ["a", "b", "c"]}
{"candidates": [{"steps": ["one", "two"]}]}"#;
    let import = read("items.jsonl", text);
    let tasks: Vec<Task> = import.items.iter().map(|item| item.task).collect();
    assert_eq!(tasks, [Task::Pairwise, Task::Ranking, Task::Steps]);
    assert_eq!(import.items[0].prompt, [Message::new(Role::User, "Which?")]);
    assert_eq!((import.items[0].id.len(), import.items[1].id.as_str()), (32, "mine"));
}

#[test]
fn a_file_of_prompts_has_nothing_to_judge() {
    let import = read("p.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n{\"prompt\": \"a\"}");
    assert_eq!(import.report.formats, [Format::TrlPrompt]);
    assert_eq!((import.items.len(), import.prompts.len()), (0, 2));
}
