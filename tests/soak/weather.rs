//! When Postgres is not there: what excuses an answer of 503.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Soak;
use crate::support::postgres::TestCluster;

/// How long after an outage servers may need to find their way back.
const RECOVERY: Duration = Duration::from_secs(5);

/// The outages so far.
#[derive(Default)]
pub(super) struct Weather(Mutex<Vec<Outage>>);

#[derive(Clone, Copy)]
struct Outage {
    /// `None` while it lasts.
    ended: Option<Instant>,
}

impl Weather {
    fn begins(&self) {
        self.0.lock().unwrap().push(Outage { ended: None });
    }

    fn ends(&self) {
        if let Some(last) = self.0.lock().unwrap().last_mut() {
            last.ended = Some(Instant::now());
        }
    }

    /// How many there were.
    pub(super) fn outages(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether Postgres was away, or not long back, at any time since.
    pub(super) fn was_bad(&self, since: Instant) -> bool {
        let outages = self.0.lock().unwrap();
        outages.last().is_some_and(|last| last.ended.is_none_or(|ended| ended + RECOVERY > since))
    }
}

/// Lets Postgres die and come back, again and again, some time apart. The first death comes after that time too.
pub(super) async fn restarts(soak: &Soak, cluster: &mut TestCluster, apart: Duration) {
    let mut random = StdRng::seed_from_u64(soak.seed ^ 0xBAD);
    while !soak.pause(apart.mul_f64(random.random_range(0.7..1.3))).await {
        let (is_outright, away) = (random.random_bool(0.5), Duration::from_millis(random.random_range(0..3_000)));
        soak.weather.begins();
        tokio::task::block_in_place(|| if is_outright { cluster.kill() } else { cluster.crash() });
        if random.random_bool(0.7) {
            soak.pause(away).await;
        }
        tokio::task::block_in_place(|| cluster.restart());
        soak.weather.ends();
    }
}
