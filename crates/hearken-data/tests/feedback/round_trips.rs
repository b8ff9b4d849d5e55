//! Import, export, import: equal where the format permits.

use hearken_data::feedback::formats::{ExportOptions, Format, Ties};
use hearken_data::feedback::{Item, Judgement};

use crate::support::{counts, read, write};

/// Judgements without their ids, which are hashes of rows.
fn unnamed(judgements: &[Judgement]) -> Vec<Judgement> {
    let unnamed = judgements.iter().map(|one| Judgement { id: String::new(), ..one.clone() });
    unnamed.collect()
}

fn check(format: Format, name: &str, text: &str) {
    check_with(format, name, text, ExportOptions::default(), &[]);
}

/// Imports `text`, exports it in the same format, and imports that.
fn check_with(
    format: Format,
    name: &str,
    text: &str,
    options: ExportOptions,
    dropped: &[(&str, usize)],
) {
    let first = read(name, text);
    assert_eq!(first.report.formats, [format]);
    assert!(!first.judgements.is_empty(), "{format}");
    let (bytes, report) = write(&first.items, &first.judgements, format, options);
    assert_eq!(counts(&report.dropped), dropped, "{format}");
    let second = read(name, &bytes);
    assert_eq!(second.report.formats, [format], "{}", String::from_utf8_lossy(&bytes));
    let sorted = |items: &[Item]| {
        let mut items = items.to_vec();
        items.sort_by(|a, b| a.id.cmp(&b.id));
        items
    };
    assert_eq!(sorted(&second.items), sorted(&first.items), "{format}");
    assert_eq!(unnamed(&second.judgements), unnamed(&first.judgements), "{format}");
}

#[test]
fn hearkens_own_keeps_everything() {
    let text = r#"{"item": {"id": "i", "task": "pairwise", "prompt": [{"role": "user", "content": "?"}], "candidates": [{"text": "a", "model": "m"}, {"text": "b"}], "gold": {"verdict": {"kind": "tie"}, "screening": true}, "priority": 3, "meta": {"x": 1}}}
{"judgement": {"id": "j", "item": "i", "annotator": "ada", "verdict": {"kind": "preferred", "candidate": 1, "strength": {"points": 2, "scale": 3}}, "presented": [1, 0], "rationale": "why", "duration_ms": 5, "at": 7, "guidelines": 2, "propensity": 0.25}}
{"judgement": {"id": "k", "item": "i", "annotator": "ada", "verdict": {"kind": "cant_tell", "reason": "?"}, "revises": "j", "origin": "ai"}}"#;
    let first = read("own.jsonl", text);
    let (bytes, report) =
        write(&first.items, &first.judgements, Format::Hearken, ExportOptions::default());
    assert_eq!((report.written, report.dropped.len(), report.lost.len()), (3, 0, 0));
    let second = read("own.jsonl", &bytes);
    assert_eq!((second.items, second.judgements), (first.items, first.judgements));
}

#[test]
fn trl_preferences() {
    check(
        Format::TrlPreference,
        "p.jsonl",
        r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}
{"chosen": "whole a", "rejected": "whole b"}
{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "z"}], "rejected": [{"role": "assistant", "content": "a"}]}
{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 22", "probability": 0.75}"#,
    );
}

#[test]
fn trl_ties_as_half() {
    let text = r#"{"prompt": "p", "chosen": "a", "rejected": "b", "probability": 0.5}"#;
    let half = ExportOptions { ties: Ties::Half, ..ExportOptions::default() };
    check_with(Format::TrlPreference, "p.jsonl", text, half, &[]);
}

#[test]
fn trl_single_completions_and_steps() {
    check(
        Format::TrlUnpaired,
        "u.jsonl",
        r#"{"prompt": "p", "completion": "a", "label": true}
{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "b"}], "label": false}"#,
    );
    check(
        Format::TrlStepwise,
        "s.jsonl",
        r#"{"prompt": "p", "completions": ["one", "two"], "labels": [true, false]}"#,
    );
}

#[test]
fn hh_rlhf() {
    check(
        Format::HhRlhf,
        "hh.jsonl",
        r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: b", "rejected": "\n\nHuman: Hi\n\nAssistant: a"}
{"chosen": "\n\nHuman: Hi\n\nAssistant:", "rejected": "\n\nHuman: Hi\n\nAssistant: a"}
{"chosen": "\n\nHuman: x\n\nAssistant: b\n\nHuman: y\n\nAssistant: c", "rejected": "\n\nHuman: x\n\nAssistant: b\n\nHuman: z\n\nAssistant: c"}"#,
    );
}

#[test]
fn ultrafeedback() {
    check(
        Format::UltraFeedback,
        "uf.jsonl",
        r#"{"source": "evol", "instruction": "Do.", "models": ["m1", "m2"], "correct_answers": ["None"], "completions": [
{"model": "m1", "principle": "honesty", "response": "r1", "overall_score": 8.5, "annotations": {"instruction_following": {"Rating": "2", "Rationale": "so"}, "helpfulness": {"Type": ["1"], "Rating": "N/A", "Rationale": "x", "Rationale For Rating": "y"}}},
{"model": "m2", "response": "r2", "annotations": {"instruction_following": {"Rating": "5", "Rationale": "yes"}, "helpfulness": {"Rating": "3", "Rationale": "z"}}}]}"#.replace('\n', "").as_str(),
    );
    check(
        Format::UltraFeedbackBinarized,
        "ufb.jsonl",
        r#"{"prompt": "q", "prompt_id": "ignored", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "messages": [], "score_chosen": 8.0, "score_rejected": 7.5}"#,
    );
}

#[test]
fn helpsteer() {
    check(
        Format::HelpSteer2,
        "h2.jsonl",
        r#"{"prompt": "q", "response": "a", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 2}
{"prompt": "q", "response": "b", "helpfulness": 0, "correctness": 1, "coherence": 2, "complexity": 1, "verbosity": 0}
{"prompt": "other", "response": "c", "helpfulness": 2.5, "correctness": 1, "coherence": 2, "complexity": 1, "verbosity": 0}"#,
    );
    check(
        Format::HelpSteer2Preference,
        "h2p.jsonl",
        r#"{"split": "train", "prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -1, "preference_statement": "s", "all_preferences_unprocessed": [{"strength": -2, "statement": "first"}, {"strength": 0, "statement": ""}, {"strength": -100, "statement": "bad"}]}"#,
    );
    check(
        Format::HelpSteer3,
        "h3.jsonl",
        r#"{"domain": "code", "language": "python", "context": [{"role": "user", "content": "q"}], "response1": "a", "response2": "b", "overall_preference": 2, "individual_preference": [{"score": 3, "reasoning": "r"}, {"score": 1, "reasoning": "s"}]}"#,
    );
}

#[test]
fn rankings_and_votes() {
    check(
        Format::Nectar,
        "nectar.jsonl",
        r#"{"prompt": "\n\nHuman: q\n\nAssistant: ", "answers": [{"answer": "a", "model": "m", "rank": 2.0}, {"answer": "b", "model": "n", "rank": 1.0}, {"answer": "c", "model": "o", "rank": 2.0}], "turns": 1, "num_responses": 3, "source": ["x"], "good_natured": true}
{"prompt": "plain", "answers": [{"answer": "a", "rank": 1.0}, {"answer": "b", "rank": 2.0}]}"#,
    );
    check(
        Format::Shp,
        "shp.jsonl",
        r#"{"post_id": "x", "domain": "d", "history": "post", "c_root_id_A": "a1", "c_root_id_B": "b1", "created_at_utc_A": 1, "created_at_utc_B": 2, "score_A": 5, "score_B": 9, "human_ref_A": "a", "human_ref_B": "b", "labels": 0, "score_ratio": 1.8}"#,
    );
}

#[test]
fn lmarena() {
    check(
        Format::ArenaBattle,
        "battles.json",
        r#"[{"question_id": "q1", "model_a": "m", "model_b": "n", "winner": "tie (bothbad)", "judge": "arena_user_1", "conversation_a": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "y"}, {"role": "assistant", "content": "b"}], "conversation_b": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "y"}, {"role": "assistant", "content": "d"}], "turn": 2, "anony": true, "language": "English", "tstamp": 1700000000.25},
{"question_id": "q2", "model_a": "m", "model_b": "n", "winner": "model_b", "judge": ["gpt-4", "pair-v2"], "conversation_a": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "a"}], "conversation_b": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "c"}], "turn": 1, "tstamp": 1700000001.0}]"#,
    );
    check(
        Format::ArenaCsv,
        "train.csv",
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n\
         30192,m,n,\"[\"\"Is it, \\\"\"x\\\"\"?\"\",\"\"And?\"\"]\",\"[\"\"a\\nb\"\",\"\"c\"\"]\",\"[\"\"d\"\",\"\"e\"\"]\",0,0,1\n",
    );
}

#[test]
fn prm800k() {
    check(
        Format::Prm800k,
        "prm.jsonl",
        r#"{"labeler": "ada", "timestamp": "2022-07-24T01:29:50.512Z", "generation": 9, "is_quality_control_question": false, "question": {"problem": "p", "ground_truth_answer": "4"}, "label": {"steps": [{"completions": [{"text": "one", "rating": 1, "flagged": null}], "human_completion": null, "chosen_completion": 0}, {"completions": null, "human_completion": "two", "chosen_completion": null}, {"completions": [{"text": "three", "rating": 0, "flagged": null}], "human_completion": null, "chosen_completion": 0}], "total_time": 5000, "finish_reason": "solution"}}
{"labeler": "bob", "question": {"problem": "p", "pre_generated_steps": ["x"]}, "label": {"steps": [], "total_time": 10, "finish_reason": "bad_problem"}}"#,
    );
}

#[test]
fn label_studio() {
    check(
        Format::LabelStudio,
        "ls.json",
        r#"[{"id": 1, "data": {"prompt": "q", "answer1": "a", "answer2": "b", "answer1_model": "m", "topic": "t"}, "annotations": [
{"result": [{"type": "pairwise", "from_name": "pw", "to_name": "answer1,answer2", "value": {"selected": "right"}}, {"type": "textarea", "from_name": "why", "to_name": "answer1", "value": {"text": ["because"]}}], "completed_by": "ada", "lead_time": 4.288, "was_cancelled": false, "ground_truth": false, "created_at": "2021-03-09T22:16:08.728Z"},
{"result": [{"type": "choices", "from_name": "c", "to_name": "answer1", "value": {"choices": ["Both bad"]}}], "completed_by": "bob", "lead_time": 1.5, "was_cancelled": false, "ground_truth": false},
{"result": [{"type": "choices", "from_name": "c", "to_name": "answer1", "value": {"choices": ["Can't tell"]}}], "completed_by": "cy", "was_cancelled": false, "ground_truth": false}], "predictions": []},
{"id": 2, "data": {"prompt": "q", "items": [{"id": "answer1", "body": "x"}, {"id": "answer2", "body": "y"}, {"id": "answer3", "body": "z"}]}, "annotations": [
{"result": [{"type": "ranker", "from_name": "r", "to_name": "items", "value": {"ranker": {"rank": ["answer3", "answer1", "answer2"]}}}], "completed_by": "3", "was_cancelled": false, "ground_truth": false}], "predictions": []}]"#,
    );
}

#[test]
fn argilla() {
    check(
        Format::Argilla,
        "argilla.json",
        r#"[{"id": "1", "fields": {"prompt": "q", "response_1": "a", "response_2": "b"}, "metadata": {"topic": "t"}, "suggestions": {}, "responses": {"preference": [{"value": "response_2", "user_id": "ada", "status": "submitted"}, {"value": "tie", "user_id": "bob"}, {"value": "both_bad", "user_id": "cy"}], "rationale": [{"value": "because it is", "user_id": "ada"}]}},
{"id": "2", "fields": {"prompt": "q", "response_1": "a", "response_2": "b", "response_3": "c"}, "responses": {"ranking": [{"value": [{"value": "response_3", "rank": 1}, {"value": "response_1", "rank": 2}, {"value": "response_2", "rank": 2}], "user_id": "ada"}]}},
{"id": "3", "fields": {"prompt": "r", "response_1": "a", "response_2": "b"}, "responses": {"helpful_response_1": [{"value": 4, "user_id": "ada"}], "helpful_response_2": [{"value": 2, "user_id": "ada"}]}}]"#,
    );
}

#[test]
fn alpaca_eval_and_summaries() {
    check(
        Format::AlpacaEval,
        "alpaca.json",
        r#"[{"instruction": "i", "output_1": "a", "generator_1": "m", "dataset": "d", "output_2": "b", "generator_2": "n", "annotator": "gpt4", "preference": 2.0, "time_per_example": 1.5},
{"instruction": "i", "output_1": "a", "generator_1": "m", "dataset": "d", "output_2": "c", "generator_2": "n", "annotator": "gpt4", "preference": 1.25},
{"instruction": "i", "output_1": "a", "generator_1": "m", "dataset": "d", "output_2": "c", "generator_2": "n", "annotator": "gpt3", "preference": 1.5}]"#,
    );
    check(
        Format::Summaries,
        "tldr.jsonl",
        r#"{"info": {"id": "x", "post": "long", "title": "t", "subreddit": "s"}, "summaries": [{"text": "a", "policy": "sup"}, {"text": "b", "policy": "ref"}], "choice": 1, "worker": "w1", "batch": "b", "split": "train", "extra": {"confidence": 7}}
{"info": {"id": "x", "article": "long", "site": "cnn"}, "summary": {"text": "a", "policy": "sup", "note": "n", "axes": {"overall": 6, "accuracy": null}}, "worker": "w2", "split": "test"}"#,
    );
}
