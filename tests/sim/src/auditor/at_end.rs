//! What must hold when everything has finished: G2, I4, I5, I11, I12, and how long items are kept.

use std::collections::BTreeMap;

use signpost_txmgr::fake::MemoryChain;
use signpost_txmgr::record::{Record, Stored};
use signpost_txmgr::units::{Nonce, RequestId};

use super::{Auditor, Violation};
use crate::deployment::{Deployment, RETENTION_MS, START, STRANGER};

impl Auditor {
    /// Judges the end of a trial: every message has its outcome, and the chain agrees.
    pub fn finish(&mut self, deployment: &Deployment) {
        self.judge_records();
        self.judge_messages();
        self.judge_lanes(deployment);
        self.judge_spending(deployment);
        self.judge_kept(deployment);
        for chain in self.chains.values().cloned().collect::<Vec<_>>() {
            self.judge_chain(&chain);
        }
    }

    fn judge_records(&mut self) {
        let mut found = Vec::new();
        for (id, record) in &self.records {
            if !record.is_closed() {
                found.push(Violation {
                    invariant: "I12",
                    text: format!("{id} is {} and does not finish", describe(record)),
                });
            }
            let outcomes = self.published.get(id).map_or(0, std::collections::BTreeSet::len);
            if outcomes != 1 {
                found.push(Violation { invariant: "I11", text: format!("{id} has {outcomes} outcomes, not one") });
            }
        }
        self.violations.extend(found);
    }

    fn judge_messages(&mut self) {
        let mut found = Vec::new();
        for (message_id, asked) in &self.messages {
            if !self.is_answered(asked) {
                let text = format!("message {message_id} has no outcome: {:?}", asked.what);
                found.push(Violation { invariant: "I12", text });
            } else if !asked.acknowledged {
                let text = format!("message {message_id} was never acknowledged: {:?}", asked.what);
                found.push(Violation { invariant: "I12", text });
            }
        }
        self.violations.extend(found);
    }

    fn judge_lanes(&mut self, deployment: &Deployment) {
        for head in deployment.heads() {
            let Some(lane) = self.lanes.get(&head.account) else { continue };
            let Some(chain) = self.chains.get(&head.account.chain_id.0).cloned() else { continue };
            let fits = head.next_nonce == lane.next && head.lowest_open_nonce == lane.lowest_open;
            let (next, open) = (head.next_nonce, head.open_slots());
            let expected = lane.next;
            let (start, skipped) = (lane.start, lane.skipped.clone());
            self.check(fits, "I4", || format!("{}: the head says {next}, the writes say {expected}", head.account));
            self.check(open == 0, "I12", || format!("{}: {open} slots stay open", head.account));
            let set_aside = &head.set_aside;
            self.check(set_aside.is_empty(), "I12", || format!("{}: {set_aside:?} stay set aside", head.account));
            for nonce in (start.0..next.0).map(Nonce) {
                let is_skipped = skipped.iter().any(|(from, to)| (*from..*to).contains(&nonce));
                let has_slot = self.slots.contains_key(&(head.account, nonce));
                self.check(has_slot != is_skipped, "I4", || format!("{}: nonce {nonce} has no slot", head.account));
                let used = chain.used_by(head.account.address, nonce);
                self.check(used.is_some(), "I4", || format!("{}: the chain has a gap at {nonce}", head.account));
            }
        }
    }

    /// Slots left behind and rejections are kept for the retention period, which protects their ids.
    fn judge_kept(&mut self, deployment: &Deployment) {
        let least = START.plus(RETENTION_MS);
        let short = deployment.store.inner.with_tables(|tables| {
            let left = |(account, nonce): &(_, Nonce)| {
                tables.heads.get(account).is_some_and(|head| *nonce < head.lowest_open_nonce)
            };
            let slots = tables.slots.iter().filter(|(place, _)| left(place));
            let slots = slots.map(|(place, slot)| (format!("slot {}", place.1), slot.expires_at));
            let rejected = tables.requests.iter().filter_map(|(id, stored)| match stored {
                Stored::Rejected(rejected) if rejected.sender.as_deref() != Some(STRANGER) => {
                    Some((format!("the rejection of {id}"), rejected.expires_at))
                }
                Stored::Rejected(_) | Stored::Record(_) => None,
            });
            slots.chain(rejected).find(|(_, expires)| expires.is_none_or(|at| at < least))
        });
        self.check(short.is_none(), "G1", || format!("not kept long enough, or kept for ever: {short:?}"));
    }

    /// Every mined transaction was stored, is mined once per request, and is either what was requested or a cancel.
    fn judge_chain(&mut self, chain: &MemoryChain) {
        let mut times: BTreeMap<RequestId, u64> = BTreeMap::new();
        for mined in chain.mined().into_iter().filter(|mined| !mined.is_foreign) {
            let hash = mined.receipt.tx_hash;
            let Some(known) = self.attempts.get(&hash).cloned() else {
                self.check(false, "I3", || format!("{hash} is mined and was never stored"));
                continue;
            };
            let (wanted, intent) = (&known.unsigned, &mined.intent);
            let fits = (wanted.chain_id, wanted.nonce, wanted.gas) == (intent.chain_id.0, mined.nonce.0, intent.gas.0)
                && wanted.to == intent.to.map(|to| to.0)
                && wanted.value == intent.value.0
                && wanted.data == *intent.data;
            self.check(fits, "I2", || format!("{}: {intent:?} is mined as {:?}, not {wanted:?}", known.id, known.kind));
            *times.entry(known.id).or_default() += 1;
        }
        for (id, times) in times {
            self.check(times == 1, "I5", || format!("{id} was mined {times} times"));
        }
    }
}

fn describe(record: &Record) -> String {
    let answer = record.attempts.last().and_then(|attempt| attempt.sent.as_ref()).map(|sent| sent.answer.class);
    format!(
        "{} (nonce {}, {} attempts, last answer {answer:?}, cancel {:?})",
        record.phase.name(),
        record.nonce,
        record.attempts.len(),
        record.cancel
    )
}
