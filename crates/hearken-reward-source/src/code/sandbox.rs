//! A process that can do no harm: namespaces by util-linux's `unshare`, limits by `prlimit`.
//!
//! | what | how it is kept in |
//! |---|---|
//! | network | its own network namespace, without an interface that is up |
//! | processes | its own process namespace, which ends with its first process; at most `processes` |
//! | files | everything is read-only but a working folder in memory of `disk_bytes` |
//! | time | `cpu` seconds of each process, and a deadline after which the namespace is killed |
//! | memory | `memory_bytes` of address space of each process |
//! | rights | its own user namespace, no capabilities, no new privileges, no further namespaces; run by root it is nobody |
//!
//! Not kept in: it may read what the user (or nobody) may read, and memory is limited per process.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxLimits {
    /// Until the program must have ended.
    pub deadline: Duration,
    /// Address space of a process.
    pub memory_bytes: u64,
    /// The working folder.
    pub disk_bytes: u64,
    /// Processes and threads at the same time.
    pub processes: u64,
}

/// How programs are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The interpreter: a name that is found in /usr/local/bin, /usr/bin and /bin, or a path.
    pub program: String,
    /// Its arguments before the file with the program.
    pub args: Vec<String>,
    /// What it may use.
    pub limits: SandboxLimits,
}

/// A program's text and what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) program: &'a str,
    pub(super) input: &'a str,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// By itself, with this code.
    Exited {
        /// 0 for success.
        code: i32,
        /// What it wrote to standard output, up to a limit.
        output: String,
    },
    /// At its deadline, or by a signal.
    Killed,
}

/// Runs inside the namespaces, before the program: a folder in memory, everything else read-only.
/// The line that it writes tells that it came to its end.
const SETUP: &str = r#"
set -eu
box=$1 source=$2 bytes=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o "size=$bytes,nr_inodes=1024,mode=0700,nosuid,nodev" tmpfs "$box"
cat "$source" >"$box/program"
while read -r _ _ _ _ target options _; do
    case $target in
    "$box" | /proc | /proc/*) ;;
    *)
        kept=$(printf %s ",$options," | sed 's/,rw,/,/; s/^,//; s/,$//')
        mount -o "remount,bind,ro,$kept" "$(printf %b "$target")"
        ;;
    esac
done </proc/self/mountinfo
echo 0 >/proc/sys/user/max_user_namespaces
cd "$box"
echo ready
exec "$@"
"#;
const READY: &str = "ready\n";
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// Nobody, on every Linux.
const NOBODY: &str = "65534";
/// The most bytes of output that are kept; a program that writes more is cut off.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Until the namespaces must be set up.
const SETUP_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a program that runs.
const LOOK_EVERY: Duration = Duration::from_millis(2);

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Elsewhere there is no sandbox, which its first program says.
#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

impl Sandbox {
    /// Runs a program that does nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        let shell = Self { program: "sh".to_owned(), args: Vec::new(), ..self.clone() };
        match shell.run(Job { program: "exit 0", input: "" })? {
            Finish::Exited { code: 0, .. } => Ok(()),
            other => Err(unusable(&format!("a program that does nothing ended as {other:?}"))),
        }
    }

    /// Runs a program to its end or its deadline.
    ///
    /// # Errors
    /// If the sandbox cannot be set up: the program has not run then.
    pub(super) fn run(&self, job: Job<'_>) -> Result<Finish, String> {
        let io = |error: std::io::Error| format!("a temporary folder: {error}");
        let folder = tempfile::tempdir().map_err(io)?;
        let root = folder.path();
        let (box_dir, source, input) = (root.join("box"), root.join("source"), root.join("input"));
        set_mode(root, 0o755).map_err(io)?;
        fs::create_dir(&box_dir).map_err(io)?;
        fs::write(&source, job.program).map_err(io)?;
        fs::write(&input, job.input).map_err(io)?;
        set_mode(&source, 0o644).map_err(io)?;
        let mut command = self.command(&box_dir, &source);
        command.stdin(File::open(&input).map_err(io)?);
        let mut child = command.spawn().map_err(|error| unusable(&error.to_string()))?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = Arc::clone(&ready);
        let output = thread::spawn(move || capped(stdout, &is_ready));
        let errors = thread::spawn(move || capped(stderr, &AtomicBool::new(false)));
        let code = self.wait(&mut child, &ready).map_err(io)?;
        let output = output.join().expect("a reader does not panic");
        let errors = errors.join().expect("a reader does not panic");
        match (output.strip_prefix(READY), code) {
            (None, Some(_)) => Err(unusable(errors.trim())),
            (None, None) => Err(unusable("it took too long")),
            (Some(output), Some(code)) => Ok(Finish::Exited { code, output: output.to_owned() }),
            (Some(_), None) => Ok(Finish::Killed),
        }
    }

    fn command(&self, box_dir: &Path, source: &Path) -> Command {
        let SandboxLimits { deadline, memory_bytes, disk_bytes, processes } = self.limits;
        // Limits on processes bind nobody, not root.
        let is_root = is_root();
        let mut command = Command::new(if is_root { "setpriv" } else { "unshare" });
        if is_root {
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "unshare"]);
        }
        command
            .args(["--user", "--map-root-user", "--net", "--ipc", "--uts", "--pid", "--fork"])
            .args(["--kill-child", "--mount", "--mount-proc", "--", "sh", "-c", SETUP, "sh"])
            .arg(box_dir)
            .arg(source)
            .arg(disk_bytes.to_string())
            .arg("prlimit")
            .arg(format!("--cpu={}", deadline.as_secs() + 1))
            .arg(format!("--as={memory_bytes}"))
            .arg(format!("--fsize={disk_bytes}"))
            .arg(format!("--nproc={processes}"))
            .args(["--nofile=64", "--core=0", "--", "setpriv", "--no-new-privs"])
            .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
            .arg(&self.program)
            .args(&self.args)
            .arg("program")
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", box_dir)
            .env("TMPDIR", box_dir)
            .env("LANG", "C.UTF-8")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The code that the program ends with; `None` if it is killed. Its time starts when it is ready.
    fn wait(&self, child: &mut Child, ready: &AtomicBool) -> std::io::Result<Option<i32>> {
        let mut ends = Instant::now() + SETUP_MAX;
        let mut runs = false;
        loop {
            if !runs && ready.load(Ordering::Acquire) {
                (runs, ends) = (true, Instant::now() + self.limits.deadline);
            }
            if let Some(status) = child.try_wait()? {
                // A shell's way to tell of a signal is a code above 128; the program failed anyhow.
                return Ok(status.code());
            }
            if ends < Instant::now() {
                // What it started dies with it: the process namespace ends with its first process,
                // and that one with its parent.
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The beginning of what a program writes. Once that is full the pipe closes, which ends the program.
/// `begun` tells of the first byte.
fn capped(stream: impl Read, begun: &AtomicBool) -> String {
    let mut stream = stream.take(OUTPUT_BYTES_MAX);
    let mut bytes = vec![0];
    // A pipe that breaks leaves what was read before.
    let first = stream.read(&mut bytes).unwrap_or(0);
    bytes.truncate(first);
    begun.store(true, Ordering::Release);
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unusable(reason: &str) -> String {
    format!(
        "the sandbox cannot be set up: {reason}; it needs the programs unshare, prlimit, setpriv and \
         mount (util-linux) and permission to make user namespaces (sysctl \
         kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns)"
    )
}
