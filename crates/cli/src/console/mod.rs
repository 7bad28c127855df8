//! The console: a web page for operators, served by this program. It needs no files and no network except the tables
//! and the node, so it works without internet access.
//!
//! ## Guarantees
//! * Read-only: it makes no call that writes, and accepts only GET requests (and the login form).
//! * Its reads are bounded ([`read`]), and it reads only while a browser is connected.
//!
//! ## Does not guarantee
//! * That it shows every step: it reads once a second.
//!
//! Read in this order: [`guard`] (who may see it) with [`login`], [`read`], [`model`] (what is shown), then
//! `assets/console/` (how).

mod guard;
mod login;
mod model;
mod read;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json, Router, middleware};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use signpost_txmgr::ports::PortError;
use signpost_txmgr::text;
use signpost_txmgr::wire::RequestStatus;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, watch};

pub use guard::Guard;
use guard::Until;
use read::{Found, Reader};

use crate::error::CommandError;
use crate::{clock, ports};
use signpost_host::error_chain;
use signpost_host::session::Session;

/// The pause between two reads.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Characters of calldata shown: the selector and two arguments.
const DATA_SHOWN: usize = 138;

/// A console that is not serving yet.
#[derive(Debug)]
pub struct Console {
    reader: Reader,
}

/// What the handlers share.
#[derive(Debug, Clone)]
struct Shared {
    reader: Arc<RwLock<Reader>>,
    /// The newest snapshot as JSON; empty before the first.
    newest: watch::Sender<Arc<str>>,
}

impl Console {
    /// A console for the Signpost of this configuration. Connects to nothing yet.
    pub fn new(session: &Session) -> Result<Self, CommandError> {
        Ok(Self { reader: Reader::new(session, ports::chain(session)?) })
    }

    /// Serves the page until it is dropped.
    pub async fn serve(self, listener: TcpListener, guard: Guard) -> std::io::Result<()> {
        let (newest, _) = watch::channel(Arc::from(""));
        let shared = Shared { reader: Arc::new(RwLock::new(self.reader)), newest };
        let router = Router::new()
            .route("/", asset("text/html; charset=utf-8", include_str!("../../assets/console/index.html")))
            .route("/console.css", asset("text/css; charset=utf-8", include_str!("../../assets/console/console.css")))
            .route(
                "/console.js",
                asset("text/javascript; charset=utf-8", include_str!("../../assets/console/console.js")),
            )
            .route(
                "/charts.js",
                asset("text/javascript; charset=utf-8", include_str!("../../assets/console/charts.js")),
            )
            .route("/icon.svg", asset("image/svg+xml", include_str!("../../assets/console/icon.svg")))
            .route("/api/live", get(live))
            .route("/api/snapshot", get(snapshot))
            .route("/api/search", get(search))
            .route("/api/requests/{id}", get(request))
            .layer(middleware::from_fn_with_state(guard, guard::check))
            .with_state(shared.clone());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::select! {
            served = async { axum::serve(listener, service).await } => served,
            () = look(shared) => Ok(()),
        }
    }
}

/// Reads while a browser is connected.
async fn look(shared: Shared) {
    loop {
        if shared.newest.receiver_count() > 0 {
            let text = written(&shared).await;
            shared.newest.send_replace(text);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn written(shared: &Shared) -> Arc<str> {
    let snapshot = shared.reader.write().await.snapshot(clock::now_ms()).await;
    text::json(&snapshot).expect("a snapshot has only text, numbers and lists").into()
}

/// A file of the page.
fn asset(kind: &'static str, text: &'static str) -> MethodRouter<Shared> {
    get(move || async move { ([(CONTENT_TYPE, kind)], text) })
}

/// Sends every snapshot as a server-sent event, beginning with the newest one, until the session expires.
async fn live(
    State(shared): State<Shared>,
    until: Option<Extension<Until>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut receiver = shared.newest.subscribe();
    receiver.mark_changed();
    let events = stream::unfold(receiver, |mut receiver| async move {
        loop {
            receiver.changed().await.ok()?;
            let text = Arc::clone(&receiver.borrow_and_update());
            if !text.is_empty() {
                return Some((Ok(Event::default().event("snapshot").data(&*text)), receiver));
            }
        }
    });
    let over = async move {
        match until {
            Some(Extension(Until(left))) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    Sse::new(events.take_until(Box::pin(over))).keep_alive(KeepAlive::default())
}

/// One snapshot, for programs.
async fn snapshot(State(shared): State<Shared>) -> Response {
    ([(CONTENT_TYPE, "application/json")], written(&shared).await.to_string()).into_response()
}

async fn search(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let field = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "q");
    let text = field.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    let found = shared.reader.read().await.search(&text).await;
    match found {
        Ok(Found::Request(id)) => Json(json!({ "requestId": id })).into_response(),
        Ok(Found::Nothing(why)) => (StatusCode::NOT_FOUND, Json(json!({ "error": why }))).into_response(),
        Err(error) => unread(&error),
    }
}

async fn request(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse() else {
        return (StatusCode::NOT_FOUND, Json(json!({ "error": "this is not a valid request id" }))).into_response();
    };
    let found = shared.reader.read().await.request(&id).await;
    match found {
        Ok(Some(status)) => {
            let json = text::json(&shortened(&status)).expect("a JSON value can be written");
            ([(CONTENT_TYPE, "application/json")], json).into_response()
        }
        Ok(None) => {
            (StatusCode::NOT_FOUND, Json(json!({ "error": "no such request is in the table" }))).into_response()
        }
        Err(error) => unread(&error),
    }
}

fn unread(error: &PortError) -> Response {
    (StatusCode::BAD_GATEWAY, Json(json!({ "error": error_chain(error) }))).into_response()
}

/// The item as JSON, with only the beginning of long calldata.
fn shortened(status: &RequestStatus) -> Value {
    let mut json = serde_json::to_value(status).unwrap_or_default();
    if let (Some(data), Some(fields)) = (&status.data, json.as_object_mut()) {
        fields.insert("dataBytes".to_owned(), json!(data.len().saturating_sub(2) / 2));
        if let Some(start) = data.get(..DATA_SHOWN) {
            fields.insert("data".to_owned(), json!(format!("{start}…")));
        }
    }
    json
}
