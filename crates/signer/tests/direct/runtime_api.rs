//! A fake Runtime API of Lambda: serves payloads, and records the function's messages.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use signpost_host::clock::now_ms;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

/// Lambda's id of every invocation.
pub(crate) const INVOCATION: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// A function's message to the Runtime API.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// An invocation is answered normally.
    Response(String),
    /// An invocation failed.
    Failure(String),
    /// The function does not start.
    InitError(String),
}

struct Shared {
    payloads: Mutex<mpsc::Receiver<(String, u64)>>,
    heard: mpsc::Sender<Heard>,
}

/// One function's Runtime API. Stops when dropped.
pub(crate) struct RuntimeApi {
    pub(crate) address: String,
    pub(crate) heard: mpsc::Receiver<Heard>,
    payloads: mpsc::Sender<(String, u64)>,
    task: AbortHandle,
}

impl RuntimeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (payloads, waiting) = mpsc::channel(1);
        let (sender, heard) = mpsc::channel(4);
        let shared = Arc::new(Shared { payloads: Mutex::new(waiting), heard: sender });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }).abort_handle();
        Self { address, heard, payloads, task }
    }

    /// Serves one payload with this time limit.
    pub(crate) async fn invoke(&self, payload: &str, time_ms: u64) {
        self.payloads.send((payload.to_owned(), time_ms)).await.unwrap();
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let Some((payload, time_ms)) = shared.payloads.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = now_ms().saturating_add(time_ms).to_string();
    let headers = [
        ("lambda-runtime-aws-request-id", INVOCATION),
        ("lambda-runtime-deadline-ms", deadline.as_str()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:sign-direct"),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"),
        ("content-type", "application/json"),
    ];
    (headers, payload).into_response()
}

async fn response(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    shared.heard.send(Heard::Response(body)).await.unwrap();
    StatusCode::ACCEPTED
}

async fn failure(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    shared.heard.send(Heard::Failure(body)).await.unwrap();
    StatusCode::ACCEPTED
}

async fn init_error(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    shared.heard.send(Heard::InitError(body)).await.unwrap();
    StatusCode::ACCEPTED
}
