//! The HTTP server of a gate: axum's, on connections that can be cut without an answer. "The reply
//! was lost" is then what a caller sees in the field: bytes went out, and the line died.
//!
//! Read next: [`crate::bsc`], [`crate::aws`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long a caller hangs where no rule says so: longer than any patience in the project.
const HANG_MS: u64 = 120_000;
/// Pause after a failed accept (no file descriptors, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections to the server behind are kept no longer: it closes idle ones, and a call must not
/// land on one that is just being closed.
const IDLE: Duration = Duration::from_millis(500);

/// Why a gate cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The port is taken, or the address is not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP client could not be built.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// One connection's switch.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    cut: Arc<AtomicBool>,
    all_cut: Arc<AtomicBool>,
}

impl Line {
    /// Ends the connection: nothing of an answer reaches the caller.
    pub(crate) fn cut(&self) -> Response {
        self.cut.store(true, Ordering::Relaxed);
        StatusCode::OK.into_response()
    }

    /// Keeps the caller waiting, then ends the connection.
    pub(crate) async fn hang(&self, delay_ms: Option<u64>) -> Response {
        wait(delay_ms.unwrap_or(HANG_MS)).await;
        self.cut()
    }

    /// Whether the gate was stopped: what comes on old connections then is not answered.
    pub(crate) fn is_stopped(&self) -> bool {
        self.all_cut.load(Ordering::Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) || self.all_cut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

/// A connection that obeys its switch.
#[derive(Debug)]
pub(crate) struct CutStream {
    stream: TcpStream,
    line: Line,
}

impl AsyncRead for CutStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Hands out connections with switches.
#[derive(Debug)]
pub(crate) struct CutListener {
    listener: TcpListener,
    all_cut: Arc<AtomicBool>,
}

impl Listener for CutListener {
    type Io = CutStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CutStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Small answers in one direction each: waiting for more bytes only delays them.
                    let _ = stream.set_nodelay(true);
                    let line = Line { cut: Arc::default(), all_cut: self.all_cut.clone() };
                    return (CutStream { stream, line }, peer);
                }
                Err(error) => {
                    tracing::warn!(%error, "the gate could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, CutListener>> for Line {
    fn connect_info(stream: IncomingStream<'_, CutListener>) -> Self {
        stream.io().line.clone()
    }
}

/// A running server. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    all_cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(address: SocketAddr, router: Router) -> Result<Self, GateError> {
        let failed = |source| GateError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let all_cut = Arc::new(AtomicBool::new(false));
        let listener = CutListener { listener, all_cut: all_cut.clone() };
        let task = tokio::spawn(async move {
            let serving = axum::serve(listener, router.into_make_service_with_connect_info::<Line>());
            if let Err(error) = serving.await {
                tracing::error!(%error, "the gate's server ended");
            }
        });
        Ok(Self { address, all_cut, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.all_cut.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// A client for the server behind the gate. Without a time limit: the caller has one.
pub(crate) fn client() -> Result<reqwest::Client, GateError> {
    // Only the first call in a process counts; every caller installs the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(GateError::Client)
}

/// Keeps the caller waiting.
pub(crate) async fn wait(delay_ms: u64) {
    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
}

/// An answer with a body of this type.
pub(crate) fn respond(status: StatusCode, content_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
