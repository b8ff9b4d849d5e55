//! Chat templates against what Transformers makes of them, and what they must not do.
//!
//! `fixtures/templates` has templates in the styles of published families, conversations, and what
//! Transformers makes of each pair, text and tokens: see PROVENANCE.md there.
#![allow(clippy::unwrap_used)] // helpers of tests are not tests to clippy

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearken_data::{Message, hexadecimal};
use hearken_model::Tokenizer;
use hearken_model::chat::{
    Conversation, encode_completion, encode_conversation, encode_json, encode_prompt,
};
use hearken_model::template::{Ending, Template, TemplateError};
use hearken_model::tokenizer::TemplateChoice;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(fixtures().join(path)).unwrap()
}

/// A directory with the tokenizer of the fixtures and further files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let own = [
        ("tokenizer.json", read("hf/llama/tokenizer.json")),
        ("tokenizer_config.json", read("templates/tokenizer_config.json")),
    ];
    for (name, text) in own {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn with_template(template: &str) -> Tokenizer {
    let dir = directory(&[("chat_template.jinja", template)]);
    Tokenizer::load(dir.path()).unwrap()
}

fn fixture(name: &str) -> Tokenizer {
    with_template(&read(&format!("templates/{name}.jinja")))
}

fn messages(values: Value) -> Vec<Message> {
    serde_json::from_value(values).unwrap()
}

fn of<'a>(messages: &'a [Message], columns: &'a Map<String, Value>) -> Conversation<'a> {
    Conversation { messages, columns }
}

/// The text of the tokens that are trained on.
fn supervised_text(tokenizer: &Tokenizer, ids: &[u32], supervised: &[bool]) -> String {
    let kept: Vec<u32> =
        ids.iter().zip(supervised).filter(|(_, kept)| **kept).map(|(id, _)| *id).collect();
    tokenizer.decode_with_special(&kept)
}

#[test]
fn templates_of_many_families_give_the_text_and_the_tokens_of_transformers() {
    let golden: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(&read("templates/golden.json")).unwrap();
    assert!(20 <= golden.len());
    let conversations = read("templates/conversations.jsonl");
    for (template, cases) in &golden {
        let tokenizer = fixture(template);
        for line in conversations.lines() {
            let mut given: Map<String, Value> = serde_json::from_str(line).unwrap();
            let name = given.remove("name").unwrap();
            let expected = &cases[name.as_str().unwrap()];
            let wants_prompt = given.remove("add_generation_prompt") == Some(json!(true));
            let ending = match given.remove("continue_final_message") {
                Some(_) => Ending::Continued("content".to_owned()),
                None if wants_prompt => Ending::GenerationPrompt,
                None => Ending::Closed,
            };
            let Some(Value::Array(messages)) = given.remove("messages") else { panic!("{line}") };
            let templates = tokenizer.chat_templates().unwrap();
            let seen = encode_json(&tokenizer, templates, &messages, given, &ending);
            let (Some(text), Ok(seen)) = (expected.get("text"), &seen) else {
                let refused = (expected.get("error").is_some(), seen.is_err());
                assert_eq!(refused, (true, true), "{template}, {name}: {expected}, {seen:?}");
                continue;
            };
            assert_eq!(seen.text, text.as_str().unwrap(), "{template}, {name}");
            let ids: Vec<String> = seen.ids.iter().map(u32::to_string).collect();
            let digest = hexadecimal(&Sha256::digest(ids.join(" ")));
            assert_eq!(ids.len(), expected["ids"], "{template}, {name}");
            assert_eq!(digest[..16], expected["sha256"], "{template}, {name}");
            if let Some(mask) = expected.get("loss_mask") {
                let supervised = seen.supervised.as_ref().unwrap();
                let found: String =
                    supervised.iter().map(|kept| if *kept { '1' } else { '0' }).collect();
                assert_eq!(found, mask.as_str().unwrap(), "{template}, {name}");
            }
        }
    }
}

/// Elsewhere a template without marks trains on nothing, without a word: huggingface/trl#4201.
#[test]
fn without_marks_the_answers_of_the_assistant_are_trained_on_with_their_end_tokens() {
    let columns = Map::new();
    let tokenizer = fixture("chatml");
    let talk = messages(json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "<|im_end|>And?"},
        {"role": "assistant", "content": "Well."},
    ]));
    let chat = encode_conversation(&tokenizer, of(&talk, &columns)).unwrap();
    let text = supervised_text(&tokenizer, &chat.ids, &chat.supervised);
    assert_eq!(text, "Hello.<|im_end|>Well.<|im_end|>");
    // The marks of another template say the same.
    let marked = fixture("chatml_marked");
    let same = encode_conversation(&marked, of(&talk, &columns)).unwrap();
    assert_eq!(same, chat);

    // A prompt is the beginning of the prompt and its answer, which ends with the end token.
    let (answered, prompt_len) = encode_completion(&tokenizer, of(&talk, &columns), 4).unwrap();
    let prompt = encode_prompt(&tokenizer, of(&talk[..4], &columns)).unwrap();
    assert_eq!(answered.ids[..prompt_len], prompt);
    let text = supervised_text(&tokenizer, &answered.ids, &answered.supervised);
    assert_eq!(text, "Well.<|im_end|>");
    assert_eq!(tokenizer.decode_with_special(&answered.ids[prompt_len..]), "Well.<|im_end|>");
}

#[test]
fn calls_of_tools_are_trained_on_and_their_results_are_not() {
    let tokenizer = fixture("qwen25_tools");
    let call =
        json!({"type": "function", "function": {"name": "now", "arguments": {"zone": "UTC"}}});
    let talk = messages(json!([
        {"role": "user", "content": "Now?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "noon"},
        {"role": "assistant", "content": "Noon."},
    ]));
    let tools = json!([{"type": "function", "function": {"name": "now"}}]);
    let mut columns = Map::from_iter([("tools".to_owned(), tools.clone())]);
    let chat = encode_conversation(&tokenizer, of(&talk, &columns)).unwrap();
    assert_eq!(
        supervised_text(&tokenizer, &chat.ids, &chat.supervised),
        // Where there is no content, the template writes no end of line that a prompt would have.
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": \"UTC\"}}\n</tool_call><|im_end|>\
         Noon.<|im_end|>"
    );
    assert!(tokenizer.decode_with_special(&chat.ids).contains("{\"name\": \"now\"}"));
    // Data sets keep tools as JSON in a text, too.
    columns.insert("tools".to_owned(), json!(tools.to_string()));
    assert_eq!(encode_conversation(&tokenizer, of(&talk, &columns)).unwrap(), chat);
    // The built-in format has no text for a call.
    let dir = directory(&[]);
    let plain = Tokenizer::load(dir.path()).unwrap();
    let error = encode_conversation(&plain, of(&talk, &columns)).unwrap_err().to_string();
    assert!(error.contains("message 1 calls tools"), "{error}");
}

#[test]
fn a_template_that_writes_the_beginning_otherwise_is_refused_with_the_place() {
    // Earlier answers lose the empty thoughts that the last one has.
    let tokenizer = fixture("qwen3_thinking");
    let columns = Map::new();
    let talk = messages(json!([
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Well."},
    ]));
    let error = encode_conversation(&tokenizer, of(&talk, &columns)).unwrap_err().to_string();
    assert!(error.contains("the first 2 messages"), "{error}");
    assert!(error.contains("\"<think>") && error.contains("\"Hello.<|im_end|>"), "{error}");
    assert!(error.contains("chat_template.jinja"), "{error}");
    let single = encode_conversation(&tokenizer, of(&talk[..2], &columns)).unwrap();
    assert_eq!(
        supervised_text(&tokenizer, &single.ids, &single.supervised),
        "<think>\n\n</think>\n\nHello.<|im_end|>"
    );
}

#[test]
fn variables_come_from_the_record_then_from_the_choice() {
    let mut tokenizer = with_template("{{ a }}{{ b }}{{ tools }}{{ messages[0].content }}");
    let talk = messages(json!([{"role": "user", "content": "!"}]));
    let columns = json!({"a": 1, "chat_template_kwargs": {"b": 2}, "other": 3});
    let choice = json!({"a": 8, "b": 9});
    let (columns, variables) =
        (columns.as_object().unwrap().clone(), choice.as_object().unwrap().clone());
    let text = |tokenizer: &Tokenizer, columns: &Map<String, Value>| {
        tokenizer.decode(&encode_prompt(tokenizer, of(&talk, columns)).unwrap())
    };
    assert_eq!(text(&tokenizer, &columns), "12None!");
    assert_eq!(text(&tokenizer, &Map::new()), "None!");
    let (file, name) = (None, None);
    tokenizer.choose_template(&TemplateChoice { file, name, variables }).unwrap();
    assert_eq!(text(&tokenizer, &Map::new()), "89None!");
    assert_eq!(text(&tokenizer, &columns), "12None!");
}

#[test]
fn templates_are_found_where_transformers_finds_them() {
    let hi = messages(json!([{"role": "user", "content": "!"}]));
    let text = |tokenizer: &Tokenizer, columns: Value| {
        let columns = columns.as_object().unwrap().clone();
        tokenizer.decode(&encode_prompt(tokenizer, of(&hi, &columns)).unwrap())
    };
    let config = |template: Value| {
        let mut config: Value =
            serde_json::from_str(&read("templates/tokenizer_config.json")).unwrap();
        config["chat_template"] = template;
        config.to_string()
    };
    let named = config(json!([
        {"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"},
        {"name": "rag", "template": "R"},
    ]));
    let dir = directory(&[("tokenizer_config.json", &named)]);
    let mut tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(text(&tokenizer, json!({})), "D");
    assert_eq!(text(&tokenizer, json!({"tools": [{}]})), "T");
    let choose = |tokenizer: &mut Tokenizer, name: Option<&str>, file: Option<PathBuf>| {
        let name = name.map(str::to_owned);
        tokenizer.choose_template(&TemplateChoice { file, name, variables: Map::new() })
    };
    choose(&mut tokenizer, Some("rag"), None).unwrap();
    assert_eq!(text(&tokenizer, json!({"tools": [{}]})), "R");
    let error = choose(&mut tokenizer, Some("rga"), None).unwrap_err().to_string();
    assert!(error.contains("\"rga\"; there are default, tool_use, rag"), "{error}");

    // A file of its own counts more, and with it those beside it.
    let further = ("additional_chat_templates/tool_use.jinja", "F");
    let files = [("tokenizer_config.json", named.as_str()), ("chat_template.jinja", "J"), further];
    let dir = directory(&files);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(
        (text(&tokenizer, json!({})), text(&tokenizer, json!({"tools": [{}]}))),
        ("J".into(), "F".into())
    );
    let again = tempfile::tempdir().unwrap();
    tokenizer.save(again.path()).unwrap();
    let saved = Tokenizer::load(again.path()).unwrap();
    assert_eq!(text(&saved, json!({"tools": [{}]})), "F");

    // A chosen file is the default of what is saved.
    let mine = dir.path().join("mine.jinja");
    std::fs::write(&mine, "M").unwrap();
    let mut tokenizer = Tokenizer::load(dir.path()).unwrap();
    choose(&mut tokenizer, None, Some(mine)).unwrap();
    tokenizer.save(again.path()).unwrap();
    let saved = Tokenizer::load(again.path()).unwrap();
    assert_eq!((text(&tokenizer, json!({})), text(&saved, json!({}))), ("M".into(), "M".into()));
    let error = choose(&mut tokenizer, None, Some(dir.path().join("no.jinja"))).unwrap_err();
    assert!(error.to_string().contains("no.jinja: cannot read the template"), "{error}");

    // None of several is the default.
    let named = config(json!([{"name": "a", "template": "A"}, {"name": "b", "template": "B"}]));
    let dir = directory(&[("tokenizer_config.json", &named)]);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let error = encode_prompt(&tokenizer, of(&hi, &Map::new())).unwrap_err().to_string();
    assert!(error.contains("found the templates a, b and none called default"), "{error}");
    let dir = directory(&[("tokenizer_config.json", &config(json!(5)))]);
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("chat_template is 5; expected a template"), "{error}");
}

#[test]
fn the_token_behind_an_answer_ends_a_completion() {
    let check = |template: &str, expected: &str| {
        let tokenizer = fixture(template);
        let id = tokenizer.id(expected).unwrap();
        assert_eq!(tokenizer.end_of_turn(), Some(id), "{template}");
        assert!(tokenizer.eos().contains(&id), "{template}");
    };
    check("chatml", "<|im_end|>");
    check("llama3", "<|eot_id|>");
    check("gemma", "<end_of_turn>");
    check("phi3", "<|end|>");
    // White space before it is no token of its own to stop at.
    check("llama2", "</s>");
    assert_eq!(fixture("openchat").end_of_turn(), None);
}

#[test]
fn bos_is_there_once_where_the_template_writes_it() {
    let hi = messages(json!([{"role": "user", "content": "Hi"}]));
    let columns = Map::new();
    let mut json: Value = serde_json::from_str(&read("hf/llama/tokenizer.json")).unwrap();
    // A tokenizer that puts a BOS token before every text.
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    });
    let config = r#"{"bos_token": "<|endoftext|>", "eos_token": "<|pad|>"}"#;
    let bos_count = |template: &str| {
        let files = [
            ("tokenizer.json", json.to_string()),
            ("tokenizer_config.json", config.to_owned()),
            ("chat_template.jinja", template.to_owned()),
        ];
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let dir = directory(&files);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        assert!(tokenizer.adds_bos());
        let ids = encode_prompt(&tokenizer, of(&hi, &columns)).unwrap();
        ids.iter().filter(|&&id| id == 0).count()
    };
    assert_eq!(bos_count("{{ bos_token }}{{ messages[0].content }}"), 1);
    assert_eq!(bos_count("{{ messages[0].content }}"), 0);
}

/// What jinja2 makes of them, where minijinja alone makes something else.
#[test]
fn templates_mean_what_they_mean_to_jinja2() {
    let check = |template: &str, expected: &str| {
        let variables = json!({"l": [1, 2, 3], "d": {"b": 1e20, "A": null}, "s": "it's"});
        let compiled = Template::compile(template, "t");
        let rendered = compiled.and_then(|of| of.render(variables.as_object().unwrap(), 0));
        assert_eq!(rendered.unwrap().text, expected, "{template}");
    };
    check("{% set q = l %}{% macro f() %}{{ q[1:] }}{% endmacro %}{{ f() }}", "[2, 3]");
    check(
        "{% set q = l %}{% macro f(x) %}{% set q = q[x:] %}{{ q }}{% endmacro %}{{ f(1) }}{{ q }}",
        "[2, 3][1, 2, 3]",
    );
    check(
        "{% set n = namespace(x=1) %}{% macro f() %}{% set n.x = 2 %}{% endmacro %}{{ f() }}{{ n.x }}",
        "2",
    );
    check(
        "{% set q = l %}{% for x in l %}{% generation %}{% for y in q[loop.index:] %}{{ y }}{% endfor %}\
         {% endgeneration %};{% endfor %}",
        "23;3;;",
    );
    check("{{ d }} {{ d|string|length }}", "{'b': 1e+20, 'A': None} 23");
    check("{{ '%s: %.1f' % (s, 2) }} {{ '%s' % l }}", "it's: 2.0 [1, 2, 3]");
    check(
        "{{ s.title() }} {{ 'a b  c'.split(' ', 1) }} {{ ' a  b '.split() }}",
        "It'S ['a', 'b  c'] ['a', 'b']",
    );
    check(
        "{{ d is sequence }} {{ s is iterable }} {{ true is number }} {{ 'x'|int }}",
        "True True True 0",
    );
    check("{% raw %}\n{{ x }}\n{% endraw %}\ny", "\n{{ x }}\ny");
    check("{{ none|default('x') }} {{ ''|default('y', boolean=true) }}", "None y");
    check(
        "{{ l|tojson(separators=(',', ':')) }} {{ {'é': '<'}|tojson }}",
        "[1,2,3] {\"é\": \"<\"}",
    );
    check("{{ 'a\\nb'|indent(2, true) }} {{ dict(l=1, **{'k': 2}) }}", "  a\n  b {'l': 1, 'k': 2}");
}

#[test]
fn what_is_no_template_or_refuses_says_where() {
    let hi = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let failed = |template: &str| {
        let compiled = Template::compile(template, "t.jinja");
        let rendered = compiled.and_then(|of| of.render(hi.as_object().unwrap(), 0));
        rendered.unwrap_err().to_string()
    };
    let error = failed("a\n{% for x in y %}\n");
    assert!(error.starts_with("t.jinja:2: syntax error"), "{error}");
    let error = failed(
        "{% macro m() %}\n{{ raise_exception('No ' ~ messages[0].role) }}\n{% endmacro %}{{ m() }}",
    );
    assert_eq!(error, "t.jinja:2: the template refuses the conversation: No user");
    let error = failed("\n\n{{ nothing.at_all }}");
    assert!(error.starts_with("t.jinja:3: undefined value"), "{error}");
    assert!(failed("{{ messages.append(1) }}").contains("cannot change a list"));
    assert!(failed("{% include 'x' %}").starts_with("t.jinja:1: "));
}

#[test]
fn a_template_without_an_end_ends_with_an_error() {
    let endless = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=[]) %}{% for i in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x|tojson }}",
        "{{ 'x' * 100000000 }}",
        "{{ 'x'.ljust(100000000) }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ range(1000000000)|list|length }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
    ];
    // Lists that are put together on demand, from nothing but arguments.
    let doubled = ["x", "x|list|length", "x|join", "x|tojson", "x|string", "x|sort|length"].map(|of| {
        format!(
            "{{% macro m(x, n) %}}{{% if n %}}{{{{ m(x + x, n - 1) }}}}{{% else %}}{{{{ {of} }}}}{{% endif %}}\
             {{% endmacro %}}{{{{ m([1], 60) }}}}"
        )
    });
    for template in endless.into_iter().chain(doubled.iter().map(String::as_str)) {
        let started = Instant::now();
        let compiled = Template::compile(template, "t");
        let result = compiled.and_then(|of| of.render(&Map::new(), 0));
        let error = result.map(|rendered| rendered.text.len()).unwrap_err();
        assert!(
            matches!(error, TemplateError::Endless { .. } | TemplateError::Failed { .. }),
            "{template}: {error}"
        );
        assert!(started.elapsed() < Duration::from_secs(20), "{template}: {:?}", started.elapsed());
    }
    // Nested deeper than a stack is: it is refused before anything walks through it.
    for deep in
        [["(", ")"], ["[", "]"], ["-", ""], ["not ", ""], ["", ".x"], ["", "+1"], ["", "|e"]]
    {
        let [before, after] = deep.map(|part| part.repeat(100_000));
        let template = format!("{{{{ {before}a{after} }}}}");
        assert!(Template::compile(&template, "t").is_err(), "{deep:?}");
    }
}

#[test]
fn a_conversation_may_be_long() {
    let turns: Vec<Value> = (0..4000)
        .map(|turn| json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": "word ".repeat(50)}))
        .collect();
    let tokenizer = fixture("qwen3_thinking");
    let templates = tokenizer.chat_templates().unwrap();
    let rendered = templates.render(&turns, &Map::new(), &Ending::Closed).unwrap();
    assert!(4000 * 250 < rendered.text.len());
}
