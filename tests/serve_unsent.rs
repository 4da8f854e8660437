//! Clients that do not take what they asked for.

use lakegate::domain::{ColumnType, ScalarType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::serve_http::until;
use crate::support::http::post;
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table, settings};

#[tokio::test]
async fn answers_that_nobody_takes_hold_a_bounded_part_of_memory() {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let columns = [("id", ColumnType::Scalar(ScalarType::Int64)), ("text", ColumnType::Scalar(ScalarType::Text))];
    let table = Table::new("wide", &columns, &["id"]);
    publisher.publish(&table, "1", "SELECT 1, repeat('x', 1 << 20)").await;
    let running = Running::start(settings(), database.connector()).await;
    let body = format!("{{\"keys\":[{}]}}", ["1"; 15].join(","));
    let asked = format!(
        "POST /v1/wide/_batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Answers of 15 MiB, of which 256 MiB are held at most, and what the buffers of the sockets take besides.
    let mut clients = Vec::new();
    let refused = loop {
        let mut client = TcpStream::connect(running.server.addr).await.unwrap();
        client.write_all(asked.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        match &head {
            b"HTTP/1.1 200" => clients.push(client),
            other => break String::from_utf8_lossy(other).into_owned(),
        }
        assert!(clients.len() < 100);
    };
    assert_eq!(refused, "HTTP/1.1 503");
    assert!(clients.len() > 10, "{} answers of 15 MiB were too many", clients.len());
    drop(clients);
    until(async || post(running.server.addr, "/v1/wide/_batch", &body).await.status == 200).await;
}
