//! The stages' own start, up to the first message: what they would refuse, they refuse here.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use signpost_host::observe;

use super::Checks;
use crate::command::{Session, told};
use crate::worker::{Stage, Worker};

/// Makes each stage as `signpost worker` does, and lets it go. The other checks look closer; this one leaves nothing
/// out.
pub(super) async fn check(session: &Session, checks: &mut Checks) {
    for (name, stage) in [("signer", Stage::Signer), ("broadcaster", Stage::Broadcaster)] {
        let what = format!("{name}: start");
        match Worker::new(session.clone(), stage).await {
            Ok(_) => checks.ok(what, "it starts with this configuration"),
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
