//! I9 with the real driver: for every policy, all requests and every change of the rules between accepting and
//! signing, the key service never gets anything that the rules refuse.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may end at the first surprise")]

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use proptest::prelude::*;
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{
    Entry, Interceptor, Journal, KeyState, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock,
    sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{AttemptKind, Record, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::tx::{Fee, UnsignedTx};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, SigningHash, U256, Wei};
use signpost_txmgr::wire::{SignerPoke, WireFee, WireKind};

const NOW: Millis = Millis(1_795_348_800_000);
const TO: [&str; 2] = ["0x55d398326f99059ff775485246999027b3197955", "0x9858effd232b4033e47d90003d41ec34ecaeda94"];
const SELECTOR: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
const SENDERS: [&str; 2] = ["AIDA1", "AROA2:job-7"];
/// The price of a bump, in wei per gas.
const BUMPED: u64 = 14;

/// Rules as plain numbers: the source of the policy file and of the test's own verdict.
#[derive(Debug, Clone)]
struct Rules {
    cap: u64,
    allow_to: Option<usize>,
    deny_to: Option<usize>,
    creation: bool,
    max_value: Option<u64>,
    max_gas: Option<u64>,
    max_data: Option<usize>,
    max_deadline_s: Option<u64>,
    selectors: Option<usize>,
    sender: Option<usize>,
    spend_limit: Option<u64>,
}

/// A request as plain numbers.
#[derive(Debug, Clone)]
struct Asked {
    to: Option<usize>,
    value: u64,
    data: Vec<u8>,
    gas: u64,
    price: u64,
    sender: Option<usize>,
    deadline_s: Option<u64>,
}

fn rules() -> impl Strategy<Value = Rules> {
    let which = || proptest::option::weighted(0.25, 0..2_usize);
    let limits = (
        proptest::option::weighted(0.3, 0..6_u64),
        proptest::option::weighted(0.3, 50_000..130_000_u64),
        proptest::option::weighted(0.3, 0..8_usize),
        proptest::option::weighted(0.2, 1..100_u64),
        proptest::option::weighted(0.4, 200_000..3_000_000_u64),
    );
    (4..16_u64, (which(), which(), which(), which()), any::<bool>(), limits).prop_map(
        |(cap, (allow_to, deny_to, selectors, sender), creation, limits)| {
            let (max_value, max_gas, max_data, max_deadline_s, spend_limit) = limits;
            Rules {
                cap,
                allow_to,
                deny_to,
                creation,
                max_value,
                max_gas,
                max_data,
                max_deadline_s,
                selectors,
                sender,
                spend_limit,
            }
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let data = prop_oneof![Just(vec![]), Just(SELECTOR.to_vec()), Just(vec![9; 4]), Just(vec![1; 7])];
    let to = proptest::option::weighted(0.9, 0..2_usize);
    let sender = proptest::option::weighted(0.8, 0..2_usize);
    let deadline_s = proptest::option::weighted(0.6, 1..130_u64);
    (to, 0..8_u64, data, 60_000..120_000_u64, 3..16_u64, sender, deadline_s).prop_map(
        |(to, value, data, gas, price, sender, deadline_s)| Asked { to, value, data, gas, price, sender, deadline_s },
    )
}

impl Rules {
    fn file(&self) -> String {
        let mut file = format!("[default]\nmax_gas_price_wei = {}\nallow_creation = {}\n", self.cap, self.creation);
        let mut put = |rule: Option<String>| file.extend(rule.map(|rule| rule + "\n"));
        put(self.allow_to.map(|at| format!("allow_to = [\"{}\"]", TO[at])));
        put(self.deny_to.map(|at| format!("deny_to = [\"{}\"]", TO[at])));
        put(self.max_value.map(|wei| format!("max_value_wei = {wei}")));
        put(self.max_gas.map(|gas| format!("max_gas = {gas}")));
        put(self.max_data.map(|bytes| format!("max_data_bytes = {bytes}")));
        put(self.max_deadline_s.map(|seconds| format!("max_deadline_s = {seconds}")));
        put(self.sender.map(|at| format!("allow_senders = [\"{}\"]", ["AIDA1", "AROA2:*"][at])));
        put(self.spend_limit.map(|wei| format!("spend_limit_wei = {wei}\nspend_window_s = 60")));
        put(self.selectors.map(|at| format!("[default.allow_selectors]\n\"{}\" = [\"0xa9059cbb\"]", TO[at])));
        file
    }

    /// Whether a request may be executed at this price, implemented independently of the policy's code.
    fn allow(&self, asked: &Asked, price: U256, fee_cap: u64, now: Millis) -> bool {
        let to = match asked.to {
            None => self.creation,
            Some(at) => {
                self.allow_to.is_none_or(|only| only == at)
                    && self.deny_to != Some(at)
                    && (self.selectors != Some(at) || asked.data == SELECTOR)
            }
        };
        let deadline = self
            .max_deadline_s
            .is_none_or(|limit| asked.deadline_s.is_some_and(|at| NOW.0 + at * 1_000 <= now.0 + limit * 1_000));
        to && deadline
            && price <= U256::from(self.cap)
            && self.spend_limit.is_none_or(|limit| asked.value + asked.gas * fee_cap <= limit)
            && self.max_value.is_none_or(|limit| asked.value <= limit)
            && self.max_gas.is_none_or(|limit| asked.gas <= limit)
            && self.max_data.is_none_or(|limit| asked.data.len() <= limit)
            && self.sender.is_none_or(|only| asked.sender == Some(only))
    }
}

impl Asked {
    fn delivery(&self, at: usize) -> Incoming {
        let to = self.to.map_or("null".to_owned(), |at| format!("\"{}\"", TO[at]));
        let data: String = self.data.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let deadline = self.deadline_s.map(|at| format!(",\"deadline\":{}", NOW.0 / 1_000 + at)).unwrap_or_default();
        Incoming {
            receipt: String::new(),
            message_id: format!("m-{at}"),
            group: None,
            sender: self.sender.map(|at| SENDERS[at].to_owned()),
            trace: None,
            receives: 1,
            body: format!(
                "{{\"requestId\":\"r-{at}\",\"to\":{to},\"value\":{},\"data\":\"0x{data}\",\"gas\":{},\"gasPrice\":{}{deadline}}}",
                self.value, self.gas, self.price
            ),
        }
    }
}

struct Fixture {
    store: MemoryStore,
    keys: MemoryKeys,
    key: KmsKeyId,
    account: AccountKey,
    journal: Journal,
}

impl Fixture {
    fn new() -> Self {
        let journal = Journal::kept();
        let keys = MemoryKeys::new(Interceptor::default(), journal.clone());
        let store = MemoryStore::new(Interceptor::default(), journal.clone());
        let key: KmsKeyId = "key".parse().unwrap();
        let account = AccountKey { chain_id: ChainId(97), address: keys.add(&key, [1; 32]) };
        let head = Head::new(account, "hot".parse().unwrap(), key.clone(), Nonce(0), NOW);
        store.register(&head).now_or_never().unwrap().unwrap();
        Self { store, keys, key, account, journal }
    }

    fn signer(&self, rules: &Rules) -> Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic> {
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: ChainId(97),
            policies: Policies::from_toml(&rules.file()).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: 1_000,
            sign_concurrency: 2,
        };
        let (interceptor, journal) = (Interceptor::default(), Journal::default());
        let queues = MemoryQueues::new(QueueRules::STANDARD, &SimClock::at(NOW), &interceptor, &journal);
        Signer::new(self.store.clone(), self.keys.clone(), queues, MemoryTopic::new(interceptor, journal), config)
    }

    fn records(&self) -> Vec<Record> {
        self.store.with_tables(|tables| {
            let records = tables.requests.values().filter_map(|stored| match stored {
                Stored::Record(record) => Some((**record).clone()),
                Stored::Rejected(_) => None,
            });
            records.collect()
        })
    }

    /// The signatures since the last call: request number, kind and price of each.
    fn signed(&self) -> Vec<(usize, AttemptKind, U256)> {
        let mut known: BTreeMap<[u8; 32], (usize, AttemptKind, U256)> = BTreeMap::new();
        for record in self.records() {
            let number = record.request_id.as_str()[2..].parse().unwrap();
            for kind in [AttemptKind::Execute, AttemptKind::Cancel] {
                for price in 0..32_u64 {
                    let hash = hash(&record, kind, price);
                    known.insert(hash.0, (number, kind, price.into()));
                }
            }
        }
        let entries = self.journal.drain().into_iter().filter_map(|entry| match entry {
            Entry::KmsSigned(_, hash, _) => Some(hash),
            Entry::Registered(_)
            | Entry::Paused(..)
            | Entry::FastForwarded(..)
            | Entry::NonceSet(..)
            | Entry::Retired(_)
            | Entry::Unregistered(_)
            | Entry::Reserved(_)
            | Entry::Rejected(_)
            | Entry::Updated(_)
            | Entry::LeftSlots(..)
            | Entry::MovedMarks(..)
            | Entry::Sent(_)
            | Entry::Published(_)
            | Entry::PokedLanes(_)
            | Entry::PokedSigner(_)
            | Entry::PublicKeyRead(_)
            | Entry::KeyRefused(_)
            | Entry::Received(..)
            | Entry::Deleted(..) => None,
        });
        entries.map(|hash| *known.get(&hash.0).expect("only requests with a slot are signed")).collect()
    }
}

fn hash(record: &Record, kind: AttemptKind, price: u64) -> SigningHash {
    let intent = record.intent_of(kind, Wei::ZERO);
    let fee = Fee::Legacy { gas_price: Wei::from(price) };
    UnsignedTx { intent: &intent, nonce: record.nonce, fee }.signing_hash()
}

fn poke(account: AccountKey, record: &Record, kind: WireKind) -> SignerPoke {
    let fee = Fee::Legacy { gas_price: Wei::from(BUMPED) };
    SignerPoke {
        account: account.to_string(),
        request_id: record.request_id.to_string(),
        attempt: record.attempts.len(),
        kind,
        fee: (!record.attempts.is_empty()).then(|| WireFee::from(&fee)),
        to_self: 0,
        cause: String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn key_service_never_gets_what_policy_refuses(
        before in rules(),
        after in rules(),
        requests in proptest::collection::vec(asked(), 1..8),
        signed_at_once in any::<bool>(),
        later_s in 0..90_u64,
    ) {
        let fixture = Fixture::new();
        let batch: Vec<_> = requests.iter().enumerate().map(|(at, asked)| asked.delivery(at)).collect();
        let state = if signed_at_once { KeyState::Enabled } else { KeyState::SignFails };
        fixture.keys.set_state(&fixture.key, state);
        let first = fixture.signer(&before).handle(&batch, NOW).now_or_never().unwrap();
        for (number, kind, price) in fixture.signed() {
            prop_assert!(kind == AttemptKind::Execute && before.allow(&requests[number], price, before.cap, NOW));
        }
        let spent = fixture.records().iter().fold(U256::zero(), |sum, record| {
            let cost = record.intent.value.0 + record.fee_cap.0 * U256::from(record.intent.gas.0);
            sum + cost
        });
        prop_assert!(before.spend_limit.is_none_or(|limit| spent <= U256::from(limit)));

        // The rules have changed and time has passed; retried messages are redelivered.
        let now = NOW.plus(later_s * 1_000);
        fixture.keys.set_state(&fixture.key, KeyState::Enabled);
        let signer = fixture.signer(&after);
        let mut left = first.iter();
        let again: Vec<_> = batch.into_iter().filter(|_| left.next() == Some(&Disposition::Retry)).collect();
        signer.handle(&again, now).now_or_never().unwrap();
        for kind in [WireKind::Execute, WireKind::Cancel] {
            let asks: Vec<_> = fixture.records().iter().map(|record| poke(fixture.account, record, kind)).collect();
            signer.handle_asks(&asks, now).now_or_never().unwrap();
        }
        for (number, kind, price) in fixture.signed() {
            let allowed = match kind {
                AttemptKind::Execute => after.allow(&requests[number], price, before.cap, now),
                // A slot must end, so a cancel is allowed within today's cap.
                AttemptKind::Cancel => price <= U256::from(after.cap),
            };
            prop_assert!(allowed, "request {number}, {kind:?} at {price}");
        }
    }
}
