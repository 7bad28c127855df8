//! What was acknowledged and published: G2, G3, I6, I7, I11, I13, I15.
//!
//! An outcome is judged as the JSON that travels, field by field, against what was asked and what the chain says.
//! Read next: [`super::at_end`].

use serde_json::{Value, json};
use signpost_txmgr::record::{AttemptKind, CancelCause, Phase, Record, Rejected};
use signpost_txmgr::units::{Millis, RequestId, TxHash};

use super::Auditor;
use super::asked::{Contents, ParsedMessage, TrackedMessage};
use crate::deployment::{RETENTION_MS, SENDERS, STRANGER};

/// How long the refusal of a stranger's message is kept.
const STRANGER_KEPT_MS: u64 = 24 * 3_600 * 1_000;

/// Tolerance of an expiry beyond the retention; more than a pass takes.
const EXPIRY_SLACK_MS: u64 = 24 * 3_600 * 1_000;
/// The fields of an outcome that are judged elsewhere, or are free text.
const FREE: [&str; 4] = ["eventId", "reason", "contractAddress", "reduced"];

impl Auditor {
    pub(super) fn acknowledged(&mut self, message_id: &str, body: &str) {
        let Some(asked) = self.messages.get_mut(message_id) else {
            return self.check(false, "I13", || format!("message {message_id} was deleted and never sent"));
        };
        asked.acknowledged = true;
        let carried = self.messages.get(message_id).is_some_and(|asked| self.is_answered(asked));
        self.check(carried, "I13", || {
            format!("message {message_id} was deleted and nothing carries its effect: {body}")
        });
    }

    /// Whether the record has the effect of this message, or its refusal is published.
    pub(super) fn is_answered(&self, asked: &TrackedMessage) -> bool {
        let record = |id: &RequestId| self.records.get(id);
        let carried = match &asked.what {
            ParsedMessage::Sign(id, contents) => {
                record(id).is_some_and(|record| self.is_record_of(asked.chain_id, contents, record))
            }
            // A settled record leaves nothing to cancel.
            ParsedMessage::Cancel(id) => {
                record(id).is_some_and(|record| record.cancel.is_some() || matches!(record.phase, Phase::Settled(_)))
            }
            ParsedMessage::Bad(..) => false,
        };
        carried || !asked.refusals.is_empty()
    }

    /// A rejection was stored. It never replaces a record, and it is kept for as long as a repeat may arrive.
    pub(super) fn note_rejected(&mut self, rejected: &Rejected) {
        let id = &rejected.request_id;
        let over = self.records.contains_key(id);
        self.check(!over, "I7", || format!("{id} has a slot and was written over as rejected"));
        let is_stranger = rejected.sender.as_deref() == Some(STRANGER);
        let is_kept = |at: Millis| {
            if is_stranger {
                at.since(rejected.created_at) == STRANGER_KEPT_MS
            } else {
                is_kept(rejected.created_at, at)
            }
        };
        let kept = rejected.expires_at.is_some_and(is_kept);
        let expires = rejected.expires_at;
        self.check(kept, "G1", || format!("the rejection of {id} is kept until {expires:?}"));
        self.rejected.entry(id.clone()).or_default().push(rejected.clone());
    }

    /// Whether it repeats a stored rejection under its message's own id.
    pub(super) fn is_kept_copy(&self, rejected: &Rejected) -> bool {
        let said = rejected.said_as.as_ref().and_then(|id| self.rejected.get(id));
        said.into_iter().flatten().any(|first| {
            let same = first.reason == rejected.reason && first.digest == rejected.digest;
            same && first.message_id == rejected.message_id && first.account == rejected.account
        })
    }

    /// A closed record is kept for its retention period.
    pub(super) fn judge_expiry(&mut self, record: &Record) {
        let Some(settlement) = record.phase.settlement() else { return };
        let Some(published_at) = settlement.published_at else { return };
        let expires = settlement.expires_at;
        let kept = expires.is_some_and(|at| is_kept(published_at, at));
        self.check(kept, "G1", || {
            format!("{} was closed at {published_at} and is kept until {expires:?}", record.request_id)
        });
    }

    pub(super) fn note_published(&mut self, outcome: &Value, now: Millis) {
        let text = outcome.to_string();
        let Some(id) = outcome["requestId"].as_str().and_then(|id| id.parse::<RequestId>().ok()) else {
            return self.check(false, "I11", || format!("an outcome without a request id: {text}"));
        };
        let event = outcome["eventId"].as_str().unwrap_or_default().to_owned();
        let is_hash = event.len() == 64 && event.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.check(is_hash, "I11", || format!("an outcome of {id} has {event} as its event's id"));
        if let Some(first) = self.events.insert(event.clone(), text.clone()) {
            self.check(first == text, "I11", || format!("event {event} says {first} and {text}"));
        }
        if outcome["status"] == "rejected" {
            self.rejections += 1;
            self.note_refusal(&id, outcome, text, now);
        } else {
            self.judge_outcome(&id, outcome, &text);
            self.published.entry(id).or_default().insert(event);
        }
    }

    /// Judges the outcome of a record by what is stored, and by what the chain shows for its nonce.
    fn judge_outcome(&mut self, id: &RequestId, outcome: &Value, text: &str) {
        let expected = self.records.get(id).and_then(|record| Some((self.expected(record)?, record.metadata.clone())));
        let Some((expected, _)) = expected else {
            return self.check(false, "I6", || format!("{id} was published and is not settled: {text}"));
        };
        let reduced = self.judge_reduced(outcome, text);
        let fields = expected.as_object().expect("an outcome is an object");
        let is_judged = |name: &str| name != "reason" && !(reduced && name == "metadata");
        for (name, value) in fields.iter().filter(|(name, _)| is_judged(name)) {
            let same = outcome.get(name).is_some_and(|found| is_equal(found, value));
            self.check(same, "I6", || format!("{id}: `{name}` should be {value} in {text}"));
        }
        let code = &outcome["reason"]["code"];
        let wanted = &expected["reason"];
        self.check(code == wanted, "G3", || format!("{id}: the reason should be {wanted}, not {code}"));
        let names = outcome.as_object().into_iter().flat_map(|fields| fields.keys());
        let extra: Vec<_> =
            names.filter(|name| !fields.contains_key(*name) && !FREE.contains(&name.as_str())).cloned().collect();
        self.check(extra.is_empty(), "I6", || format!("{id}: unknown fields {extra:?} in {text}"));
    }

    /// Whether an outcome is published reduced, which is allowed only where the topic refuses full outcomes.
    fn judge_reduced(&mut self, outcome: &Value, text: &str) -> bool {
        let reduced = outcome["reduced"] == true;
        let reason = &outcome["reason"];
        let bare = outcome["metadata"].is_null() && reason["revert"].is_null() && reason["message"] == reason["code"];
        self.check(!reduced || bare && self.outcomes_refused, "G3", || {
            format!("an outcome is reduced without cause: {text}")
        });
        reduced
    }

    /// The outcome that a settled record must have, written with literals.
    fn expected(&self, record: &Record) -> Option<Value> {
        let Phase::Settled(settlement) = &record.phase else { return None };
        let chain = self.chains.get(&record.account.chain_id.0)?;
        let tx_hash = chain.used_by(record.account.address, record.nonce)?;
        let receipt = chain.receipt(tx_hash)?;
        let kind = self.attempts.get(&tx_hash).map(|attempt| attempt.kind);
        let status = match kind {
            None => "displaced",
            Some(AttemptKind::Cancel) => "cancelled",
            Some(AttemptKind::Execute) if receipt.succeeded => "confirmed",
            Some(AttemptKind::Execute) => "reverted",
        };
        let reason = match (status, &record.cancel) {
            ("confirmed", _) => Value::Null,
            ("cancelled", Some(CancelCause::Asked)) => json!("cancelled"),
            ("cancelled", Some(CancelCause::Deadline)) => json!("deadlinePassed"),
            ("cancelled", Some(CancelCause::AtCap)) => json!("atCapTooLong"),
            ("cancelled", Some(CancelCause::Refused(_))) => json!("refusedByNode"),
            ("cancelled", Some(CancelCause::Policy(reason))) => json!(reason.code),
            (status, _) => json!(status),
        };
        let mut expected = json!({
            "schema": "outcome.v1",
            "requestId": record.request_id.as_str(),
            "status": status,
            "digest": hex(&record.digest.0),
            "account": format!("{}:0x{}", record.account.chain_id.0, hex(&record.account.address.0)),
            "chainId": record.account.chain_id.0,
            "from": format!("0x{}", hex(&record.account.address.0)),
            "nonce": record.nonce.0,
            "txHash": hash(tx_hash),
            "blockNumber": receipt.block.number.0,
            "blockHash": format!("0x{}", hex(&receipt.block.hash.0)),
            "settledAt": settlement.settled_at.0,
            "witnesses": settlement.witnesses?,
            "messageId": self.creators.get(&record.request_id)?,
            "sender": record.sender.as_ref()?,
            "reason": reason,
        });
        if let Some(metadata) = self.wanted.get(&record.request_id).and_then(|wanted| wanted.metadata.clone()) {
            expected["metadata"] = metadata;
        }
        if kind.is_some() {
            expected["gasUsed"] = json!(receipt.gas_used?.0);
            expected["effectiveGasPrice"] = json!(receipt.effective_gas_price?.0.to_string());
        }
        Some(expected)
    }

    /// A refusal is its message's only outcome, is true, and is published only under an id that the message owns.
    fn note_refusal(&mut self, id: &RequestId, outcome: &Value, text: String, now: Millis) {
        let code = outcome["reason"]["code"].as_str().unwrap_or_default().to_owned();
        let message_id = outcome["messageId"].as_str().unwrap_or_default().to_owned();
        let Some(asked) = self.messages.get(&message_id) else {
            return self.check(false, "I15", || format!("an outcome of a message that was never sent: {text}"));
        };
        let allowed = self.may_refuse(asked, &code, now);
        let (names, created, what) = (asked.what.names().cloned(), asked.created, asked.what.clone());
        let (sender, first, chain_id) = (asked.sender.clone(), asked.refusals.first().cloned(), asked.chain_id);
        self.check(allowed, "G3", || format!("message {message_id} is refused as {code}, which it cannot be: {text}"));
        self.check(first.as_ref().is_none_or(|first| *first == text), "I15", || {
            format!("message {message_id} was answered with {first:?} and with {text}")
        });
        self.check(!created, "I15", || format!("message {message_id} was accepted, and then refused: {text}"));
        self.judge_ownership(id, &message_id, &sender, &code, names.as_ref());
        self.judge_stored(&message_id, &code, outcome);
        let reduced = self.judge_reduced(outcome, &text);
        let beside = outcome["reason"]["requestId"].as_str();
        let reported = beside.or_else(|| (!id.as_str().starts_with("sqs:")).then_some(id.as_str()));
        self.check(reported == names.as_ref().map(RequestId::as_str), "I15", || {
            format!("message {message_id} names {names:?}, and its refusal names another id: {text}")
        });
        if let ParsedMessage::Sign(named, contents) = &what {
            let metadata = outcome.get("metadata").cloned();
            let is_known = SENDERS.contains(&sender.as_str());
            let due = contents.metadata.clone().filter(|_| is_known);
            self.check(reduced || metadata == due, "I15", || format!("the metadata of {message_id} are lost: {text}"));
            if is_known {
                self.judge_repeat(named, &message_id, (chain_id, contents), &code);
            }
        }
        let reported = outcome["sender"].as_str();
        self.check(reported == Some(&*sender), "I15", || {
            format!("the refusal of {message_id} names {reported:?} as its sender")
        });
        if let Some(asked) = self.messages.get_mut(&message_id) {
            asked.refusals.push(text);
        }
    }

    /// A repeat of a recorded request is not refused, and `requestIdReused` means a real conflict.
    fn judge_repeat(&mut self, id: &RequestId, message_id: &str, asked: (u64, &Contents), code: &str) {
        let Some(record) = self.records.get(id) else {
            return self
                .check(code != "requestIdReused", "I15", || format!("{id} is reported as used, and has no record"));
        };
        let same = self.is_record_of(asked.0, asked.1, record);
        // A refusal that was stored before another message with the same contents got the slot stays the answer.
        let before = self.answered_before(message_id, self.reserved_at.get(id).copied().unwrap_or(record.created_at));
        self.check(!same || before, "I15", || {
            format!("message {message_id} asks for what {id} has a slot for, and is refused as {code}")
        });
    }

    /// A published refusal was stored before, for this message.
    fn judge_stored(&mut self, message_id: &str, code: &str, outcome: &Value) {
        let stored = self.first_answer(message_id);
        let message = outcome["reason"]["message"].as_str();
        let is_text = |text: &str| message == Some(if outcome["reduced"] == true { code } else { text });
        let fits = stored.is_some_and(|stored| stored.reason.code == code && is_text(&stored.reason.message));
        let stored = stored.map(|stored| stored.reason.clone());
        self.check(fits, "I15", || {
            format!("message {message_id} is refused as {code}: {message:?}, and {stored:?} is stored")
        });
    }

    fn answered_before(&self, message_id: &str, when: Millis) -> bool {
        self.first_answer(message_id).is_some_and(|stored| stored.created_at <= when)
    }

    /// The refusal of a message that was stored first, under its own id or under the id it names.
    fn first_answer(&self, message_id: &str) -> Option<&Rejected> {
        let own = format!("sqs:{message_id}").parse::<RequestId>().ok()?;
        let named = self.messages.get(message_id)?.what.names();
        let places = [Some(&own), named].into_iter().flatten().filter_map(|id| self.rejected.get(id));
        let mine = places.flatten().filter(|stored| stored.message_id.as_deref() == Some(message_id));
        mine.min_by_key(|stored| stored.created_at)
    }

    /// A refusal is not published under an id that its message does not own.
    fn judge_ownership(
        &mut self,
        id: &RequestId,
        message_id: &str,
        sender: &str,
        code: &str,
        names: Option<&RequestId>,
    ) {
        if id.as_str() == format!("sqs:{message_id}") {
            return;
        }
        self.check(names == Some(id), "I15", || {
            format!("message {message_id} names {names:?} and is refused under {id}")
        });
        let known = SENDERS.contains(&sender);
        self.check(known, "I15", || format!("{sender}, who may not use the account, has {id} reported as rejected"));
        // The id had no slot when the rejection was written. Another message may have created one since.
        let stored = self.rejected.get(id).is_some_and(|all| all.iter().any(|one| one.reason.code == code));
        self.check(stored, "I15", || format!("{id} is reported as rejected ({code}) and is not stored so"));
    }
}

/// Whether an item is kept for the retention period, and not for ever.
fn is_kept(from: Millis, until: Millis) -> bool {
    (RETENTION_MS..=RETENTION_MS + EXPIRY_SLACK_MS).contains(&until.since(from))
}

/// Equality that ignores the case, for addresses.
fn is_equal(found: &Value, wanted: &Value) -> bool {
    match (found.as_str(), wanted.as_str()) {
        (Some(found), Some(wanted)) => found.eq_ignore_ascii_case(wanted),
        _ => found == wanted,
    }
}

fn hash(hash: TxHash) -> String {
    format!("0x{}", hex(&hash.0))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
