//! Delivering alerts: each at least once, however often it takes, and by one process at a time.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::{Backoff, Code, Error, NextTry, Result, next_try};
use crate::engine::Engine;
use crate::store::AlertMessage;

/// The longest one delivery may take.
const DELIVERY: Duration = Duration::from_secs(10);
/// The longest that alerts are delivered on one connection to Postgres, which may hang.
const ROUND: Duration = Duration::from_secs(600);
/// How long an alert is this process's to deliver; another one may take it over afterwards.
const CLAIM: Duration = Duration::from_secs(30);
/// How often alerts are looked for that others have left.
const LOOK: Duration = Duration::from_secs(5);
/// After this time an alert that nobody takes is given up: it is no news any more.
const GIVEN_UP: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest pause that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// What came of a delivery.
enum Delivery {
    Taken,
    /// Not taken; with the pause that the receiver asks for.
    Failed(Error, Option<Duration>),
}

/// Delivers what is written down until `shutdown`; at once after `written`.
pub(super) async fn deliver(engine: &Engine, url: &SecretString, written: &Notify, shutdown: &CancellationToken) {
    let receiver = match Receiver::new(url) {
        Ok(receiver) => receiver,
        Err(error) => return tracing::error!("no alert can be delivered: {error}"),
    };
    loop {
        // An alert under way at the end is claimed, and delivered again by whoever is next.
        let delivery = tokio::time::timeout(ROUND, deliver_all(engine, &receiver));
        let Some(delivered) = shutdown.run_until_cancelled(delivery).await else { return };
        if let Ok(Err(error)) = delivered {
            tracing::warn!("alerts cannot be read: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = written.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn deliver_all(engine: &Engine, receiver: &Receiver) -> Result<()> {
    let (session, control) = (engine.control_session().await?, engine.control());
    while let Some(message) = control.claim_alert(&*session, CLAIM).await? {
        let (pipeline, id) = (&message.pipeline, &message.id);
        let (error, asked) = match receiver.post(&message).await {
            Delivery::Taken => {
                tracing::info!(%pipeline, %id, "alert delivered");
                control.remove_alert(&*session, message.message).await?;
                continue;
            }
            Delivery::Failed(error, asked) => (error, asked),
        };
        match pause_after(&error, &message, asked, rand::random()) {
            Some(pause) => {
                tracing::warn!(%pipeline, %id, pause_secs = pause.as_secs_f64(), "alert tried again: {error}");
                control.postpone_alert(&*session, message.message, pause).await?;
            }
            None => {
                tracing::error!(%pipeline, %id, "alert given up: {error}");
                control.remove_alert(&*session, message.message).await?;
            }
        }
    }
    Ok(())
}

/// The pause before the next delivery of an alert that was not taken; `None` where there is none.
fn pause_after(error: &Error, message: &AlertMessage, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    match next_try(error.code(), message.tries, Backoff::OF_ALERTS, chance) {
        NextTry::Later(pause) if message.age < GIVEN_UP => Some(pause.max(asked.unwrap_or_default())),
        _ => None,
    }
}

/// Where alerts are posted to.
struct Receiver {
    client: Client,
    url: Url,
}

impl Receiver {
    fn new(url: &SecretString) -> Result<Receiver> {
        let url = Url::parse(url.expose_secret())
            .map_err(|error| Error::new(Code::InvalidValue, format!("`alerts.webhook` is not a URL: {error}")))?;
        let agent = concat!("lakegate/", env!("CARGO_PKG_VERSION"));
        // A redirect would turn the POST into a GET, or carry it to somewhere else.
        let client = Client::builder().timeout(DELIVERY).redirect(redirect::Policy::none()).user_agent(agent).build();
        let client =
            client.map_err(|error| Error::internal("the client of the webhook cannot be made").because(error))?;
        Ok(Receiver { client, url })
    }

    async fn post(&self, message: &AlertMessage) -> Delivery {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", &message.id)
            .body(message.body.clone());
        let host = self.url.host_str().unwrap_or_default();
        match request.send().await {
            Ok(reply) => judge(host, reply.status(), reply.headers()),
            Err(error) => {
                // The address may be a secret.
                let error = error.without_url();
                let cause = std::iter::successors(error.source(), |&cause| cause.source()).last();
                let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
                Delivery::Failed(unreachable(format!("{host}: {cause}")), None)
            }
        }
    }
}

/// What the receiver's answer means.
fn judge(host: &str, status: StatusCode, headers: &HeaderMap) -> Delivery {
    if status.is_success() {
        return Delivery::Taken;
    }
    let answered = format!("{host} answered {status}");
    let passes = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    if passes {
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = asked.map(|seconds| Duration::from_secs(seconds).min(LONGEST_ASKED));
        return Delivery::Failed(unreachable(answered), asked);
    }
    let refused = Error::new(Code::AlertRefused, answered);
    Delivery::Failed(refused.hint("check the URL in `alerts.webhook` and what it takes"), None)
}

fn unreachable(detail: String) -> Error {
    Error::new(Code::AlertUndelivered, detail).hint("check the network and the receiver; it is tried again by itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tries: u32, age: Duration) -> AlertMessage {
        let text = String::new;
        AlertMessage { message: 1, id: text(), pipeline: text(), body: text(), age, tries }
    }

    fn answer(status: u16, retry_after: &str) -> (Option<Code>, Option<Duration>) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        match judge("host", StatusCode::from_u16(status).unwrap(), &headers) {
            Delivery::Taken => (None, None),
            Delivery::Failed(error, asked) => (Some(error.code()), asked),
        }
    }

    #[test]
    fn answers_are_told_apart() {
        for status in [200, 202, 204] {
            assert_eq!(answer(status, "5"), (None, None), "{status}");
        }
        for status in [301, 400, 401, 404, 410] {
            assert_eq!(answer(status, "5"), (Some(Code::AlertRefused), None), "{status}");
        }
        for status in [408, 429, 500, 503] {
            assert_eq!(answer(status, "5"), (Some(Code::AlertUndelivered), Some(Duration::from_secs(5))), "{status}");
        }
        assert_eq!(answer(503, "99999999").1, Some(LONGEST_ASKED));
        assert_eq!(answer(503, "Fri, 31 Dec 1999 23:59:59 GMT").1, None);
    }

    #[test]
    fn pauses_grow_and_end_after_a_day() {
        let failed = unreachable(String::new());
        let pause = |tries, age, asked| pause_after(&failed, &message(tries, age), asked, 0.5);
        let seconds: Vec<u64> =
            [1, 2, 3, 20].map(|tries| pause(tries, Duration::ZERO, None).unwrap().as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 300]);
        assert_eq!(pause(1, Duration::ZERO, Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
        assert_eq!(pause(99, GIVEN_UP, None), None);
        let refused = Error::new(Code::AlertRefused, "");
        assert_eq!(pause_after(&refused, &message(1, Duration::ZERO), None, 0.5), None);
    }

    #[tokio::test]
    async fn the_address_is_in_no_error() {
        let receiver = Receiver::new(&SecretString::from("http://127.0.0.1:1/hooks/s3cret")).unwrap();
        let Delivery::Failed(error, _) = receiver.post(&message(1, Duration::ZERO)).await else { panic!("taken") };
        assert_eq!(error.code(), Code::AlertUndelivered);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}
