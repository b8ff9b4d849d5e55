//! Several processes for one run: how they are started, and how one of them ends.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hearken_run::ranks::Ranks;

use crate::failure;
use crate::interrupt::{INTERRUPTED, Interrupt};

/// Variables that say to how many processes a launcher started this one: Open MPI's, MPICH's and Intel's.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
/// Variables that are there where a launcher started this process and does not say with how many others.
const LAUNCHED: [&str; 1] = ["PMIX_RANK"];
/// Variables that say how many of the processes are on this machine.
const LOCAL_SIZES: [&str; 2] = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"];
/// What the thread pool reads.
const THREADS: &str = "RAYON_NUM_THREADS";
/// Programs that start ranks, the first that is there.
const LAUNCHERS: [&str; 2] = ["mpirun", "mpiexec"];
/// How long a rank leaves it to the first to say what all of them have found.
const GRACE: Duration = Duration::from_secs(2);

fn number(names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

/// How many processes a launcher started, this one among them; `None` where nobody did, or does not say.
fn launched() -> Option<usize> {
    let is_launched = LAUNCHED.iter().any(|name| std::env::var_os(name).is_some());
    number(&SIZES).or(is_launched.then_some(0))
}

/// Shares the processor's cores out among the ranks of this machine, unless the environment says how many threads
/// there are to be.
pub(crate) fn share_cores() -> Result<()> {
    let Some(local) = number(&LOCAL_SIZES).filter(|&local| 1 < local) else { return Ok(()) };
    if std::env::var_os(THREADS).is_some() {
        return Ok(());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::ThreadPoolBuilder::new().num_threads((cores / local).max(1));
    threads.build_global().context("the threads of a rank cannot be started")
}

/// Who makes a run for which `--ranks` is `wanted`: the processes that a launcher started, or this one alone. `None`
/// where a launcher is to start them.
pub(crate) fn join(wanted: Option<usize>) -> Result<Option<Ranks>> {
    match (launched(), wanted) {
        (None, Some(wanted)) if 1 < wanted => Ok(None),
        (None | Some(1), _) => Ok(Some(Ranks::default())),
        (Some(_), wanted) => {
            let ranks = hearken_mpi::connect().context("an MPI launcher started this process")?;
            match wanted {
                Some(wanted) if wanted != ranks.size() => bail!(
                    "--ranks: found {wanted}, expected {}, as the launcher started, or no --ranks",
                    ranks.size()
                ),
                _ => Ok(Some(ranks)),
            }
        }
    }
}

/// A program of the search path.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|place| place.is_file())
}

/// Starts this command as so many ranks on this machine, and waits for them. An interrupt asks them to stop after
/// their step.
pub(crate) fn launch(count: usize) -> Result<ExitCode> {
    if !hearken_mpi::IS_BUILT {
        return Err(hearken_mpi::MpiError::NotBuilt).context("--ranks");
    }
    let Some(launcher) = LAUNCHERS.iter().find_map(|name| on_path(name)) else {
        bail!(
            "--ranks: found neither mpirun nor mpiexec on the search path, expected one of them: it starts the ranks \
             (on Debian: openmpi-bin)"
        );
    };
    let interrupt = Interrupt::of_steps()?;
    let mut command = Command::new(&launcher);
    command.args(["-n", &count.to_string()]).args(options(&launcher));
    command.arg(std::env::current_exe().context("this program has no file")?);
    command.args(std::env::args_os().skip(1)).stdin(Stdio::null());
    apart(&mut command);
    let mut ranks = command.spawn().with_context(|| launcher.display().to_string())?;
    let mut asked = false;
    let status = loop {
        if let Some(status) = ranks.try_wait().context("the ranks cannot be waited for")? {
            break status;
        }
        if interrupt.requested() && !asked {
            asked = true;
            ask_to_stop(ranks.id());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(code) if code == i32::from(INTERRUPTED) => Ok(ExitCode::from(INTERRUPTED)),
        _ => bail!(
            "the ranks have ended ({status}), for the reason above; the same command goes on from the last checkpoint"
        ),
    }
}

/// What a launcher must be told to start ranks of several threads on one machine, maybe more than it has cores.
fn options(launcher: &std::path::Path) -> Vec<&'static str> {
    let version = Command::new(launcher).arg("--version").output();
    let is_open_mpi = version.is_ok_and(|found| {
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        text.contains("Open MPI") || text.contains("OpenRTE")
    });
    match is_open_mpi {
        // Others refuse neither, and know these words not.
        false => Vec::new(),
        true if is_root() => vec!["--oversubscribe", "--bind-to", "none", "--allow-run-as-root"],
        true => vec!["--oversubscribe", "--bind-to", "none"],
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// A terminal's interrupt comes to this process alone: a launcher that gets it ends the ranks at once.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

/// Launchers pass this signal on.
#[cfg(unix)]
fn ask_to_stop(launcher: u32) {
    use rustix::process::{Pid, Signal, kill_process};

    let launcher = i32::try_from(launcher).ok().and_then(Pid::from_raw);
    // A launcher that has just ended needs no signal.
    let _ = launcher.map(|launcher| kill_process(launcher, Signal::USR1));
}

#[cfg(not(unix))]
fn ask_to_stop(_: u32) {}

/// Ends a rank that cannot go on: its launcher then ends the others. What all ranks have found, the first one says.
#[expect(
    clippy::exit,
    reason = "to return would wait for the other ranks, which wait for this one"
)]
pub(crate) fn fail(error: anyhow::Error, ranks: &Ranks) -> ! {
    let rank = ranks.rank();
    let error = if rank == 0 { error } else { error.context(format!("rank {rank}")) };
    if rank != 0 {
        std::thread::sleep(GRACE);
    }
    failure::report(&error);
    std::process::exit(1)
}
