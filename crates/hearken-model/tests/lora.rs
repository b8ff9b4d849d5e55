//! Adapters: against PEFT's own numbers, against finite differences, merged and unmerged, off and on.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../hearken-tensor/tests/support/families.rs"]
mod families;
mod support;

use std::path::{Path, PathBuf};

use hearken_model::{
    Adapter, Batch, Gradients, Keep, LoadOptions, LoraConfig, Masters, Model, OutputGrads, Targets,
};
use hearken_tensor::device::{HeadOptions, Int8Scales, Precision, PredictionGrad};
use hearken_tensor::{Cpu, Device, Reference};
use support::{FAMILIES, fixture, relative_difference};

const TOKENS: [u32; 9] = [5, 17, 300, 42, 99, 381, 7, 7, 120];

fn load<D: Device>(device: D, family: &str) -> Model<D> {
    Model::load(device, &fixture(family), &LoadOptions::language_model()).unwrap().0
}

fn all_linear(rank: usize) -> LoraConfig {
    LoraConfig::new(rank, 6.0, Targets::AllLinear)
}

/// Gives every B values, so that the adapter does something.
fn fill<D: Device>(model: &mut Model<D>) {
    for index in 0..model.params().len() {
        if model.params()[index].name.ends_with("lora_B.weight") {
            let len = model.params()[index].len();
            let value = |i: usize| ((i * 37 + index * 11) % 23) as f32 / 230.0 - 0.05;
            model.params_mut().set_values(index, &(0..len).map(value).collect::<Vec<_>>());
        }
    }
}

fn adapted<D: Device>(device: D, family: &str, config: &LoraConfig) -> Model<D> {
    let mut model = load(device, family);
    model.add_adapter(config, Path::new("some/base"), 3).unwrap();
    fill(&mut model);
    model
}

fn batch(dropout: Option<u64>) -> Batch {
    let mut batch = Batch::new();
    let root = batch.push(None, &TOKENS[..4]);
    batch.push(Some(root), &TOKENS[4..]);
    batch.push(Some(root), &[11, 12]);
    Batch { dropout, ..batch }
}

fn logits<D: Device>(model: &Model<D>) -> Vec<f32> {
    let batch = batch(None);
    let rows: Vec<usize> = (0..batch.rows()).collect();
    model.logits(&model.forward(&batch, Keep::Nothing), &rows)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn peft(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft").join(name)
}

#[test]
fn kernels_of_every_family_pass_these_tests() {
    families::pass_under_every_family(&[]);
}

/// The model that an adapter was made for, and how it is loaded.
fn base_of(name: &str) -> (PathBuf, LoadOptions) {
    match name {
        "score" => (fixture("llama"), LoadOptions::scorer()),
        family => (fixture(family), LoadOptions::language_model()),
    }
}

/// The logits of a golden file and the tokens that they are for.
fn golden(dir: &Path) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(dir.join("golden.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| {
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4).map(|word| word.try_into().unwrap()).collect::<Vec<[u8; 4]>>()
    };
    let ids = words("input_ids").into_iter().map(u32::from_le_bytes).collect();
    (ids, words("logits").into_iter().map(f32::from_le_bytes).collect())
}

#[test]
fn what_peft_saved_computes_what_peft_computes() {
    let names = [
        "llama",
        "gpt2",
        "gpt_neox",
        "qwen2",
        "qwen3",
        "mistral",
        "phi3",
        "olmo2",
        "smollm3",
        "gemma3_text",
        "score",
    ];
    for name in names {
        let dir = peft(name);
        let (ids, expected) = golden(&dir);
        let adapter = Adapter::read(&dir).unwrap();
        let (base, options) = base_of(name);
        let mut batch = Batch::new();
        batch.push(None, &ids);
        let outputs = |model: &Model<Cpu>| {
            let pass = model.forward(&batch, Keep::Nothing);
            match name {
                "score" => model.scalars(&pass, &[ids.len() - 1]),
                _ => model.logits(&pass, &(0..ids.len()).collect::<Vec<_>>()),
            }
        };
        let (merged, _) =
            Model::load_merged(families::cpu(), &base, &options, Some(&adapter)).unwrap();
        let (apart, _) = Model::load_adapted(families::cpu(), &base, &options, &adapter).unwrap();
        // adapter_config.json names the base.
        let (found, _) = Model::load(families::cpu(), &dir, &options).unwrap();
        for (model, how) in [(&merged, "merged"), (&apart, "apart"), (&found, "by itself")] {
            let difference = largest_difference(&outputs(model), &expected);
            assert!(difference < 1e-5, "{name}, {how}: {difference:e}");
        }
        assert!(merged.adapter().is_none() && apart.adapter().is_some());
    }
}

#[test]
fn what_is_saved_is_loaded_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    for name in
        ["llama", "gpt2", "gpt_neox", "qwen2", "qwen3", "phi3", "olmo2", "gemma3_text", "score"]
    {
        let (base, options) = base_of(name);
        let load = |dir: &Path| {
            let adapter = Adapter::read(dir).unwrap();
            Model::load_adapted(families::cpu(), &base, &options, &adapter).unwrap().0
        };
        let (saved, dir) = (load(&peft(name)), dir.path().join(name));
        saved.save_adapter(&dir).unwrap();
        let again = load(&dir);
        assert_eq!(Adapter::read(&dir).unwrap().base(), base.to_str());
        assert_eq!(saved.params().len(), again.params().len());
        for index in 0..saved.params().len() {
            assert_eq!(saved.params()[index].name, again.params()[index].name);
            assert_eq!(saved.values(index), again.values(index));
        }
        assert_eq!(Adapter::read(&dir).unwrap().has_scalar_head(), name == "score");
    }
}

#[test]
fn off_or_new_an_adapter_leaves_the_model_what_it_was_bit_for_bit() {
    for family in FAMILIES {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut model = load(families::cpu(), family);
            model.set_precision(precision);
            let before = logits(&model);
            model.add_adapter(&all_linear(4), Path::new("some/base"), 3).unwrap();
            assert_eq!(logits(&model), before, "{family}, new");
            fill(&mut model);
            assert_ne!(logits(&model), before, "{family}, on");
            let base = model.without_adapter();
            assert_eq!(logits(&base), before, "{family}, off");
            // One copy of the weights serves both.
            for index in 0..base.params().len() {
                let at = |model: &Model<Cpu>| model.params()[index].values.as_ptr();
                assert_eq!(at(&base), at(&model));
            }
            assert_eq!(base.parameter_counts().0, 0);
        }
    }
}

#[test]
fn merged_weights_compute_what_weights_and_adapter_do() {
    for family in FAMILIES {
        for rank in [1, 4, 17] {
            let config = LoraConfig { rslora: rank == 17, ..all_linear(rank) };
            let model = adapted(families::cpu(), family, &config);
            let apart = logits(&model);
            let before = model.values(0);
            for masters in [Masters::Keep, Masters::Drop] {
                let difference = largest_difference(&logits(&model.merged(masters)), &apart);
                assert!(difference < 1e-5, "{family}, rank {rank}: {difference:e}");
            }
            assert_eq!((logits(&model), model.values(0)), (apart, before), "it is left alone");
        }
    }
}

#[test]
fn a_base_in_bfloat16_needs_no_masters() {
    let mut model = load(families::cpu(), "llama");
    model.set_precision(Precision::Bf16);
    model.add_adapter(&all_linear(4), Path::new("some/base"), 3).unwrap();
    fill(&mut model);
    let (before, held) = (logits(&model), model.master_bytes());
    let gradients = |model: &Model<Cpu>| {
        let gradients = gradients(model, &batch(None), Keep::Activations);
        adapter_gradients(model, &gradients)
    };
    let (expected, merged) = (gradients(&model), logits(&model.merged(Masters::Keep)));
    model.drop_frozen_masters();
    assert!(model.master_bytes() < held / 2);
    assert_eq!(logits(&model), before);
    assert_eq!(gradients(&model), expected);
    // Of rounded weights instead of the masters.
    let difference = relative_difference(&logits(&model.merged(Masters::Drop)), &merged);
    assert!(difference < 1e-2, "{difference:e}");
    assert_eq!(logits(&model.without_adapter()), logits(&load_bf16()));
}

/// The model whose weights are what the eight bits stand for computes nearly the same, and so does its gradient:
/// products round their rows, too.
#[test]
fn a_base_in_eight_bits_computes_and_teaches_nearly_what_its_values_do() {
    for scales in [Int8Scales::PerOutput, Int8Scales::PerGroup] {
        for family in FAMILIES {
            let plain = load(families::cpu(), family);
            let mut model = load(families::cpu(), family);
            model.hold(Masters::Int8(scales));
            assert!(model.master_bytes() < plain.master_bytes());
            model.add_adapter(&all_linear(4), Path::new("some/base"), 3).unwrap();
            // B is 0, so that the merged weights are those of the base.
            let mut values = model.merged(Masters::Keep);
            let distance = relative_difference(&logits(&values), &logits(&plain));
            assert!(0.0 < distance && distance < 0.1, "{family}: {distance:e}");
            values.add_adapter(&all_linear(4), Path::new("some/base"), 3).unwrap();
            for model in [&mut model, &mut values] {
                fill(model);
            }
            let difference = relative_difference(&logits(&model), &logits(&values));
            assert!(0.0 < difference && difference < 0.1, "{family}: {difference:e}");
            let gradients = |model: &Model<Cpu>| {
                let gradients = gradients(model, &batch(None), Keep::Activations);
                adapter_gradients(model, &gradients)
            };
            for ((name, found), (_, expected)) in gradients(&model).iter().zip(&gradients(&values))
            {
                let difference = relative_difference(found, expected);
                assert!(difference < 0.2, "{family}, {name}: {difference:e}");
            }
        }
    }
}

/// Rounding twice would not give what rounding once does.
#[test]
fn an_adapter_is_merged_before_weights_are_rounded_to_eight_bits() {
    let adapter = Adapter::read(&peft("llama")).unwrap();
    let load = |masters| {
        let options = LoadOptions { masters, ..LoadOptions::language_model() };
        let dir = fixture("llama");
        Model::load_merged(families::cpu(), &dir, &options, Some(&adapter)).unwrap().0
    };
    let int8 = Masters::Int8(Int8Scales::PerOutput);
    let mut expected = load(Masters::Keep);
    expected.hold(int8);
    assert_eq!(logits(&load(int8)), logits(&expected));
}

fn load_bf16() -> Model<Cpu> {
    let mut base = load(families::cpu(), "llama");
    base.set_precision(Precision::Bf16);
    base
}

/// A loss of the kind that trainers have, and its gradients.
fn gradients<D: Device>(model: &Model<D>, batch: &Batch, keep: Keep) -> Gradients<D> {
    let predictions = Model::<D>::next_token_predictions(&TOKENS, 0);
    let grads: Vec<PredictionGrad> = (0..predictions.len())
        .map(|i| PredictionGrad { logprob: 0.1 * i as f32 - 0.3, entropy: 0.0 })
        .collect();
    let mut gradients = model.gradients();
    let output = OutputGrads {
        predictions: &predictions,
        prediction_grads: &grads,
        head: HeadOptions::default(),
        ..OutputGrads::default()
    };
    model.backward(model.forward(batch, keep), &output, &mut gradients);
    gradients
}

fn loss<D: Device>(model: &Model<D>, batch: &Batch) -> f64 {
    let predictions = Model::<D>::next_token_predictions(&TOKENS, 0);
    let pass = model.forward(batch, Keep::Nothing);
    let output = model.logprobs(&pass, &predictions, HeadOptions::default());
    let weight = |i: usize| f64::from(0.1 * i as f32 - 0.3);
    output.logprobs.iter().enumerate().map(|(i, logprob)| weight(i) * f64::from(*logprob)).sum()
}

/// The gradients of the adapter's parameters, by name.
fn adapter_gradients<D: Device>(
    model: &Model<D>,
    gradients: &Gradients<D>,
) -> Vec<(String, Vec<f32>)> {
    let of = |index: usize| {
        let param = &model.params()[index];
        let gradient = support::download(model, gradients.get(index).unwrap(), param.len());
        (param.name.clone(), gradient)
    };
    (0..model.params().len()).filter(|&index| model.is_adapter(index)).map(of).collect()
}

#[test]
fn gradients_are_those_of_finite_differences_with_and_without_dropout() {
    for family in ["llama", "gpt2", "gpt_neox"] {
        for rate in [0.0, 0.3] {
            let config = LoraConfig { dropout: rate, ..all_linear(2) };
            let model = adapted(Reference, family, &config);
            let batch = batch(Some(5));
            let found = gradients(&model, &batch, Keep::Activations);
            for index in (0..model.params().len()).step_by(3) {
                if !model.is_adapter(index) {
                    assert!(found.get(index).is_none(), "the base is frozen");
                    continue;
                }
                let param = &model.params()[index];
                let gradient = support::download(&model, found.get(index).unwrap(), param.len());
                let (at, step) = (param.len() / 3, 2e-3_f32);
                let shifted = |by: f32| {
                    let mut model = model.duplicate();
                    let mut values = model.values(index);
                    values[at] += by;
                    model.params_mut().set_values(index, &values);
                    loss(&model, &batch)
                };
                let (up, down) = (shifted(step), shifted(-step));
                let values = model.values(index);
                let width = f64::from(values[at] + step) - f64::from(values[at] - step);
                let expected = (up - down) / width;
                let scale = gradient.iter().fold(1e-3_f32, |max, g| max.max(g.abs()));
                let error = (f64::from(gradient[at]) - expected).abs() / f64::from(scale);
                assert!(error < 2e-3, "{family}, {rate}, {}: {error:e}", param.name);
            }
        }
    }
}

#[test]
fn the_processor_computes_the_gradients_of_the_slow_device() {
    for family in FAMILIES {
        for rate in [0.0, 0.25] {
            let config = LoraConfig { dropout: rate, rslora: true, ..all_linear(5) };
            let (cpu, slow) =
                (adapted(families::cpu(), family, &config), adapted(Reference, family, &config));
            let batch = batch(Some(9));
            let expected = gradients(&slow, &batch, Keep::Activations);
            let expected = adapter_gradients(&slow, &expected);
            for keep in [Keep::Activations, Keep::BlockInputs] {
                let found = adapter_gradients(&cpu, &gradients(&cpu, &batch, keep));
                for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                    let difference = relative_difference(found, expected);
                    assert!(difference < 1e-5, "{family}, {rate}, {name}: {difference:e}");
                }
            }
        }
    }
}

/// Dropout follows from the seed and from what a row continues, not from what else is in the batch.
#[test]
fn dropout_is_the_same_however_sequences_are_packed() {
    let config = LoraConfig { dropout: 0.5, ..all_linear(4) };
    let model = adapted(families::cpu(), "llama", &config);
    let logits =
        |batch: &Batch, row: usize| model.logits(&model.forward(batch, Keep::Nothing), &[row]);
    let tree = batch(Some(5));
    let mut alone = Batch::new();
    alone.push(None, &[TOKENS[..4].to_vec(), vec![11, 12]].concat());
    alone.dropout = Some(5);
    assert!(largest_difference(&logits(&tree, 10), &logits(&alone, 5)) < 1e-5);
    let difference = |dropout| {
        let other = Batch { dropout, ..alone.clone() };
        largest_difference(&logits(&other, 5), &logits(&alone, 5))
    };
    assert!(difference(Some(6)) > 1e-3);
    assert!(difference(None) > 1e-3);
}

#[test]
fn only_some_layers_and_maps_are_adapted_and_the_others_stay() {
    let targets = Targets::Pattern(r".*layers\.1\..*(q_proj|down_proj)".to_owned());
    let model = adapted(families::cpu(), "llama", &LoraConfig { targets, ..all_linear(4) });
    let names: Vec<&str> = model.params().iter().map(|param| param.name.as_str()).collect();
    let adapted: Vec<&str> = names.iter().copied().filter(|name| name.contains("lora_A")).collect();
    assert_eq!(
        adapted,
        [
            "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight",
        ]
    );
    let (trained, all) = model.parameter_counts();
    assert!(trained < all / 20);
    // Blocks below the adapter's are not gone through; what remains is right.
    let slow = adapted_slow();
    let expected = adapter_gradients(&slow, &gradients(&slow, &batch(None), Keep::Activations));
    let found = adapter_gradients(&model, &gradients(&model, &batch(None), Keep::BlockInputs));
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(relative_difference(found, expected) < 1e-5, "{name}");
    }
}

fn adapted_slow() -> Model<Reference> {
    let targets = Targets::Pattern(r".*layers\.1\..*(q_proj|down_proj)".to_owned());
    adapted(Reference, "llama", &LoraConfig { targets, ..all_linear(4) })
}

#[test]
fn a_new_adapter_follows_from_its_seed_alone() {
    let factors = |seed: u64| {
        let mut model = load(families::cpu(), "gpt2");
        model.add_adapter(&all_linear(4), Path::new("some/base"), seed).unwrap();
        let last = model.params().len() - 2;
        assert!(model.params()[last].name.ends_with("mlp.c_proj.lora_A.weight"));
        (model.values(last), model.values(last + 1))
    };
    let (a, b) = factors(3);
    assert_eq!((a.clone(), b.clone()), factors(3));
    assert_ne!(a, factors(4).0);
    assert!(b.iter().all(|&b| b == 0.0));
    // A of the down projection has 256 inputs.
    let (bound, largest) = (1.0 / 16.0, a.iter().fold(0.0_f32, |max, a| max.max(a.abs())));
    assert!(largest <= bound && 0.95 * bound < largest, "{largest}");
}

/// Copies an adapter, with another configuration or other tensors.
fn changed(name: &str, change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (peft(name), dir.path());
    std::fs::copy(from.join("adapter_model.safetensors"), to.join("adapter_model.safetensors"))
        .unwrap();
    let text = std::fs::read_to_string(from.join("adapter_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    change(&mut config);
    std::fs::write(to.join("adapter_config.json"), config.to_string()).unwrap();
    dir
}

fn error(adapter: &Path, family: &str) -> String {
    let adapter = match Adapter::read(adapter) {
        Ok(adapter) => adapter,
        Err(error) => return error.to_string(),
    };
    let options = LoadOptions::language_model();
    Model::load_merged(families::cpu(), &fixture(family), &options, Some(&adapter))
        .unwrap_err()
        .to_string()
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn an_adapter_of_another_base_is_refused_with_tensor_shapes_and_files() {
    // Qwen3's heads are wider than Qwen2's.
    assert_says(
        &error(&peft("qwen3"), "qwen2"),
        &[
            "adapter_model.safetensors: tensor base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight",
            "has shape [96, 2]; expected [64, 2]",
            "model.layers.1.self_attn.q_proj.weight of ",
            "hf/qwen2 has shape [64, 64]",
        ],
    );
    assert_says(
        &error(&peft("llama"), "gpt2"),
        &[
            "adapter_config.json: target_modules: ",
            "names no linear map",
            "it has c_attn, c_proj, c_fc",
        ],
    );
    let fewer = changed("llama", |config| {
        config["target_modules"] = serde_json::json!(["q_proj"]);
    });
    assert_says(
        &error(fewer.path(), "llama"),
        &["adapter_model.safetensors: tensor ", " more: unknown to the model", "hf/llama"],
    );
    let more = changed("qwen2", |config| {
        config["target_modules"] = serde_json::json!(["q_proj", "k_proj", "down_proj", "o_proj"]);
    });
    assert_says(
        &error(more.path(), "qwen2"),
        &["layers.0.self_attn.o_proj.lora_A.weight and 3 more: missing"],
    );
    let ranks = changed("qwen2", |config| config["rank_pattern"] = serde_json::json!({}));
    assert_says(&error(ranks.path(), "qwen2"), &["has shape [2, 64]; expected [4, 64]"]);
    assert_says(&error(&peft("score"), "llama"), &["base_model.model.score.weight: unknown"]);
}

#[test]
fn an_adapter_without_its_base_says_where_it_was_looked_for() {
    let moved = changed("llama", |_| ());
    let options = LoadOptions::language_model();
    let error = Model::load(families::cpu(), moved.path(), &options).unwrap_err().to_string();
    let says = "adapter_config.json: key `base_model_name_or_path` is \"../../hf/llama\"; expected the folder";
    assert_says(&error, &[says]);
}

#[test]
fn what_is_no_adapter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_says(&error(dir.path(), "llama"), &["no adapter; expected a PEFT directory"]);
    let dora = changed("llama", |config| config["use_dora"] = true.into());
    assert_says(&error(dora.path(), "llama"), &["adapter_config.json: key `use_dora` is true"]);
    let cut = changed("llama", |_| ());
    let file = cut.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_says(&error(cut.path(), "llama"), &["adapter_model.safetensors: is cut short"]);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(cut.path().join("adapter_model.bin"), "").unwrap();
    assert_says(&error(cut.path(), "llama"), &["pickled weights are not read"]);
    std::fs::write(cut.path().join("adapter_config.json"), "{").unwrap();
    assert_says(&error(cut.path(), "llama"), &["adapter_config.json: not a JSON object"]);
}

#[test]
fn a_model_with_an_adapter_beside_it_holds_the_weights_once() {
    let (place, options) = base_of("llama");
    let base = Model::load(families::cpu(), &place, &options).unwrap().0;
    let adapter = Adapter::read(&peft("llama")).unwrap();
    let adapted = base.with_adapter(&adapter, &place).unwrap();
    let expected = Model::load_adapted(families::cpu(), &place, &options, &adapter).unwrap().0;
    assert_eq!(logits(&adapted), logits(&expected));
    assert_ne!(logits(&adapted), logits(&base));
    let place_of = |model: &Model<Cpu>, index: usize| model.params()[index].values.as_ptr();
    for index in 0..base.params().len() {
        assert_eq!(place_of(&adapted, index), place_of(&base, index));
    }
    let factors = adapted.params().len() - base.params().len();
    assert_eq!(factors, expected.params().len() - base.params().len());
    assert_eq!(adapted.parameter_counts().0, 0);
}
