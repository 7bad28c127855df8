//! Runs the start checks of both stages, up to the first message.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use signpost_host::observe;
use signpost_host::start::{StartError, policies};
use signpost_txmgr::start::accounts_of_chain;
use signpost_txmgr::units::ChainId;

use super::Checks;
use crate::command::{Session, error_chain};
use crate::ports;

/// Runs what each stage does before its first message, except the signer's key check: that check never prevents a
/// start, and would write its findings to the heads with the operator's permissions instead of the signer's. Other
/// checks are more precise; this one is complete.
pub(super) async fn check(session: &Session, checks: &mut Checks) {
    let broadcaster = signpost_broadcaster::lanes(session).await.map(drop);
    for (stage, started) in [("signer", signer(session).await), ("broadcaster", broadcaster)] {
        let what = format!("{stage}: start");
        match started {
            Ok(()) => checks.ok(what, "it starts with this configuration"),
            Err(error) => {
                checks.problem(what, error_chain(&error), "correct it: a worker of this stage does not start");
            }
        }
    }
    if let Err(error) = observe::check_traces(&session.config.observe) {
        checks.problem("traces", error_chain(&error), "correct [traces] or the OTEL_ variable: no worker starts");
    }
    if let Some(address) = session.config.observe.metrics_listen {
        metrics(address, checks);
    }
}

async fn signer(session: &Session) -> Result<(), StartError> {
    policies(&session.config.policy_file)?;
    accounts_of_chain(&ports::store(session), ChainId(session.config.chain.chain_id)).await?;
    Ok(())
}

/// Checks that a worker can serve metrics on this address; a running worker already does.
fn metrics(address: SocketAddr, checks: &mut Checks) {
    let todo = "fine if a worker of this configuration is running; otherwise no worker starts";
    match TcpListener::bind(address) {
        Ok(_) => checks.ok("metrics", format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            checks.look("metrics", format!("{address} is in use"), todo);
        }
        Err(error) => checks.problem("metrics", format!("{address}: {error}"), "correct [metrics] listen"),
    }
}
