//! What must be when everything is quiet: I4, I5, I11, I12.

use std::collections::BTreeMap;

use signpost_txmgr::fake::MemoryChain;
use signpost_txmgr::record::Record;
use signpost_txmgr::units::{Nonce, RequestId};
use signpost_txmgr::wire::Status;

use super::{Ask, Auditor, Violation};
use crate::world::World;

impl Auditor {
    /// Judges the end of a trial: everything asked has its outcome, and the chain agrees.
    pub fn finish(&mut self, world: &World) {
        self.judge_records();
        self.judge_messages();
        self.judge_lanes(world);
        self.judge_spending(world);
        self.judge_chain(&world.chain.inner);
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
            let copies = self.published.get(id).into_iter().flatten();
            let outcomes: Vec<_> =
                copies.filter(|copy| copy.status != Status::Rejected).map(|copy| &copy.event_id).collect();
            if outcomes.is_empty() || outcomes.iter().any(|event| *event != outcomes[0]) {
                found.push(Violation {
                    invariant: "I11",
                    text: format!("{id} has {} outcomes, not one", outcomes.len()),
                });
            }
        }
        self.violations.extend(found);
    }

    fn judge_messages(&mut self) {
        let mut found = Vec::new();
        for asked in &self.asked {
            let (id, answered) = match &asked.what {
                Ask::Sign(id, digest) => (id, self.carries(id, &asked.message_id, digest.map(|(_, digest)| digest))),
                Ask::Cancel(id, own) => (id, self.carries_cancel(id, own)),
                Ask::Bad(id) => (id, self.was_refused_by_message(id, &asked.message_id, None)),
            };
            if !answered {
                let text = format!("message {} about {id} has no outcome", asked.message_id);
                found.push(Violation { invariant: "I12", text });
            }
        }
        self.violations.extend(found);
    }

    fn judge_lanes(&mut self, world: &World) {
        for head in world.heads() {
            let Some(lane) = self.lanes.get(&head.account) else { continue };
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
                let used = world.chain.inner.used_by(head.account.address, nonce);
                self.check(used.is_some(), "I4", || format!("{}: the chain has a gap at {nonce}", head.account));
            }
        }
    }

    fn judge_chain(&mut self, chain: &MemoryChain) {
        let mut times: BTreeMap<RequestId, u64> = BTreeMap::new();
        for mined in chain.mined().into_iter().filter(|mined| !mined.is_foreign) {
            match self.attempts.get(&mined.receipt.tx_hash) {
                Some(id) => *times.entry(id.clone()).or_default() += 1,
                None => self.check(false, "I3", || format!("{} is mined and was never stored", mined.receipt.tx_hash)),
            }
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
