//! The parts of Lambda's Runtime and Extensions API that `lambda_runtime` does not cover: reporting why the
//! function does not start, and getting the signal at its end.
//!
//! Lambda sends SIGTERM only to functions with an extension; an extension without subscriptions is enough, and
//! costs one request at the start. Without it (some emulators lack this API) the process is killed at
//! once, which loses nothing: every step of the drivers may be interrupted.

use std::time::Duration;

use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{PooledClient, build_request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Lambda kills a function with an internal extension this long after SIGTERM.
const SHUTDOWN: Duration = Duration::from_millis(500);
/// The part of [`SHUTDOWN`] reserved for the answer of the current invocation; the exit gets the same.
const REPLY_TIME: Duration = Duration::from_millis(100);
/// Timeout of calls to the Runtime API, which is on this machine.
const API_TIMEOUT: Duration = Duration::from_secs(1);

/// A registered extension. Its only request for events is not answered before the end.
#[derive(Debug)]
pub struct Extension {
    client: PooledClient,
    id: String,
}

/// Registers an extension without events. Must be called before the first invocation is requested.
pub async fn register_extension() -> Option<Extension> {
    let client = PooledClient::builder().build();
    let request = build_request()
        .method("POST")
        .uri("/2020-01-01/extension/register")
        .header("Lambda-Extension-Name", "signpost-shutdown")
        .header("Content-Type", "application/json")
        .body(Body::from(r#"{"events":[]}"#));
    let answer = tokio::time::timeout(API_TIMEOUT, client.call(request.ok()?)).await.ok()?.ok()?;
    let id = answer.headers().get("Lambda-Extension-Identifier").and_then(|id| id.to_str().ok()).map(str::to_owned);
    if id.is_none() {
        tracing::debug!(status = %answer.status(), "no Extensions API; the function will end without a signal");
    }
    Some(Extension { client, id: id? })
}

/// Returns after a signal to end, once the current invocation has been answered, at the latest shortly before
/// Lambda kills the process.
pub async fn wait_for_end(extension: Option<Extension>, stop: &watch::Sender<bool>, busy: &watch::Sender<bool>) {
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::warn!("signals cannot be received; the function will end without one");
        return std::future::pending().await;
    };
    let listening = tokio::spawn(listen(extension));
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
    let mut busy = busy.subscribe();
    let was_busy = *busy.borrow();
    if was_busy {
        let idle = busy.wait_for(|busy| !busy);
        let _ = tokio::time::timeout(SHUTDOWN.saturating_sub(REPLY_TIME.saturating_mul(2)), idle).await;
        // Time for the answer to be sent.
        tokio::time::sleep(REPLY_TIME).await;
    }
    listening.abort();
    tracing::info!(was_busy, "ended by a signal");
}

/// Requests the extension's events, of which there are none: this request marks the extension as ready.
async fn listen(extension: Option<Extension>) {
    let Some(Extension { client, id }) = extension else { return };
    let request = build_request()
        .method("GET")
        .uri("/2020-01-01/extension/event/next")
        .header("Lambda-Extension-Identifier", id)
        .body(Body::empty());
    let Ok(request) = request else { return };
    if let Err(error) = client.call(request).await {
        tracing::debug!(%error, "the extension's events ended");
    }
}

/// Reports to the Runtime API why the function does not start.
pub async fn report_init_error(message: &str) {
    let body = serde_json::json!({ "errorType": "Signpost.InitError", "errorMessage": message, "stackTrace": [] });
    let request = build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("Lambda-Runtime-Function-Error-Type", "Signpost.InitError")
        .header("Content-Type", "application/json")
        .body(Body::from(body.to_string()));
    let Ok(request) = request else { return };
    let reported = tokio::time::timeout(API_TIMEOUT, PooledClient::builder().build().call(request)).await;
    if !matches!(reported, Ok(Ok(_))) {
        tracing::warn!("the reason why the function does not start was not reported to the Runtime API");
    }
}
