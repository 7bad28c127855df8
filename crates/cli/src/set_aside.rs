//! Describes the slots and gaps of a lane that could not be closed, for `doctor`, `account` and the console.

use signpost_txmgr::account::{Gap, Head, SetAside};

use crate::when;

/// One line for each slot that is set aside and for each gap.
pub(crate) fn lines(head: &Head) -> Vec<String> {
    let slot = |SetAside { nonce, cause, since }: &SetAside| {
        format!("slot {nonce} is set aside since {}: {}", when::date(*since), cause.meaning())
    };
    let gap = |Gap { from, to, since }: &Gap| {
        format!(
            "nonces from {from} to below {to} were skipped on {}: no request is stored for them",
            when::date(*since)
        )
    };
    head.set_aside.iter().map(slot).chain(head.gaps.iter().map(gap)).collect()
}
