//! A receiver of alerts: a real HTTP server that takes down what is posted to it and answers as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::project::eventually;

/// A running receiver; it ends when dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    inbox: Arc<Mutex<Inbox>>,
    task: JoinHandle<()>,
}

/// A post that came, and the status that it was answered with; 0 = never answered.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) key: String,
    pub(crate) alert: Value,
    pub(crate) status: u16,
}

#[derive(Default)]
struct Inbox {
    posts: Vec<Post>,
    /// Of the posts to come; 200 when there are no more.
    statuses: VecDeque<u16>,
}

impl Receiver {
    /// Starts a receiver whose first answers have these statuses; 0 leaves a post without an answer.
    pub(crate) async fn start(statuses: &[u16]) -> Receiver {
        let inbox = Arc::new(Mutex::new(Inbox { statuses: statuses.iter().copied().collect(), ..Inbox::default() }));
        let router = Router::new().route("/hooks/alerts", post(take)).with_state(Arc::clone(&inbox));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/alerts", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Receiver { url, inbox, task }
    }

    /// All posts so far.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.inbox.lock().unwrap().posts.clone()
    }

    /// How the further posts are to be answered.
    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        self.inbox.lock().unwrap().statuses = statuses.iter().copied().collect();
    }

    /// The pipelines and statuses of the alerts that were taken, in their order.
    pub(crate) fn taken(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let taken = self.posts().into_iter().filter(|post| post.status == 200);
        taken.map(|post| (text(&post.alert["pipeline"]), text(&post.alert["status"]))).collect()
    }

    /// Waits until so many posts have come; the last of them.
    pub(crate) async fn nth(&self, number: usize) -> Post {
        eventually(&format!("post number {number}"), async || self.posts().len() >= number).await;
        self.posts()[number - 1].clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(inbox): State<Arc<Mutex<Inbox>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = {
        let mut inbox = inbox.lock().unwrap();
        let status = inbox.statuses.pop_front().unwrap_or(200);
        assert_eq!(headers["content-type"], "application/json");
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        inbox.posts.push(Post { key, alert: serde_json::from_slice(&body).unwrap(), status });
        status
    };
    match StatusCode::from_u16(status) {
        Ok(status) => status,
        Err(_) => std::future::pending().await,
    }
}
