//! What may be cancelled because it blocked its lane at its price cap: G5, I9.

use signpost_txmgr::record::{AttemptKind, Record};
use signpost_txmgr::units::{Nonce, U256};

use super::Auditor;
use super::attempts::price_of;
use crate::deployment::MAX_HEAD_S;

impl Auditor {
    /// Its price could not rise, no slot below it was open, and both held for as long as policy allows.
    pub(super) fn judge_at_cap(&mut self, record: &Record) {
        let (id, account) = (&record.request_id, record.account);
        let newest = record.attempts.last().filter(|newest| newest.kind == AttemptKind::Execute);
        let raised = newest.map(|newest| price_of(newest.fee).most() * U256::from(11));
        let is_capped = raised.is_some_and(|raised| raised > record.fee_cap.0 * U256::from(10));
        self.check(is_capped, "I9", || format!("{id} is cancelled at its cap, and its price may rise"));
        let since = newest.and_then(|newest| newest.sent.as_ref()).map(|sent| sent.at).zip(record.capped_since);
        let held_ms = since.filter(|(sent, since)| sent <= since).map(|(_, since)| record.updated_at.since(since));
        self.check(held_ms.is_some_and(|held_ms| held_ms >= MAX_HEAD_S * 1_000), "I9", || {
            format!("{id} is cancelled at its cap after {held_ms:?} ms as the head, {MAX_HEAD_S} s are allowed")
        });
        let (Some(lane), Some(chain)) = (self.lanes.get(&account), self.chains.get(&account.chain_id.0)) else {
            return;
        };
        let open = (lane.start.0..record.nonce.0).find(|nonce| !chain.was_used(account.address, Nonce(*nonce)));
        self.check(open.is_none() || self.node_lies, "I9", || {
            format!("{id} is cancelled as the head of its lane, and {open:?} is below it")
        });
    }
}
