//! The simulation: the real drivers, two of each, under faults that a seed decides; then without.
//!
//! While faults are on, nothing may go wrong (I1–I11, I13, I14). When they are off, everything must
//! finish within a bounded time (I12). A seed repeats exactly: same messages, same faults, same order.
//! Read next: [`crate::auditor`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::chain::Orphans;
use signpost_txmgr::fake::{Entry, NodeMood, QueueRules, SimClock};
use signpost_txmgr::record::Phase;
use signpost_txmgr::units::Nonce;

use crate::auditor::{Auditor, Violation};
use crate::host;
use crate::mutants::Mutant;
use crate::random::Random;
use crate::source::{self, Planned};
use crate::stage::{Prompter, Stage};
use crate::weather::{Rates, SeededWeather};
use crate::world::{NAMES, POOL, START, Setting, World, say};

/// Messages come over so long.
const SPAN_MS: u64 = 25_000;
/// Faults go on for so long.
const FAULTS_MS: u64 = 45_000;
/// Without faults everything finishes within so long: 20 passes of the longest.
const CALM_MS: u64 = 400_000;
/// A spend window, in every fourth seed: short, so that many begin and each is full at times.
const SPEND_WINDOW_S: u64 = 6;
/// More polls than any seed needs: a livelock ends.
const POLLS_MAX: u64 = 400_000;

/// What a simulation is like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Requests asked for, duplicates and bad ones apart.
    pub requests: usize,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// Tell everything that happens.
    pub trace: bool,
}

impl Options {
    /// 20 requests, no planted bug.
    pub const USUAL: Self = Self { requests: 20, mutant: None, trace: false };
}

/// How one seed ended.
#[derive(Debug)]
pub struct Report {
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// How often each fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many records ended as what.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// How often a future was polled.
    pub polls: u64,
    /// Simulated time until everything was quiet.
    pub took_ms: u64,
}

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Seeds run.
    pub seeds: u64,
    /// How often each fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many records ended as what.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// How often a future was polled.
    pub polls: u64,
    /// The longest any seed took until everything was quiet, in simulated time.
    pub longest_ms: u64,
    /// Seeds with a violation, and the first one of each.
    pub failed: Vec<(u64, Violation)>,
}

impl Tally {
    /// Adds one seed.
    pub fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.polls += report.polls;
        self.longest_ms = self.longest_ms.max(report.took_ms);
        let sums = [(&mut self.faults, report.faults), (&mut self.outcomes, report.outcomes)];
        for (sum, part) in sums {
            for (name, count) in part {
                *sum.entry(name).or_default() += count;
            }
        }
        self.failed.extend(report.violations.into_iter().next().map(|violation| (seed, violation)));
    }
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Report {
    let mut random = Random::new(seed);
    let clock = SimClock::at(START);
    let prompter = Prompter::new(clock.clone());
    let rates = Rates::drawn(&mut random);
    let weather = Arc::new(SeededWeather::new(random.fork(), rates, prompter.clone(), options.trace));
    let mut setting = setting(&mut random, options.mutant);
    setting.spend_window_s = (seed % 4 == 3).then_some(SPEND_WINDOW_S);
    // In every fourth seed requests are for a pool, whose accounts are paused one at a time.
    let pool = seed % 4 == 2;
    setting.accounts = if pool { NAMES.len() } else { setting.accounts };
    let world = World::new(setting, clock.clone(), prompter.clone(), weather.clone());
    let auditor = Arc::new(Mutex::new(Auditor::new(world.accounts.clone(), setting.spend_window_s)));
    let names = if pool { &[POOL][..] } else { &NAMES[..setting.accounts] };
    let plan = source::plan(&mut random, options.requests, names, SPAN_MS);
    let mut stage = Stage::new(prompter, clock, random.fork());
    cast(&mut stage, &world, &auditor, plan, &mut random);
    if pool {
        let (paused, luck) = (world.clone(), random.fork());
        stage.add("pool's operator", Box::new(move || Box::pin(pool_operator(paused.clone(), luck.clone()))));
    }
    if options.trace {
        say(&format!("seed {seed}: {rates:?} {setting:?}"));
    }
    let mut trial = Trial { world, auditor, options };
    trial.play(&mut stage, &weather);
    trial.report(&stage, &weather)
}

fn setting(random: &mut Random, mutant: Option<Mutant>) -> Setting {
    let fifo = random.per_mille(500);
    let visibility_ms = if random.per_mille(300) { 1_500 } else { 30_000 };
    let signing = QueueRules {
        fifo,
        visibility_ms,
        max_receives: 12,
        repeat_one_in: if fifo { 0 } else { 3 },
        disorder_seed: if fifo { 0 } else { random.draw() | 1 },
    };
    Setting { accounts: 1 + usize::from(random.per_mille(300)), signing, mutant, spend_window_s: None }
}

/// Who plays: two of each worker, the sweep, the backends, the miner and, at times, an operator.
fn cast(stage: &mut Stage, world: &World, auditor: &Arc<Mutex<Auditor>>, plan: Vec<Planned>, random: &mut Random) {
    for name in ["signer 1", "signer 2"] {
        let world = world.clone();
        stage.add(name, Box::new(move || Box::pin(signer(world.clone()))));
    }
    for name in ["broadcaster 1", "broadcaster 2"] {
        let world = world.clone();
        stage.add(name, Box::new(move || Box::pin(broadcaster(world.clone()))));
    }
    let swept = world.clone();
    stage.add("sweep", Box::new(move || Box::pin(sweeper(swept.clone()))));
    let (sent, told) = (world.clone(), Arc::clone(auditor));
    stage.add("backends", Box::new(move || Box::pin(backends(sent.clone(), Arc::clone(&told), plan.clone()))));
    let (mined, luck, foreign) = (world.clone(), random.fork(), random.per_mille(120));
    stage.add("miner", Box::new(move || Box::pin(miner(mined.clone(), luck.clone(), foreign))));
    if random.per_mille(200) {
        let (paused, luck) = (world.clone(), random.fork());
        stage.add("operator", Box::new(move || Box::pin(operator(paused.clone(), luck.clone()))));
    }
}

async fn signer(world: World) {
    let signer = world.signer();
    loop {
        let answered = host::serve_resign(&world, &signer).await;
        let served = host::serve_signing(&world, &signer).await;
        if !answered && !served {
            world.prompter.sleep(300).await;
        }
    }
}

async fn broadcaster(world: World) {
    let broadcaster = world.broadcaster();
    loop {
        if !host::serve_broadcast(&world, &broadcaster).await {
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

async fn backends(world: World, auditor: Arc<Mutex<Auditor>>, plan: Vec<Planned>) {
    for (number, planned) in plan.iter().enumerate() {
        let due = START.plus(planned.at_ms).since(world.clock.now());
        world.prompter.sleep(due).await;
        let dedup = format!("message {number}");
        // The auditor hears of it first: a worker may be quick.
        let id = world.queues.signing.put(&planned.body, Some(planned.group), Some(&dedup), Some("backend"));
        auditor.lock().unwrap().asked(&id, &planned.body);
    }
}

/// Mines, and while faults are on upsets the node, the pool and the newest blocks.
async fn miner(world: World, mut random: Random, foreign: bool) {
    let chain = &world.chain.inner;
    loop {
        world.prompter.sleep(host::ROUND_MS).await;
        chain.mine();
        if world.clock.now().since(START) >= FAULTS_MS {
            chain.set_mood(NodeMood::default());
            continue;
        }
        if random.per_mille(60) {
            chain.set_mood(mood(&mut random));
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

fn mood(random: &mut Random) -> NodeMood {
    let mut mood = NodeMood::default();
    match random.below(5) {
        0 => mood.lag = 1 + random.below(5),
        1 => mood.hides_receipts = true,
        2 => mood.hides_blocks = true,
        3 => mood.drops_sends = true,
        _ => mood.on_old_branch = true,
    }
    mood
}

/// Another program uses the key for one of the next nonces.
fn use_nonce_elsewhere(world: &World, random: &mut Random) {
    for head in world.heads() {
        let nonce = head.lowest_open_nonce.plus(random.below(3));
        if world.chain.inner.used_by(head.account.address, nonce).is_none() && nonce <= head.next_nonce {
            world.chain.inner.foreign(head.account.address, Nonce(nonce.0));
        }
    }
}

/// Pauses everything for a while, and puts dead letters back.
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
        world.set_paused_one(account, true);
        world.prompter.sleep(500 + random.below(4_000)).await;
        world.set_paused_one(account, false);
        world.prompter.sleep(random.below(2_000)).await;
    }
}

struct Trial {
    world: World,
    auditor: Arc<Mutex<Auditor>>,
    options: Options,
}

impl Trial {
    fn play(&mut self, stage: &mut Stage, weather: &SeededWeather) {
        let mut is_calm = false;
        while stage.polls < POLLS_MAX {
            let polled = stage.step();
            let now = self.world.clock.now();
            self.audit(polled);
            if !self.auditor.lock().unwrap().violations().is_empty() {
                return;
            }
            if !is_calm && now.since(START) >= FAULTS_MS {
                is_calm = true;
                weather.calm_down();
                self.world.set_paused(false);
                self.world.queues.signing.redrive();
                self.world.queues.resign.redrive();
                self.world.queues.broadcast.redrive();
                if self.options.trace {
                    say("---- faults off");
                }
            }
            if is_calm && (polled == Some("miner") && self.world.is_quiet() || now.since(START) > FAULTS_MS + CALM_MS) {
                break;
            }
        }
        self.auditor.lock().unwrap().finish(&self.world);
    }

    fn audit(&self, polled: Option<&'static str>) {
        let entries = self.world.journal.drain();
        if entries.is_empty() {
            return;
        }
        let now = self.world.clock.now();
        let mut auditor = self.auditor.lock().unwrap();
        for entry in &entries {
            if self.options.trace {
                say(&format!("{:>7} {:<13} {}", now.since(START), polled.unwrap_or("-"), told(entry)));
            }
            auditor.note(entry, &self.world.chain.inner, now);
        }
    }

    fn report(&self, stage: &Stage, weather: &SeededWeather) -> Report {
        let auditor = self.auditor.lock().unwrap();
        let mut faults = weather.faults();
        faults.insert("deaths", stage.deaths);
        let mut outcomes = BTreeMap::new();
        for record in auditor.records() {
            *outcomes.entry(record.phase.name()).or_default() += 1;
            *outcomes.entry("bumps").or_default() += u64::try_from(record.attempts.len().saturating_sub(1)).unwrap();
        }
        outcomes.insert("rejected", auditor.rejections());
        Report {
            violations: auditor.violations().to_vec(),
            faults,
            outcomes,
            polls: stage.polls,
            took_ms: self.world.clock.now().since(START),
        }
    }
}

/// One line about what happened.
#[must_use]
pub fn told(entry: &Entry) -> String {
    match entry {
        Entry::Registered(head) => format!("registered {}", head.account),
        Entry::Paused(account, paused) => format!("paused {account}: {paused}"),
        Entry::FastForwarded(account, from, to) => format!("fast-forwarded {account}: {from} to {to}"),
        Entry::NonceSet(account, from, to) => format!("set the nonce of {account}: {from} to {to}"),
        Entry::Retired(account) => format!("retired {account}"),
        Entry::Unregistered(account) => format!("unregistered {account}"),
        Entry::Reserved(records) => {
            let all: Vec<_> = records.iter().map(|record| format!("{}@{}", record.request_id, record.nonce)).collect();
            format!("reserved {}", all.join(" "))
        }
        Entry::Rejected(rejected) => {
            let published = if rejected.published_at.is_some() { " published" } else { "" };
            format!("rejected {} {}{published}", rejected.request_id, rejected.reason.code)
        }
        Entry::Updated(record) => {
            let hash = record.attempts.last().map(|attempt| short(&attempt.tx_hash.to_string()));
            let closed = if record.is_closed() { " closed" } else { "" };
            let block = match &record.phase {
                Phase::Mined(receipt) => format!(" in {}", receipt.block.number),
                Phase::Settled(settled) => format!(" by block {}", settled.verdict.block().number),
                Phase::Reserved | Phase::Signed | Phase::Sent => String::new(),
            };
            format!(
                "stored {} v{} {}{block}{closed} attempts {} newest {} cancel {:?}",
                record.request_id,
                record.version,
                record.phase.name(),
                record.attempts.len(),
                hash.unwrap_or_default(),
                record.cancel
            )
        }
        Entry::LeftSlots(_, from, to) => format!("left slots {from} to {to}"),
        Entry::KmsSigned(_, hash) => format!("signed {}", short(&hash.to_string())),
        Entry::Sent(raw) => format!("sent {}", short(&raw.hash.to_string())),
        Entry::Published(outcome) => format!("published {} {}", outcome.request_id, outcome.status.as_str()),
        Entry::PokedLanes(pokes) => format!("poked {} lanes", pokes.len()),
        Entry::PokedSigner(pokes) => {
            let all: Vec<_> =
                pokes.iter().map(|poke| format!("{}#{} {:?}", poke.request_id, poke.attempt, poke.kind)).collect();
            format!("asked for {}", all.join(" "))
        }
        Entry::PublicKeyRead(key) => format!("read the public key of {key}"),
        Entry::Received(queue, ids) => format!("received {} of {queue}", ids.join(" ")),
        Entry::Deleted(queue, id, _) => format!("deleted {id} of {queue}"),
    }
}

fn short(hash: &str) -> String {
    hash.chars().take(10).collect()
}
