//! Starting, adopting, reviving and stopping the server of a project.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::account::{Account, Entrance};
use super::binaries::{Binaries, BinarySearch};
use super::folder::{Folder, write_new};
use super::postmaster::Postmaster;
use super::{DATABASE, USER, blocking, initdb, settings};
use crate::domain::{Code, Error, Result};

/// How long a server may take to become ready. After a crash it first applies its log, which takes minutes at worst.
const READY_WITHIN: Duration = Duration::from_secs(600);

/// How long obstacles that pass by themselves are waited for: processes of a killed server that still end.
const OBSTACLES_WITHIN: Duration = Duration::from_secs(60);

/// How long a stopping server is waited for.
const STOPPED_WITHIN: Duration = Duration::from_secs(120);

/// How often a starting or stopping server is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The longest path of a socket, the shortest of all systems.
const SOCKET_PATH_BYTES: usize = 103;

/// Ports are taken from here: below those that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The project's server, as one process knows it.
pub(in crate::postgres) struct Cluster {
    folder: Folder,
    binaries: Binaries,
    account: Option<Account>,
    password: SecretString,
    port: AtomicU16,
    released: AtomicBool,
}

/// Takes a share in the project's server, which runs afterwards. The file is `users.lock`.
pub(super) fn start(project_dir: &Path, search: &BinarySearch) -> Result<(Cluster, File)> {
    let folder = Folder::create(project_dir)?;
    let _starting = folder.lock_start()?;
    let users = folder.lock_users()?;
    let data_version = folder.data_version()?;
    let account = Account::choose(&folder.data())?;
    let binaries = search.find(data_version)?;
    if data_version.is_none() {
        tracing::info!(folder = %folder.path().display(), version = binaries.major, "making the embedded Postgres");
        initdb::create(&folder, &binaries, account)?;
    }
    let password = initdb::password(&folder)?;
    let port = AtomicU16::new(0);
    let cluster = Cluster { folder, binaries, account, password, port, released: AtomicBool::new(false) };
    cluster.ensure_running()?;
    Ok((cluster, users))
}

impl Cluster {
    pub(super) fn data_directory(&self) -> PathBuf {
        self.folder.data()
    }

    /// How to connect right now. The socket asks for no password; where its path is too long, TCP does.
    pub(in crate::postgres) fn config(&self) -> Config {
        let port = self.port.load(Ordering::Acquire);
        let data = self.folder.data();
        let mut config = Config::new();
        config.user(USER).dbname(DATABASE).port(port).ssl_mode(SslMode::Disable);
        if data.join(format!(".s.PGSQL.{port}")).as_os_str().len() <= SOCKET_PATH_BYTES {
            config.host_path(data);
        } else {
            config.host("127.0.0.1").password(self.password.expose_secret());
        }
        config
    }

    /// The URL for SQL readers on this machine.
    pub(super) fn url_for_people(&self) -> SecretString {
        let port = self.port.load(Ordering::Acquire);
        let password = self.password.expose_secret();
        SecretString::from(format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"))
    }

    /// Starts the server again if it has died.
    ///
    /// # Errors
    /// As at the start; [`Code::PostgresUnreachable`] when this process has given its share back.
    pub(in crate::postgres) async fn revive(self: &Arc<Self>) -> Result<()> {
        let cluster = Arc::clone(self);
        blocking(move || {
            let _starting = cluster.folder.lock_start()?;
            if cluster.released.load(Ordering::Acquire) {
                return Err(Error::new(Code::PostgresUnreachable, "this process has let go of the embedded Postgres")
                    .hint("the command is ending; run it again"));
            }
            cluster.ensure_running()
        })
        .await
    }

    /// Gives the share back; the last one out stops the server and waits for it.
    pub(super) fn release(&self, users: &File) -> Result<()> {
        let _starting = self.folder.lock_start()?;
        self.released.store(true, Ordering::Release);
        if !last_one_out(users) {
            return Ok(());
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        let Some(server) = self.living() else { return Ok(()) };
        server.stop();
        while server.is_alive() {
            if Instant::now() > deadline {
                let detail = format!("the embedded Postgres has not stopped within {} s", STOPPED_WITHIN.as_secs());
                return Err(Error::new(Code::EmbeddedServer, detail)
                    .hint(format!("it is still writing; see {}", self.folder.log().display())));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// As [`Cluster::release`], but only asks the server to stop, and does nothing if somebody starts it right now.
    pub(super) fn release_without_waiting(&self, users: &File) {
        self.released.store(true, Ordering::Release);
        let Some(_starting) = self.folder.try_lock_start() else { return };
        if last_one_out(users)
            && let Some(server) = self.living()
        {
            server.stop();
        }
    }

    fn living(&self) -> Option<Postmaster> {
        Postmaster::read(&self.folder.data()).filter(Postmaster::is_alive)
    }

    /// Adopts the server that runs, waiting for one that is starting or stopping, or starts one. The caller holds the
    /// start lock.
    fn ensure_running(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while let Some(server) = self.living() {
            if let (true, Some(port)) = (server.ready, server.port) {
                self.port.store(port, Ordering::Release);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.not_started("the server that is running does not become ready", Some(0)));
            }
            thread::sleep(POLL);
        }
        self.remove_leftovers();
        let port = self.launch()?;
        self.folder.save_port(port)?;
        self.port.store(port, Ordering::Release);
        Ok(())
    }

    /// Removes what a dead server left: `postmaster.pid` and its socket's files. Postgres does so by itself unless the
    /// process number is taken, by another process or by a dead one that nobody has waited for; then it refuses to
    /// start. Processes that a killed server left behind are found by their shared memory, with or without the files.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(self.folder.data()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == "postmaster.pid" {
                tracing::info!("the embedded Postgres did not stop in order; it recovers");
            }
            if name == "postmaster.pid" || name.to_string_lossy().starts_with(".s.PGSQL.") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Starts the server and waits until it is ready.
    fn launch(&self) -> Result<u16> {
        let started = Instant::now();
        let mut avoid = None;
        loop {
            let port = self.free_port(avoid)?;
            let (mut child, log_start) = self.spawn(port)?;
            let Err(refusal) = self.wait_until_ready(&mut child, log_start) else {
                // Somebody has to wait for the process, or its number stays taken when it dies before we do.
                thread::spawn(move || child.wait());
                return Ok(port);
            };
            let log = refusal.detail();
            if log.contains("Address already in use") {
                avoid = Some(port);
            } else if !log.contains("pre-existing shared memory block") {
                return Err(refusal);
            }
            if started.elapsed() > OBSTACLES_WITHIN {
                return Err(refusal);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The port it had, else one that follows from the project's path, else the next free one.
    fn free_port(&self, avoid: Option<u16>) -> Result<u16> {
        let mut hasher = DefaultHasher::new();
        self.folder.path().hash(&mut hasher);
        let first = PORTS.start + (hasher.finish() % PORTS.len() as u64) as u16;
        let is_free = |port: &u16| Some(*port) != avoid && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let mut candidates = self.folder.saved_port().into_iter().chain(first..PORTS.end).chain(PORTS.start..first);
        candidates.find(is_free).ok_or_else(|| self.not_started("no port of 127.0.0.1 is free", None))
    }

    fn spawn(&self, port: u16) -> Result<(Child, u64)> {
        let data = self.folder.data();
        write_new(&data.join(settings::FILE), 0o644, &settings::render(port, settings::machine_memory()))?;
        let (log, log_start) = self.folder.open_log()?;
        let also = log.try_clone().map_err(|error| super::folder::unusable(&self.folder.log(), error))?;
        let entrance = Entrance::open(&data, self.account)?;
        let program = self.binaries.program("postgres");
        let mut command = entrance.command(&program, self.account);
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(also).spawn();
        let child = spawned.map_err(|error| {
            Error::new(Code::EmbeddedServer, format!("{} cannot be run: {error}", program.display()))
                .hint("check that the account that the server runs under may run it")
                .because(error)
        })?;
        Ok((child, log_start))
    }

    fn wait_until_ready(&self, child: &mut Child, log_start: u64) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(self.not_started(&format!("the server ended at once ({status})"), Some(log_start)));
            }
            let server = Postmaster::read(&self.folder.data());
            if server.is_some_and(|server| server.ready && server.is_process(child.id())) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.not_started("the server does not become ready", Some(log_start)));
            }
            thread::sleep(POLL);
        }
    }

    /// With the end of the log from a position on, where it has to do with it.
    fn not_started(&self, what: &str, log_start: Option<u64>) -> Error {
        let log = log_start.map(|start| self.folder.log_since(start)).unwrap_or_default();
        let said = if log.is_empty() { String::new() } else { format!("; its log says:\n{log}") };
        Error::new(Code::EmbeddedServer, format!("{}: {what}{said}", self.folder.path().display()))
            .hint(format!("see {}", self.folder.log().display()))
    }
}

/// Whether nobody else has a share; ours is given back either way.
fn last_one_out(users: &File) -> bool {
    users.unlock().is_ok() && users.try_lock().is_ok()
}
