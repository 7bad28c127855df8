//! Who may see the page, and what a browser may do with it.
//!
//! * The `Host` header must be `localhost`, an IP address or a name that was given: a foreign page whose
//!   name was rebound to this machine has neither.
//! * With a token, every request but the login form must carry it as a bearer, or the cookie of a session that was
//!   opened with it ([`super::door`]). The cookie is no use to scripts or other sites, and behind TLS goes over TLS alone.
//! * Wrong tokens are reported on stderr, with the address they came from.
//! * The content security policy allows the page's own files and nothing else: text that a requester put
//!   into a request cannot become a script even if it were not escaped.

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

use super::door::{Door, SESSION_ID_BYTES, SESSION_LASTS, Tried};
use crate::clock::{self, Stopwatch};
use crate::random;
use crate::terminal::remark;
use crate::when;

const COOKIE_NAME: &str = "signpost_console";
/// A browser takes a cookie of this name only over TLS, for this host alone and all of its paths.
const COOKIE_NAME_TLS: &str = "__Host-signpost_console";
/// What a proxy says of who asked it.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Most bytes of the login form.
const FORM_BYTES_MAX: usize = 4_096;
const LOGIN_PAGE: &str = include_str!("../../assets/console/login.html");
/// Where the login page says why it is there again.
const LOGIN_ANSWER: &str = "<!-- answer -->";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Who may see the page. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Rules>);

struct Rules {
    door: Mutex<Door>,
    since: Stopwatch,
    names: Vec<String>,
    behind_tls: bool,
}

/// How long whoever asks stays let in. Handlers that answer for long end with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until(pub(super) Duration);

/// Whether a request goes on.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It does, and for how long if it is by a session.
    In(Option<Duration>),
    /// It brought nothing that is known.
    Stranger,
    /// It brought a wrong token.
    Wrong,
    /// It brought a token that was not looked at.
    Wait(Duration),
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("names", &self.0.names).finish_non_exhaustive()
    }
}

impl Guard {
    /// Lets in whoever has the token; everybody if there is none. `behind_tls` says that browsers come over TLS.
    #[must_use]
    pub fn new(token: Option<&str>, names: &[String], behind_tls: bool) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self(Arc::new(Rules { door: Mutex::new(Door::new(token)), since: Stopwatch::start(), names, behind_tls }))
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.0.door.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn lets_in(&self, headers: &HeaderMap, now: Duration) -> Answer {
        let mut door = self.door();
        if door.is_open() {
            return Answer::In(None);
        }
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        if let Some(given) = text(AUTHORIZATION).strip_prefix("Bearer ") {
            return match door.try_token(given, now) {
                Tried::Right => Answer::In(None),
                Tried::Wrong => Answer::Wrong,
                Tried::Wait(left) => Answer::Wait(left),
            };
        }
        let cookies = text(COOKIE).split(';').filter_map(|cookie| cookie.trim().split_once('='));
        let cookie = cookies.filter(|(name, _)| *name == self.cookie_name()).map(|(_, value)| value).next();
        match cookie.and_then(|id| door.session(id, now)) {
            Some(left) => Answer::In(Some(left)),
            None => Answer::Stranger,
        }
    }

    /// The cookie of a new session.
    fn begin(&self, now: Duration) -> Option<HeaderValue> {
        let id = random::hex::<SESSION_ID_BYTES>()?;
        self.door().begin(&id, now);
        let (name, lasts) = (self.cookie_name(), SESSION_LASTS.as_secs());
        let secure = if self.0.behind_tls { "; Secure" } else { "" };
        let cookie = format!("{name}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={lasts}{secure}");
        HeaderValue::from_str(&cookie).ok()
    }

    /// Who asks, as far as it is known. What a proxy says is believed only where there is said to be one.
    fn asker(&self, request: &Request) -> String {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or_else(|| "an unknown address".to_owned(), |ConnectInfo(peer)| peer.ip().to_string());
        let forwarded = request.headers().get_all(FORWARDED_FOR).iter().next_back();
        let forwarded = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        match forwarded.filter(|_: &IpAddr| self.0.behind_tls) {
            Some(forwarded) => format!("{forwarded} by way of {peer}"),
            None => peer,
        }
    }
}

/// Stands before every handler.
pub(super) async fn stand(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let open = ["/login", "/console.css"].contains(&request.uri().path());
    let mut response = if !guard.knows_host(request.headers()) {
        let way_out = "this host name is not one of the console's; start it with --host-name";
        (StatusCode::MISDIRECTED_REQUEST, way_out).into_response()
    } else if request.method() == Method::POST && request.uri().path() == "/login" {
        login(&guard, request).await
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        (StatusCode::METHOD_NOT_ALLOWED, "the console changes nothing").into_response()
    } else if open {
        next.run(request).await
    } else {
        match guard.lets_in(request.headers(), guard.now()) {
            Answer::In(left) => {
                if let Some(left) = left {
                    request.extensions_mut().insert(Until(left));
                }
                next.run(request).await
            }
            Answer::Stranger => form(StatusCode::UNAUTHORIZED, ""),
            Answer::Wrong => refused(&guard.asker(&request)),
            Answer::Wait(left) => wait(left),
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

/// The form with the token: a session, and on to the page. Another site cannot send its cookie along.
async fn login(guard: &Guard, request: Request) -> Response {
    let asker = guard.asker(&request);
    let Ok(body) = axum::body::to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let field = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    let given = field.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let now = guard.now();
    let tried = guard.door().try_token(&given, now);
    match tried {
        Tried::Right => match guard.begin(now) {
            Some(cookie) => {
                let headers = [(SET_COOKIE, cookie), (LOCATION, HeaderValue::from_static("/"))];
                (StatusCode::SEE_OTHER, headers).into_response()
            }
            None => (StatusCode::INTERNAL_SERVER_ERROR, "this machine has no randomness for a session").into_response(),
        },
        Tried::Wrong => refused(&asker),
        Tried::Wait(left) => wait(left),
    }
}

/// The answer to a wrong token, which is logged. [`Door`] limits how many such lines there are.
fn refused(asker: &str) -> Response {
    remark(format!("{}  a login was refused: wrong token, from {asker}", when::date(clock::now())));
    form(StatusCode::UNAUTHORIZED, "That is not the token.")
}

/// The answer while no token is looked at.
fn wait(left: Duration) -> Response {
    let seconds = left.as_secs().saturating_add(1);
    let words = format!("There were too many wrong tokens. Try again in {seconds}\u{a0}s.");
    let mut response = form(StatusCode::TOO_MANY_REQUESTS, &words);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The login page with our own words in it.
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
    fn a_rebound_name_is_not_ours() {
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
    fn a_token_is_taken_as_a_bearer_and_never_from_a_cookie() {
        let guard = Guard::new(Some(TOKEN), &[], false);
        let now = Duration::ZERO;
        let bearer = |token: &str| guard.lets_in(&headers(AUTHORIZATION, &format!("Bearer {token}")), now);
        assert_eq!(bearer(TOKEN), Answer::In(None));
        assert_eq!(bearer(""), Answer::Wrong);
        assert_eq!(guard.lets_in(&headers(AUTHORIZATION, TOKEN), now), Answer::Stranger);
        assert_eq!(guard.lets_in(&HeaderMap::new(), now), Answer::Stranger);
        let cookie = headers(COOKIE, &format!("signpost_console={TOKEN}"));
        assert_eq!(guard.lets_in(&cookie, now), Answer::Stranger);
        for _ in 0..9 {
            bearer("wrong");
        }
        assert_eq!(bearer(TOKEN), Answer::Wait(Duration::from_mins(1)), "a bearer is a guess as well");
    }

    #[test]
    fn a_session_has_a_cookie_of_its_own_that_ends() {
        for (behind_tls, name, flags) in [
            (false, "signpost_console", "; HttpOnly; SameSite=Strict; Path=/; Max-Age=28800"),
            (true, "__Host-signpost_console", "; HttpOnly; SameSite=Strict; Path=/; Max-Age=28800; Secure"),
        ] {
            let guard = Guard::new(Some(TOKEN), &[], behind_tls);
            let (one, other) = (guard.begin(Duration::ZERO).unwrap(), guard.begin(Duration::ZERO).unwrap());
            assert_ne!(one, other);
            let (pair, rest) = one.to_str().unwrap().split_at(name.len() + 1 + 64);
            assert!(pair.starts_with(&format!("{name}=")) && rest == flags, "{one:?}");
            let lets_in = |pair: &str, now| guard.lets_in(&headers(COOKIE, &format!("a=b; {pair}")), now);
            assert_eq!(lets_in(pair, Duration::ZERO), Answer::In(Some(SESSION_LASTS)));
            assert_eq!(lets_in(pair, SESSION_LASTS), Answer::Stranger);
            assert_eq!(lets_in(&pair.replace("signpost", "other"), Duration::ZERO), Answer::Stranger);
        }
    }

    #[test]
    fn who_asks_is_the_peer_and_the_last_that_a_proxy_names() {
        let asked = |forwarded: &str| {
            let request = Request::builder().header(FORWARDED_FOR, forwarded).body(axum::body::Body::empty());
            let mut request = request.unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
            request
        };
        let (plain, behind) = (Guard::new(None, &[], false), Guard::new(Some(TOKEN), &[], true));
        assert_eq!(plain.asker(&asked("10.0.0.1")), "127.0.0.1");
        assert_eq!(behind.asker(&asked("1.1.1.1, 10.0.0.1")), "10.0.0.1 by way of 127.0.0.1");
        assert_eq!(behind.asker(&asked("admin\u{9b}2J")), "127.0.0.1");
    }
}
