//! The embedded server: made once, started fast, shared, adopted, revived, and gone with its last user.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lakegate::domain::{Code, Error};
use lakegate::postgres::embedded::{BinarySearch, EmbeddedServer};
use lakegate::postgres::{Connector, Purpose};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::support::postgres::{binary_search, scratch};

/// Set for the process that [`Holder`] starts: the project to hold.
const HOLD: &str = "LAKEGATE_TEST_HOLD";

async fn start(project: &Path) -> EmbeddedServer {
    EmbeddedServer::start(project, &binary_search()).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn query(connector: &Connector, statement: &str) -> String {
    let session = connector.connect(Purpose::Control, "lakegate tests").await.unwrap_or_else(|error| panic!("{error}"));
    session.batch_execute("SET search_path = public").await.unwrap();
    let value = session.query_one(statement, &[]).await.unwrap().get(0);
    session.close().await;
    value
}

async fn execute(connector: &Connector, statement: &str) {
    let session = connector.connect(Purpose::Control, "lakegate tests").await.unwrap();
    session.batch_execute("SET search_path = public").await.unwrap();
    session.batch_execute(statement).await.unwrap();
    session.close().await;
}

fn data(project: &Path) -> PathBuf {
    project.join(".lakegate/postgres/data")
}

fn postmaster(project: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data(project).join("postmaster.pid")).ok()?;
    Some(Pid::from_raw(text.lines().next()?.parse().ok()?))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A project whose server has been made but does not run: a copy, since making one takes a second or more.
async fn project() -> TempDir {
    static MADE: OnceCell<TempDir> = OnceCell::const_new();
    let made = MADE.get_or_init(|| async {
        let folder = scratch();
        start(folder.path()).await.release().await.unwrap();
        folder
    });
    let (made, copy) = (made.await.path().join(".lakegate"), scratch());
    let copied = Command::new("cp").arg("-a").arg(made).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    // Each with a port of its own: tests that stop a server want the same port afterwards.
    fs::remove_file(copy.path().join(".lakegate/postgres/port")).unwrap();
    copy
}

/// Another process that has a share in the project's server.
struct Holder {
    process: Child,
    /// Kept open for what the test harness prints at the end.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(project: &Path) -> Holder {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres_embedded::hold_for_another_test", "--nocapture"])
            .env(HOLD, project)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("holding")), "the holder did not start");
        Holder { process: child, _output: lines }
    }

    /// Ends in order: gives its share back.
    fn finish(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn hold_for_another_test() {
    let Some(project) = std::env::var_os(HOLD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(start(Path::new(&project)));
    println!("holding");
    let _ = std::io::stdin().read_line(&mut String::new());
    runtime.block_on(server.release()).unwrap();
}

#[tokio::test]
async fn a_project_gets_a_server_that_keeps_its_data_port_and_password_and_starts_fast() {
    let project = scratch();
    let server = start(project.path()).await;
    execute(&server.connector().unwrap(), "CREATE TABLE kept AS SELECT 'value'::text AS kept").await;
    let url = server.url_for_people().expose_secret().to_owned();
    server.release().await.unwrap();
    assert_eq!(postmaster(project.path()), None);

    // The best of three: other tests keep the machine busy.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        let server = start(project.path()).await;
        assert_eq!(query(&server.connector().unwrap(), "SELECT kept FROM kept").await, "value");
        best = best.min(begun.elapsed());
        server.release().await.unwrap();
    }
    assert!(best < Duration::from_secs(1), "starting and asking took {best:?}");

    let server = start(project.path()).await;
    let connector = server.connector().unwrap();
    assert_eq!(server.url_for_people().expose_secret(), url);
    let people = Connector::from_url(&SecretString::from(url.as_str())).unwrap();
    assert_eq!(query(&people, "SELECT kept FROM kept").await, "value");
    assert_eq!(query(&connector, "SHOW server_encoding").await, "UTF8");
    assert_eq!(query(&connector, "SHOW wal_level").await, "minimal");
    server.release().await.unwrap();
}

#[tokio::test]
async fn strangers_get_in_neither_by_socket_nor_without_the_password() {
    let project = project().await;
    let server = start(project.path()).await;
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data(project.path())), 0o700);
    assert_eq!(mode(project.path().join(".lakegate/postgres/password")), 0o600);
    let url = server.url_for_people().expose_secret().to_owned();
    let password = url.split([':', '@']).nth(2).unwrap();
    assert_eq!(password.len(), 32);
    let wrong = Connector::from_url(&SecretString::from(url.replace(password, "guessed"))).unwrap();
    let error = wrong.connect(Purpose::Control, "lakegate tests").await.err().expect("a refusal");
    assert_eq!(error.code(), Code::PostgresAuth, "{error}");
    server.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_the_server_and_the_last_one_out_stops_it() {
    let project = project().await;
    let other = Holder::start(project.path());
    let pid = postmaster(project.path());
    let server = start(project.path()).await;
    let again = start(project.path()).await;
    assert!(pid.is_some() && postmaster(project.path()) == pid);

    other.finish();
    assert_eq!(query(&server.connector().unwrap(), "SELECT 'up'").await, "up");
    server.release().await.unwrap();
    assert_eq!(query(&again.connector().unwrap(), "SELECT 'up'").await, "up");
    assert_eq!(postmaster(project.path()), pid);
    let connector = again.connector().unwrap();
    again.release().await.unwrap();
    assert_eq!(postmaster(project.path()), None);

    let error = connector.connect(Purpose::Control, "lakegate tests").await.err().expect("no server any more");
    assert_eq!(error.code(), Code::PostgresUnreachable, "{error}");
    assert_eq!(postmaster(project.path()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_make_one_server() {
    let project = scratch();
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let project = project.path().to_owned();
            tokio::spawn(async move { start(&project).await })
        })
        .collect();
    let mut servers = Vec::new();
    for starting in starts {
        servers.push(starting.await.unwrap());
    }
    let pid = postmaster(project.path()).unwrap();
    for server in &servers {
        assert_eq!(query(&server.connector().unwrap(), "SELECT 'up'").await, "up");
    }
    assert_eq!(postmaster(project.path()), Some(pid));
    for server in servers {
        server.release().await.unwrap();
    }
    assert_eq!(postmaster(project.path()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_a_killed_process_is_adopted() {
    let project = project().await;
    let holder = Holder::start(project.path());
    let orphan = postmaster(project.path()).unwrap();
    holder.kill();
    let server = start(project.path()).await;
    assert_eq!(postmaster(project.path()), Some(orphan));
    assert_eq!(query(&server.connector().unwrap(), "SELECT 'up'").await, "up");
    server.release().await.unwrap();
    assert_eq!(postmaster(project.path()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_revived_with_its_data_by_the_next_connection() {
    let project = project().await;
    let server = start(project.path()).await;
    let connector = server.connector().unwrap();
    let url = server.url_for_people().expose_secret().to_owned();
    execute(&connector, "CREATE TABLE kept AS SELECT 'value'::text AS kept").await;
    let killed = postmaster(project.path()).unwrap();
    kill(killed, Signal::SIGKILL).unwrap();
    wait_for("the death of the server", || kill(killed, None).is_err());

    assert_eq!(query(&connector, "SELECT kept FROM kept").await, "value");
    assert_ne!(postmaster(project.path()), Some(killed));
    assert_eq!(server.url_for_people().expose_secret(), url);
    server.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_and_process_killed_together_leave_a_project_that_starts_again() {
    let project = project().await;
    let holder = Holder::start(project.path());
    let server = start(project.path()).await;
    execute(&server.connector().unwrap(), "CREATE TABLE kept AS SELECT 'value'::text AS kept").await;
    server.release().await.unwrap();
    let killed = postmaster(project.path()).unwrap();
    kill(killed, Signal::SIGKILL).unwrap();
    holder.kill();

    let server = start(project.path()).await;
    assert_eq!(query(&server.connector().unwrap(), "SELECT kept FROM kept").await, "value");
    server.release().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_another_living_process_is_no_obstacle() {
    let project = project().await;
    let stale = format!("{}\n/nowhere\n1700000000\n5432\n.\n127.0.0.1\n 1 1\nready   \n", std::process::id());
    fs::write(data(project.path()).join("postmaster.pid"), stale).unwrap();
    let server = start(project.path()).await;
    assert_eq!(query(&server.connector().unwrap(), "SELECT 'up'").await, "up");
    server.release().await.unwrap();
}

#[tokio::test]
async fn a_port_that_somebody_else_has_taken_meanwhile_is_replaced() {
    let project = project().await;
    start(project.path()).await.release().await.unwrap();
    let port: u16 = fs::read_to_string(project.path().join(".lakegate/postgres/port")).unwrap().trim().parse().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let server = start(project.path()).await;
    assert!(!server.url_for_people().expose_secret().contains(&format!(":{port}/")));
    let people = Connector::from_url(&server.url_for_people()).unwrap();
    assert_eq!(query(&people, "SELECT 'up'").await, "up");
    server.release().await.unwrap();
}

#[tokio::test]
async fn a_dropped_share_stops_the_server_too() {
    let project = project().await;
    let server = start(project.path()).await;
    drop(server);
    wait_for("the server to stop", || postmaster(project.path()).is_none());
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_leaves_no_server_behind() {
    let project = project().await;
    let search = binary_search();
    // Given up as soon as there is a process, which is not ready yet.
    let begun = async {
        while postmaster(project.path()).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = begun => {}
        _ = EmbeddedServer::start(project.path(), &search) => panic!("it was ready before anybody saw its process"),
    }
    wait_for("the server to come and go", || {
        let log = fs::read_to_string(project.path().join(".lakegate/postgres/server.log")).unwrap();
        log.matches("ready to accept connections").count() == 2 && postmaster(project.path()).is_none()
    });
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works() {
    let project = scratch();
    let long = project.path().join("x".repeat(100)).join("y".repeat(100));
    fs::create_dir_all(&long).unwrap();
    let server = start(&long).await;
    assert_eq!(query(&server.connector().unwrap(), "SELECT 'up'").await, "up");
    server.release().await.unwrap();
}

#[tokio::test]
async fn root_can_have_a_project_where_nobody_else_may_enter() {
    if !Uid::effective().is_root() {
        // Nobody but root needs another account to run Postgres; then the path is closed to no one involved.
        return;
    }
    let parent = scratch();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let project = parent.path().join("project");
    fs::create_dir(&project).unwrap();
    let server = start(&project).await;
    let connector = server.connector().unwrap();
    // Across parallel workers and a restart.
    execute(&connector, "CREATE TABLE kept AS SELECT generate_series(1, 100000)::text AS kept").await;
    // PostgreSQL 16 calls it by another name; a setting that does not exist is passed over.
    let parallel = "SELECT set_config(name, 'on', false) FROM pg_settings \
                    WHERE name IN ('force_parallel_mode', 'debug_parallel_query')";
    execute(&connector, &format!("{parallel}; SELECT count(*) FROM kept; CHECKPOINT")).await;
    server.release().await.unwrap();
    let server = start(&project).await;
    assert_eq!(query(&server.connector().unwrap(), "SELECT max(kept) FROM kept").await, "99999");
    server.release().await.unwrap();
}

#[tokio::test]
async fn missing_binaries_and_a_server_that_does_not_start_say_what_to_do() {
    let project = scratch();
    let nowhere = BinarySearch { folder: Some(project.path().join("bin")) };
    let refused = async |search: &BinarySearch| -> Error {
        EmbeddedServer::start(project.path(), search).await.err().expect("a refusal")
    };
    let error = refused(&nowhere).await;
    assert_eq!(error.code(), Code::BinariesMissing, "{error}");
    assert!(error.advice().unwrap().contains("apt-get install postgresql"), "{:?}", error.advice());

    let project = self::project().await;
    let refused = async |search: &BinarySearch| -> Error {
        EmbeddedServer::start(project.path(), search).await.err().expect("a refusal")
    };
    fs::write(data(project.path()).join("postgresql.auto.conf"), "no_such_setting = 1\n").unwrap();
    let error = refused(&binary_search()).await;
    assert_eq!(error.code(), Code::EmbeddedServer, "{error}");
    assert!(error.detail().contains("no_such_setting"), "the log's end is shown: {error}");
    assert!(error.advice().unwrap().contains("server.log"), "{:?}", error.advice());

    fs::write(data(project.path()).join("PG_VERSION"), "9\n").unwrap();
    let error = refused(&binary_search()).await;
    assert_eq!(error.code(), Code::BinariesMissing, "{error}");
    assert!(error.detail().contains("PostgreSQL 9"), "{error}");
}
