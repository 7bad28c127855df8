//! The tasks of a trial: the workers of each Signpost, and the backends, miners and operators around them.
//!
//! Read next: [`crate::receive_loop`].

use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::chain::Orphans;
use signpost_txmgr::fake::{Lies, NodeFaults, Second};
use signpost_txmgr::record::SendClass;
use signpost_txmgr::units::{Nonce, Wei};

use super::{FAULTS_MS, SPAN_MS};
use crate::auditor::Auditor;
use crate::breadth::Breadth;
use crate::deployment::{Deployment, LATE_NAME, NAMES, OTHER_NAME, POOL, RuleSet, START};
use crate::executor::Executor;
use crate::random::Random;
use crate::receive_loop;
use crate::source::{self, Planned};

/// The workers of the second Signpost: one of each kind.
pub(super) const OTHER_TASKS: [&str; 3] = ["signer of main", "broadcaster of main", "sweep of main"];
/// The network's price where it is above every cap, and the lowest price that is mined then, in gwei.
const HIGH_GWEI: u64 = 20;
const HIGH_MINED_GWEI: u64 = 2;
/// How long a slow node takes for one question: three in a row take longer than a pass.
const SLOW_MS: u64 = 9_000;
/// How often a batch or a pass is interrupted, per mille, and the most polls before that.
const INTERRUPTS: u64 = 60;
const INTERRUPT_POLLS: u64 = 120;

/// A message that was sent.
#[derive(Debug)]
pub(super) struct SentMessage {
    pub(super) message_id: String,
    pub(super) planned: Planned,
    /// It was sent to the second Signpost.
    pub(super) other: bool,
}

/// What all tasks share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) auditor: Arc<Mutex<Auditor>>,
    pub(super) messages: Arc<Mutex<Vec<SentMessage>>>,
    pub(super) breadth: Breadth,
    pub(super) pool: bool,
}

impl Shared {
    /// Adds all tasks to the executor.
    pub(super) fn spawn_all(
        &self,
        executor: &mut Executor,
        deployment: &Deployment,
        other: Option<&Deployment>,
        requests: usize,
        random: &mut Random,
    ) {
        for name in ["signer 1", "signer 2"] {
            self.signer(name, executor, deployment, random);
        }
        for name in ["broadcaster 1", "broadcaster 2"] {
            self.broadcaster(name, executor, deployment, random);
        }
        sweep("sweep", executor, deployment);
        let plan = self.plan(requests, deployment, random);
        self.backends("backends", executor, deployment, plan, false);
        self.miner("miner", executor, deployment, random);
        if let Some(other) = other {
            let [signer, broadcaster, name] = OTHER_TASKS;
            self.signer(signer, executor, other, random);
            self.broadcaster(broadcaster, executor, other, random);
            sweep(name, executor, other);
            let mut plan = source::plan(random, requests / 2, &[OTHER_NAME], SPAN_MS, self.breadth.strangers);
            for planned in &mut plan {
                planned.body = source::renamed(&planned.body, random);
            }
            self.backends("backends of main", executor, other, plan, true);
            self.miner("miner of main", executor, other, random);
        }
        if random.per_mille(200) {
            let (paused, rng) = (deployment.clone(), random.fork());
            executor.add("operator", Box::new(move || Box::pin(operator(paused.clone(), rng.clone()))));
        }
        if self.pool && !self.breadth.unnamed {
            let (paused, rng) = (deployment.clone(), random.fork());
            executor.add("pool's operator", Box::new(move || Box::pin(pool_operator(paused.clone(), rng.clone()))));
        }
        let (shared, kept, rng) = (self.clone(), deployment.clone(), random.fork());
        executor
            .add("administrator", Box::new(move || Box::pin(administrator(shared.clone(), kept.clone(), rng.clone()))));
    }

    fn plan(&self, requests: usize, deployment: &Deployment, random: &mut Random) -> Vec<Planned> {
        let mut names: Vec<&'static str> = match (self.breadth.unnamed, self.pool) {
            (true, _) => vec![""],
            (false, true) => vec![POOL],
            (false, false) => NAMES[..deployment.accounts.len()].to_vec(),
        };
        if self.breadth.registers {
            names.push(LATE_NAME);
        }
        source::plan(random, requests, &names, SPAN_MS, self.breadth.strangers)
    }

    fn signer(&self, name: &'static str, executor: &mut Executor, deployment: &Deployment, random: &mut Random) {
        let (deployment, interrupts, rng) =
            (deployment.clone(), self.breadth.interrupts, Arc::new(Mutex::new(random.fork())));
        executor.add(name, Box::new(move || Box::pin(signer(deployment.clone(), interrupts, Arc::clone(&rng)))));
    }

    fn broadcaster(&self, name: &'static str, executor: &mut Executor, deployment: &Deployment, random: &mut Random) {
        let (deployment, breadth, rng) = (deployment.clone(), self.breadth, Arc::new(Mutex::new(random.fork())));
        executor.add(name, Box::new(move || Box::pin(broadcaster(deployment.clone(), breadth, Arc::clone(&rng)))));
    }

    fn backends(
        &self,
        name: &'static str,
        executor: &mut Executor,
        deployment: &Deployment,
        plan: Vec<Planned>,
        other: bool,
    ) {
        let (shared, deployment) = (self.clone(), deployment.clone());
        executor
            .add(name, Box::new(move || Box::pin(backends(shared.clone(), deployment.clone(), plan.clone(), other))));
    }

    fn miner(&self, name: &'static str, executor: &mut Executor, deployment: &Deployment, random: &mut Random) {
        let (deployment, rng, foreign) = (deployment.clone(), random.fork(), random.per_mille(120));
        let breadth = self.breadth;
        executor.add(name, Box::new(move || Box::pin(miner(deployment.clone(), rng.clone(), breadth, foreign))));
    }
}

fn sweep(name: &'static str, executor: &mut Executor, deployment: &Deployment) {
    let deployment = deployment.clone();
    executor.add(name, Box::new(move || Box::pin(sweeper(deployment.clone()))));
}

/// The limit of polls of the next batch or pass.
fn polls(interrupts: bool, rng: &Mutex<Random>) -> u64 {
    let mut rng = rng.lock().unwrap();
    if interrupts && rng.per_mille(INTERRUPTS) { rng.below(INTERRUPT_POLLS) } else { receive_loop::UNLIMITED }
}

/// Starts as the program does, and restarts when the deployed rules have changed.
async fn signer(deployment: Deployment, interrupts: bool, rng: Arc<Mutex<Random>>) {
    let version = deployment.rules_version();
    let signer = deployment.signer();
    let started = signer.warm_up(deployment.clock.now()).await.is_ok();
    while started && deployment.rules_version() == version {
        let answered = receive_loop::serve_resign(&deployment, &signer).await;
        let served = receive_loop::serve_signing_within(&deployment, &signer, polls(interrupts, &rng)).await;
        if !answered && !served {
            deployment.handle.sleep(300).await;
        }
    }
    deployment.handle.crash_current();
    pending::<()>().await;
}

async fn broadcaster(deployment: Deployment, breadth: Breadth, rng: Arc<Mutex<Random>>) {
    let broadcaster = deployment.broadcaster();
    loop {
        let polls = polls(breadth.interrupts, &rng);
        if !receive_loop::serve_broadcast(&deployment, &broadcaster, breadth.batch, polls).await {
            deployment.handle.sleep(300).await;
        }
    }
}

async fn sweeper(deployment: Deployment) {
    let broadcaster = deployment.broadcaster();
    loop {
        deployment.handle.sleep(15_000).await;
        receive_loop::sweep(&deployment, &broadcaster).await;
    }
}

async fn backends(shared: Shared, deployment: Deployment, plan: Vec<Planned>, other: bool) {
    for (number, planned) in plan.into_iter().enumerate() {
        let due = START.plus(planned.at_ms).since(deployment.clock.now());
        deployment.handle.sleep(due).await;
        let dedup = format!("message {number}");
        let (group, sender) = (Some(planned.group), Some(planned.sender));
        // The auditor is notified before any worker is polled.
        let message_id = deployment.queues.signing.put(&planned.body, group, Some(&dedup), sender);
        let (sender, now) = (planned.sender, deployment.clock.now());
        shared.auditor.lock().unwrap().message_sent(&message_id, &planned.body, sender, deployment.chain_id, now);
        shared.messages.lock().unwrap().push(SentMessage { message_id, planned, other });
    }
}

/// Mines blocks. While faults are on, disturbs the node, the pool and the newest blocks.
async fn miner(deployment: Deployment, mut random: Random, breadth: Breadth, foreign: bool) {
    let chain = &deployment.chain.inner;
    if breadth.high_price {
        chain.set_price(Some(Wei::from_gwei(HIGH_GWEI)));
        chain.set_mined_price(Wei::from_gwei(HIGH_MINED_GWEI));
    }
    if breadth.slow {
        deployment.chain.slow_ms.store(SLOW_MS, Ordering::Relaxed);
    }
    if breadth.liar {
        chain.set_second(Some(Second::Honest));
    }
    let lies_steadily = breadth.liar && random.per_mille(250);
    let priced_at = START.plus(random.below(SPAN_MS));
    loop {
        deployment.handle.sleep(receive_loop::ROUND_MS).await;
        chain.mine();
        if breadth.rule_set == Some(RuleSet::Unpriced) && !breadth.high_price && deployment.clock.now() >= priced_at {
            chain.set_price(Some(Wei::from_gwei(1)));
        }
        if deployment.clock.now().since(START) >= FAULTS_MS {
            chain.set_faults(NodeFaults::default());
            continue;
        }
        if lies_steadily {
            let lies = Lies { counts: true, receipts: true, finality: true, blocks: true, ahead: 1_000 };
            // It drops what it accepts, or its lies would soon come true.
            chain.set_faults(NodeFaults { lies, drops_sends: true, ..NodeFaults::default() });
        } else if random.per_mille(60) {
            chain.set_faults(if breadth.liar && random.per_mille(800) {
                NodeFaults { lies: lies(&mut random), second_leads: random.per_mille(300), ..NodeFaults::default() }
            } else {
                faults(&mut random, breadth.same_answers)
            });
        } else if random.per_mille(250) {
            chain.set_faults(NodeFaults::default());
        }
        if random.per_mille(25) {
            let orphans = if random.per_mille(700) { Orphans::Return } else { Orphans::Lose };
            chain.reorg(1 + random.below(2), orphans);
        }
        if random.per_mille(25) {
            chain.evict_all();
        }
        if foreign && random.per_mille(20) {
            use_nonce_elsewhere(&deployment, &mut random);
        }
    }
}

fn faults(random: &mut Random, answers: bool) -> NodeFaults {
    let mut faults = NodeFaults::default();
    match random.below(7) {
        _ if answers => faults.answers = Some(class(random)),
        0 => faults.lag = 1 + random.below(5),
        1 => faults.hides_receipts = true,
        2 => faults.hides_blocks = true,
        3 => faults.drops_sends = true,
        4 => faults.pruned = true,
        5 => faults.mixed = true,
        _ => faults.on_old_branch = true,
    }
    faults
}

/// Each lie alone, or all of them together.
fn lies(random: &mut Random) -> Lies {
    match random.below(7) {
        0 => Lies { counts: true, ..Lies::default() },
        1 => Lies { receipts: true, ..Lies::default() },
        2 => Lies { finality: true, ..Lies::default() },
        3 => Lies { blocks: true, ..Lies::default() },
        4 => Lies { ahead: 1_000, ..Lies::default() },
        5 => Lies { counts: true, receipts: true, finality: true, blocks: false, ahead: 0 },
        _ => Lies { counts: true, receipts: true, finality: true, blocks: true, ahead: 1_000 * random.below(2) },
    }
}

/// What a node may answer to any send.
fn class(random: &mut Random) -> SendClass {
    let classes = [
        SendClass::Accepted,
        SendClass::AlreadyKnown,
        SendClass::NonceTooLow,
        SendClass::Retry,
        SendClass::Underpriced(None),
        SendClass::Underpriced(Some(Wei::from_gwei(2))),
        SendClass::Funds,
        SendClass::Refused,
        SendClass::Misconfigured,
        SendClass::Misconfigured,
        SendClass::Unknown,
    ];
    classes[random.place(classes.len())]
}

/// Another program uses the key for one of the next nonces.
fn use_nonce_elsewhere(deployment: &Deployment, random: &mut Random) {
    for head in deployment.heads().into_iter().filter(|head| head.account.chain_id == deployment.chain_id) {
        let nonce = head.lowest_open_nonce.plus(random.below(3));
        if deployment.chain.inner.used_by(head.account.address, nonce).is_none() && nonce <= head.next_nonce {
            deployment.chain.inner.foreign(head.account.address, Nonce(nonce.0));
        }
    }
}

/// Pauses all accounts for a while.
async fn operator(deployment: Deployment, mut random: Random) {
    deployment.handle.sleep(random.below(SPAN_MS)).await;
    deployment.set_paused(true);
    deployment.handle.sleep(5_000 + random.below(30_000)).await;
    deployment.set_paused(false);
}

/// Pauses one account of the pool after another, so that repeats are assigned to another account.
async fn pool_operator(deployment: Deployment, mut random: Random) {
    while deployment.clock.now().since(START) < FAULTS_MS {
        let accounts: Vec<_> = deployment.accounts.keys().copied().collect();
        let account = accounts[random.place(accounts.len())];
        if deployment.heads().iter().any(|head| head.account == account && head.retired_at.is_none()) {
            deployment.set_account_paused(account, true);
            deployment.handle.sleep(500 + random.below(4_000)).await;
        }
        if deployment.heads().iter().any(|head| head.account == account && head.retired_at.is_none()) {
            deployment.set_account_paused(account, false);
        }
        deployment.handle.sleep(random.below(2_000)).await;
    }
}

/// One action of the administrator of accounts, rules and keys.
#[derive(Debug, Clone, Copy)]
enum OperatorAction {
    Register,
    Retire,
    Rule(RuleSet),
    SetKeyDisabled(bool),
}

/// Registers and retires accounts, changes the rules, disables a key and enables it again, each at a time of its own.
async fn administrator(shared: Shared, deployment: Deployment, mut random: Random) {
    let mut actions: Vec<(u64, OperatorAction)> = Vec::new();
    let breadth = shared.breadth;
    if breadth.registers {
        actions.push((random.below(SPAN_MS), OperatorAction::Register));
    }
    if breadth.retires {
        actions.push((5_000 + random.below(SPAN_MS), OperatorAction::Retire));
    }
    if let Some(rule_set) = breadth.rule_set {
        let from = random.below(SPAN_MS);
        actions.push((from, OperatorAction::Rule(rule_set)));
        actions.push((from + 3_000 + random.below(SPAN_MS), OperatorAction::Rule(RuleSet::Usual)));
    }
    if breadth.keys {
        let from = random.below(SPAN_MS);
        actions.push((from, OperatorAction::SetKeyDisabled(true)));
        actions.push((from + 2_000 + random.below(SPAN_MS), OperatorAction::SetKeyDisabled(false)));
    }
    actions.sort_by_key(|(at, _)| *at);
    for (at, action) in actions {
        deployment.handle.sleep(START.plus(at).since(deployment.clock.now())).await;
        // The trial itself repairs everything when the faults end.
        if deployment.clock.now().since(START) >= FAULTS_MS {
            return;
        }
        match action {
            OperatorAction::Register => drop(deployment.register(LATE_NAME, LATE_NAME, 3, deployment.clock.now())),
            OperatorAction::Retire => {
                let account = deployment.accounts.keys().next_back().copied();
                let _ = account.is_some_and(|account| deployment.retire(account));
            }
            OperatorAction::Rule(rule_set) => {
                deployment.set_rules(rule_set);
                shared.auditor.lock().unwrap().rules_changed(rule_set, deployment.clock.now());
            }
            OperatorAction::SetKeyDisabled(disabled) => {
                deployment.keys.set_disabled(&format!("key-{}", NAMES[0]).parse().unwrap(), disabled);
                shared.auditor.lock().unwrap().key_failed();
            }
        }
    }
}
