//! What of a lane could not be closed, as an operator is told: by `doctor`, `account` and the console.

use signpost_txmgr::account::{Gap, Head, SetAside};

use crate::when;

/// One line for each slot set aside and each gap.
pub(crate) fn lines(head: &Head) -> Vec<String> {
    let slot = |SetAside { nonce, cause, since }: &SetAside| {
        format!("slot {nonce} is set aside since {}: {}", when::date(*since), cause.meaning())
    };
    let gap = |Gap { from, to, since }: &Gap| {
        format!(
            "nonces {from} up to {to} (not itself) were left behind on {}: no request is stored for them",
            when::date(*since)
        )
    };
    head.set_aside.iter().map(slot).chain(head.gaps.iter().map(gap)).collect()
}
