//! Where key sets come from, and when they are read again.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use reqwest::{Client, StatusCode, Url, redirect};
use secrecy::ExposeSecret as _;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::jwt::Tokens;
use super::key_set::KeySet;
use crate::domain::JwtKeys;

/// How often key sets are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// An address that answers.
    pub(super) usual: Duration,
    /// A file, and an address that has not answered.
    pub(super) soon: Duration,
    /// The shortest pause before an address is asked again because a token names a key that is not in its set.
    pub(super) settled: Duration,
    /// The same of a file.
    pub(super) settled_file: Duration,
}

impl Pace {
    pub(super) const USUAL: Pace = Pace {
        usual: Duration::from_secs(5 * 60),
        soon: Duration::from_secs(10),
        settled: Duration::from_secs(10),
        settled_file: Duration::from_secs(1),
    };
}

/// The longest that an address may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The most bytes of a key set.
const MAX_BYTES: usize = 1 << 20;

impl Tokens {
    /// Keeps the keys up until `shutdown`: reads them at once, again from time to time, and where a token names a key that
    /// is not among them. Those that were read last hold while they cannot be read.
    pub(super) async fn follow(&self, pace: Pace, shutdown: &CancellationToken) {
        let source = match &self.settings().keys {
            JwtKeys::Secret(secret) => {
                return self.trust(KeySet::of_secret(secret.expose_secret().as_bytes()), None);
            }
            JwtKeys::File(path) => Source::File(path),
            JwtKeys::Url(url) => match client() {
                Ok(client) => Source::Url(client, url),
                Err(error) => return tracing::error!("tokens cannot be verified: {error}"),
            },
        };
        let (mut failing, mut empty) = (false, false);
        loop {
            let asked_at = Utc::now();
            let Some(read) = shutdown.run_until_cancelled(source.read()).await else { return };
            match read.and_then(|bytes| KeySet::read(&bytes)) {
                Ok(keys) => {
                    if failing {
                        tracing::info!("the keys of tokens are known again");
                    }
                    failing = false;
                    if keys.is_empty() && !empty {
                        tracing::warn!(
                            "the key set of {} has no key that signs by RS256, ES256 or EdDSA: no token is taken",
                            source.name()
                        );
                    }
                    empty = keys.is_empty();
                    self.trust(keys, Some(asked_at));
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!("the keys of tokens cannot be read from {}: {error}", source.name());
                    }
                    failing = true;
                }
            }
            let is_file = matches!(source, Source::File(_));
            let pause = if is_file { pace.settled_file } else { pace.settled };
            self.settled(Utc::now() + pause);
            let settled = Instant::now() + pause;
            let is_usual = !failing && !is_file;
            let next = Instant::now() + if is_usual { pace.usual } else { pace.soon };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(next) => {}
                () = async { sleep_until(settled).await; self.unknown().await } => {}
            }
        }
    }
}

enum Source<'s> {
    File(&'s Path),
    Url(Client, &'s Url),
}

impl Source<'_> {
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            // The rest of an address may be somebody's secret.
            Source::Url(_, url) => url.host_str().unwrap_or_default().to_owned(),
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        let bytes = match self {
            Source::File(path) => read_file(path).await.map_err(|error| error.to_string())?,
            Source::Url(client, url) => fetch(client, url).await?,
        };
        if bytes.len() > MAX_BYTES { Err(format!("it is longer than {MAX_BYTES} bytes")) } else { Ok(bytes) }
    }
}

async fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

async fn fetch(client: &Client, url: &Url) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| format!("it does not answer: {}", error.without_url());
    let mut reply = client.get(url.clone()).send().await.map_err(failed)?;
    if reply.status() != StatusCode::OK {
        return Err(format!("it answers {}", reply.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(part) = reply.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&part);
        if bytes.len() > MAX_BYTES {
            break;
        }
    }
    Ok(bytes)
}

/// Follows no redirects: they could lead to where others can change what stands there.
fn client() -> Result<Client, String> {
    let agent = concat!("lakegate/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder().timeout(ANSWER).redirect(redirect::Policy::none()).user_agent(agent);
    client.build().map_err(|error| error.to_string())
}
