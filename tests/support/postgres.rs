//! A Postgres of the tests' own: one cluster per test process, started by the first test that needs it, and a database
//! per test.
//!
//! The cluster is made from local binaries (those that Lakegate's embedded server would take, or those in
//! `LAKEGATE_TEST_POSTGRES_BIN`); without any, tests fail and say what to install. It trades durability for speed. A
//! watchdog process that waits for our end of a pipe to close stops the servers and removes their folder, however the
//! test process ends.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lakegate::postgres::embedded::{Binaries, BinarySearch};
use lakegate::postgres::{Connector, Purpose, Session, quote};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use secrecy::SecretString;

/// The superuser of test clusters.
pub(crate) const USER: &str = "tester";

/// Its password over TCP; the socket asks for none. Distinct enough to be searched for in messages.
pub(crate) const PASSWORD: &str = "correct/horse@battery staple";

/// Where binaries are looked for.
pub(crate) fn binary_search() -> BinarySearch {
    BinarySearch { folder: std::env::var_os("LAKEGATE_TEST_POSTGRES_BIN").map(PathBuf::from) }
}

/// A folder for one test, gone when the test ends or, at the latest, with the test process; whatever Postgres runs in
/// it is stopped then.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("scratch").tempdir_in(&Sandbox::get().folder).expect("a scratch folder")
}

/// The folder of everything that this process starts, and the watchdog that removes it.
struct Sandbox {
    folder: PathBuf,
    /// Its standard input is the pipe: open until this process is gone.
    _watchdog: Child,
}

const WATCHDOG: &str = r#"
cat > /dev/null
for attempt in 1 2 3 4 5; do
    for file in $(find "$0" -name postmaster.pid 2> /dev/null); do kill -QUIT "$(head -n 1 "$file")" 2> /dev/null; done
    sleep 0.2
    rm -rf "$0" 2> /dev/null
done
"#;

impl Sandbox {
    fn get() -> &'static Sandbox {
        static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
        SANDBOX.get_or_init(|| {
            // Short, for the sockets in it.
            let folder = std::env::temp_dir().join(format!("lakegate-test-{}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder for test clusters");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).expect("permissions");
            let watchdog = Command::new("sh")
                .args(["-c", WATCHDOG])
                .arg(&folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("the watchdog");
            Sandbox { folder, _watchdog: watchdog }
        })
    }
}

/// A running Postgres with one superuser, on a socket and on 127.0.0.1.
pub(crate) struct TestCluster {
    binaries: Binaries,
    data: PathBuf,
    port: u16,
    server: Child,
}

impl TestCluster {
    /// The one that all tests share.
    pub(crate) fn shared() -> &'static TestCluster {
        static SHARED: OnceLock<TestCluster> = OnceLock::new();
        SHARED.get_or_init(|| TestCluster::start("shared", &[], |_| {}))
    }

    /// Another one, with further settings; `prepare` may put files into the data directory, which are then given to
    /// the server's account with mode 0600. Stopped when dropped.
    pub(crate) fn start(name: &str, settings: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> TestCluster {
        TestCluster::start_by(name, prepare, |binaries, data| {
            let mut server = command(binaries, "postgres");
            for (name, value) in settings {
                server.arg("-c").arg(format!("{name}={value}"));
            }
            server.arg("-D").arg(data);
            server
        })
    }

    /// One with a database `small` whose disk holds `size` (`24m`): a file system in memory that only this server sees
    /// and that goes with it. Needs root.
    pub(crate) fn start_with_small_disk(name: &str, size: &str) -> TestCluster {
        let account = account().expect("root");
        let mount = format!(
            "mount -t tmpfs -o size={size},uid={uid},gid={gid},mode=700 none \"$0/disk\" && \
             exec setpriv --reuid {uid} --regid {gid} --clear-groups \"$@\"",
            uid = account.uid,
            gid = account.gid,
        );
        let make_folder = |data: &Path| fs::create_dir(data.join("disk")).expect("the folder of the small disk");
        let cluster = TestCluster::start_by(name, make_folder, |binaries, data| {
            let mut server = Command::new("unshare");
            server.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
            server.args(["-m", "sh", "-c", &mount]).arg(data).arg(binaries.program("postgres")).arg("-D").arg(data);
            server
        });
        for statement in [
            format!("CREATE TABLESPACE small LOCATION '{}'", cluster.data.join("disk").display()),
            "CREATE DATABASE small TABLESPACE small".to_owned(),
        ] {
            let url = cluster.socket_url("postgres");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { session(&url).await.batch_execute(&statement).await }).expect("a small database");
        }
        cluster
    }

    /// `server` is the command that becomes the server, without what every test cluster has in common.
    fn start_by(name: &str, prepare: impl FnOnce(&Path), server: impl Fn(&Binaries, &Path) -> Command) -> TestCluster {
        let binaries = binary_search().find(None).unwrap_or_else(|error| {
            panic!("tests need a local PostgreSQL: {error}\n{}", error.advice().unwrap_or_default())
        });
        let data = Sandbox::get().folder.join(name);
        initdb(&binaries, &data);
        prepare(&data);
        give_to_account(&data);
        // Between the moment in which the port is free and the one in which it is bound, somebody else may take it.
        for _ in 0..5 {
            let port = free_port();
            if let Some(server) = serve(server(&binaries, &data), &data, port) {
                return TestCluster { binaries, data, port, server };
            }
        }
        panic!("the test cluster does not start:\n{}", fs::read_to_string(data.join("log")).unwrap_or_default());
    }

    /// Ends the server without any tidying, as a crash does.
    pub(crate) fn crash(&mut self) {
        kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGQUIT).expect("an immediate shutdown");
        self.server.wait().expect("the end of postgres");
    }

    /// Kills the server's first process outright. The others notice by themselves.
    pub(crate) fn kill(&mut self) {
        self.server.kill().expect("a kill");
        self.server.wait().expect("the end of postgres");
    }

    /// Starts the server again, on the same port.
    pub(crate) fn restart(&mut self) {
        // As long as a process of the one that was killed is there, another server does not start.
        for _ in 0..100 {
            let mut server = command(&self.binaries, "postgres");
            server.arg("-D").arg(&self.data);
            if let Some(started) = serve(server, &self.data, self.port) {
                self.server = started;
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "the test cluster does not start again:\n{}",
            fs::read_to_string(self.data.join("log")).unwrap_or_default()
        );
    }

    /// A connector to a database over the socket.
    pub(crate) fn connector(&self, database: &str) -> Connector {
        Connector::from_url(&SecretString::from(self.socket_url(database))).expect("a connector")
    }

    /// The TCP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database over TCP, password included.
    pub(crate) fn url(&self, database: &str) -> String {
        TestCluster::url_by_way_of(self.port, database)
    }

    /// The same by way of another port, which leads to the server's.
    pub(crate) fn url_by_way_of(port: u16, database: &str) -> String {
        let password = PASSWORD.replace('/', "%2F").replace('@', "%40").replace(' ', "%20");
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The URL of a database over the socket.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        format!("postgres://{USER}@/{database}?host={}&port={}", self.data.display(), self.port)
    }

    async fn administer(&self, statement: &str) {
        let session = session(&self.socket_url("postgres")).await;
        session.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        session.close().await;
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// The account to run Postgres under when we are root.
fn account() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let found = ["postgres", "_postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    Some(found.expect("an unprivileged account, which PostgreSQL needs where tests run as root"))
}

fn command(binaries: &Binaries, program: &str) -> Command {
    let mut command = Command::new(binaries.program(program));
    command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
    if let Some(account) = account() {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}

fn give_to_account(data: &Path) {
    let Some(account) = account() else { return };
    for entry in fs::read_dir(data).expect("the data directory").flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file {
            chown(entry.path(), Some(account.uid.as_raw()), Some(account.gid.as_raw())).expect("chown");
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600)).expect("chmod");
        }
    }
}

fn initdb(binaries: &Binaries, data: &Path) {
    fs::create_dir(data).expect("the data directory");
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).expect("chmod");
    let password_file = data.with_extension("password");
    fs::write(&password_file, PASSWORD).expect("the password file");
    if let Some(account) = account() {
        for path in [data, &password_file] {
            chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())).expect("chown");
        }
    }
    let output = command(binaries, "initdb")
        .arg("-D")
        .arg(data)
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"])
        .arg(format!("--username={USER}"))
        .arg(format!("--pwfile={}", password_file.display()))
        .output()
        .expect("initdb");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("its number").port()
}

/// Starts the server and waits until it is ready; `None` if it ended instead.
fn serve(mut command: Command, data: &Path, port: u16) -> Option<Child> {
    let log = File::create(data.join("log")).expect("the log");
    command.args(["-p", &port.to_string(), "-F", "-k", "."]);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200", "-c", "log_checkpoints=off"]);
    let mut server = command.stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("postgres");
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        // One that was killed leaves a file that says the same of it.
        let is_ours = pid_file.lines().next().is_some_and(|line| line.trim() == server.id().to_string());
        if is_ours && pid_file.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Some(server);
        }
        if server.try_wait().expect("waiting for postgres").is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the test cluster is not ready after a minute");
}

async fn session(url: &str) -> Session {
    let connector = Connector::from_url(&SecretString::from(url)).expect("a connector");
    connector.connect(Purpose::Control, "lakegate tests").await.expect("a session")
}

/// An empty database, dropped at the end of the test.
pub(crate) struct TestDatabase {
    name: String,
    /// The cluster that the database has to itself; else it is one of the shared cluster.
    own: Option<TestCluster>,
}

impl TestDatabase {
    /// One of the shared cluster.
    pub(crate) async fn new() -> TestDatabase {
        tokio::task::spawn_blocking(TestCluster::shared).await.expect("the shared cluster");
        TestDatabase { name: TestDatabase::next_name(), own: None }.created().await
    }

    /// One in a cluster of its own: roles belong to whole clusters, and the first project with default names has them.
    pub(crate) async fn alone() -> TestDatabase {
        let name = TestDatabase::next_name();
        let folder = format!("alone_{name}");
        let start = move || TestCluster::start(&folder, &[], |_| {});
        let own = tokio::task::spawn_blocking(start).await.expect("a cluster");
        TestDatabase { name, own: Some(own) }.created().await
    }

    fn next_name() -> String {
        static NUMBERS: AtomicU32 = AtomicU32::new(1);
        format!("test_{}", NUMBERS.fetch_add(1, Ordering::Relaxed))
    }

    async fn created(self) -> TestDatabase {
        self.cluster().administer(&format!("CREATE DATABASE {}", quote(&self.name))).await;
        self
    }

    fn cluster(&self) -> &TestCluster {
        self.own.as_ref().unwrap_or_else(|| TestCluster::shared())
    }

    /// The name in Postgres.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The URL over TCP, password included.
    pub(crate) fn url(&self) -> String {
        self.cluster().url(&self.name)
    }

    /// The URL over the socket.
    pub(crate) fn socket_url(&self) -> String {
        self.cluster().socket_url(&self.name)
    }

    /// The TCP port of its server on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.cluster().port()
    }

    /// A connector over the socket.
    pub(crate) fn connector(&self) -> Connector {
        self.cluster().connector(&self.name)
    }

    /// A session of a superuser.
    pub(crate) async fn client(&self) -> Session {
        let session = session(&self.cluster().socket_url(&self.name)).await;
        // Sessions of the product see the server's own names only, and do not rest in transactions.
        let settings = "SET search_path = public; SET idle_in_transaction_session_timeout = 0";
        session.batch_execute(settings).await.unwrap();
        session
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.own.is_some() {
            return;
        }
        let statement = format!("DROP DATABASE {} WITH (FORCE)", quote(&self.name));
        // A runtime of its own: the test's may be the one thread that would have to run this.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(TestCluster::shared().administer(&statement));
        });
        let _ = dropped.join();
    }
}
