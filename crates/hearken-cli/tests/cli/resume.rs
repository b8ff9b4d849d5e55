//! kill -9 in the middle of a run, the same command again, and the same metrics in the end.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{TIME_FIELDS, hearken, metrics, model, names, recorded, run, set, write};

/// Nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(120);

/// Starts the program and kills it once metrics.jsonl has `lines` lines and there is a checkpoint.
pub(crate) fn kill_after(arguments: &[String], run_dir: &Path, lines: usize) {
    let mut command = hearken(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap_or_default();
        let has_checkpoint = fs::read_dir(run_dir.join("checkpoints")).is_ok_and(|entries| {
            entries.flatten().any(|entry| is_checkpoint(&entry.file_name().to_string_lossy()))
        });
        if has_checkpoint && lines <= text.lines().count() {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        assert!(start.elapsed() < DEADLINE, "no checkpoint and {lines} records in time");
        sleep(Duration::from_millis(2));
    }
    // SIGKILL on Unix: nothing can be saved on the way out.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!run_dir.join("final").exists(), "the run was over before it was killed");
}

fn is_checkpoint(name: &str) -> bool {
    name.starts_with("step-")
}

/// One run that goes through, one that is killed and resumed.
fn check(command: &str, config: &str, lines: usize) {
    let folder = tempfile::tempdir().unwrap();
    let [has_table, has_events] =
        ["csv = true", "tensorboard = true"].map(|key| config.contains(key));
    let config = write(folder.path(), "run.toml", config);
    let arguments = |run_dir: &Path| {
        let mut arguments = vec![command.to_owned(), config.display().to_string()];
        arguments.extend(set("run.dir", run_dir));
        arguments
    };
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    run(arguments(&whole)).ok();
    kill_after(&arguments(&killed), &killed, lines);
    run(arguments(&killed)).ok();

    let (expected, found) = (metrics(&whole), metrics(&killed));
    assert!(lines < expected.len(), "the run is too short for this test");
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    let weights = |dir: &Path| fs::read(dir.join("final/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&killed), "the final weights differ");
    let card = |dir: &Path| fs::read_to_string(dir.join("final/README.md")).unwrap();
    let of_folder = |dir: &Path| dir.display().to_string();
    assert_eq!(card(&whole).replace(&of_folder(&whole), &of_folder(&killed)), card(&killed));
    let samples = |dir: &Path| fs::read_to_string(dir.join("samples.jsonl")).unwrap_or_default();
    assert_eq!(samples(&whole), samples(&killed));
    if has_table {
        assert_eq!(table(&whole), table(&killed));
        assert_eq!(table(&killed).len(), 1 + found.len());
    }
    assert_eq!(killed.join("tensorboard").exists(), has_events);
}

/// The lines of metrics.csv, but for the columns that a clock fills.
fn table(run: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let is_time = |column: &str| TIME_FIELDS.contains(&column);
    let kept: Vec<usize> = (0..rows[0].len()).filter(|&column| !is_time(rows[0][column])).collect();
    let of_row = |row: &Vec<&str>| kept.iter().map(|&column| row[column].to_owned()).collect();
    rows.iter().map(of_row).collect()
}

fn config(model: &Path, data: &Path, more: &str) -> String {
    let (model, data) = (model.display(), data.display());
    format!("[run]\nseed = 3\n[model]\npath = \"{model}\"\n[data]\ntrain = \"{data}\"\n{more}")
}

#[test]
fn supervised_fine_tuning_that_is_killed_ends_as_if_it_had_not_been() {
    let more = "eval_fraction = 0.2\n[optimizer]\nlr = 1e-3\nschedule = \"cosine\"\nwarmup_steps = 4\n\
                [train]\nbatch_size = 4\nsteps = 40\nsave_every = 5\neval_every = 10\nsample_every = 10\n\
                [samples]\ncount = 2\nmax_new_tokens = 8\n[log]\ntensorboard = true\ncsv = true\n";
    check("sft", &config(&model("llama"), &recorded("sft/data.jsonl"), more), 12);
}

#[test]
fn a_reward_model_that_is_killed_ends_as_if_it_had_not_been() {
    let more = "eval_fraction = 0.2\n[optimizer]\nlr = 1e-3\n\
                [train]\nbatch_size = 4\nsteps = 40\nsave_every = 5\neval_every = 10\n";
    check("reward", &config(&recorded("rm_model"), &recorded("rm/data.jsonl"), more), 12);
}

/// PPO cannot be resumed elsewhere: huggingface/trl#1643, huggingface/trl#2657.
#[test]
fn ppo_that_is_killed_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[optimizer]\nlr = 1e-3\n[train]\nbatch_size = 8\nsteps = 40\nsave_every = 4\n\
                [rollout]\nmax_new_tokens = 12\n[kl]\ntarget = 1.0\n[ppo]\nepochs = 2\nminibatches = 2\n\
                [[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n";
    check("ppo", &config(&model("llama"), &prompts(folder.path()), more), 13);
}

#[test]
fn a_critic_of_its_own_is_resumed_too() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = write(
        folder.path(),
        "prompts.jsonl",
        &"{\"prompt\": \"ROMEO:\"}\n{\"prompt\": \"JULIET:\"}\n".repeat(4),
    );
    let critic = recorded("ppo_critic");
    let more = format!(
        "[optimizer]\nlr = 1e-3\n[train]\nbatch_size = 4\nsteps = 24\nsave_every = 2\n\
         [rollout]\nmax_new_tokens = 8\n[ppo]\ncritic = \"{}\"\nepochs = 2\n\
         [[score]]\nkind = \"contains\"\ntext = \"e\"\n",
        critic.display()
    );
    check("ppo", &config(&model("llama"), &prompts, &more), 6);
}

#[test]
fn preference_optimization_that_is_killed_ends_as_if_it_had_not_been() {
    let more = "eval_fraction = 0.2\n[optimizer]\nlr = 1e-3\n\
                [train]\nbatch_size = 4\nsteps = 40\nsave_every = 5\neval_every = 10\nsample_every = 10\n\
                [dpo]\nkl_prompts = 2\n[samples]\ncount = 2\nmax_new_tokens = 8\n";
    check("dpo", &config(&model("llama"), &recorded("dpo_sigmoid/data.jsonl"), more), 12);
}

fn prompts(folder: &Path) -> std::path::PathBuf {
    let line = |i| format!("{{\"prompt_ids\": [{}, {}]}}", 20 + i, 60 + i);
    write(folder, "prompts.jsonl", &(0..16).map(line).collect::<Vec<_>>().join("\n"))
}

#[test]
fn online_preference_optimization_that_is_killed_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[optimizer]\nlr = 1e-3\n[train]\nbatch_size = 8\nsteps = 40\nsave_every = 4\n\
                [rollout]\nmax_new_tokens = 12\n[dpo]\nonline = \"dpo\"\n[online]\nminibatches = 2\n\
                [[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n";
    check("dpo", &config(&model("llama"), &prompts(folder.path()), more), 13);
}

#[test]
fn group_relative_training_that_is_killed_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[optimizer]\nlr = 1e-3\n[train]\nsteps = 40\nsave_every = 4\n\
                [rollout]\nmax_new_tokens = 12\n\
                [grpo]\nprompts = 4\ncompletions = 4\nepochs = 2\nminibatches = 2\n\
                [[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n";
    check("grpo", &config(&model("llama"), &prompts(folder.path()), more), 13);
}

#[test]
fn distillation_that_is_killed_ends_as_if_it_had_not_been() {
    let more = format!(
        "eval_fraction = 0.2\n[optimizer]\nlr = 1e-3\n[train]\nbatch_size = 4\nsteps = 40\nsave_every = 4\n\
         eval_every = 10\n[rollout]\nmax_new_tokens = 12\n[distill]\nlambda = 0.5\nbeta = 0.5\nminibatches = 2\n\
         [teacher]\npath = \"{}\"\n",
        model("qwen3").display()
    );
    check("distill", &config(&model("llama"), &recorded("sft/data.jsonl"), &more), 13);
}

/// A file of records, a reference or a reward model that becomes another between two sessions.
#[test]
fn a_run_whose_inputs_have_become_others_is_refused_by_every_trainer() {
    for (name, trainer, more) in short_runs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        copy(&model("llama"), &at("model"));
        copy(&model("llama"), &at("reference"));
        copy(&recorded("rm_model"), &at("reward"));
        let records = |file: &str, count: usize, factor: usize| {
            write_records(folder.path(), file, count, factor);
        };
        records("data.jsonl", 8, 7);
        records("eval.jsonl", 2, 3);
        let more = more
            .replace("REWARD", &at("reward").display().to_string())
            .replace("REFERENCE", &at("reference").display().to_string());
        let eval = format!("eval = {:?}\n{more}", at("eval.jsonl").display().to_string());
        let config =
            write(folder.path(), "run.toml", &config(&at("model"), &at("data.jsonl"), &eval));
        let go = |steps: &str| {
            let mut arguments = vec![trainer.to_owned(), config.display().to_string()];
            arguments.extend(set("run.dir", &at("run")));
            arguments.extend(["--set".to_owned(), format!("train.steps={steps}")]);
            run(arguments)
        };
        go("3").ok();
        let refused = |key: &str, what: &str| {
            let error = go("6").error();
            assert!(error.contains(key) && error.contains(what), "{name}: {error}");
        };
        records("data.jsonl", 3, 7);
        refused("`data.train`", "holds other data");
        records("data.jsonl", 8, 13);
        refused("`data.train`", "holds other data");
        records("data.jsonl", 8, 7);
        records("eval.jsonl", 2, 5);
        refused("`data.eval`", "holds other data");
        records("eval.jsonl", 2, 3);
        let reference = match name {
            "dpo" => Some("`dpo.reference`"),
            "distill" => Some("`teacher.path`"),
            _ => None,
        };
        let change = |model: &str| change_last_bit(&at(model).join("model.safetensors"));
        let is_scored = more.contains("[[score]]");
        let other = match reference {
            _ if is_scored => Some(("reward", "`score[0].path`")),
            key => key.map(|key| ("reference", key)),
        };
        if let Some((model, key)) = other {
            change(model);
            refused(key, "holds another model");
            change(model);
        }
        change("model");
        if is_scored {
            // The starting model is the reference.
            refused("`model.path`", "holds another model");
        } else {
            let ran = go("6").ok();
            assert!(ran.stderr.contains("another model than when the run began"), "{}", ran.stderr);
        }
    }
}

/// Trainers, and what their configurations have beside a model and records.
fn short_runs() -> [(&'static str, &'static str, String); 7] {
    let score = "[[score]]\nkind = \"model\"\npath = \"REWARD\"\n";
    let sampling = format!("[rollout]\nmax_new_tokens = 4\n{score}");
    let batch = "[train]\nbatch_size = 2\n";
    [
        ("sft", "sft", batch.to_owned()),
        ("reward", "reward", batch.to_owned()),
        ("dpo", "dpo", format!("{batch}[dpo]\nreference = \"REFERENCE\"\n")),
        ("online", "dpo", format!("{batch}[dpo]\nonline = \"dpo\"\n{sampling}")),
        ("ppo", "ppo", format!("{batch}[ppo]\nepochs = 1\n{sampling}")),
        ("grpo", "grpo", format!("[grpo]\nprompts = 2\ncompletions = 2\n{sampling}")),
        (
            "distill",
            "distill",
            format!("{batch}[rollout]\nmax_new_tokens = 4\n[teacher]\npath = \"REFERENCE\"\n"),
        ),
    ]
}

/// Records that serve every trainer.
fn write_records(folder: &Path, file: &str, count: usize, factor: usize) {
    let line = |i: usize| {
        let answer = i * factor;
        format!(
            "{{\"prompt\": \"Q{i}x{factor}:\", \"completion\": \" a {answer}\", \"chosen\": \" a {answer}\", \
             \"rejected\": \" no\"}}"
        )
    };
    write(folder, file, &(0..count).map(line).collect::<Vec<_>>().join("\n"));
}

/// Changes the last bit of a model's last value, or changes it back.
fn change_last_bit(weights: &Path) {
    let mut bytes = fs::read(weights).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::write(weights, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::write(to.join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// Ctrl-C: a checkpoint after the step, code 130, and the same end.
#[cfg(unix)]
#[test]
fn a_run_that_is_interrupted_stops_with_a_checkpoint_and_goes_on() {
    use rustix::process::{Pid, Signal, kill_process};

    let folder = tempfile::tempdir().unwrap();
    let text = config(
        &model("llama"),
        &recorded("sft/data.jsonl"),
        "[train]\nbatch_size = 4\nsteps = 60\n",
    );
    let config = write(folder.path(), "run.toml", &text);
    let run_dir = folder.path().join("run");
    let mut arguments = vec!["sft".to_owned(), config.display().to_string()];
    arguments.extend(set("run.dir", &run_dir));
    let mut command = hearken(&arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap_or_default().lines().count() < 3
    {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("the same command goes on from there"), "{stderr}");
    assert!(output.stdout.is_empty());
    run(&arguments).ok();
    assert!(run_dir.join("final").exists());
}

/// `--fresh` where the run directory is the folder that everything lies in.
#[test]
fn a_fresh_start_in_the_folder_of_ones_own_files_changes_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    copy(&model("llama"), &folder.path().join("final"));
    let line = "{\"prompt\": \"Q:\", \"completion\": \" a\"}\n";
    let data = write(folder.path(), "samples.jsonl", &line.repeat(4));
    let text = "[run]\ndir = \".\"\n[model]\npath = \"final\"\n[data]\ntrain = \"samples.jsonl\"\n\
                [train]\nbatch_size = 2\nsteps = 2\n";
    let config = write(folder.path(), "config.toml", text);
    let before = names(folder.path());
    for more in [&["--fresh"][..], &[]] {
        let mut arguments = vec!["sft", "config.toml"];
        arguments.extend(more);
        let output = hearken(arguments).current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("nothing there is replaced"), "{stderr}");
        assert_eq!(names(folder.path()), before);
        assert_eq!(fs::read_to_string(&data).unwrap(), line.repeat(4));
        assert_eq!(fs::read_to_string(&config).unwrap(), text);
    }
}
