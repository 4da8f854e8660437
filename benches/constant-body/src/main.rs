//! The limit of HTTP, for `make bench-serve`: an axum handler that answers a body of so many bytes, always the same.
//!
//! `constant-body ADDRESS BYTES`

use std::env;
use std::error::Error;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(bytes)) = (arguments.next(), arguments.next()) else {
        return Err("usage: constant-body ADDRESS BYTES".into());
    };
    let body = Bytes::from(vec![b'x'; bytes.parse()?]);
    let answer = move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json")], body) }
    };
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/{*path}", get(answer))).await?;
    Ok(())
}
