//! Safetensors in and out: formats, names, shards, and what each kind of damage is reported as.
#![allow(clippy::unwrap_used)] // helpers of tests are not tests to clippy

mod support;

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use hearken_model::checkpoint::{
    CheckpointError, NameRules, TensorFiles, read_params, save_tensors,
};
use hearken_model::{Init, ParamSpec};
use safetensors::tensor::{Dtype, TensorView};
use support::{FAMILIES, fixture};

fn spec(name: &str, shape: &[usize]) -> ParamSpec {
    ParamSpec { name: name.into(), shape: shape.to_vec(), init: Init::Zeros }
}

const RULES: NameRules<'_> =
    NameRules { prefix: "model.", tied_head: None, optional: &[], ignored: &[] };

/// A directory whose model.safetensors holds these tensors of shape [2].
fn stored(tensors: &[(&str, [f32; 2])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    save_small(&dir.path().join("model.safetensors"), tensors);
    dir
}

fn save_small(path: &Path, tensors: &[(&str, [f32; 2])]) {
    let owned: Vec<_> =
        tensors.iter().map(|(name, v)| ((*name).to_owned(), vec![2], v.to_vec())).collect();
    save_tensors(path, &owned).unwrap();
}

/// The error's text with the directory written as DIR.
fn problem<T>(dir: &Path, result: Result<T, impl std::error::Error>) -> String {
    let Err(error) = result else { panic!("expected an error") };
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

fn open_problem(dir: &Path) -> String {
    problem(dir, TensorFiles::open(dir))
}

#[test]
fn what_transformers_wrote_comes_back_in_the_same_bytes() {
    for family in FAMILIES {
        let files = TensorFiles::open(&fixture(family)).unwrap();
        let tensors: Vec<_> = files
            .names()
            .map(|name| {
                let shape = files.shape(name).unwrap().to_vec();
                let values = files.read(name, &shape).unwrap();
                (name.to_owned(), shape, values)
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        save_tensors(&path, &tensors).unwrap();

        let original = std::fs::read(fixture(family).join("model.safetensors")).unwrap();
        assert!(original == std::fs::read(&path).unwrap(), "{family}");
    }
}

#[test]
fn half_precision_becomes_f32_exactly() {
    let values = [1.0_f32, -0.333, 65504.0, 6e-8, f32::NEG_INFINITY, 0.0];
    let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let brains: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let ints = 7_i64.to_le_bytes();
    let views = HashMap::from([
        ("half", TensorView::new(Dtype::F16, vec![2, 3], &halves).unwrap()),
        ("brain", TensorView::new(Dtype::BF16, vec![2, 3], &brains).unwrap()),
        ("ints", TensorView::new(Dtype::I64, vec![1], &ints).unwrap()),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();

    let files = TensorFiles::open(dir.path()).unwrap();
    let expected: Vec<f32> = values.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
    assert_eq!(files.read("half", &[2, 3]).unwrap(), expected);
    let expected: Vec<f32> = values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
    assert_eq!(files.read("brain", &[2, 3]).unwrap(), expected);
    assert_eq!(
        problem(dir.path(), files.read("ints", &[1])),
        "DIR/model.safetensors: tensor ints is stored as I64; expected F32, F16 or BF16"
    );
    assert_eq!(
        problem(dir.path(), files.read("half", &[3, 2])),
        "DIR/model.safetensors: tensor half has shape [2, 3]; expected [3, 2]"
    );
    assert_eq!(problem(dir.path(), files.read("other", &[1])), "DIR: holds no tensor other");
}

#[test]
fn shards_read_as_one_set_of_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let index = |map: &[(&str, &str)]| {
        let map: HashMap<_, _> = map.iter().copied().collect();
        let json = serde_json::json!({"metadata": {"total_size": 24}, "weight_map": map});
        std::fs::write(dir.path().join("model.safetensors.index.json"), json.to_string()).unwrap();
    };
    save_small(&dir.path().join(one), &[("a", [1.0, 2.0]), ("b", [3.0, 4.0])]);
    index(&[("a", one), ("b", one), ("c", two)]);
    let start = "DIR/model.safetensors.index.json: ";
    let missing = format!("{start}names the shard {two}, which is not in the directory");
    assert_eq!(open_problem(dir.path()), missing);

    save_small(&dir.path().join(two), &[("c", [5.0, 6.0])]);
    let files = TensorFiles::open(dir.path()).unwrap();
    assert_eq!(files.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(files.read("b", &[2]).unwrap(), [3.0, 4.0]);
    assert_eq!(files.read("c", &[2]).unwrap(), [5.0, 6.0]);

    index(&[("a", one), ("b", two), ("c", two)]);
    let absent = format!("{start}places tensor b in {two}, which does not hold it");
    assert_eq!(open_problem(dir.path()), absent);

    // A stale copy in another shard is not read: the index says where a tensor is.
    save_small(&dir.path().join(two), &[("b", [7.0, 8.0]), ("c", [5.0, 6.0])]);
    assert_eq!(TensorFiles::open(dir.path()).unwrap().read("b", &[2]).unwrap(), [7.0, 8.0]);
    index(&[("a", one), ("b", one), ("c", two)]);
    assert_eq!(TensorFiles::open(dir.path()).unwrap().read("b", &[2]).unwrap(), [3.0, 4.0]);
    index(&[("a", one), ("c", two)]);
    let twice = format!("tensor b is in two files: DIR/{one} and DIR/{two}");
    assert_eq!(open_problem(dir.path()), twice);

    index(&[("a", "../elsewhere.safetensors")]);
    let outside = "weight_map.a is \"../elsewhere.safetensors\"; expected the name of a shard file";
    assert_eq!(open_problem(dir.path()), format!("{start}{outside}"));

    std::fs::write(dir.path().join("model.safetensors.index.json"), "{}").unwrap();
    let empty = "has no object weight_map from tensor names to shard files";
    assert_eq!(open_problem(dir.path()), format!("{start}{empty}"));
}

#[test]
fn a_directory_without_weights_says_what_is_there_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    assert!(open_problem(&gone).starts_with("DIR: no such directory"));
    assert!(open_problem(dir.path()).starts_with("DIR: no weights; expected model.safetensors"));
    std::fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    let text = open_problem(dir.path());
    assert!(text.contains("found pytorch_model.bin but no model.safetensors"), "{text}");
    assert!(text.contains("save_pretrained"), "{text}");
}

#[test]
fn a_damaged_file_is_an_error_that_says_how() {
    let dir = stored(&[("first", [1.0, 2.0]), ("second", [3.0, 4.0])]);
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let text = open_problem(dir.path());
        assert!(text.starts_with("DIR/model.safetensors: "), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    check(&[], "has 0 bytes and is cut short");
    check(&whole[..100], "bytes, but 92 bytes follow: cut short, or no safetensors file");
    check(
        &whole[..whole.len() - 1],
        "is cut short: tensor second ends 16 bytes after the header, but 15 follow it",
    );
    check(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull");
    check(&[whole.clone(), vec![0]].concat(), "has 1 bytes after its last tensor");
    let with_header = |header: &str| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &[0; 8]].concat()
    };
    check(&with_header("[]"), "the header is not the JSON object of a safetensors file");
    let entry = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let twice = format!(r#"{{"a":{entry},"a":{entry}}}"#);
    check(&with_header(&twice), "the header lists tensor a twice");
    let wrong = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
    check(&with_header(wrong), "the header contradicts itself: ");
}

fn read_all(
    files: &TensorFiles,
    wanted: &[ParamSpec],
    rules: &NameRules<'_>,
) -> Result<Vec<Option<Vec<f32>>>, CheckpointError> {
    read_params(files, wanted, rules)?.collect()
}

#[test]
fn the_base_models_prefix_may_be_there_or_not() {
    let wanted = [spec("model.norm.weight", &[2]), spec("lm_head.weight", &[2])];
    let expected = [Some(vec![1.0, 2.0]), Some(vec![3.0, 4.0])];
    for name in ["model.norm.weight", "norm.weight"] {
        let dir = stored(&[(name, [1.0, 2.0]), ("lm_head.weight", [3.0, 4.0])]);
        let files = TensorFiles::open(dir.path()).unwrap();
        assert_eq!(read_all(&files, &wanted, &RULES).unwrap(), expected);
    }
    let dir = stored(&[
        ("model.norm.weight", [1.0, 2.0]),
        ("norm.weight", [1.0, 2.0]),
        ("lm_head.weight", [3.0, 4.0]),
    ]);
    let files = TensorFiles::open(dir.path()).unwrap();
    assert_eq!(
        problem(dir.path(), read_all(&files, &wanted, &RULES)),
        "DIR: holds one parameter twice, as model.norm.weight and as norm.weight"
    );
}

#[test]
fn causal_mask_buffers_are_skipped_and_parameters_never() {
    let wanted = [spec("transformer.h.0.attn.c_attn.bias", &[2])];
    let rules = NameRules { prefix: "transformer.", ..RULES };
    let bias = ("h.0.attn.c_attn.bias", [1.0, 2.0]);
    for buffer in [
        "h.0.attn.bias",
        "transformer.h.0.attn.masked_bias",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "gpt_neox.layers.0.attention.bias",
        "gpt_neox.layers.0.attention.masked_bias",
    ] {
        let dir = stored(&[bias, (buffer, [0.0; 2])]);
        let files = TensorFiles::open(dir.path()).unwrap();
        assert_eq!(read_all(&files, &wanted, &rules).unwrap(), [Some(vec![1.0, 2.0])]);
    }
    for parameter in ["h.0.attn.c_proj.bias", "model.layers.0.self_attn.bias", "bias"] {
        let dir = stored(&[bias, (parameter, [0.0; 2])]);
        let files = TensorFiles::open(dir.path()).unwrap();
        assert_eq!(
            problem(dir.path(), read_all(&files, &wanted, &rules)),
            format!("DIR: 1 tensor is unknown to the model: {parameter}")
        );
    }
}

#[test]
fn a_stored_tied_head_equals_the_embedding_bit_for_bit() {
    let wanted = [spec("model.embed_tokens.weight", &[2])];
    let rules =
        NameRules { tied_head: Some(("lm_head.weight", "model.embed_tokens.weight")), ..RULES };
    let check = |tensors: &[(&str, [f32; 2])], expected: Result<[f32; 2], &str>| {
        let dir = stored(tensors);
        let files = TensorFiles::open(dir.path()).unwrap();
        let params = read_all(&files, &wanted, &rules);
        match expected {
            Ok(values) => assert_eq!(params.unwrap(), [Some(values.to_vec())]),
            Err(expected) => assert!(problem(dir.path(), params).contains(expected)),
        }
    };
    check(&[("embed_tokens.weight", [0.0, 2.0])], Ok([0.0, 2.0]));
    check(&[("embed_tokens.weight", [0.0, 2.0]), ("lm_head.weight", [0.0, 2.0])], Ok([0.0, 2.0]));
    // Some writers keep one name of a shared matrix, and not always the embedding's.
    check(&[("lm_head.weight", [0.0, 2.0])], Ok([0.0, 2.0]));
    // Equal numbers, other bits.
    check(
        &[("embed_tokens.weight", [0.0, 2.0]), ("lm_head.weight", [-0.0, 2.0])],
        Err("DIR: lm_head.weight differs from embed_tokens.weight at element 0 (-0 against 0)"),
    );
}

#[test]
fn missing_and_unknown_tensors_are_named_with_the_closest_name() {
    let dir = stored(&[
        ("model.norm.weigth", [1.0, 2.0]),
        ("model.extra", [1.0, 2.0]),
        ("score.weight", [1.0, 2.0]),
    ]);
    let files = TensorFiles::open(dir.path()).unwrap();
    let wanted = [spec("model.norm.weight", &[2]), spec("score.weight", &[2])];
    assert_eq!(
        problem(dir.path(), read_all(&files, &wanted, &RULES)),
        "DIR: 1 tensor is missing: model.norm.weight (closest name in the file: model.norm.weigth); \
         2 tensors are unknown to the model: model.extra, model.norm.weigth"
    );
}

#[test]
fn optional_tensors_may_be_missing_and_ignored_ones_are_skipped() {
    let dir = stored(&[("model.norm.weight", [1.0, 2.0]), ("lm_head.weight", [3.0, 4.0])]);
    let files = TensorFiles::open(dir.path()).unwrap();
    let wanted = [spec("score.weight", &[1, 2]), spec("model.norm.weight", &[2])];
    let rules = NameRules { optional: &["score.weight"], ignored: &["lm_head.weight"], ..RULES };
    assert_eq!(read_all(&files, &wanted, &rules).unwrap(), [None, Some(vec![1.0, 2.0])]);
}

#[test]
fn a_misshapen_parameter_is_named_with_both_shapes() {
    let files = TensorFiles::open(&fixture("llama")).unwrap();
    let text = problem(&fixture("llama"), files.read("model.embed_tokens.weight", &[500, 64]));
    assert_eq!(
        text,
        "DIR/model.safetensors: tensor model.embed_tokens.weight has shape [384, 64]; expected [500, 64]"
    );
}

#[test]
fn a_model_above_the_size_of_a_file_is_saved_in_shards_with_their_index() {
    use hearken_model::checkpoint::{NumberFormat, WeightFormat};
    use hearken_model::{LoadOptions, Model};
    use hearken_tensor::Cpu;

    let dir = tempfile::tempdir().unwrap();
    let load = |dir: &Path| Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap().0;
    let model = load(&fixture("llama"));
    let weights = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.contains("safetensors"));
        names.sort();
        names
    };
    model.save(dir.path()).unwrap();
    assert_eq!(weights(), ["model.safetensors"]);
    // The embedding takes 98304 bytes, more than a file may: it has one for itself.
    let format = WeightFormat { stored: NumberFormat::F32, shard_bytes: 90_000 };
    model.save_as(dir.path(), format).unwrap();
    let found = weights();
    let count = found.len() - 1;
    assert!(4 < count, "{found:?}");
    assert_eq!(found[0], format!("model-00001-of-{count:05}.safetensors"));
    assert_eq!(found[count], "model.safetensors.index.json");
    let index = std::fs::read_to_string(dir.path().join(&found[count])).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let (parameters, _) = (model.params().len(), 0);
    assert_eq!(index["weight_map"].as_object().unwrap().len(), parameters);
    let elements: usize = (0..parameters).map(|index| model.values(index).len()).sum();
    assert_eq!(index["metadata"]["total_size"], 4 * elements);
    for name in &found[1..count] {
        let size = std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert!(size < 90_000 + 4_000, "{name}: {size}");
    }
    let read = load(dir.path());
    assert!((0..parameters).all(|index| read.values(index) == model.values(index)));
    // One file again, which no index of old stands beside.
    model.save(dir.path()).unwrap();
    assert!(!weights().contains(&"model.safetensors.index.json".to_owned()));
}

#[test]
fn a_model_is_saved_in_the_format_that_is_asked_for() {
    use hearken_model::checkpoint::NumberFormat;
    use hearken_model::{LoadOptions, Model};
    use hearken_tensor::Cpu;

    let dir = tempfile::tempdir().unwrap();
    let load = |dir: &Path| Model::load(Cpu::new(), dir, &LoadOptions::language_model()).unwrap().0;
    let mut model = load(&fixture("llama"));
    for (stored, name) in [(NumberFormat::Bf16, "bfloat16"), (NumberFormat::F16, "float16")] {
        model.save_as(dir.path(), stored).unwrap();
        assert_eq!(TensorFiles::open(dir.path()).unwrap().stored(), stored);
        let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(config.contains(&format!("\"dtype\": \"{name}\"")), "{config}");
        let read = load(dir.path());
        for index in 0..model.params().len() {
            let rounded = |value: f32| match stored {
                NumberFormat::Bf16 => bf16::from_f32(value).to_f32(),
                _ => f16::from_f32(value).to_f32(),
            };
            let expected: Vec<f32> = model.values(index).into_iter().map(rounded).collect();
            assert_eq!(read.values(index), expected);
        }
    }
    // A value that f16 has no room for would become infinite.
    let mut values = model.values(0);
    values[3] = 1e6;
    model.params_mut().set_values(0, &values);
    let no_room = model.save_as(dir.path(), NumberFormat::F16).unwrap().unwrap();
    assert!((no_room.value - 1e6).abs() < 1.0);
    assert_eq!(TensorFiles::open(dir.path()).unwrap().stored(), NumberFormat::F32);
    assert_eq!(load(dir.path()).values(0), values);
}
