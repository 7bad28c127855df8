//! HTTP requests to the console, up to its guard. Only GET, HEAD and the login pass. Without the token only the login
//! page and its style pass. Every answer has the security headers.
#![no_main]

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use futures_util::FutureExt as _;
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt as _;

// The console's own source files; the rest of the program is not needed.
#[path = "../../../crates/host/src/clock.rs"]
mod clock;
#[allow(dead_code, reason = "what the guard passes to the page is not read here")]
#[path = "../../../crates/cli/src/console/guard.rs"]
mod guard;
#[path = "../../../crates/cli/src/console/login.rs"]
mod login;
#[path = "../../../crates/cli/src/random.rs"]
mod random;

/// Replaces the program's output, or a run would print a line for each wrong token.
mod terminal {
    pub fn remark(_: impl AsRef<str>) {}
}

mod when {
    pub fn date(at: signpost_txmgr::units::Millis) -> String {
        at.0.to_string()
    }
}

const TOKEN: &str = "0123456789abcdef";

/// Parses `METHOD path`, headers, an empty line and the body: HTTP/1.1 as far as the guard sees it.
fn request(bytes: &[u8]) -> Option<Request> {
    let head_len = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(head_len);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, path) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(body.get(2..).unwrap_or_default().to_vec())).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Some(request) = request(bytes) else { return };
    let guard = guard::Guard::new(Some(TOKEN), &["ops.example".to_owned()], bytes.len() % 2 == 0);
    let inner = Router::new().fallback(async || "let in");
    let router = inner.layer(middleware::from_fn_with_state(guard, guard::check));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let knows_token = bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
    let Some(Ok(response)) = router.oneshot(request).now_or_never() else { panic!("the guard never waits") };
    for name in [header::CONTENT_SECURITY_POLICY, header::X_CONTENT_TYPE_OPTIONS, header::CACHE_CONTROL] {
        assert!(response.headers().contains_key(name));
    }
    match response.status() {
        StatusCode::OK => {
            assert!(method == Method::GET || method == Method::HEAD);
            assert!(knows_token || ["/login", "/console.css"].contains(&path.as_str()));
        }
        StatusCode::SEE_OTHER => assert!(method == Method::POST && path == "/login"),
        _ => {}
    }
});
