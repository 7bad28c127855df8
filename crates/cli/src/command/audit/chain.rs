//! What the chain says of the outcomes that are stored. A node that does not answer is a note, never a verdict.

use std::collections::{BTreeMap, BTreeSet};

use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::ports::{Chain, ChainView, NonceUse, SlotQuery, UseQuery, ViewQuery};
use signpost_txmgr::record::{Foreign, Receipt, Record, Verdict};
use signpost_txmgr::units::Nonce;

use super::judge::{Problem, Seen, problem};
use crate::command::told;

/// Slots asked about in one view.
const SLOTS_AT_ONCE: usize = 50;

/// What the comparison came to.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: BTreeSet<String>,
}

/// Asks the chain about every record that was signed.
pub(super) async fn compare(nodes: &impl Chain, seen: &Seen) -> Compared {
    let mut compared = Compared::default();
    let account = seen.after.account;
    let ours = || seen.records.values().filter(|record| record.account == account);
    let mut signed: Vec<&Record> = ours().filter(|record| !record.attempts.is_empty()).collect();
    signed.sort_by_key(|record| record.nonce);
    // Also without any: the account's counts are of interest.
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
                compared
                    .notes
                    .insert(format!("no node answers, so nothing was held against the chain: {}", told(&error)));
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
                    "{} is {} and its nonce is used in a finalized block: is a broadcaster at work?",
                    record.request_id,
                    record.phase.name()
                );
                compared.notes.insert(text);
            }
            continue;
        };
        let told = match &settlement.verdict {
            Verdict::Confirmed(receipt) | Verdict::Cancelled(receipt) | Verdict::Reverted(receipt, _) => receipt,
            Verdict::Displaced(_) => continue,
        };
        match receipts.get(&record.nonce) {
            Some(ReceiptView::Found(found)) => {
                compared.problems.extend(differences(record, &settlement.verdict, told, found));
            }
            Some(ReceiptView::Absent) => {
                let text = format!(
                    "it is {} in block {}, and the node has no receipt of any of its attempts \
                    (if the node keeps no receipts so old, ask another)",
                    settlement.verdict.name(),
                    told.block.number
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
        if told.block.number > view.finalized.number {
            let text = format!(
                "it is {} in block {}, and only {} is final",
                settlement.verdict.name(),
                told.block.number,
                view.finalized.number
            );
            compared.problems.push(problem("I6", &record.request_id, text));
        }
    }
    if view.latest_nonce > seen.after.next_nonce {
        let text = format!(
            "the chain has used {} nonces and the lane goes on at {}: another program uses the key",
            view.latest_nonce, seen.after.next_nonce
        );
        compared.notes.insert(text);
    }
}

fn differences(record: &Record, verdict: &Verdict, told: &Receipt, found: &Receipt) -> Vec<Problem> {
    let id = &record.request_id;
    let mut problems = Vec::new();
    if found.tx_hash != told.tx_hash {
        let text = format!("it is {} by {}, and the chain has {}", verdict.name(), told.tx_hash, found.tx_hash);
        problems.push(problem("I5", id, text));
        return problems;
    }
    if found.block != told.block {
        let text = format!(
            "it is {} in block {} ({}), and the chain has it in {} ({})",
            verdict.name(),
            told.block.number,
            told.block.hash,
            found.block.number,
            found.block.hash
        );
        problems.push(problem("I6", id, text));
    }
    let succeeded = match verdict {
        Verdict::Confirmed(_) => Some(true),
        Verdict::Reverted(..) => Some(false),
        // Whichever way a cancel ends, nothing was executed.
        Verdict::Cancelled(_) | Verdict::Displaced(_) => None,
    };
    if succeeded.is_some_and(|succeeded| succeeded != found.succeeded) {
        let status = u8::from(found.succeeded);
        let text = format!("it is {}, and the receipt of {} has status {status}", verdict.name(), told.tx_hash);
        problems.push(problem("I6", id, text));
    }
    // What a node did not tell contradicts nothing.
    if differs(found.gas_used, told.gas_used) || differs(found.effective_gas_price, told.effective_gas_price) {
        let text = format!("it says {}, and the receipt {}", gas_and_price(told), gas_and_price(found));
        problems.push(problem("I6", id, text));
    }
    problems
}

fn differs<T: PartialEq>(found: Option<T>, told: Option<T>) -> bool {
    found.zip(told).is_some_and(|(found, told)| found != told)
}

fn gas_and_price(receipt: &Receipt) -> String {
    let gas = receipt.gas_used.map_or("unknown".to_owned(), |gas| gas.to_string());
    let price = receipt.effective_gas_price.map_or("unknown".to_owned(), |price| price.to_string());
    format!("{gas} gas at {price}")
}

/// The foreign transaction of each displaced request must be the one that used its nonce.
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
                compared.notes.insert(format!("the node does not find what displaced {}", record.request_id));
            }
            Err(error) => {
                let text = format!("what displaced {} cannot be looked up: {}", record.request_id, told(&error));
                compared.notes.insert(text);
            }
        }
    }
}
