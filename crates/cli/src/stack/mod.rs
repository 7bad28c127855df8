//! The local stack: an AWS emulator (ministack) and a chain (anvil or geth) on loopback. Installs, starts, provisions
//! and stops them. For a laptop and for tests; production has its own queues, tables and keys.
//!
//! Guarantees: nothing is written outside the [`place`], the servers listen on loopback only, and no server process
//! outlives this program, however it ends. Does not guarantee that a stack keeps data: every start has an empty AWS
//! account and a new chain.
//!
//! Read in this order: [`place`] (the directory), [`setup`] (what is installed), [`supervised`] (supervised processes),
//! [`servers`] (ministack and anvil), [`geth`] (a real node instead of anvil), [`gates`] (optional proxies in front),
//! [`provision`] (queues, tables, topic, key).

pub mod gates;
pub mod geth;
pub mod place;
pub mod provision;
pub mod rpc;
pub mod servers;
pub mod setup;
pub mod supervised;

use std::path::{Path, PathBuf};

/// Why the local stack could not be installed or started. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// There is no directory to install into.
    #[error("no directory for the local stack: set CARGO_TARGET_DIR, run inside the workspace, or set HOME")]
    NoPlace,
    /// A file or directory of the local stack could not be written or read.
    #[error("cannot use {path}; check that it is writable and has free space", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program that the set-up needs is missing.
    #[error("{program} was not found on PATH; install {hint}")]
    Missing {
        /// What was looked for.
        program: &'static str,
        /// What to install.
        hint: &'static str,
    },
    /// A program that the set-up needs is too old.
    #[error("{program} {found} is too old; install {hint}")]
    TooOld {
        /// The program.
        program: &'static str,
        /// Its version.
        found: String,
        /// What to install.
        hint: &'static str,
    },
    /// Python lacks a module of its own library, as some distributions ship it.
    #[error(
        "this python3 cannot create virtual environments; install its venv package (on Debian and Ubuntu: \
         apt-get install python3-venv)"
    )]
    NoVenv,
    /// An installer failed.
    #[error("{what} failed: {reason}\nits full output is in {log}", log = log.display())]
    Install {
        /// What it was to install.
        what: &'static str,
        /// The most informative line of its output.
        reason: String,
        /// The file with its full output.
        log: PathBuf,
    },
    /// anvil is not published for this kind of machine.
    #[error("anvil is not published for {os} on {arch}; start a node yourself and use --rpc-url")]
    NoAnvil {
        /// Operating system.
        os: &'static str,
        /// Processor.
        arch: &'static str,
    },
    /// A server could not be started.
    #[error("cannot start {name}")]
    Start {
        /// The server.
        name: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The requested port is taken.
    #[error("port {port} for {name} is taken; stop the program that uses it, or choose another port with {option}")]
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
    /// The fault script of the gates is invalid.
    #[error("{path} is not a valid fault script for the gates: {reason}", path = path.display())]
    Script {
        /// The file, or the word used instead.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A gate could not be started.
    #[error("cannot start a gate")]
    Gate(#[from] signpost_gate::GateError),
    /// The HTTP client could not be built.
    #[error("cannot create an HTTP client")]
    Http(#[source] reqwest::Error),
    /// The node refused a method that development nodes support.
    #[error("the node at {url} refused {method}: {reason}")]
    Node {
        /// The URL of the node.
        url: String,
        /// The method.
        method: &'static str,
        /// Its answer.
        reason: String,
    },
    /// A call to AWS failed while queues, tables, topic or keys were created.
    #[error("{operation} of {name} failed: {reason}")]
    Aws {
        /// The call.
        operation: &'static str,
        /// The name of the resource.
        name: String,
        /// The error of AWS.
        reason: String,
    },
}

/// An error of `std::io` that names the file.
fn file(path: &Path) -> impl FnOnce(std::io::Error) -> StackError {
    let path = path.to_path_buf();
    move |source| StackError::File { path, source }
}
