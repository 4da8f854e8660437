//! The API keys, in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq as _;
use tokio_postgres::Client;

use super::token::{self, KeyId, SecretHash};
use crate::domain::{Caller, Code, Error, Result};
use crate::store::{Control, StoredKey};

/// What a secret is compared with where its id is not known. It is no hash of anything.
const NOBODY: SecretHash = [0; 32];

/// How often the use of a key is noted at most.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// The API keys, as last read.
#[derive(Debug)]
pub struct Keyring {
    /// `None` = they have never been read.
    keys: ArcSwapOption<Keys>,
    started: Instant,
}

#[derive(Debug)]
struct Keys {
    epoch: i64,
    by_id: HashMap<KeyId, Key>,
}

#[derive(Debug)]
struct Key {
    hash: SecretHash,
    caller: Arc<Caller>,
    expires_at: Option<DateTime<Utc>>,
    revoked: bool,
    /// Outlives the reading of all keys.
    usage: Arc<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    /// Whether the key was used since that was last noted.
    used: AtomicBool,
    /// Before when it is not noted again, in milliseconds since the ring began.
    not_before: AtomicU64,
}

impl Default for Keyring {
    fn default() -> Self {
        Keyring { keys: ArcSwapOption::empty(), started: Instant::now() }
    }
}

impl Keyring {
    /// Whoever shows this key.
    ///
    /// # Errors
    /// [`Code::CredentialWrong`], whatever of it is wrong; of a key with the right secret [`Code::CredentialRevoked`] and
    /// [`Code::CredentialExpired`]; [`Code::Unavailable`] where the keys have never been read.
    pub(super) fn check(&self, key: &str, now: DateTime<Utc>) -> Result<Arc<Caller>> {
        let (id, secret) = token::read(key).ok_or_else(wrong)?;
        let keys = self.keys.load();
        let Some(keys) = keys.as_ref() else {
            return Err(
                Error::new(Code::Unavailable, "credentials cannot be checked yet").hint("try again in a moment")
            );
        };
        let known = keys.by_id.get(&id);
        let hash = token::hash(secret);
        let same: bool = hash.ct_eq(known.map_or(&NOBODY, |key| &key.hash)).into();
        let key = known.filter(|_| same).ok_or_else(wrong)?;
        if key.revoked {
            return Err(Error::new(Code::CredentialRevoked, "this API key was revoked").hint("ask for another one"));
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::new(Code::CredentialExpired, "this API key has expired").hint("ask for another one"));
        }
        // A store only where it changes something: threads that use one key would pass its memory around.
        if !key.usage.used.load(Ordering::Relaxed) {
            key.usage.used.store(true, Ordering::Relaxed);
        }
        Ok(Arc::clone(&key.caller))
    }

    /// Reads the keys anew where they have changed, and notes down which were used. To be called every second or so.
    ///
    /// # Errors
    /// Where the keys cannot be read. They stay what they were.
    pub async fn follow(&self, control: &Control, client: &Client) -> Result<()> {
        // The keys are read after the epoch: they are of that epoch, or of a later one that the next call finds.
        let epoch = control.auth_epoch(client).await?;
        if self.keys.load().as_ref().is_none_or(|keys| keys.epoch != epoch) {
            self.replace(epoch, control.stored_keys(client).await?);
        }
        let used = self.take_used(self.started.elapsed());
        if !used.is_empty()
            && let Err(error) = control.note_key_use(client, &used).await
        {
            // A standby takes no writes. That a key was used is no reason to refuse it.
            tracing::debug!(%error, "the use of API keys cannot be noted");
        }
        Ok(())
    }

    fn replace(&self, epoch: i64, stored: Vec<StoredKey>) {
        let before = self.keys.load();
        let key = |stored: StoredKey| {
            let id = token::key_id(&stored.id)?;
            let hash = stored.secret_hash.as_slice().try_into().ok()?;
            let usage = before.as_ref().and_then(|keys| keys.by_id.get(&id)).map(|key| Arc::clone(&key.usage));
            let caller = Arc::new(Caller::new(stored.roles, stored.attributes).named(format!("key {}", stored.id)));
            let (expires_at, revoked) = (stored.expires_at, stored.revoked);
            Some((id, Key { hash, caller, expires_at, revoked, usage: usage.unwrap_or_default() }))
        };
        let by_id = stored.into_iter().filter_map(key).collect();
        self.keys.store(Some(Arc::new(Keys { epoch, by_id })));
    }

    /// The ids of the keys that were used and whose use is to be noted `now`, in time since the ring began.
    fn take_used(&self, now: Duration) -> Vec<String> {
        let (now, next) = (now.as_millis() as u64, (now + NOTED_EVERY).as_millis() as u64);
        let keys = self.keys.load();
        let all = keys.iter().flat_map(|keys| keys.by_id.iter());
        let used = all.filter(|(_, key)| {
            let due = key.usage.used.load(Ordering::Relaxed) && key.usage.not_before.load(Ordering::Relaxed) <= now;
            if due {
                key.usage.not_before.store(next, Ordering::Relaxed);
                key.usage.used.store(false, Ordering::Relaxed);
            }
            due
        });
        used.map(|(id, _)| String::from_utf8_lossy(id).into_owned()).collect()
    }
}

fn wrong() -> Error {
    Error::new(Code::CredentialWrong, "the credential is not known").hint("check that all of it was sent, unchanged")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ID: &str = "0123456789ab";

    fn secret() -> String {
        "0f".repeat(32)
    }

    fn stored(id: &str) -> StoredKey {
        StoredKey {
            id: id.to_owned(),
            secret_hash: token::hash(&secret()).to_vec(),
            roles: vec!["support".to_owned()],
            attributes: BTreeMap::new(),
            expires_at: None,
            revoked: false,
        }
    }

    fn checked(ring: &Keyring, key: &str) -> Result<Arc<Caller>, Code> {
        ring.check(key, DateTime::UNIX_EPOCH).map_err(|error| error.code())
    }

    #[test]
    fn only_the_right_secret_learns_more_than_that_it_is_wrong() {
        let ring = Keyring::default();
        let right = format!("lg_{ID}_{}", secret());
        assert_eq!(checked(&ring, &right), Err(Code::Unavailable));
        for (key, of_the_right_secret) in [
            (stored(ID), Ok(())),
            (StoredKey { revoked: true, ..stored(ID) }, Err(Code::CredentialRevoked)),
            (StoredKey { expires_at: Some(DateTime::UNIX_EPOCH), ..stored(ID) }, Err(Code::CredentialExpired)),
            (
                StoredKey { expires_at: Some(DateTime::UNIX_EPOCH), revoked: true, ..stored(ID) },
                Err(Code::CredentialRevoked),
            ),
        ] {
            ring.replace(1, vec![key]);
            assert_eq!(checked(&ring, &right).map(|_| ()), of_the_right_secret);
            let other_secret = format!("lg_{ID}_{}", "0e".repeat(32));
            let other_id = format!("lg_0123456789ac_{}", secret());
            let texts = [other_secret.as_str(), &other_id, "lg_", "", "x", &right[1..]].map(|key| {
                let error = ring.check(key, DateTime::UNIX_EPOCH).unwrap_err();
                (error.code(), error.detail().to_owned())
            });
            assert!(texts.iter().all(|text| *text == texts[0] && text.0 == Code::CredentialWrong), "{texts:?}");
        }
    }

    #[test]
    fn a_secret_that_hashes_to_nothing_cannot_pass_for_an_unknown_id() {
        // Were the comparison with nobody's hash enough, it would be a way in for whoever finds such a secret.
        let ring = Keyring::default();
        ring.replace(1, vec![StoredKey { secret_hash: NOBODY.to_vec(), ..stored(ID) }]);
        assert_eq!(checked(&ring, &format!("lg_{ID}_{}", secret())), Err(Code::CredentialWrong));
    }

    #[test]
    fn a_use_is_told_once_a_minute_and_outlives_a_new_reading() {
        let ring = Keyring::default();
        let key = format!("lg_{ID}_{}", secret());
        let (none, seconds) = (Vec::<String>::new(), Duration::from_secs);
        ring.replace(1, vec![stored(ID), stored("ffffffffffff")]);
        assert_eq!(ring.take_used(seconds(1)), none);
        checked(&ring, &key).unwrap();
        ring.replace(2, vec![stored(ID), stored("ffffffffffff")]);
        assert_eq!(ring.take_used(seconds(2)), [ID]);
        checked(&ring, &key).unwrap();
        assert_eq!(ring.take_used(seconds(61)), none);
        assert_eq!(ring.take_used(seconds(62)), [ID]);
        assert_eq!(ring.take_used(seconds(200)), none);
    }
}
