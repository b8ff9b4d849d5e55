//! Models and data sets from a hub on loopback.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearken_data::{HubName, HubSnapshot, record_files};
use hearken_hub::{Hub, HubError, HubSettings, ModelPart, Watcher};
use hearken_testing::hub::{Fault, StubHub};

/// What a download said.
#[derive(Default)]
struct Heard {
    notes: Vec<String>,
    bytes: Vec<(String, u64, u64)>,
    /// Stops when so many bytes of a file are here.
    stops_at: Option<u64>,
}

impl Watcher for Heard {
    fn bytes(&mut self, file: &str, done: u64, total: u64) {
        self.bytes.push((file.to_owned(), done, total));
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn stop_requested(&self) -> bool {
        let last = self.bytes.last().map_or(0, |(_, done, _)| *done);
        self.stops_at.is_some_and(|bytes| bytes <= last)
    }
}

struct Bench {
    stub: StubHub,
    folder: tempfile::TempDir,
    settings: HubSettings,
}

impl Bench {
    fn new() -> Self {
        let (stub, folder) = (StubHub::start(), tempfile::tempdir().unwrap());
        let settings = HubSettings {
            endpoint: stub.endpoint().to_owned(),
            cache: folder.path().join("hub"),
            token: None,
            offline: false,
            first_pause: Duration::from_millis(1),
        };
        Self { stub, folder, settings }
    }

    fn model(&self, name: &str) -> Result<PathBuf, HubError> {
        self.model_heard(name, &mut Heard::default())
    }

    fn model_heard(&self, name: &str, heard: &mut Heard) -> Result<PathBuf, HubError> {
        let name = HubName::parse(name).unwrap();
        Hub::new(self.settings.clone()).model(&name, ModelPart::Whole, heard)
    }

    fn dataset(&self, name: &str) -> Result<PathBuf, HubError> {
        let name = HubName::parse(name).unwrap();
        Hub::new(self.settings.clone()).dataset(&name, &mut Heard::default())
    }

    /// Every file below the folder of the cache, by its name inside.
    fn cached(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.settings.cache.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                } else {
                    let inside = path.strip_prefix(&self.settings.cache).unwrap();
                    found.push(inside.display().to_string());
                }
            }
        }
        found.retain(|name| !name.starts_with(".locks"));
        found.sort();
        found
    }
}

const INDEX: &[u8] = br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;

fn tiny(stub: &StubHub) -> String {
    let weights = vec![7_u8; 300_000];
    let files: [(&str, &[u8]); 8] = [
        ("README.md", b"about it"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("additional_chat_templates/tool.jinja", b"{{ messages }}"),
        ("model.safetensors", &weights),
        ("pytorch_model.bin", b"the same once more"),
        ("model-q4.gguf", b"the same once more"),
        ("onnx/model.onnx", b"the same once more"),
    ];
    stub.commit("models", "org/tiny", &files)
}

#[test]
fn a_model_is_fetched_once_with_what_is_read_of_it_alone() {
    let bench = Bench::new();
    let commit = tiny(&bench.stub);
    let mut heard = Heard::default();
    let folder = bench.model_heard("org/tiny", &mut heard).unwrap();
    assert_eq!(HubSnapshot::of_path(&folder).unwrap().to_string(), format!("org/tiny@{commit}"));
    let root = "models--org--tiny";
    let of_snapshot = |name: &str| format!("{root}/snapshots/{commit}/{name}");
    let cached = bench.cached();
    let links: Vec<&String> = cached.iter().filter(|name| name.contains("/snapshots/")).collect();
    let expected = [
        "additional_chat_templates/tool.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    assert_eq!(links, expected.map(of_snapshot).iter().collect::<Vec<_>>());
    assert_eq!(cached.iter().filter(|name| name.contains("/blobs/")).count(), 4);
    let main = bench.settings.cache.join(root).join("refs/main");
    assert_eq!(fs::read_to_string(main).unwrap(), commit);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), vec![7; 300_000]);
    let target = fs::read_link(folder.join("additional_chat_templates/tool.jinja")).unwrap();
    assert!(target.starts_with("../../../blobs"), "{}", target.display());
    assert!(heard.bytes.contains(&("model.safetensors".to_owned(), 300_000, 300_000)));
    bench.stub.requests();
    assert_eq!(bench.model("org/tiny").unwrap(), folder);
    assert_eq!(bench.stub.requests(), ["GET /api/models/org/tiny/revision/main"]);
}

#[test]
fn shards_come_by_their_index() {
    let bench = Bench::new();
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", INDEX),
        ("model-00001-of-00002.safetensors", b"first"),
        ("model-00002-of-00002.safetensors", b"second"),
        ("consolidated.safetensors", b"all once more"),
    ];
    bench.stub.commit("models", "org/large", &files);
    let folder = bench.model("org/large").unwrap();
    assert_eq!(fs::read(folder.join("model-00002-of-00002.safetensors")).unwrap(), b"second");
    assert!(!folder.join("consolidated.safetensors").exists());
}

#[test]
fn a_revision_is_a_commit_of_its_own() {
    let bench = Bench::new();
    let first = tiny(&bench.stub);
    let files: [(&str, &[u8]); 2] =
        [("config.json", b"{\"x\": 2}"), ("model.safetensors", b"other")];
    let second = bench.stub.commit("models", "org/tiny", &files);
    let old = bench.model(&format!("org/tiny@{first}")).unwrap();
    let new = bench.model("org/tiny").unwrap();
    assert!(old.ends_with(&first) && new.ends_with(&second));
    assert_eq!(fs::read(old.join("model.safetensors")).unwrap().len(), 300_000);
    let error = bench.model("org/tiny@v9").unwrap_err().to_string();
    assert!(error.contains("no revision \"v9\""), "{error}");
}

#[test]
fn what_was_cut_off_goes_on_where_it_ended() {
    let bench = Bench::new();
    tiny(&bench.stub);
    bench
        .model_heard("org/tiny", &mut Heard { stops_at: Some(100_000), ..Heard::default() })
        .unwrap_err();
    let cached = bench.cached();
    assert!(cached.iter().any(|name| name.ends_with(".incomplete")), "{cached:?}");
    assert!(!cached.iter().any(|name| name.contains("refs/")), "{cached:?}");
    // In this process: three answers that end early, the last of them without a range.
    bench.stub.requests();
    bench.stub.fail(&[Fault::CutOff(50_000), Fault::CutOff(60_000), Fault::NoRange]);
    let folder = bench.model("org/tiny").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), vec![7; 300_000]);
    let ranges = bench
        .stub
        .requests()
        .iter()
        .filter(|one| one.contains("/cdn/"))
        .filter(|one| one.contains("bytes="))
        .count();
    assert!(3 <= ranges, "{ranges}");
    assert!(!bench.cached().iter().any(|name| name.ends_with(".incomplete")));
}

#[test]
fn an_answer_that_always_ends_early_is_an_error_and_nothing_half_written() {
    let bench = Bench::new();
    tiny(&bench.stub);
    // The first file alone: each answer brings nothing.
    bench.stub.fail(&[const { Fault::CutOff(0) }; 20]);
    let error = bench.model("org/tiny").unwrap_err().to_string();
    assert!(error.contains("was cut off") && error.contains("expected"), "{error}");
    let cached = bench.cached();
    assert!(!cached.iter().any(|name| name.contains("refs/")), "{cached:?}");
    assert!(
        cached
            .iter()
            .filter(|name| name.contains("/blobs/"))
            .all(|name| name.ends_with(".incomplete")),
        "{cached:?}"
    );
}

#[test]
fn a_content_with_another_hash_is_fetched_anew_and_then_refused() {
    let bench = Bench::new();
    tiny(&bench.stub);
    bench.stub.fail(&[Fault::WrongByte]);
    bench.model("org/tiny").unwrap();
    let again = Bench::new();
    tiny(&again.stub);
    again.stub.fail(&[Fault::WrongByte, Fault::WrongByte]);
    let error = again.model("org/tiny").unwrap_err().to_string();
    assert!(error.contains("the hash") && error.contains("nothing of it is kept"), "{error}");
    assert!(!again.cached().iter().any(|name| name.contains("/blobs/")), "{:?}", again.cached());
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let bench = Bench::new();
    tiny(&bench.stub);
    let busy = |status| Fault::Status(status, vec![("retry-after", "0".to_owned())]);
    bench.stub.fail(&[busy(429), busy(503), busy(500)]);
    bench.model("org/tiny").unwrap();
    bench.stub.fail(&[const { Fault::Status(502, Vec::new()) }; 5]);
    let fresh = Bench {
        settings: HubSettings {
            cache: bench.folder.path().join("other"),
            ..bench.settings.clone()
        },
        ..bench
    };
    let error = fresh.model("org/tiny").unwrap_err().to_string();
    assert!(error.contains("status 502 after 5 attempts: out of order"), "{error}");
    assert_eq!(fresh.stub.faults_left(), 0);
}

#[test]
fn what_is_gated_private_or_nowhere_says_what_to_do() {
    let bench = Bench::new();
    tiny(&bench.stub);
    let error = bench.model("org/none").unwrap_err().to_string();
    assert!(error.contains("no model of this name") && error.contains("HF_TOKEN"), "{error}");
    bench.stub.require_token("hf_right");
    let error = bench.model("org/tiny").unwrap_err().to_string();
    assert!(error.contains("granted access") && error.contains("set HF_TOKEN"), "{error}");
    let settings = HubSettings { token: Some("hf_right".to_owned()), ..bench.settings.clone() };
    Bench { settings, ..bench }.model("org/tiny").unwrap();
}

#[test]
fn offline_the_cache_alone_is_read() {
    let bench = Bench::new();
    let commit = tiny(&bench.stub);
    let offline = HubSettings { offline: true, ..bench.settings.clone() };
    let hub = Hub::new(offline.clone());
    let name = HubName::parse("org/tiny").unwrap();
    let ask = || hub.model(&name, ModelPart::Whole, &mut Heard::default());
    let error = ask().unwrap_err().to_string();
    assert!(error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(bench.stub.requests().is_empty());
    let folder = bench.model("org/tiny").unwrap();
    bench.stub.requests();
    assert_eq!(ask().unwrap(), folder);
    let by_commit = HubName::parse(&format!("org/tiny@{commit}")).unwrap();
    assert_eq!(hub.model(&by_commit, ModelPart::Whole, &mut Heard::default()).unwrap(), folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let error = ask().unwrap_err().to_string();
    assert!(error.contains("lacks model.safetensors"), "{error}");
    hub.model(&name, ModelPart::Tokenizer, &mut Heard::default()).unwrap();
    assert!(bench.stub.requests().is_empty());
}

#[test]
fn without_a_network_what_the_cache_has_is_used_and_said() {
    let bench = Bench::new();
    tiny(&bench.stub);
    let folder = bench.model("org/tiny").unwrap();
    let settings =
        HubSettings { endpoint: "http://127.0.0.1:9".to_owned(), ..bench.settings.clone() };
    let mut heard = Heard::default();
    let name = HubName::parse("org/tiny").unwrap();
    let hub = Hub::new(settings);
    assert_eq!(hub.model(&name, ModelPart::Whole, &mut heard).unwrap(), folder);
    assert!(heard.notes[0].contains("what the cache has of it is used"), "{:?}", heard.notes);
    let other = HubName::parse("org/other").unwrap();
    let error = hub.model(&other, ModelPart::Whole, &mut heard).unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
}

#[test]
fn a_model_without_weights_that_are_read_is_refused_before_anything_large() {
    let bench = Bench::new();
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("pytorch_model.bin", b"pickled")];
    bench.stub.commit("models", "org/old", &files);
    let error = bench.model("org/old").unwrap_err().to_string();
    assert!(error.contains("found pytorch_model.bin, expected model.safetensors"), "{error}");
}

#[test]
fn of_a_data_set_the_split_that_is_asked_for_is_fetched() {
    let bench = Bench::new();
    let readme: &[u8] = b"---\nconfigs:\n- config_name: main\n  default: true\n  data_files:\n  - split: train\n    path: main/train-*\n  - split: test\n    path: main/test-*\n- config_name: socratic\n  data_files: socratic/*.jsonl\n---\n";
    let files: [(&str, &[u8]); 6] = [
        ("README.md", readme),
        ("main/train-00000-of-00002.jsonl", b"{\"prompt\": \"a\"}\n"),
        ("main/train-00001-of-00002.jsonl", b"{\"prompt\": \"b\"}\n"),
        ("main/test-00000-of-00001.jsonl", b"{\"prompt\": \"c\"}\n"),
        ("socratic/all.jsonl", b"{\"prompt\": \"d\"}\n"),
        ("other/large.jsonl", b"{\"prompt\": \"e\"}\n"),
    ];
    bench.stub.commit("datasets", "org/maths", &files);
    let names = |path: &Path| -> Vec<String> {
        let files = record_files(path).unwrap();
        files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let train = bench.dataset("org/maths").unwrap();
    assert_eq!(names(&train), ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]);
    assert!(!bench.cached().iter().any(|name| name.contains("test-") || name.contains("large")));
    let test = bench.dataset("org/maths#test").unwrap();
    assert_eq!(names(&test), ["test-00000-of-00001.jsonl"]);
    assert_eq!(names(&bench.dataset("org/maths#socratic/train").unwrap()), ["all.jsonl"]);
    assert_eq!(names(&bench.dataset("org/maths").unwrap()).len(), 2);
    let error = bench.dataset("org/maths#validation").unwrap_err().to_string();
    assert!(error.contains("found the splits train, test"), "{error}");
}

#[test]
fn a_data_set_that_is_a_program_says_where_its_records_are() {
    let bench = Bench::new();
    bench.stub.commit("datasets", "org/script", &[("script.py", b"print()")]);
    let error = bench.dataset("org/script").unwrap_err().to_string();
    assert!(error.contains("refs/convert/parquet"), "{error}");
}
