//! Loads a lane: the open slots of its window in each round, those set aside every [`ASIDE_EVERY_MS`].

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::account::Head;
use crate::ports::{Chain, OutcomeTopic, PortError, ResignQueue, Store};
use crate::record::{Record, Stored};
use crate::units::{Millis, Nonce, RequestId};

use super::{Broadcaster, Lane};

/// A pass loads the slots set aside when it begins and then at this interval, in milliseconds. Their nonces are used,
/// so only their own outcomes wait for this.
const ASIDE_EVERY_MS: u64 = 30_000;
/// Slot items of slots set aside that are read at once.
const ASIDE_READS_AT_ONCE: usize = 8;

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// Reads the open slots of the window and their records. Slots known to be closed are not read again.
    pub(super) async fn load(&self, lane: &mut Lane, head: &Head, now: Millis) -> Result<(), PortError> {
        let from = head.lowest_open_nonce;
        lane.begin_at(head);
        let limit = lane.limit(from, self.config.window).min(head.open_slots());
        let to = from.plus(limit);
        // A missing slot or record is read again before it counts as lost.
        let known_to = if lane.lost.contains_key(&from) { from } else { lane.read_to.max(from) };
        if known_to < to {
            let limit = usize::try_from(to.since(known_to)).unwrap_or(usize::MAX);
            let slots = self.store.slots(&lane.account, known_to, limit).await?;
            lane.ids.extend(slots.into_iter().filter(|(nonce, _)| *nonce < to));
            lane.read_to = lane.read_to.max(to);
        }
        let open: BTreeMap<Nonce, RequestId> = lane
            .ids
            .iter()
            .filter(|(nonce, _)| !lane.closed.contains(nonce))
            .map(|(nonce, id)| (*nonce, id.clone()))
            .collect();
        let found = self.load_records(lane, &open, now).await?;
        lane.records.retain(|nonce, _| found.contains(nonce));
        let expected = (from.0..lane.read_to.0).map(Nonce).filter(|nonce| !lane.closed.contains(nonce));
        let missing: Vec<Nonce> = expected.filter(|nonce| !found.contains(nonce)).collect();
        lane.count_lost(from, missing);
        Ok(())
    }

    /// Adds the slots set aside to this round if they are due.
    pub(super) async fn load_set_aside(&self, lane: &mut Lane, head: &Head, now: Millis) -> Result<(), PortError> {
        let is_due = lane.aside_loaded_at.is_none_or(|at| now.since(at) >= ASIDE_EVERY_MS);
        if head.set_aside.is_empty() || !is_due {
            return Ok(());
        }
        let account = lane.account;
        let read = |nonce: Nonce| async move {
            let slots = self.store.slots(&account, nonce, 1).await?;
            Ok::<_, PortError>(slots.into_iter().find(|(found, _)| *found == nonce))
        };
        let nonces: Vec<Nonce> = head.set_aside.iter().map(|slot| slot.nonce).collect();
        let slots = stream::iter(nonces.clone()).map(read).buffer_unordered(ASIDE_READS_AT_ONCE);
        let slots: Vec<Option<(Nonce, RequestId)>> = slots.try_collect().await?;
        let slots: BTreeMap<Nonce, RequestId> = slots.into_iter().flatten().collect();
        let found = self.load_records(lane, &slots, now).await?;
        for nonce in nonces {
            if found.contains(&nonce) {
                lane.lost.remove(&nonce);
            } else {
                lane.count_missing(nonce);
            }
        }
        lane.aside_loaded_at = Some(now);
        Ok(())
    }

    /// Loads the records of these slots into the lane and returns the nonces of those that exist.
    async fn load_records(
        &self,
        lane: &mut Lane,
        slots: &BTreeMap<Nonce, RequestId>,
        now: Millis,
    ) -> Result<BTreeSet<Nonce>, PortError> {
        let mut found = BTreeSet::new();
        if slots.is_empty() {
            return Ok(found);
        }
        let ids: Vec<RequestId> = slots.values().cloned().collect();
        for stored in self.store.load(&ids, now).await? {
            match stored {
                // An expired id that was used again has another slot.
                Stored::Record(record) if is_in_slot(lane, slots, &record) => {
                    found.insert(record.nonce);
                    lane.keep(*record);
                }
                Stored::Record(record) => {
                    tracing::error!(request_id = %record.request_id, nonce = %record.nonce, account = %lane.account,
                        "I1: a slot names a request whose slot is another one");
                }
                Stored::Rejected(rejected) => {
                    tracing::error!(request_id = %rejected.request_id, account = %lane.account,
                        "I1: a slot names a request that was rejected");
                }
            }
        }
        Ok(found)
    }
}

fn is_in_slot(lane: &Lane, slots: &BTreeMap<Nonce, RequestId>, record: &Record) -> bool {
    record.account == lane.account && slots.get(&record.nonce) == Some(&record.request_id)
}
