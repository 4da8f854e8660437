//! A network in the middle between Lakegate and Postgres, which a test can break.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Passes TCP connections on to a port of this machine. Ended when dropped, and its connections with it.
pub(crate) struct Proxy {
    port: u16,
    network: Arc<Network>,
    accepting: JoinHandle<()>,
}

/// What all connections have in common.
#[derive(Default)]
struct Network {
    /// What holds for connections that are made from now on.
    line: Mutex<Arc<Line>>,
    /// Whether new connections are closed at once.
    refuses: AtomicBool,
    /// Whether the answer to the next commit is to be lost.
    loses_commit: AtomicBool,
}

/// The state of connections that were made between two cuts.
#[derive(Default)]
struct Line {
    cut: CancellationToken,
    /// Whether everything that either side sends is lost.
    deaf: AtomicBool,
    /// The name of the sessions of which everything is lost.
    deaf_name: Mutex<Option<String>>,
}

/// What the client of a connection said first: its name is in it.
#[derive(Default)]
struct Hello(Mutex<Vec<u8>>);

impl Line {
    fn hears(&self, hello: &Hello) -> bool {
        let name = self.deaf_name.lock().unwrap();
        let is_named = |name: &str| hello.0.lock().unwrap().windows(name.len()).any(|part| part == name.as_bytes());
        !self.deaf.load(Ordering::Relaxed) && !name.as_deref().is_some_and(is_named)
    }
}

/// How much of what a client says first is looked at.
const HELLO_BYTES: usize = 512;

/// What the driver sends to end a transaction.
const COMMIT: &[u8] = b"COMMIT\0";

impl Proxy {
    /// One in front of a port of this machine.
    pub(crate) async fn before(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network::default());
        let accepting = tokio::spawn(accept(listener, port, Arc::clone(&network)));
        Proxy { port: own_port, network, accepting }
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections. New ones are passed on.
    pub(crate) fn cut(&self) {
        let line = std::mem::take(&mut *self.network.line.lock().unwrap());
        line.cut.cancel();
        self.network.loses_commit.store(false, Ordering::Relaxed);
    }

    /// Closes new connections at once, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.network.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Until the next cut, nothing that either side sends arrives, on present connections and on new ones, which stay
    /// open.
    pub(crate) fn swallow(&self) {
        self.network.line.lock().unwrap().deaf.store(true, Ordering::Relaxed);
    }

    /// As [`Proxy::swallow`], of sessions with this name alone.
    pub(crate) fn swallow_those_of(&self, name: &str) {
        *self.network.line.lock().unwrap().deaf_name.lock().unwrap() = Some(name.to_owned());
    }

    /// The next COMMIT arrives, but nothing that Postgres says on its connection afterwards.
    pub(crate) fn lose_the_answer_to_a_commit(&self) {
        self.network.loses_commit.store(true, Ordering::Relaxed);
    }

    /// Whether the answer to a commit is being lost since it was asked for.
    pub(crate) fn has_lost_an_answer(&self) -> bool {
        !self.network.loses_commit.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, port: u16, network: Arc<Network>) {
    while let Ok((client, _)) = listener.accept().await {
        if network.refuses.load(Ordering::Relaxed) {
            continue;
        }
        let (network, line) = (Arc::clone(&network), Arc::clone(&network.line.lock().unwrap()));
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let (client_reads, client_writes) = client.into_split();
            let (server_reads, server_writes) = server.into_split();
            let loses_answers = AtomicBool::new(false);
            let hello = Hello::default();
            let heard = |_: &[u8]| line.hears(&hello) && !loses_answers.load(Ordering::Relaxed);
            let asked = |bytes: &[u8]| {
                {
                    let mut hello = hello.0.lock().unwrap();
                    let rest = HELLO_BYTES.saturating_sub(hello.len()).min(bytes.len());
                    hello.extend_from_slice(&bytes[..rest]);
                }
                if bytes.windows(COMMIT.len()).any(|part| part == COMMIT)
                    && network.loses_commit.swap(false, Ordering::Relaxed)
                {
                    loses_answers.store(true, Ordering::Relaxed);
                }
                line.hears(&hello)
            };
            tokio::select! {
                () = line.cut.cancelled() => {}
                () = pass(client_reads, server_writes, asked) => {}
                () = pass(server_reads, client_writes, heard) => {}
            }
        });
    }
}

/// Passes on what is to arrive, until either side ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, arrives: impl Fn(&[u8]) -> bool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if arrives(&bytes[..read]) && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
