//! The simulation: the real drivers, two of each, under faults that a seed decides; then without.
//!
//! While faults are on, no invariant may break. When they are off, everything must finish within a bounded time (I12).
//! A redelivery long after, with other rules and accounts, must change nothing (G2). The seed's [`Breadth`] decides
//! what else happens. A seed repeats exactly: same messages, same faults, same order. Read next: [`crate::auditor`].

mod tasks;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::{Entry, NodeFaults, QueueRules, SimClock};
use signpost_txmgr::record::Phase;
use signpost_txmgr::units::Millis;

use self::tasks::{OTHER_TASKS, SentMessage, Shared};
use crate::auditor::{Actor, Auditor, Violation};
use crate::breadth::{Breadth, Broken};
use crate::deployment::{CHAIN, Deployment, NAMES, OTHER_CHAIN, RuleSet, START, Setting, print_line};
use crate::executor::{Executor, ExecutorHandle};
use crate::faults::{RandomFaults, Rates};
use crate::mutants::Mutant;
use crate::random::Random;

/// Messages are sent within this time.
const SPAN_MS: u64 = 25_000;
/// Faults end after this time.
const FAULTS_MS: u64 = 45_000;
/// Without faults everything finishes within this time: 20 of the longest passes.
const FINISH_MS: u64 = 400_000;
/// Every message is redelivered this long after everything finished: longer than any window, timeout or deduplication
/// of a queue.
const LATER_MS: u64 = 600_000;
/// How long a slow key service takes for a signature: the broadcaster asks after 5 s.
const SLOW_KEYS_MS: u64 = 6_500;
/// A spend window, in every fourth seed: short, so that many windows begin and some fill up.
const SPEND_WINDOW_S: u64 = 6;
/// A window of requests, in every eighth seed: as short.
const REQUEST_WINDOW_S: u64 = 6;
/// More polls than any seed needs, which ends a livelock.
const POLLS_MAX: u64 = 400_000;

/// The options of a simulation.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Number of requests, without duplicates and invalid ones.
    pub requests: usize,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// Print everything that happens.
    pub trace: bool,
    /// The conditions of the trial; the seed decides if there are none.
    pub breadth: Option<Breadth>,
}

impl Options {
    /// 20 requests, no planted bug, conditions by the seed.
    pub const USUAL: Self = Self { requests: 20, mutant: None, trace: false, breadth: None };
}

/// How one seed ended.
#[derive(Debug)]
pub struct Report {
    /// The violations found.
    pub violations: Vec<Violation>,
    /// How often each fault was injected.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many records ended in which status.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// How often a future was polled.
    pub polls: u64,
    /// Simulated time until everything had finished.
    pub took_ms: u64,
}

/// The results of many seeds.
#[derive(Debug, Default)]
pub struct Tally {
    /// Seeds run.
    pub seeds: u64,
    /// How often each fault was injected.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many records ended in which status.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// How often a future was polled.
    pub polls: u64,
    /// The longest time until everything had finished, of all seeds, in simulated time.
    pub longest_ms: u64,
    /// Seeds with a violation, and the first violation of each.
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
    let handle = ExecutorHandle::new(clock.clone());
    let rates = Rates::drawn(&mut random);
    let injector = Arc::new(RandomFaults::new(random.fork(), rates, handle.clone(), options.trace));
    let mut setting = setting(&mut random, options.mutant);
    setting.spend_window_s = (seed % 4 == 3).then_some(SPEND_WINDOW_S);
    setting.request_window_s = (seed % 8 == 5).then_some(REQUEST_WINDOW_S);
    let drawn = Breadth::drawn(&mut random);
    let breadth = options.breadth.unwrap_or(drawn);
    // In every fourth seed requests are for a pool, whose accounts are paused one at a time.
    let pool = seed % 4 == 2;
    setting.accounts = if pool { NAMES.len() } else { setting.accounts };
    setting.accounts = if breadth.unnamed { 1 } else { setting.accounts };
    let mut deployment = Deployment::new(setting, clock.clone(), handle.clone(), injector.clone());
    deployment.retry_after_ms = breadth.retry_after_ms;
    if breadth.slow_keys {
        deployment.keys_slow_ms.store(SLOW_KEYS_MS, Ordering::Relaxed);
    }
    let other = breadth.other_chain.then(|| deployment.other_signpost(setting.signing));
    if let Some(broken) = breadth.broken {
        let account = deployment.register("broken", "broken", 5, START);
        if broken == Broken::Retired {
            deployment.retire(account);
        }
        deployment.keys.set_disabled(&"key-broken".parse().unwrap(), true);
    }
    let deployments: Vec<&Deployment> = [&deployment].into_iter().chain(&other).collect();
    let auditor = Arc::new(Mutex::new(Auditor::new(&deployments, &setting)));
    if breadth.refuses {
        injector.refuse_some();
        auditor.lock().unwrap().outcomes_refused();
    }
    if breadth.liar {
        auditor.lock().unwrap().node_lies();
    }
    if breadth.broken.is_some() {
        auditor.lock().unwrap().key_failed();
    }
    if options.trace {
        print_line(&format!("seed {seed}: {rates:?} {setting:?} {breadth:?}"));
    }
    let mut executor = Executor::new(handle, clock, random.fork());
    let messages = Arc::default();
    let shared = Shared { auditor: Arc::clone(&auditor), messages: Arc::clone(&messages), breadth, pool };
    shared.spawn_all(&mut executor, &deployment, other.as_ref(), options.requests, &mut random);
    let mut trial =
        Trial { deployment, other, auditor, messages, breadth, options, faults: HashMap::new(), counted: 0 };
    trial.run(&mut executor, &injector);
    trial.report(&executor, &injector)
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
    Setting {
        accounts: 1 + usize::from(random.per_mille(300)),
        signing,
        mutant,
        spend_window_s: None,
        request_window_s: None,
    }
}

struct Trial {
    deployment: Deployment,
    other: Option<Deployment>,
    auditor: Arc<Mutex<Auditor>>,
    messages: Arc<Mutex<Vec<SentMessage>>>,
    breadth: Breadth,
    options: Options,
    /// Faults injected into each task, and the sum so far.
    faults: HashMap<&'static str, u64>,
    counted: u64,
}

/// The period of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    /// Faults are injected.
    Faults,
    /// No more faults are injected.
    NoFaults,
    /// Everything had finished, and every message was redelivered.
    Redelivery,
}

impl Trial {
    fn run(&mut self, executor: &mut Executor, injector: &RandomFaults) {
        let mut period = Period::Faults;
        let mut until = Millis(START.0 + FAULTS_MS);
        // Entries from before the start belong to no task.
        self.audit(None, injector);
        while executor.polls < POLLS_MAX {
            let polled = executor.step();
            let now = self.deployment.clock.now();
            self.audit(polled, injector);
            if !self.auditor.lock().unwrap().violations().is_empty() {
                return;
            }
            let mined = matches!(polled, Some(("miner", _)));
            if period == Period::Faults && now >= until {
                self.end_faults(injector);
                self.audit(None, injector);
                (period, until) = (Period::NoFaults, now.plus(FINISH_MS));
            }
            if period == Period::Faults || !mined {
                continue;
            }
            let is_quiet = self.deployments().all(Deployment::is_quiet);
            if is_quiet && period == Period::NoFaults && self.breadth.redelivers {
                self.deliver_all_again();
                self.audit(None, injector);
                (period, until) = (Period::Redelivery, self.deployment.clock.now().plus(FINISH_MS));
            } else if is_quiet || now > until {
                break;
            } else {
                // An operator redrives dead letters, and resumes accounts that nodes' answers paused.
                self.redrive();
                if period == Period::NoFaults {
                    self.deployment.set_paused(false);
                }
                self.audit(None, injector);
            }
        }
        self.auditor.lock().unwrap().finish(&self.deployment);
    }

    fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        [&self.deployment].into_iter().chain(&self.other)
    }

    fn trace(&self, text: &str) {
        if self.options.trace {
            print_line(text);
        }
    }

    fn end_faults(&self, injector: &RandomFaults) {
        injector.turn_off();
        if self.deployment.rule_set() != RuleSet::Usual {
            self.set_rules(RuleSet::Usual);
        }
        for name in NAMES {
            self.deployment.keys.set_disabled(&format!("key-{name}").parse().unwrap(), false);
        }
        self.deployment.keys_slow_ms.store(0, Ordering::Relaxed);
        self.deployment.set_paused(false);
        for deployment in self.deployments() {
            deployment.chain.inner.set_faults(NodeFaults::default());
        }
        self.redrive();
        self.trace("---- faults off");
    }

    fn redrive(&self) {
        for deployment in self.deployments() {
            deployment.queues.signing.redrive();
            deployment.queues.resign.redrive();
            deployment.queues.broadcast.redrive();
        }
    }

    fn set_rules(&self, rule_set: RuleSet) {
        self.deployment.set_rules(rule_set);
        self.auditor.lock().unwrap().rules_changed(rule_set, self.deployment.clock.now());
    }

    /// Redelivers every message long after, with other rules and accounts and a pause: every answer must stay.
    fn deliver_all_again(&self) {
        self.deployment.clock.advance(LATER_MS);
        self.set_rules(RuleSet::Tight);
        self.deployment.register("after", "after", 6, self.deployment.clock.now());
        self.deployment.set_paused(true);
        for message in self.messages.lock().unwrap().iter() {
            let deployment = if message.other { self.other.as_ref() } else { Some(&self.deployment) };
            let Some(deployment) = deployment else { continue };
            let (group, sender) = (Some(message.planned.group), Some(message.planned.sender));
            deployment.queues.signing.deliver_again(&message.message_id, &message.planned.body, group, sender);
        }
        self.trace("---- everything redelivered");
    }

    fn audit(&mut self, polled: Option<(&'static str, u64)>, injector: &RandomFaults) {
        let actor = match polled {
            None => Actor::OUTSIDE,
            Some((name, life)) => {
                let faults = self.faults.entry(name).or_default();
                let faults_before = *faults;
                *faults += injector.count() - self.counted;
                self.counted = injector.count();
                let is_driver = ["signer", "broadcaster", "sweep"].iter().any(|driver| name.starts_with(driver));
                let chain = if OTHER_TASKS.contains(&name) { OTHER_CHAIN } else { CHAIN };
                Actor { name, life, chain: is_driver.then_some(chain.0), faults: *faults, faults_before }
            }
        };
        let entries = self.deployment.journal.drain();
        if entries.is_empty() {
            return;
        }
        let now = self.deployment.clock.now();
        let mut auditor = self.auditor.lock().unwrap();
        for entry in &entries {
            if self.options.trace {
                print_line(&format!("{:>7} {:<13} {}", now.since(START), actor.name, describe(entry)));
            }
            auditor.note(entry, actor, now);
        }
    }

    fn report(&self, executor: &Executor, injector: &RandomFaults) -> Report {
        let auditor = self.auditor.lock().unwrap();
        let mut faults = injector.faults();
        faults.insert("crashes", executor.crashes);
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
            polls: executor.polls,
            took_ms: self.deployment.clock.now().since(START),
        }
    }
}

/// One line of the trace.
#[must_use]
pub fn describe(entry: &Entry) -> String {
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
        Entry::MovedMarks(_, before, after) => format!("moved marks from {before:?} to {after:?}"),
        Entry::KmsSigned(_, hash, _) => format!("signed {}", short(&hash.to_string())),
        Entry::Sent(raw) => format!("sent {}", short(&raw.hash.to_string())),
        Entry::Published(outcome) => format!("published {} {}", outcome.request_id, outcome.status.as_str()),
        Entry::PokedLanes(pokes) => format!("poked {} lanes", pokes.len()),
        Entry::PokedSigner(pokes) => {
            let all: Vec<_> =
                pokes.iter().map(|poke| format!("{}#{} {:?}", poke.request_id, poke.attempt, poke.kind)).collect();
            format!("asked for {}", all.join(" "))
        }
        Entry::PublicKeyRead(key) => format!("read the public key of {key}"),
        Entry::KeyRefused(key) => format!("was refused by {key}"),
        Entry::Received(queue, ids) => format!("received {} of {queue}", ids.join(" ")),
        Entry::Deleted(queue, id, _) => format!("deleted {id} of {queue}"),
    }
}

fn short(hash: &str) -> String {
    hash.chars().take(10).collect()
}
