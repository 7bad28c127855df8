//! Who plays: the workers of each Signpost, and everybody around them.
//!
//! Read next: [`crate::host`].

use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::chain::Orphans;
use signpost_txmgr::fake::{Lies, NodeMood, Second};
use signpost_txmgr::record::SendClass;
use signpost_txmgr::units::{Nonce, Wei};

use super::{FAULTS_MS, SPAN_MS};
use crate::auditor::Auditor;
use crate::breadth::Breadth;
use crate::host;
use crate::random::Random;
use crate::source::{self, Planned};
use crate::stage::Stage;
use crate::world::{LATE_NAME, NAMES, OTHER_NAME, POOL, Regime, START, World};

/// The workers of the Signpost beside: one of each.
pub(super) const OTHER_CAST: [&str; 3] = ["signer of main", "broadcaster of main", "sweep of main"];
/// The network's price where it is above every cap, and the least that is mined then, in gwei.
const DEAR_GWEI: u64 = 20;
const DEAR_MINED_GWEI: u64 = 2;
/// What a slow node takes for one question: three of them, one after the other, are more than a pass.
const SLOW_MS: u64 = 9_000;
/// How often a batch or a pass is broken off where that happens, per mille, and after how many polls at most.
const BREAKS: u64 = 60;
const BREAK_POLLS: u64 = 120;

/// A message that was sent.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) message_id: String,
    pub(super) planned: Planned,
    /// To the Signpost beside.
    pub(super) other: bool,
}

/// What everybody knows.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    pub(super) auditor: Arc<Mutex<Auditor>>,
    pub(super) letters: Arc<Mutex<Vec<Letter>>>,
    pub(super) breadth: Breadth,
    pub(super) pool: bool,
}

impl Cast {
    /// Puts everybody on the stage.
    pub(super) fn put_on(
        &self,
        stage: &mut Stage,
        world: &World,
        other: Option<&World>,
        requests: usize,
        random: &mut Random,
    ) {
        for name in ["signer 1", "signer 2"] {
            self.signer(name, stage, world, random);
        }
        for name in ["broadcaster 1", "broadcaster 2"] {
            self.broadcaster(name, stage, world, random);
        }
        sweep("sweep", stage, world);
        let plan = self.plan(requests, world, random);
        self.backends("backends", stage, world, plan, false);
        self.miner("miner", stage, world, random);
        if let Some(other) = other {
            let [signer, broadcaster, name] = OTHER_CAST;
            self.signer(signer, stage, other, random);
            self.broadcaster(broadcaster, stage, other, random);
            sweep(name, stage, other);
            let mut plan = source::plan(random, requests / 2, &[OTHER_NAME], SPAN_MS, self.breadth.strangers);
            for planned in &mut plan {
                planned.body = source::renamed(&planned.body, random);
            }
            self.backends("backends of main", stage, other, plan, true);
            self.miner("miner of main", stage, other, random);
        }
        if random.per_mille(200) {
            let (paused, luck) = (world.clone(), random.fork());
            stage.add("operator", Box::new(move || Box::pin(operator(paused.clone(), luck.clone()))));
        }
        if self.pool && !self.breadth.unnamed {
            let (paused, luck) = (world.clone(), random.fork());
            stage.add("pool's operator", Box::new(move || Box::pin(pool_operator(paused.clone(), luck.clone()))));
        }
        let (cast, kept, luck) = (self.clone(), world.clone(), random.fork());
        stage.add("keeper", Box::new(move || Box::pin(keeper(cast.clone(), kept.clone(), luck.clone()))));
    }

    fn plan(&self, requests: usize, world: &World, random: &mut Random) -> Vec<Planned> {
        let mut names: Vec<&'static str> = match (self.breadth.unnamed, self.pool) {
            (true, _) => vec![""],
            (false, true) => vec![POOL],
            (false, false) => NAMES[..world.accounts.len()].to_vec(),
        };
        if self.breadth.late {
            names.push(LATE_NAME);
        }
        source::plan(random, requests, &names, SPAN_MS, self.breadth.strangers)
    }

    fn signer(&self, name: &'static str, stage: &mut Stage, world: &World, random: &mut Random) {
        let (world, breaks, luck) = (world.clone(), self.breadth.breaks, Arc::new(Mutex::new(random.fork())));
        stage.add(name, Box::new(move || Box::pin(signer(world.clone(), breaks, Arc::clone(&luck)))));
    }

    fn broadcaster(&self, name: &'static str, stage: &mut Stage, world: &World, random: &mut Random) {
        let (world, breadth, luck) = (world.clone(), self.breadth, Arc::new(Mutex::new(random.fork())));
        stage.add(name, Box::new(move || Box::pin(broadcaster(world.clone(), breadth, Arc::clone(&luck)))));
    }

    fn backends(&self, name: &'static str, stage: &mut Stage, world: &World, plan: Vec<Planned>, other: bool) {
        let (cast, world) = (self.clone(), world.clone());
        stage.add(name, Box::new(move || Box::pin(backends(cast.clone(), world.clone(), plan.clone(), other))));
    }

    fn miner(&self, name: &'static str, stage: &mut Stage, world: &World, random: &mut Random) {
        let (world, luck, foreign) = (world.clone(), random.fork(), random.per_mille(120));
        let breadth = self.breadth;
        stage.add(name, Box::new(move || Box::pin(miner(world.clone(), luck.clone(), breadth, foreign))));
    }
}

fn sweep(name: &'static str, stage: &mut Stage, world: &World) {
    let world = world.clone();
    stage.add(name, Box::new(move || Box::pin(sweeper(world.clone()))));
}

/// How often what begins now may be polled.
fn polls(breaks: bool, luck: &Mutex<Random>) -> u64 {
    let mut luck = luck.lock().unwrap();
    if breaks && luck.per_mille(BREAKS) { luck.below(BREAK_POLLS) } else { host::UNBROKEN }
}

/// Starts as the program does, and ends when the rules it was started with are no longer those of the deployment.
async fn signer(world: World, breaks: bool, luck: Arc<Mutex<Random>>) {
    let version = world.rules_version();
    let signer = world.signer();
    let started = signer.warm_up(world.clock.now()).await.is_ok();
    while started && world.rules_version() == version {
        let answered = host::serve_resign(&world, &signer).await;
        let served = host::serve_signing_within(&world, &signer, polls(breaks, &luck)).await;
        if !answered && !served {
            world.prompter.sleep(300).await;
        }
    }
    world.prompter.doom();
    pending::<()>().await;
}

async fn broadcaster(world: World, breadth: Breadth, luck: Arc<Mutex<Random>>) {
    let broadcaster = world.broadcaster();
    loop {
        let polls = polls(breadth.breaks, &luck);
        if !host::serve_broadcast(&world, &broadcaster, breadth.batch, polls).await {
            world.prompter.sleep(300).await;
        }
    }
}

async fn sweeper(world: World) {
    let broadcaster = world.broadcaster();
    loop {
        world.prompter.sleep(15_000).await;
        host::sweep(&world, &broadcaster).await;
    }
}

async fn backends(cast: Cast, world: World, plan: Vec<Planned>, other: bool) {
    for (number, planned) in plan.into_iter().enumerate() {
        let due = START.plus(planned.at_ms).since(world.clock.now());
        world.prompter.sleep(due).await;
        let dedup = format!("message {number}");
        let (group, sender) = (Some(planned.group), Some(planned.sender));
        // The auditor hears of it before any worker is polled.
        let message_id = world.queues.signing.put(&planned.body, group, Some(&dedup), sender);
        let (sender, now) = (planned.sender, world.clock.now());
        cast.auditor.lock().unwrap().asked(&message_id, &planned.body, sender, world.chain_id, now);
        cast.letters.lock().unwrap().push(Letter { message_id, planned, other });
    }
}

/// Mines, and while faults are on upsets the node, the pool and the newest blocks.
async fn miner(world: World, mut random: Random, breadth: Breadth, foreign: bool) {
    let chain = &world.chain.inner;
    if breadth.dear {
        chain.set_price(Some(Wei::from_gwei(DEAR_GWEI)));
        chain.set_mined_price(Wei::from_gwei(DEAR_MINED_GWEI));
    }
    if breadth.slow {
        world.chain.slow_ms.store(SLOW_MS, Ordering::Relaxed);
    }
    if breadth.liar {
        chain.set_second(Some(Second::Honest));
    }
    let lies_steadily = breadth.liar && random.per_mille(250);
    let priced_at = START.plus(random.below(SPAN_MS));
    loop {
        world.prompter.sleep(host::ROUND_MS).await;
        chain.mine();
        if breadth.regime == Some(Regime::Unpriced) && !breadth.dear && world.clock.now() >= priced_at {
            chain.set_price(Some(Wei::from_gwei(1)));
        }
        if world.clock.now().since(START) >= FAULTS_MS {
            chain.set_mood(NodeMood::default());
            continue;
        }
        if lies_steadily {
            let lies = Lies { counts: true, receipts: true, finality: true, blocks: true, ahead: 1_000 };
            // What it takes it keeps to itself, or its lies would soon come true.
            chain.set_mood(NodeMood { lies, drops_sends: true, ..NodeMood::default() });
        } else if random.per_mille(60) {
            chain.set_mood(if breadth.liar && random.per_mille(800) {
                NodeMood { lies: lies(&mut random), second_leads: random.per_mille(300), ..NodeMood::default() }
            } else {
                mood(&mut random, breadth.answers)
            });
        } else if random.per_mille(250) {
            chain.set_mood(NodeMood::default());
        }
        if random.per_mille(25) {
            let orphans = if random.per_mille(700) { Orphans::Return } else { Orphans::Lose };
            chain.reorg(1 + random.below(2), orphans);
        }
        if random.per_mille(25) {
            chain.evict_all();
        }
        if foreign && random.per_mille(20) {
            use_nonce_elsewhere(&world, &mut random);
        }
    }
}

fn mood(random: &mut Random, answers: bool) -> NodeMood {
    let mut mood = NodeMood::default();
    match random.below(7) {
        _ if answers => mood.answers = Some(class(random)),
        0 => mood.lag = 1 + random.below(5),
        1 => mood.hides_receipts = true,
        2 => mood.hides_blocks = true,
        3 => mood.drops_sends = true,
        4 => mood.pruned = true,
        5 => mood.mixed = true,
        _ => mood.on_old_branch = true,
    }
    mood
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
fn use_nonce_elsewhere(world: &World, random: &mut Random) {
    for head in world.heads().into_iter().filter(|head| head.account.chain_id == world.chain_id) {
        let nonce = head.lowest_open_nonce.plus(random.below(3));
        if world.chain.inner.used_by(head.account.address, nonce).is_none() && nonce <= head.next_nonce {
            world.chain.inner.foreign(head.account.address, Nonce(nonce.0));
        }
    }
}

/// Pauses everything for a while.
async fn operator(world: World, mut random: Random) {
    world.prompter.sleep(random.below(SPAN_MS)).await;
    world.set_paused(true);
    world.prompter.sleep(5_000 + random.below(30_000)).await;
    world.set_paused(false);
}

/// Pauses one account of the pool after another, so that what is sent again is assigned elsewhere.
async fn pool_operator(world: World, mut random: Random) {
    while world.clock.now().since(START) < FAULTS_MS {
        let accounts: Vec<_> = world.accounts.keys().copied().collect();
        let account = accounts[random.place(accounts.len())];
        if world.heads().iter().any(|head| head.account == account && head.retired_at.is_none()) {
            world.set_paused_one(account, true);
            world.prompter.sleep(500 + random.below(4_000)).await;
        }
        if world.heads().iter().any(|head| head.account == account && head.retired_at.is_none()) {
            world.set_paused_one(account, false);
        }
        world.prompter.sleep(random.below(2_000)).await;
    }
}

/// One thing an operator of accounts, rules and keys does.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Register,
    Retire,
    Rule(Regime),
    SetKeyDisabled(bool),
}

/// Registers, retires, changes the rules, takes a key away and gives it back, each at a time of its own.
async fn keeper(cast: Cast, world: World, mut random: Random) {
    let mut deeds: Vec<(u64, Deed)> = Vec::new();
    let breadth = cast.breadth;
    if breadth.late {
        deeds.push((random.below(SPAN_MS), Deed::Register));
    }
    if breadth.retires {
        deeds.push((5_000 + random.below(SPAN_MS), Deed::Retire));
    }
    if let Some(regime) = breadth.regime {
        let from = random.below(SPAN_MS);
        deeds.push((from, Deed::Rule(regime)));
        deeds.push((from + 3_000 + random.below(SPAN_MS), Deed::Rule(Regime::Usual)));
    }
    if breadth.keys {
        let from = random.below(SPAN_MS);
        deeds.push((from, Deed::SetKeyDisabled(true)));
        deeds.push((from + 2_000 + random.below(SPAN_MS), Deed::SetKeyDisabled(false)));
    }
    deeds.sort_by_key(|(at, _)| *at);
    for (at, deed) in deeds {
        world.prompter.sleep(START.plus(at).since(world.clock.now())).await;
        // What is over is over: the trial itself mends everything when the faults end.
        if world.clock.now().since(START) >= FAULTS_MS {
            return;
        }
        match deed {
            Deed::Register => drop(world.register(LATE_NAME, LATE_NAME, 3, world.clock.now())),
            Deed::Retire => {
                let account = world.accounts.keys().next_back().copied();
                let _ = account.is_some_and(|account| world.retire(account));
            }
            Deed::Rule(regime) => {
                world.rule(regime);
                cast.auditor.lock().unwrap().ruled(regime, world.clock.now());
            }
            Deed::SetKeyDisabled(disabled) => {
                world.keys.set_disabled(&format!("key-{}", NAMES[0]).parse().unwrap(), disabled);
                cast.auditor.lock().unwrap().key_failed();
            }
        }
    }
}
