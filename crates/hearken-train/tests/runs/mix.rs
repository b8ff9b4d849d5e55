//! Several sources of records with weights.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::{
    After, Recorder, SAMPLED, config, even_and_length, llama, metrics, overrides,
};
use hearken_config::{Configuration, LoadedConfig};
use hearken_run::error::TrainError;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::sft::{self, SftConfig};

/// Two large words and one small: 12 records of one file, 4 of another with other columns.
const CONFIG: &str = "
[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 3
save_every = 1

[[data.mix]]
path = 'large.jsonl'
weight = 1

[[data.mix]]
path = ['small.jsonl']
weight = 3.0
columns = { prompt = 'question', completion = 'answer' }
";

/// Writes both files; records tell their source by their lengths.
fn write_data(folder: &Path) {
    let large = |i: u32| format!("{{\"prompt_ids\": [{i}, 7], \"completion_ids\": [9]}}\n");
    fs::write(folder.join("large.jsonl"), (0..12).map(large).collect::<String>()).unwrap();
    let small =
        |i: u32| format!("{{\"question\": \"q{i}?\", \"answer\": \"{}\"}}\n", "long ".repeat(12));
    fs::write(folder.join("small.jsonl"), (0..4).map(small).collect::<String>()).unwrap();
}

fn load<C: Configuration>(
    run: &Path,
    text: &str,
    more: &[&str],
) -> Result<LoadedConfig<C>, String> {
    let folder = run.parent().unwrap();
    let mut text = text.to_owned();
    for name in ["large.jsonl", "small.jsonl"] {
        text = text.replace(name, &folder.join(name).display().to_string());
    }
    let mut list =
        vec![format!("run.dir={}", run.display()), format!("model.path={}", llama().display())];
    list.extend(overrides(more));
    C::load(&config(folder, &text), &list).map_err(|error| error.to_string())
}

fn train(run: &Path, more: &[&str], progress: &mut Recorder) -> Result<RunOutcome, TrainError> {
    let loaded = load::<SftConfig>(run, CONFIG, more).unwrap();
    sft::run(Cpu::new(), &loaded, Start::Resume, progress)
}

#[test]
fn an_epoch_has_the_share_of_every_source_and_a_killed_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let mut progress = Recorder::new(After::GoOn);
    // Sixteen examples make six batches.
    let outcome = train(&whole, &["train.epochs=2"], &mut progress).unwrap();
    assert_eq!(outcome.steps, 12);
    assert!(progress.said("training: 16 examples"), "{:?}", progress.notes);
    assert!(progress.said("large.jsonl: 12 examples, 4 of every epoch (0.33 times each)"));
    assert!(progress.said("small.jsonl: 4 examples, 12 of every epoch (3.00 times each)"));
    assert!(progress.said("; an epoch of 16 examples, about 2.00 of it"), "{:?}", progress.notes);
    // One supervised token of a large record, many of a small one.
    let steps: Vec<u64> = metrics(&whole)
        .iter()
        .filter_map(|record| record.get("supervised_tokens")?.as_u64())
        .collect();
    let of_small = (steps[..6].iter().sum::<u64>() - 4) / 12;
    assert!(10 < of_small, "{steps:?}");
    assert_eq!(steps[6..].iter().sum::<u64>(), 4 + 12 * of_small);
    assert_ne!(steps[..6], steps[6..]);

    for step in [2, 7, 9] {
        let mut progress = Recorder::new(After::Die(step));
        let more = ["train.epochs=2"];
        let died = catch_unwind(AssertUnwindSafe(|| train(&parts, &more, &mut progress)));
        assert!(died.is_err(), "the run should die");
    }
    train(&parts, &["train.epochs=2"], &mut Recorder::new(After::GoOn)).unwrap();
    assert_eq!(metrics(&parts), metrics(&whole));
    let read = |run: &Path| fs::read(run.join("final/model.safetensors")).unwrap();
    assert!(read(&parts) == read(&whole), "the weights differ");

    let small = folder.path().join("small.jsonl");
    fs::write(&small, fs::read_to_string(&small).unwrap().replace("q3", "q4")).unwrap();
    let error = train(&parts, &["train.epochs=3"], &mut Recorder::new(After::GoOn)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("`data.mix[1].path`") && error.contains("other data"), "{error}");
}

#[test]
fn evaluation_records_are_held_out_of_all_sources() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let mut progress = Recorder::new(After::GoOn);
    let more = ["train.steps=1", "data.eval_fraction=0.25"];
    train(&folder.path().join("run"), &more, &mut progress).unwrap();
    assert!(progress.said("training: 12 examples") && progress.said("evaluation: 4 examples"));
    let mixed: Vec<&String> =
        progress.notes.iter().filter(|note| note.starts_with("mix: ")).collect();
    assert!(mixed[1].contains("9 of every epoch"), "{mixed:?}");
}

#[test]
fn a_mixture_that_says_nothing_clear_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let run = folder.path().join("run");
    let steps = "train.steps=1";
    let error = |text: &str, more: &[&str]| {
        load::<SftConfig>(&run, text, &[&[steps], more].concat()).unwrap_err()
    };
    for (from, to, part) in [
        ("weight = 1", "weight = 0", "`data.mix[0].weight`: found"),
        ("weight = 1", "weight = -2", "`data.mix[0].weight`: found"),
        ("weight = 1", "weight = inf", "`data.mix[0].weight`: found"),
        ("weight = 3.0", "", "found no `data.mix[1].weight`"),
        ("weight = 1", "wieght = 1", "`data.mix[0].weight`"),
        ("['small.jsonl']", "[]", "`data.mix[1].path`: found an empty list"),
    ] {
        let error = error(&CONFIG.replace(from, to), &[]);
        assert!(error.contains(part) && error.contains("config.toml:"), "{to}: {error}");
    }
    let both = error(CONFIG, &["data.train=x.jsonl"]);
    assert!(both.contains("`data.mix` and `data.train` exclude each other"), "{both}");
    let limit = error(CONFIG, &["data.limit=3"]);
    assert!(limit.contains("`data.limit` and `data.mix` exclude each other"), "{limit}");

    let failure = |text: &str| {
        let loaded = load::<SftConfig>(&run, text, &[steps]).unwrap();
        let mut progress = Recorder::new(After::GoOn);
        sft::run(Cpu::new(), &loaded, Start::Resume, &mut progress).unwrap_err().to_string()
    };
    let rare = failure(&CONFIG.replace("weight = 1", "weight = 1e-6"));
    assert!(rare.contains("`data.mix[0].weight`: found 0.000001"), "{rare}");
    fs::write(folder.path().join("small.jsonl"), "").unwrap();
    let empty = failure(CONFIG);
    assert!(empty.contains("small.jsonl"), "{empty}");
    assert!(!run.exists(), "nothing is left of what was refused");
}

#[test]
fn pairs_judged_one_by_one_and_prompts_are_mixed_too() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |i: usize| {
        format!("{{\"prompt\": \"q{i}?\", \"chosen\": \"yes {i}\", \"rejected\": \"no {i}\"}}\n")
    };
    fs::write(folder.path().join("large.jsonl"), (0..6).map(pair).collect::<String>()).unwrap();
    fs::write(folder.path().join("small.jsonl"), (6..9).map(pair).collect::<String>()).unwrap();
    let text = CONFIG.split("columns =").next().unwrap();
    let mut progress = Recorder::new(After::GoOn);
    let more = ["train.steps=4", "dpo.loss=kto"];
    let loaded = load::<DpoConfig>(&folder.path().join("kto"), text, &more).unwrap();
    dpo::run(Cpu::new(), &loaded, Start::Resume, &mut progress).unwrap();
    // Every pair is two completions.
    assert!(progress.said("large.jsonl: 12 examples, 5 of every epoch"), "{:?}", progress.notes);
    assert!(progress.said("small.jsonl: 6 examples, 13 of every epoch"), "{:?}", progress.notes);

    let mut progress = Recorder::new(After::GoOn);
    let more = ["train.steps=2", "ppo.epochs=1"];
    let mixed = text.split("[[data.mix]]").skip(1).map(|part| format!("[[data.mix]]{part}"));
    let text = SAMPLED.to_owned() + &mixed.collect::<String>();
    let loaded = load::<PpoConfig>(&folder.path().join("ppo"), &text, &more).unwrap();
    let sources = &mut even_and_length();
    ppo::run_with(Cpu::new(), &loaded, Start::Resume, sources, &mut progress).unwrap();
    assert!(progress.said("small.jsonl: 3 examples, 7 of every epoch"), "{:?}", progress.notes);
}
