// A private PostgreSQL server for tests, from the binaries of the machine.
//
// Included by path where it is needed: `#[path = "…/support/postgres_server.rs"] mod postgres_server;`

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The password of the one user of the server.
pub(crate) const PASSWORD: &str = "s3cret-of-the-tests";

/// A server with a data folder of its own, gone when dropped.
pub(crate) struct PostgresServer {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    child: Option<Child>,
}

impl PostgresServer {
    /// Starts a server; says why on standard error and gives `None` where that is not possible.
    pub(crate) fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            hearken_testing::skip(
                "no PostgreSQL here (initdb and postgres in PATH or /usr/lib/postgresql)",
            );
            return None;
        };
        let user = if is_root() { Some(unprivileged()) } else { None };
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = free_port();
        let mut server = Self { folder, binaries, user, port, child: None };
        server.initialise();
        server.launch();
        Some(server)
    }

    /// The address of a database that did not exist before.
    pub(crate) fn new_database(&self, name: &str) -> String {
        let mut client = postgres::Client::connect(&self.url("postgres"), postgres::NoTls).unwrap();
        client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).unwrap();
        self.url(name)
    }

    /// The address of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://hearken:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Kills the server as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGQUIT: the server ends at once, without a checkpoint, and takes its children along.
            let pid = child.id().to_string();
            Command::new("kill").args(["-QUIT", &pid]).status().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the server again after [`kill`](Self::kill).
    pub(crate) fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.path("data"));
        command.args(["-p", &self.port.to_string(), "-k", self.folder.path().to_str().unwrap()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let start = Instant::now();
        loop {
            match postgres::Client::connect(&self.url("postgres"), postgres::NoTls) {
                Ok(_) => return,
                Err(error) if start.elapsed() > Duration::from_secs(60) => {
                    let log = fs::read_to_string(self.path("log")).unwrap_or_default();
                    panic!("the PostgreSQL server does not answer: {error}\n{log}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn initialise(&self) {
        let password = self.path("password");
        fs::write(&password, PASSWORD).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(&password, Some(uid), Some(gid)).unwrap();
        }
        let mut command = self.command("initdb");
        command.arg("-D").arg(self.path("data")).arg("--pwfile").arg(&password);
        command.args(["-U", "hearken", "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of PostgreSQL, run as an ordinary user, since it refuses to be run as root.
    fn command(&self, name: &str) -> Command {
        let program = self.binaries.join(name);
        let mut command = match self.user {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
                command.arg("--clear-groups").arg("--").arg(program);
                command
            }
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("LC_ALL", "C");
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder with `initdb` and `postgres`: one in PATH, or the newest version that is installed.
fn binaries() -> Option<PathBuf> {
    let has_both =
        |folder: &Path| folder.join("initdb").exists() && folder.join("postgres").exists();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(|folder| has_both(folder)) {
        // Through a link, so that the programs find their libraries and each other.
        return fs::canonicalize(folder.join("initdb")).ok()?.parent().map(Path::to_owned);
    }
    let version = |folder: &PathBuf| {
        let name = folder.parent()?.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    };
    let installed = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = installed.map(|entry| entry.path().join("bin"));
    folders.filter(|folder| has_both(folder)).max_by_key(version)
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.is_some_and(|uid| uid.split_whitespace().nth(1) == Some("0"))
}

/// The user and group "postgres" where they exist, else "nobody".
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).unwrap_or((65534, 65534))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
