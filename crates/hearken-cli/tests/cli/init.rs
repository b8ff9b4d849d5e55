//! `hearken init`.

use std::fs;
use std::path::Path;

use crate::support::{FAMILIES, Ran, model, names, run, write};

fn init(output: &Path, more: &[&str]) -> Ran {
    let mut arguments =
        vec!["init".to_owned(), "--output".to_owned(), output.display().to_string()];
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    run(arguments)
}

/// The number of tokens in a sequence, by asking for its log-probabilities.
fn loads(dir: &Path, folder: &Path) {
    let input = write(folder, "in.jsonl", "{\"text\": \"To be, or not to be\"}\n");
    let output = folder.join("out.jsonl");
    run([
        "logprobs".as_ref(),
        "--model".as_ref(),
        dir.as_os_str(),
        "--input".as_ref(),
        input.as_os_str(),
        "--output".as_ref(),
        output.as_os_str(),
    ])
    .ok();
}

#[test]
fn every_family_is_made_from_its_shape_and_loads() {
    // Two of the models are others of a family.
    let others = ["llama_yarn", "phi3_partial"];
    for family in FAMILIES.into_iter().filter(|family| !others.contains(family)) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new");
        let tokenizer = model(family);
        let shape = format!("{family},layers=2,width=32,heads=4,positions=64");
        let ran = init(&dir, &["--shape", &shape, "--tokenizer", tokenizer.to_str().unwrap()]).ok();
        assert_eq!(ran.stdout.trim(), dir.display().to_string());
        assert!(names(&dir).contains(&"tokenizer.json".to_owned()));
        loads(&dir, folder.path());
        assert_eq!(names(folder.path()), ["in.jsonl", "new", "out.jsonl"]);
    }
}

#[test]
fn a_tokenizer_is_trained_on_text_and_on_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let text = write(folder.path(), "a.txt", &"the cat sat on the mat\n".repeat(50));
    let lines = write(folder.path(), "b.jsonl", &"{\"text\": \"a dog and a frog\"}\n".repeat(50));
    let dir = folder.path().join("new");
    init(
        &dir,
        &[
            "--shape",
            "gpt2,layers=1,width=16,heads=2",
            "--vocab-size",
            "270",
            "--train-tokenizer",
            text.to_str().unwrap(),
            lines.to_str().unwrap(),
        ],
    )
    .ok();
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 270);
    assert_eq!(config["eos_token_id"], 0);
    loads(&dir, folder.path());
}

#[test]
fn the_seed_decides_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = model("llama");
    let weights = |name: &str, seed: &str| {
        let dir = folder.path().join(name);
        let shape = "llama,layers=1,width=16,heads=2";
        init(&dir, &["--shape", shape, "--tokenizer", tokenizer.to_str().unwrap(), "--seed", seed])
            .ok();
        fs::read(dir.join("model.safetensors")).unwrap()
    };
    let first = weights("a", "1");
    assert_eq!(first, weights("b", "1"));
    assert_ne!(first, weights("c", "2"));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let tokenizer = model("llama");
    let tokenizer = tokenizer.to_str().unwrap();
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(model("llama").join("config.json")).unwrap())
            .unwrap();
    config["vocab_size"] = 100.into();
    let path = write(folder.path(), "c.json", &config.to_string());
    let error = init(&dir, &["--config", path.to_str().unwrap(), "--tokenizer", tokenizer]).error();
    assert!(
        error.contains("c.json: vocab_size is 100, expected at least the tokenizer's 384 tokens"),
        "{error}"
    );
    config["vocab_size"] = 384.into();
    config["num_attention_heads"] = 5.into();
    let path = write(folder.path(), "c.json", &config.to_string());
    let error = init(&dir, &["--config", path.to_str().unwrap(), "--tokenizer", tokenizer]).error();
    assert!(error.contains("c.json"), "{error}");
    assert_eq!(names(folder.path()), ["c.json"]);
    let error = init(
        folder.path(),
        &["--shape", "gpt2,layers=1,width=16,heads=2", "--tokenizer", tokenizer],
    )
    .error();
    assert!(error.contains("expected a new folder"), "{error}");
}
