//! What is answered.

use std::ops::ControlFlow;

use hearken_generate::{Sampling, SamplingRequest, completion_text, generate};
use hearken_model::tokenizer::Bos;
use hearken_model::{Batch, Keep, Model};
use hearken_tensor::Cpu;
use hearken_tensor::device::HeadOptions;
use serde_json::{Value, json};

use crate::support::{get, llama, model, options, post, router, service_of};

const PROMPT: &str = "All the world is a stage";

/// What `hearken generate` gives, greedily.
fn greedy(tokens: usize) -> (String, Vec<u32>) {
    let (model, tokenizer) = llama();
    let prompt_ids = tokenizer.encode(PROMPT, Bos::AsConfigured).unwrap();
    let sampling = Sampling { ignore_eos: true, ..Sampling::greedy(tokens) };
    let request = SamplingRequest { prompt_ids, samples: 1, seed: 0 };
    let go_on = &mut |_: hearken_generate::TokenSampled<'_>| ControlFlow::Continue(());
    let all = generate(&model, Some(&tokenizer), &[request], &sampling, go_on).unwrap();
    let completion = &all[0][0];
    (completion_text(&tokenizer, completion, &[]), completion.ids.clone())
}

/// The text and the last reason of a stream's choice.
fn joined(chunks: &[Value], index: usize, piece: &str) -> (String, Value) {
    let (mut text, mut reason) = (String::new(), Value::Null);
    for chunk in chunks {
        for choice in chunk["choices"].as_array().unwrap() {
            if choice["index"] == index {
                text.push_str(choice.pointer(piece).and_then(Value::as_str).unwrap_or(""));
                if !choice["finish_reason"].is_null() {
                    reason = choice["finish_reason"].clone();
                }
            }
        }
    }
    (text, reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_is_what_generate_gives_streaming_or_not() {
    let (text, ids) = greedy(24);
    let router = router();
    let mut body = json!({
        "model": "tiny", "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "ignore_eos": true,
        "return_token_ids": true,
    });
    let whole = post(&router, "/v1/completions", body.clone()).await.ok();
    let choice = &whole["choices"][0];
    assert_eq!(choice["text"], text);
    assert_eq!(choice["token_ids"], json!(ids));
    assert_eq!(choice["finish_reason"], "length");
    let prompt_tokens = choice["prompt_token_ids"].as_array().unwrap().len();
    let usage = json!({
        "prompt_tokens": prompt_tokens, "completion_tokens": 24, "total_tokens": prompt_tokens + 24,
    });
    assert_eq!(whole["usage"], usage);

    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let chunks = post(&router, "/v1/completions", body).await.chunks();
    assert_eq!(joined(&chunks, 0, "/text"), (text, json!("length")));
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!((&last["usage"], &last["choices"]), (&usage, &json!([])));
    assert!(others.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == last["id"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_answers_of_a_seed_come_again_and_each_prompt_has_its_own() {
    let router = router();
    let body = |stream: bool| {
        json!({
            "prompt": [PROMPT, "The merry wives"], "n": 3, "seed": -7, "max_tokens": 12,
            "temperature": 1.5, "stream": stream,
        })
    };
    let first = post(&router, "/v1/completions", body(false)).await.ok();
    let again = post(&router, "/v1/completions", body(false)).await.ok();
    let chunks = post(&router, "/v1/completions", body(true)).await.chunks();
    let texts: Vec<&str> = first["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 6);
    assert_eq!(first["choices"], again["choices"]);
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(first["choices"][index]["index"], index);
        assert_eq!(joined(&chunks, index, "/text").0, **text);
    }
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
}

/// The log-probabilities of the last `count` tokens, by the forward pass that `hearken logprobs` makes.
fn recomputed(ids: &[u32], count: usize) -> Vec<f64> {
    let (model, _) = llama();
    let mut batch = Batch::new();
    let segment = batch.push(None, ids);
    let row = batch.row(segment, 0);
    let predictions = Model::<Cpu>::next_token_predictions(ids, row);
    let pass = model.forward(&batch, Keep::Nothing);
    let found = model.logprobs(&pass, &predictions, HeadOptions::default()).logprobs;
    found[found.len() - count..].iter().map(|&logprob| f64::from(logprob)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logprobs_are_the_models_own_whatever_the_temperature() {
    let router = router();
    let body = json!({
        "prompt": PROMPT, "max_tokens": 20, "temperature": 0.6, "top_p": 0.9, "seed": 3,
        "logprobs": 4, "ignore_eos": true, "return_token_ids": true, "logit_bias": {"70": 3},
    });
    let whole = post(&router, "/v1/completions", body).await.ok();
    let choice = &whole["choices"][0];
    let ids: Vec<u32> = ["prompt_token_ids", "token_ids"]
        .iter()
        .flat_map(|of| choice[of].as_array().unwrap())
        .map(|id| id.as_u64().unwrap() as u32)
        .collect();
    let logprobs = &choice["logprobs"];
    let found = logprobs["token_logprobs"].as_array().unwrap();
    for (found, expected) in found.iter().zip(recomputed(&ids, 20)) {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-5, "{found} {expected}");
    }
    assert_eq!(found.len(), 20);
    let top = logprobs["top_logprobs"].as_array().unwrap();
    assert!(top.iter().all(|of| (1..=4).contains(&of.as_object().unwrap().len())));
    let text: String =
        logprobs["tokens"].as_array().unwrap().iter().map(|of| of.as_str().unwrap()).collect();
    if !text.contains("bytes:") {
        assert_eq!(choice["text"], text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_its_tokens_as_bytes_with_the_likeliest_in_order() {
    let router = router();
    let body = json!({
        "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 9,
        "temperature": 0, "logprobs": true, "top_logprobs": 3, "ignore_eos": true,
    });
    let whole = post(&router, "/v1/chat/completions", body).await.ok();
    let content = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 9);
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        // Greedily, the token is the likeliest.
        assert_eq!((top.len(), &top[0]["bytes"]), (3, &token["bytes"]));
        assert_eq!(top[0]["logprob"], token["logprob"]);
        let logprobs: Vec<f64> = top.iter().map(|of| of["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
    }
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    assert_eq!(whole["object"], "chat.completion");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_text_ends_an_answer_wherever_tokens_end() {
    let (text, _) = greedy(24);
    let characters: Vec<char> = text.chars().collect();
    let router = router();
    for (start, end) in [(3, 4), (5, 9), (7, 15)] {
        let stop: String = characters[start..end].iter().collect();
        let expected = &text[..text.find(&stop).unwrap()];
        let mut body = json!({
            "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "ignore_eos": true,
            "stop": ["never to be found", stop],
        });
        let whole = post(&router, "/v1/completions", body.clone()).await.ok();
        assert_eq!(whole["choices"][0]["text"], expected, "{stop:?}");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        body["stream"] = json!(true);
        let chunks = post(&router, "/v1/completions", body).await.chunks();
        assert_eq!(joined(&chunks, 0, "/text"), (expected.to_owned(), json!("stop")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn biases_and_penalties_move_what_is_sampled() {
    let router = router();
    let ask = |more: Value| {
        let mut body = json!({
            "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "ignore_eos": true,
            "return_token_ids": true,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let ids = |answer: &Value| -> Vec<u64> {
        let ids = answer["choices"][0]["token_ids"].as_array().unwrap();
        ids.iter().map(|id| id.as_u64().unwrap()).collect()
    };
    let forced =
        post(&router, "/v1/completions", ask(json!({"logit_bias": {"42": 100}}))).await.ok();
    assert_eq!(ids(&forced), [42; 6]);
    let both = json!({"logit_bias": {"42": 100, "43": 100}, "frequency_penalty": 2});
    let both = post(&router, "/v1/completions", ask(both)).await.ok();
    assert!(ids(&both).contains(&43) && ids(&both).contains(&42), "{both}");
    let plain = ids(&post(&router, "/v1/completions", ask(json!({}))).await.ok());
    let mut banned = json!({});
    banned[plain[0].to_string()] = json!(-100);
    let banned = post(&router, "/v1/completions", ask(json!({"logit_bias": banned}))).await.ok();
    assert!(!ids(&banned).contains(&plain[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropics_messages_are_the_same_answers() {
    let router = router();
    let said = json!([{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]);
    let chat = json!({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 12, "temperature": 0,
    });
    let chat = post(&router, "/v1/chat/completions", chat).await.ok();
    let mut body = json!({
        "model": "tiny", "system": "Be brief.", "messages": said, "max_tokens": 12, "temperature": 0,
    });
    let message = post(&router, "/v1/messages", body.clone()).await.ok();
    let text = &chat["choices"][0]["message"]["content"];
    assert_eq!(message["content"], json!([{"type": "text", "text": text}]));
    assert_eq!(message["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    assert_eq!(message["usage"]["output_tokens"], chat["usage"]["completion_tokens"]);
    assert!(["end_turn", "max_tokens"].contains(&message["stop_reason"].as_str().unwrap()));
    body["stream"] = json!(true);
    let streamed = post(&router, "/v1/messages", body.clone()).await.text;
    let mut pieces = String::new();
    for line in streamed.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(line).unwrap();
        pieces.push_str(event["delta"]["text"].as_str().unwrap_or(""));
    }
    assert_eq!(pieces, text.as_str().unwrap());
    assert!(streamed.trim_end().ends_with("{\"type\":\"message_stop\"}"), "{streamed}");
    body["temperature"] = json!(1.5);
    let refused = post(&router, "/v1/messages", body).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["type"]), (400, &json!("error")));
}

/// A directory with the llama and a chat template.
fn templated(template: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(model("llama").join(file), directory.path().join(file)).unwrap();
    }
    let template =
        hearken_testing::fixture("hearken-model/tests/fixtures/templates").join(template);
    std::fs::copy(template, directory.path().join("chat_template.jinja")).unwrap();
    directory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_rendered_by_the_models_template() {
    let directory = templated("chatml.jinja");
    let router = service_of(directory.path(), options()).router();
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]);
    let tokens = post(&router, "/tokenize", json!({"messages": messages})).await.ok();
    let text = post(&router, "/detokenize", json!({"tokens": tokens["tokens"]})).await.ok();
    let text = text["prompt"].as_str().unwrap();
    assert!(text.contains("<|im_start|>system\nBe brief."), "{text}");
    assert!(text.trim_end().ends_with("<|im_start|>assistant"), "{text}");
    let body = json!({"messages": messages, "max_tokens": 5, "temperature": 0});
    let answer = post(&router, "/v1/chat/completions", body.clone()).await.ok();
    assert_eq!(answer["usage"]["prompt_tokens"], tokens["count"]);

    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = post(&router, "/v1/chat/completions", streamed).await.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(joined(&chunks, 0, "/delta/content").0, answer["choices"][0]["message"]["content"]);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_is_listed() {
    let router = router();
    let list = get(&router, "/v1/models").await.ok();
    let model = &list["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&json!("tiny"), &json!("model")));
    assert_eq!(model["max_model_len"], 256);
    assert_eq!(get(&router, "/v1/models/tiny").await.ok(), *model);
    assert_eq!(get(&router, "/health").await.ok()["status"], "ok");
    let body = json!({"prompt": PROMPT, "max_tokens": 3, "ignore_eos": true});
    let answer = post(&router, "/v1/completions", body).await.ok();
    assert_eq!(answer["system_fingerprint"], model["version"]);
    let metrics = get(&router, "/metrics").await.text;
    for line in [
        "hearken_requests_total{path=\"/v1/completions\",status=\"200\"} 1\n",
        "hearken_completion_tokens_total 3\n",
        "hearken_completions_total{reason=\"length\"} 1\n",
        "hearken_completions_under_way 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_completion_is_a_line_of_the_log_which_is_put_aside_when_it_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("completions.jsonl");
    let mut options = options();
    options.log =
        Some(hearken_serve::Log { bytes_max: 1500, ..hearken_serve::Log::at(path.clone()) });
    let router = service_of(&model("llama"), options).router();
    let mut expected = Vec::new();
    for seed in 0..6 {
        let body = json!({
            "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "seed": seed,
            "return_token_ids": true,
        });
        expected.push(post(&router, "/v1/chat/completions", body).await.ok());
    }
    let mut lines = Vec::new();
    let aside = (1..).map(|number| directory.path().join(format!("completions.{number}.jsonl")));
    for file in aside.take_while(|file| file.exists()).chain([path]) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() <= 1500);
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    assert_eq!(lines.len(), 6);
    for (line, answer) in lines.iter().zip(&expected) {
        let choice = &answer["choices"][0];
        assert_eq!(line["request_id"], answer["id"]);
        assert_eq!(line["version"], answer["system_fingerprint"]);
        assert_eq!(line["completion"], choice["message"]["content"]);
        assert_eq!(line["completion_ids"], choice["token_ids"]);
        assert_eq!(line["logprobs"], choice["sampled_logprobs"]);
        assert_eq!(line["prompt"][0]["content"], "Hi");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_what_it_has_to_be() {
    let router = router();
    let ask = |more: Value| {
        let mut body = json!({"prompt": PROMPT, "max_tokens": 120, "temperature": 1.0, "seed": 5});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let text = |answer: Value| answer["choices"][0]["text"].as_str().unwrap().to_owned();
    let choice = json!({"structured_outputs": {"choice": ["yes", "no", "a+b"]}, "n": 8});
    let answer = post(&router, "/v1/completions", ask(choice)).await.ok();
    for choice in answer["choices"].as_array().unwrap() {
        assert!(["yes", "no", "a+b"].contains(&choice["text"].as_str().unwrap()), "{choice}");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let regex = json!({"structured_outputs": {"regex": "[0-9]{3}-[a-f]{2}"}});
    let found = text(post(&router, "/v1/completions", ask(regex)).await.ok());
    let (digits, letters) = found.split_once('-').unwrap();
    assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{found}");
    assert!(letters.len() == 2 && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte)));
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["ok", "kind"],
        "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}},
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let body = ask(json!({"response_format": format, "top_k": 40}));
    let found = text(post(&router, "/v1/completions", body).await.ok());
    let found: Value = serde_json::from_str(&found).unwrap_or_else(|_| panic!("{found:?}"));
    assert!(found["ok"].is_boolean() && found.as_object().unwrap().len() == 2, "{found}");
    for bad in [
        json!({"structured_outputs": {"regex": "(", }}),
        json!({"structured_outputs": {}}),
        json!({"structured_outputs": {"choice": [], "regex": "a"}}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 7}}}}),
        json!({"response_format": {"type": "yaml"}}),
    ] {
        let refused = post(&router, "/v1/completions", ask(bad.clone())).await;
        assert_eq!(refused.status, 400, "{bad} {}", refused.text);
    }
}

/// A model whose template asks for calls of tools.
fn that_calls() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(model("llama")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let template =
        "{# <tool_call> #}{% if tools %}{{ tools | length }}{% endif %}{{ messages[-1].content }}";
    std::fs::write(copy.join("chat_template.jinja"), template).unwrap();
    (folder, copy)
}

#[tokio::test]
async fn a_tool_that_must_be_called_is_called() {
    let (_folder, copy) = that_calls();
    let router = service_of(&copy, options()).router();
    let tool = |name: &str, city: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {
            "type": "object", "additionalProperties": false, "required": ["city"],
            "properties": {"city": {"enum": [city]}},
        }}})
    };
    let ask = |choice: Value| {
        json!({
            "messages": [{"role": "user", "content": "Hi"}], "seed": 1, "tool_choice": choice,
            "tools": [tool("weather", "Rome"), tool("news", "Oslo")],
        })
    };
    let called = |answer: Value| {
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
        let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().clone();
        assert_eq!(calls.len(), 1, "{answer}");
        let function = &calls[0]["function"];
        (function["name"].as_str().unwrap().to_owned(), function["arguments"].to_string())
    };
    let one = json!({"type": "function", "function": {"name": "news"}});
    let (name, arguments) = called(post(&router, "/v1/chat/completions", ask(one)).await.ok());
    assert!(name == "news" && arguments.contains("Oslo"), "{name} {arguments}");
    let any = ask(json!("required"));
    let (name, arguments) = called(post(&router, "/v1/chat/completions", any).await.ok());
    assert!(["news", "weather"].contains(&name.as_str()), "{name} {arguments}");
    for bad in [
        json!({"type": "function", "function": {"name": "sports"}}),
        json!({"type": "function"}),
        json!("must"),
    ] {
        let refused = post(&router, "/v1/chat/completions", ask(bad.clone())).await;
        assert_eq!(refused.status, 400, "{bad} {}", refused.text);
    }
    let mut both = ask(json!("required"));
    both["response_format"] = json!({"type": "json_object"});
    assert_eq!(post(&router, "/v1/chat/completions", both).await.status, 400);
}

/// What a model says of tokens that it did not sample is what it said of them when it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_of_others_are_read_as_the_models_own() {
    let router = router();
    let body = json!({
        "prompt": [[5, 17, 300, 42], [9]], "max_tokens": 9, "temperature": 0.7, "seed": 3, "logprobs": 4,
        "ignore_eos": true, "return_token_ids": true,
    });
    let sampled = post(&router, "/v1/completions", body).await.ok();
    let choices = sampled["choices"].as_array().unwrap();
    let input: Vec<Value> = choices
        .iter()
        .map(|one| json!({"prompt_ids": one["prompt_token_ids"], "completion_ids": one["token_ids"]}))
        .collect();
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect()
    };
    let close = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    };
    let ask = |temperature: f64, count: usize| json!({"input": input, "temperature": temperature, "top_logprobs": count, "model": "tiny"});
    let own = post(&router, "/v1/logprobs", ask(1.0, 4)).await.ok();
    let tempered = post(&router, "/v1/logprobs", ask(0.7, 384)).await.ok();
    assert_eq!(own["version"], sampled["system_fingerprint"]);
    assert_eq!(
        own["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 18, "total_tokens": 23})
    );
    for (index, choice) in choices.iter().enumerate() {
        let (own, tempered) = (&own["data"][index], &tempered["data"][index]);
        close(&numbers(&own["logprobs"]), &numbers(&choice["logprobs"]["token_logprobs"]));
        close(&numbers(&tempered["logprobs"]), &numbers(&choice["sampled_logprobs"]));
        for at in 0..9 {
            let mut told: Vec<f64> = choice["logprobs"]["top_logprobs"][at]
                .as_object()
                .unwrap()
                .values()
                .map(|one| one.as_f64().unwrap())
                .collect();
            told.sort_by(|a, b| b.total_cmp(a));
            // Two tokens may have one text.
            let top = numbers(&own["top_logprobs"][at]);
            close(&told[..1], &top[..1]);
            assert!(top.is_sorted_by(|a, b| b <= a) && top.len() == 4);
            let all = numbers(&tempered["top_logprobs"][at]);
            let total: f64 = all.iter().map(|one| one.exp()).sum();
            assert!(all.len() == 384 && (total - 1.0).abs() < 1e-9, "{total}");
            let ids = tempered["top_ids"][at].as_array().unwrap();
            let place = ids.iter().position(|id| *id == choice["token_ids"][at]).unwrap();
            close(&all[place..=place], &numbers(&tempered["logprobs"])[at..=at]);
        }
    }
    let described = get(&router, "/v1/models/tiny").await.json();
    assert_eq!(described["vocab_size"], 384);
    assert_eq!(described["tokenizer"], json!(llama().1.fingerprint()));
}
