use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use chrono::TimeDelta;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::key_source::Pace;
use super::*;
use crate::domain::JwtKeys;

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// The bytes of PKCS #8 before the RSA key of 2048 bits within, which is what signs.
const PKCS8_HEAD: usize = 26;

/// One who signs tokens.
struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let key = match algorithm {
            Algorithm::RS256 => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                EncodingKey::from_rsa_der(&key.as_der().unwrap().as_ref()[PKCS8_HEAD..])
            }
            Algorithm::ES256 => {
                let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                EncodingKey::from_ec_der(key.to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::EdDSA => {
                let key = Ed25519KeyPair::generate().unwrap();
                EncodingKey::from_ed_der(key.to_pkcs8v1().unwrap().as_ref())
            }
            _ => EncodingKey::from_secret(SECRET),
        };
        Issuer { algorithm, key }
    }

    /// What it publishes of its key.
    fn jwk(&self, id: &str) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn header(&self, id: Option<&str>) -> Header {
        Header { kid: id.map(str::to_owned), ..Header::new(self.algorithm) }
    }

    fn sign(&self, id: Option<&str>, claims: &Value) -> String {
        encode(&self.header(id), claims, &self.key).unwrap()
    }
}

fn settings(keys: JwtKeys) -> JwtSettings {
    JwtSettings {
        issuer: "https://issuer".to_owned(),
        audience: vec!["rows".to_owned(), "lake".to_owned()],
        keys,
        clock_skew: Duration::from_secs(30),
        roles: "roles".to_owned(),
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// Claims that are taken now.
fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": "rows", "sub": "alice", "exp": now().timestamp() + 60})
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

/// Verifies by these published keys.
fn trusting(keys: &[Value]) -> Tokens {
    let tokens = Tokens::new(settings(JwtKeys::File("keys.json".into())));
    tokens.trust(set(keys), Some(now()));
    tokens.settled(now() + TimeDelta::seconds(10));
    tokens
}

fn by_secret() -> (Issuer, Tokens) {
    let tokens = Tokens::new(settings(JwtKeys::Secret("".into())));
    tokens.trust(KeySet::of_secret(SECRET), None);
    (Issuer::new(Algorithm::HS256), tokens)
}

fn checked(tokens: &Tokens, token: &str) -> Result<Option<String>, Code> {
    checked_at(tokens, token, now())
}

fn checked_at(tokens: &Tokens, token: &str, now: DateTime<Utc>) -> Result<Option<String>, Code> {
    let caller = tokens.check(token, now).map_err(|error| error.code())?;
    Ok(caller.name().map(str::to_owned))
}

fn alice() -> Result<Option<String>, Code> {
    Ok(Some("sub alice".to_owned()))
}

#[test]
fn each_algorithm_is_taken_by_the_key_that_is_named() {
    let issuers = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(Issuer::new);
    let others = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(Issuer::new);
    let keys: Vec<Value> = issuers.iter().zip(["a", "b", "c"]).map(|(issuer, id)| issuer.jwk(id)).collect();
    let tokens = trusting(&keys);
    for ((issuer, other), id) in issuers.iter().zip(&others).zip(["a", "b", "c"]) {
        for _ in 0..2 {
            // The second time from memory.
            assert_eq!(checked(&tokens, &issuer.sign(Some(id), &claims())), alice(), "{id}");
        }
        // Where only one key fits, it need not be named.
        assert_eq!(checked(&tokens, &issuer.sign(None, &claims())), alice(), "{id}");
        assert_eq!(checked(&tokens, &other.sign(Some(id), &claims())), Err(Code::CredentialWrong), "{id}");
        for wrong_id in ["a", "b", "c", "d"].into_iter().filter(|wrong| *wrong != id) {
            let signed = issuer.sign(Some(wrong_id), &claims());
            assert_eq!(checked(&tokens, &signed), Err(Code::CredentialWrong), "{id} {wrong_id}");
        }
    }
    let (issuer, tokens) = by_secret();
    assert_eq!(checked(&tokens, &issuer.sign(Some("whatever"), &claims())), alice());
    assert_eq!(checked(&tokens, &issuer.sign(None, &claims())), alice());
}

#[test]
fn the_key_and_not_the_token_decides_how_it_is_verified() {
    let rsa = Issuer::new(Algorithm::RS256);
    let tokens = trusting(&[rsa.jwk("a")]);
    // What is public of an RSA key, taken for a secret.
    let modulus = rsa.jwk("a")["n"].as_str().unwrap().to_owned();
    let forged = Issuer { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(modulus.as_bytes()) };
    assert_eq!(checked(&tokens, &forged.sign(Some("a"), &claims())), Err(Code::CredentialWrong));
    let real = rsa.sign(Some("a"), &claims());
    let parts: Vec<&str> = real.split('.').collect();
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"none","kid":"a"}"#, r#"{"alg":"HS256","kid":"a"}"#, "{}", ""] {
        use base64::Engine as _;
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        for signature in ["", parts[2]] {
            let forged = format!("{header}.{}.{signature}", parts[1]);
            assert_eq!(checked(&tokens, &forged), Err(Code::CredentialWrong), "{forged}");
        }
    }
    // A secret that somebody has published is none, and a key for encryption signs nothing.
    let secret = Issuer::new(Algorithm::HS256);
    let mut encrypting = Issuer::new(Algorithm::ES256).jwk("c");
    encrypting["use"] = json!("enc");
    let mixed = json!({"keys": [secret.jwk("b"), encrypting, {"kty": "unheard of"}, 1, rsa.jwk("a")]}).to_string();
    let tokens = Tokens::new(settings(JwtKeys::File("keys.json".into())));
    tokens.trust(KeySet::read(mixed.as_bytes()).unwrap(), None);
    assert_eq!(checked(&tokens, &secret.sign(Some("b"), &claims())), Err(Code::CredentialWrong));
    assert_eq!(checked(&tokens, &real), alice());
    for useless in ["", "{}", "[]", r#"{"keys": 1}"#] {
        assert!(KeySet::read(useless.as_bytes()).is_err(), "{useless}");
    }
}

#[test]
fn an_issuer_that_takes_back_its_last_key_is_no_longer_trusted() {
    let issuer = Issuer::new(Algorithm::ES256);
    let tokens = Tokens::new(settings(JwtKeys::File("keys.json".into())));
    let token = issuer.sign(Some("a"), &claims());
    let secret = Issuer::new(Algorithm::HS256).jwk("a");
    for of_no_use in [json!([]), json!([1]), json!([secret])] {
        tokens.trust(KeySet::read(json!({"keys": [issuer.jwk("a")]}).to_string().as_bytes()).unwrap(), None);
        assert_eq!(checked(&tokens, &token), alice());
        tokens.trust(KeySet::read(json!({"keys": of_no_use}).to_string().as_bytes()).unwrap(), None);
        assert_eq!(checked(&tokens, &token), Err(Code::CredentialWrong), "{of_no_use}");
    }
}

#[test]
fn a_token_with_other_claims_is_refused() {
    let (issuer, tokens) = by_secret();
    let at = |seconds: i64| json!(now().timestamp() + seconds);
    for (claims, expected) in [
        (claims_with("aud", json!(["elsewhere", "lake"])), alice()),
        (claims_with("exp", at(-29)), alice()),
        (claims_with("exp", json!(now().timestamp() as f64 + 0.5)), alice()),
        (claims_with("nbf", at(29)), alice()),
        (claims_with("exp", at(-30)), Err(Code::CredentialExpired)),
        (claims_with("nbf", at(31)), Err(Code::CredentialWrong)),
        (claims_with("iss", json!("https://issuer/")), Err(Code::CredentialWrong)),
        (claims_with("aud", json!("elsewhere")), Err(Code::CredentialWrong)),
        (claims_with("aud", json!([])), Err(Code::CredentialWrong)),
        (claims_with("exp", json!("soon")), Err(Code::CredentialWrong)),
        (claims_with("nbf", json!("now")), Err(Code::CredentialWrong)),
        (claims_with("iss", json!(["https://issuer"])), Err(Code::CredentialWrong)),
        (claims_with("sub", json!(7)), Err(Code::CredentialWrong)),
        (json!([]), Err(Code::CredentialWrong)),
    ] {
        assert_eq!(checked(&tokens, &issuer.sign(None, &claims)), expected, "{claims}");
    }
    for missing in ["iss", "aud", "sub", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        assert_eq!(checked(&tokens, &issuer.sign(None, &claims)), Err(Code::CredentialWrong), "{missing}");
    }
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..issuer.header(None) };
    let token = encode(&critical, &claims(), &issuer.key).unwrap();
    assert_eq!(checked(&tokens, &token), Err(Code::CredentialWrong));
}

#[test]
fn a_token_that_was_verified_ends_all_the_same() {
    let (issuer, tokens) = by_secret();
    let token = issuer.sign(None, &claims());
    assert_eq!(checked(&tokens, &token), alice());
    assert_eq!(checked_at(&tokens, &token, now() + TimeDelta::seconds(89)), alice());
    assert_eq!(checked_at(&tokens, &token, now() + TimeDelta::seconds(90)), Err(Code::CredentialExpired));
    // Nor does it outlive its key.
    tokens.trust(KeySet::of_secret(b"another secret of more than 32 bytes"), None);
    assert_eq!(checked(&tokens, &token), Err(Code::CredentialWrong));
}

#[test]
fn roles_and_attributes_are_read_from_claims() {
    let rows = |claims: Value, claim: &str| roles(&claims, claim);
    assert_eq!(rows(json!({"roles": ["a", 1, "b"]}), "roles"), ["a", "b"]);
    assert_eq!(rows(json!({"scope": "read  write"}), "scope"), ["read", "write"]);
    assert_eq!(rows(json!({"realm": {"a/b": ["c"]}}), "/realm/a~1b"), ["c"]);
    assert_eq!(rows(json!({"https://x/roles": ["c"]}), "https://x/roles"), ["c"]);
    for none in [json!({}), json!({"roles": 1}), json!({"roles": {"a": "b"}})] {
        assert_eq!(rows(none, "roles"), Vec::<String>::new());
    }
    let claims =
        json!({"tenant": "Ä", "number": 9_007_199_254_740_993_u64, "yes": true, "real": 0.1, "no": null, "list": []});
    let read: Vec<(String, String)> = attributes(&claims).into_iter().collect();
    let texts = [("number", "9007199254740993"), ("tenant", "Ä"), ("yes", "true")];
    assert_eq!(read, texts.map(|(name, text)| (name.to_owned(), text.to_owned())));
}

#[test]
fn an_unknown_key_has_the_set_read_again_but_not_each_time() {
    let (known, new) = (Issuer::new(Algorithm::EdDSA), Issuer::new(Algorithm::EdDSA));
    let tokens = trusting(&[known.jwk("a")]);
    let token = new.sign(Some("b"), &claims());
    assert_eq!(checked(&tokens, &token), Err(Code::CredentialWrong));
    let later = now() + TimeDelta::seconds(10);
    assert_eq!(checked_at(&tokens, &token, later), Err(Code::Unavailable));
    tokens.trust(set(&[new.jwk("b")]), Some(later));
    assert_eq!(checked_at(&tokens, &token, later), alice());
    // The key that is no longer published is no longer trusted.
    tokens.settled(later + TimeDelta::seconds(10));
    assert_eq!(checked_at(&tokens, &known.sign(Some("a"), &claims()), later), Err(Code::CredentialWrong));
}

#[test]
fn keys_that_cannot_be_read_again_are_not_trusted_for_ever() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let token = issuer.sign(Some("a"), &claims_with("exp", json!(now().timestamp() + 100_000)));
    let tokens = trusting(&[issuer.jwk("a")]);
    assert_eq!(checked_at(&tokens, &token, now() + TRUSTED), alice());
    assert_eq!(checked_at(&tokens, &token, now() + TRUSTED + TimeDelta::seconds(1)), Err(Code::Unavailable));
    let never_read = Tokens::new(settings(JwtKeys::File("keys.json".into())));
    assert_eq!(checked(&never_read, &token), Err(Code::Unavailable));
}

/// Waits until a token is judged so.
async fn judged(tokens: &Tokens, token: &str, expected: Result<Option<String>, Code>) {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while checked_at(tokens, token, Utc::now()) != expected {
        assert!(std::time::Instant::now() < until, "{:?}", checked_at(tokens, token, Utc::now()));
        tokio::task::yield_now().await;
    }
}

const FAST: Pace = Pace {
    usual: Duration::from_secs(3_600),
    soon: Duration::from_millis(5),
    settled: Duration::from_millis(5),
    settled_file: Duration::from_millis(5),
};

fn now_claims() -> Value {
    claims_with("exp", json!(Utc::now().timestamp() + 600))
}

#[tokio::test]
async fn a_file_is_followed_and_a_broken_one_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys.json");
    let (old, new) = (Issuer::new(Algorithm::EdDSA), Issuer::new(Algorithm::EdDSA));
    let write = |text: String| {
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
    };
    let tokens = Tokens::new(settings(JwtKeys::File(path.clone())));
    let (old_token, new_token) = (old.sign(Some("a"), &now_claims()), new.sign(Some("b"), &now_claims()));
    let steps = async {
        judged(&tokens, &old_token, Err(Code::Unavailable)).await;
        write(json!({"keys": [old.jwk("a")]}).to_string());
        judged(&tokens, &old_token, alice()).await;
        write("broken".to_owned());
        assert_eq!(checked_at(&tokens, &old_token, Utc::now()), alice());
        write(json!({"keys": [new.jwk("b")]}).to_string());
        judged(&tokens, &new_token, alice()).await;
        assert_ne!(checked_at(&tokens, &old_token, Utc::now()), alice());
    };
    let until = CancellationToken::new();
    tokio::select! {
        () = tokens.follow(FAST, &until) => panic!("it has ended"),
        () = steps => {}
    }
}

#[tokio::test]
async fn a_file_is_read_again_when_a_token_names_a_new_key() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys.json");
    let (old, new) = (Issuer::new(Algorithm::EdDSA), Issuer::new(Algorithm::EdDSA));
    std::fs::write(&path, json!({"keys": [old.jwk("a")]}).to_string()).unwrap();
    let tokens = Tokens::new(settings(JwtKeys::File(path.clone())));
    let new_token = new.sign(Some("b"), &now_claims());
    let until = CancellationToken::new();
    let steps = async {
        judged(&tokens, &old.sign(Some("a"), &now_claims()), alice()).await;
        std::fs::write(&path, json!({"keys": [new.jwk("b")]}).to_string()).unwrap();
        judged(&tokens, &new_token, Err(Code::Unavailable)).await;
        judged(&tokens, &new_token, alice()).await;
    };
    let never_by_itself = Pace { soon: Duration::from_secs(3_600), ..FAST };
    tokio::select! {
        () = tokens.follow(never_by_itself, &until) => panic!("it has ended"),
        () = steps => {}
    }
}

#[tokio::test]
async fn an_address_is_asked_again_when_a_token_names_a_new_key() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let body = Arc::new(std::sync::Mutex::new((StatusCode::OK, json!({"keys": [old.jwk("a")]}).to_string())));
    let shown = Arc::clone(&body);
    let routes = Router::new()
        .route("/keys", get(async move || shown.lock().unwrap().clone()))
        .route("/moved", get(async || axum::response::Redirect::temporary("/keys")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = |path: &str| Url::parse(&format!("http://{}{path}", listener.local_addr().unwrap())).unwrap();
    let (url, moved) = (at("/keys"), at("/moved"));
    let tokens = Tokens::new(settings(JwtKeys::Url(url)));
    let (old_token, new_token) = (old.sign(Some("a"), &now_claims()), new.sign(Some("b"), &now_claims()));
    let until = CancellationToken::new();
    let steps = async {
        judged(&tokens, &old_token, alice()).await;
        *body.lock().unwrap() = (StatusCode::SERVICE_UNAVAILABLE, String::new());
        assert_ne!(checked_at(&tokens, &new_token, Utc::now()), alice());
        assert_eq!(checked_at(&tokens, &old_token, Utc::now()), alice());
        *body.lock().unwrap() = (StatusCode::OK, json!({"keys": [new.jwk("b")]}).to_string());
        judged(&tokens, &new_token, alice()).await;
        assert_ne!(checked_at(&tokens, &old_token, Utc::now()), alice());
        // What leads elsewhere is no key set.
        let elsewhere = Tokens::new(settings(JwtKeys::Url(moved)));
        tokio::select! {
            () = elsewhere.follow(FAST, &until) => panic!("it has ended"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        assert_eq!(checked_at(&elsewhere, &new_token, Utc::now()), Err(Code::Unavailable));
    };
    tokio::select! {
        () = tokens.follow(FAST, &until) => panic!("it has ended"),
        served = axum::serve(listener, routes).into_future() => panic!("{served:?}"),
        () = steps => {}
    }
}

proptest! {
    #[test]
    fn foreign_texts_never_panic(text in ".{0,200}", parts in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}") {
        let (_, tokens) = by_secret();
        prop_assert_eq!(checked(&tokens, &text), Err(Code::CredentialWrong));
        prop_assert_eq!(checked(&tokens, &parts), Err(Code::CredentialWrong));
    }
}
