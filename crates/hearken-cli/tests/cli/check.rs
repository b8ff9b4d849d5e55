//! `hearken check`: what a run would do, and nothing done.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Ran, model, names, run, write};

/// Configurations of every kind on a tiny model, in a folder of their own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines = |line: &dyn Fn(usize) -> String| (0..40).map(line).collect::<String>();
        let prompt = |index: usize| format!("\"prompt\": \"Who is number {index}? \"");
        let of = |more: &'static str| lines(&|index| format!("{{{}{more}}}\n", prompt(index)));
        write(folder.path(), "demonstrations.jsonl", &of(", \"completion\": \"Me.\""));
        write(folder.path(), "pairs.jsonl", &of(", \"chosen\": \"Me.\", \"rejected\": \"You.\""));
        write(folder.path(), "prompts.jsonl", &of(""));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration of 4 steps whose run directory is `run`.
    fn config(&self, data: &str, more: &str) -> String {
        let text = format!(
            "[run]\ndir = '{}'\n[model]\npath = '{}'\n[data]\ntrain = '{}'\neval_fraction = 0.1\n\
             [train]\nsteps = 4\n{more}",
            self.path("run").display(),
            model("llama").display(),
            self.path(data).display()
        );
        write(self.folder.path(), "run.toml", &text).display().to_string()
    }

    /// Every file below the folder with its content.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for name in names(&folder) {
                let path = folder.join(name);
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    /// Runs the check, which must change no file and make no folder.
    fn check(&self, arguments: &[&str]) -> Ran {
        let (before, folders) = (self.files(), names(self.folder.path()));
        let ran = run(["check"].iter().chain(arguments));
        assert_eq!((self.files(), names(self.folder.path())), (before, folders), "{arguments:?}");
        ran
    }
}

fn has(text: &str, parts: &[&str]) {
    // Lines are wrapped; sentences are not.
    let whole = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(whole.contains(part), "{part} in {text}");
    }
}

const SAMPLED: &str = "[rollout]\nmax_new_tokens = 8\n[[score]]\nkind = 'contains'\ntext = 'M'\n";

#[test]
fn every_kind_of_configuration_is_checked_and_nothing_is_written() {
    let place = Place::new();
    let online = format!("[dpo]\nonline = 'dpo'\n{SAMPLED}");
    let kinds = [
        ("sft", "demonstrations.jsonl", String::new()),
        ("reward", "pairs.jsonl", "[reward]\n".to_owned()),
        ("dpo", "pairs.jsonl", "[dpo]\n".to_owned()),
        ("dpo", "prompts.jsonl", online),
        ("ppo", "prompts.jsonl", format!("[ppo]\n{SAMPLED}")),
        ("grpo", "prompts.jsonl", format!("[grpo]\n{SAMPLED}")),
    ];
    for (kind, data, more) in kinds {
        let config = place.config(data, &more);
        let text = place.check(&[&config]).ok().stdout;
        assert!(text.starts_with(&format!("{kind}: ready to start; 4 steps, ")), "{text}");
        let expected = ["an estimate", "run: would be made", "llama", "36 examples", "4 examples"];
        has(&text, &expected);
        has(&text, &["tokens per", "memory", "no limit is set", "for checkpoints and models"]);
        if more.contains("score") {
            has(&text, &["at most about", "1 × contains: a function of the text"]);
        }
        let long = text.lines().filter(|line| 60 < line.chars().count());
        assert!(long.into_iter().all(|line| line.contains('/')), "only a path is longer: {text}");
    }
}

#[test]
fn the_errors_are_those_of_the_run() {
    let place = Place::new();
    write(place.folder.path(), "bad.jsonl", "{\"prompt\": 3, \"completion\": \"x\"}\n");
    let command = "[ppo]\n[[score]]\nkind = 'command'\nprogram = 'no-such-program'\n";
    let cases = [
        ("sft", "absent.jsonl", "", ""),
        ("sft", "bad.jsonl", "", ""),
        ("sft", "demonstrations.jsonl", "", "optimizer.learning_rate=1"),
        ("sft", "demonstrations.jsonl", "", "model.path=nowhere"),
        ("sft", "demonstrations.jsonl", "", "run.memory_limit_gb=0.0001"),
        ("ppo", "prompts.jsonl", command, ""),
        ("ppo", "prompts.jsonl", "[ppo]\n", ""),
        ("dpo", "pairs.jsonl", "[dpo]\nreference = 'nowhere'\n", ""),
    ];
    for (kind, data, more, set) in cases {
        let config = place.config(data, more);
        let mut arguments = vec![config.as_str()];
        if !set.is_empty() {
            arguments.extend(["--set", set]);
        }
        let found = place.check(&arguments).error();
        assert_eq!(found, run([kind].iter().chain(&arguments)).error(), "{arguments:?}");
    }
    let found = place.check(&["nowhere.toml"]).error();
    assert_eq!(found, run(["sft", "nowhere.toml"]).error());
}

#[test]
fn a_run_that_is_there_goes_on_is_done_or_would_be_moved_aside() {
    let place = Place::new();
    let config = place.config("demonstrations.jsonl", "");
    run(["sft", &config]).ok();
    has(&place.check(&[&config]).ok().stdout, &["sft: done already", "finished after 4 steps"]);
    let text = place.check(&[&config, "--set", "train.steps=9"]).ok().stdout;
    has(&text, &["ready to start; 5 steps", "goes on from the checkpoint of step 4"]);
    let text = place.check(&[&config, "--fresh"]).ok().stdout;
    has(&text, &["ready to start; 4 steps", "what is there would be moved to", "run.old-1"]);
    let arguments = [config.as_str(), "--set", "optimizer.lr=0.5"];
    let error = place.check(&arguments).error();
    assert!(error.contains("`optimizer.lr`") && error.contains("0.5"), "{error}");
    assert_eq!(error, run(["sft"].iter().chain(&arguments)).error());
}

#[test]
fn what_does_not_fit_is_to_be_looked_at() {
    let place = Place::new();
    let config = place.config("demonstrations.jsonl", "");
    let text = place.check(&[&config, "--set", "run.disk_limit_gb=0.001"]).ok().stdout;
    assert!(text.starts_with("sft: to be looked at first; 4 steps"), "{text}");
    has(&text, &["look `run.disk_limit_gb` may be"]);
}

/// Neither the program nor the sandbox is started, and nothing listens at the address.
#[test]
#[cfg(unix)]
fn who_scores_is_named_and_not_asked() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    let program = write(place.folder.path(), "score.sh", "#!/bin/sh\ntouch \"$0.started\"\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let at = |path: &Path| path.display().to_string();
    let more = format!(
        "[ppo]\n[rollout]\nmax_new_tokens = 8\n[[score]]\nkind = 'command'\nlabel = 'taste'\n\
         program = '{0}'\n[[score]]\nkind = 'http'\nurl = 'http://127.0.0.1:1/'\n\
         [[score]]\nkind = 'code'\nprogram = '{0}'\n",
        at(&program)
    );
    let config = place.config("prompts.jsonl", &more);
    let text = place.check(&[&config]).ok().stdout;
    has(&text, &["1 × taste: the program", "1 × http: the server", "1 × code:"]);
    assert!(!place.path("score.sh.started").exists());
}

#[test]
fn a_quickstart_is_checked_stage_by_stage() {
    let place = Place::new();
    let arguments = crate::rlhf::short_quickstart(&place.path("run"), &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = place.check(&arguments).ok().stdout;
    assert!(text.starts_with("rlhf: ready to start; 24 steps, at most about "), "{text}");
    for stage in ["data: ", "sft: ready to start; 12", "reward: ready", "ppo: ready"] {
        assert!(text.lines().any(|line| line.starts_with(stage)), "{stage} in {text}");
    }
    has(
        &text,
        &["200 demonstrations", "stands in for", "is still to be made, and not counted here"],
    );
}

#[test]
fn records_that_are_cut_off_are_counted() {
    let place = Place::new();
    let config = place.config("demonstrations.jsonl", "");
    let cut = ["--set", "data.max_tokens=10", "--set", "data.truncation=left"];
    let text = place.check(&[&[config.as_str()][..], &cut].concat()).ok().stdout;
    has(&text, &["36 examples, 36 truncated", "10.0 tokens per record on average, 10 at most"]);
}
