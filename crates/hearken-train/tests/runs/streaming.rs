//! Records that are read as they are wanted.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::{After, Recorder, config, fixture, llama, overrides, steps};
use hearken_config::Configuration;
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run::RunOutcome;
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};
use serde_json::Value;

const CONFIG: &str = "
[data]
streaming = true
shuffle_buffer = 6

[optimizer]
lr = 1e-3
schedule = 'constant'
warmup_steps = 0

[train]
batch_size = 4
steps = 6
save_every = 2
keep_optimizer = true
";

#[derive(Clone, Copy, PartialEq)]
enum Trainer {
    Sft,
    Reward,
    Dpo,
}

impl Trainer {
    fn go(
        self,
        run: &Path,
        more: &[&str],
        progress: &mut dyn Progress,
    ) -> Result<RunOutcome, TrainError> {
        let data = match self {
            Self::Sft => "sft/data.jsonl",
            Self::Reward | Self::Dpo => "dpo_sigmoid/data.jsonl",
        };
        let mut list =
            vec![format!("run.dir={}", run.display()), format!("model.path={}", llama().display())];
        if !more.iter().any(|one| one.starts_with("data.mix")) {
            list.push(format!("data.train={}", fixture(data).display()));
        }
        list.extend(overrides(more));
        let file = config(run.parent().unwrap(), CONFIG);
        let start = Start::Resume;
        let other = |error: hearken_config::ConfigError| TrainError::Other(error.to_string());
        match self {
            Self::Sft => {
                let loaded = SftConfig::load(&file, &list).map_err(other)?;
                sft::run(Cpu::new(), &loaded, start, progress)
            }
            Self::Reward => {
                let loaded = RewardConfig::load(&file, &list).map_err(other)?;
                reward::run(Cpu::new(), &loaded, start, progress)
            }
            Self::Dpo => {
                let loaded = DpoConfig::load(&file, &list).map_err(other)?;
                dpo::run(Cpu::new(), &loaded, start, progress)
            }
        }
    }

    fn steps(self, run: &Path, more: &[&str]) -> Vec<Value> {
        self.go(run, more, &mut Recorder::new(After::GoOn)).unwrap();
        steps(run)
    }
}

const ALL: [Trainer; 3] = [Trainer::Sft, Trainer::Reward, Trainer::Dpo];

fn refused(more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = Trainer::Sft.go(&folder.path().join("run"), more, &mut Recorder::new(After::GoOn));
    error.unwrap_err().to_string()
}

#[test]
fn in_the_order_of_the_files_a_stream_teaches_what_all_records_at_once_do() {
    let folder = tempfile::tempdir().unwrap();
    for (number, trainer) in ALL.into_iter().enumerate() {
        let at = |name: &str| folder.path().join(format!("{name}-{number}"));
        let order = "data.shuffle=false";
        let mut stream = trainer.steps(&at("stream"), &[order]);
        let mut whole = trainer.steps(&at("whole"), &[order, "data.streaming=false"]);
        for record in stream.iter_mut().chain(&mut whole) {
            // How far an epoch of a stream is, nobody knows.
            record.as_object_mut().unwrap().remove("epoch");
        }
        assert_eq!(stream, whole);
    }
    let lora = ["data.shuffle=false", "lora.r=2"];
    let stream = Trainer::Dpo.steps(&folder.path().join("lora"), &lora);
    let whole = Trainer::Dpo
        .steps(&folder.path().join("lora-whole"), &[&lora[..], &["data.streaming=false"]].concat());
    for (a, b) in stream.iter().zip(&whole) {
        assert_eq!((&a["loss"], &a["grad_norm"]), (&b["loss"], &b["grad_norm"]));
    }
}

#[test]
fn a_stream_that_dies_anywhere_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (number, trainer) in ALL.into_iter().enumerate() {
        let at = |name: &str| folder.path().join(format!("{name}-{number}"));
        let whole = trainer.steps(&at("whole"), &[]);
        for step in [1, 3, 5] {
            let run = at(&format!("dies-{step}"));
            let mut dies = Recorder::new(After::Die(step));
            let died = catch_unwind(AssertUnwindSafe(|| trainer.go(&run, &[], &mut dies)));
            assert!(died.is_err());
            assert_eq!(trainer.steps(&run, &[]), whole, "after step {step}");
        }
        let weights = |name: &str| fs::read(at(name).join("final/model.safetensors")).unwrap();
        assert!(weights("whole") == weights("dies-3"));
    }
}

#[test]
fn the_order_follows_from_the_seed_and_every_epoch_has_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.jsonl");
    // A record is told by its length.
    let line = |n: usize| {
        let ids: Vec<usize> = vec![7; n + 1];
        format!("{{\"prompt_ids\": [5], \"completion_ids\": {ids:?}}}\n")
    };
    fs::write(&file, (0..20).map(line).collect::<String>()).unwrap();
    let tokens = |name: &str, more: &[&str]| -> Vec<u64> {
        let data = format!("data.train={}", file.display());
        let size = ["train.batch_size=1", "train.steps=40", &data];
        let found = Trainer::Sft.steps(&folder.path().join(name), &[&size[..], more].concat());
        found.iter().map(|step| step["tokens"].as_u64().unwrap()).collect()
    };
    let (one, again) = (tokens("a", &[]), tokens("b", &[]));
    assert_eq!(one, again);
    assert_ne!(one, tokens("c", &["run.seed=1"]));
    let (first, second) = one.split_at(20);
    assert_ne!(first, second);
    for epoch in [first, second] {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 20, "{epoch:?}");
    }
    // A buffer of six draws nothing before it is read: the first are among the first six.
    assert!(first[0] <= *first.iter().min().unwrap() + 5, "{first:?}");
}

/// Files of records that are told by their lengths, from `first` on, and the mixture of them by their weights.
fn mixture(folder: &Path, parts: &[(usize, usize, f64)]) -> String {
    let sources = parts.iter().enumerate().map(|(number, (first, count, weight))| {
        let file = folder.join(format!("part-{number}.jsonl"));
        let line =
            |n: usize| format!("{{\"prompt_ids\": [5], \"completion_ids\": {:?}}}\n", vec![7; n]);
        fs::write(&file, (*first..first + count).map(line).collect::<String>()).unwrap();
        format!("{{path='{}',weight={weight}}}", file.display())
    });
    format!("data.mix=[{}]", sources.collect::<Vec<_>>().join(","))
}

#[test]
fn sources_of_a_stream_come_by_their_weights_and_the_smaller_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    // Four of one to one of the other, which has as many as are needed of it for two rounds of the first.
    let mix = mixture(folder.path(), &[(1, 8, 4.0), (21, 4, 1.0)]);
    for shuffle in ["data.shuffle=false", "data.shuffle=true"] {
        let run = folder.path().join(shuffle.replace(['.', '='], "-"));
        let size = ["train.batch_size=1", "train.steps=22", &mix, shuffle];
        let found = Trainer::Sft.steps(&run, &size);
        let tokens: Vec<u64> =
            found.iter().map(|step| step["tokens"].as_u64().unwrap() - 1).collect();
        let epochs: Vec<f64> = found.iter().map(|step| step["epoch"].as_f64().unwrap()).collect();
        for five in tokens[..20].chunks(5) {
            assert_eq!(five.iter().filter(|tokens| 20 < **tokens).count(), 1, "{tokens:?}");
        }
        let of_first: Vec<u64> = tokens[..20].iter().copied().filter(|n| *n < 20).collect();
        for round in of_first.chunks(8) {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (1..=8).collect::<Vec<_>>(), "{tokens:?}");
        }
        assert_eq!((epochs[0], epochs[21]), (0.0, 1.0), "{epochs:?}");
        let shuffled = shuffle.ends_with("true");
        assert_eq!(of_first[..8] == (1..=8).collect::<Vec<_>>()[..], !shuffled, "{tokens:?}");
    }
}

#[test]
fn a_mixed_stream_that_dies_anywhere_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mix = mixture(folder.path(), &[(1, 7, 1.0), (21, 3, 2.0)]);
    let more = [mix.as_str(), "data.shuffle_buffer=2"];
    let whole = Trainer::Sft.steps(&folder.path().join("whole"), &more);
    for step in [1, 3, 5] {
        let run = folder.path().join(format!("dies-{step}"));
        let mut dies = Recorder::new(After::Die(step));
        let died = catch_unwind(AssertUnwindSafe(|| Trainer::Sft.go(&run, &more, &mut dies)));
        assert!(died.is_err());
        assert_eq!(Trainer::Sft.steps(&run, &more), whole, "after step {step}");
    }
    let empty = mixture(folder.path(), &[(1, 7, 1.0), (21, 0, 2.0)]);
    let error = refused(&[&empty]);
    assert!(error.contains("part-1.jsonl"), "{error}");
}

#[test]
fn held_out_prompts_are_evaluated_on_and_never_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.jsonl");
    let line = |n: usize| format!("{{\"prompt_ids\": [{n}], \"completion_ids\": [{n}, 9]}}\n");
    fs::write(&file, (5..105).map(line).collect::<String>()).unwrap();
    let data = format!("data.train={}", file.display());
    let mut notes = Recorder::new(After::GoOn);
    let more = [&data, "data.eval_fraction=0.2", "data.shuffle_buffer=100", "train.eval_every=3"];
    Trainer::Sft.go(&folder.path().join("run"), &more, &mut notes).unwrap();
    let told = notes.notes.iter().find_map(|note| note.strip_prefix("evaluation: ")).unwrap();
    let held_out: usize = told.split_whitespace().next().unwrap().parse().unwrap();
    assert!((10..30).contains(&held_out), "{told}");
    // An epoch has the others: of a hundred records, batches of four make so many steps.
    let steps = (100 - held_out).div_ceil(4);
    let more = [&data, "data.eval_fraction=0.2", "data.shuffle_buffer=100"];
    let length = format!("train.steps={}", steps + 1);
    let found = Trainer::Sft.steps(&folder.path().join("epoch"), &[&more[..], &[&length]].concat());
    let epoch = |step: usize| found[step]["epoch"].as_f64().unwrap();
    assert_eq!((epoch(steps - 2), epoch(steps)), (0.0, 1.0), "{held_out}");
}

#[test]
fn what_needs_the_number_of_records_is_refused_with_what_to_do() {
    let epochs = refused(&["train.epochs=1"]);
    assert!(epochs.contains("train.steps"), "{epochs}");
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let file = config(folder.path(), "[data]\nstreaming = true\n[train]\nepochs = 2\n");
    let list = [
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", fixture("sft/data.jsonl").display()),
    ];
    let error = SftConfig::load(&file, &list).unwrap_err().to_string();
    assert!(error.contains("`data.streaming`") && error.contains("give `train.steps`"), "{error}");
    let store = folder.path().join("hearken.db").display().to_string();
    hearken_store::open(&store).unwrap();
    for (more, expected) in [
        (format!("data.train={store}").as_str(), "is a store, which is read as a whole"),
        ("data.train=nothing.jsonl", "nothing.jsonl"),
    ] {
        let error = refused(&[more]);
        assert!(error.contains(expected), "{error}");
    }
    let dpo = |more: &str| {
        let error = Trainer::Dpo.go(&run, &[more], &mut Recorder::new(After::GoOn)).unwrap_err();
        error.to_string()
    };
    for more in ["dpo.loss=kto", "dpo.online=dpo", "dpo.reference_cache=cache"] {
        let error = dpo(more);
        assert!(error.contains("`data.streaming`"), "{error}");
    }
}

#[test]
fn bad_records_of_a_stream_are_counted_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.jsonl");
    let good = "{\"prompt_ids\": [5], \"completion_ids\": [7, 9]}\n";
    fs::write(&file, format!("{}{{\"prompt\": 3}}\n{good}", good.repeat(10))).unwrap();
    let data = format!("data.train={}", file.display());
    let mut said = Recorder::new(After::GoOn);
    let run = folder.path().join("run");
    Trainer::Sft.go(&run, &[&data, "data.on_bad_record=skip"], &mut said).unwrap();
    assert!(said.said("1 bad and skipped"), "{:?}", said.notes);
    let error = refused(&[&data, "data.shuffle_buffer=2", "train.steps=9"]);
    assert!(error.contains("data.jsonl:11"), "{error}");
}
