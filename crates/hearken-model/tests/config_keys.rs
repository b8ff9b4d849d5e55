//! Every key of config.json is read, known to change nothing, or refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not tests to clippy")]

mod support;

use std::path::Path;

use hearken_model::ModelConfig;
use hearken_model::config::{EmbeddingScale, Logits, Mlp, Positions, RotaryConfig};
use hearken_tensor::device::{Gate, Gelu};
use serde_json::{Map, Value, json};

fn raw(family: &str) -> Map<String, Value> {
    let text = std::fs::read_to_string(support::fixture(family).join("config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn with(family: &str, key: &str, value: Value) -> Result<ModelConfig, String> {
    let mut raw = raw(family);
    raw.insert(key.to_owned(), value);
    ModelConfig::from_json(Path::new("config.json"), &raw).map_err(|error| error.to_string())
}

/// Refused by file, key and value.
fn refused(family: &str, key: &str, value: &Value) {
    let error = with(family, key, value.clone()).expect_err(key);
    assert!(error.starts_with("config.json: key `"), "{error}");
    assert!(error.contains(key) && error.contains(" is "), "{family}: {error}");
}

#[test]
fn keys_that_change_what_is_computed_are_refused() {
    for (family, key, value) in [
        ("llama", "partial_rotary_factor", json!(0.5)),
        ("qwen2", "partial_rotary_factor", json!(0.5)),
        ("qwen3", "partial_rotary_factor", json!(0.25)),
        ("mistral", "partial_rotary_factor", json!(0.5)),
        ("gpt_neox", "partial_rotary_factor", json!(0.5)),
        ("llama", "rotary_pct", json!(0.5)),
        ("llama", "quantization_config", json!({"bits": 4})),
        ("llama", "sliding_window", json!(16)),
        ("llama", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("llama", "rope_interleaved", json!(true)),
        ("llama", "hidden_act", json!("gelu")),
        ("llama", "embedding_multiplier", json!(12.0)),
        ("llama", "logit_scale", json!(0.0625)),
        ("llama", "final_logit_softcapping", json!(30.0)),
        ("llama", "no_rope_layers", json!([1, 0])),
        ("llama", "num_local_experts", json!(8)),
        ("llama", "pruned_heads", json!({"0": [1]})),
        ("llama", "some_new_key", json!("on")),
        // Missing, these are on: Transformers attends to later tokens where they are off.
        ("llama", "is_causal", json!(false)),
        ("gemma3_text", "is_causal", json!(false)),
        ("gpt2", "causal", json!(false)),
        ("llama", "rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
        ("mistral", "attention_bias", json!(true)),
        ("mistral", "use_sliding_window", json!(false)),
        ("mistral", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("olmo2", "partial_rotary_factor", json!(0.5)),
        ("smollm3", "partial_rotary_factor", json!(0.5)),
        ("granite", "partial_rotary_factor", json!(0.5)),
        ("gemma3_text", "partial_rotary_factor", json!(0.5)),
        ("granite", "residual_multiplier", json!(0.0)),
        ("granite", "logits_scaling", json!("eight")),
        ("granite", "sliding_window", json!(16)),
        ("granite", "final_logit_softcapping", json!(30.0)),
        ("gemma", "sliding_window", json!(16)),
        ("gemma", "final_logit_softcapping", json!(30.0)),
        ("gemma", "hidden_activation", json!("gelu")),
        ("gemma", "hidden_act", json!("relu")),
        ("gemma2", "attn_logit_softcapping", json!(0)),
        ("gemma2", "final_logit_softcapping", json!(-30.0)),
        ("gemma2", "sliding_window", json!(null)),
        ("gemma2", "sliding_window_size", json!(17)),
        ("gemma2", "layer_types", json!(["full_attention"])),
        ("gemma2", "hidden_act", json!("silu")),
        ("gemma2", "query_pre_attn_scalar", json!(0)),
        ("gemma2", "use_bidirectional_attention", json!(true)),
        ("gemma2", "rope_local_base_freq", json!(10000.0)),
        ("gemma3_text", "attn_logit_softcapping", json!(50.0)),
        ("gemma3_text", "use_bidirectional_attention", json!(true)),
        ("gemma3_text", "rope_parameters", json!({"rope_type": "default", "rope_theta": 5e5})),
        ("gemma3_text", "rope_scaling", json!({"rope_type": "linear", "factor": 8.0})),
        ("olmo3", "rope_parameters", json!({"rope_type": "linear", "factor": 2.0})),
        ("olmo3", "sliding_window", json!(null)),
        ("gpt2", "add_cross_attention", json!(true)),
        ("gpt2", "activation_function", json!("relu")),
        ("gpt_neox", "rotary_pct", json!(0.1)),
    ] {
        // Where rotary parameters say another share, they decide, as in Transformers.
        if (family, key) != ("gpt_neox", "rotary_pct") {
            refused(family, key, &value);
        }
    }
}

#[test]
fn rotary_parameters_that_nothing_reads_are_refused() {
    let parameters = |more: Value| {
        let mut all = json!({"rope_theta": 10000.0, "rope_type": "default"});
        let all_keys = all.as_object_mut().unwrap();
        all_keys.extend(more.as_object().unwrap().clone());
        all
    };
    for more in [
        json!({"partial_rotary_factor": 0.5}),
        json!({"mrope_section": [1, 2]}),
        json!({"factor": 2.0}),
        json!({"rope_type": "ntk", "factor": 4.0}),
        json!({"rope_type": "yarn", "factor": 4.0, "beta": 1.0}),
        json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
        json!({"rope_type": "linear", "factor": 2.0, "attention_factor": 0.7}),
    ] {
        let error = with("llama", "rope_parameters", parameters(more)).unwrap_err();
        assert!(error.starts_with("config.json: key `"), "{error}");
    }
    for more in [json!({"factor": 1.0}), json!({"partial_rotary_factor": 1.0}), json!({"x": null})]
    {
        with("llama", "rope_parameters", parameters(more)).unwrap();
    }
}

/// What Transformers 5.23's `ROPE_INIT_FUNCTIONS` give for heads of 16.
#[test]
fn frequencies_of_every_way_to_stretch_are_those_of_transformers() {
    let check = |family: &str, parameters: Value, expected: [f32; 8], factor: f64| {
        let original = parameters.get("original_max_position_embeddings").cloned();
        let mut more = json!({"rope_parameters": parameters});
        if family == "phi3" {
            // Transformers reads it here, of this family.
            more["original_max_position_embeddings"] = json!(original);
        }
        let config = read(family, &[], &more).unwrap();
        let Positions::Rotary(rotary) = &config.positions else { panic!("{family}") };
        for (found, expected) in rotary.frequencies().iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6 * expected, "{rotary:?}: {found} {expected}");
        }
        assert!((rotary.attention_factor() - factor).abs() < 1e-12, "{rotary:?}");
        config.max_positions
    };
    let yarn = |more: Value| {
        let mut all = json!({
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
            "original_max_position_embeddings": 64,
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let low = [0.0025, 0.000_790_569_47, 0.00025, 7.905_695e-5];
    let with_low = |high: [f32; 4]| {
        let mut all = [0.0; 8];
        all[..4].copy_from_slice(&high);
        all[4..].copy_from_slice(&low);
        all
    };
    let found = yarn(json!({"beta_fast": 16, "beta_slow": 2, "truncate": false}));
    let expected = with_low([1.0, 0.148_490_25, 0.025, 0.007_905_695]);
    check("llama", found, expected, 1.138_629_436_111_989);
    let found = yarn(json!({"mscale": 1.0, "mscale_all_dim": 0.7}));
    let expected = with_low([1.0, 0.237_170_82, 0.05, 0.007_905_695]);
    check("llama", found, expected, 1.037_910_019_586_779_9);

    let short = [1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 4.0];
    let longrope = json!({
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32,
        "short_factor": short, "long_factor": [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
    });
    let expected = [
        1.0,
        0.287_479_76,
        0.083_333_336,
        0.024_325_214,
        0.006_666_667,
        0.001_581_138_9,
        0.000_333_333_33,
        7.905_695e-5,
    ];
    // 256 positions of 32: √(1 + ln 8 / ln 32). The divisors hold for the first 32 alone.
    let positions = check("phi3", longrope, expected, (1.0_f64 + 0.6).sqrt());
    assert_eq!(positions, 32);

    let dynamic = json!({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0});
    let expected =
        [1.0, 0.316_227_76, 0.1, 0.031_622_78, 0.01, 0.003_162_277_8, 0.001, 0.000_316_227_8];
    assert_eq!(check("llama", dynamic, expected, 1.0), 256);
}

#[test]
fn what_other_tools_write_to_say_none_is_understood() {
    let plain =
        |family: &str| ModelConfig::from_json(Path::new("config.json"), &raw(family)).unwrap();
    let same = |family: &str, key: &str, value: Value| {
        let found = with(family, key, value).unwrap();
        assert_eq!(ModelConfig { raw: raw(family), ..found }, plain(family), "{family}: {key}");
    };
    for value in
        [json!(null), json!(false), json!({}), json!([]), json!(""), json!("none"), json!(0)]
    {
        for family in support::FAMILIES {
            same(family, "quantization_config", value.clone());
            same(family, "some_new_key", value.clone());
        }
    }
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        same(family, "partial_rotary_factor", json!(1.0));
        same(family, "partial_rotary_factor", json!(null));
        same(family, "rope_scaling", json!(null));
        same(family, "is_causal", json!(true));
        same(family, "hidden_act", json!("swish"));
    }
    for value in [json!(null), json!(-1), json!(0), json!(false)] {
        same("llama", "sliding_window", value.clone());
        same("qwen2", "sliding_window", value.clone());
        let found = with("mistral", "sliding_window", value).unwrap();
        assert!(found.windows.iter().all(Option::is_none));
    }
    same("llama", "layer_types", json!(["full_attention", "full_attention"]));
    same("llama", "eos_token_id", json!([0]));
    same("gpt2", "n_inner", json!(256));
    assert_eq!(with("llama", "pad_token_id", json!(-1)).unwrap().pad, None);
}

/// What published models of these families have beside what is read.
#[test]
fn keys_of_published_models_are_known() {
    for (family, keys) in [
        (
            "llama",
            json!({
                "_name_or_path": "x/y", "auto_map": {"AutoConfig": "c.C"}, "is_llama_config": true,
                "max_sequence_length": 2048, "mlp_bias": false, "pretraining_tp": 2,
                "rope_interleaved": false, "torch_dtype": "bfloat16", "unsloth_version": "2025.1",
                "transformers.js_config": {"dtype": {"fp16": 1}}, "use_sliding_window": false,
                "sliding_window": 4096, "max_window_layers": 28,
            }),
        ),
        ("qwen2", json!({"use_mrope": false, "sliding_window": 131_072, "max_window_layers": 21})),
        ("qwen3", json!({"attention_bias": false, "sliding_window": null})),
        (
            "gemma2",
            json!({
                "cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh",
                "sliding_window_size": 16, "torch_dtype": "bfloat16",
            }),
        ),
        ("gemma", json!({"hidden_activation": null, "hidden_act": "gelu"})),
        ("gemma3_text", json!({"cache_implementation": "hybrid", "sliding_window_pattern": 6})),
        ("granite", json!({"rope_scaling": null, "mlp_bias": false})),
        (
            "gpt2",
            json!({
                "n_ctx": 1024, "_num_labels": 1, "output_past": true, "predict_special_tokens": true,
                "n_special": 0, "reorder_and_upcast_attn": true, "summary_type": "last",
                "task_specific_params": {"text-generation": {"do_sample": true}},
            }),
        ),
        (
            "gpt_neox",
            json!({
                "attention_probs_dropout_prob": 0.1, "rotary_emb_base": 10_000, "rotary_pct": 0.25,
                "num_steps": "global_step1", "is_decoder": true,
            }),
        ),
    ] {
        let mut all = raw(family);
        all.extend(keys.as_object().unwrap().clone());
        let read = ModelConfig::from_json(Path::new("config.json"), &all);
        read.unwrap_or_else(|error| panic!("{family}: {error}"));
    }
}

/// A window that is on and has no length has Transformers' default length.
#[test]
fn a_window_without_a_length_has_the_default_one() {
    let mut raw = raw("qwen2");
    raw.remove("sliding_window");
    raw.remove("layer_types");
    raw.insert("use_sliding_window".to_owned(), json!(true));
    raw.insert("max_window_layers".to_owned(), json!(1));
    let config = ModelConfig::from_json(Path::new("config.json"), &raw).unwrap();
    assert_eq!(config.windows, [None, Some(4096)]);
    assert!(matches!(config.positions, Positions::Rotary(_)));
}

/// What a config.json of other keys says, of which `left_out` are taken away.
fn read(family: &str, left_out: &[&str], more: &Value) -> Result<ModelConfig, String> {
    let mut raw = raw(family);
    raw.retain(|key, _| !left_out.contains(&key.as_str()));
    raw.extend(more.as_object().unwrap().clone());
    ModelConfig::from_json(Path::new("config.json"), &raw).map_err(|error| error.to_string())
}

fn turns(config: &ModelConfig) -> [(f64, f64); 2] {
    let Positions::Rotary(shared) = &config.positions else { panic!("rotary positions") };
    let first = |rotary: &RotaryConfig| (rotary.theta, f64::from(rotary.frequencies()[0]));
    [first(shared), first(config.local_rotary.as_ref().unwrap())]
}

#[test]
fn rotary_parameters_by_kind_of_layer_are_read_in_both_versions() {
    let left_out = ["rope_parameters"];
    let config = read("gemma3_text", &left_out, &json!({})).unwrap();
    assert_eq!(turns(&config), [(1e6, 1.0), (1e4, 1.0)]);
    let fourth = json!({
        "rope_theta": 5e5, "rope_local_base_freq": 2e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    });
    let config = read("gemma3_text", &left_out, &fourth).unwrap();
    assert_eq!(turns(&config), [(5e5, 0.125), (2e4, 1.0)]);
    let fifth = json!({"rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0},
        "sliding_attention": null,
    }});
    let config = read("gemma3_text", &[], &fifth).unwrap();
    assert_eq!(turns(&config), [(5e5, 0.125), (1e4, 1.0)]);

    let scaling =
        json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}});
    let config = read("olmo3", &left_out, &scaling).unwrap();
    assert_eq!(turns(&config), [(5e5, 0.5), (5e5, 1.0)]);
    // Versions of Transformers differ in which layers it is for.
    let error = read("olmo3", &left_out, &json!({"rope_theta": 1e4})).unwrap_err();
    assert!(error.contains("`rope_theta` is 10000.0") && error.contains("500000"), "{error}");
    let inside = json!({"rope_theta": 1e4, "rope_scaling": {
        "rope_type": "linear", "factor": 2.0, "rope_theta": 5e5,
    }});
    let error = read("llama", &left_out, &inside).unwrap_err();
    assert!(error.contains("`rope_theta` is 500000.0"), "{error}");
}

#[test]
fn layers_have_windows_by_their_list_or_else_by_the_family_s_rule() {
    let windows = |family: &str, layers: usize, more: Value| {
        let mut all = json!({"num_hidden_layers": layers});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let left_out = ["layer_types", "sliding_window_pattern", "_sliding_window_pattern"];
        let config = read(family, &left_out, &all);
        config.map(|config| config.windows.iter().map(Option::is_some).collect::<Vec<_>>())
    };
    let (yes, no) = (true, false);
    assert_eq!(windows("gemma2", 5, json!({})).unwrap(), [yes, no, yes, no, yes]);
    assert!(windows("gemma2", 5, json!({"sliding_window_pattern": 3})).is_err());
    assert_eq!(windows("gemma3_text", 7, json!({})).unwrap(), [yes, yes, yes, yes, yes, no, yes]);
    let found = windows("gemma3_text", 4, json!({"sliding_window_pattern": 2})).unwrap();
    assert_eq!(found, [yes, no, yes, no]);
    // What Transformers writes beside a list, and does not read.
    assert!(windows("gemma3_text", 4, json!({"_sliding_window_pattern": 2})).is_err());
    assert_eq!(windows("olmo3", 5, json!({})).unwrap(), [yes, yes, yes, no, yes]);
    let full = json!({"layer_types": ["full_attention", "full_attention"], "sliding_window": null});
    assert_eq!(windows("gemma2", 2, full).unwrap(), [no, no]);
}

#[test]
fn bounds_and_factors_have_the_defaults_of_transformers() {
    let caps = ["attn_logit_softcapping", "final_logit_softcapping"];
    let config = read("gemma2", &caps, &json!({"query_pre_attn_scalar": 144})).unwrap();
    assert_eq!((config.attention_softcap, config.logits), (Some(50.0), Logits::Capped(30.0)));
    assert_eq!(config.attention_scales, [1.0 / 12.0; 2]);
    let none = json!({caps[0]: null, caps[1]: null});
    let config = read("gemma2", &[], &none).unwrap();
    assert_eq!((config.attention_softcap, config.logits), (None, Logits::Products));
    let config = read("gemma3_text", &[], &json!({caps[1]: 20})).unwrap();
    assert_eq!((config.attention_softcap, config.logits), (None, Logits::Capped(20.0)));
    assert_eq!(config.embedding_scale, EmbeddingScale::Rounded(8.0));
    let factors =
        ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"];
    let config = read("granite", &factors, &json!({})).unwrap();
    assert_eq!((config.residual_scale, config.logits), (None, Logits::Products));
    assert_eq!(config.embedding_scale, EmbeddingScale::One);
    assert_eq!(config.attention_scales, [1.0; 2]);
    // The published configurations of Gemma 1 mean the other form by this name.
    let config = read("gemma", &[], &json!({"hidden_act": "gelu"})).unwrap();
    assert_eq!(config.mlp, Mlp::Gated(Gate::Gelu(Gelu::Tanh)));
    let config = read("gemma2", &[], &json!({"hidden_activation": "gelu"})).unwrap();
    assert_eq!(config.mlp, Mlp::Gated(Gate::Gelu(Gelu::Erf)));
}

#[test]
fn models_of_images_and_text_are_refused_by_what_they_are() {
    let error = read("gemma3_text", &[], &json!({"model_type": "gemma3"})).unwrap_err();
    assert!(error.contains("images and text"), "{error}");
}

#[test]
fn keys_that_are_missing_have_the_family_s_own_defaults() {
    let left_out = ["num_key_value_heads", "head_dim", "rms_norm_eps", "max_position_embeddings"];
    let eight = json!({"num_attention_heads": 32, "hidden_size": 512});
    for (family, kv_heads, head_dim, eps, positions) in [
        ("llama", 32, 16, 1e-6, 2048),
        ("mistral", 8, 16, 1e-6, 131_072),
        ("qwen2", 32, 16, 1e-6, 32_768),
        ("qwen3", 32, 128, 1e-6, 32_768),
        ("smollm3", 4, 16, 1e-6, 32_768),
        ("phi3", 32, 16, 1e-5, 4096),
        ("olmo2", 32, 16, 1e-5, 2048),
        ("olmo3", 32, 16, 1e-5, 2048),
        ("granite", 32, 16, 1e-6, 2048),
        ("gemma", 16, 256, 1e-6, 8192),
        ("gemma2", 4, 256, 1e-6, 8192),
        ("gemma3_text", 4, 256, 1e-6, 131_072),
    ] {
        let config = read(family, &left_out, &eight).unwrap();
        let found = (config.kv_heads, config.head_dim, config.norm_eps, config.max_positions);
        assert_eq!(found, (kv_heads, head_dim, eps, positions), "{family}");
    }
    // Null is no missing key: as many as there are heads, and their share of the width.
    let null = json!({"num_key_value_heads": null, "head_dim": null});
    let config = read("mistral", &[], &null).unwrap();
    assert_eq!((config.kv_heads, config.head_dim), (config.heads, 16));
}

/// Transformers reads the original length of Phi-3 beside the rotary parameters, and 4096 without the key.
#[test]
fn phi3_is_stretched_by_longrope_from_the_length_beside() {
    let factors = [1.0; 8];
    let with_own = |own: Value| {
        json!({"rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "short_factor": factors,
            "long_factor": factors, "original_max_position_embeddings": own,
        }})
    };
    assert_eq!(read("phi3", &[], &with_own(json!(4096))).unwrap().max_positions, 256);
    let error = read("phi3", &[], &with_own(json!(32))).unwrap_err();
    assert!(error.contains("is 32; expected 4096"), "{error}");
    let missing = ["original_max_position_embeddings"];
    let error = read("phi3", &missing, &with_own(json!(32))).unwrap_err();
    assert!(error.contains("`original_max_position_embeddings` is missing"), "{error}");
    let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0}});
    let error = read("phi3", &["rope_parameters"], &yarn).unwrap_err();
    assert!(error.contains("longrope"), "{error}");
}

#[test]
fn windows_that_are_off_are_in_no_layer() {
    let windows = |family: &str, more: Value| {
        let config = read(family, &["layer_types", "sliding_window"], &more);
        config.map(|config| config.windows)
    };
    let on = json!({"use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1});
    assert_eq!(windows("qwen2", on.clone()).unwrap(), [None, Some(5)]);
    // SmolLM3 has them where it knows no positions.
    assert_eq!(windows("smollm3", on).unwrap(), [None, None, None, Some(5)]);
    let without_length = json!({"use_sliding_window": true});
    assert_eq!(windows("smollm3", without_length).unwrap(), [None; 4]);
    let off = json!({"sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"]});
    let error = windows("qwen3", off).unwrap_err();
    assert!(error.contains("`layer_types`") && error.contains("use_sliding_window"), "{error}");
}
