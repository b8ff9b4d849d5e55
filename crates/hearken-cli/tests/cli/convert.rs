//! `hearken convert`.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use crate::support::{model, run};

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_model_goes_into_gguf_and_back_with_its_tokenizer() {
    let folder = tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let source = text(&model("llama"));
    let ran =
        run(["convert", "--model", &source, "--output", &at("m.gguf"), "--dtype", "f32"]).ok();
    assert!(
        ran.stderr.contains("m.gguf: llama (20 tensors, F32), with its tokenizer"),
        "{}",
        ran.stderr
    );
    run(["convert", "--model", &at("m.gguf"), "--output", &at("back"), "--dtype", "f32"]).ok();
    let generate = |model: &str| {
        let prompts = at("prompts.jsonl");
        fs::write(&prompts, "{\"prompt\": \"The capital\"}\n").unwrap();
        let ran = run([
            "generate",
            "--model",
            model,
            "--input",
            &prompts,
            "--output",
            "-",
            "--max-new-tokens",
            "8",
            "--temperature",
            "0",
        ]);
        ran.ok().stdout
    };
    assert_eq!(generate(&source), generate(&at("back")));
    // The same folder in another number format.
    run(["convert", "--model", &source, "--output", &at("half"), "--dtype", "f16"]).ok();
    let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("half/model.safetensors") * 2 < size("back/model.safetensors") + 10_000);
    assert!(folder.path().join("half/tokenizer.json").exists());
}

#[test]
fn shards_and_further_templates_come_along_and_no_value_becomes_infinite() {
    let folder = tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("additional_chat_templates")).unwrap();
    fs::write(source.join("additional_chat_templates/tool_use.jinja"), "{{ tools }}").unwrap();
    for entry in fs::read_dir(model("llama")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), source.join(entry.file_name())).unwrap();
    }
    let convert = |output: &str, more: &[&str]| {
        let all = ["convert", "--model", &text(&source), "--output", &at(output)];
        run(all.iter().chain(more))
    };
    convert("shards", &["--dtype", "bf16", "--shard-size-gb", "0.00005"]).ok();
    assert!(folder.path().join("shards/model-00002-of-00005.safetensors").exists());
    assert!(folder.path().join("shards/additional_chat_templates/tool_use.jinja").exists());
    let weights = source.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[data..data + 4].copy_from_slice(&1e6_f32.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    for output in ["half", "half.gguf"] {
        let error = convert(output, &["--dtype", "f16"]).error();
        assert!(error.contains("holds 1000000, and float16 ends at 65504"), "{error}");
        assert!(!folder.path().join(output).exists());
    }
}

#[test]
fn what_cannot_be_converted_is_said_and_nothing_is_left() {
    let folder = tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let source = text(&model("llama"));
    fs::write(at("no.gguf"), "GGUF\x03\0\0\0").unwrap();
    for (arguments, expected) in [
        (vec!["--model", &at("no.gguf"), "--output", &at("x")], "no.gguf: the file is cut short"),
        (vec!["--model", &source, "--output", &at("y"), "--dtype", "q8_0"], "is for GGUF alone"),
        (vec!["--model", &at("no.gguf"), "--output", &at("z.gguf")], "is GGUF already"),
        (
            vec!["--model", &text(&model("gpt2")), "--output", &at("w.gguf")],
            "expected Llama, Mistral",
        ),
        (vec!["--model", &source, "--output", &text(folder.path())], "is there already"),
    ] {
        let mut all = vec!["convert"];
        all.extend(arguments);
        let ran = run(all.clone());
        assert!(ran.stderr.contains(expected), "{all:?}: {}", ran.stderr);
    }
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["no.gguf"]);
}
