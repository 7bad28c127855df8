//! Crash and repeat: one scenario from messages to closed records, with one fault at one of its port calls. After a
//! crash the drivers restart and the messages they held are redelivered, until everything has finished.
//!
//! The scenario is small and its order is fixed, so every call can be tried in turn with every fault. Nothing is
//! random. Read next: [`crate::auditor`].

use std::collections::BTreeMap;
use std::sync::Arc;

use signpost_txmgr::broadcaster::Lane;
use signpost_txmgr::fake::{Entry, Fate, QueueRules, SimClock};
use signpost_txmgr::ports::{BroadcastQueue, Happened};
use signpost_txmgr::units::{AccountKey, Wei};
use signpost_txmgr::wire::LanePoke;

use crate::auditor::{Actor, Auditor, Violation};
use crate::deployment::{Deployment, NAMES, SENDERS, START, STRANGER, Setting, TrialBroadcaster, TrialSigner};
use crate::executor::{ExecutorHandle, run_alone};
use crate::faults::SingleFault;
use crate::mutants::Mutant;
use crate::receive_loop;
use crate::source::{CAPPED, Variant, body};

/// Passes within which everything must finish. Without faults it takes about ten.
const PASSES_MAX: u64 = 120;
/// Simulated time of a pass, in milliseconds.
const PASS_MS: u64 = 1_500;
/// Longer than a run takes. The limit fits exactly three requests: if one counted twice, another would be refused.
const SPEND_WINDOW_S: u64 = 3_600;
/// The lowest mined price in the capped scenario: above the request's own cap in [`crate::source::body`], and within
/// every policy's cap.
const CAPPED_MINED_GWEI: u64 = 2;
/// Passes from one sweep to the next.
const SWEEP_PASSES: u64 = 6;

/// Every fault of one call.
pub const FATES: [Fate; 6] = [
    Fate::DieBefore,
    Fate::DieAfter,
    Fate::Fail { happened: Happened::No, throttled: false },
    Fate::Fail { happened: Happened::No, throttled: true },
    Fate::Fail { happened: Happened::Unknown, throttled: false },
    Fate::LoseReply,
];

/// How one run ended.
#[derive(Debug)]
pub struct Ended {
    /// Port calls made.
    pub calls: u64,
    /// Passes until everything had finished.
    pub passes: u64,
    /// Requests that got a slot.
    pub slots: usize,
    /// The violations found.
    pub violations: Vec<Violation>,
}

/// One fault at one call.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The number of the call, from 0. Beyond the last call there is no fault.
    pub at: u64,
    /// What happens to the call.
    pub fate: Fate,
}

impl Fault {
    /// No fault at all.
    pub const NONE: Self = Self { at: u64::MAX, fate: Fate::Pass };
}

/// A deployment with one account whose drivers take turns.
#[derive(Debug)]
pub struct Scenario {
    /// The fakes.
    pub deployment: Deployment,
    /// Reads the whole journal.
    pub auditor: Auditor,
    injector: Arc<SingleFault>,
    signer: TrialSigner,
    broadcaster: TrialBroadcaster,
    lanes: BTreeMap<AccountKey, Lane>,
    passes: u64,
    /// How often the drivers were restarted.
    life: u64,
    /// Faults injected before this turn.
    faults: u64,
    /// The signer has read its keys.
    started: bool,
    fault_at: u64,
}

/// The usual scenario under one fault; `twice`: every message is delivered twice.
#[must_use]
pub fn run(fault: Fault, twice: bool, mutant: Option<Mutant>) -> Ended {
    run_of(Scenario::ask_the_usual, fault, twice, mutant)
}

/// The same for a lane's head at its price cap.
#[must_use]
pub fn run_capped(fault: Fault, twice: bool, mutant: Option<Mutant>) -> Ended {
    run_of(Scenario::ask_capped, fault, twice, mutant)
}

fn run_of(ask: fn(&mut Scenario), fault: Fault, twice: bool, mutant: Option<Mutant>) -> Ended {
    let mut scenario = Scenario::new(fault, twice, mutant);
    ask(&mut scenario);
    let passes = scenario.to_quiet();
    scenario.auditor.finish(&scenario.deployment);
    let violations = scenario.auditor.violations().to_vec();
    let slots = scenario.auditor.records().count();
    Ended { calls: scenario.injector.calls(), passes, slots, violations }
}

impl Scenario {
    /// A new scenario with one account.
    #[must_use]
    pub fn new(fault: Fault, twice: bool, mutant: Option<Mutant>) -> Self {
        let clock = SimClock::at(START);
        let handle = ExecutorHandle::new(clock.clone());
        let injector = Arc::new(SingleFault::new(fault.at, fault.fate, handle.clone()));
        let signing = if twice { QueueRules { repeat_one_in: 1, ..QueueRules::STANDARD } } else { QueueRules::FIFO };
        let setting =
            Setting { accounts: 1, signing, mutant, spend_window_s: Some(SPEND_WINDOW_S), request_window_s: None };
        Self::in_setting(setting, clock, handle, injector)
    }

    /// A new scenario without faults, with `accounts` accounts and no spend limit.
    #[must_use]
    pub fn with_accounts(accounts: usize, mutant: Option<Mutant>) -> Self {
        let clock = SimClock::at(START);
        let handle = ExecutorHandle::new(clock.clone());
        let injector = Arc::new(SingleFault::new(Fault::NONE.at, Fault::NONE.fate, handle.clone()));
        let setting =
            Setting { accounts, signing: QueueRules::FIFO, mutant, spend_window_s: None, request_window_s: None };
        Self::in_setting(setting, clock, handle, injector)
    }

    fn in_setting(setting: Setting, clock: SimClock, handle: ExecutorHandle, injector: Arc<SingleFault>) -> Self {
        let deployment = Deployment::new(setting, clock, handle, injector.clone());
        Self {
            auditor: Auditor::new(&[&deployment], &setting),
            signer: deployment.signer(),
            broadcaster: deployment.broadcaster(),
            lanes: BTreeMap::new(),
            passes: 0,
            life: 0,
            faults: 0,
            started: false,
            fault_at: injector.at(),
            injector,
            deployment,
        }
    }

    /// Port calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.injector.calls()
    }

    /// Three requests, one of which reverts, a duplicate, a conflict, a bad one, and a cancel.
    pub fn ask_the_usual(&mut self) {
        let good = |number| body(number, NAMES[0], Variant::Good, None);
        self.put(&good(0));
        self.put(&good(3));
        self.put(&good(5));
        self.put(&good(0));
        self.put(&body(5, NAMES[0], Variant::Other, None));
        self.put(&body(7, NAMES[0], Variant::Forbidden, None));
        self.put("{\"cancel\":\"r-5\"}");
    }

    /// One request capped below the mined price, one behind it, and a stranger's messages with both ids in other
    /// groups.
    pub fn ask_capped(&mut self) {
        self.deployment.chain.inner.set_mined_price(Wei::from_gwei(CAPPED_MINED_GWEI));
        self.deployment.chain.inner.set_price(Some(Wei::from_gwei(CAPPED_MINED_GWEI)));
        self.put(&body(CAPPED, NAMES[0], Variant::Good, None));
        self.put(&body(0, NAMES[0], Variant::Good, None));
        for (number, group) in [(CAPPED, "junk 1"), (0, "junk 2")] {
            self.put_of(&body(number, NAMES[0], Variant::Other, None), group, STRANGER);
            self.put_of(&format!("{{\"cancel\":\"r-{number}\"}}"), group, STRANGER);
        }
    }

    /// Puts a message on the signing queue.
    pub fn put(&mut self, body: &str) {
        self.put_of(body, NAMES[0], SENDERS[0]);
    }

    /// Puts a message of this sender on the signing queue, in this group.
    pub fn put_of(&mut self, body: &str, group: &str, sender: &str) {
        let id = self.deployment.queues.signing.put(body, Some(group), None, Some(sender));
        self.auditor.message_sent(&id, body, sender, self.deployment.chain_id, self.deployment.clock.now());
    }

    /// Runs passes until nothing is waiting; returns how many it took.
    pub fn to_quiet(&mut self) -> u64 {
        for pass in 0..PASSES_MAX {
            self.pass();
            if self.deployment.is_quiet() {
                return pass;
            }
        }
        PASSES_MAX
    }

    /// The signer has a turn, then the broadcaster, then the chain.
    pub fn pass(&mut self) {
        self.signer_turn();
        self.broadcaster_turn();
        self.deployment.chain.inner.mine();
        self.deployment.clock.advance(PASS_MS);
        self.audit("chain");
    }

    /// One batch of each of the signer's queues.
    pub fn signer_turn(&mut self) {
        let (deployment, signer, started) = (self.deployment.clone(), &self.signer, &mut self.started);
        let done = run_alone(&deployment.handle, &deployment.clock, async {
            *started = *started || signer.warm_up(deployment.clock.now()).await.is_ok();
            if *started {
                receive_loop::serve_signing(&deployment, signer).await;
                receive_loop::serve_resign(&deployment, signer).await;
            }
        });
        self.audit("signer");
        if done.is_none() {
            self.restart();
        }
    }

    /// One round of the lane if it was poked. Every few passes a sweep pokes it.
    pub fn broadcaster_turn(&mut self) {
        let sweeps = self.passes.is_multiple_of(SWEEP_PASSES);
        self.passes += 1;
        let (deployment, broadcaster, lanes) = (self.deployment.clone(), &self.broadcaster, &mut self.lanes);
        let done = run_alone(&deployment.handle, &deployment.clock, async {
            if sweeps {
                receive_loop::sweep(&deployment, broadcaster).await;
            }
            for _ in 0..deployment.accounts.len() {
                serve_round(&deployment, broadcaster, lanes).await;
            }
        });
        self.audit("broadcaster");
        if done.is_none() {
            self.restart();
        }
    }

    /// Restarts the process: its memory is lost, and the messages it held are redelivered.
    fn restart(&mut self) {
        self.life += 1;
        self.started = false;
        self.signer = self.deployment.signer();
        self.broadcaster = self.deployment.broadcaster();
        self.lanes.clear();
        self.deployment.queues.signing.release_all();
        self.deployment.queues.resign.release_all();
        self.deployment.queues.broadcast.release_all();
    }

    fn audit(&mut self, name: &'static str) {
        let now = self.deployment.clock.now();
        let faults = u64::from(self.injector.calls() > self.fault_at);
        let chain = (name != "chain").then_some(self.deployment.chain_id.0);
        // The journal does not show where in this turn the fault was: it may be any call of a batch.
        for (at, entry) in self.deployment.journal.drain().into_iter().enumerate() {
            let begins = at == 0 || matches!(entry, Entry::Received(..));
            let faults = if begins { self.faults } else { faults };
            self.auditor.note(&entry, Actor { name, life: self.life, chain, faults, faults_before: faults }, now);
        }
        self.faults = faults;
    }
}

/// One message of the broadcast queue and one round; the lane pokes itself while it is open.
async fn serve_round(deployment: &Deployment, broadcaster: &TrialBroadcaster, lanes: &mut BTreeMap<AccountKey, Lane>) {
    let Ok(messages) = deployment.queues.broadcast.receive_up_to(1).await else { return };
    let Some(message) = messages.first() else { return };
    let poke: LanePoke = serde_json::from_str(&message.body).expect("only our own pokes");
    let account = poke.account().expect("only our own pokes");
    let now = deployment.clock.now();
    let lane = lanes.entry(account).or_insert_with(|| Lane::new(account, now));
    let open = broadcaster.round(lane, now).await.map_or(1, |round| round.open);
    if open > 0 {
        let again = LanePoke { account: account.to_string(), cause: format!("continues at {now}") };
        let _ = deployment.queues.poke_lanes(&[again]).await;
    }
    let _ = deployment.queues.broadcast.delete_one(&message.receipt).await;
}
