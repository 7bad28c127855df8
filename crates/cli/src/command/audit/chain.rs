//! Compares the stored outcomes with the chain. A node that does not answer leads to a note, never to a violation.

use std::collections::{BTreeMap, BTreeSet};

use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::ports::{Chain, ChainView, NonceUse, SlotQuery, UseQuery, ViewQuery};
use signpost_txmgr::record::{Foreign, Receipt, Record, Verdict};
use signpost_txmgr::units::Nonce;

use super::judge::{Problem, Seen, problem};
use crate::command::error_chain;

/// Slots in one view query.
const SLOTS_AT_ONCE: usize = 50;

/// The result of the comparison.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: BTreeSet<String>,
}

/// Compares every signed record with the chain.
pub(super) async fn compare(nodes: &impl Chain, seen: &Seen) -> Compared {
    let mut compared = Compared::default();
    let account = seen.after.account;
    let ours = || seen.records.values().filter(|record| record.account == account);
    let mut signed: Vec<&Record> = ours().filter(|record| !record.attempts.is_empty()).collect();
    signed.sort_by_key(|record| record.nonce);
    // Also without any record: the account's counts are checked.
    let parts: Vec<&[&Record]> = if signed.is_empty() { vec![&[]] } else { signed.chunks(SLOTS_AT_ONCE).collect() };
    for records in parts {
        let query = ViewQuery {
            address: account.address,
            slots: records
                .iter()
                .map(|record| SlotQuery {
                    nonce: record.nonce,
                    hashes: record.own_hashes(),
                    mined_at: record.phase.receipt().map(|receipt| receipt.block.number),
                })
                .collect(),
            latest_seen: Nonce(0),
            head_waits: false,
        };
        match nodes.view(&query).await {
            Ok(view) => compare_part(&mut compared, records, &view, seen),
            Err(error) => {
                compared.notes.insert(format!(
                    "no node answers, so nothing was compared with the chain: {}",
                    error_chain(&error)
                ));
            }
        }
    }
    displaced(nodes, &mut compared, seen).await;
    compared
}

fn compare_part(compared: &mut Compared, records: &[&Record], view: &ChainView, seen: &Seen) {
    let receipts: BTreeMap<Nonce, ReceiptView> = view.receipts.iter().copied().collect();
    for record in records {
        let Some(settlement) = record.phase.settlement() else {
            if record.nonce < view.finalized_nonce {
                let text = format!(
                    "{} is {} and its nonce is used in a finalized block: is a broadcaster running?",
                    record.request_id,
                    record.phase.name()
                );
                compared.notes.insert(text);
            }
            continue;
        };
        let stored = match &settlement.verdict {
            Verdict::Confirmed(receipt) | Verdict::Cancelled(receipt) | Verdict::Reverted(receipt, _) => receipt,
            Verdict::Displaced(_) => continue,
        };
        match receipts.get(&record.nonce) {
            Some(ReceiptView::Found(found)) => {
                compared.problems.extend(differences(record, &settlement.verdict, stored, found));
            }
            Some(ReceiptView::Absent) => {
                let text = format!(
                    "it is {} in block {}, and the node has no receipt of any of its attempts \
                    (if the node does not keep receipts that old, use another)",
                    settlement.verdict.name(),
                    stored.block.number
                );
                compared.problems.push(problem("I5", &record.request_id, text));
            }
            Some(ReceiptView::Unknown) => {
                compared.notes.insert(format!("the node cannot say whether {} is on the chain", record.request_id));
            }
            None => {
                let text = format!(
                    "it is {} with nonce {}, and the chain has used only {} nonces of the account",
                    settlement.verdict.name(),
                    record.nonce,
                    view.latest_nonce
                );
                compared.problems.push(problem("I5", &record.request_id, text));
            }
        }
        if stored.block.number > view.finalized.number {
            let text = format!(
                "it is {} in block {}, and only {} is final",
                settlement.verdict.name(),
                stored.block.number,
                view.finalized.number
            );
            compared.problems.push(problem("I6", &record.request_id, text));
        }
    }
    if view.latest_nonce > seen.after.next_nonce {
        let text = format!(
            "the chain has used {} nonces, but the lane continues at {}: another program uses the key",
            view.latest_nonce, seen.after.next_nonce
        );
        compared.notes.insert(text);
    }
}

fn differences(record: &Record, verdict: &Verdict, stored: &Receipt, found: &Receipt) -> Vec<Problem> {
    let id = &record.request_id;
    let mut problems = Vec::new();
    if found.tx_hash != stored.tx_hash {
        let text = format!("it is {} by {}, and the chain has {}", verdict.name(), stored.tx_hash, found.tx_hash);
        problems.push(problem("I5", id, text));
        return problems;
    }
    if found.block != stored.block {
        let text = format!(
            "it is {} in block {} ({}), and the chain has it in {} ({})",
            verdict.name(),
            stored.block.number,
            stored.block.hash,
            found.block.number,
            found.block.hash
        );
        problems.push(problem("I6", id, text));
    }
    let succeeded = match verdict {
        Verdict::Confirmed(_) => Some(true),
        Verdict::Reverted(..) => Some(false),
        // A cancel executes nothing, whether it succeeds or reverts.
        Verdict::Cancelled(_) | Verdict::Displaced(_) => None,
    };
    if succeeded.is_some_and(|succeeded| succeeded != found.succeeded) {
        let status = u8::from(found.succeeded);
        let text = format!("it is {}, and the receipt of {} has status {status}", verdict.name(), stored.tx_hash);
        problems.push(problem("I6", id, text));
    }
    // A value that the node leaves out contradicts nothing.
    if differs(found.gas_used, stored.gas_used) || differs(found.effective_gas_price, stored.effective_gas_price) {
        let text = format!("it has {}, and the receipt {}", gas_and_price(stored), gas_and_price(found));
        problems.push(problem("I6", id, text));
    }
    problems
}

fn differs<T: PartialEq>(found: Option<T>, stored: Option<T>) -> bool {
    found.zip(stored).is_some_and(|(found, stored)| found != stored)
}

fn gas_and_price(receipt: &Receipt) -> String {
    let gas = receipt.gas_used.map_or("unknown".to_owned(), |gas| gas.to_string());
    let price = receipt.effective_gas_price.map_or("unknown".to_owned(), |price| price.to_string());
    format!("{gas} gas at {price}")
}

/// Checks that the foreign transaction of each displaced request is the one that used its nonce.
async fn displaced(nodes: &impl Chain, compared: &mut Compared, seen: &Seen) {
    for record in seen.records.values().filter(|record| record.account == seen.after.account) {
        let Some(Verdict::Displaced(foreign)) = record.phase.settlement().map(|settlement| &settlement.verdict) else {
            continue;
        };
        let query = UseQuery {
            address: record.account.address,
            nonce: record.nonce,
            own: record.own_hashes(),
            finalized: foreign.block.number,
            searched: None,
            now: record.updated_at,
        };
        let found = match nodes.nonce_use(&query).await {
            Ok(NonceUse::Ours(receipt, _)) => Ok(Some(Foreign { tx_hash: receipt.tx_hash, block: receipt.block })),
            Ok(NonceUse::Found(found, _) | NonceUse::Unshown(found)) => Ok(Some(found)),
            Ok(NonceUse::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(found)) if found == *foreign => {}
            Ok(Some(found)) => {
                let text = format!(
                    "it is displaced by {}, and nonce {} was used by {}",
                    foreign.tx_hash, record.nonce, found.tx_hash
                );
                compared.problems.push(problem("I6", &record.request_id, text));
            }
            Ok(None) => {
                let text = format!("the node does not find the transaction that displaced {}", record.request_id);
                compared.notes.insert(text);
            }
            Err(error) => {
                let (id, error) = (&record.request_id, error_chain(&error));
                let text = format!("the transaction that displaced {id} cannot be looked up: {error}");
                compared.notes.insert(text);
            }
        }
    }
}
