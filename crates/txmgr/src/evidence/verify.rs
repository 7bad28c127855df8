//! Verifies evidence: checks every claim of a file that follows from the rest of the file.
//!
//! Read next: [`crate::header`].

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{SCHEMA, call, compute, prefixed_hex};
use crate::header;
use crate::record::{Acceptance, AttemptKind, Phase, Record};
use crate::seal::Sealer;
use crate::tx::{Fee, Intent, Signature};
use crate::units::{AccountKey, ChainId, Digest, Gas, Millis, Nonce, Wei, keccak256};
use crate::wire::evidence::{Evidence, EvidenceAttempt, SealCheck};
use crate::wire::{Status, WireKind, hex_digest};

/// What no file can prove, and how to check it elsewhere.
pub const UNPROVEN: [&str; 6] = [
    "that the block is in the chain: ask a node you trust for the hash at its height",
    "that the transaction is in the block: the receipt is a node's claim; ask a node you trust",
    "the request's id, its account's name, its cap, its sender and message: the seal covers them, but only its key can prove it",
    "that the policy with this digest allows the request: find the file with this SHA-256 and run `signpost policy check`",
    "that KMS made the signatures: look for the KMS request ids in CloudTrail",
    "the times, the nodes' answers, the witnesses and the reason: they are claims of the record",
];

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked: `digest`, `attempt 0: signature`.
    pub name: String,
    /// The result.
    pub finding: Finding,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The claim holds; what was compared.
    Fits(String),
    /// The claim does not hold; why.
    Fails(String),
    /// The file lacks data for the check; what is missing.
    NotChecked(String),
}

/// Runs every check of a file, in order. The seal is checked only with its key.
#[must_use]
pub fn verify(evidence: &Evidence, sealer: Option<&Sealer>) -> Vec<Check> {
    let mut checks = Checks::default();
    checks.equal("schema", "this is evidence.v1", SCHEMA, &evidence.schema);
    let record = match record_of(evidence) {
        Ok(record) => record,
        Err(problem) => {
            checks.put("request", Finding::Fails(problem));
            return checks.0;
        }
    };
    checks.request(evidence, &record);
    checks.seal(evidence, &record, sealer);
    for (at, attempt) in (0_u64..).zip(&evidence.attempts) {
        checks.attempt(&record, at, attempt);
    }
    checks.outcome(evidence);
    checks.0
}

/// Parses the request into a record without attempts, or says what is wrong with it.
fn record_of(evidence: &Evidence) -> Result<Record, String> {
    let request = &evidence.request;
    let account: AccountKey = parsed("account", &request.account)?;
    let acceptance = match &request.asked {
        None => None,
        Some(asked) => Some(Acceptance {
            policy_digest: digest_of("policyDigest", evidence.policy_digest.as_deref().unwrap_or_default())?,
            code_version: evidence.code_version.clone().unwrap_or_default(),
            names_fee: asked.names_fee,
            max_gas_price: asked.max_gas_price.as_ref().map(|price| parsed("asked.maxGasPrice", price)).transpose()?,
            pool: asked.pool.as_ref().map(|pool| parsed("asked.pool", pool)).transpose()?,
        }),
    };
    let deadline = request.deadline.map(|seconds| {
        seconds.checked_mul(1_000).map(Millis).ok_or_else(|| "deadline is too far in the future".to_owned())
    });
    Ok(Record {
        request_id: parsed("requestId", &request.request_id)?,
        digest: digest_of("digest", &request.digest)?,
        version: 0,
        account,
        name: parsed("accountName", &request.account_name)?,
        nonce: Nonce(request.nonce),
        intent: Intent {
            chain_id: ChainId(request.chain_id),
            to: request.to.as_ref().map(|to| parsed("to", to)).transpose()?,
            value: parsed("value", &request.value)?,
            data: Arc::from(bytes("data", &request.data)?),
            gas: Gas(request.gas),
        },
        fee: request.fee.fee().ok_or("fee is not a valid price")?,
        fee_cap: parsed("feeCap", &request.fee_cap)?,
        deadline: deadline.transpose()?,
        acceptance,
        max_head_ms: request.max_head_ms,
        metadata: request.metadata.clone(),
        sender: request.sender.clone(),
        message_id: request.message_id.clone(),
        trace: None,
        seal: evidence.seal.as_ref().map(|seal| parsed("seal", seal)).transpose()?,
        attempts: Vec::new(),
        cancel: None,
        capped_since: None,
        inquiry: None,
        waiting: None,
        phase: Phase::Reserved,
        created_at: Millis(request.created_at),
        updated_at: Millis(request.created_at),
    })
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn put(&mut self, name: impl Into<String>, finding: Finding) {
        self.0.push(Check { name: name.into(), finding });
    }

    /// Compares a computed value with the file's.
    fn equal(&mut self, name: impl Into<String>, meaning: &str, computed: impl Display, claimed: impl Display) {
        let (computed, claimed) = (computed.to_string(), claimed.to_string());
        let finding = if computed == claimed {
            Finding::Fits(meaning.to_owned())
        } else {
            Finding::Fails(format!("the file has {claimed}, but it is {computed}"))
        };
        self.put(name, finding);
    }

    /// Adds a check that passes if `wrong` is `None`; `wrong` says why it fails.
    fn holds(&mut self, name: impl Into<String>, meaning: &str, wrong: Option<String>) {
        self.put(name, wrong.map_or_else(|| Finding::Fits(meaning.to_owned()), Finding::Fails));
    }

    fn request(&mut self, evidence: &Evidence, record: &Record) {
        let request = &evidence.request;
        let account = AccountKey { chain_id: ChainId(request.chain_id), address: record.account.address };
        let same = record.account == account && record.account.address.to_string() == request.from;
        let wrong = format!("{} is not chain {} and {}", request.account, request.chain_id, request.from);
        self.holds("account", "account, chain and address agree", (!same).then_some(wrong));
        match record.asked() {
            Some(asked) => {
                let digest = hex_digest(&asked.digest(&record.account));
                self.equal("digest", "the request in the file has this digest", digest, &request.digest);
            }
            None => {
                self.put(
                    "digest",
                    Finding::NotChecked("the file does not have the original request's price and account".to_owned()),
                );
            }
        }
        let wrong =
            (call::of(&record.intent) != evidence.call).then(|| "the calldata decodes to something else".to_owned());
        self.holds("call", "it matches the calldata", wrong);
        let finding = match &evidence.policy_digest {
            Some(digest) => match digest_of("policyDigest", digest) {
                Ok(_) => Finding::Fits(format!("accepted by the policy {digest}")),
                Err(problem) => Finding::Fails(problem),
            },
            None => Finding::NotChecked("the record is from a version that did not store it".to_owned()),
        };
        self.put("policy", finding);
    }

    fn seal(&mut self, evidence: &Evidence, record: &Record, sealer: Option<&Sealer>) {
        let finding = match (sealer, evidence.seal_check) {
            (Some(sealer), _) => match sealer.check(record, &record.name) {
                Ok(()) => Finding::Fits("a signer accepted the request as it is in the file".to_owned()),
                Err(fault) => Finding::Fails(fault.to_string()),
            },
            (None, SealCheck::Fits) => {
                Finding::NotChecked("the maker of the file says that it fits; only its key can prove it".to_owned())
            }
            (None, SealCheck::DoesNotFit) => {
                Finding::Fails("the maker of the file found that it does not fit".to_owned())
            }
            (None, SealCheck::NotChecked) => Finding::NotChecked("the maker of the file had no key either".to_owned()),
        };
        self.put("seal", finding);
    }

    fn attempt(&mut self, record: &Record, at: u64, attempt: &EvidenceAttempt) {
        let name = |what: &str| format!("attempt {at}: {what}");
        let (intent, fee, signature) = match parts_of(record, at, attempt) {
            Ok(parts) => parts,
            Err(problem) => return self.put(name("parts"), Finding::Fails(problem)),
        };
        let computed = compute(record, &intent, fee, &signature);
        self.equal(name("signing hash"), "it is the request's", computed.signing_hash, &attempt.signing_hash);
        let from = record.account.address.to_string();
        let recovered = computed.recovered.unwrap_or_else(|| "no address".to_owned());
        let claimed = attempt.recovered.clone().unwrap_or_else(|| "no address".to_owned());
        let wrong = (recovered != from || claimed != from)
            .then(|| format!("it recovers to {recovered}, the file has {claimed}, and the account is {from}"));
        self.holds(name("signature"), &format!("low s, and it recovers to {from}"), wrong);
        let raw = prefixed_hex(&computed.raw);
        let wrong =
            (raw != attempt.raw).then(|| "they do not encode the request with this price and signature".to_owned());
        self.holds(name("raw bytes"), "they encode the request with this price and signature", wrong);
        let hash = bytes("raw", &attempt.raw).map(|raw| prefixed_hex(&keccak256(&raw)));
        match hash {
            Ok(hash) => self.equal(name("hash"), "it is the raw bytes' hash", hash, &attempt.tx_hash),
            Err(problem) => self.put(name("hash"), Finding::Fails(problem)),
        }
        if attempt.kind == WireKind::Execute {
            let (price, cap) = (fee.price(), record.fee_cap);
            let is_first = at > 0 || fee == record.fee;
            let wrong = (price > cap || !is_first)
                .then(|| format!("{price} wei per gas is not the request's price, or is above its cap of {cap}"));
            self.holds(name("price"), "it is the request's, or within its cap", wrong);
        }
    }

    fn outcome(&mut self, evidence: &Evidence) {
        let outcome = &evidence.outcome;
        let decided = evidence.attempts.iter().find(|attempt| Some(&attempt.tx_hash) == outcome.tx_hash.as_ref());
        let kind = decided.map(|attempt| attempt.kind);
        let fits = match outcome.status {
            Status::Confirmed | Status::Reverted => kind == Some(WireKind::Execute),
            Status::Cancelled => kind == Some(WireKind::Cancel),
            Status::Mined => kind.is_some(),
            Status::Displaced => kind.is_none() && outcome.tx_hash.is_some(),
            Status::Reserved | Status::Signed | Status::Sent => outcome.tx_hash.is_none(),
            Status::Rejected => false,
        };
        let status = outcome.status.as_str();
        let wrong = (!fits).then(|| format!("no transaction of this file makes it {status}"));
        self.holds("outcome", &format!("{status} agrees with the attempts"), wrong);
        let hashes: BTreeSet<&String> = evidence.attempts.iter().map(|attempt| &attempt.tx_hash).collect();
        if hashes.len() < evidence.attempts.len() {
            self.put("attempts", Finding::Fails("two of them are the same transaction".to_owned()));
        }
        if outcome.tx_hash.is_none() {
            return self.put("block", Finding::NotChecked("no attempt was mined when the file was made".to_owned()));
        }
        let missing = || Finding::NotChecked("the file has none: the node did not return it".to_owned());
        match &evidence.receipt {
            Some(receipt) => self.receipt(evidence, receipt),
            None => self.put("receipt", missing()),
        }
        match &evidence.header {
            Some(header) => self.header(evidence, header),
            None => self.put("block header", missing()),
        }
    }

    fn receipt(&mut self, evidence: &Evidence, receipt: &Map<String, Value>) {
        let outcome = &evidence.outcome;
        let hex_number = |number: u64| format!("0x{number:x}");
        let mut expected = vec![
            ("transactionHash", outcome.tx_hash.clone()),
            ("blockHash", outcome.block_hash.clone()),
            ("blockNumber", outcome.block_number.map(hex_number)),
        ];
        if outcome.status != Status::Displaced {
            let succeeded = outcome.status != Status::Reverted;
            let price = outcome.effective_gas_price.as_ref().and_then(|price| price.parse::<Wei>().ok());
            expected.push(("gasUsed", outcome.gas_used.map(hex_number)));
            expected.push(("effectiveGasPrice", price.map(|price| format!("{:#x}", price.0))));
            expected.push(("contractAddress", outcome.contract_address.as_ref().map(|address| address.to_lowercase())));
            expected.push(("from", Some(evidence.request.from.to_lowercase())));
            // A receipt that is not final may have either status.
            if outcome.status != Status::Mined {
                expected.push(("status", Some(hex_number(u64::from(succeeded)))));
            }
        }
        let wrong: Vec<String> = expected
            .into_iter()
            .filter_map(|(name, expected)| Some((name, expected?)))
            .filter_map(|(name, expected)| {
                let actual = receipt.get(name).and_then(Value::as_str).unwrap_or("nothing").to_lowercase();
                (actual != expected).then(|| format!("{name} is {actual}, but {expected} by the outcome"))
            })
            .collect();
        self.holds("receipt", "it agrees with the outcome", (!wrong.is_empty()).then(|| wrong.join("; ")));
    }

    fn header(&mut self, evidence: &Evidence, header: &Map<String, Value>) {
        let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or("nothing").to_lowercase();
        match header::hash(header) {
            Ok(hash) => self.equal("block header", "its hash is the hash of its fields", hash, text(header::HASH)),
            Err(error) => self.put("block header", Finding::Fails(error.to_string())),
        }
        let outcome = &evidence.outcome;
        let hash = outcome.block_hash.clone().unwrap_or_else(|| "nothing".to_owned());
        let number = outcome.block_number.map_or_else(|| "nothing".to_owned(), |number| format!("0x{number:x}"));
        let is_same = text(header::HASH) == hash && text("number") == number;
        let wrong = format!(
            "the header is block {} at {}, the outcome's block is {hash} at {number}",
            text("hash"),
            text("number")
        );
        self.holds("block", "the header is the outcome's block", (!is_same).then_some(wrong));
    }
}

fn parts_of(record: &Record, at: u64, attempt: &EvidenceAttempt) -> Result<(Intent, Fee, Signature), String> {
    if attempt.number != at {
        return Err(format!("its number is {}", attempt.number));
    }
    let kind = match attempt.kind {
        WireKind::Execute => AttemptKind::Execute,
        WireKind::Cancel => AttemptKind::Cancel,
    };
    let to_self = attempt.to_self.as_ref().map_or(Ok(Wei::ZERO), |wei| parsed("toSelf", wei))?;
    let fee = attempt.fee.fee().ok_or("fee is not a valid price")?;
    let half = |name: &str, text: &str| {
        let bytes: [u8; 32] = bytes(name, text)?.try_into().map_err(|_| format!("{name} is not 32 bytes long"))?;
        Ok::<_, String>(bytes)
    };
    let y_odd = match attempt.signature.y_parity {
        0 => false,
        1 => true,
        _ => return Err("yParity is neither 0 nor 1".to_owned()),
    };
    let signature = Signature { r: half("r", &attempt.signature.r)?, s: half("s", &attempt.signature.s)?, y_odd };
    Ok((record.intent_of(kind, to_self), fee, signature))
}

fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name} {error}"))
}

/// Parses 64 hex digits without a prefix.
fn digest_of(name: &str, text: &str) -> Result<Digest, String> {
    parsed(name, &format!("0x{text}"))
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("{name} does not start with 0x"))?;
    hex::decode(digits).map_err(|_| format!("{name} is not hexadecimal"))
}
