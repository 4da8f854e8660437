//! How many rows somebody may read in how long, and all together: token buckets by the generic cell rate algorithm (ITU-T
//! I.371), told in `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-10).
//!
//! A request is answered while there is a row left. What it costs is known when its rows are, and may leave a debt, which
//! time pays off: a page is never cut short. (No crate that we know lets a bucket go below empty.) Each process counts for
//! itself.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::http::{HeaderName, HeaderValue};
use quick_cache::sync::Cache;
use rand::random;
use twox_hash::XxHash3_128;

use crate::domain::{Caller, Code, Error, Rate, RateLimit};

/// Tells what is left, and how soon all of it is there again.
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Tells what is allowed.
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Callers of one table whose use is remembered at a time. Whoever has not asked for longest begins anew.
const MAX_CALLERS: usize = 10_000;

/// Whoever asks, and from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) caller: &'a Caller,
    /// The client's address, by which those are told apart who show no credential.
    pub(super) peer: Option<IpAddr>,
}

/// What the callers of a table have used. Outlives its states.
#[derive(Debug)]
pub(super) struct Rates {
    began: Instant,
    all: Bucket,
    callers: OnceLock<Cache<u128, Arc<Bucket>>>,
    /// Keeps strangers from choosing whose bucket they share.
    seed: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Rates { began: Instant::now(), all: Bucket::default(), callers: OnceLock::new(), seed: random() }
    }
}

/// That a request may be answered; its first row has been paid for.
#[derive(Debug)]
pub(super) struct Grant {
    rates: Arc<Rates>,
    limit: RateLimit,
    caller: Option<(Rate, Arc<Bucket>)>,
}

/// What an answer tells of its caller's limit.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// The value of [`RATE_LIMIT`].
    pub(super) left: Option<HeaderValue>,
    /// After how many seconds it is worth asking again, where there was none left.
    pub(super) retry_after: Option<u64>,
}

impl Rates {
    /// Takes a row from the limits of whoever asks and of the table; `None` where nothing limits him.
    ///
    /// # Errors
    /// [`Code::RateLimited`], and what the answer tells besides.
    pub(super) fn grant(
        self: &Arc<Self>,
        limit: Option<RateLimit>,
        asker: Asker<'_>,
    ) -> Result<Option<Grant>, (Error, Quota)> {
        let limit = limit.filter(|_| !asker.caller.sees_everything());
        limit.map(|limit| self.take_at(limit, asker, self.now())).transpose()
    }

    fn take_at(self: &Arc<Self>, limit: RateLimit, asker: Asker<'_>, now: u64) -> Result<Grant, (Error, Quota)> {
        let caller = limit.caller.map(|rate| (rate, self.bucket(asker)));
        if let Some((rate, bucket)) = &caller {
            bucket.take(*rate, now).map_err(|wait| refused("caller", *rate, wait))?;
        }
        if let Some(rate) = limit.table
            && let Err(wait) = self.all.take(rate, now)
        {
            if let Some((rate, bucket)) = &caller {
                bucket.give_back(*rate);
            }
            return Err(refused("table", rate, wait));
        }
        Ok(Grant { rates: Arc::clone(self), limit, caller })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn bucket(&self, asker: Asker<'_>) -> Arc<Bucket> {
        let hash = |bytes: &[u8]| XxHash3_128::oneshot_with_seed(self.seed, bytes);
        let id = match (asker.caller.name(), asker.peer.map(|ip| ip.to_canonical())) {
            (Some(name), _) => hash(name.as_bytes()),
            (None, Some(IpAddr::V4(ip))) => hash(&ip.octets()),
            // Whoever has one address of a network of version 6 has all of it.
            (None, Some(IpAddr::V6(ip))) => hash(&ip.octets()[..8]),
            (None, None) => hash(&[]),
        };
        let callers = self.callers.get_or_init(|| Cache::new(MAX_CALLERS));
        let made: Result<_, std::convert::Infallible> = callers.get_or_insert_with(&id, || Ok(Arc::default()));
        match made {
            Ok(bucket) => bucket,
            Err(never) => match never {},
        }
    }
}

impl Grant {
    /// Pays for all rows of the answer; there was one at least to pay for.
    pub(super) fn pay(self, rows: u32) -> Quota {
        let now = self.rates.now();
        self.pay_at(rows, now)
    }

    fn pay_at(self, rows: u32, now: u64) -> Quota {
        let more = rows.saturating_sub(1);
        if let Some(rate) = self.limit.table {
            self.rates.all.pay(rate, more, now);
        }
        let left = self.caller.map(|(rate, bucket)| {
            bucket.pay(rate, more, now);
            let (rows, full_in) = bucket.left(rate, now);
            header("caller", rows, full_in)
        });
        Quota { left: left.flatten(), retry_after: None }
    }
}

/// One token bucket. Instead of its tokens it holds when it will be full again.
#[derive(Debug, Default)]
struct Bucket {
    /// In nanoseconds since the rates began.
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes one row; or after how many nanoseconds there will be one.
    fn take(&self, rate: Rate, now: u64) -> Result<(), u64> {
        let (row, window) = (nanos_of_row(rate), nanos(rate));
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now) + row;
            (next <= now + window).then_some(next)
        });
        taken.map(|_| ()).map_err(|full_at| (full_at.max(now) + row).saturating_sub(now + window))
    }

    /// Takes so many rows, which may leave a debt.
    fn pay(&self, rate: Rate, rows: u32, now: u64) {
        let cost = nanos_of_row(rate).saturating_mul(rows.into());
        let paid = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }

    /// Puts back the row that was taken.
    fn give_back(&self, rate: Rate) {
        let given = |full_at: u64| Some(full_at.saturating_sub(nanos_of_row(rate)));
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
    }

    /// How many rows are left, and in how many nanoseconds it will be full.
    fn left(&self, rate: Rate, now: u64) -> (u64, u64) {
        let full_in = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        (nanos(rate).saturating_sub(full_in) / nanos_of_row(rate), full_in)
    }
}

fn nanos(rate: Rate) -> u64 {
    u64::from(rate.seconds) * 1_000_000_000
}

/// The time in which one row comes, a nanosecond at least.
fn nanos_of_row(rate: Rate) -> u64 {
    (nanos(rate) / u64::from(rate.rows.max(1))).max(1)
}

fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

fn header(policy: &str, rows: u64, full_in: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("\"{policy}\";r={rows};t={}", whole_seconds(full_in))).ok()
}

fn refused(policy: &str, rate: Rate, wait: u64) -> (Error, Quota) {
    let whose = if policy == "table" { "all together" } else { "for each caller" };
    let error = Error::new(Code::RateLimited, format!("more than {rate} of this table are not read {whose}"));
    let seconds = whole_seconds(wait).max(1);
    let quota = Quota { left: header(policy, 0, wait), retry_after: Some(seconds) };
    (error.hint(format!("ask again in {seconds} s")), quota)
}

/// The value of [`RATE_LIMIT_POLICY`]; `None` where nothing is limited.
pub(super) fn policy(limit: RateLimit) -> Option<HeaderValue> {
    let one = |name: &str, rate: Rate| format!("\"{name}\";q={};w={}", rate.rows, rate.seconds);
    let all = [limit.caller.map(|rate| one("caller", rate)), limit.table.map(|rate| one("table", rate))];
    let all: Vec<String> = all.into_iter().flatten().collect();
    if all.is_empty() { None } else { HeaderValue::try_from(all.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TEN: Rate = Rate { rows: 10, seconds: 1 };

    fn caller(name: &str) -> Caller {
        Caller::default().named(name.to_owned())
    }

    fn of(caller: &Caller) -> Asker<'_> {
        Asker { caller, peer: None }
    }

    fn seen(quota: &Quota) -> &str {
        quota.left.as_ref().map_or("", |left| left.to_str().unwrap())
    }

    /// A request for so many rows: what is told, or after how many seconds to ask again.
    fn asked(rates: &Arc<Rates>, limit: RateLimit, asker: Asker<'_>, rows: u32, now: u64) -> Result<String, u64> {
        match rates.take_at(limit, asker, now) {
            Ok(grant) => Ok(seen(&grant.pay_at(rows, now)).to_owned()),
            Err((error, quota)) => {
                assert_eq!(error.code(), Code::RateLimited);
                Err(quota.retry_after.unwrap())
            }
        }
    }

    #[test]
    fn each_caller_has_a_bucket_that_fills_with_time() {
        let (rates, limit) = (Arc::<Rates>::default(), RateLimit { caller: Some(TEN), table: None });
        let (one, other) = (caller("key a"), caller("key b"));
        for left in (0..10).rev() {
            let told = format!("\"caller\";r={left};t=1");
            assert_eq!(asked(&rates, limit, of(&one), 1, SECOND), Ok(told));
        }
        assert_eq!(asked(&rates, limit, of(&one), 1, SECOND), Err(1));
        assert_eq!(asked(&rates, limit, of(&other), 1, SECOND), Ok("\"caller\";r=9;t=1".to_owned()));
        let tenth = SECOND / 10;
        assert_eq!(asked(&rates, limit, of(&one), 1, SECOND + tenth), Ok("\"caller\";r=0;t=1".to_owned()));
        assert_eq!(asked(&rates, limit, of(&one), 1, SECOND + tenth), Err(1));
        assert_eq!(asked(&rates, limit, of(&one), 1, 3 * SECOND), Ok("\"caller\";r=9;t=1".to_owned()));
    }

    #[test]
    fn a_large_answer_is_whole_and_paid_off_by_time() {
        let (rates, limit) = (Arc::<Rates>::default(), RateLimit { caller: Some(TEN), table: None });
        let one = caller("key a");
        assert_eq!(asked(&rates, limit, of(&one), 100, SECOND), Ok("\"caller\";r=0;t=10".to_owned()));
        assert_eq!(asked(&rates, limit, of(&one), 1, SECOND), Err(10));
        assert_eq!(asked(&rates, limit, of(&one), 1, 9 * SECOND), Err(2));
        assert_eq!(asked(&rates, limit, of(&one), 1, 11 * SECOND), Ok("\"caller\";r=9;t=1".to_owned()));
    }

    #[test]
    fn a_table_has_a_bucket_of_all_callers_of_which_they_are_not_told() {
        let limit = RateLimit { caller: Some(TEN), table: Some(Rate { rows: 3, seconds: 60 }) };
        let rates = Arc::<Rates>::default();
        let callers = [caller("key a"), caller("key b"), caller("key c"), caller("key d")];
        for caller in &callers[..3] {
            assert_eq!(asked(&rates, limit, of(caller), 1, SECOND), Ok("\"caller\";r=9;t=1".to_owned()));
        }
        let (_, quota) = rates.take_at(limit, of(&callers[3]), SECOND).unwrap_err();
        assert_eq!((seen(&quota), quota.retry_after), ("\"table\";r=0;t=20", Some(20)));
        // What was not answered costs its caller nothing.
        let bucket = rates.bucket(of(&callers[3]));
        assert_eq!(bucket.left(TEN, SECOND).0, 10);
        assert_eq!(policy(limit).unwrap(), "\"caller\";q=10;w=1, \"table\";q=3;w=60");
        assert_eq!(policy(RateLimit::default()), None);
    }

    #[test]
    fn who_shows_no_credential_is_told_apart_by_address() {
        let (rates, nobody) = (Rates::default(), Caller::default());
        let bucket = |ip: &str| {
            let peer = Some(ip.parse().unwrap());
            Arc::as_ptr(&rates.bucket(Asker { caller: &nobody, peer }))
        };
        assert_eq!(bucket("10.0.0.1"), bucket("::ffff:10.0.0.1"));
        assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::2"));
        assert_ne!(bucket("10.0.0.1"), bucket("10.0.0.2"));
        assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
    }

    #[test]
    fn the_memory_of_callers_is_bounded() {
        let rates = Rates::default();
        for number in 0..2 * MAX_CALLERS {
            let caller = caller(&number.to_string());
            rates.bucket(of(&caller));
        }
        assert!(rates.callers.get().unwrap().len() <= MAX_CALLERS);
    }

    proptest! {
        #[test]
        fn no_more_rows_are_given_than_the_rate_allows(
            rows in 1_u32..1_000,
            seconds in 1_u32..100,
            pauses in proptest::collection::vec(0_u64..2 * SECOND, 1..200),
        ) {
            let (rate, bucket) = (Rate { rows, seconds }, Bucket::default());
            let (mut now, mut given) = (0, 0_u64);
            for pause in pauses {
                now += pause;
                let before = bucket.left(rate, now).0;
                let taken = bucket.take(rate, now);
                prop_assert_eq!(taken.is_ok(), before > 0);
                given += u64::from(taken.is_ok());
                prop_assert!(given <= u64::from(rows) + now / nanos_of_row(rate));
            }
        }
    }
}
