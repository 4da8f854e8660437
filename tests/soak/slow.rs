//! Clients that take their time: with their request, or with its answer.

use std::io;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::clients::Asked;
use super::content::PARTS;
use super::questions::Question;
use super::tally::count;
use super::{Server, Soak};
use crate::support::http::{Connection, request_text};

/// What the system keeps for a client that does not read.
const RECEIVE_BUFFER: u32 = 4 << 10;
/// The longest that a client dawdles in a long run; a server waits half a minute for a sign of life.
const LONGEST: Duration = Duration::from_secs(45);
/// The pause between two bites of a slow client.
const BITE: Duration = Duration::from_millis(250);

/// How a client is slow.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// It reads a few bytes a second.
    Trickles,
    /// It reads nothing.
    Stalls,
    /// It sends its request byte by byte.
    Stutters,
    /// It says nothing.
    Keeps,
}

const HABITS: [Habit; 4] = [Habit::Trickles, Habit::Stalls, Habit::Stutters, Habit::Keeps];

/// Is slow until the end, in one way after the other.
pub(super) async fn dawdles(soak: &Soak, number: usize) {
    let mut random = StdRng::seed_from_u64(soak.seed ^ (number as u64) << 24);
    let server = soak.server(number);
    while !soak.is_over() {
        let habit = *HABITS.choose(&mut random).unwrap();
        let longest = LONGEST.min(soak.lasts / 4);
        let time = longest.mul_f64(random.random_range(0.1..1.0));
        let question = Question::whole_part(random.random_range(0..PARTS));
        // A server may cut off whoever is too slow, and ends nobody's answer in its midst otherwise.
        if dawdle(soak, server, habit, time, question).await.is_err() {
            count(&soak.tally.cut_off);
        }
    }
}

async fn dawdle(soak: &Soak, server: &Server, habit: Habit, time: Duration, question: Question) -> io::Result<()> {
    let mut stream = connect(server).await?;
    if matches!(habit, Habit::Keeps) {
        soak.pause(time).await;
        return Ok(());
    }
    let credential = soak.credential();
    let headers = [&question.headers(), &[("Authorization", credential.as_str())][..]].concat();
    let text = request_text(server.address, question.method(), &question.url(), &headers, "");
    let (bites, asked) = (time.div_duration_f64(BITE) as usize, Asked::now(server));
    let mut read = Vec::new();
    if let Habit::Stutters = habit {
        for byte in &text.as_bytes()[..bites.min(text.len())] {
            stream.write_all(&[*byte]).await?;
            soak.pause(BITE).await;
        }
        stream.write_all(&text.as_bytes()[bites.min(text.len())..]).await?;
    } else {
        stream.write_all(text.as_bytes()).await?;
        if let Habit::Stalls = habit {
            soak.pause(time).await;
        } else {
            for _ in 0..bites {
                let mut bite = [0; 16];
                let taken = stream.read(&mut bite).await?;
                read.extend_from_slice(&bite[..taken]);
                soak.pause(BITE).await;
            }
        }
    }
    let reply = Connection::over(server.address, stream).answer(read, false).await?;
    soak.checked(&asked, question, &reply);
    count(&soak.tally.taken_slowly);
    Ok(())
}

async fn connect(server: &Server) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.connect(server.address).await
}
