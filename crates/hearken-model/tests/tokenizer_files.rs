//! Tokenizers from and to their files, on a byte-level one and on one like `SentencePiece`'s.
#![allow(clippy::unwrap_used)] // helpers of tests are not tests to clippy

use std::path::{Path, PathBuf};

use hearken_model::Tokenizer;
use hearken_model::tokenizer::{Bos, SpecialText, SpecialTokens};
use serde_json::{Value, json};

const TEXTS: [&str; 8] = [
    "",
    "First Citizen:\nBefore we proceed any further, hear me speak.",
    " leading and trailing ",
    "\n\n\ttabs and   runs of spaces\r\n",
    "naïve café, Ωμέγα, 漢字かな, עברית",
    "👩‍👩‍👧 🏳️‍🌈 🤷🏽 e\u{301}",
    "\u{0}\u{7f}\u{fffd}\u{10ffff}",
    "1234567890 don't I'll we've",
];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama")
}

fn byte_level() -> Tokenizer {
    Tokenizer::load(&fixture()).unwrap()
}

/// A tokenizer laid out as Llama 2's: `▁` for spaces and one in front, byte fallback, BOS added.
fn sentencepiece_json() -> Value {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let letters = "▁:.".chars().chain('a'..='z').chain('A'..='Z').map(String::from);
    let merged = ["▁h", "▁hi", "ma", "man"].map(str::to_owned);
    let tokens = special.into_iter().chain(bytes).chain(letters).chain(merged);
    let vocab: serde_json::Map<_, _> =
        tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"},
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocab,
            "merges": ["▁ h", "▁h i", "m a", "ma n"]}
    })
}

/// A directory with these files.
fn directory(files: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, json) in files {
        std::fs::write(dir.path().join(name), json.to_string()).unwrap();
    }
    dir
}

/// The SentencePiece-like tokenizer under this `tokenizer_config.json`.
fn sentencepiece(config: Value) -> Tokenizer {
    let dir =
        directory(&[("tokenizer.json", sentencepiece_json()), ("tokenizer_config.json", config)]);
    Tokenizer::load(dir.path()).unwrap()
}

fn names() -> Value {
    json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}})
}

fn load_problem(dir: &Path) -> String {
    let error = Tokenizer::load(dir).unwrap_err().to_string();
    error.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn texts_survive_a_byte_level_tokenizer() {
    let tokenizer = byte_level();
    for text in TEXTS {
        let ids = tokenizer.encode(text, Bos::AsConfigured).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
    }
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.pad()), (384, Some(0), Some(1)));
    assert_eq!((tokenizer.eos(), tokenizer.eos_for_training()), (&[0][..], Some(0)));
    assert_eq!(tokenizer.token(0).as_deref(), Some("<|endoftext|>"));
    assert!(tokenizer.chat_templates().is_none());
}

#[test]
fn a_tokenizer_that_adds_no_bos_gets_none() {
    let tokenizer = byte_level();
    assert!(!tokenizer.adds_bos());
    assert_eq!(tokenizer.encode("", Bos::AsConfigured).unwrap(), [0_u32; 0]);
    let ids = tokenizer.encode("<|endoftext|>a", Bos::AsConfigured).unwrap();
    assert_eq!(ids[0], 0);
    assert_ne!(ids[1], 0);
}

/// A second one before each completion went unseen elsewhere: axolotl-ai-cloud/axolotl#1616.
#[test]
fn there_is_at_most_one_bos() {
    let tokenizer = sentencepiece(names());
    let bos = tokenizer.bos().unwrap();
    for text in ["hi", "<s>hi", "<s><s>hi", ""] {
        let ids = tokenizer.encode(text, Bos::AsConfigured).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == bos).count(), 1, "{text}: {ids:?}");
        assert_eq!(ids[0], bos);
    }
    assert_eq!(tokenizer.encode("hi", Bos::Never).unwrap(), [tokenizer.id("▁hi").unwrap()]);
}

/// As Transformers 5 does: beside tokenizer.json it drops the key before it makes the tokenizer.
#[test]
fn the_template_decides_about_bos_whatever_add_bos_token_says() {
    for said in [json!(false), json!(true), json!(null), json!("no")] {
        let mut config = names();
        config["add_bos_token"] = said;
        let tokenizer = sentencepiece(config);
        assert!(tokenizer.adds_bos());
        assert_eq!(tokenizer.encode("hi", Bos::AsConfigured).unwrap().len(), 2);
    }
}

/// The library of tokenizers panics on such a decoder (found by fuzzing).
#[test]
fn a_file_that_is_broken_inside_its_decoder_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture().join("tokenizer.json")).unwrap();
    assert!(text.contains("\"decoder\": {"));
    let broken = text.replace("\"decoder\": {", "\"decoder\": {5: 1,");
    std::fs::write(dir.path().join("tokenizer.json"), broken).unwrap();
    let problem = load_problem(dir.path());
    assert!(problem.contains("tokenizer.json") && problem.contains("not a tokenizer"), "{problem}");
}

#[test]
fn stored_truncation_and_padding_are_switched_off() {
    let tokenizer = sentencepiece(names());
    assert_eq!(tokenizer.encode("hi", Bos::Never).unwrap().len(), 1);
    assert_eq!(tokenizer.encode(&" hi".repeat(50), Bos::Never).unwrap().len(), 51);
}

#[test]
fn a_continuation_gets_no_space_of_its_own() {
    let tokenizer = sentencepiece(names());
    for (first, second) in [("hi", "man"), ("hi", " hi"), ("a:", "\nb"), ("hi", "."), ("hi", "xx")]
    {
        let mut ids = tokenizer.encode(first, Bos::AsConfigured).unwrap();
        ids.extend(tokenizer.encode_continuation(second, SpecialText::Parsed).unwrap());
        assert_eq!(tokenizer.decode(&ids), format!("{first}{second}"));
    }
    let man = tokenizer.encode_continuation("man", SpecialText::Parsed).unwrap();
    assert_eq!(man, [tokenizer.id("man").unwrap()]);
    assert!(tokenizer.encode_continuation("", SpecialText::Parsed).unwrap().is_empty());
}

/// Decoded by itself, a completion would lose the space that a text's beginning gets.
#[test]
fn a_continuation_keeps_its_first_space() {
    for tokenizer in [sentencepiece(names()), byte_level()] {
        for text in [" hi", "hi", " man hi", "  hi", " ", "\nhi", " é", "é", ". hi", ""] {
            let ids = tokenizer.encode_continuation(text, SpecialText::Parsed).unwrap();
            assert_eq!(tokenizer.decode_continuation(&ids), text);
            check_stream(&tokenizer, &ids);
        }
    }
    let tokenizer = sentencepiece(names());
    let hi = tokenizer.id("▁hi").unwrap();
    assert_eq!(
        (tokenizer.decode(&[hi]), tokenizer.decode_continuation(&[hi])),
        ("hi".into(), " hi".into())
    );
    // Nor does it lose one later, after special tokens.
    let ids: Vec<u32> = (0..40).map(|i| if i % 20 < 18 { 2 } else { hi }).collect();
    assert_eq!(check_stream(&tokenizer, &ids).concat(), " hi hi hi hi");
}

#[test]
fn special_tokens_in_a_text_are_parsed_or_literal() {
    let tokenizer = byte_level();
    let text = "a<|endoftext|>";
    let parsed = tokenizer.encode(text, Bos::Never).unwrap();
    assert_eq!(parsed.last(), Some(&0));
    assert_eq!(tokenizer.decode(&parsed), "a");
    assert_eq!(tokenizer.decode_with_special(&parsed), text);
    let literal = tokenizer.encode_start(text, Bos::Never, SpecialText::Literal).unwrap();
    assert!(!literal.contains(&0));
    assert_eq!(tokenizer.decode(&literal), text);
}

#[test]
fn end_tokens_come_from_all_files_and_training_uses_the_tokenizers() {
    let dir = directory(&[
        ("tokenizer.json", sentencepiece_json()),
        ("tokenizer_config.json", names()),
        ("generation_config.json", json!({"eos_token_id": [0, 2]})),
        ("config.json", json!({"eos_token_id": 1})),
    ]);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!((tokenizer.eos_for_training(), tokenizer.eos()), (Some(2), &[2, 0, 1][..]));

    std::fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!((tokenizer.eos_for_training(), tokenizer.eos()), (Some(0), &[0, 2, 1][..]));

    // Where nothing else says it, the older file names the special tokens.
    std::fs::write(dir.path().join("special_tokens_map.json"), names().to_string()).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos_for_training()), (Some(1), Some(2)));
}

#[test]
fn special_tokens_that_only_the_settings_name_are_added() {
    let mut config = names();
    config["pad_token"] = json!("[PAD]");
    config["extra_special_tokens"] = json!(["man"]);
    let tokenizer = sentencepiece(config.clone());
    let before = byte_count_vocab();
    assert_eq!((tokenizer.pad(), tokenizer.vocab_size()), (Some(before), before as usize + 1));
    // A token of the vocabulary keeps its id and is left out of decoded text.
    let ids = tokenizer.encode("man", Bos::Never).unwrap();
    assert!(ids.contains(&tokenizer.id("man").unwrap()), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).trim(), "");

    config["added_tokens_decoder"] = json!({"9000": {"content": "<far>", "special": true}});
    let dir =
        directory(&[("tokenizer.json", sentencepiece_json()), ("tokenizer_config.json", config)]);
    assert_eq!(
        load_problem(dir.path()),
        format!(
            "DIR/tokenizer_config.json: added_tokens_decoder gives <far> the id 9000; \
             the id after those in tokenizer.json is {before}"
        )
    );
}

fn byte_count_vocab() -> u32 {
    u32::try_from(sentencepiece(names()).vocab_size()).unwrap()
}

#[test]
fn errors_name_the_file_the_key_and_the_way_out() {
    let dir = directory(&[]);
    let expected =
        "DIR: no tokenizer.json; expected the tokenizer.json of a Hugging Face model directory";
    assert_eq!(load_problem(dir.path()), expected);
    std::fs::write(dir.path().join("tokenizer.model"), "").unwrap();
    let text = load_problem(dir.path());
    assert!(text.contains("found tokenizer.model, which is not read; convert it once"), "{text}");

    let check = |name: &str, content: Value, expected: &str| {
        let dir = directory(&[("tokenizer.json", sentencepiece_json()), (name, content)]);
        let text = load_problem(dir.path());
        assert!(text.starts_with(&format!("DIR/{name}: {expected}")), "{text}");
    };
    check("tokenizer.json", json!({"version": "1.0"}), "not a tokenizer of the tokenizers library");
    check("tokenizer_config.json", json!([]), "expected a JSON object");
    check(
        "generation_config.json",
        json!({"eos_token_id": ["</s>"]}),
        "eos_token_id is [\"</s>\"]; expected a token id or a list of token ids",
    );
    check(
        "tokenizer_config.json",
        json!({"eos_token": 2}),
        "eos_token is 2; expected a token's text",
    );
}

#[test]
fn a_chat_template_is_noticed_in_either_place() {
    let mut config = names();
    config["chat_template"] = json!("{{ messages }}");
    assert!(sentencepiece(config).chat_templates().is_some());
    let dir =
        directory(&[("tokenizer.json", sentencepiece_json()), ("chat_template.jinja", json!(""))]);
    assert!(Tokenizer::load(dir.path()).unwrap().chat_templates().is_some());
}

#[test]
fn saving_writes_the_files_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new");
    byte_level().save(&target).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let original = std::fs::read(fixture().join(name)).unwrap();
        assert_eq!(std::fs::read(target.join(name)).unwrap(), original, "{name}");
    }
    assert_eq!(Tokenizer::load(&target).unwrap().fingerprint(), byte_level().fingerprint());
}

#[test]
fn fingerprints_see_the_tokens_and_not_the_layout() {
    let config = names();
    let plain = sentencepiece(config.clone()).fingerprint();
    let mut other = sentencepiece_json();
    other["truncation"] = Value::Null;
    other["model"]["merges"] = json!([["▁", "h"], ["▁h", "i"], ["m", "a"], ["ma", "n"]]);
    let dir =
        directory(&[("tokenizer.json", other.clone()), ("tokenizer_config.json", config.clone())]);
    assert_eq!(Tokenizer::load(dir.path()).unwrap().fingerprint(), plain);
    other["model"]["merges"] = json!([["▁", "h"], ["m", "a"], ["ma", "n"], ["▁h", "i"]]);
    let dir = directory(&[("tokenizer.json", other), ("tokenizer_config.json", config)]);
    assert_ne!(Tokenizer::load(dir.path()).unwrap().fingerprint(), plain);
    assert_eq!(plain.len(), 64);
}

/// The pieces of a stream make up the decoded whole, and none is half a character.
fn check_stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id)).collect();
    pieces.extend(stream.finish());
    assert_eq!(pieces.concat(), tokenizer.decode_continuation(ids), "{ids:?}");
    pieces
}

#[test]
fn streamed_pieces_make_up_the_text() {
    for text in TEXTS {
        let text = text.repeat(8);
        for tokenizer in [byte_level(), sentencepiece(names())] {
            let ids = tokenizer.encode(&text, Bos::AsConfigured).unwrap();
            let pieces = check_stream(&tokenizer, &ids);
            let split = pieces.iter().any(|piece| piece.contains('\u{fffd}'));
            assert!(!split || text.contains('\u{fffd}'), "{pieces:?}");
        }
    }
}

#[test]
fn any_tokens_at_all_stream_as_they_decode() {
    let tokenizer = byte_level();
    let mut state = 1_u64;
    for length in 0..200 {
        let ids: Vec<u32> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u32::try_from((state >> 33) % 400).unwrap()
            })
            .collect();
        check_stream(&tokenizer, &ids);
    }
}

#[test]
fn a_character_arrives_when_it_is_complete() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode("é!", Bos::Never).unwrap();
    assert_eq!(ids.len(), 3, "two bytes and one sign");
    let mut stream = tokenizer.stream();
    let pieces: Vec<_> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(pieces, [None, Some("é".into()), Some("!".into())]);
    assert_eq!(stream.finish(), None);

    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(ids[0]), None);
    assert_eq!(stream.finish().as_deref(), Some("\u{fffd}"));
}

#[test]
fn long_texts_of_one_kind_are_encoded() {
    let tokenizer = byte_level();
    for unit in [" ", "\n", "a", "ab ", "é"] {
        let text = unit.repeat(300_000);
        let ids = tokenizer.encode(&text, Bos::AsConfigured).unwrap();
        assert!(tokenizer.decode(&ids) == text, "{unit:?}");
    }
}

fn corpus() -> impl Iterator<Item = String> + Send {
    const LINES: [&str; 4] =
        ["to be or not to be", "the slings and arrows", "the rub: to sleep", "über Ωμέγα"];
    LINES.iter().cycle().take(200).enumerate().map(|(i, line)| format!("{line} {}\n", i % 7))
}

#[test]
fn a_trained_tokenizer_encodes_everything_and_survives_its_files() {
    let tokenizer = Tokenizer::train_bpe(corpus(), 300, &SpecialTokens::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 300);
    assert_eq!((tokenizer.id("<|endoftext|>"), tokenizer.id("<|pad|>")), (Some(0), Some(1)));
    assert_eq!((tokenizer.bos(), tokenizer.pad()), (Some(0), Some(1)));
    assert_eq!((tokenizer.eos(), tokenizer.adds_bos()), (&[0][..], false));
    assert!(tokenizer.encode(" the", Bos::Never).unwrap().len() < 4, "frequent pairs are merged");

    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let loaded = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
    for text in TEXTS {
        let ids = tokenizer.encode(text, Bos::AsConfigured).unwrap();
        assert_eq!(loaded.encode(text, Bos::AsConfigured).unwrap(), ids);
        assert_eq!(loaded.decode(&ids), text);
        check_stream(&loaded, &ids);
    }
}

#[test]
fn training_is_deterministic() {
    let special = SpecialTokens { others: vec!["<|tool|>".into()], ..SpecialTokens::default() };
    let train =
        |texts: Vec<String>| Tokenizer::train_bpe(texts.into_iter(), 320, &special).unwrap();
    let forward = train(corpus().collect());
    let mut reversed: Vec<String> = corpus().collect();
    reversed.reverse();
    assert_eq!(forward.fingerprint(), train(reversed).fingerprint());
    assert_eq!(forward.id("<|tool|>"), Some(2));
    let tool = forward.encode("<|tool|>", Bos::Never).unwrap();
    assert_eq!((tool.as_slice(), forward.decode(&tool)), (&[2][..], String::new()));
}

#[test]
fn a_tokenizer_that_cannot_be_trained_says_why() {
    let train = |vocab_size, special: &SpecialTokens| {
        Tokenizer::train_bpe(corpus(), vocab_size, special).unwrap_err().to_string()
    };
    assert_eq!(
        train(257, &SpecialTokens::default()),
        "cannot train a tokenizer: a vocabulary of 257 tokens is too small; \
         expected at least 258 for 256 bytes and 2 special tokens"
    );
    let twice = SpecialTokens { pad: "<|endoftext|>".into(), ..SpecialTokens::default() };
    assert!(train(300, &twice).contains("<|endoftext|> is named twice"));
    // Too few texts for the vocabulary: a smaller one.
    let tokenizer =
        Tokenizer::train_bpe(std::iter::empty(), 300, &SpecialTokens::default()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 258);
}

/// The trainer of the tokenizers library, whose time grows with the square of a word's length.
fn trained_by_the_library(texts: Vec<String>, vocab_size: usize) -> tokenizers::Tokenizer {
    use tokenizers::models::TrainerWrapper;
    use tokenizers::models::bpe::{BPE, BpeTrainer};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    let byte_level = ByteLevel::default().add_prefix_space(false).trim_offsets(false);
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level));
    tokenizer.with_decoder(Some(byte_level));
    tokenizer.with_post_processor(Some(byte_level));
    let special = ["<|endoftext|>", "<|pad|>"];
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.map(|name| tokenizers::AddedToken::from(name, true)).into())
        .show_progress(false)
        .build();
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts.into_iter()).unwrap();
    tokenizer
}

#[test]
fn what_is_learned_is_what_the_tokenizers_library_learns() {
    let lines: Vec<String> =
        include_str!("tokenizer_files.rs").split_inclusive('\n').map(str::to_owned).collect();
    for (texts, vocab_size) in [(corpus().collect(), 300), (lines.clone(), 300), (lines, 420)] {
        let texts: Vec<String> = texts;
        let own =
            Tokenizer::train_bpe(texts.clone().into_iter(), vocab_size, &SpecialTokens::default());
        let dir = tempfile::tempdir().unwrap();
        own.unwrap().save(dir.path()).unwrap();
        let own = std::fs::read_to_string(dir.path().join("tokenizer.json")).unwrap();
        let library = trained_by_the_library(texts, vocab_size).to_string(true).unwrap();
        assert!(own == library, "{vocab_size}");
    }
}
