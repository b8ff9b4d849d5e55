//! A folder with a model, records, configurations and a finished run, all of which work.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The trainers, and what each of them reads.
pub(super) const TRAINERS: [(&str, &str); 5] = [
    ("sft", "demonstrations.jsonl"),
    ("reward", "pairs.jsonl"),
    ("dpo", "pairs.jsonl"),
    ("ppo", "prompts.jsonl"),
    ("grpo", "prompts.jsonl"),
];

const DEMONSTRATIONS: &str = r#"{"prompt": "one and two", "completion": " are three"}
{"prompt": "two and two", "completion": " are four"}
{"prompt": "one and three", "completion": " are four too"}
{"prompt": "three and two", "completion": " are five"}
"#;

const PAIRS: &str = r#"{"prompt": "one and two", "chosen": " are three", "rejected": " are four"}
{"prompt": "two and two", "chosen": " are four", "rejected": " are three"}
{"prompt": "one and three", "chosen": " are four", "rejected": " are two"}
{"prompt": "three and two", "chosen": " are five", "rejected": " are one"}
"#;

const UNPAIRED: &str = r#"{"prompt": "one and two", "completion": " are three", "label": true}
{"prompt": "two and two", "completion": " are three", "label": false}
{"prompt": "one and three", "completion": " are four", "label": true}
{"prompt": "three and two", "completion": " are one", "label": false}
"#;

const PROMPTS: &str = r#"{"prompt": "one and two"}
{"prompt": "two and two"}
{"prompt": "one and three"}
{"prompt": "three and two"}
"#;

const SEQUENCES: &str = r#"{"input_ids": [5, 6, 7, 8]}
{"input_ids": [7, 6, 5]}
{"input_ids": [9, 8, 7]}
{"input_ids": [6, 7, 8]}
"#;

/// What a case may read, and what is put back before the next one.
pub(super) struct Workshop {
    folder: PathBuf,
    /// Where a case runs.
    scratch: PathBuf,
}

impl Workshop {
    /// Makes everything with the program itself, below the workspace's `runs/`.
    pub(super) fn make(program: &Path, root: &Path) -> Result<Self> {
        let folder = root.join("runs/bad-input");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let (good, scratch) = (folder.join("good"), folder.join("scratch"));
        std::fs::create_dir_all(&good)?;
        for (name, text) in [
            ("demonstrations.jsonl", DEMONSTRATIONS),
            ("pairs.jsonl", PAIRS),
            ("unpaired.jsonl", UNPAIRED),
            ("prompts.jsonl", PROMPTS),
            ("sequences.jsonl", SEQUENCES),
        ] {
            std::fs::write(good.join(name), text)?;
        }
        std::fs::write(
            good.join("corpus.txt"),
            "one and two are three, two and two are four\n".repeat(40),
        )?;
        let shape = "llama,layers=1,width=16,heads=2,positions=64";
        let words = "init --train-tokenizer corpus.txt --vocab-size 280 --output model --shape";
        let words: Vec<&str> = words.split(' ').chain([shape]).collect();
        run(program, &good, &words)?;
        for (trainer, data) in TRAINERS {
            std::fs::write(good.join(format!("{trainer}.toml")), configuration(trainer, data))?;
            let file = format!("{trainer}.toml");
            run(program, &good, &[trainer, &file, "--set", &format!("run.dir=runs/{trainer}")])?;
        }
        Ok(Self { folder, scratch })
    }

    pub(super) fn good(&self) -> PathBuf {
        self.folder.join("good")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }

    /// A fresh copy of everything.
    pub(super) fn restore(&self) -> Result<&Path> {
        if self.scratch.exists() {
            std::fs::remove_dir_all(&self.scratch)?;
        }
        copy(&self.good(), &self.scratch)?;
        Ok(&self.scratch)
    }
}

/// The configuration of a trainer: two steps, and the folder of the run that is finished already.
pub(super) fn configuration(trainer: &str, data: &str) -> String {
    let sampled = "[rollout]\nmax_new_tokens = 4\n\n[[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n";
    let own = match trainer {
        "sft" => String::new(),
        "ppo" => format!("\n[ppo]\nepochs = 1\nminibatches = 1\n\n{sampled}"),
        "grpo" => format!("\n[grpo]\npreset = \"grpo\"\nprompts = 1\n\n{sampled}completions = 2\n")
            .replace("max_new_tokens = 4\n", "max_new_tokens = 4\ncompletions = 2\n")
            .replace("length_diversity\"\ncompletions = 2\n", "length_diversity\"\n"),
        other => format!("\n[{other}]\n"),
    };
    let batch = if trainer == "grpo" { "" } else { "batch_size = 2\n" };
    format!(
        "[run]\ndir = \"runs/{trainer}\"\nseed = 1\n\n[model]\npath = \"model\"\n\n[data]\ntrain = \"{data}\"\n\n\
         [optimizer]\nlr = 1e-3\n\n[train]\nsteps = 2\n{batch}{own}"
    )
}

fn run(program: &Path, folder: &Path, words: &[&str]) -> Result<()> {
    let output = Command::new(program).current_dir(folder).args(words).output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("what should work does not: hearken {}\n{message}", words.join(" "));
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Every file below `folder` with a hash of its bytes; but for locks, which say what process held a folder last.
pub(super) fn contents(folder: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() != "lock" {
                let mut hasher = DefaultHasher::new();
                std::fs::read(entry.path())?.hash(&mut hasher);
                found.insert(entry.path(), hasher.finish());
            }
        }
    }
    Ok(found)
}
