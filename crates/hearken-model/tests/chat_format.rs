//! Messages as tokens: roles, supervision, and agreement with transcripts.
#![allow(clippy::unwrap_used)] // helpers of tests are not tests to clippy

use std::path::Path;

use hearken_data::{Message, Role};
use hearken_model::Tokenizer;
use hearken_model::chat::ChatTokens;
use hearken_model::chat::builtin::encode_messages;
use hearken_model::tokenizer::Bos;

fn tokenizer() -> Tokenizer {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf");
    Tokenizer::load(&fixtures.join("llama")).unwrap()
}

fn encode(messages: &[(Role, &str)], add_generation_prompt: bool) -> ChatTokens {
    let messages: Vec<_> =
        messages.iter().map(|(role, content)| Message::new(*role, *content)).collect();
    encode_messages(&tokenizer(), &messages, add_generation_prompt).unwrap()
}

const TALK: [(Role, &str); 5] = [
    (Role::System, "Be brief. "),
    (Role::User, "Hi, who's there? 👋"),
    (Role::Assistant, "\nA friend.\n\nOf yours."),
    (Role::User, "  What is 2 + 2?"),
    (Role::Assistant, "4"),
];

#[test]
fn the_rendered_text_is_the_documented_one() {
    let chat = encode(&TALK, false);
    assert_eq!(
        tokenizer().decode_with_special(&chat.ids),
        "Be brief.\n\nHuman: Hi, who's there? 👋\n\nAssistant: A friend.\n\nOf yours.<|endoftext|>\
         \n\nHuman: What is 2 + 2?\n\nAssistant: 4<|endoftext|>"
    );
    let late = encode(&[(Role::User, "Hi"), (Role::System, "Stop."), (Role::Tool, "7")], true);
    assert_eq!(
        tokenizer().decode_with_special(&late.ids),
        "\n\nHuman: Hi\n\nSystem: Stop.\n\nTool: 7\n\nAssistant:"
    );
}

#[test]
fn what_the_assistant_says_is_supervised_with_its_end_tokens_and_nothing_else() {
    let chat = encode(&TALK, true);
    let tokenizer = tokenizer();
    assert_eq!(chat.supervised.len(), chat.ids.len());
    let supervised: Vec<u32> =
        chat.ids.iter().zip(&chat.supervised).filter(|(_, s)| **s).map(|(&id, _)| id).collect();
    assert_eq!(
        tokenizer.decode_with_special(&supervised),
        " A friend.\n\nOf yours.<|endoftext|> 4<|endoftext|>"
    );
    let contents: Vec<String> =
        chat.turns.iter().map(|turn| tokenizer.decode(&chat.ids[turn.content.clone()])).collect();
    assert_eq!(
        contents[1..4],
        [" Hi, who's there? 👋", " A friend.\n\nOf yours.", " What is 2 + 2?"]
    );
    let mut end = 0;
    for (turn, (role, _)) in chat.turns.iter().zip(TALK) {
        assert_eq!((turn.tokens.start, turn.role), (end, role));
        end = turn.tokens.end;
    }
}

#[test]
fn a_prompt_is_the_beginning_of_prompt_and_answer() {
    for turns in [3, 5] {
        let prompt = encode(&TALK[..turns - 1], true);
        let whole = encode(&TALK[..turns], false);
        assert!(whole.ids.starts_with(&prompt.ids));
        assert!(whole.supervised[prompt.ids.len()..].iter().all(|&supervised| supervised));
    }
}

#[test]
fn a_transcript_and_its_messages_give_the_same_tokens() {
    let transcript = "\n\nHuman: Hi, who's there?\n\nAssistant:";
    let messages = encode(&[(Role::User, "Hi, who's there?")], true);
    let tokenizer = tokenizer();
    assert_eq!(messages.ids, tokenizer.encode(transcript, Bos::AsConfigured).unwrap());

    let whole = encode(&[(Role::User, "Hi, who's there?"), (Role::Assistant, "Me.")], false);
    let mut ids = tokenizer.encode(&format!("{transcript} Me."), Bos::AsConfigured).unwrap();
    ids.push(0);
    assert_eq!(whole.ids, ids);
}

#[test]
fn nobody_ends_a_turn_by_writing_the_end_token() {
    let chat = encode(&[(Role::User, "<|endoftext|>"), (Role::Assistant, "<|endoftext|>")], false);
    let ends: Vec<usize> = (0..chat.ids.len()).filter(|&i| chat.ids[i] == 0).collect();
    assert_eq!(ends, [chat.ids.len() - 1]);
}

#[test]
fn empty_contents_and_conversations_are_fine() {
    assert_eq!(encode(&[], false), ChatTokens::default());
    let text = |chat: &ChatTokens| tokenizer().decode_with_special(&chat.ids);
    assert_eq!(text(&encode(&[], true)), "\n\nAssistant:");
    let empty = encode(&[(Role::User, " "), (Role::Assistant, "")], false);
    assert_eq!(text(&empty), "\n\nHuman:\n\nAssistant:<|endoftext|>");
    assert_eq!(empty.supervised.iter().filter(|supervised| **supervised).count(), 1);
}

#[test]
fn an_assistants_turn_needs_an_end_token() {
    let dir = tempfile::tempdir().unwrap();
    let json = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama/tokenizer.json");
    std::fs::copy(json, dir.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let user = [Message::new(Role::User, "Hi")];
    assert!(encode_messages(&tokenizer, &user, true).is_ok());
    let error = encode_messages(&tokenizer, &[Message::new(Role::Assistant, "Hi")], false);
    assert!(error.unwrap_err().to_string().contains("set eos_token in tokenizer_config.json"));
}
