//! Model directories as other programs leave them: what is beside the weights, or stored otherwise, changes nothing.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use hearken_model::checkpoint::{NumberFormat, TensorFiles, WeightFormat, save_tensors};
use hearken_model::{LoadOptions, Model, ModelConfig, Tokenizer};
use hearken_tensor::Cpu;
use serde_json::{Map, Value, json};

type Tensor = (String, Vec<usize>, Vec<f32>);

fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf").join(family)
}

/// A copy of a family's directory whose tensors and settings went through `change`.
fn changed(
    family: &str,
    change: impl FnOnce(&mut Vec<Tensor>, &mut Map<String, Value>),
) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(family)).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    let files = TensorFiles::open(&fixture(family)).unwrap();
    let tensor = |name: &str| {
        let shape = files.shape(name).unwrap().to_vec();
        (name.to_owned(), shape.clone(), files.read(name, &shape).unwrap())
    };
    let mut tensors: Vec<Tensor> = files.names().map(tensor).collect();
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut tensors, &mut config);
    save_tensors(&dir.path().join("model.safetensors"), &tensors).unwrap();
    fs::write(path, Value::Object(config).to_string()).unwrap();
    dir
}

fn load(dir: &Path) -> Model<Cpu> {
    Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap().0
}

#[track_caller]
fn assert_same(dir: &Path, family: &str) {
    let (found, expected) = (load(dir), load(&fixture(family)));
    assert_eq!(found.params().len(), expected.params().len());
    for index in 0..expected.params().len() {
        assert!(found.values(index) == expected.values(index), "{}", expected.params()[index].name);
    }
    assert_eq!(found.config().positions, expected.config().positions);
}

#[test]
fn gpt_2_with_its_masks_among_the_tensors_is_read() {
    let dir = changed("gpt2", |tensors, _| {
        for layer in 0..2 {
            let mask = format!("transformer.h.{layer}.attn.bias");
            tensors.push((mask, vec![1, 1, 8, 8], vec![1.0; 64]));
            tensors.push((format!("transformer.h.{layer}.attn.masked_bias"), vec![1], vec![-1e4]));
        }
    });
    assert_same(dir.path(), "gpt2");
}

#[test]
fn pythia_with_its_frequencies_and_masks_among_the_tensors_is_read() {
    let dir = changed("gpt_neox", |tensors, _| {
        for layer in 0..2 {
            let of = |name: &str| format!("gpt_neox.layers.{layer}.attention.{name}");
            tensors.push((of("rotary_emb.inv_freq"), vec![4], vec![1.0, 0.5, 0.25, 0.125]));
            tensors.push((of("bias"), vec![1, 1, 8, 8], vec![1.0; 64]));
            tensors.push((of("masked_bias"), vec![1], vec![-1e4]));
        }
    });
    assert_same(dir.path(), "gpt_neox");
}

#[test]
fn a_tied_head_that_is_stored_all_the_same_is_the_embedding() {
    let dir = changed("gpt2", |tensors, _| {
        let embedding = tensors.iter().find(|(name, ..)| name.ends_with("wte.weight")).unwrap();
        let head = ("lm_head.weight".to_owned(), embedding.1.clone(), embedding.2.clone());
        tensors.push(head);
    });
    assert_same(dir.path(), "gpt2");
}

#[test]
fn shards_in_half_precision_are_read_as_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let format = WeightFormat { stored: NumberFormat::F16, shard_bytes: 40_000 };
    load(&fixture("llama")).save_as(dir.path(), format).unwrap();
    assert!(dir.path().join("model.safetensors.index.json").exists());
    assert!(!dir.path().join("model.safetensors").exists());
    let (found, expected) = (load(dir.path()), load(&fixture("llama")));
    for index in 0..expected.params().len() {
        let rounded = expected.values(index).into_iter().map(|x| half::f16::from_f32(x).to_f32());
        assert_eq!(found.values(index), rounded.collect::<Vec<_>>());
    }
}

#[test]
fn positions_are_the_same_by_the_keys_of_transformers_4_and_5() {
    let theta = 250_000.0;
    let (old, new) = (json!(theta), json!({"rope_type": "default", "rope_theta": theta}));
    let with = |key: &str, value: &Value| {
        changed("mistral", |_, config| {
            config.remove("rope_theta");
            config.remove("rope_parameters");
            config.insert(key.to_owned(), value.clone());
        })
    };
    let (old, new) = (with("rope_theta", &old), with("rope_parameters", &new));
    let positions = |dir: &tempfile::TempDir| ModelConfig::read(dir.path()).unwrap().positions;
    assert_eq!(positions(&old), positions(&new));
    assert_ne!(positions(&old), ModelConfig::read(&fixture("mistral")).unwrap().positions);
}

#[test]
fn several_end_tokens_end_a_text_and_a_model_without_a_pad_token_has_none() {
    let dir = changed("llama", |_, config| {
        config.insert("eos_token_id".into(), json!([2, 5]));
        config.insert("pad_token_id".into(), Value::Null);
    });
    fs::write(dir.path().join("generation_config.json"), "{\"eos_token_id\": [2, 7]}").unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    for id in [2, 5, 7] {
        assert!(tokenizer.eos().contains(&id), "{id} of {:?}", tokenizer.eos());
    }
    assert_eq!(load(dir.path()).config().pad, None);
}

#[test]
fn a_vocabulary_may_be_padded_beyond_the_tokenizer() {
    let rows = 16;
    let dir = changed("llama", |tensors, config| {
        let vocab = config["vocab_size"].as_u64().unwrap() as usize;
        config.insert("vocab_size".into(), json!(vocab + rows));
        for (_, shape, values) in tensors.iter_mut().filter(|(_, shape, _)| shape[0] == vocab) {
            shape[0] += rows;
            values.extend(std::iter::repeat_n(0.0, rows * shape[1]));
        }
    });
    let model = load(dir.path());
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert!(tokenizer.vocab_size() < model.config().vocab);
}
