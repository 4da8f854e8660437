//! A stream of COPY, by TCP, where the driver sends the rows, and by a Unix socket, into which the encoder writes them itself.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use lakegate::destination::{CopyInput, CopyTarget, Destination};
use lakegate::domain::{Code, Column, ColumnType, Generation, ScalarType, Schemas, TableName, TableSchema};
use lakegate::encode::{copy_header, copy_trailer};
use lakegate::postgres::{Connector, Purpose, Session};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scopeguard::guard;
use secrecy::SecretString;
use tokio::time::timeout;

use crate::support::postgres::TestDatabase;
use crate::support::project::eventually;

/// For what takes milliseconds, on a machine that is busy.
const SOON: Duration = Duration::from_secs(60);
const ROWS_OF_A_CHUNK: i32 = 20_000;

/// An empty table, how to fill it, and a connection that does.
struct Filling {
    database: TestDatabase,
    session: Session,
    target: CopyTarget,
}

impl Filling {
    /// One by TCP, and one by the socket.
    async fn by_either_way() -> [Filling; 2] {
        let (one, other) = (TestDatabase::new().await, TestDatabase::new().await);
        let (tcp, socket) = (one.url(), other.socket_url());
        let ways = [Filling::over(one, tcp).await, Filling::over(other, socket).await];
        assert_eq!(ways.each_ref().map(|filling| filling.session.short_way().is_some()), [false, true]);
        ways
    }

    async fn over(database: TestDatabase, url: String) -> Filling {
        let connector = Connector::from_url(&SecretString::from(url)).unwrap();
        let session = connector.connect(Purpose::Sync, "lakegate tests").await.unwrap();
        session
            .batch_execute("CREATE SCHEMA data; CREATE TABLE data.t__g1 (id integer CHECK (id >= 0))")
            .await
            .unwrap();
        let schemas = Schemas { published: "lake".into(), data: "data".into(), control: "control".into() };
        let column = Column {
            name: "id".into(),
            source: "id".into(),
            ty: ColumnType::Scalar(ScalarType::Int32),
            nullable: true,
            comment: None,
            late: false,
        };
        let schema = TableSchema { columns: vec![column], key: vec![0] };
        let target = Destination::new(schemas).generation_rows(&TableName::new("t").unwrap(), Generation(1), &schema);
        Filling { database, session, target }
    }

    /// That nothing is stored once the server has done with the session.
    async fn assert_given_up(self) {
        let (session, client) = (self.session.backend_pid(), self.database.client().await);
        let (database, target) = (self.database, self.target);
        drop((self.session, target));
        eventually("the end of the session", async || {
            let sql = "SELECT FROM pg_stat_activity WHERE pid = $1";
            client.query_opt(sql, &[&session]).await.unwrap().is_none()
        })
        .await;
        assert_eq!(stored(&database).await, (0, 0));
    }

    /// How many rows others see, and their sum.
    async fn stored(&self) -> (i64, i64) {
        stored(&self.database).await
    }
}

async fn stored(database: &TestDatabase) -> (i64, i64) {
    let sql = "SELECT count(*), coalesce(sum(id), 0)::bigint FROM data.t__g1";
    let row = database.client().await.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Rows of one integer, in the binary form of COPY.
fn chunk(ids: impl Iterator<Item = i32>) -> Bytes {
    ids.flat_map(|id| [&[0, 1, 0, 0, 0, 4][..], &id.to_be_bytes()[..]].concat()).collect()
}

/// Sends chunks without an end from a thread of its own, until one is refused.
fn push_until_refused(input: CopyInput) -> JoinHandle<()> {
    thread::spawn(move || {
        let rows = chunk(0..ROWS_OF_A_CHUNK);
        let mut taken = input.push(copy_header());
        while taken {
            taken = input.push(rows.clone());
        }
    })
}

async fn ended(pushing: JoinHandle<()>) {
    let waiting = tokio::task::spawn_blocking(|| pushing.join().unwrap());
    timeout(SOON, waiting).await.expect("the encoder goes on").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_in_full_by_either_way() {
    for filling in Filling::by_either_way().await {
        let (input, stream) = filling.target.open(&filling.session).await.unwrap();
        let pushing = thread::spawn(move || {
            assert!(input.push(copy_header()));
            for at in 0..50 {
                assert!(input.push(chunk(at * ROWS_OF_A_CHUNK..(at + 1) * ROWS_OF_A_CHUNK)));
            }
            assert!(input.push(copy_trailer()));
            input.end();
        });
        let rows = i64::from(50 * ROWS_OF_A_CHUNK);
        assert_eq!(timeout(SOON, stream.finish()).await.unwrap().unwrap(), rows as u64);
        pushing.join().unwrap();
        assert_eq!(filling.stored().await, (rows, rows * (rows - 1) / 2));
        // The session is there for whatever comes next.
        assert_eq!(filling.session.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_given_up_lets_its_encoder_go_though_the_server_takes_nothing() {
    for filling in Filling::by_either_way().await {
        let backend = Pid::from_raw(filling.session.backend_pid());
        let (input, stream) = filling.target.open(&filling.session).await.unwrap();
        kill(backend, Signal::SIGSTOP).unwrap();
        let stopped = guard((), |()| kill(backend, Signal::SIGCONT).unwrap());
        let pushing = push_until_refused(input);
        drop(stream);
        ended(pushing).await;
        drop(stopped);
        filling.assert_given_up().await;
    }
}

#[tokio::test]
async fn a_copy_that_is_given_up_at_once_lets_its_encoder_go() {
    for filling in Filling::by_either_way().await {
        let (input, stream) = filling.target.open(&filling.session).await.unwrap();
        // On one thread: its task has not run yet.
        drop(stream);
        ended(push_until_refused(input)).await;
        filling.assert_given_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_stops_before_the_end_stores_nothing() {
    for filling in Filling::by_either_way().await {
        let (input, stream) = filling.target.open(&filling.session).await.unwrap();
        thread::spawn(move || assert!(input.push(copy_header()) && input.push(chunk(0..5)))).join().unwrap();
        let error = timeout(SOON, stream.finish()).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{error}");
        filling.assert_given_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_session_the_server_ends_is_a_lost_connection() {
    for filling in Filling::by_either_way().await {
        let (input, stream) = filling.target.open(&filling.session).await.unwrap();
        let pushing = push_until_refused(input);
        let end = format!("SELECT pg_terminate_backend({})", filling.session.backend_pid());
        filling.database.client().await.batch_execute(&end).await.unwrap();
        let error = timeout(SOON, stream.finish()).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::ConnectionLost, "{error}");
        assert!(error.detail().starts_with("cannot copy rows into Postgres: "), "{error}");
        ended(pushing).await;
        filling.assert_given_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_has_against_rows_is_told_at_the_end() {
    for filling in Filling::by_either_way().await {
        let (input, stream) = filling.target.open(&filling.session).await.unwrap();
        let pushing = thread::spawn(move || {
            assert!(input.push(copy_header()) && input.push(chunk(-1..ROWS_OF_A_CHUNK)) && input.push(copy_trailer()));
            input.end();
        });
        let error = timeout(SOON, stream.finish()).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::PostgresRefused, "{error}");
        pushing.join().unwrap();
        filling.assert_given_up().await;
    }
}
