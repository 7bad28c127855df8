//! The HTTP server of a gate: axum on connections that can be closed without an answer. A caller then sees a lost reply
//! as in production: the request was sent, and the connection failed.
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

/// How long a caller hangs by default: longer than any timeout in the project.
const HANG_MS: u64 = 120_000;
/// The pause after a failed accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long idle connections to the server behind are kept: the server closes idle ones, and a call must not use a
/// connection that is being closed.
const IDLE: Duration = Duration::from_millis(500);

/// Why a gate cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The port is taken, or the address is not on this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP client could not be built.
    #[error("cannot create an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Closes one connection, or sees that all are closed.
#[derive(Debug, Clone)]
pub(crate) struct Switch {
    cut: Arc<AtomicBool>,
    all_cut: Arc<AtomicBool>,
}

impl Switch {
    /// Closes the connection, so that no part of an answer reaches the caller.
    pub(crate) fn cut(&self) -> Response {
        self.cut.store(true, Ordering::Relaxed);
        StatusCode::OK.into_response()
    }

    /// Lets the caller wait, then closes the connection.
    pub(crate) async fn hang(&self, delay_ms: Option<u64>) -> Response {
        wait(delay_ms.unwrap_or(HANG_MS)).await;
        self.cut()
    }

    /// Whether the gate was stopped. Requests on old connections are then not answered.
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

/// A connection that fails once its switch is off.
#[derive(Debug)]
pub(crate) struct CutStream {
    stream: TcpStream,
    switch: Switch,
}

impl AsyncRead for CutStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.switch.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A listener whose connections have switches.
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
                    // Answers are small; waiting for more bytes would only delay them.
                    let _ = stream.set_nodelay(true);
                    let switch = Switch { cut: Arc::default(), all_cut: self.all_cut.clone() };
                    return (CutStream { stream, switch }, peer);
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

impl Connected<IncomingStream<'_, CutListener>> for Switch {
    fn connect_info(stream: IncomingStream<'_, CutListener>) -> Self {
        stream.io().switch.clone()
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
            let serving = axum::serve(listener, router.into_make_service_with_connect_info::<Switch>());
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

/// A client for the server behind the gate. It has no timeout, because the caller has one.
pub(crate) fn client() -> Result<reqwest::Client, GateError> {
    // Only the first call in a process has an effect; every caller installs the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(GateError::Client)
}

/// Lets the caller wait.
pub(crate) async fn wait(delay_ms: u64) {
    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
}

/// An answer with a body of this content type.
pub(crate) fn respond(status: StatusCode, content_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
