//! The committed configurations, and what is wrong with others.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::path::{Path, PathBuf};

use hearken_train::reward::RewardConfig;
use hearken_train::sft::SftConfig;
use support::{config, overrides};

const REQUIRED: [&str; 3] = ["run.dir=runs/x", "model.path=m", "data.train=d.jsonl"];

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name)
}

fn sft_error(text: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = SftConfig::load(&config(folder.path(), text), &overrides(more)).unwrap_err();
    error.to_string()
}

/// A configuration with everything that is required, and `text`.
fn error(text: &str) -> String {
    sft_error(text, &[&REQUIRED[..], &["train.steps=1"]].concat())
}

#[test]
fn every_committed_configuration_loads() {
    let list = overrides(&REQUIRED);
    let epochs = overrides(&[&REQUIRED[..], &["train.epochs=1"]].concat());
    SftConfig::load(&committed("sft.toml"), &epochs).unwrap();
    RewardConfig::load(&committed("reward.toml"), &epochs).unwrap();
    SftConfig::load(&committed("gsm8k-sft.toml"), &list).unwrap();
    RewardConfig::load(&committed("hh-rlhf-reward.toml"), &list).unwrap();
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (text, key, nearest) in [
        ("[train]\nbatchsize = 2", "train.batchsize", "train.batch_size"),
        ("[optimiser]\nlr = 1", "optimiser", "optimizer"),
        ("[data]\nshufle = true", "data.shufle", "data.shuffle"),
        ("[run]\nsed = 1", "run.sed", "run.seed"),
        ("[model]\ndtipe = \"f32\"", "model.dtipe", "model.dtype"),
        ("[samples]\ncounts = 1", "samples.counts", "samples.count"),
    ] {
        let error = error(text);
        let expected = format!("unknown key `{key}`; the nearest known key is `{nearest}`");
        assert!(error.contains(&expected) && error.contains("config.toml"), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_type_or_range_names_key_found_and_expected() {
    for (text, expected) in [
        (
            "[train]\nbatch_size = \"four\"",
            "`train.batch_size`: found the text \"four\", expected an integer from 0",
        ),
        ("[train]\nbatch_size = 0", "`train.batch_size`: found 0, expected an integer from 1"),
        ("[optimizer]\nbetas = [0.9, 1.0]", "`optimizer.betas`: found 1, expected two numbers"),
        ("[optimizer]\nlr = -1", "`optimizer.lr`: found -1, expected a number from 0"),
        (
            "[optimizer]\nschedule = \"steps\"",
            "`optimizer.schedule`: found the text \"steps\", expected one of",
        ),
        ("[model]\ndtype = \"f16\"", "`model.dtype`: found the text \"f16\", expected"),
        (
            "[data]\ntrain = 3",
            "`data.train`: found the integer 3, expected text or a list of texts",
        ),
        ("[data]\nshuffle = 1", "`data.shuffle`: found the integer 1, expected true or false"),
        ("train = 3", "`train`: found the integer 3, expected a section of keys"),
    ] {
        // An override of the same key would hide the value.
        let more: Vec<&str> = REQUIRED
            .into_iter()
            .filter(|key| !text.contains("train = 3") || !key.contains("train"))
            .collect();
        let error = sft_error(text, &more);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    let both = error("[train]\nepochs = 1");
    assert!(both.contains("`train.steps` and `train.epochs` exclude each other"), "{both}");
    let eval = error("[data]\neval = \"e.jsonl\"\neval_fraction = 0.1");
    assert!(eval.contains("`data.eval` and `data.eval_fraction` exclude each other"), "{eval}");
}

#[test]
fn what_is_missing_is_named() {
    for (key, more) in [
        ("run.dir", ["model.path=m", "data.train=d", "train.steps=1"]),
        ("model.path", ["run.dir=r", "data.train=d", "train.steps=1"]),
        ("data.train", ["run.dir=r", "model.path=m", "train.steps=1"]),
        ("train.steps", ["run.dir=r", "model.path=m", "data.train=d"]),
    ] {
        let error = sft_error("", &more);
        assert!(error.contains(&format!("found no `{key}`")), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = SftConfig::load(&folder.path().join("none.toml"), &[]).unwrap_err().to_string();
    assert!(error.contains("none.toml: cannot be read"), "{error}");
}
