//! A project on disk with a database of its own, driven through the built `lakegate` binary as a user drives it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use lakegate::postgres::Session;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::postgres::{TestDatabase, scratch};

/// A project folder and the environment that commands run in.
pub(crate) struct ProjectFolder {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

/// The binary under test: the one that `LAKEGATE_TEST_BINARY` names, else the one built with the tests.
fn binary() -> PathBuf {
    std::env::var_os("LAKEGATE_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_lakegate").into(), PathBuf::from)
}

/// A project folder with a database of its own.
pub(crate) struct TestProject {
    folder: ProjectFolder,
    pub(crate) database: TestDatabase,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The lines of standard output as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The same, of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

impl TestProject {
    /// A project without pipelines.
    pub(crate) async fn new() -> Self {
        TestProject::on(TestDatabase::new().await)
    }

    /// A project without pipelines on a database that another one may share.
    pub(crate) fn on(database: TestDatabase) -> Self {
        let mut folder = ProjectFolder::new();
        folder.set("LAKEGATE_POSTGRES", &database.url());
        TestProject { folder, database }
    }

    /// A session of a superuser on the project's database.
    pub(crate) async fn sql(&self) -> Session {
        self.database.client().await
    }
}

impl Deref for TestProject {
    type Target = ProjectFolder;

    fn deref(&self) -> &ProjectFolder {
        &self.folder
    }
}

impl DerefMut for TestProject {
    fn deref_mut(&mut self) -> &mut ProjectFolder {
        &mut self.folder
    }
}

impl ProjectFolder {
    /// A project without pipelines and, as long as `LAKEGATE_POSTGRES` is not set, with the embedded Postgres.
    pub(crate) fn new() -> Self {
        let dir = scratch();
        std::fs::create_dir(dir.path().join("pipelines")).unwrap();
        let mut folder = ProjectFolder { dir, environment: Vec::new() };
        folder.set("LAKEGATE_API_LISTEN", "127.0.0.1:0");
        folder.set("LAKEGATE_ADMIN_LISTEN", "127.0.0.1:0");
        if let Ok(binaries) = std::env::var("LAKEGATE_TEST_POSTGRES_BIN") {
            folder.set("LAKEGATE_POSTGRES_BIN", &binaries);
        }
        folder
    }

    /// The project's folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the project's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets a variable for all commands to come.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable away from all commands to come.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Writes `pipelines/<name>.yaml`.
    pub(crate) fn pipeline(&self, name: &str, yaml: &str) {
        std::fs::write(self.path("pipelines").join(format!("{name}.yaml")), yaml).unwrap();
    }

    /// The binary with its arguments, in an environment without anything of this process.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--project").arg(self.dir.path()).args(arguments).current_dir(self.dir.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end, which must come within two minutes.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_within(Duration::from_secs(120), arguments).await
    }

    /// Runs a command to its end, which must come within this time.
    pub(crate) async fn run_within(&self, patience: Duration, arguments: &[&str]) -> Ran {
        let output = tokio::time::timeout(patience, self.command(arguments).output()).await;
        let output = output.unwrap_or_else(|_| panic!("`lakegate {}` does not end", arguments.join(" ")));
        let Output { status, stdout, stderr } = output.unwrap();
        Ran {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Syncs one pipeline, which must succeed: its outcome.
    pub(crate) async fn sync(&self, name: &str) -> Value {
        let mut lines = self.run(&["sync", name, "--output", "json"]).await.ok().json();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    /// Syncs one pipeline, which must fail with exit code 1: its error.
    pub(crate) async fn sync_fails(&self, name: &str) -> Value {
        let ran = self.run(&["sync", name, "--output", "json"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.json().remove(0)["error"].take()
    }

    /// Starts a long-lived command (`up` or `serve`) and waits until its APIs listen.
    pub(crate) async fn start(&self, command: &str) -> RunningServer {
        let mut child = self.command(&[command]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut listening = async |api: &str| {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, address)) = line.split_once(&format!("the {api} API listens")) {
                    let (_, address) = address.split_once("address=").unwrap();
                    return address.trim().parse().unwrap();
                }
            }
            panic!("`{command}` ended before it listened");
        };
        let addresses = async {
            let address = listening("read").await;
            (address, listening("admin").await)
        };
        let addresses = tokio::time::timeout(Duration::from_secs(30), addresses).await;
        let (address, admin) = addresses.unwrap_or_else(|_| panic!("`{command}` does not listen"));
        // The log must be read on, or the process would wait for somebody to read it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        RunningServer { address, admin, child }
    }
}

/// A `lakegate up` or `serve` under way; killed when dropped.
pub(crate) struct RunningServer {
    /// Of the read API.
    pub(crate) address: std::net::SocketAddr,
    /// Of the admin API, of which `serve` has metrics alone.
    admin: std::net::SocketAddr,
    pub(crate) child: Child,
}

impl RunningServer {
    /// The address of the admin API.
    pub(crate) fn admin(&self) -> std::net::SocketAddr {
        self.admin
    }
}

/// Waits until `condition` holds, looking every few milliseconds; fails after half a minute.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
