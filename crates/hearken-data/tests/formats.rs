//! What each record type accepts and what it says about what it does not.

use hearken_data::{
    Content, Demonstration, DemonstrationContent, Message, Preference, Prompt, ReadOptions, Record,
    RecordedRollout, Role, Row, Source, TranscriptForm, UnpairedPreference,
};
use serde_json::{Value, json};

fn parse<T: Record>(columns: &Value, options: &ReadOptions) -> Result<T, String> {
    let Value::Object(columns) = columns.clone() else { panic!("a row is an object") };
    T::from_row(&Row::new(columns, options, Source::default())).map_err(|error| error.to_string())
}

fn good<T: Record>(columns: &Value) -> T {
    parse(columns, &ReadOptions::default()).unwrap_or_else(|error| panic!("{columns}: {error}"))
}

fn check_error<T: Record>(columns: &Value, expected: &str) {
    match parse::<T>(columns, &ReadOptions::default()) {
        Ok(_) => panic!("{columns}: accepted, expected the error {expected}"),
        Err(error) => assert_eq!(error, expected, "{columns}"),
    }
}

fn mapped(pairs: &[(&str, &str)]) -> ReadOptions {
    let columns = pairs.iter().map(|(field, column)| ((*field).into(), (*column).into()));
    ReadOptions { columns: columns.collect(), ..ReadOptions::default() }
}

fn text(text: &str) -> Content {
    Content::Text(text.into())
}

fn messages(turns: &[(Role, &str)]) -> Content {
    Content::Messages(turns.iter().map(|(role, content)| Message::new(*role, *content)).collect())
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

#[test]
fn demonstrations_come_in_five_forms() {
    let content = |columns: Value| good::<Demonstration>(&columns).content;
    assert_eq!(content(json!({"text": "a"})), DemonstrationContent::Text("a".into()));
    assert_eq!(
        content(json!({"prompt": "a", "completion": "b"})),
        DemonstrationContent::Completion { prompt: text("a"), completion: text("b") }
    );
    assert_eq!(
        content(json!({"prompt": [user("a")], "completion": [assistant("b")]})),
        DemonstrationContent::Completion {
            prompt: messages(&[(Role::User, "a")]),
            completion: messages(&[(Role::Assistant, "b")]),
        }
    );
    assert_eq!(
        content(json!({"prompt_ids": [1], "completion_ids": [2, 0]})),
        DemonstrationContent::Completion {
            prompt: Content::Ids(vec![1]),
            completion: Content::Ids(vec![2, 0]),
        }
    );
    let turns = json!({"messages": [{"role": "system", "content": ""}, user("a"), assistant("b")]});
    let DemonstrationContent::Messages(turns) = content(turns) else { panic!("messages") };
    assert_eq!(turns.len(), 3);
    let bools = json!({"input_ids": [1, 2], "loss_mask": [false, true]});
    assert_eq!(content(bools), content(json!({"input_ids": [1, 2], "loss_mask": [0, 1]})));
}

#[test]
fn null_columns_are_absent_and_unknown_ones_ignored() {
    let row = json!({"messages": null, "prompt": null, "text": "a", "id": 7});
    assert_eq!(good::<Demonstration>(&row).content, DemonstrationContent::Text("a".into()));
    let row = json!({"prompt": null, "chosen": "a", "rejected": "b", "margin": null});
    let preference = good::<Preference>(&row);
    assert_eq!((preference.prompt, preference.margin), (None, None));
}

#[test]
fn the_first_complete_form_counts_unless_another_is_mapped() {
    let row = json!({"text": "whole", "messages": [user("a"), assistant("b")], "note": "other"});
    let content = good::<Demonstration>(&row).content;
    assert!(matches!(content, DemonstrationContent::Messages(_)));
    let record: Demonstration = parse(&row, &mapped(&[("text", "note")])).unwrap();
    assert_eq!(record.content, DemonstrationContent::Text("other".into()));
}

#[test]
fn missing_columns_list_what_is_there_and_what_is_accepted() {
    check_error::<Demonstration>(
        &json!({"question": "a", "answer": "b", "prompt": null}),
        "found the columns `question`, `answer`; expected `input_ids` + `loss_mask`, or \
         `prompt_ids` + `completion_ids`, or `messages`, or `prompt` + `completion`, or `text`",
    );
    check_error::<Preference>(
        &json!({}),
        "found the columns (none); expected `chosen_ids` + `rejected_ids`, or `chosen` + `rejected`",
    );
    check_error::<RecordedRollout>(
        &json!({"iteration": 0}),
        "found the columns `iteration`; expected `iteration` + `prompt_ids` + `completion_ids` + \
         `score`",
    );
}

#[test]
fn a_mapping_renames_columns() {
    let row = json!({"question": "2 + 2?", "answer": "4", "level": 1});
    let options = mapped(&[("prompt", "question"), ("completion", "answer")]);
    assert_eq!(
        parse::<Demonstration>(&row, &options).unwrap().content,
        DemonstrationContent::Completion { prompt: text("2 + 2?"), completion: text("4") }
    );
    let prompt: Prompt = parse(&row, &mapped(&[("prompt", "question")])).unwrap();
    assert_eq!(Value::Object(prompt.extra), json!({"answer": "4", "level": 1}));

    let error = parse::<Prompt>(&row, &mapped(&[("prompt", "task")])).unwrap_err();
    let expected = "found the columns `question`, `answer`, `level`; expected a column `task`, \
                    mapped to `prompt`";
    assert_eq!(error, expected);
    let error = parse::<Prompt>(&row, &mapped(&[("prompt", "level")])).unwrap_err();
    let expected = "`level` (as `prompt`): found the number 1, expected text or a list of messages";
    assert_eq!(error, expected);
}

#[test]
fn token_ids_are_integers_that_fit() {
    for (id, found) in [
        (json!(-1), "the number -1"),
        (json!(1.0), "the number 1.0"),
        (json!(4_294_967_296_u64), "the number 4294967296"),
        (json!("7"), "the text \"7\""),
        (json!(null), "null"),
    ] {
        check_error::<Prompt>(
            &json!({"prompt_ids": [4_294_967_295_u64, id]}),
            &format!(
                "`prompt_ids`[1]: found {found}, expected a token id, an integer from 0 to \
                 4294967295"
            ),
        );
    }
    check_error::<Prompt>(
        &json!({"prompt_ids": []}),
        "`prompt_ids`: found nothing in it, expected a list of token ids",
    );
    check_error::<Prompt>(
        &json!({"prompt": [1, 2]}),
        "`prompt`: found a list of numbers, expected text or a list of messages (token ids belong \
         in a column `prompt_ids`)",
    );
}

#[test]
fn loss_masks_fit_their_tokens_and_train_something() {
    let check = |mask: Value, expected: &str| {
        check_error::<Demonstration>(&json!({"input_ids": [1, 2, 3], "loss_mask": mask}), expected);
    };
    check(
        json!([0, 1]),
        "`loss_mask`: found 2 values, expected 3, one for each token of `input_ids`",
    );
    check(json!([0, 2, 1]), "`loss_mask`[1]: found the number 2, expected 0, 1, true or false");
    check(
        json!([0, 0, 0]),
        "`loss_mask`: found nothing to train on, expected at least one token that counts",
    );
    check(
        json!("011"),
        "`loss_mask`: found the text \"011\", expected a list of 0 and 1, or of true and false",
    );
}

#[test]
fn empty_texts_and_completions_are_errors() {
    let check = |columns: Value, expected: &str| check_error::<Demonstration>(&columns, expected);
    check(json!({"text": ""}), "`text`: found nothing in it, expected text");
    check(
        json!({"prompt": "a", "completion": ""}),
        "`completion`: found nothing in it, expected text",
    );
    check(
        json!({"prompt": "a", "completion": ["b"]}),
        "`completion`[0]: found the text \"b\", expected an object with `role` and `content`",
    );
    check(
        json!({"prompt": [user("a")], "completion": []}),
        "`completion`: found nothing in it, expected a list of messages",
    );
    check(
        json!({"prompt": [user("a")], "completion": [assistant("")]}),
        "`completion`[0].content: found nothing in it, expected text",
    );
    check(
        json!({"messages": [user("a"), assistant("")]}),
        "`messages`[1].content: found nothing in it, expected text, since it is trained on",
    );
}

#[test]
fn messages_name_what_is_wrong_with_them() {
    let check = |columns: Value, expected: &str| check_error::<Demonstration>(&columns, expected);
    check(
        json!({"messages": [user("a")]}),
        "`messages`: found nothing to train on, expected at least one message of the assistant",
    );
    check(
        json!({"messages": [{"role": "asistant", "content": "b"}]}),
        "`messages`[0].role: found the text \"asistant\", expected one of system, developer, user, \
         assistant, tool",
    );
    check(
        json!({"messages": [{"from": "human", "value": "b"}]}),
        "`messages`[0]: found an object with `from`, `value`, expected an object with `role` and \
         `content`",
    );
    check(
        json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        "`messages`[0].content[0]: found an object with `type`, expected a part with text: {\"type\": \
         \"text\", \"text\": …}",
    );
    check(
        json!({"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}),
        "`messages`[0].tool_calls[0]: found the number 1, expected an object with `function`",
    );
    check(
        json!({"messages": [{"role": "assistant", "content": "", "tool_calls": "f()"}]}),
        "`messages`[0].tool_calls: found the text \"f()\", expected a list of objects, one per call",
    );
    check(
        json!({"messages": [{"role": "assistant", "content": null}]}),
        "`messages`[0].content: found null, expected text, or a list of parts with text",
    );
    check(
        json!({"prompt": [user("a")], "completion": [user("b")]}),
        "`completion`[0].role: found the text \"user\", expected a completion that starts with a \
         message of the assistant",
    );
    check(
        json!({"prompt": [user("a")], "completion": "b"}),
        "`completion`: found text, expected a list of messages, as in `prompt`",
    );
}

#[test]
fn calls_of_tools_and_parts_go_through_as_they_are() {
    let call = json!({"id": "c1", "type": "function",
                      "function": {"name": "add", "arguments": {"b": 1, "a": 2.0}}});
    let columns = json!({
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1 +"}, {"type": "text", "text": " 2?"}]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"tool_call_id": "c1", "role": "tool", "name": "add", "content": "3"},
            {"role": "assistant", "reasoning_content": "3, it says.", "content": "Three."},
        ],
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "enable_thinking": false,
    });
    let record = good::<Demonstration>(&columns);
    let DemonstrationContent::Messages(messages) = &record.content else { panic!("no messages") };
    let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["1 + 2?", "", "3", "Three."]);
    assert!(messages[1].calls_tools() && !messages[2].calls_tools());
    // Written again it is the same text, keys in their order included.
    assert_eq!(serde_json::to_string(&record).unwrap(), columns.to_string());
    let without = json!({"messages": [{"role": "assistant", "content": "", "tool_calls": []}]});
    check_error::<Demonstration>(
        &without,
        "`messages`[0].content: found nothing in it, expected text, since it is trained on",
    );
}

#[test]
fn a_preference_of_messages_shares_its_prompt_by_whole_messages() {
    // The two answers share characters, which must not become part of the prompt.
    let row = json!({"chosen": [user("a"), assistant("yes, sir")],
                     "rejected": [user("a"), assistant("yes")]});
    let implicit = good::<Preference>(&row);
    assert_eq!(implicit.prompt, Some(messages(&[(Role::User, "a")])));
    assert_eq!(implicit.chosen, messages(&[(Role::Assistant, "yes, sir")]));
    assert_eq!(implicit.rejected, messages(&[(Role::Assistant, "yes")]));

    let explicit = json!({"prompt": [user("a")], "chosen": [assistant("yes, sir")],
                          "rejected": [assistant("yes")]});
    assert_eq!(good::<Preference>(&explicit), implicit);

    // UltraFeedback repeats the prompt as text; others repeat it as messages.
    for prompt in [json!("a"), json!([user("a")])] {
        let mut repeated = row.clone();
        repeated["prompt"] = prompt;
        assert_eq!(good::<Preference>(&repeated), implicit);
    }

    // Completions of several turns that part at their first message.
    let row = json!({"chosen": [user("a"), assistant("b"), user("c"), assistant("d")],
                     "rejected": [user("a"), assistant("x"), user("c"), assistant("d")]});
    let several = good::<Preference>(&row);
    assert_eq!(several.prompt, Some(messages(&[(Role::User, "a")])));
    let Content::Messages(chosen) = several.chosen else { panic!("messages") };
    assert_eq!(chosen.len(), 3);
}

#[test]
fn preferences_that_compare_nothing_are_errors() {
    let check = |columns: Value, expected: &str| check_error::<Preference>(&columns, expected);
    let identical = "`chosen` and `rejected` are identical; expected two different completions";
    check(json!({"prompt": "a", "chosen": "b", "rejected": "b"}), identical);
    check(json!({"chosen": [user("a")], "rejected": [user("a")]}), identical);
    check(
        json!({"chosen_ids": [1], "rejected_ids": [1]}),
        "`chosen_ids` and `rejected_ids` are identical; expected two different completions",
    );
    check(
        json!({"chosen": [user("a"), assistant("b")], "rejected": [user("x"), assistant("y")]}),
        "`chosen` and `rejected` have different prompts: they share no message at their start; \
         expected two completions of one prompt",
    );
    check(
        json!({"chosen": [user("a"), assistant("b"), user("c"), assistant("d")],
               "rejected": [user("a"), assistant("b"), user("x"), assistant("d")]}),
        "`chosen` and `rejected` have different prompts: they part at message 2, of the user; \
         expected two completions of one prompt",
    );
    check(
        json!({"chosen": [user("a"), assistant("b")], "rejected": [user("a")]}),
        "`rejected`: found nothing in it, expected a message after those that both lists share",
    );
    check(
        json!({"prompt": "a", "chosen": "b", "rejected": ""}),
        "`rejected`: found nothing in it, expected text",
    );
}

#[test]
fn the_parts_of_a_preference_are_of_one_kind() {
    let check = |columns: Value, expected: &str| check_error::<Preference>(&columns, expected);
    check(
        json!({"chosen": "b", "rejected": [assistant("c")]}),
        "`rejected`: found a list of messages, expected text, as in `chosen`",
    );
    check(
        json!({"prompt": [user("a")], "chosen": "b", "rejected": "c"}),
        "`chosen`: found text, expected a list of messages, as in `prompt`",
    );
    check(
        json!({"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]}),
        "`prompt`: found text that is not the first user message of both completions, expected a \
         list of messages, as in the completions",
    );
}

#[test]
fn margins_and_probabilities_are_numbers_in_range() {
    let row = |name: &str, value: Value| json!({"chosen": "a", "rejected": "b", name: value});
    assert_eq!(good::<Preference>(&row("margin", json!(2))).margin, Some(2.0));
    assert_eq!(good::<Preference>(&row("probability", json!(0.25))).probability, Some(0.25));
    check_error::<Preference>(
        &row("probability", json!(1.5)),
        "`probability`: found the number 1.5, expected a probability, from 0 to 1",
    );
    check_error::<Preference>(
        &row("margin", json!("big")),
        "`margin`: found the text \"big\", expected a number",
    );
}

#[test]
fn a_preference_unpairs_into_a_good_and_a_bad_completion() {
    let row = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let [liked, disliked] = good::<Preference>(&row).unpair().unwrap();
    assert_eq!((liked.completion, liked.label), (text("b"), true));
    assert_eq!((disliked.completion, disliked.label), (text("c"), false));
    assert_eq!(good::<Preference>(&json!({"chosen": "b", "rejected": "c"})).unpair(), None);
}

#[test]
fn transcripts_split_at_the_last_turn_of_the_assistant() {
    let context = "\n\nHuman: a\n\nAssistant: b\n\nAssistant:  Human: c\n\nHuman: d\n\nAssistant:";
    let row = json!({"chosen": format!("{context} e"), "rejected": format!("{context} f\n\ng")});

    let as_text = good::<Preference>(&row);
    assert_eq!(as_text.prompt, Some(text(context)));
    assert_eq!((as_text.chosen, as_text.rejected), (text(" e"), text(" f\n\ng")));

    let options = ReadOptions { transcripts: TranscriptForm::Messages, ..ReadOptions::default() };
    let as_messages: Preference = parse(&row, &options).unwrap();
    let turns = [
        (Role::User, "a"),
        (Role::Assistant, "b"),
        (Role::Assistant, " Human: c"),
        (Role::User, "d"),
    ];
    assert_eq!(as_messages.prompt, Some(messages(&turns)));
    assert_eq!(as_messages.rejected, messages(&[(Role::Assistant, "f\n\ng")]));
}

#[test]
fn transcripts_name_what_is_wrong_with_them() {
    let check = |chosen: &str, expected: &str| {
        let rejected = "\n\nHuman: a\n\nAssistant: b";
        check_error::<Preference>(&json!({"chosen": chosen, "rejected": rejected}), expected);
    };
    check(
        "\n\nHuman: x\n\nAssistant: c",
        "`chosen` and `rejected` have different prompts: up to the last turn of the assistant, the \
         transcripts are equal for only 9 bytes; expected two completions of one prompt",
    );
    check(
        "\n\nHuman: a\n\nAssistant: ",
        "`chosen`: found nothing in it, expected text after the last \"\\n\\nAssistant:\"",
    );
    let expected = "expected a transcript that starts with \"\\n\\nHuman:\" and ends with a turn \
                    of the assistant";
    check("\n\nHuman: a", &format!("`chosen`: found no \"\\n\\nAssistant:\" in it, {expected}"));
    check(
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c",
        &format!("`chosen`: found a transcript that ends with a turn of the human, {expected}"),
    );
    check(
        "plain text",
        &format!("`chosen`: found text that does not start with \"\\n\\nHuman:\", {expected}"),
    );
}

#[test]
fn prompts_keep_the_other_columns() {
    let prompt = good::<Prompt>(&json!({"prompt": [user("a")], "answer": 4, "hint": null}));
    assert_eq!(prompt.prompt, messages(&[(Role::User, "a")]));
    assert_eq!(Value::Object(prompt.extra), json!({"answer": 4, "hint": null}));
    let prompt = good::<Prompt>(&json!({"prompt_ids": [1], "prompt": "a"}));
    assert_eq!(prompt.prompt, Content::Ids(vec![1]));
    assert_eq!(prompt.extra["prompt"], "a");
    check_error::<Prompt>(
        &json!({"chosen": "a", "rejected": "b"}),
        "`chosen`: found a whole text that does not show where its prompt ends, expected a column \
         `prompt`, or lists of messages, or transcripts",
    );
}

#[test]
fn labels_and_counts_are_checked() {
    let row = |label: Value| json!({"prompt": "a", "completion": "b", "label": label});
    assert!(good::<UnpairedPreference>(&row(json!(1))).label);
    assert!(!good::<UnpairedPreference>(&row(json!(false))).label);
    check_error::<UnpairedPreference>(
        &row(json!("good")),
        "`label`: found the text \"good\", expected true, false, 1 or 0",
    );
    let row = json!({"iteration": -1, "prompt_ids": [1], "completion_ids": [2], "score": 0});
    check_error::<RecordedRollout>(
        &row,
        "`iteration`: found the number -1, expected an integer from 0",
    );
}

/// Whatever is written is read back the same, through the columns of the file formats.
#[test]
fn records_survive_a_round_trip() {
    fn check<T>(columns: &Value)
    where
        T: Record + serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let record: T = good(columns);
        assert_eq!(&serde_json::to_value(&record).unwrap(), columns);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<T>(&line).unwrap(), record);
    }
    check::<Demonstration>(&json!({"text": "a"}));
    check::<Demonstration>(&json!({"prompt": [user("a")], "completion": [assistant("b")]}));
    check::<Demonstration>(&json!({"prompt_ids": [1], "completion_ids": [2, 0]}));
    check::<Demonstration>(&json!({"messages": [user("a"), assistant("b")]}));
    check::<Demonstration>(&json!({"input_ids": [1, 2], "loss_mask": [false, true]}));
    check::<Preference>(&json!({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.5}));
    check::<Preference>(&json!({"chosen": "b", "rejected": "c"}));
    let ids =
        json!({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "probability": 0.1});
    check::<Preference>(&ids);
    check::<UnpairedPreference>(&json!({"prompt": "a", "completion": "b", "label": true}));
    check::<UnpairedPreference>(
        &json!({"prompt_ids": [1], "completion_ids": [2], "label": false, "kl_completion_ids": [3]}),
    );
    check::<Prompt>(&json!({"prompt": [user("a")], "answer": {"value": 4}}));
    check::<RecordedRollout>(&json!({"iteration": 1, "group": 2, "prompt_ids": [1],
                                     "completion_ids": [2], "score": -0.125}));
}
