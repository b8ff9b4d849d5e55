//! Names of the Hugging Face Hub in place of paths, with a hub on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearken_data::HubKind;
use hearken_testing::hub::{Fault, StubHub};
use serde_json::Value;

use crate::support::{self, Ran, hearken, model, names, write};

struct Bench {
    stub: StubHub,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { stub: StubHub::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a folder's files on the hub.
    fn publish(&self, kind: HubKind, repository: &str, folder: &Path) -> String {
        let names = names(folder);
        let files: Vec<Vec<u8>> =
            names.iter().map(|name| fs::read(folder.join(name)).unwrap_or_default()).collect();
        let files: Vec<(&str, &[u8])> =
            names.iter().map(String::as_str).zip(files.iter().map(Vec::as_slice)).collect();
        self.stub.commit(kind.plural(), repository, &files)
    }

    fn publish_tiny(&self) -> String {
        self.publish(HubKind::Model, "org/tiny", &model("llama"))
    }

    fn publish_lines(&self, repository: &str, text: &str) -> String {
        let split: (&str, &[u8]) = ("data/train.jsonl", text.as_bytes());
        let other: (&str, &[u8]) =
            ("data/test.jsonl", b"{\"prompt\": \"x\", \"completion\": \" y\"}\n");
        self.stub.commit("datasets", repository, &[split, other])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hearken(arguments);
        command.current_dir(self.root()).env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
        command.env("HF_ENDPOINT", self.stub.endpoint()).env("HF_HOME", self.root().join("hf"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    fn offline(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).env("HF_HUB_OFFLINE", "1"))
    }

    fn sft(&self, more: &[&str]) -> Ran {
        let config = support::workspace().join("configs/sft.toml").display().to_string();
        let mut arguments = vec!["sft", config.as_str()];
        for key in [
            "run.dir=run",
            "model.path=org/tiny",
            "data.train=org/lines",
            "train.batch_size=2",
            "train.save_every=2",
            "samples.count=0",
        ] {
            arguments.extend(["--set", key]);
        }
        arguments.extend(more);
        self.run(&arguments)
    }
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const LINES: &str =
    "{\"prompt\": \"a\", \"completion\": \" b\"}\n{\"prompt\": \"c\", \"completion\": \" d\"}\n";

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn checkpoint(run: &Path) -> PathBuf {
    let folder = run.join("checkpoints");
    folder.join(names(&folder).pop().unwrap())
}

#[test]
fn a_run_reads_model_and_records_by_name_and_says_which_commit_they_were() {
    let bench = Bench::new();
    let (tiny, lines) = (bench.publish_tiny(), bench.publish_lines("org/lines", LINES));
    bench.sft(&["--set", "train.steps=2"]).ok();
    let run = bench.root().join("run");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("path = \"org/tiny\"") && config.contains("\"org/lines\""), "{config}");
    let card = fs::read_to_string(run.join("final/README.md")).unwrap();
    for part in [
        "base_model: \"org/tiny\"\ndatasets:\n- \"org/lines\"\n".to_owned(),
        format!("- `model.path` `org/tiny` at the commit `{tiny}`, weights: "),
        format!("- `data.train` `org/lines` at the commit `{lines}`, records: "),
    ] {
        assert!(card.contains(&part), "{part}\n{card}");
    }
    // The hub has moved on: the run goes on with what it began with, and a new one has the new.
    let moved = bench.publish_lines("org/lines", &LINES.repeat(2));
    bench.sft(&["--set", "train.steps=4"]).ok();
    let state = json(&checkpoint(&run).join("state/state.json"));
    assert_eq!(state["inputs"][0]["commit"], lines);
    bench.sft(&["--set", "train.steps=2", "--fresh"]).ok();
    let state = json(&checkpoint(&run).join("state/state.json"));
    assert_eq!(state["inputs"][0]["commit"], moved);
}

#[test]
fn an_adapter_names_its_base_as_the_hub_does_and_is_read_by_that_name() {
    let bench = Bench::new();
    let commit = bench.publish_tiny();
    bench.publish_lines("org/lines", LINES);
    bench.sft(&["--set", "train.steps=2", "--set", "lora.r=2"]).ok();
    let made = json(&bench.root().join("run/final/adapter_config.json"));
    assert_eq!(made["base_model_name_or_path"], "org/tiny");
    assert_eq!(made["revision"], commit);
    bench.sft(&["--set", "train.steps=4", "--set", "lora.r=2"]).ok();
    write(bench.root(), "in.jsonl", "{\"input_ids\": [5, 17, 300, 42]}\n");
    let io = ["--input", "in.jsonl", "--output", "out.jsonl"];
    bench.offline(&[&["logprobs", "--model", "run/final"], &io[..]].concat()).ok();
    // On a machine that has the adapter alone, the base is fetched.
    fs::remove_dir_all(bench.root().join("hf")).unwrap();
    let error = bench.offline(&[&["logprobs", "--model", "run/final"], &io[..]].concat()).error();
    assert!(error.contains("org/tiny") && error.contains("not in the cache"), "{error}");
    bench.run(&[&["logprobs", "--model", "run/final"], &io[..]].concat()).ok();
    bench.publish(HubKind::Model, "org/adapter", &bench.root().join("run/final"));
    bench.run(&["merge", "--adapter", "org/adapter", "--output", "merged"]).ok();
    bench
        .run(&[&["logprobs", "--model", "org/tiny", "--adapter", "org/adapter"], &io[..]].concat())
        .ok();
}

#[test]
fn commands_that_take_a_model_or_records_take_names() {
    let bench = Bench::new();
    bench.publish_tiny();
    bench.publish_lines("org/lines", LINES);
    let told = bench.run(&["data", "stats", "org/lines", "--model", "org/tiny"]).ok();
    assert!(told.stdout.contains("2 records"), "{}", told.stdout);
    let tokenizer_alone = bench.stub.requests();
    assert!(!tokenizer_alone.iter().any(|one| one.contains("safetensors")), "{tokenizer_alone:?}");
    let told = bench.run(&["data", "stats", "org/lines#test"]).ok();
    assert!(told.stdout.contains("1 records"), "{}", told.stdout);
    bench.run(&["data", "convert", "org/lines", "lines.csv"]).ok();
    bench.run(&["doctor", "--data", "org/lines", "--model", "org/tiny"]).ok();
    bench.run(&["convert", "--model", "org/tiny", "--output", "tiny", "--dtype", "bf16"]).ok();
    let lines = ["--input", "org/lines", "--output", "out.jsonl", "--max-new-tokens", "2"];
    bench.run(&[&["generate", "--model", "org/tiny"], &lines[..]].concat()).ok();
    let shape = "llama,layers=1,width=32,heads=2,positions=96";
    bench.run(&["init", "--shape", shape, "--tokenizer", "org/tiny", "--output", "new"]).ok();
}

#[test]
fn runs_of_a_sweep_take_names() {
    let bench = Bench::new();
    bench.publish_tiny();
    bench.publish_lines("org/lines", &"{\"prompt\": \"a\", \"completion\": \" b\"}\n".repeat(8));
    let config = support::workspace().join("configs/sft.toml").display().to_string();
    let mut arguments = vec!["sweep", config.as_str(), "--metric", "loss"];
    arguments.extend(["--over", "optimizer.lr=[1e-5, 1e-4]"]);
    for key in ["run.dir=swept", "model.path=org/tiny", "data.train=org/lines", "train.steps=2"] {
        arguments.extend(["--set", key]);
    }
    bench.run(&arguments).ok();
    assert!(bench.root().join("swept/2/final/model.safetensors").exists());
}

#[test]
fn a_path_that_is_there_is_read_and_the_hub_not_asked() {
    let bench = Bench::new();
    fs::create_dir(bench.root().join("org")).unwrap();
    write(&bench.root().join("org"), "lines", LINES);
    let told = bench.run(&["data", "stats", "org/lines"]).ok();
    assert!(told.stdout.contains("2 records"), "{}", told.stdout);
    let error = bench.run(&["data", "stats", "org/lines.jsonl"]).error();
    assert!(error.contains("org/lines.jsonl"), "{error}");
    assert!(bench.stub.requests().is_empty());
}

#[test]
fn what_the_hub_does_not_give_is_an_error_that_names_the_key() {
    let bench = Bench::new();
    bench.publish_lines("org/lines", LINES);
    let error = bench.sft(&["--set", "train.steps=2"]).error();
    assert!(error.starts_with("`model.path`: there is no org/tiny here"), "{error}");
    assert!(error.contains("has no model of this name"), "{error}");
    bench.publish_tiny();
    bench.stub.fail(&[const { Fault::CutOff(0) }; 5]);
    let error = bench.sft(&["--set", "train.steps=2"]).error();
    assert!(error.contains("was cut off"), "{error}");
    assert!(!bench.root().join("run").exists());
}
