//! What every request passes before it is routed: its id, the `Host` header, and bounds on what it may send.
//!
//! The bounds on headers (their number and bytes) are the listener's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::domain::{ApiSettings, Code, Error, Result};

use super::Api;

/// The longest path and query, in bytes.
const MAX_URL: usize = 8 << 10;

/// The longest request id that is taken over from a client.
const MAX_ID: usize = 128;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What an API lets in, and how it refuses the rest.
#[derive(Debug)]
pub struct Gate {
    api: Api,
    hosts: Hosts,
    refuse: fn(&Error) -> Response,
}

impl Gate {
    pub(super) fn new(
        api: Api,
        settings: &ApiSettings,
        bound: SocketAddr,
        refuse: fn(&Error) -> Response,
    ) -> Arc<Self> {
        Arc::new(Gate { api, hosts: Hosts::new(settings, bound), refuse })
    }
}

/// The host names that requests may be addressed to. A page of a hostile site that has its own name resolve to our
/// address (DNS rebinding) still sends its own name.
///
/// Accepted are the address listened on, the loopback names and addresses, and what is configured, each with any port.
/// Where all addresses are listened on, any IP address is: only names can be rebound.
#[derive(Debug)]
struct Hosts {
    listen: IpAddr,
    configured: Vec<String>,
}

impl Hosts {
    fn new(settings: &ApiSettings, bound: SocketAddr) -> Self {
        let configured = settings.hosts.iter().map(|host| without_port(host).to_ascii_lowercase()).collect();
        Hosts { listen: bound.ip(), configured }
    }

    fn admit(&self, host: &str) -> bool {
        let host = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        if self.configured.contains(&host) || host == "localhost" || host.ends_with(".localhost") {
            return true;
        }
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        let address: Option<IpAddr> = address.parse().ok();
        address.is_some_and(|ip| ip.is_loopback() || ip == self.listen || self.listen.is_unspecified())
    }
}

/// `host` of `host:port`, `[address]` of `[address]:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// The middleware of a [`Gate`]: lets a request pass or refuses it, and puts its id on the answer.
pub async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.admit(&request) {
        Ok(passed) => passed.mark(next.run(request).await),
        Err(refusal) => *refusal,
    }
}

/// A request that has passed a [`Gate`].
#[derive(Debug)]
pub struct Passed {
    id: HeaderValue,
    api: Api,
}

impl Gate {
    /// Lets a request pass, or makes the answer to one that may not.
    pub fn admit(&self, request: &Request) -> std::result::Result<Passed, Box<Response>> {
        let passed = Passed { id: request_id(request.headers()), api: self.api };
        match check(self, request) {
            Ok(()) => Ok(passed),
            Err(error) => Err(Box::new(passed.mark((self.refuse)(&error)))),
        }
    }
}

impl Passed {
    /// Puts the request's id on its answer.
    #[must_use]
    pub fn mark(self, mut response: Response) -> Response {
        let Passed { id, api } = self;
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            // What was wrong has been logged where it was noticed.
            let request = id.to_str().unwrap_or_default();
            tracing::error!(request, api = api.section(), "a request was answered with 500");
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

fn check(gate: &Gate, request: &Request) -> Result<()> {
    // HTTP/2 has the host in the URL, HTTP/1 in a header, and what is sent as to a proxy has it in both.
    let named = request.uri().authority().map(Authority::as_str);
    let mut fields = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let (field, further) = (fields.next(), fields.next());
    let mut hosts = named.into_iter().chain(field).peekable();
    // Of several fields, who is in front of us may have heeded another one (RFC 9112, section 3.2).
    if further.is_some() || hosts.peek().is_none() || !hosts.all(|host| gate.hosts.admit(host)) {
        return Err(Error::new(Code::HostRefused, "requests to this host name are not answered here")
            .hint(format!("the operator can add it to `{}.hosts`", gate.api.section())));
    }
    if request.uri().path_and_query().is_some_and(|url| url.as_str().len() > MAX_URL) {
        return Err(Error::new(Code::TooLarge, format!("the URL is longer than {MAX_URL} bytes")));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) && has_body(request.headers()) {
        return Err(Error::new(Code::TooLarge, "a reading request has no body"));
    }
    Ok(())
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// The client's own id if it is sane, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(plain)
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(sane) {
        return id.clone();
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // By the thread's own randomness: the operating system's costs a call each time.
    let id = uuid::Builder::from_unix_timestamp_millis(millis as u64, &rand::random()).into_uuid();
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listen: &str, configured: &[&str]) -> Hosts {
        let bound: SocketAddr = listen.parse().unwrap();
        let hosts = configured.iter().map(ToString::to_string).collect();
        Hosts::new(&ApiSettings { listen: bound, hosts, tls: None, cors: Vec::new(), access_log: None }, bound)
    }

    #[test]
    fn loopback_the_own_address_and_configured_names_are_admitted() {
        let hosts = hosts("10.1.2.3:8080", &["API.example.com"]);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "a.localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "10.1.2.3",
            "api.example.com:443",
            "api.example.com.",
        ] {
            assert!(hosts.admit(host), "{host}");
        }
        for host in
            ["", "evil.com", "evil.com:8080", "10.1.2.4", "api.example.com.evil.com", "localhost.evil.com", "::"]
        {
            assert!(!hosts.admit(host), "{host}");
        }
    }

    #[test]
    fn where_all_addresses_are_listened_on_any_address_is_admitted_but_no_name() {
        let hosts = hosts("0.0.0.0:8080", &[]);
        assert!(hosts.admit("192.168.0.7:8080") && hosts.admit("[fe80::1]:8080"));
        assert!(!hosts.admit("evil.com"));
    }

    #[test]
    fn an_insane_request_id_is_replaced() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"abc-1"), "abc-1");
        for value in [&b""[..], b"a b", b"\xff", &[b'a'; MAX_ID + 1]] {
            assert_eq!(id(value).len(), 36);
        }
    }
}
