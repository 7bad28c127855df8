//! The fixture: accounts, a signer over in-memory ports, and the outcomes of its messages.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{
    Interceptor, Journal, KeyState, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Record, Rejected, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, Wei};
use signpost_txmgr::wire::OutcomeMessage;

pub(crate) const NOW: Millis = Millis(1_795_348_800_000);
pub(crate) const RULES: &str = "[default]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";
const TO: &str = "0x55d398326f99059fF775485246999027B3197955";
/// Longer than any test.
const RETENTION_MS: u64 = 86_400_000;

pub(crate) type MemorySigner = Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>;

pub(crate) struct Fixture {
    pub(crate) store: MemoryStore,
    pub(crate) keys: MemoryKeys,
    pub(crate) topic: MemoryTopic,
    queues: MemoryQueues,
}

/// A fixture with these accounts; the key of each has the account's name.
pub(crate) fn fixture(accounts: &[&str]) -> Fixture {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let fixture = Fixture {
        keys: MemoryKeys::new(interceptor.clone(), journal.clone()),
        store: MemoryStore::new(interceptor.clone(), journal.clone()),
        topic: MemoryTopic::new(interceptor.clone(), journal.clone()),
        queues: MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal),
    };
    for name in accounts {
        fixture.register(name);
    }
    fixture
}

impl Fixture {
    pub(crate) fn register(&self, name: &str) -> AccountKey {
        let id: KmsKeyId = name.parse().unwrap();
        let seed = u8::try_from(self.store.accounts().now_or_never().unwrap().unwrap().heads.len()).unwrap();
        let account = AccountKey { chain_id: ChainId(97), address: self.keys.add(&id, [seed.saturating_add(1); 32]) };
        let head = Head::new(account, name.parse().unwrap(), id, Nonce(0), NOW);
        self.store.register(&head).now_or_never().unwrap().unwrap();
        account
    }

    /// A newly started signer with this policy.
    pub(crate) fn signer(&self, policy: &str) -> MemorySigner {
        self.signer_behind(policy, Interceptor::default())
    }

    /// The same, with its store calls behind this interceptor.
    pub(crate) fn signer_behind(&self, policy: &str, interceptor: Interceptor) -> MemorySigner {
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: ChainId(97),
            policies: Policies::from_toml(policy).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: RETENTION_MS,
            sign_concurrency: 4,
        };
        let (keys, queues, topic) = (self.keys.clone(), self.queues.clone(), self.topic.clone());
        Signer::new(self.store.behind(interceptor), keys, queues, topic, config)
    }

    /// Lets `Sign` fail with this key without a fault of the key, or work again.
    pub(crate) fn disable(&self, key: &str, is_disabled: bool) {
        let state = if is_disabled { KeyState::SignFails } else { KeyState::Enabled };
        self.keys.set_state(&key.parse().unwrap(), state);
    }

    pub(crate) fn pause(&self, account: &AccountKey, is_paused: bool) {
        self.store.set_paused(account, is_paused).now_or_never().unwrap().unwrap();
    }

    pub(crate) fn stored(&self, id: &str) -> Option<Stored> {
        self.store.stored(&id.parse().unwrap())
    }

    pub(crate) fn record(&self, id: &str) -> Record {
        match self.stored(id) {
            Some(Stored::Record(record)) => *record,
            other => panic!("{id} has no record: {other:?}"),
        }
    }

    pub(crate) fn rejected(&self, id: &str) -> Rejected {
        match self.stored(id) {
            Some(Stored::Rejected(rejected)) => rejected,
            other => panic!("{id} is not rejected: {other:?}"),
        }
    }

    /// The phase of a request, `rejected`, or `unknown`.
    pub(crate) fn status(&self, id: &str) -> &'static str {
        match self.stored(id) {
            Some(Stored::Record(record)) => record.phase.name(),
            Some(Stored::Rejected(_)) => "rejected",
            None => "unknown",
        }
    }

    /// The published outcomes, each once: id, code and message id. Asserts that copies are equal.
    pub(crate) fn outcomes(&self) -> Vec<(String, String, String)> {
        let mut seen: Vec<OutcomeMessage> = Vec::new();
        for copy in self.topic.copies() {
            match seen.iter().find(|first| first.event_id == copy.event_id) {
                Some(first) => assert_eq!(*first, copy, "copies of one outcome are equal"),
                None => seen.push(copy),
            }
        }
        let messages: BTreeSet<_> = seen.iter().map(|outcome| outcome.message_id.clone()).collect();
        assert_eq!(messages.len(), seen.len(), "a message has one outcome: {seen:?}");
        seen.into_iter()
            .map(|outcome| (outcome.request_id, outcome.reason.unwrap().code, outcome.message_id.unwrap()))
            .collect()
    }

    /// Asserts which outcomes were published, as (id, code, message id).
    pub(crate) fn assert_outcomes(&self, expected: &[(&str, &str, &str)]) {
        let outcomes = self.outcomes();
        let outcomes: Vec<_> =
            outcomes.iter().map(|(id, code, by)| (id.as_str(), code.as_str(), by.as_str())).collect();
        assert_eq!(outcomes, expected);
    }
}

/// Message `m-{at}` with a transfer, for this account or without an account.
pub(crate) fn transfer(at: usize, id: &str, account: Option<&str>) -> Incoming {
    let account = account.map(|account| format!(r#""account":"{account}","#)).unwrap_or_default();
    message(at, &format!(r#"{{"requestId":"{id}",{account}"to":"{TO}","gas":21000}}"#))
}

/// A transfer with too little gas.
pub(crate) fn bad(at: usize, id: &str, account: Option<&str>) -> Incoming {
    let good = transfer(at, id, account);
    Incoming { body: good.body.replace("21000", "20000"), ..good }
}

pub(crate) fn cancel(at: usize, id: &str) -> Incoming {
    message(at, &format!(r#"{{"cancel":"{id}"}}"#))
}

pub(crate) fn message(at: usize, body: &str) -> Incoming {
    let (message_id, group) = (format!("m-{at}"), Some("all".to_owned()));
    Incoming {
        receipt: String::new(),
        message_id,
        group,
        sender: None,
        trace: None,
        receives: 1,
        body: body.to_owned(),
    }
}

pub(crate) fn from(sender: &str, message: Incoming) -> Incoming {
    Incoming { sender: Some(sender.to_owned()), ..message }
}

/// The message as a standard queue delivers it, without a group.
pub(crate) fn ungrouped(message: Incoming) -> Incoming {
    Incoming { group: None, ..message }
}

/// Handles a batch. Calls behind an interceptor yield, so this polls until the batch is done.
pub(crate) fn handle(signer: &MemorySigner, batch: &[Incoming], now: Millis) -> Vec<Disposition> {
    let mut handling = pin!(signer.handle(batch, now));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        if let Poll::Ready(dispositions) = handling.as_mut().poll(&mut context) {
            return dispositions;
        }
    }
    panic!("a batch takes a few calls")
}

/// Handles a batch and asserts that no message is retried.
pub(crate) fn handle_all(signer: &MemorySigner, batch: &[Incoming], now: Millis) {
    let dispositions = handle(signer, batch, now);
    assert!(dispositions.iter().all(|disposition| *disposition == Disposition::Done), "{dispositions:?}");
}
