//! The local stack: AWS on loopback (ministack) and a chain (anvil, or geth), installed, started, provisioned
//! and stopped by us. For a laptop and for tests; production has its own queues, tables and keys.
//!
//! Guarantees: nothing is written outside the [`place`], the servers listen on loopback only, and no
//! process of ours outlives us, however we end. Does not guarantee that a stack keeps anything once it
//! is stopped: every start is a fresh, empty AWS account and a fresh chain.
//!
//! Read in this order: [`place`] (where), [`setup`] (what is installed), [`leash`] (processes that die
//! with us), [`servers`] (ministack and anvil), [`geth`] (a real node in anvil's place), [`gates`] (what stands before them if asked for),
//! [`provision`] (queues, tables, topic, key).

pub mod gates;
pub mod geth;
pub mod leash;
pub mod place;
pub mod provision;
pub mod rpc;
pub mod servers;
pub mod setup;

use std::path::{Path, PathBuf};

/// Why the local stack could not be had. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// There is no directory to install into.
    #[error("no place for the local stack: set CARGO_TARGET_DIR, run inside the workspace, or set HOME")]
    NoPlace,
    /// A file or directory of the local stack could not be written or read.
    #[error("cannot use {path}; see that it is writable and has room", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program the set-up needs is not on this machine.
    #[error("{program} was not found on PATH; install {hint}")]
    Missing {
        /// What was looked for.
        program: &'static str,
        /// What to install.
        hint: &'static str,
    },
    /// A program the set-up needs is there, and too old.
    #[error("{program} {found} is too old; install {hint}")]
    TooOld {
        /// What was looked at.
        program: &'static str,
        /// Its version.
        found: String,
        /// What to install.
        hint: &'static str,
    },
    /// Python lacks a module of its own library, as some distributions ship it.
    #[error(
        "this python3 cannot make virtual environments; install its venv package (on Debian and Ubuntu: apt-get install python3-venv)"
    )]
    NoVenv,
    /// An installer ended badly.
    #[error("{what} failed: {reason}\nits whole output is in {log}", log = log.display())]
    Install {
        /// What it was to install.
        what: &'static str,
        /// The line of its output that says most.
        reason: String,
        /// All it wrote.
        log: PathBuf,
    },
    /// anvil is not published for this kind of machine.
    #[error("anvil is not published for {os} on {arch}; start a node yourself and give it with --rpc-url")]
    NoAnvil {
        /// Operating system.
        os: &'static str,
        /// Processor.
        arch: &'static str,
    },
    /// A server could not be started at all.
    #[error("cannot start {name}")]
    Start {
        /// The server.
        name: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The port asked for is taken.
    #[error("port {port} for {name} is taken; stop what listens there, or choose another with {option}")]
    PortTaken {
        /// The server.
        name: &'static str,
        /// The port.
        port: u16,
        /// The option that chooses it.
        option: &'static str,
    },
    /// A server ended, or did not become ready in time.
    #[error("{name} {what}; its log is {log}", log = log.display())]
    NotReady {
        /// The server.
        name: &'static str,
        /// What happened.
        what: String,
        /// Its log.
        log: PathBuf,
    },
    /// The gates' faults cannot be read.
    #[error("{path} is no script of faults for the gates: {reason}", path = path.display())]
    Script {
        /// The file, or the word in its place.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A gate could not be put up.
    #[error("cannot put up a gate")]
    Gate(#[from] signpost_gate::GateError),
    /// The HTTP client could not be built.
    #[error("cannot make an HTTP client")]
    Http(#[source] reqwest::Error),
    /// The node did not do what a development node does.
    #[error("the node at {url} refused {method}: {reason}")]
    Node {
        /// Where.
        url: String,
        /// What was asked.
        method: &'static str,
        /// Its answer.
        reason: String,
    },
    /// A call to AWS failed while queues, tables, topic or keys were made.
    #[error("{operation} of {name} failed: {reason}")]
    Aws {
        /// The call.
        operation: &'static str,
        /// What it was for.
        name: String,
        /// What AWS said.
        reason: String,
    },
}

/// An error of `std::io` that names the file.
fn file(path: &Path) -> impl FnOnce(std::io::Error) -> StackError {
    let path = path.to_path_buf();
    move |source| StackError::File { path, source }
}
