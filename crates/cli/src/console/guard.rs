//! Who may see the page, and what a browser may do with it.
//!
//! * The `Host` header must be `localhost`, an IP address or a name that was given: a foreign page whose
//!   name was rebound to this machine has neither.
//! * With a token, every request but the login form must carry it, in a cookie or as a bearer. It is
//!   compared by hash, in a time that does not depend on how much of it is right.
//! * The content security policy allows the page's own files and nothing else: text that a requester put
//!   into a request cannot become a script even if it were not escaped.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};
use signpost_txmgr::units::sha256;

const COOKIE_NAME: &str = "signpost_console";
/// Most bytes of the login form.
const FORM_BYTES_MAX: usize = 4_096;
const LOGIN_PAGE: &str = include_str!("../../assets/console/login.html");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Who may see the page. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Rules>);

struct Rules {
    /// Hash of the token.
    token: Option<[u8; 32]>,
    names: Vec<String>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("names", &self.0.names).finish_non_exhaustive()
    }
}

impl Guard {
    /// Lets in whoever has the token; everybody if there is none.
    #[must_use]
    pub fn new(token: Option<&str>, names: &[String]) -> Self {
        let token = token.map(|token| sha256(token.as_bytes()));
        Self(Arc::new(Rules { token, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }))
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

    fn is_right(&self, given: &str) -> bool {
        let Some(token) = &self.0.token else { return true };
        let differences =
            token.iter().zip(sha256(given.as_bytes())).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        differences == 0
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        if self.0.token.is_none() {
            return true;
        }
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let bearer = text(AUTHORIZATION).strip_prefix("Bearer ");
        let cookies = text(COOKIE).split(';').filter_map(|cookie| cookie.trim().split_once('='));
        let cookie = cookies.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value).next();
        bearer.or(cookie).is_some_and(|given| self.is_right(given))
    }
}

/// Stands before every handler.
pub(super) async fn stand(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let open = ["/login", "/console.css"].contains(&request.uri().path());
    let mut response = if !guard.knows_host(request.headers()) {
        let way_out = "this host name is not one of the console's; start it with --host-name";
        (StatusCode::MISDIRECTED_REQUEST, way_out).into_response()
    } else if request.method() == Method::POST && request.uri().path() == "/login" {
        login(&guard, request).await
    } else if request.method() != Method::GET && request.method() != Method::HEAD {
        (StatusCode::METHOD_NOT_ALLOWED, "the console changes nothing").into_response()
    } else if open || guard.lets_in(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, Html(LOGIN_PAGE)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The form with the token: a cookie, and on to the page. Another site cannot send it along.
async fn login(guard: &Guard, request: Request) -> Response {
    let Ok(body) = axum::body::to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let field = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    let given = field.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let cookie = format!("{COOKIE_NAME}={given}; HttpOnly; SameSite=Strict; Path=/");
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) if guard.is_right(&given) => {
            let headers = [(SET_COOKIE, cookie), (LOCATION, HeaderValue::from_static("/"))];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Ok(_) | Err(_) => (StatusCode::UNAUTHORIZED, Html(LOGIN_PAGE)).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        let guard = Guard::new(None, &["Ops.Example".to_owned()]);
        for ours in ["localhost", "localhost:7070", "127.0.0.1:1", "[::1]:7070", "[::1]", "10.0.0.1", "ops.example:80"]
        {
            assert!(guard.knows_host(&headers(HOST, ours)), "{ours}");
        }
        for foreign in ["", "evil.example", "evil.example:7070", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!guard.knows_host(&headers(HOST, foreign)), "{foreign}");
        }
    }

    #[test]
    fn a_token_is_asked_for_in_a_cookie_or_as_a_bearer() {
        let guard = Guard::new(Some("0123456789abcdef"), &[]);
        assert!(guard.lets_in(&headers(AUTHORIZATION, "Bearer 0123456789abcdef")));
        assert!(guard.lets_in(&headers(COOKIE, "a=b; signpost_console=0123456789abcdef")));
        for wrong in ["Bearer 0123456789abcde", "Bearer ", "0123456789abcdef", "Bearer 0123456789abcdef0"] {
            assert!(!guard.lets_in(&headers(AUTHORIZATION, wrong)), "{wrong}");
        }
        assert!(!guard.lets_in(&HeaderMap::new()));
        assert!(!guard.lets_in(&headers(COOKIE, "signpost_console=")));
    }
}
