//! The pure core of Signpost: it turns a request into a signed transaction, and tracks the transaction until it has a
//! final outcome.
//!
//! This crate holds the rules and does no I/O: no tokio, no AWS, no HTTP, no clock, no randomness. `now` is an
//! argument, and every call to the outside goes through the traits of [`ports`].
//!
//! Read in this order: [`units`], [`tx`], [`signature`], [`request`], [`policy`], [`account`],
//! [`pins`], [`unusable`], [`record`], [`seal`], [`text`], [`revert`], [`machine`], [`fees`], [`wire`], [`poke`],
//! [`ports`], [`inbox`], [`publish`], [`registration`], [`start`], [`signer`], [`broadcaster`]; and for audits
//! [`header`], [`evidence`].
//!
//! **Architecture invariant:** [`machine`] imports nothing from [`ports`]; nothing here imports an
//! adapter.

pub mod account;
pub mod broadcaster;
mod encoding;
pub mod evidence;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod fees;
pub mod header;
pub mod inbox;
pub mod machine;
pub mod meters;
pub mod pins;
pub mod poke;
pub mod policy;
pub mod ports;
pub mod publish;
pub mod record;
pub mod registration;
pub mod request;
pub mod revert;
pub mod seal;
pub mod signature;
pub mod signer;
pub mod spelling;
pub mod start;
pub mod text;
pub mod trace;
pub mod tx;
pub mod units;
pub mod unusable;
pub mod wire;

/// The version of the code as records, logs and evidence name it: the release, then `+` and the commit if the build
/// sets `SIGNPOST_COMMIT`. It contains nothing else about the build, so the same sources give the same program.
#[must_use]
pub fn code_version() -> String {
    let release = env!("CARGO_PKG_VERSION");
    match option_env!("SIGNPOST_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("{release}+{commit}"),
        Some(_) | None => release.to_owned(),
    }
}

/// An error's message followed by the messages of its causes, for logs and terminals. An error may quote a node or a
/// service, so each line is escaped ([`text::plain`]).
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text::plain_lines(&text)
}
