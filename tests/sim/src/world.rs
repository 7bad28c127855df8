//! One world: the fakes, wired, with registered accounts, and the drivers over them.
//!
//! Read next: [`crate::host`].

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Finality};
use signpost_txmgr::fake::chain::SenderCache;
use signpost_txmgr::fake::keys::SignatureCache;
use signpost_txmgr::fake::{
    Gate, Journal, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, Weather,
};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::policy::Policies;
use signpost_txmgr::ports::Store;
use signpost_txmgr::request::NetworkRules;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, Address, ChainId, KmsKeyId, Millis, Nonce, Wei};

use crate::mutants::{BentChain, BentStore, BentTopic, Mutant};
use crate::stage::{Prompter, run_alone};

/// The chain of every trial.
pub const CHAIN: ChainId = ChainId(97);
/// Retention of a closed record: design, section 4.
pub const RETENTION_MS: u64 = 90 * 24 * 3_600 * 1_000;
/// When every trial begins, in Unix milliseconds.
pub const START: Millis = Millis(1_700_000_000_000);
/// Names of the accounts; a trial registers the first so many.
pub const NAMES: [&str; 2] = ["hot", "cold"];
/// What requests name as their account that are for any of them.
pub const POOL: &str = "pool:all";
/// The only recipients policy allows.
pub const ALLOWED: [Address; 3] = [Address([0x11; 20]), Address([0x22; 20]), Address([0x33; 20])];
/// Most wei per gas policy allows.
pub const CAP_GWEI: u64 = 5;

/// Most wei of a window where spending is limited: three of the requests of [`crate::source`], at 90,000
/// gas and the cap each, and their values.
pub const SPEND_LIMIT_WEI: u64 = 3 * 90_000 * CAP_GWEI * 1_000_000_000 + 30_000;

/// The signer of a trial.
pub type TrialSigner = Signer<BentStore, MemoryKeys, MemoryQueues, BentTopic>;
/// The broadcaster of a trial.
pub type TrialBroadcaster = Broadcaster<BentStore, BentChain, MemoryQueues, BentTopic>;

/// The fakes of one trial and what the drivers are configured with. A clone is the same world.
#[derive(Debug, Clone)]
pub struct World {
    /// Simulated time.
    pub clock: SimClock,
    /// Speaks to whoever polls.
    pub prompter: Prompter,
    /// What happened.
    pub journal: Journal,
    /// Behind the weather.
    pub store: BentStore,
    /// Behind the weather.
    pub keys: MemoryKeys,
    /// Behind the weather.
    pub queues: MemoryQueues,
    /// Behind the weather.
    pub topic: BentTopic,
    /// Behind the weather.
    pub chain: BentChain,
    /// The registered accounts and their names.
    pub accounts: BTreeMap<AccountKey, &'static str>,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    policies: Policies,
}

/// What one world is like.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Registered accounts, 1 or 2.
    pub accounts: usize,
    /// The signing queue.
    pub signing: QueueRules,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// Seconds of a window in which [`SPEND_LIMIT_WEI`] may be spent; no limit if there is none.
    pub spend_window_s: Option<u64>,
}

impl World {
    /// A world in this setting under this weather.
    #[must_use]
    pub fn new(setting: Setting, clock: SimClock, prompter: Prompter, weather: Arc<dyn Weather>) -> Self {
        let (signatures, senders) = caches();
        let (gate, journal) = (Gate::with(weather), Journal::kept());
        let keys = MemoryKeys::new(gate.clone(), journal.clone()).with_cache(signatures);
        let chain = MemoryChain::new(CHAIN, gate.clone(), journal.clone()).with_senders(senders);
        let store = MemoryStore::new(gate.clone(), journal.clone());
        let topic = MemoryTopic::new(gate.clone(), journal.clone());
        let queues = MemoryQueues::new(setting.signing, &clock, &gate, &journal);
        let mutant = setting.mutant;
        let mut accounts = BTreeMap::new();
        for (name, number) in NAMES.into_iter().zip(1_u8..).take(setting.accounts) {
            let head = head(&keys, name, number);
            accounts.insert(head.account, name);
            // Counting starts where the chain counts.
            chain.set_nonce(head.account.address, head.next_nonce);
            let calm = store.behind(Gate::default());
            run_alone(&prompter, &clock, calm.register(&head)).unwrap().unwrap();
        }
        let bent = BentStore { inner: store.clone(), mutant, chain: chain.clone(), topic: topic.clone() };
        Self {
            clock,
            prompter,
            journal,
            store: bent,
            keys,
            queues,
            topic: BentTopic { inner: topic, mutant },
            chain: BentChain { inner: chain, mutant, store },
            accounts,
            mutant,
            policies: policies(setting.spend_window_s),
        }
    }

    /// A signer that remembers nothing.
    #[must_use]
    pub fn signer(&self) -> TrialSigner {
        let config = SignerConfig {
            chain_id: CHAIN,
            policies: self.policies.clone(),
            network: NetworkRules { fee_floor: Wei::from(50_000_000) },
            retention_ms: RETENTION_MS,
            sign_concurrency: 4,
        };
        Signer::new(self.store.clone(), self.keys.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    /// A broadcaster that remembers nothing.
    #[must_use]
    pub fn broadcaster(&self) -> TrialBroadcaster {
        let config = BroadcasterConfig {
            chain_id: CHAIN,
            tuning: Tuning::BSC,
            window: BroadcasterConfig::WINDOW,
            retention_ms: RETENTION_MS,
            write_concurrency: 4,
            finality: Finality::Finalized,
        };
        Broadcaster::new(self.store.clone(), self.chain.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    /// Pauses or resumes every account, past the weather.
    pub fn set_paused(&self, paused: bool) {
        for account in self.accounts.keys() {
            self.set_paused_one(*account, paused);
        }
    }

    /// Pauses or resumes one account, past the weather.
    pub fn set_paused_one(&self, account: AccountKey, paused: bool) {
        let calm = self.store.inner.behind(Gate::default());
        run_alone(&self.prompter, &self.clock, calm.set_paused(&account, paused)).unwrap().unwrap();
    }

    /// The heads as they are.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        self.store.inner.with_tables(|tables| tables.heads.values().cloned().collect())
    }

    /// Nothing is waiting anywhere.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let queues = &self.queues;
        queues.signing.is_empty()
            && queues.resign.is_empty()
            && queues.broadcast.is_empty()
            && self.store.inner.with_tables(|tables| tables.heads.values().all(|head| !head.needs_passes()))
    }
}

fn head(keys: &MemoryKeys, name: &str, number: u8) -> Head {
    let kms_key_id: KmsKeyId = format!("key-{name}").parse().unwrap();
    let address = keys.add(&kms_key_id, [number; 32]);
    let start = Nonce(u64::from(number) * 10);
    Head::new(AccountKey { chain_id: CHAIN, address }, name.parse().unwrap(), kms_key_id, start, START)
}

fn policies(spend_window_s: Option<u64>) -> Policies {
    let allowed: Vec<_> = ALLOWED.iter().map(|address| format!("\"{}\"", address.lower())).collect();
    let spend = spend_window_s.map_or(String::new(), |window_s| {
        format!("spend_limit_wei = {SPEND_LIMIT_WEI}\nspend_window_s = {window_s}\n")
    });
    let rules = format!(
        "max_gas_price_wei = \"{CAP_GWEI}000000000\"\ngas_price_wei = \"1000000000\"\nallow_creation = true\nallow_to = [{}]\n{spend}",
        allowed.join(", ")
    );
    let pool = NAMES.map(|name| format!("\"{name}\"")).join(", ");
    Policies::from_toml(&format!("[default]\n{rules}[pool.all]\naccounts = [{pool}]\n")).unwrap()
}

/// What trials of one process would otherwise compute again and again: same keys, same requests.
pub fn caches() -> (SignatureCache, SenderCache) {
    static CACHES: OnceLock<(SignatureCache, SenderCache)> = OnceLock::new();
    CACHES.get_or_init(Default::default).clone()
}

/// Tells whoever watches a trial.
#[expect(clippy::print_stdout, reason = "a trace is asked for on the command line")]
pub fn say(line: &str) {
    println!("{line}");
}
