//! A thief: an attacker who can write the tables and the resign queue, as a compromised broadcaster can, and who knows
//! the code. Every signature is compared with what signers accepted: nothing else may be signed (G8, I17).
//!
//! The thief changes every part of every record, forges records, copies seals, removes attempts so that a request is
//! signed again, cancels, renames heads, gives them other keys, and requests signatures, in an order that a seed
//! decides. Whether requests still finish is not checked: a writer of the tables can stop everything.
//!
//! Read next: [`crate::auditor`], which judges deployments without a thief.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{
    Entry, Interceptor, Journal, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock,
    sealer,
};
use signpost_txmgr::inbox::Incoming;
use signpost_txmgr::pins::{Pin, Pins};
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{AttemptKind, CancelCause, Phase, Record, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::tx::{Fee, UnsignedTx};
use signpost_txmgr::units::{AccountKey, ChainId, Digest, Gas, KmsKeyId, Millis, Nonce, RequestId, SigningHash, Wei};
use signpost_txmgr::wire::{SignerPoke, WireFee, WireKind};

use crate::mutants::{Mutant, MutantStore};
use crate::random::Random;

const START: Millis = Millis(1_795_348_800_000);
const STEPS: usize = 60;
/// Every requested price is below this.
const PRICES: u64 = 40;
const SENDER: &str = "AIDAGOOD";
const GOOD: &str = "0x55d398326f99059fF775485246999027B3197955";
const EVIL: &str = "0x9858EfFD232B4033E47d90003D41EC34EcaEda94";
const RULES: &str = r#"
[account.hot]
max_gas_price_wei = 20
allow_to = ["0x55d398326f99059fF775485246999027B3197955"]
allow_senders = ["AIDAGOOD"]
max_value_wei = 100

[account.loose]
max_gas_price_wei = 1000000
"#;

type AttackedSigner = Signer<MutantStore, MemoryKeys, MemoryQueues, MemoryTopic>;

/// The signer, its fakes, and what the thief did.
#[derive(Debug)]
struct ThiefTrial {
    store: MemoryStore,
    journal: Journal,
    signer: AttackedSigner,
    accounts: [(AccountKey, KmsKeyId); 2],
    random: Random,
    now: Millis,
    asked: u64,
    forged: u64,
    /// What signers accepted, as they reserved it.
    accepted: BTreeMap<RequestId, Record>,
    /// How many signatures were checked.
    signed: usize,
}

/// A signature that belongs to no accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stolen {
    /// The key that signed.
    pub key: KmsKeyId,
    /// The signed hash.
    pub hash: SigningHash,
}

/// How a trial ended.
#[derive(Debug)]
pub struct Ended {
    /// How many signatures were made.
    pub signed: usize,
    /// The signatures that belong to no accepted request.
    pub stolen: Vec<Stolen>,
}

/// Runs one trial. Only the mutants of the seal and the registry have an effect here.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>) -> Ended {
    let mut trial = ThiefTrial::new(seed, mutant);
    let mut stolen = Vec::new();
    for _ in 0..STEPS {
        trial.step();
        stolen.extend(trial.audit());
    }
    Ended { signed: trial.signed, stolen }
}

impl ThiefTrial {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let (interceptor, journal) = (Interceptor::default(), Journal::kept());
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
        let store = MemoryStore::new(interceptor.clone(), journal.clone());
        let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
        let chain = MemoryChain::new(ChainId(97), interceptor.clone(), journal.clone());
        let accounts = [("hot", 1), ("loose", 2)].map(|(name, secret)| {
            let key: KmsKeyId = format!("key-{name}").parse().unwrap();
            let account = AccountKey { chain_id: ChainId(97), address: keys.add(&key, [secret; 32]) };
            let head = Head::new(account, name.parse().unwrap(), key.clone(), Nonce(0), START);
            store.register(&head).now_or_never().unwrap().unwrap();
            (account, key)
        });
        let heads = store.with_tables(|tables| tables.heads.values().map(Pin::of).collect::<Vec<_>>());
        let pins = if mutant == Some(Mutant::TrustsRegistry) { Pins::Registry } else { Pins::listed(heads).unwrap() };
        let config = SignerConfig {
            pins,
            sealer: sealer(),
            chain_id: ChainId(97),
            policies: Policies::from_toml(RULES).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: 1_000_000,
            sign_concurrency: 2,
        };
        let queues = MemoryQueues::new(QueueRules::STANDARD, &SimClock::at(START), &interceptor, &journal);
        let mutant_store = MutantStore { inner: store.clone(), mutant, chain, topic: topic.clone() };
        let signer = Signer::new(mutant_store, keys, queues, topic, config);
        let (random, now) = (Random::new(seed), START);
        Self {
            store,
            journal,
            signer,
            accounts,
            random,
            now,
            asked: 0,
            forged: 0,
            accepted: BTreeMap::new(),
            signed: 0,
        }
    }

    fn step(&mut self) {
        // Marks of unusable keys are checked again once a minute.
        self.now = self.now.plus(self.random.below(90_000));
        match self.random.below(10) {
            0..=2 => self.send_request(),
            3 => self.forge(),
            4 => self.change_head(),
            5..=7 => self.change_record(),
            _ => {}
        }
        self.ask();
    }

    /// Sends a request, of an allowed sender or another.
    fn send_request(&mut self) {
        self.asked += 1;
        let (account, to, sender) = match self.random.below(4) {
            0 => ("hot", EVIL, SENDER),
            1 => ("hot", GOOD, "STRANGER"),
            2 => ("loose", EVIL, "STRANGER"),
            _ => ("hot", GOOD, SENDER),
        };
        let (id, value) = (format!("pay-{}", self.asked), self.random.below(100));
        let body = format!(
            r#"{{"requestId":"{id}","account":"{account}","to":"{to}","value":{value},"gas":21000,"gasPrice":5}}"#
        );
        let delivery = Incoming {
            receipt: String::new(),
            message_id: format!("m-{id}"),
            group: None,
            sender: Some(sender.to_owned()),
            trace: None,
            receives: 1,
            body,
        };
        self.signer.handle(&[delivery], self.now).now_or_never().unwrap();
    }

    fn records(&self) -> Vec<Record> {
        let of = |stored: &Stored| match stored {
            Stored::Record(record) => Some((**record).clone()),
            Stored::Rejected(_) => None,
        };
        self.store.with_tables(|tables| tables.requests.values().filter_map(of).collect())
    }

    fn one_record(&mut self) -> Option<Record> {
        let records = self.records();
        if records.is_empty() { None } else { Some(records[self.random.place(records.len())].clone()) }
    }

    fn put(&self, record: Record) {
        let id = record.request_id.clone();
        self.store.with_tables(|tables| tables.requests.insert(id, Stored::Record(Box::new(record))));
    }

    /// Stores a forged record: a copy of a real one, including its seal.
    fn forge(&mut self) {
        let Some(mut record) = self.one_record() else { return };
        self.forged += 1;
        record.request_id = format!("forged-{}", self.forged).parse().unwrap();
        record.attempts.clear();
        record.phase = Phase::Reserved;
        record.version = 0;
        if self.random.per_mille(700) {
            let next = self.store.with_tables(|tables| tables.heads[&record.account].next_nonce);
            record.nonce = next.plus(self.random.below(2));
        }
        if self.random.per_mille(500) {
            record.intent.to = Some(EVIL.parse().unwrap());
        }
        if self.random.per_mille(300) {
            record.seal = None;
        }
        self.put(record);
    }

    fn change_record(&mut self) {
        let Some(mut record) = self.one_record() else { return };
        let again = self.random.per_mille(700);
        match self.random.below(16) {
            0 => record.nonce = record.nonce.plus(1),
            1 => record.intent.to = Some(EVIL.parse().unwrap()),
            2 => record.intent.value = Wei::from(1_000),
            3 => record.intent.data = Arc::from([1, 2, 3]),
            4 => record.intent.gas = Gas(30_000),
            5 => record.fee = Fee::Legacy { gas_price: Wei::from(self.random.below(PRICES)) },
            6 => record.fee_cap = Wei::from(1_000),
            7 => record.name = "loose".parse().unwrap(),
            8 => record.account = self.accounts[self.random.place(2)].0,
            9 => record.sender = Some(SENDER.to_owned()),
            10 => record.deadline = None,
            11 => record.digest = Digest([7; 32]),
            12 => record.metadata = Some(serde_json::json!({"order": 1})),
            13 => record.cancel = Some(CancelCause::Asked),
            14 => record.waiting = None,
            _ => {
                let other = self.one_record();
                record.seal = other.and_then(|other| other.seal);
            }
        }
        if again {
            record.attempts.clear();
            record.phase = Phase::Reserved;
        }
        self.put(record);
    }

    fn change_head(&mut self) {
        let (account, other) = (self.accounts[self.random.place(2)].0, self.accounts[self.random.place(2)].1.clone());
        let (what, back) = (self.random.below(5), self.random.per_mille(500));
        self.store.with_tables(|tables| {
            let Some(head) = tables.heads.get_mut(&account) else { return };
            match what {
                0 => head.name = (if back { "hot" } else { "loose" }).parse().unwrap(),
                1 => head.kms_key_id = other,
                2 => head.unusable = None,
                3 => head.spend = None,
                _ => head.next_nonce = head.next_nonce.plus(1),
            }
        });
    }

    /// Requests the next attempt of some request.
    fn ask(&mut self) {
        let Some(record) = self.one_record() else { return };
        let price = Fee::Legacy { gas_price: Wei::from(self.random.below(PRICES)) };
        let ask = SignerPoke {
            account: record.account.to_string(),
            request_id: record.request_id.to_string(),
            attempt: record.attempts.len(),
            kind: WireKind::from(record.next_kind()),
            to_self: self.random.below(2),
            fee: (!record.attempts.is_empty()).then(|| WireFee::from(&price)),
            cause: "thief".to_owned(),
        };
        self.signer.handle_asks(&[ask], self.now).now_or_never().unwrap();
    }

    /// The signatures since the last call that are not an attempt of an accepted request.
    fn audit(&mut self) -> Vec<Stolen> {
        let mut stolen = Vec::new();
        for entry in self.journal.drain() {
            if let Entry::Reserved(records) = entry {
                let rightly = records.into_iter().filter(|record| self.is_allowed(record));
                let rightly: Vec<_> = rightly.map(|record| (record.request_id.clone(), record)).collect();
                self.accepted.extend(rightly);
            } else if let Entry::KmsSigned(key, hash, _) = entry {
                self.signed += 1;
                if !self.accepted.values().any(|record| self.may_be(record, &key, &hash)) {
                    stolen.push(Stolen { key, hash });
                }
            }
        }
        stolen
    }

    /// Whether the rules of the account's own name allow it, whichever name the head has now.
    fn is_allowed(&self, record: &Record) -> bool {
        let is_hot = record.account == self.accounts[0].0;
        let by_hots_rules = record.intent.to == Some(GOOD.parse().unwrap()) && record.sender.as_deref() == Some(SENDER);
        !is_hot || by_hots_rules
    }

    /// Whether it is an attempt of this request at some price, with the key of its account.
    fn may_be(&self, record: &Record, key: &KmsKeyId, hash: &SigningHash) -> bool {
        let is_its_key = self.accounts.iter().any(|(account, own)| *account == record.account && own == key);
        let kinds = [(AttemptKind::Execute, 0), (AttemptKind::Cancel, 0), (AttemptKind::Cancel, 1)];
        is_its_key
            && kinds.into_iter().any(|(kind, to_self)| {
                let intent = record.intent_of(kind, Wei::from(to_self));
                (0..=PRICES).any(|price| {
                    let fee = Fee::Legacy { gas_price: Wei::from(price) };
                    UnsignedTx { intent: &intent, nonce: record.nonce, fee }.signing_hash() == *hash
                })
            })
    }
}
