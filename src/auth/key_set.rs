//! The keys that tokens are signed with.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of a set.
const MAX_KEYS: usize = 100;

/// Keys by which signatures are verified. Each is for one algorithm, which the key and not the token decides.
#[derive(Debug)]
pub(super) struct KeySet(Vec<SigningKey>);

#[derive(Debug)]
struct SigningKey {
    /// The issuer's name of it.
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl KeySet {
    /// A secret, for HS256.
    pub(super) fn of_secret(secret: &[u8]) -> Self {
        KeySet(vec![SigningKey { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }])
    }

    /// Reads a JWK Set (RFC 7517, section 5). Keys of other kinds than ours are left out, as it says.
    ///
    /// # Errors
    /// What is wrong with it, as a part of a sentence.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|error| format!("it is no JWK Set: {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it has {} keys, which are more than {MAX_KEYS}", set.keys.len()));
        }
        let jwks = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Ok(KeySet(jwks.filter_map(|jwk| usable(&jwk)).collect()))
    }

    /// Whether no token can be signed with any of them: an issuer that takes back its last key publishes such a set.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of a token with this header; `None` where none fits, or more than one does.
    pub(super) fn find(&self, header: &Header) -> Option<(&DecodingKey, Algorithm)> {
        let names = |key: &SigningKey| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            (Some(_), None) => self.is_secret(),
            (None, _) => true,
        };
        let mut fitting = self.0.iter().filter(|key| key.algorithm == header.alg && names(key));
        let found = fitting.next()?;
        fitting.next().is_none().then_some((&found.key, found.algorithm))
    }

    /// Whether it is one secret, whatever the issuer calls it.
    fn is_secret(&self) -> bool {
        self.0.iter().all(|key| key.algorithm == Algorithm::HS256)
    }
}

/// A key that signs tokens by an algorithm that is taken. A secret in a published set is none.
fn usable(jwk: &Jwk) -> Option<SigningKey> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|algorithm| algorithm == named);
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| signs)?;
    Some(SigningKey { id: common.key_id.clone(), algorithm, key })
}
