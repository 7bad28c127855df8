//! Decides who may see the page, and what a browser may do with it.
//!
//! * The `Host` header must be `localhost`, an IP address or a configured name, which protects against DNS rebinding.
//! * With a token, every request except the login form must carry it as a bearer token, or the cookie of a session
//!   that was opened with it ([`super::login`]). Scripts and other sites cannot use the cookie, and behind TLS it is
//!   sent over TLS only.
//! * Wrong tokens are reported on stderr, with the address of the sender.
//! * The content security policy allows only the page's own files: text in a request could not become a script even
//!   if it were not escaped.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};

use super::login::{Logins, SESSION_ID_BYTES, SESSION_LASTS, Tried};
use crate::clock::{self, Stopwatch};
use crate::random;
use crate::terminal::remark;
use crate::when;

const COOKIE_NAME: &str = "signpost_console";
/// A browser accepts a cookie with this name only over TLS, for this host only and all of its paths.
const COOKIE_NAME_TLS: &str = "__Host-signpost_console";
/// The header in which a proxy reports the address of its client.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The size limit of the login form.
const FORM_BYTES_MAX: usize = 4_096;
const LOGIN_PAGE: &str = include_str!("../../assets/console/login.html");
/// The place of the error message on the login page.
const LOGIN_ANSWER: &str = "<!-- answer -->";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The access rules of the page. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Rules>);

struct Rules {
    logins: Mutex<Logins>,
    since: Stopwatch,
    names: Vec<String>,
    behind_tls: bool,
}

/// The remaining time of the session. Long-running handlers end with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until(pub(super) Duration);

/// Whether a request is admitted.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// Admitted, with the remaining time of its session if it has one.
    Granted(Option<Duration>),
    /// The request has neither a token nor a known session.
    NoCredentials,
    /// The request has a wrong token.
    WrongToken,
    /// The token was not checked; try again after this time.
    Wait(Duration),
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("names", &self.0.names).finish_non_exhaustive()
    }
}

impl Guard {
    /// Requires the token; without one, everybody is admitted. `behind_tls` means that browsers use a TLS proxy.
    #[must_use]
    pub fn new(token: Option<&str>, names: &[String], behind_tls: bool) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self(Arc::new(Rules { logins: Mutex::new(Logins::new(token)), since: Stopwatch::start(), names, behind_tls }))
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        self.0.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.0.since.elapsed()
    }

    fn cookie_name(&self) -> &'static str {
        if self.0.behind_tls { COOKIE_NAME_TLS } else { COOKIE_NAME }
    }

    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
            Some(_) | None => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.0.names.contains(&name)
    }

    fn admit(&self, headers: &HeaderMap, now: Duration) -> Admission {
        let mut logins = self.logins();
        if logins.is_open() {
            return Admission::Granted(None);
        }
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        if let Some(given) = text(AUTHORIZATION).strip_prefix("Bearer ") {
            return match logins.try_token(given, now) {
                Tried::Right => Admission::Granted(None),
                Tried::Wrong => Admission::WrongToken,
                Tried::Wait(left) => Admission::Wait(left),
            };
        }
        let cookies = text(COOKIE).split(';').filter_map(|cookie| cookie.trim().split_once('='));
        let cookie = cookies.filter(|(name, _)| *name == self.cookie_name()).map(|(_, value)| value).next();
        match cookie.and_then(|id| logins.session(id, now)) {
            Some(left) => Admission::Granted(Some(left)),
            None => Admission::NoCredentials,
        }
    }

    /// Opens a session, and returns its cookie.
    fn begin(&self, now: Duration) -> Option<HeaderValue> {
        let id = random::hex::<SESSION_ID_BYTES>()?;
        self.logins().begin(&id, now);
        let (name, lasts) = (self.cookie_name(), SESSION_LASTS.as_secs());
        let secure = if self.0.behind_tls { "; Secure" } else { "" };
        let cookie = format!("{name}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={lasts}{secure}");
        HeaderValue::from_str(&cookie).ok()
    }

    /// The address of the client, as far as it is known. The header of a proxy is trusted only with `behind_tls`.
    fn client_address(&self, request: &Request) -> String {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or_else(|| "an unknown address".to_owned(), |ConnectInfo(peer)| peer.ip().to_string());
        let forwarded = request.headers().get_all(FORWARDED_FOR).iter().next_back();
        let forwarded = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        match forwarded.filter(|_: &IpAddr| self.0.behind_tls) {
            Some(forwarded) => format!("{forwarded} via {peer}"),
            None => peer,
        }
    }
}

/// Runs before every handler.
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let open = ["/login", "/console.css"].contains(&request.uri().path());
    let mut response = if !guard.knows_host(request.headers()) {
        let text = "the console does not know this host name; start it with --host-name";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    } else if request.method() == Method::POST && request.uri().path() == "/login" {
        login(&guard, request).await
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        (StatusCode::METHOD_NOT_ALLOWED, "the console changes nothing").into_response()
    } else if open {
        next.run(request).await
    } else {
        match guard.admit(request.headers(), guard.now()) {
            Admission::Granted(left) => {
                if let Some(left) = left {
                    request.extensions_mut().insert(Until(left));
                }
                next.run(request).await
            }
            Admission::NoCredentials => form(StatusCode::UNAUTHORIZED, ""),
            Admission::WrongToken => refused(&guard.client_address(&request)),
            Admission::Wait(left) => wait(left),
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Handles the login form: opens a session and redirects to the page.
async fn login(guard: &Guard, request: Request) -> Response {
    let client = guard.client_address(&request);
    let Ok(body) = axum::body::to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let field = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    let given = field.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let now = guard.now();
    let tried = guard.logins().try_token(&given, now);
    match tried {
        Tried::Right => match guard.begin(now) {
            Some(cookie) => {
                let headers = [(SET_COOKIE, cookie), (LOCATION, HeaderValue::from_static("/"))];
                (StatusCode::SEE_OTHER, headers).into_response()
            }
            None => (StatusCode::INTERNAL_SERVER_ERROR, "the operating system gives no random bytes for a session")
                .into_response(),
        },
        Tried::Wrong => refused(&client),
        Tried::Wait(left) => wait(left),
    }
}

/// Logs a wrong token and answers it. [`Logins`] limits the number of such lines.
fn refused(client: &str) -> Response {
    remark(format!("{}  login refused: wrong token from {client}", when::date(clock::now())));
    form(StatusCode::UNAUTHORIZED, "The token is wrong.")
}

/// The answer while no token is accepted.
fn wait(left: Duration) -> Response {
    let seconds = left.as_secs().saturating_add(1);
    let words = format!("Too many wrong tokens. Try again in {seconds}\u{a0}s.");
    let mut response = form(StatusCode::TOO_MANY_REQUESTS, &words);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The login page with a message.
fn form(status: StatusCode, words: &str) -> Response {
    let answer = if words.is_empty() { String::new() } else { format!("<p role=\"alert\">{words}</p>") };
    (status, Html(LOGIN_PAGE.replace(LOGIN_ANSWER, &answer))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn rebound_host_name_is_refused() {
        let guard = Guard::new(None, &["Ops.Example".to_owned()], false);
        for ours in ["localhost", "localhost:7070", "127.0.0.1:1", "[::1]:7070", "[::1]", "10.0.0.1", "ops.example:80"]
        {
            assert!(guard.knows_host(&headers(HOST, ours)), "{ours}");
        }
        for foreign in ["", "evil.example", "evil.example:7070", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!guard.knows_host(&headers(HOST, foreign)), "{foreign}");
        }
    }

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn token_is_accepted_as_bearer_and_never_as_cookie() {
        let guard = Guard::new(Some(TOKEN), &[], false);
        let now = Duration::ZERO;
        let bearer = |token: &str| guard.admit(&headers(AUTHORIZATION, &format!("Bearer {token}")), now);
        assert_eq!(bearer(TOKEN), Admission::Granted(None));
        assert_eq!(bearer(""), Admission::WrongToken);
        assert_eq!(guard.admit(&headers(AUTHORIZATION, TOKEN), now), Admission::NoCredentials);
        assert_eq!(guard.admit(&HeaderMap::new(), now), Admission::NoCredentials);
        let cookie = headers(COOKIE, &format!("signpost_console={TOKEN}"));
        assert_eq!(guard.admit(&cookie, now), Admission::NoCredentials);
        for _ in 0..9 {
            bearer("wrong");
        }
        assert_eq!(bearer(TOKEN), Admission::Wait(Duration::from_mins(1)), "a bearer token counts as a guess");
    }

    #[test]
    fn session_has_its_own_cookie_that_expires() {
        for (behind_tls, name, flags) in [
            (false, "signpost_console", "; HttpOnly; SameSite=Strict; Path=/; Max-Age=28800"),
            (true, "__Host-signpost_console", "; HttpOnly; SameSite=Strict; Path=/; Max-Age=28800; Secure"),
        ] {
            let guard = Guard::new(Some(TOKEN), &[], behind_tls);
            let (one, other) = (guard.begin(Duration::ZERO).unwrap(), guard.begin(Duration::ZERO).unwrap());
            assert_ne!(one, other);
            let (pair, rest) = one.to_str().unwrap().split_at(name.len() + 1 + 64);
            assert!(pair.starts_with(&format!("{name}=")) && rest == flags, "{one:?}");
            let admit = |pair: &str, now| guard.admit(&headers(COOKIE, &format!("a=b; {pair}")), now);
            assert_eq!(admit(pair, Duration::ZERO), Admission::Granted(Some(SESSION_LASTS)));
            assert_eq!(admit(pair, SESSION_LASTS), Admission::NoCredentials);
            assert_eq!(admit(&pair.replace("signpost", "other"), Duration::ZERO), Admission::NoCredentials);
        }
    }

    #[test]
    fn client_address_is_the_peer_or_the_last_forwarded_one() {
        let request = |forwarded: &str| {
            let request = Request::builder().header(FORWARDED_FOR, forwarded).body(axum::body::Body::empty());
            let mut request = request.unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
            request
        };
        let (plain, behind) = (Guard::new(None, &[], false), Guard::new(Some(TOKEN), &[], true));
        assert_eq!(plain.client_address(&request("10.0.0.1")), "127.0.0.1");
        assert_eq!(behind.client_address(&request("1.1.1.1, 10.0.0.1")), "10.0.0.1 via 127.0.0.1");
        assert_eq!(behind.client_address(&request("admin\u{9b}2J")), "127.0.0.1");
    }
}
