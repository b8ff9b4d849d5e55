//! Several processes make one run: over MPI, where the program is built with it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hearken_testing::skip;

use crate::support::{Ran, hearken, metrics, model, number, recorded, run, set, write};

/// Nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(120);

/// Whether ranks can be started here; says so where not.
fn has_mpi() -> bool {
    let is_built = !run(["sft", "none.toml", "--ranks", "2"]).stderr.contains("without MPI");
    let has_launcher = Command::new("mpirun").arg("--version").output().is_ok();
    if !is_built || !has_launcher {
        skip(
            "no MPI: `cargo test --features hearken-cli/mpi` has it, where mpirun, mpicc and libclang are",
        );
    }
    is_built && has_launcher
}

/// Each of the ranks on one thread, in a folder of their own for what the launcher keeps.
fn ranks(arguments: &[String], count: usize) -> Command {
    let mut command = hearken(arguments);
    command.args(["--ranks", &count.to_string()]).env("RAYON_NUM_THREADS", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The command line of a trainer in `run_dir`, whose configuration is in the folder around it.
fn arguments(command: &str, text: &str, run_dir: &Path) -> Vec<String> {
    let config = write(run_dir.parent().unwrap(), &format!("{command}.toml"), text);
    let mut arguments = vec![command.to_owned(), config.display().to_string()];
    arguments.extend(set("run.dir", run_dir));
    arguments
}

fn config(data: &Path, more: &str) -> String {
    let (model, data) = (model("llama").display().to_string(), data.display());
    format!("model.path = '{model}'\ndata.train = '{data}'\noptimizer.lr = 1e-4\n{more}")
}

fn assert_close(found: &Path, expected: &Path) {
    let steps = |run: &Path| -> Vec<_> {
        metrics(run).into_iter().filter(|record| record.get("loss").is_some()).collect()
    };
    let (found, expected) = (steps(found), steps(expected));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        // Losses of samples are differences of numbers near 1, as whitened advantages are.
        let is_sampled = expected.get("iteration").is_some();
        for (key, least) in [("loss", if is_sampled { 1.0 } else { 0.01 }), ("grad_norm", 0.01)] {
            let (found, expected) = (number(found, key), number(expected, key));
            let error = (found - expected).abs();
            assert!(
                error <= 1e-6 * expected.abs().max(least),
                "{key} {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn ranks_over_mpi_train_what_one_process_trains() {
    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let line = |i: u32| format!("{{\"prompt_ids\": [{}, {}, 7]}}\n", 10 + i, 40 + 3 * i);
    let prompts = write(folder.path(), "prompts.jsonl", &(0..12).map(line).collect::<String>());
    let (pairs, supervised) = (recorded("rm/data.jsonl"), recorded("sft/data.jsonl"));
    let steps = "[train]\nsteps = 4\nbatch_size = 5\n";
    let sampled = "[[score]]\nkind = \"heuristic\"\nname = \"length_diversity\"\n[rollout]\nmax_new_tokens = 8\n[train]\nsteps = 4\n";
    let grpo = format!(
        "grpo.prompts = 3\nrollout.completions = 2\n{}",
        sampled.replace("[rollout]\n", "").replace("max_new_tokens = 8\n", "")
    );
    let cases = [
        ("sft", config(&supervised, steps), 3),
        ("reward", config(&pairs, steps), 2),
        ("dpo", config(&pairs, steps), 4),
        ("ppo", config(&prompts, &format!("{sampled}batch_size = 8\n")), 2),
        ("grpo", config(&prompts, &format!("rollout.max_new_tokens = 8\n{grpo}")), 2),
    ];
    for (command, text, count) in cases {
        let [alone, together] =
            ["alone", "together"].map(|name| folder.path().join(format!("{command}-{name}")));
        run(arguments(command, &text, &alone)).ok();
        let ran = ended(ranks(&arguments(command, &text, &together), count).spawn().unwrap()).ok();
        assert_eq!(ran.stdout, format!("{}\n", together.join("final").display()));
        assert_close(&together, &alone);
    }
}

/// Waits until a run has so many records.
fn until_records(run_dir: &Path, count: usize) {
    let start = Instant::now();
    while fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap_or_default().lines().count()
        < count
    {
        assert!(start.elapsed() < DEADLINE, "no {count} records in time");
        sleep(Duration::from_millis(2));
    }
}

/// A rank that is killed takes the others with it, and the run goes on, with another number of ranks.
#[cfg(target_os = "linux")]
#[test]
fn a_rank_that_is_killed_ends_the_run_which_goes_on_from_its_checkpoint() {
    use rustix::process::{Pid, Signal, kill_process};

    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = config(&recorded("sft/data.jsonl"), "[train]\nsteps = 400\nsave_every = 2\n");
    let run_dir = folder.path().join("run");
    let arguments = arguments("sft", &text, &run_dir);
    let child = ranks(&arguments, 3).spawn().unwrap();
    until_records(&run_dir, 6);
    let is_rank = |process: &Path| {
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let has = |text: Vec<u8>, part: &str| String::from_utf8_lossy(&text).contains(part);
        has(read("environ"), "OMPI_COMM_WORLD_RANK=1\0")
            && has(read("cmdline"), &run_dir.display().to_string())
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let rank = processes.into_iter().find(|process| is_rank(process)).expect("rank 1 runs");
    let rank = rank.file_name().unwrap().to_string_lossy().parse().unwrap();
    let killed = Instant::now();
    kill_process(Pid::from_raw(rank).unwrap(), Signal::KILL).unwrap();
    let ran = ended(child);
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for part in ["rank 1", "the same command goes on from the last checkpoint"] {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
    assert!(!run_dir.join("final").exists());
    let mut shorter = arguments;
    shorter.extend(["--set".to_owned(), "train.steps=12".to_owned()]);
    let ran = ended(ranks(&shorter, 2).spawn().unwrap()).ok();
    assert!(ran.stderr.contains("going on from the checkpoint"), "{}", ran.stderr);
}

/// Ctrl-C comes to the process that started the ranks: they stop after their step.
#[cfg(unix)]
#[test]
fn ranks_that_are_interrupted_stop_with_a_checkpoint() {
    use rustix::process::{Pid, Signal, kill_process};

    if !has_mpi() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = config(&recorded("sft/data.jsonl"), "[train]\nsteps = 4000\n");
    let run_dir = folder.path().join("run");
    let arguments = arguments("sft", &text, &run_dir);
    let child = ranks(&arguments, 2).spawn().unwrap();
    until_records(&run_dir, 3);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = ended(child);
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    let said = "the same command goes on from there";
    assert_eq!(ran.stderr.matches(said).count(), 1, "{}", ran.stderr);
    assert!(fs::read_dir(run_dir.join("checkpoints")).unwrap().next().is_some());
}

#[test]
fn what_is_missing_to_start_ranks_is_said() {
    let ran = hearken(["sft", "none.toml", "--ranks", "2"]).env("PATH", "").output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let is_said =
        ["built without MPI; `cargo build --release --features mpi`", "neither mpirun nor mpiexec"];
    assert!(is_said.iter().any(|part| stderr.contains(part)), "{stderr}");
    let ran = hearken(["sft", "none.toml", "--ranks", "0"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
}
