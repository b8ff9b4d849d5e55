//! Every key of config.json is read, known to change nothing, or refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not tests to clippy")]

mod support;

use std::path::Path;

use hearken_model::ModelConfig;
use hearken_model::config::Positions;
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
        ("llama", "rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
        ("mistral", "attention_bias", json!(true)),
        ("mistral", "use_sliding_window", json!(false)),
        ("mistral", "layer_types", json!(["full_attention", "sliding_attention"])),
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
        let config = with(family, "rope_parameters", parameters).unwrap();
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
        for family in
            ["gpt2", "llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3", "olmo2", "gpt_neox"]
        {
            same(family, "quantization_config", value.clone());
            same(family, "some_new_key", value.clone());
        }
    }
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        same(family, "partial_rotary_factor", json!(1.0));
        same(family, "partial_rotary_factor", json!(null));
        same(family, "rope_scaling", json!(null));
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
