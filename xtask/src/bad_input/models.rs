//! Models with one thing wrong.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::workshop::{TRAINERS, Workshop};
use super::{Case, Draws, arguments};

/// A damaged file: what is wrong, its name, its bytes, and what the message has to name.
type Damage = (String, &'static str, Vec<u8>, String);

pub(super) fn cases(workshop: &Workshop, draws: &mut Draws) -> Result<Vec<Case>> {
    let read = |name: &str| {
        let path = workshop.good().join("model").join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let mut damages = configurations(&serde_json::from_slice(&read("config.json")?)?);
    damages.extend(weights(&read("model.safetensors")?)?);
    damages.extend(tokenizers(&read("tokenizer.json")?)?);
    Ok(damages.into_iter().map(|damage| case(damage, draws)).collect())
}

/// config.json without a key that it needs, or with a value that none takes.
fn configurations(good: &Value) -> Vec<Damage> {
    const FILE: &str = "config.json";
    let mut damages = Vec::new();
    for key in [
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    ] {
        let mut without = good.clone();
        without.as_object_mut().into_iter().for_each(|object| drop(object.remove(key)));
        damages.push((format!("no {key}"), FILE, without.to_string().into_bytes(), key.to_owned()));
        for value in [json!(-1), json!("many"), json!([1]), json!({"x": 1}), json!(1.5)] {
            let mut with = good.clone();
            with[key] = value.clone();
            let place = if key == "model_type" { FILE } else { key };
            damages.push((
                format!("{key}: {value}"),
                FILE,
                with.to_string().into_bytes(),
                place.to_owned(),
            ));
        }
    }
    for (key, value) in [
        ("rms_norm_eps", json!("small")),
        ("rope_theta", json!([])),
        ("hidden_act", json!("zebra")),
        ("hidden_act", json!(3)),
        ("tie_word_embeddings", json!("yes")),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(-2)),
        ("num_attention_heads", json!(0)),
        ("num_hidden_layers", json!(0)),
        ("vocab_size", json!(0)),
        ("hidden_size", json!(0)),
        ("max_position_embeddings", json!(0)),
        ("max_position_embeddings", json!("long")),
        ("model_type", json!("zebra")),
        ("quantization_config", json!({"bits": 4, "quant_method": "gptq"})),
        ("rope_scaling", json!({"rope_type": "zebra", "factor": 2.0})),
        ("partial_rotary_factor", json!("half")),
        ("attention_bias", json!("no")),
    ] {
        let mut with = good.clone();
        with[key] = value.clone();
        let place = if key == "rope_scaling" { "rope" } else { key };
        damages.push((
            format!("{key}: {value}"),
            FILE,
            with.to_string().into_bytes(),
            place.to_owned(),
        ));
    }
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("no JSON", b"hidden_size: 16".to_vec()),
        ("a list", b"[]".to_vec()),
        ("cut off", good.to_string().into_bytes()[..40].to_vec()),
        ("not UTF-8", b"{\"model_type\": \"\xff\"}".to_vec()),
    ] {
        damages.push((what.to_owned(), FILE, bytes, FILE.to_owned()));
    }
    damages
}

/// The header of a file of tensors, and its data.
fn split(file: &[u8]) -> Result<(Value, &[u8])> {
    let (length, rest) = file.split_first_chunk::<8>().context("a length of eight bytes")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    Ok((serde_json::from_slice(&rest[..length])?, &rest[length..]))
}

fn joined(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn weights(good: &[u8]) -> Result<Vec<Damage>> {
    const FILE: &str = "model.safetensors";
    let (header, data) = split(good)?;
    let mut damages: Vec<Damage> = vec![
        ("empty".into(), FILE, Vec::new(), FILE.into()),
        ("cut off in its header".into(), FILE, good[..20].to_vec(), FILE.into()),
        ("cut off in its data".into(), FILE, good[..good.len() - 10].to_vec(), FILE.into()),
        ("bytes too many".into(), FILE, [good, b"more"].concat(), FILE.into()),
        (
            "a header of 2^63 bytes".into(),
            FILE,
            [&(1_u64 << 63).to_le_bytes()[..], &good[8..]].concat(),
            FILE.into(),
        ),
        (
            "a large file's pointer".into(),
            FILE,
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            FILE.into(),
        ),
    ];
    let names: Vec<String> =
        header.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    for name in names.iter().filter(|name| *name != "__metadata__") {
        let mut changed = |what: &str, change: &dyn Fn(&mut Value)| {
            let mut header = header.clone();
            change(&mut header);
            damages.push((format!("{name}: {what}"), FILE, joined(&header, data), name.clone()));
        };
        changed("missing", &|header| {
            let all = header.as_object_mut().into_iter();
            all.for_each(|all| {
                let tensor = all.remove(name).unwrap_or_default();
                all.insert("zebra".to_owned(), tensor);
            });
        });
        changed("another shape", &|header| {
            let shape = header[name]["shape"].as_array_mut().into_iter();
            shape.for_each(|shape| shape.push(json!(1)));
        });
        changed("a type of elements that does not exist", &|header| {
            header[name]["dtype"] = json!("F7");
        });
        changed("beyond the end", &|header| {
            header[name]["data_offsets"] = json!([0, 1_000_000_000]);
        });
    }
    // A broken header is a fault of the file, whichever tensor has it.
    for damage in &mut damages {
        if !damage.0.ends_with("missing") && !damage.0.ends_with("shape") {
            damage.3 = FILE.into();
        }
    }
    Ok(damages)
}

fn tokenizers(good: &[u8]) -> Result<Vec<Damage>> {
    const FILE: &str = "tokenizer.json";
    let parsed: Value = serde_json::from_slice(good)?;
    let mut damages: Vec<Damage> = vec![
        ("empty".into(), FILE, Vec::new(), FILE.into()),
        ("cut off".into(), FILE, good[..good.len() / 2].to_vec(), FILE.into()),
        ("a list".into(), FILE, b"[]".to_vec(), FILE.into()),
    ];
    for (key, value) in [
        ("model", json!(null)),
        ("model", json!({"type": "Zebra"})),
        ("pre_tokenizer", json!({"type": "Zebra"})),
        ("decoder", json!(3)),
        ("added_tokens", json!({"x": 1})),
    ] {
        let mut with = parsed.clone();
        with[key] = value.clone();
        damages.push((format!("{key}: {value}"), FILE, with.to_string().into_bytes(), FILE.into()));
    }
    Ok(damages)
}

fn case((what, file, bytes, place): Damage, draws: &mut Draws) -> Case {
    let words = match draws.below(3) {
        0 => {
            let (trainer, _) = *draws.choose(&TRAINERS);
            arguments(&[trainer, &format!("{trainer}.toml"), "--fresh"])
        }
        1 => arguments(&[
            "generate",
            "--model",
            "model",
            "--input",
            "prompts.jsonl",
            "--output",
            "out.jsonl",
            "--max-new-tokens",
            "2",
        ]),
        _ => arguments(&[
            "logprobs",
            "--model",
            "model",
            "--input",
            "sequences.jsonl",
            "--output",
            "out.jsonl",
        ]),
    };
    Case {
        kind: "model",
        what: format!("{}, {file}: {what}", words[0]),
        files: vec![(format!("model/{file}"), bytes)],
        arguments: words,
        places: vec![place],
    }
}
