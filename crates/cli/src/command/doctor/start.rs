//! The stages' own start, up to the first message: what they would refuse, they refuse here.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use signpost_host::observe;
use signpost_host::start::{StartError, policies};
use signpost_txmgr::start::accounts_of_chain;
use signpost_txmgr::units::ChainId;

use super::Checks;
use crate::command::{Session, told};
use crate::world;

/// What each stage does before its first message, but for the signer's look at the keys: that keeps nothing from
/// starting, and would note its findings on the heads with the operator's rights instead of the signer's. The other
/// checks look closer; this one leaves nothing out.
pub(super) async fn check(session: &Session, checks: &mut Checks) {
    let broadcaster = signpost_broadcaster::lanes(session).await.map(drop);
    for (stage, started) in [("signer", signer(session).await), ("broadcaster", broadcaster)] {
        let what = format!("{stage}: start");
        match started {
            Ok(()) => checks.ok(what, "it starts with this configuration"),
            Err(error) => checks.problem(what, told(&error), "a worker of this stage does not start: correct it"),
        }
    }
    if let Err(error) = observe::check_traces(&session.config.observe) {
        checks.problem("traces", told(&error), "no worker starts: correct [traces] or the OTEL_ variable");
    }
    if let Some(address) = session.config.observe.metrics_listen {
        metrics(address, checks);
    }
}

async fn signer(session: &Session) -> Result<(), StartError> {
    policies(&session.config.policy_file)?;
    accounts_of_chain(&world::store(session), ChainId(session.config.chain.chain_id)).await?;
    Ok(())
}

/// Whether a worker can serve its metrics here; one that runs already does.
fn metrics(address: SocketAddr, checks: &mut Checks) {
    let todo = "fine if it is a running worker of this configuration; else no worker starts";
    match TcpListener::bind(address) {
        Ok(_) => checks.ok("metrics", format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            checks.look("metrics", format!("{address} is in use"), todo);
        }
        Err(error) => checks.problem("metrics", format!("{address}: {error}"), "correct [metrics] listen"),
    }
}
