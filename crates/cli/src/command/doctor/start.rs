//! The stages' own start, up to the first message: what they would refuse, they refuse here.

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
}
