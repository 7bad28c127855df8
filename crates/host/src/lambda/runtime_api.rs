//! The parts of Lambda's Runtime and Extensions API that `lambda_runtime` leaves to us: telling why the
//! function does not start, and being told that it ends.
//!
//! Lambda sends SIGTERM only to functions with an extension; one that subscribes to nothing is enough, and
//! costs one request at the start. Without it (an emulator that has no such API) the process is ended at
//! once, which loses nothing: every step of the drivers may be cut off.

use std::time::Duration;

use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{PooledClient, build_request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Lambda kills a function with an internal extension this long after SIGTERM…
const SHUTDOWN: Duration = Duration::from_millis(500);
/// …and so much of it is left for the answer of what was in hand, and the exit.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// The Runtime API is on this machine: later than this, it is not there.
const PATIENCE: Duration = Duration::from_secs(1);

/// A registered extension. Its one request for events is never answered before the end.
#[derive(Debug)]
pub struct Extension {
    client: PooledClient,
    id: String,
}

/// Registers an extension that takes no events. Call it before the first invocation is asked for.
pub async fn register_extension() -> Option<Extension> {
    let client = PooledClient::builder().build();
    let request = build_request()
        .method("POST")
        .uri("/2020-01-01/extension/register")
        .header("Lambda-Extension-Name", "signpost-shutdown")
        .header("Content-Type", "application/json")
        .body(Body::from(r#"{"events":[]}"#));
    let answer = tokio::time::timeout(PATIENCE, client.call(request.ok()?)).await.ok()?.ok()?;
    let id = answer.headers().get("Lambda-Extension-Identifier").and_then(|id| id.to_str().ok()).map(str::to_owned);
    if id.is_none() {
        tracing::debug!(status = %answer.status(), "no extensions here; the end will come without a signal");
    }
    Some(Extension { client, id: id? })
}

/// Returns when the process is asked to end and what is in hand has been given back or answered, at the
/// latest when Lambda's patience is over.
pub async fn asked_to_end(extension: Option<Extension>, order: &watch::Sender<bool>, busy: &watch::Sender<bool>) {
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::warn!("signals cannot be received; the end will come without one");
        return std::future::pending().await;
    };
    let listening = tokio::spawn(listen(extension));
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    order.send_replace(true);
    let mut busy = busy.subscribe();
    let in_hand = *busy.borrow();
    if in_hand {
        let idle = busy.wait_for(|busy| !busy);
        let _ = tokio::time::timeout(SHUTDOWN.saturating_sub(LAST_WORDS.saturating_mul(2)), idle).await;
        // The answer is on its way out.
        tokio::time::sleep(LAST_WORDS).await;
    }
    listening.abort();
    tracing::info!(in_hand, "ended by a signal");
}

/// Asks for the extension's events, of which there are none: this is what says that it is ready.
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

/// Tells the Runtime API why there will be no invocations.
pub async fn report_init_error(message: &str) {
    let body = serde_json::json!({ "errorType": "Signpost.InitError", "errorMessage": message, "stackTrace": [] });
    let request = build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("Lambda-Runtime-Function-Error-Type", "Signpost.InitError")
        .header("Content-Type", "application/json")
        .body(Body::from(body.to_string()));
    let Ok(request) = request else { return };
    let told = tokio::time::timeout(PATIENCE, PooledClient::builder().build().call(request)).await;
    if !matches!(told, Ok(Ok(_))) {
        tracing::warn!("the Runtime API was not told why the function does not start");
    }
}
