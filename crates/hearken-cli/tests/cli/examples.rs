//! The examples of the help texts, run as they are written.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{hearken, model, run, workspace, write};

/// What is not run: what it begins with, or has in it, and why.
const NOT_RUN: [(&str, &str); 21] = [
    ("hearken rlhf", "takes a minute; the README has it"),
    ("hearken rlaif", "takes a minute"),
    ("hearken loop", "takes minutes"),
    ("hearken check configs/quickstart.toml", "needs the quickstart itself, or nothing of it"),
    ("hearken bench", "measures a machine for minutes"),
    ("hearken serve", "serves until it is interrupted"),
    ("hearken collect --projects", "serves until it is interrupted"),
    ("hearken collect --items", "serves until it is interrupted"),
    ("hearken collect --bind", "serves until it is interrupted"),
    ("hearken collect --add-admin", "asks for a password"),
    ("hearken doctor runs/quickstart/ppo", "needs a longer run"),
    ("hearken report", "needs a longer run"),
    ("hearken frontier", "needs longer runs"),
    ("hearken constitution", "needs a model that talks"),
    ("postgres://", "needs a server"),
    ("teacher.server", "needs a server"),
    ("crowd-comparisons.csv", "a file of others"),
    ("ballots.txt", "a file of others"),
    ("export.json", "a file of others"),
    ("arena.db", "a file of others"),
    ("harmless-base", "a file of others"),
];

/// Programs and files that some shells have.
const OF_SHELLS: [&str; 3] = ["man -l", "$PROFILE", ".config/fish"];

/// A folder as the quickstart leaves it, of a model with one layer.
fn quickstart(root: &Path) {
    let configs = workspace().join("configs");
    fs::create_dir_all(root.join("configs")).unwrap();
    let files = fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.is_file()) {
        fs::copy(&path, root.join("configs").join(path.file_name().unwrap())).unwrap();
    }
    let made = root.join("runs/quickstart");
    fs::create_dir_all(made.join("data")).unwrap();
    let things: Vec<String> = (0..24).map(|at| format!("toast {at}")).collect();
    let lines =
        |line: &dyn Fn(&str) -> String| things.iter().map(|thing| line(thing)).collect::<String>();
    let data = made.join("data");
    write(
        &data,
        "demonstrations.jsonl",
        &lines(&|x| {
            format!("{{\"prompt\": \"Review of the {x}:\", \"completion\": \" Warm {x}.\"}}\n")
        }),
    );
    let pairs = lines(&|x| {
        format!(
            "{{\"prompt\": \"Review of {x}:\", \"chosen\": \" Warm.\", \"rejected\": \" Cold {x}.\"}}\n"
        )
    });
    for name in ["preferences.jsonl", "preferences_eval.jsonl"] {
        write(&data, name, &pairs);
    }
    for name in ["prompts.jsonl", "prompts_eval.jsonl"] {
        write(&data, name, &lines(&|x| format!("{{\"prompt\": \"The {x} in {name}:\"}}\n")));
    }
    let tokenizer = model("llama");
    let shape = "llama,layers=1,width=32,heads=1,positions=128";
    let init = ["init", "--shape", shape, "--tokenizer", tokenizer.to_str().unwrap(), "--output"];
    for name in ["base", "sft/final", "ppo/final"] {
        let folder = made.join(name);
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        run(init.into_iter().chain([folder.to_str().unwrap()])).ok();
    }
    let mut reward = hearken(["reward", "configs/reward.toml", "--set", "train.steps=1"]);
    reward.args(["--set", "run.dir=runs/quickstart/reward"]);
    reward.args(["--set", "model.path=runs/quickstart/base"]);
    reward.args(["--set", "data.train=runs/quickstart/data/preferences.jsonl"]);
    let ran = reward.current_dir(root).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// The commands of a help text: lines that end in a backslash go on.
fn examples(help: &str) -> Vec<String> {
    let Some((_, text)) = help.split_once("Example") else { return Vec::new() };
    let text = text.split_once('\n').unwrap().1.replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// my.toml as somebody has it: what `hearken config` begins, and what is required.
fn own_configuration(root: &Path, command: &str, example: &str, number: usize) {
    let trainer = match command {
        "check" if example.contains("--for dpo") => "dpo",
        "check" => "sft",
        "sweep" => "reward",
        trainer => trainer,
    };
    let file = match trainer {
        "sft" | "distill" => "demonstrations",
        "ppo" | "grpo" => "prompts",
        _ => "preferences",
    };
    let replays = example.contains("rollout.replay");
    let mut text = run(["config", trainer]).ok().stdout;
    let mut set = |from: &str, to: &str| {
        assert!(text.contains(from), "{trainer}: {from}");
        text = text.replacen(from, to, 1);
    };
    set("\n[run]\n", &format!("\n[run]\ndir = \"runs/own-{number}\"\n"));
    set("\n[model]\n", "\n[model]\npath = \"runs/quickstart/sft/final\"\n");
    set("\n[train]\n", "\n[train]\nsteps = 2\n");
    if !replays {
        set("\n[data]\n", &format!("\n[data]\ntrain = \"runs/quickstart/data/{file}.jsonl\"\n"));
    }
    if trainer == "distill" {
        set("\n[teacher]\n", "\n[teacher]\npath = \"runs/quickstart/ppo/final\"\n");
    }
    if command == "sweep" {
        set("eval_fraction = 0 ", "eval_fraction = 0.5 ");
    }
    if ["ppo", "grpo"].contains(&trainer) && !replays {
        text += "\n[[score]]\nkind = \"regex\"\npattern = \"e\"\n";
    }
    if replays {
        let rollout = |at: usize| {
            format!(
                "{{\"iteration\": {}, \"group\": 0, \"prompt_ids\": [5, 6], \"completion_ids\": [{at}, 8], \
                 \"score\": {at}}}\n",
                at / 64
            )
        };
        write(root, "rollouts.jsonl", &(0..128).map(rollout).collect::<String>());
    }
    write(root, "my.toml", &text);
}

/// Who reads a help text copies it: every line runs, in order, with what the quickstart makes.
#[test]
fn examples_run_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    quickstart(root);
    let program = Path::new(env!("CARGO_BIN_EXE_hearken")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let help = run(["--help"]).ok().stdout;
    let list = help.split_once("Commands:\n").unwrap().1;
    let commands = list.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next());
    let mut ran = 0_usize;
    for command in commands.filter(|&name| name != "help") {
        let help = run([command, "--help"]).ok().stdout;
        for example in &examples(&help) {
            let parts: Vec<&str> = example.split(" && ").collect();
            let is_run = |part: &&&str| {
                !NOT_RUN.iter().any(|(what, _)| part.contains(what))
                    && !OF_SHELLS.iter().any(|what| part.contains(what))
            };
            let run: Vec<&str> = parts.iter().filter(is_run).copied().collect();
            if run.is_empty() {
                continue;
            }
            if example.contains("my.toml") && !example.contains("> my.toml") {
                own_configuration(root, command, example, ran);
            }
            let mut shell = Command::new("bash");
            shell.args(["-c", &run.join(" && ")]).current_dir(root).env("HOME", root);
            let output = shell.env("PATH", &path).env("HF_HUB_OFFLINE", "1").output();
            let output = output.expect("a bash");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{example}\n{told}");
            ran += 1;
        }
    }
    assert!(40 <= ran, "{ran} examples");
}

/// A terminal of 80 columns breaks no line of an example, which could not be copied then.
#[test]
fn examples_fit_a_terminal() {
    let help = run(["--help"]).ok().stdout;
    let list = help.split_once("Commands:\n").unwrap().1;
    let commands = list.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next());
    for command in commands.filter(|&name| name != "help") {
        let help = run([command, "--help"]).ok().stdout;
        let Some((_, text)) = help.split_once("Example") else { continue };
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}
