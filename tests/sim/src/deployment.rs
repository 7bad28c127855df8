//! One deployment: the connected fakes with registered accounts, and the drivers on top of them.
//!
//! A second deployment may share its tables and keys, for another chain. Read next: [`crate::receive_loop`].

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig};
use signpost_txmgr::fake::chain::SenderCache;
use signpost_txmgr::fake::keys::SignatureCache;
use signpost_txmgr::fake::{
    FaultSource, Interceptor, Journal, MemoryChain, MemoryKeys, MemoryQueue, MemoryQueues, MemoryStore, MemoryTopic,
    QueueRules, SimClock, sealer,
};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::{RetireVerdict, Store};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, Address, ChainId, KmsKeyId, Millis, Nonce, Wei};

use crate::executor::{ExecutorHandle, run_alone};
use crate::mutants::{Mutant, MutantChain, MutantKeys, MutantStore, MutantTopic};

/// The chain of every trial.
pub const CHAIN: ChainId = ChainId(97);
/// The chain of the second deployment, if there is one.
pub const OTHER_CHAIN: ChainId = ChainId(56);
/// Retention of a closed record: the default of 90 days (`crates/host/src/config`).
pub const RETENTION_MS: u64 = 90 * 24 * 3_600 * 1_000;
/// When every trial begins, in Unix milliseconds.
pub const START: Millis = Millis(1_700_000_000_000);
/// Names of the accounts; a trial registers the first [`Setting::accounts`] of them.
pub const NAMES: [&str; 2] = ["hot", "cold"];
/// The account of the other chain: its key is that of `hot`, so its address is too.
pub const OTHER_NAME: &str = "main";
/// An account that is registered while a trial runs.
pub const LATE_NAME: &str = "late";
/// The senders that may use the accounts; any other is a stranger.
pub const SENDERS: [&str; 1] = ["backend"];
/// A sender with the right to send messages, and without the right to use an account.
pub const STRANGER: &str = "stranger";
/// The account name of requests for the pool.
pub const POOL: &str = "pool:all";
/// The only recipients that policy allows.
pub const ALLOWED: [Address; 3] = [Address([0x11; 20]), Address([0x22; 20]), Address([0x33; 20])];
/// Signatures that a signer requests at once.
pub const SIGN_CONCURRENCY: u64 = 4;
/// The highest price per gas that policy allows, in gwei.
pub const CAP_GWEI: u64 = 5;
/// The same while the rules are tight.
pub const TIGHT_CAP_GWEI: u64 = 2;

/// The spend limit of a window, in wei: three of the requests of [`crate::source`], at 90,000 gas and the cap each, and
/// their values.
pub const SPEND_LIMIT_WEI: u64 = 3 * 90_000 * CAP_GWEI * 1_000_000_000 + 30_000;

/// The most requests of one sender that get a slot in a window, where there is a limit.
pub const REQUEST_LIMIT: u64 = 4;
/// How long a request at its price cap may block its lane: short, so that it ends within a trial.
pub const MAX_HEAD_S: u64 = 20;

/// The signer of a trial.
pub type TrialSigner = Signer<MutantStore, MutantKeys, MemoryQueues, MutantTopic>;
/// The broadcaster of a trial.
pub type TrialBroadcaster = Broadcaster<MutantStore, MutantChain, MemoryQueues, MutantTopic>;

/// The fakes of one trial and the drivers' configuration. A clone is the same deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The chain of this Signpost.
    pub chain_id: ChainId,
    /// Simulated time.
    pub clock: SimClock,
    /// Lets tasks sleep and crash.
    pub handle: ExecutorHandle,
    /// The journal of all effects.
    pub journal: Journal,
    /// A fake whose calls meet injected faults.
    pub store: MutantStore,
    /// A fake whose calls meet injected faults.
    pub keys: MemoryKeys,
    /// A fake whose calls meet injected faults.
    pub queues: MemoryQueues,
    /// A fake whose calls meet injected faults.
    pub topic: MutantTopic,
    /// A fake whose calls meet injected faults.
    pub chain: MutantChain,
    /// The registered accounts and their names.
    pub accounts: BTreeMap<AccountKey, &'static str>,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// Milliseconds until a retried message is visible again.
    pub retry_after_ms: u64,
    /// How long the key service takes for a signature, in milliseconds.
    pub keys_slow_ms: Arc<AtomicU64>,
    spend_window_s: Option<u64>,
    request_window_s: Option<u64>,
    /// How often the rules changed, and the rules that signers start with.
    rules: Arc<Mutex<(u64, RuleSet)>>,
    interceptor: Interceptor,
}

/// The settings of one deployment.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Registered accounts, 1 or 2.
    pub accounts: usize,
    /// The signing queue.
    pub signing: QueueRules,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// Seconds of a window in which [`SPEND_LIMIT_WEI`] may be spent; `None` for no limit.
    pub spend_window_s: Option<u64>,
    /// Seconds of a window in which a sender gets [`REQUEST_LIMIT`] slots; `None` for no limit.
    pub request_window_s: Option<u64>,
}

impl Deployment {
    /// A deployment with these settings and this injector of faults.
    #[must_use]
    pub fn new(setting: Setting, clock: SimClock, handle: ExecutorHandle, injector: Arc<dyn FaultSource>) -> Self {
        let (signatures, senders) = caches();
        let (interceptor, journal) = (Interceptor::with(injector), Journal::kept());
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone()).with_cache(signatures);
        let chain = MemoryChain::new(CHAIN, interceptor.clone(), journal.clone()).with_senders(senders);
        let store = MemoryStore::new(interceptor.clone(), journal.clone());
        let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
        let queues = MemoryQueues::new(setting.signing, &clock, &interceptor, &journal);
        let mutant = setting.mutant;
        let mutant_store = MutantStore { inner: store.clone(), mutant, chain: chain.clone(), topic: topic.clone() };
        let mut deployment = Self {
            chain_id: CHAIN,
            clock,
            chain: MutantChain { inner: chain, mutant, store, slow_ms: Arc::default(), handle: handle.clone() },
            handle,
            journal,
            store: mutant_store,
            keys,
            queues,
            topic: MutantTopic { inner: topic, mutant },
            accounts: BTreeMap::new(),
            mutant,
            retry_after_ms: 0,
            keys_slow_ms: Arc::default(),
            spend_window_s: setting.spend_window_s,
            request_window_s: setting.request_window_s,
            rules: Arc::new(Mutex::new((0, RuleSet::Usual))),
            interceptor,
        };
        for (name, number) in NAMES.into_iter().zip(1_u8..).take(setting.accounts) {
            let account = deployment.register(name, name, number, START);
            deployment.accounts.insert(account, name);
        }
        deployment
    }

    /// A Signpost for another chain on the same tables, with the key of `hot` and its own queues and topic.
    #[must_use]
    pub fn other_signpost(&self, signing: QueueRules) -> Self {
        let mutant = self.mutant;
        let (interceptor, journal, store) = (&self.interceptor, &self.journal, &self.store.inner);
        let chain = MemoryChain::new(OTHER_CHAIN, interceptor.clone(), journal.clone()).with_senders(caches().1);
        let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
        let mut queues = MemoryQueues::new(signing, &self.clock, interceptor, journal);
        // Message ids are unique, as in SQS.
        queues.signing =
            MemoryQueue::new("signing-main", signing, self.clock.clone(), interceptor.clone(), journal.clone());
        let mutant_store = MutantStore { inner: store.clone(), mutant, chain: chain.clone(), topic: topic.clone() };
        let mut deployment = Self {
            chain_id: OTHER_CHAIN,
            store: mutant_store,
            queues,
            topic: MutantTopic { inner: topic, mutant },
            chain: MutantChain {
                inner: chain,
                mutant,
                store: store.clone(),
                slow_ms: Arc::default(),
                handle: self.handle.clone(),
            },
            accounts: BTreeMap::new(),
            ..self.clone()
        };
        let account = deployment.register(OTHER_NAME, NAMES[0], 1, START);
        deployment.accounts.insert(account, OTHER_NAME);
        deployment
    }

    /// Registers an account, without faults, with the key of this name and number.
    pub fn register(&self, name: &str, key: &str, number: u8, now: Millis) -> AccountKey {
        let kms_key_id: KmsKeyId = format!("key-{key}").parse().unwrap();
        let address = self.keys.add(&kms_key_id, [number; 32]);
        // Nonces start at the chain's count, which is another one on each chain.
        let start = Nonce(u64::from(number) * 10 + self.chain_id.0 % 10);
        let account = AccountKey { chain_id: self.chain_id, address };
        let head = Head::new(account, name.parse().unwrap(), kms_key_id, start, now);
        self.chain.inner.set_nonce(address, start);
        let direct = self.store.inner.behind(Interceptor::default());
        run_alone(&self.handle, &self.clock, direct.register(&head)).unwrap().unwrap();
        account
    }

    /// Retires an account without open slots; returns whether it was retired.
    pub fn retire(&self, account: AccountKey) -> bool {
        let direct = self.store.inner.behind(Interceptor::default());
        let retiring = direct.retire(&account, self.clock.now());
        run_alone(&self.handle, &self.clock, retiring).unwrap().unwrap() == RetireVerdict::Retired
    }

    /// From now on signers start with these rules, and running ones restart.
    pub fn set_rules(&self, rule_set: RuleSet) {
        let mut rules = self.rules.lock().unwrap();
        *rules = (rules.0 + 1, rule_set);
    }

    /// The rules that signers start with.
    #[must_use]
    pub fn rule_set(&self) -> RuleSet {
        self.rules.lock().unwrap().1
    }

    /// How often the rules changed.
    #[must_use]
    pub fn rules_version(&self) -> u64 {
        self.rules.lock().unwrap().0
    }

    /// A newly started signer.
    #[must_use]
    pub fn signer(&self) -> TrialSigner {
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: self.chain_id,
            policies: self.rule_set().policies(self.spend_window_s, self.request_window_s),
            network: NetworkRules { fee_floor: Wei::from(50_000_000) },
            retention_ms: RETENTION_MS,
            sign_concurrency: usize::try_from(SIGN_CONCURRENCY).unwrap(),
        };
        let (slow_ms, handle) = (Arc::clone(&self.keys_slow_ms), self.handle.clone());
        let keys = MutantKeys { inner: self.keys.clone(), mutant: self.mutant, slow_ms, handle };
        Signer::new(self.store.clone(), keys, self.queues.clone(), self.topic.clone(), config)
    }

    /// A newly started broadcaster.
    #[must_use]
    pub fn broadcaster(&self) -> TrialBroadcaster {
        let is_wrong_chain = self.mutant == Some(Mutant::LaneOfAnotherChain);
        let config = BroadcasterConfig {
            chain_id: if is_wrong_chain { CHAIN } else { self.chain_id },
            // Short, so that within a trial one node is often enough while a second one is silent.
            tuning: Tuning { second_patience_ms: 5_000, ..Tuning::BSC },
            window: BroadcasterConfig::WINDOW,
            retention_ms: RETENTION_MS,
            write_concurrency: 4,
        };
        Broadcaster::new(self.store.clone(), self.chain.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    /// Pauses or resumes every account that is not retired and not yet in that state, without faults.
    pub fn set_paused(&self, paused: bool) {
        for head in self.heads().iter().filter(|head| head.retired_at.is_none() && head.paused != paused) {
            self.set_account_paused(head.account, paused);
        }
    }

    /// Pauses or resumes one account, without faults.
    pub fn set_account_paused(&self, account: AccountKey, paused: bool) {
        let direct = self.store.inner.behind(Interceptor::default());
        run_alone(&self.handle, &self.clock, direct.set_paused(&account, paused)).unwrap().unwrap();
    }

    /// All heads as they are stored.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        self.store.inner.with_tables(|tables| tables.heads.values().cloned().collect())
    }

    /// Whether nothing is left: no message, no dead letter, no lane that needs a pass.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let queues = [&self.queues.signing, &self.queues.resign, &self.queues.broadcast];
        queues.into_iter().all(|queue| queue.is_empty() && queue.dead_letters().is_empty())
            && self.store.inner.with_tables(|tables| tables.heads.values().all(|head| !head.needs_passes()))
    }
}

/// The rules that a signer starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSet {
    /// Everything that backends request is allowed, except one recipient.
    Usual,
    /// The same, and no price is configured: a request without a price gets the network's.
    Unpriced,
    /// A lower cap, fewer recipients, no creations.
    Tight,
    /// The accounts have no rules at all.
    Bare,
}

impl RuleSet {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Usual, Self::Unpriced, Self::Tight, Self::Bare];

    /// The highest price per gas, in gwei; 0 without rules.
    #[must_use]
    pub fn cap_gwei(self) -> u64 {
        match self {
            Self::Usual | Self::Unpriced => CAP_GWEI,
            Self::Tight => TIGHT_CAP_GWEI,
            Self::Bare => 0,
        }
    }

    /// Whether a transaction to this recipient, or a creation, may be signed.
    #[must_use]
    pub fn allows(self, to: Option<[u8; 20]>) -> bool {
        match (self, to) {
            (Self::Usual | Self::Unpriced, Some(to)) => ALLOWED.iter().any(|allowed| allowed.0 == to),
            (Self::Usual | Self::Unpriced, None) => true,
            (Self::Tight, Some(to)) => ALLOWED[0].0 == to,
            (Self::Tight, None) | (Self::Bare, _) => false,
        }
    }

    /// Whether the accounts have no rules.
    #[must_use]
    pub fn is_bare(self) -> bool {
        self == Self::Bare
    }

    /// Whether a request without a price gets the network's.
    #[must_use]
    pub fn is_unpriced(self) -> bool {
        self == Self::Unpriced
    }

    fn policies(self, spend_window_s: Option<u64>, request_window_s: Option<u64>) -> Policies {
        let (allowed, rest) = match self {
            Self::Usual => (&ALLOWED[..], "gas_price_wei = \"1000000000\"\nallow_creation = true\n"),
            Self::Unpriced => (&ALLOWED[..], "allow_creation = true\n"),
            Self::Tight => (&ALLOWED[..1], "gas_price_wei = \"1000000000\"\n"),
            Self::Bare => (&ALLOWED[..], ""),
        };
        let allowed: Vec<_> = allowed.iter().map(|address| format!("\"{}\"", address.lower())).collect();
        let senders = SENDERS.map(|sender| format!("\"{sender}\"")).join(", ");
        let spend = spend_window_s.map_or(String::new(), |window_s| {
            format!("spend_limit_wei = {SPEND_LIMIT_WEI}\nspend_window_s = {window_s}\n")
        });
        let requests = request_window_s.map_or(String::new(), |window_s| {
            format!("max_requests = {REQUEST_LIMIT}\nmax_requests_window_s = {window_s}\n")
        });
        // The rules of another account, so that the allowed senders are known.
        let table = if self.is_bare() { "account.nobody" } else { "default" };
        let cap = self.cap_gwei().max(1);
        let rules = format!(
            "max_gas_price_wei = \"{cap}000000000\"\nallow_to = [{}]\nallow_senders = [{senders}]\nmax_head_s = {MAX_HEAD_S}\n{rest}{spend}{requests}",
            allowed.join(", ")
        );
        let pool = NAMES.map(|name| format!("\"{name}\"")).join(", ");
        let pools = if self.is_bare() { String::new() } else { format!("[pool.all]\naccounts = [{pool}]\n") };
        Policies::from_toml(&format!("[{table}]\n{rules}{pools}")).unwrap()
    }
}

/// Caches that all trials of one process share, since they use the same keys and requests.
pub fn caches() -> (SignatureCache, SenderCache) {
    static CACHES: OnceLock<(SignatureCache, SenderCache)> = OnceLock::new();
    CACHES.get_or_init(Default::default).clone()
}

/// Prints a line of a trace or a report.
#[expect(clippy::print_stdout, reason = "a trace is asked for on the command line")]
pub fn print_line(line: &str) {
    println!("{line}");
}
