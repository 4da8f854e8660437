//! API keys that come and go: soon let in everywhere, soon refused everywhere, and no valid one ever refused.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::tally::count;
use super::{Server, Soak};
use crate::support::http::{Reply, get_with, send};

/// How soon a key that was made or revoked is so on every server.
const LIVE: Duration = Duration::from_secs(2);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes keys, uses and revokes them, one after the other, until the end.
pub(super) async fn come_and_go(soak: &Soak, admin: SocketAddr, apart: Duration) {
    let mut random = StdRng::seed_from_u64(soak.seed ^ 0x5EC);
    while !soak.pause(apart.mul_f64(random.random_range(0.0..2.0))).await {
        let Some(made) = change(soak, admin, "/v1/keys", r#"{"name": "a passer-by"}"#, 201).await else { continue };
        let made = made.json();
        let key = Key {
            text: format!("Bearer {}", made["key"].as_str().unwrap()),
            id: made["id"].as_str().unwrap().to_owned(),
        };
        for server in &soak.servers {
            key.becomes(soak, server, true, Instant::now()).await;
        }
        soak.pause(apart.mul_f64(random.random_range(0.0..1.0))).await;
        let url = format!("/v1/keys/{}/revoke", key.id);
        let revoked = loop {
            match change(soak, admin, &url, "", 200).await {
                Some(_) => break Instant::now(),
                None if soak.is_over() => return,
                None => {}
            }
        };
        let ends = soak.servers.iter().map(|server| key.becomes(soak, server, false, revoked));
        futures::future::join_all(ends).await;
        count(&soak.tally.keys_revoked);
        // It stays refused, whatever happens to Postgres.
        soak.pause(LIVE).await;
        for server in &soak.servers {
            let reply = key.used(server).await;
            assert!(is_refused(&reply), "{} lets a key in that was refused: {reply:?}", server.name);
        }
    }
}

/// Changes keys by the admin API; `None` where Postgres is not there for it.
async fn change(soak: &Soak, admin: SocketAddr, url: &str, body: &str, status: u16) -> Option<Reply> {
    let asked = Instant::now();
    let headers = [("Lakegate-Request", "1"), ("Content-Type", "application/json")];
    let reply = send(admin, "POST", url, &headers, body).await;
    if reply.status == status {
        return Some(reply);
    }
    assert!(reply.status >= 500 && soak.weather.was_bad(asked), "{url}: {reply:?}");
    soak.pause(PAUSE).await;
    None
}

struct Key {
    id: String,
    /// As `Authorization` bears it.
    text: String,
}

impl Key {
    async fn used(&self, server: &Server) -> Reply {
        get_with(server.address, "/v1/items/0/0", &[("Authorization", &self.text)]).await
    }

    /// Waits until a server lets it in, or refuses it, which must be soon unless Postgres is not there.
    async fn becomes(&self, soak: &Soak, server: &Server, valid: bool, since: Instant) {
        loop {
            let asked = Instant::now();
            let reply = self.used(server).await;
            let late = asked.duration_since(since);
            if is_refused(&reply) != valid {
                if !valid && !soak.weather.was_bad(since) {
                    soak.tally.outlived.fetch_max(late.as_millis() as u64, Ordering::Relaxed);
                }
                return;
            }
            let is_late = late > LIVE && !soak.weather.was_bad(since);
            assert!(!is_late, "{} {late:?} after a key has become valid ({valid}): {reply:?}", server.name);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether the credential is; what else may be wrong is other clients' affair.
fn is_refused(reply: &Reply) -> bool {
    reply.status == 401
}
