//! The committed configurations, and what is wrong with others.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hearken_config::Configuration;
use hearken_train::distill::DistillConfig;
use hearken_train::dpo::DpoConfig;
use hearken_train::grpo::GrpoConfig;
use hearken_train::ppo::PpoConfig;
use hearken_train::reward::RewardConfig;
use hearken_train::sft::SftConfig;
use serde_json::Value;
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

/// A key that a commented file names: its section, its value as TOML, whether it is a comment.
struct Documented {
    section: String,
    key: String,
    value: String,
    is_comment: bool,
}

/// The keys of a commented file in order; tables of a list are told apart by their number.
fn documented(text: &str) -> Vec<Documented> {
    let (mut keys, mut section, mut tables) = (Vec::new(), String::new(), 0);
    for line in text.lines() {
        let is_comment = line.starts_with('#');
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(name) = line.strip_prefix("[[").and_then(|rest| rest.split("]]").next()) {
            section = format!("{name}[{tables}]");
            tables += 1;
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && !section.is_empty()
        {
            let table = format!("x = {value}").parse::<toml::Table>().unwrap_or_default();
            let value = table.get("x").map_or_else(|| value.to_owned(), ToString::to_string);
            keys.push(Documented {
                section: section.clone(),
                key: key.to_owned(),
                value,
                is_comment,
            });
        }
    }
    keys
}

/// `section.key` of a JSON schema, with those of all kinds in a list of tables.
fn keys_of(schema: &Value) -> BTreeSet<String> {
    fn names(schema: &Value, found: &mut BTreeSet<String>) {
        if let Some(own) = schema.get("properties").and_then(Value::as_object) {
            found.extend(own.keys().cloned());
        }
        for list in ["oneOf", "anyOf", "allOf"] {
            let variants = schema.get(list).and_then(Value::as_array).into_iter().flatten();
            variants.for_each(|variant| names(variant, found));
        }
    }
    let mut keys = BTreeSet::new();
    for (section, schema) in schema["properties"].as_object().unwrap() {
        let mut found = BTreeSet::new();
        names(schema.get("items").unwrap_or(schema), &mut found);
        keys.extend(found.iter().map(|key| format!("{section}.{key}")));
    }
    keys
}

fn trainers() -> [(&'static str, Value, &'static str); 6] {
    [
        (SftConfig::COMMAND, SftConfig::schema(), SftConfig::DEFAULTS),
        (RewardConfig::COMMAND, RewardConfig::schema(), RewardConfig::DEFAULTS),
        (DpoConfig::COMMAND, DpoConfig::schema(), DpoConfig::DEFAULTS),
        (PpoConfig::COMMAND, PpoConfig::schema(), PpoConfig::DEFAULTS),
        (GrpoConfig::COMMAND, GrpoConfig::schema(), GrpoConfig::DEFAULTS),
        (DistillConfig::COMMAND, DistillConfig::schema(), DistillConfig::DEFAULTS),
    ]
}

/// The files say that every key is in them. Sources of scores are all in that of PPO.
#[test]
fn commented_files_list_every_key_of_the_types_and_no_other() {
    for (command, schema, text) in trainers() {
        let of_types = keys_of(&schema);
        let of_file: BTreeSet<String> = documented(text)
            .iter()
            .map(|found| format!("{}.{}", found.section.split('[').next().unwrap(), found.key))
            .collect();
        let unknown: Vec<_> = of_file.difference(&of_types).collect();
        assert!(unknown.is_empty(), "{command}: {unknown:?} is in the file alone");
        let missing: Vec<_> = of_types.difference(&of_file).collect();
        let is_elsewhere = |key: &&&String| key.starts_with("score.") && command != "ppo";
        let missing: Vec<_> = missing.into_iter().filter(|key| !is_elsewhere(&key)).collect();
        assert!(missing.is_empty(), "{command}: {missing:?} is not in the file");
    }
}

/// A key with a default is no comment, and the schema has that default; a key without one is a comment.
#[test]
fn the_schema_has_the_defaults_of_the_files() {
    for (command, schema, text) in trainers() {
        for found in documented(text).iter().filter(|found| !found.section.starts_with("score[")) {
            let section = &schema["properties"][&found.section];
            let property = &section["properties"][&found.key];
            let at = format!("{command}: {}.{}", found.section, found.key);
            assert_eq!(property.get("default").is_none(), found.is_comment, "{at}");
            // Keys of a kind are in the variant of that kind.
            let is_described = property.is_null() || property["description"].is_string();
            assert!(is_described, "{at} is described");
            let required = section["required"].as_array().is_some_and(|required| {
                required.iter().any(|name| name.as_str() == Some(&found.key))
            });
            assert!(found.is_comment || !required, "{at} has a default and is required");
        }
    }
}

/// What the commented sources of PPO's file say is what the types have where nothing is said.
#[test]
fn commented_defaults_of_scores_are_those_of_the_types() {
    let blocks = documented(PpoConfig::DEFAULTS);
    let kinds: Vec<&Documented> = blocks.iter().filter(|found| found.key == "kind").collect();
    assert_eq!(kinds.len(), 12, "one block for each kind");
    let schema = PpoConfig::schema();
    let variants = schema["properties"]["score"]["items"]["oneOf"].as_array().unwrap();
    for kind in kinds {
        let block = || blocks.iter().filter(|found| found.section == kind.section);
        let table = |keys: Vec<&Documented>| {
            let pairs: Vec<String> =
                keys.iter().map(|found| format!("{}={}", found.key, found.value)).collect();
            format!("score=[{{{}}}]", pairs.join(","))
        };
        let of_kind = |variant: &&Value| {
            variant["properties"]["kind"]["const"].as_str() == Some(kind.value.trim_matches('"'))
        };
        let variant = variants.iter().find(of_kind).unwrap();
        let is_required = |found: &&Documented| {
            let names = variant["required"].as_array().unwrap();
            // A distance is no reward, whatever a weight is by default.
            let is_weight = found.key == "weight" && kind.value == "\"distance\"";
            is_weight || names.iter().any(|name| name.as_str() == Some(&found.key))
        };
        // Arguments of a program are an example, since there is no program by default; so is a file of answers, and
        // what other keys must ask for.
        let is_default = |found: &&Documented| match found.key.as_str() {
            "args" => found.value == "[]",
            key => !["answers", "reference", "uncertainty"].contains(&key),
        };
        let all = block().filter(is_default).collect();
        let load = |keys: Vec<&Documented>| {
            let folder = tempfile::tempdir().unwrap();
            let scores = table(keys);
            let list = [&REQUIRED[..], &["train.steps=1", &scores]].concat();
            PpoConfig::load(&config(folder.path(), ""), &overrides(&list)).unwrap().config.scores
        };
        let (all, required) = (load(all), load(block().filter(is_required).collect()));
        assert_eq!(all[0].label(), required[0].label());
        assert_eq!((all[0].weight, &all[0].source), (required[0].weight, &required[0].source));
    }
}

/// GRPO's file shows what its default preset has.
#[test]
fn commented_keys_of_grpo_are_what_the_preset_has() {
    let load = |more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let list = [&REQUIRED[..], &["train.steps=1"], more].concat();
        GrpoConfig::load(&config(folder.path(), ""), &overrides(&list)).unwrap().config.resolved
    };
    let preset = load(&[]);
    for found in documented(GrpoConfig::DEFAULTS) {
        let of_preset = ["grpo", "kl"].contains(&found.section.as_str());
        let is_limit = ["kl_limit", "target"].contains(&found.key.as_str());
        if found.is_comment && of_preset && !is_limit {
            let set = format!("{}.{}={}", found.section, found.key, found.value);
            let resolved = load(&[&set]);
            assert_eq!(resolved.algorithm, preset.algorithm, "{set}");
            assert_eq!(resolved.groups, preset.groups, "{set}");
        }
    }
}

#[test]
fn names_of_other_tools_are_answered_with_ours() {
    let of = |trainer: &str, key: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = config(folder.path(), key);
        let list = overrides(&REQUIRED);
        let error = match trainer {
            "sft" => SftConfig::load(&file, &list).unwrap_err(),
            "dpo" => DpoConfig::load(&file, &list).unwrap_err(),
            "grpo" => GrpoConfig::load(&file, &list).unwrap_err(),
            "distill" => DistillConfig::load(&file, &list).unwrap_err(),
            _ => PpoConfig::load(&file, &list).unwrap_err(),
        };
        error.to_string()
    };
    for (trainer, text, answer) in [
        ("sft", "learning_rate = 1e-5", "`optimizer.lr`"),
        ("sft", "[train]\nlearning_rate = 1e-5", "`optimizer.lr`"),
        (
            "sft",
            "[train]\ngradient_accumulation_steps = 4",
            "`train.batch_size` is what an optimizer step",
        ),
        ("sft", "[train]\nper_device_train_batch_size = 4", "`train.batch_size`"),
        ("ppo", "batch_size = 4", "`train.batch_size`"),
        ("sft", "num_train_epochs = 3", "`train.epochs`"),
        ("sft", "[train]\nmax_steps = 3", "`train.steps`"),
        ("dpo", "warmup_ratio = 0.1", "`optimizer.warmup_steps`"),
        ("sft", "[optimizer]\nlr_scheduler_type = 'cosine'", "`optimizer.schedule`"),
        ("sft", "[data]\nmax_length = 10", "`data.max_tokens`"),
        ("grpo", "[grpo]\nnum_generations = 10", "`rollout.completions`"),
        ("grpo", "max_completion_length = 10", "`rollout.max_new_tokens`"),
        ("dpo", "beta = 0.1", "`dpo.beta`"),
        ("ppo", "[ppo]\nbeta = 0.1", "`kl.beta`"),
        ("dpo", "[judge]\napi_key = 'x'", "`judge.key_env`"),
        ("ppo", "[[score]]\nkind = 'http'\nurl = 'http://x'\napi_key = 'hunter2'", "environment"),
        ("ppo", "[grpo]\npreset = 'dapo'", "`hearken grpo`"),
        ("sft", "[rollout]\ntemperature = 1", "ppo and grpo"),
        ("distill", "[distill]\nlmbda = 0.5", "`distill.lambda`"),
        ("ppo", "[teacher]\npath = 'x'", "one of distill"),
        ("sft", "[train]\nlr = 1", "`optimizer.lr`"),
        ("sft", "output_dir = 'x'", "`run.dir`"),
    ] {
        let error = of(trainer, text);
        assert!(error.contains(answer), "{text}: {error}");
        assert!(error.contains("config.toml:") && error.contains("unknown key"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// A key of a section that trainers share is refused where it would say nothing.
#[test]
fn keys_that_say_nothing_to_a_trainer_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (text, key) in [
        ("[train]\nsample_every = 5", "train.sample_every"),
        ("[data]\ncompletion_only = false", "data.completion_only"),
    ] {
        let list = overrides(&[&REQUIRED[..], &["train.steps=1"]].concat());
        let error = RewardConfig::load(&config(folder.path(), text), &list).unwrap_err();
        assert!(error.to_string().contains(&format!("unknown key `{key}`")), "{error}");
    }
}

#[test]
fn sources_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |score: &str| {
        let set = format!("score=[{{{score}}}]");
        let list = overrides(&[&REQUIRED[..], &["train.steps=1", &set]].concat());
        PpoConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string()
    };
    let two = "kind=\"ensemble\",paths=[\"a\",\"b\"]";
    for (score, expected) in [
        (
            "kind=\"ensemble\",paths=[]".to_owned(),
            "`score[0].paths`: found 0, expected two reward models or more, or one with particles",
        ),
        (
            format!("{two},combine=\"uncertainty\""),
            "found no `score[0].uncertainty`, expected a number from 0",
        ),
        (
            format!("{two},uncertainty=0.1"),
            "`score[0].uncertainty` and `score[0].combine` exclude each other",
        ),
        (
            format!("{two},combine=\"median\""),
            "`score[0].combine`: found the text \"median\", expected one of \"mean\", \"worst\"",
        ),
        (
            format!("{two},reference=\"best\""),
            "`score[0].reference` and `score[0].bound` exclude each other",
        ),
        (
            "kind=\"process\",path=\"a\",bound=\"sigmoid\"".to_owned(),
            "`score[0].bound` and `score[0].kind` exclude each other",
        ),
        (
            "kind=\"distance\",path=\"a\",baseline=\"b\"".to_owned(),
            "`score[0].weight`: found 1, expected a number up to 0",
        ),
        (
            "kind=\"distance\",path=\"a\",baseline=\"b\",weight=0,within=1.5".to_owned(),
            "`score[0].within`: found 1.5, expected a number above 0",
        ),
    ] {
        let error = error(&score);
        assert!(error.contains(expected), "{score}: {error}");
    }
}

#[test]
fn what_a_reward_model_cannot_learn_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |more: &[&str]| {
        let list = overrides(&[&REQUIRED[..], &["train.steps=1"], more].concat());
        RewardConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string()
    };
    for (more, expected) in [
        (
            &["reward.flip_rate=0.1", "reward.label_smoothing=0.1"][..],
            "`reward.label_smoothing` and `reward.flip_rate` exclude each other",
        ),
        (&["reward.flip_rate=0.5"], "`reward.flip_rate`: found 0.5, expected a number from 0"),
        (&["reward.flips=\"never\""], "`reward.flips`: found the text \"never\""),
        (
            &["reward.length_coef=1", "reward.kind=\"outcome\""],
            "`reward.length_coef` and `reward.kind` exclude each other",
        ),
        (
            &["reward.length_coef=1", "lora.r=4"],
            "`reward.length_coef` and `lora` exclude each other",
        ),
    ] {
        let error = error(more);
        assert!(error.contains(expected), "{more:?}: {error}");
    }
}

#[test]
fn what_is_missing_is_described_by_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let error = |more: &[&str]| {
        let list = overrides(&[&REQUIRED[..], &["train.steps=1"], more].concat());
        PpoConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string()
    };
    let expected = "found no `score[0].path`, expected a folder with a reward model";
    assert!(error(&["score=[{kind=\"model\"}]"]).contains(expected));
    let expected = "found no `score[0].kind`, expected one of \"model\", \"ensemble\", \"distance\", \"process\"";
    assert!(
        error(&["score=[{weight=1}]"]).contains(expected),
        "{}",
        error(&["score=[{weight=1}]"])
    );
    let stray = error(&["score=[{kind=\"contains\",text=\"a\",url=\"b\"}]"]);
    assert!(stray.contains("`score[0].url`; kind = \"contains\" has no such key"), "{stray}");
    let unknown = error(&["score=[{kind=\"numeric\",weight=2}]"]);
    let expected =
        "`score[0].kind`: found the text \"numeric\", expected one of \"model\", \"ensemble\"";
    assert!(unknown.contains(expected), "{unknown}");
}
