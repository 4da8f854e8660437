//! A client that sends exactly the bytes it is told to: others tidy up paths.

use std::fmt::Write as _;
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
    let mut text = format!("{method} {url} HTTP/1.1\r\nConnection: close\r\n");
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
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("the request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the answer");
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.unwrap_or_else(|| panic!("no answer to {url}: {:?}", String::from_utf8_lossy(&answer)));
    let head = String::from_utf8(answer[..split].to_vec()).expect("a head of text");
    let bytes = answer[split + 4..].to_vec();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Reply { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}
