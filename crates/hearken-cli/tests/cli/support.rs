//! Running the program, and the models and data that it runs on.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use hearken_run::metrics::TIME_FIELDS;
pub(crate) use hearken_testing::{FAMILIES, family as model, json_lines, number};
use serde_json::Value;

/// What a run of the program left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, ready to be started; panics would show a backtrace if they could.
pub(crate) fn hearken<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    // What is no path may be a name of the hub, which no test asks but a stub.
    command.args(arguments).env("RUST_BACKTRACE", "1").env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs the program to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    run_with_input(arguments, "")
}

/// Runs the program with something on standard input.
pub(crate) fn run_with_input<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    input: &str,
) -> Ran {
    let mut command = hearken(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input has ended before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// The run, which must have gone well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The one line of an error: code 1, nothing on standard output, no backtrace.
    #[track_caller]
    pub(crate) fn error(self) -> String {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        let mut lines = self.stderr.lines().filter(|line| line.starts_with("error: "));
        let line = lines.next().unwrap_or_else(|| panic!("no error in {:?}", self.stderr));
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        line.strip_prefix("error: ").unwrap().to_owned()
    }
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A recorded run of TRL, or a model that belongs to one.
pub(crate) fn recorded(name: &str) -> PathBuf {
    crates().join("hearken-train/tests/fixtures/trl").join(name)
}

pub(crate) fn workspace() -> PathBuf {
    crates().parent().unwrap().to_owned()
}

/// Writes a file into `folder` and returns its path.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// metrics.jsonl of a run, but for what a clock fills.
pub(crate) fn metrics(run: &Path) -> Vec<Value> {
    hearken_testing::metrics_without(&TIME_FIELDS, run)
}

/// `--set key=value` with a path.
pub(crate) fn set(key: &str, path: &Path) -> [String; 2] {
    ["--set".to_owned(), format!("{key}={}", path.display())]
}

/// The names of the files in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
