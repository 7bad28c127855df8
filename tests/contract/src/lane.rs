//! A test account with a key of its own, and requests in every state. Read next: [`crate::store`].

use std::collections::BTreeMap;
use std::sync::Arc;

use signpost_txmgr::account::{Head, Reservation};
use signpost_txmgr::fake::sealer;
use signpost_txmgr::machine::{Event, apply};
use signpost_txmgr::ports::{RegisterVerdict, ReserveVerdict, Store};
use signpost_txmgr::record::{
    Acceptance, Attempt, BlockRef, Phase, Reason, Receipt, Record, Rejected, SendAnswer, SendClass, Stored,
};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{Fee, Intent, UnsignedTx};
use signpost_txmgr::units::{
    AccountKey, BlockHash, BlockNumber, ChainId, Digest, Gas, Millis, Nonce, RequestId, Wei, sha256,
};

/// The time at which a claim begins.
pub const NOW: Millis = Millis(1_790_000_000_000);

/// The lane of one claim.
#[derive(Debug, Clone)]
pub struct TestLane {
    name: &'static str,
    key: LocalKey,
}

impl TestLane {
    /// A lane that no other claim uses.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, key: LocalKey::new(sha256(name.as_bytes())) }
    }

    /// The secret of its key.
    #[must_use]
    pub fn secret(&self) -> [u8; 32] {
        sha256(self.name.as_bytes())
    }

    /// Its key in the accounts table.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        AccountKey { chain_id: ChainId(97), address: self.key.public_key().address() }
    }

    /// A request id that no other claim uses.
    #[must_use]
    pub fn id(&self, at: u64) -> RequestId {
        format!("{}:{at}", self.name).parse().unwrap()
    }

    /// Its head when it is registered, at nonce 0.
    #[must_use]
    pub fn head(&self) -> Head {
        let kms_key_id = format!("alias/{}", self.name).parse().unwrap();
        Head::new(self.account(), self.name.parse().unwrap(), kms_key_id, Nonce(0), NOW)
    }

    /// Registers it, and asserts that it was new.
    pub async fn register(&self, store: &impl Store) -> Head {
        let head = self.head();
        assert_eq!(store.register(&head).await.unwrap(), RegisterVerdict::Registered);
        head
    }

    /// The head as it is stored.
    pub async fn stored_head(&self, store: &impl Store) -> Head {
        store.head(&self.account()).await.unwrap().expect("the account is registered")
    }

    /// Request `at`, with a slot at `nonce` and no signature.
    #[must_use]
    pub fn record(&self, at: u64, nonce: Nonce) -> Record {
        let request_id = self.id(at);
        let record = Record {
            digest: Digest(sha256(request_id.as_str().as_bytes())),
            request_id,
            version: 1,
            account: self.account(),
            name: self.name.parse().unwrap(),
            nonce,
            intent: Intent {
                chain_id: ChainId(97),
                to: Some(self.account().address),
                value: Wei::from(at),
                data: Arc::from([0xa9, 0x05, 0x9c, 0xbb]),
                gas: Gas(60_000),
            },
            fee: Fee::Legacy { gas_price: Wei::from_gwei(1) },
            fee_cap: Wei::from_gwei(5),
            deadline: Some(Millis(NOW.0 + 600_000)),
            acceptance: Some(Acceptance {
                policy_digest: Digest([0x70; 32]),
                code_version: "0.1.0+0123abcd".to_owned(),
                names_fee: true,
                max_gas_price: Some(Wei::from_gwei(7)),
                pool: Some("payouts".parse().unwrap()),
            }),
            metadata: Some(serde_json::json!({ "order": at, "of": self.name })),
            sender: Some("AIDAEXAMPLE".to_owned()),
            message_id: Some(format!("m-{at}")),
            trace: None,
            seal: None,
            attempts: Vec::new(),
            cancel: None,
            inquiry: None,
            waiting: None,
            capped_since: None,
            max_head_ms: Some(600_000),
            phase: Phase::Reserved,
            created_at: NOW,
            updated_at: NOW,
        };
        let digest = record.asked().expect("it says how it was asked").digest(&record.account);
        let record = Record { digest, ..record };
        Record { seal: Some(sealer().seal(&record)), ..record }
    }

    /// Requests `from..from + count` for the next slots of `head`.
    #[must_use]
    pub fn group(&self, head: &Head, from: u64, count: u64) -> Reservation {
        let records = (0..count).map(|at| self.record(from + at, head.next_nonce.plus(at))).collect();
        Reservation { head: head.clone(), records, spend: None, sender_counts: None, replaces: BTreeMap::new() }
    }

    /// Registers the lane and reserves requests `0..count`, in the largest groups allowed.
    pub async fn reserved(&self, store: &impl Store, count: u64) -> Vec<Record> {
        let mut head = self.register(store).await;
        let most = u64::try_from(Reservation::MAX_RECORDS).unwrap();
        let mut records = Vec::new();
        while head.next_nonce.0 < count {
            let group = self.group(&head, head.next_nonce.0, most.min(count - head.next_nonce.0));
            assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
            records.extend(group.records);
            head = self.stored_head(store).await;
        }
        records
    }

    /// The record with one more attempt at this price, with a real signature.
    #[must_use]
    pub fn signed(&self, record: &Record, gwei: u64) -> Record {
        let (kind, fee) = (record.next_kind(), Fee::Legacy { gas_price: Wei::from_gwei(gwei) });
        let intent = record.intent_of(kind, Wei::ZERO);
        let unsigned = UnsignedTx { intent: &intent, nonce: record.nonce, fee };
        let hash = unsigned.signing_hash();
        let signature = self.key.public_key().signature(&hash, &self.key.sign_der(&hash, true)).unwrap();
        let tx_hash = unsigned.sign(&signature).hash;
        let attempt = Attempt {
            kind,
            to_self: Wei::ZERO,
            fee,
            signature,
            tx_hash,
            signed_at: NOW,
            kms_request_id: Some("11111111-2222-4333-8444-555555555555".to_owned()),
            sent: None,
        };
        after(record, &Event::Signed { number: record.attempts.len(), attempt })
    }

    /// Request `at`, refused.
    #[must_use]
    pub fn rejected(&self, at: u64) -> Rejected {
        Rejected {
            request_id: self.id(at),
            digest: None,
            account: Some(self.account()),
            reason: Reason {
                code: "feeAboveCap".to_owned(),
                message: "gasPrice is above the cap".to_owned(),
                revert: None,
                request_id: None,
            },
            metadata: None,
            sender: None,
            message_id: Some(format!("m-{at}")),
            said_as: None,
            created_at: NOW,
            published_at: None,
            expires_at: None,
        }
    }
}

/// The record after an event, a second later.
#[must_use]
pub fn after(record: &Record, event: &Event) -> Record {
    apply(record, event, Millis(record.updated_at.0 + 1_000)).unwrap()
}

/// The record with its newest attempt sent.
#[must_use]
pub fn sent(record: &Record, class: SendClass) -> Record {
    let number = record.attempts.len() - 1;
    after(record, &Event::Sent { number, answer: SendAnswer::new(class, "the node's words") })
}

/// A receipt of the newest attempt.
#[must_use]
pub fn receipt(record: &Record, number: u64, succeeded: bool) -> Receipt {
    Receipt {
        tx_hash: record.attempts.last().expect("it is signed").tx_hash,
        block: BlockRef { number: BlockNumber(number), hash: BlockHash(sha256(&number.to_be_bytes())) },
        succeeded,
        gas_used: Some(Gas(51_234)),
        effective_gas_price: Some(Wei::from_gwei(1)),
        contract: None,
    }
}

/// The record under an id.
pub async fn load_one(store: &impl Store, id: &RequestId) -> Option<Stored> {
    let mut found = store.load(std::slice::from_ref(id), NOW).await.unwrap();
    assert!(found.len() <= 1);
    found.pop()
}
