//! Who may ask, and how much: decided before anything else is done with a request.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::answer::Failure;
use super::desk::Desk;

/// Most bytes of a body. Counter: `body`.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1_024;

/// How much of one that is too long is still read, so that who sent it can hear so.
const READ_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// Fewest characters of a key.
const KEY_CHARACTERS_MIN: usize = 16;

/// Where tokens are made.
pub(super) const TOKENS: &str = "/tokens";

/// How often a kind of refusal is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What is loaded and run in the page: what this server gives, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What lets in. It is never shown.
#[derive(Clone)]
pub struct AdminKey([u8; 32]);

impl std::fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminKey(..)")
    }
}

/// Why a text is no key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It could be guessed.
    #[error("a key has at least {KEY_CHARACTERS_MIN} characters, this one has {0}")]
    Short(usize),
    /// It can't be sent in a header.
    #[error("a key consists of visible ASCII characters")]
    Unprintable,
    /// The file can't be read.
    #[error("the key can't be read: {0}")]
    Io(#[from] std::io::Error),
}

impl AdminKey {
    /// A key from its text; spaces and ends of lines around it don't count.
    ///
    /// # Errors
    /// If it is too short to be one, or can't be sent.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::Unprintable);
        }
        if text.len() < KEY_CHARACTERS_MIN {
            return Err(KeyError::Short(text.len()));
        }
        Ok(Self(digest(text.as_bytes())))
    }

    /// Reads a key from a file.
    ///
    /// # Errors
    /// If the file can't be read, or what it holds is no key.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Takes as long for any text of a length: digests are compared, and all of them.
    fn is(&self, text: &[u8]) -> bool {
        let differs = digest(text).iter().zip(&self.0).fold(0, |differs, (a, b)| differs | (a ^ b));
        std::hint::black_box(differs) == 0
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Why a request, or a connection, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has no key, or a wrong one.
    Key,
    /// It was sent to a name that is not this machine's.
    Host,
    /// Another page sent it.
    Origin,
    /// Its body is too long.
    Body,
    /// Its headers, or its body, took too long.
    Slow,
    /// There are as many connections as there may be.
    Connections,
    /// It was no HTTP.
    Malformed,
}

impl Refused {
    pub(super) const ALL: [(Self, &'static str); 7] = [
        (Self::Key, "key"),
        (Self::Host, "host"),
        (Self::Origin, "origin"),
        (Self::Body, "body"),
        (Self::Slow, "slow"),
        (Self::Connections, "connections"),
        (Self::Malformed, "malformed"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// How often what was refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: [AtomicU64; Refused::ALL.len()],
    logged: Mutex<[Option<Instant>; Refused::ALL.len()]>,
}

impl Refusals {
    pub(super) fn count(&self, kind: Refused) -> u64 {
        self.counts.get(kind as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts a refusal, and logs its kind if that was not done within a minute: strangers must not fill the log.
    #[expect(clippy::disallowed_methods, reason = "the admin server works in real time")]
    pub(super) fn note(&self, kind: Refused) {
        let Some(count) = self.counts.get(kind as usize) else { return };
        let so_far = count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = logged.get_mut(kind as usize) else { return };
        let now = Instant::now();
        if last.is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY) {
            *last = Some(now);
            tracing::warn!(why = kind.name(), so_far, "the admin server refused a request; the next minute's are only counted");
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) key: Option<AdminKey>,
    /// What lets in to [`TOKENS`] as well, and to nothing else.
    pub(super) token_key: Option<AdminKey>,
    /// How long a body may take.
    pub(super) patience: Duration,
}

impl Guard {
    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), (Refused, Failure)> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST);
        if self.key.is_none() && !host.is_some_and(is_loopback) {
            // A foreign name that leads to this machine: a page of that name would be taken for ours.
            let why = "without a key only localhost, 127.0.0.1 and [::1] are answered to";
            return Err((Refused::Host, Failure::new(StatusCode::FORBIDDEN, "foreign_host", why)));
        }
        let same = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| host.is_some_and(|host| host.eq_ignore_ascii_case(of)));
        let is_link = method == Method::GET && path == "/" && text(HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
        let site = text(HeaderName::from_static("sec-fetch-site"));
        let is_foreign = site.is_some_and(|site| site != "same-origin" && site != "none") && !is_link;
        if is_foreign || headers.get(header::ORIGIN).is_some_and(|origin| !origin.to_str().is_ok_and(same)) {
            let why = "a page of another origin asked for this";
            return Err((Refused::Origin, Failure::new(StatusCode::FORBIDDEN, "foreign_origin", why)));
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| given_key(value.as_bytes()));
        // Who has none for orders may still have one for tokens.
        let mut keys = self.key.iter().chain(self.token_key.as_ref().filter(|_| path == TOKENS)).peekable();
        if keys.peek().is_some() && !keys.any(|key| given.as_ref().is_some_and(|given| key.is(given))) {
            let why = "the key is missing or wrong: Authorization: Bearer KEY";
            return Err((Refused::Key, Failure::new(StatusCode::UNAUTHORIZED, "no_key", why)));
        }
        Ok(())
    }
}

/// True if a `Host` header names this machine for itself.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The key of an `Authorization` header: a bearer's, or as the password that a browser asks for.
fn given_key(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(value.iter().position(|byte| *byte == b' ')?)?;
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    let pair = scheme.eq_ignore_ascii_case(b"basic").then(|| BASE64_STANDARD.decode(rest).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

/// Stands before all that is answered.
pub(super) async fn guard(State(desk): State<Arc<Desk>>, request: Request<Body>, next: Next) -> Response {
    desk.requests.fetch_add(1, Ordering::Relaxed);
    let is_open = is_open(request.uri().path());
    let mut response = match admit(&desk, request).await {
        Ok(request) => next.run(request).await,
        Err((kind, failure)) => {
            desk.refusals.note(kind);
            let is_keyless = failure.status == StatusCode::UNAUTHORIZED;
            let mut response = failure.into_response();
            if is_keyless {
                let challenge = HeaderValue::from_static("Basic realm=\"roomkeeper: the key is the password\", charset=\"UTF-8\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    };
    // Who has shown no key holds no connection for the next request: there are only so many.
    let is_passing = is_open || response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if is_passing {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// True for what everybody may ask.
fn is_open(path: &str) -> bool {
    path == "/health" || path == "/ready"
}

/// A request that may be answered, with its body read.
async fn admit(desk: &Desk, request: Request<Body>) -> Result<Request<Body>, (Refused, Failure)> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if !is_open(path) {
        desk.guard.check(&parts.method, path, &parts.headers)?;
    }
    let too_long = || {
        let why = format!("a body has at most {BODY_BYTES_MAX} bytes");
        (Refused::Body, Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", why))
    };
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > READ_BYTES_MAX) {
        return Err(too_long());
    }
    match tokio::time::timeout(desk.guard.patience, to_bytes(body, READ_BYTES_MAX)).await {
        Ok(Ok(bytes)) if bytes.len() <= BODY_BYTES_MAX => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(_) => Err(too_long()),
        Err(_) => Err((Refused::Slow, Failure::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body took too long"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_bearers_or_a_password_and_nothing_else() {
        let key = AdminKey::parse("  0123456789abcdef\n").unwrap();
        let lets_in = |header: &str| given_key(header.as_bytes()).is_some_and(|given| key.is(&given));
        assert!(lets_in("Bearer 0123456789abcdef") && lets_in("bearer  0123456789abcdef"));
        assert!(lets_in("Basic YW55Ym9keTowMTIzNDU2Nzg5YWJjZGVm"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeF", "0123456789abcdef", "Basic 0123456789abcdef", "Basic !", "Basic Og=="]
        {
            assert!(!lets_in(wrong), "{wrong}");
        }
        assert!(matches!(AdminKey::parse("short"), Err(KeyError::Short(5))));
        assert!(matches!(AdminKey::parse("0123456789 abcdef"), Err(KeyError::Unprintable)));
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.8.0.1", "[::1]:8080"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "a b"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_refusal_is_counted_each_time() {
        let refusals = Refusals::default();
        (0..5).for_each(|_| refusals.note(Refused::Origin));
        assert_eq!((refusals.count(Refused::Origin), refusals.count(Refused::Key)), (5, 0));
        for (kind, name) in Refused::ALL {
            assert_eq!(Refused::ALL[kind as usize].1, name);
        }
    }
}
