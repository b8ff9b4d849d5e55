//! Facts about real datasets, where they are present: in `$HEARKEN_DATA`, else beside the workspace.

use hearken_testing::data;

use hearken_data::{
    Content, Demonstration, DemonstrationContent, OnBadRecord, Preference, Prompt, ReadOptions,
    Record, RecordedRollout, TranscriptForm, UnpairedPreference, read,
};

const HH: &str = "hh-rlhf/harmless-base-test.jsonl.gz";

fn chars(content: &Content) -> usize {
    match content {
        Content::Text(text) => text.chars().count(),
        Content::Messages(messages) => messages.iter().map(|m| m.content.chars().count()).sum(),
        Content::Ids(ids) => ids.len(),
    }
}

/// Of 2,312 pairs 5 have different prompts and 4 an empty completion; those 4 are chosen ones.
/// Where prompts are equal, chosen is longer in 1,021 and shorter in 1,275, those 4 included.
#[test]
fn hh_rlhf_splits_but_for_nine_pairs() {
    let Some(path) = data(HH) else { return };
    let skip = ReadOptions { on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() };
    let (preferences, report) = read::<Preference>(&path, &skip).unwrap();
    assert_eq!((report.read, report.skipped), (2303, 9));
    assert!(report.reasons[0].ends_with(
        ":87: `chosen`: found nothing in it, expected text after the last \"\\n\\nAssistant:\""
    ));
    assert!(report.reasons[4].contains(":1255: `chosen` and `rejected` have different prompts: "));
    let compare = |p: &Preference| chars(&p.chosen).cmp(&chars(&p.rejected));
    let longer = preferences.iter().filter(|p| compare(p).is_gt()).count();
    let shorter = preferences.iter().filter(|p| compare(p).is_lt()).count();
    assert_eq!((longer, shorter), (1021, 1275 - 4));

    let error = read::<Preference>(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("harmless-base-test.jsonl.gz:87: "), "{error}");
}

/// Text and messages hold the same conversations: rendered, the messages are the text.
#[test]
fn hh_rlhf_messages_render_back_to_the_transcript() {
    let Some(path) = data(HH) else { return };
    let texts = ReadOptions { on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() };
    let messages = ReadOptions { transcripts: TranscriptForm::Messages, ..texts.clone() };
    let (texts, _) = read::<Preference>(&path, &texts).unwrap();
    let (messages, _) = read::<Preference>(&path, &messages).unwrap();
    assert_eq!(texts.len(), messages.len());
    for (text, conversation) in texts.iter().zip(&messages) {
        let (Some(Content::Text(prompt)), Content::Text(chosen)) = (&text.prompt, &text.chosen)
        else {
            panic!("{}: expected text", text.source);
        };
        let (Some(Content::Messages(turns)), Content::Messages(last)) =
            (&conversation.prompt, &conversation.chosen)
        else {
            panic!("{}: expected messages", text.source);
        };
        let rendered: String = turns.iter().chain(last).fold(String::new(), |text, turn| {
            let speaker = if turn.role.as_str() == "user" { "Human" } else { "Assistant" };
            format!("{text}\n\n{speaker}: {}", turn.content)
        });
        assert_eq!(rendered, format!("{prompt}{chosen}"), "{}", text.source);
    }
    let (prompts, report) = read::<Prompt>(
        &path,
        &ReadOptions { on_bad_record: OnBadRecord::Skip, ..ReadOptions::default() },
    )
    .unwrap();
    assert_eq!((prompts.len(), report.skipped), (2303, 9));
}

#[test]
fn gsm8k_is_read_through_a_mapping() {
    let Some(path) = data("gsm8k/train.jsonl") else { return };
    let columns: std::collections::BTreeMap<String, String> = [
        ("prompt".to_owned(), "question".to_owned()),
        ("completion".to_owned(), "answer".to_owned()),
    ]
    .into();
    let options = ReadOptions { columns: columns.clone(), ..ReadOptions::default() };
    let (demonstrations, report) = read::<Demonstration>(&path, &options).unwrap();
    assert_eq!((report.read, report.skipped), (7473, 0));
    assert!(demonstrations.iter().all(|demonstration| matches!(
        &demonstration.content,
        DemonstrationContent::Completion { completion: Content::Text(text), .. }
            if text.contains("\n#### ")
    )));
    let mut options = ReadOptions { columns, limit: Some(10), ..ReadOptions::default() };
    options.columns.remove("completion");
    let (prompts, _) = read::<Prompt>(&path, &options).unwrap();
    assert_eq!(prompts.len(), 10);
    assert!(prompts.iter().all(|prompt| prompt.extra.keys().eq(["answer"])));
}

fn check_fixture<T: Record>(case: &str, file: &str, records: usize) -> Vec<T> {
    let Some(path) = data(&format!("../fixtures/trl/{case}/{file}")) else { return Vec::new() };
    let (read, report) = read::<T>(&path, &ReadOptions::default()).expect("a good file");
    assert_eq!((report.read, report.skipped), (records, 0), "{case}");
    read
}

#[test]
fn token_columns_of_recorded_training_runs_are_read() {
    let demonstrations = check_fixture::<Demonstration>("sft", "data.jsonl", 48);
    assert!(
        demonstrations
            .iter()
            .all(|record| matches!(record.content, DemonstrationContent::Ids { .. }))
    );
    for case in ["dpo_sigmoid", "dpo_ipo"] {
        let preferences = check_fixture::<Preference>(case, "data.jsonl", 48);
        assert!(preferences.iter().all(|preference| preference.prompt.is_some()), "{case}");
    }
    let whole = check_fixture::<Preference>("rm", "data.jsonl", 48);
    assert!(whole.iter().all(|preference| preference.prompt.is_none()));
    let judged = check_fixture::<UnpairedPreference>("kto", "data.jsonl", 48);
    assert!(judged.iter().all(|record| record.kl_completion_ids.is_some()));
    for (case, grouped) in [("grpo_grpo", true), ("grpo_dr_grpo", true), ("ppo", false)] {
        let rollouts = check_fixture::<RecordedRollout>(case, "rollouts.jsonl", 32);
        assert!(rollouts.iter().all(|rollout| rollout.group.is_some() == grouped), "{case}");
    }
}
