//! A client that sends exactly the bytes it is told to: others tidy up paths.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    /// As text, whatever it is.
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    /// The head without the empty line after it, and the bytes that follow.
    fn of(head: &[u8], bytes: Vec<u8>) -> Reply {
        let head = String::from_utf8(head.to_vec()).expect("a head of text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Reply { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The names of the headers, in small letters.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The rows.
    pub(crate) fn data(&self) -> Value {
        self.json()["data"].take()
    }

    /// The code of the error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// `GET` of a raw path and query.
pub(crate) async fn get(addr: SocketAddr, url: &str) -> Reply {
    get_with(addr, url, &[]).await
}

/// `GET` with headers.
pub(crate) async fn get_with(addr: SocketAddr, url: &str, headers: &[(&str, &str)]) -> Reply {
    request(addr, "GET", url, headers).await
}

/// `POST` of JSON.
pub(crate) async fn post(addr: SocketAddr, url: &str, body: &str) -> Reply {
    post_with(addr, url, &[("Content-Type", "application/json")], body).await
}

/// `POST` with these headers alone.
pub(crate) async fn post_with(addr: SocketAddr, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    send(addr, "POST", url, headers, body).await
}

/// Any request without a body. `Host` is the address unless it is among the headers.
pub(crate) async fn request(addr: SocketAddr, method: &str, url: &str, headers: &[(&str, &str)]) -> Reply {
    send(addr, method, url, headers, "").await
}

/// Any request. Its length is told where there is a body.
pub(crate) async fn send(addr: SocketAddr, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let text = request_text(addr, method, url, &[&[("Connection", "close")], headers].concat(), body);
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("the request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the answer");
    let split = head_end(&answer);
    let split = split.unwrap_or_else(|| panic!("no answer to {url}: {:?}", String::from_utf8_lossy(&answer)));
    Reply::of(&answer[..split], answer[split + HEAD_END.len()..].to_vec())
}

/// A request as it is sent.
pub(crate) fn request_text(addr: SocketAddr, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {url} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        let _ = write!(text, "Host: {addr}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    let _ = write!(text, "\r\n{body}");
    text
}

const HEAD_END: &[u8] = b"\r\n\r\n";

fn head_end(answer: &[u8]) -> Option<usize> {
    answer.windows(HEAD_END.len()).position(|window| window == HEAD_END)
}

/// A connection that stays open from one request to the next.
pub(crate) struct Connection {
    addr: SocketAddr,
    stream: TcpStream,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(addr: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { addr, stream })
    }

    /// One over a stream on which nothing, or a whole request, has been sent.
    pub(crate) fn over(addr: SocketAddr, stream: TcpStream) -> Connection {
        Connection { addr, stream }
    }

    /// Sends a request and reads its answer, which must tell its length.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Reply> {
        let text = request_text(self.addr, method, url, headers, body);
        self.stream.write_all(text.as_bytes()).await?;
        self.answer(Vec::new(), method == "HEAD").await
    }

    /// Reads on to the end of an answer of which these bytes have come.
    pub(crate) async fn answer(&mut self, mut read: Vec<u8>, to_head: bool) -> io::Result<Reply> {
        let split = loop {
            match head_end(&read) {
                Some(split) => break split,
                None => self.more(&mut read).await?,
            }
        };
        let mut reply = Reply::of(&read[..split], Vec::new());
        let length = match reply.header("Content-Length").map(str::parse) {
            Some(Ok(length)) if !to_head && reply.status != 304 => length,
            _ => 0,
        };
        let whole = split + HEAD_END.len() + length;
        while read.len() < whole {
            self.more(&mut read).await?;
        }
        assert_eq!(read.len(), whole, "more than one answer to one request: {reply:?}");
        reply.bytes = read.split_off(split + HEAD_END.len());
        reply.body = String::from_utf8_lossy(&reply.bytes).into_owned();
        Ok(reply)
    }

    async fn more(&mut self, read: &mut Vec<u8>) -> io::Result<()> {
        match self.stream.read_buf(read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
