//! The admin API of a real `lakegate up`, over real sockets.

mod changing;
mod looking;
mod metrics;
mod refusing;
mod replica;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http::{Reply, get, send};

/// What a request bears that may change something.
const HEADERS: [(&str, &str); 2] = [("Lakegate-Request", "1"), ("Content-Type", "application/json")];

/// `POST` as it has to be.
async fn post(address: SocketAddr, url: &str, body: &str) -> Reply {
    send(address, "POST", url, &HEADERS, body).await
}

/// The same, which must begin something: its records.
#[track_caller]
fn begun(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json()["data"].as_array().unwrap().clone()
}

/// A run, as the API has it.
async fn run(address: SocketAddr, run: &Value) -> Value {
    let reply = get(address, &format!("/v1/runs/{run}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// The code of an error of this API.
fn code(reply: &Reply) -> String {
    let error = &reply.json()["error"];
    assert!(error["title"].is_string() && error["detail"].is_string(), "{reply:?}");
    error["code"].as_str().unwrap().to_owned()
}
