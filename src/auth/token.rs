//! How an API key is spelled: `lg_ID_SECRET`, the id in 12 hexadecimal digits, the secret of 256 bits in 64.

use std::fmt::Write as _;

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use crate::domain::{Error, Result};

/// What every key begins with, so that people and scanners know one when they see it.
pub(super) const PREFIX: &str = "lg_";

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Digits of an id.
const ID_DIGITS: usize = 12;

/// The id of a key, which is no secret.
pub(super) type KeyId = [u8; ID_DIGITS];

/// The SHA-256 of a secret's digits.
pub(super) type SecretHash = [u8; 32];

/// A new key.
pub(super) struct Drawn {
    pub(super) id: String,
    pub(super) hash: SecretHash,
    /// All of it, as requests bear it.
    pub(super) text: SecretString,
}

/// Draws a key from the randomness of the operating system.
///
/// # Errors
/// Where that has none.
pub(super) fn draw() -> Result<Drawn> {
    let mut random = [0; ID_DIGITS / 2 + SECRET_BYTES];
    OsRng
        .try_fill_bytes(&mut random)
        .map_err(|error| Error::internal("no random numbers are to be had").because(error))?;
    let (id, secret) = random.split_at(ID_DIGITS / 2);
    let (id, secret) = (digits(id), digits(secret));
    Ok(Drawn { hash: hash(&secret), text: SecretString::from(format!("{PREFIX}{id}_{secret}")), id })
}

fn digits(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The id and the secret of a key; `None` for what is not spelled like one.
pub(super) fn read(token: &str) -> Option<(KeyId, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let fits = secret.len() == 2 * SECRET_BYTES && secret.bytes().all(is_digit);
    Some((key_id(id)?, secret)).filter(|_| fits)
}

/// An id; `None` for what is not spelled like one.
pub(super) fn key_id(text: &str) -> Option<KeyId> {
    let id: KeyId = text.as_bytes().try_into().ok()?;
    id.iter().copied().all(is_digit).then_some(id)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

pub(super) fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn what_is_drawn_reads_back_and_differs_each_time() {
        let (one, other) = (draw().unwrap(), draw().unwrap());
        let (id, secret) = read(one.text.expose_secret()).unwrap();
        assert_eq!((id.as_slice(), hash(secret)), (one.id.as_bytes(), one.hash));
        assert!(one.id != other.id && one.hash != other.hash);
    }

    #[test]
    fn another_spelling_is_no_key() {
        let secret = "0f".repeat(32);
        let good = format!("lg_0123456789ab_{secret}");
        assert!(read(&good).is_some());
        for bad in [
            String::new(),
            good.to_uppercase(),
            good[..good.len() - 1].to_owned(),
            format!("{good}0"),
            format!("lg_0123456789abc_{secret}"),
            format!("lg_0123456789a_{secret}"),
            format!("xx_0123456789ab_{secret}"),
            good.replace('f', "g"),
        ] {
            assert!(read(&bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn foreign_texts_never_panic(text in ".{0,100}", rest in "[0-9a-f_é]{0,90}") {
            let _ = read(&text);
            let _ = read(&format!("lg_{rest}"));
        }
    }
}
