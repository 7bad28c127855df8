//! Fault injection into the fakes: random faults at every port call, or one fault at one call.
//!
//! Read next: [`crate::deployment`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use signpost_txmgr::fake::{Fate, FaultSource};
use signpost_txmgr::ports::Happened;

use crate::executor::ExecutorHandle;
use crate::random::Random;

/// The rate of each fault, per mille of the calls.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// The call fails, and certainly had no effect.
    pub fails: u64,
    /// The call is throttled, and certainly had no effect.
    pub throttles: u64,
    /// The call had no effect, and the caller cannot know it.
    pub vanishes: u64,
    /// The call took effect, and its reply is lost.
    pub loses_reply: u64,
    /// The worker crashes, before or after the call.
    pub dies: u64,
    /// A node accepts a transaction and forgets it.
    pub swallows: u64,
    /// A reservation conflicts with another transaction on its items.
    pub contends: u64,
}

impl Rates {
    /// No faults.
    pub const NONE: Self =
        Self { fails: 0, throttles: 0, vanishes: 0, loses_reply: 0, dies: 0, swallows: 0, contends: 0 };

    /// Draws each rate independently, from zero to its maximum.
    pub fn drawn(random: &mut Random) -> Self {
        let mut up_to = |most: u64| random.below(4) * most / 3;
        Self {
            fails: up_to(30),
            throttles: up_to(20),
            vanishes: up_to(20),
            loses_reply: up_to(30),
            dies: up_to(12),
            swallows: up_to(60),
            contends: up_to(90),
        }
    }
}

/// Random faults.
pub struct RandomFaults {
    random: Mutex<Random>,
    rates: Rates,
    is_on: AtomicBool,
    refuses: AtomicBool,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    count: AtomicU64,
    handle: ExecutorHandle,
    traces: bool,
}

impl fmt::Debug for RandomFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RandomFaults").field("rates", &self.rates).finish_non_exhaustive()
    }
}

impl RandomFaults {
    /// Random faults, switched on.
    #[must_use]
    pub fn new(random: Random, rates: Rates, handle: ExecutorHandle, traces: bool) -> Self {
        let is_on = AtomicBool::new(true);
        Self {
            random: Mutex::new(random),
            rates,
            is_on,
            refuses: AtomicBool::new(false),
            faults: Mutex::default(),
            count: AtomicU64::new(0),
            handle,
            traces,
        }
    }

    /// Injects no more faults.
    pub fn turn_off(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }

    /// From now on the topic refuses one outcome in four for good, even with faults off, unless it is reduced.
    pub fn refuse_some(&self) {
        self.refuses.store(true, Ordering::Relaxed);
    }

    /// How often each fault was injected.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.faults.lock().unwrap().clone()
    }

    /// How many faults were injected.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn chosen(&self, operation: &'static str) -> (Fate, &'static str) {
        let mut random = self.random.lock().unwrap();
        let point = random.below(1_000);
        let mut below = 0_u64;
        let rates = &self.rates;
        let swallows = if operation == "eth_sendRawTransaction" { rates.swallows } else { 0 };
        let contends = if operation == "TransactWriteItems" { rates.contends } else { 0 };
        let faults = [
            (rates.fails, Fate::Fail { happened: Happened::No, throttled: false }, "failed"),
            (rates.throttles, Fate::Fail { happened: Happened::No, throttled: true }, "throttled"),
            (rates.vanishes, Fate::Fail { happened: Happened::Unknown, throttled: false }, "vanished"),
            (rates.loses_reply, Fate::LoseReply, "reply lost"),
            (rates.dies, Fate::DieBefore, "died before"),
            (rates.dies, Fate::DieAfter, "died after"),
            (swallows, Fate::Swallow, "send swallowed"),
            (contends, Fate::Contend, "contended"),
        ];
        let hit = faults.into_iter().find(|(rate, ..)| {
            below += rate;
            point < below
        });
        hit.map_or((Fate::Pass, ""), |(_, fate, name)| (fate, name))
    }
}

impl RandomFaults {
    /// Draws the next fate, counts it and traces it.
    fn next(&self, operation: &'static str) -> Fate {
        if !self.is_on.load(Ordering::Relaxed) {
            return Fate::Pass;
        }
        let (fate, name) = self.chosen(operation);
        if fate == Fate::Pass {
            return fate;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        *self.faults.lock().unwrap().entry(name).or_default() += 1;
        if self.traces {
            crate::deployment::print_line(&format!("          ~ {operation}: {name}"));
        }
        fate
    }
}

impl FaultSource for RandomFaults {
    fn fate(&self, operation: &'static str) -> Fate {
        let fate = self.next(operation);
        if matches!(fate, Fate::DieBefore | Fate::DieAfter) {
            self.handle.crash_current();
        }
        fate
    }

    fn refuses(&self, operation: &'static str, body: &str) -> bool {
        let sum = body.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let is_whole = !body.contains("\"reduced\":true");
        operation == "PublishBatch" && self.refuses.load(Ordering::Relaxed) && is_whole && sum.is_multiple_of(4)
    }

    fn entry_fate(&self, operation: &'static str) -> Fate {
        match self.next(operation) {
            // A single entry of a batch cannot crash the worker.
            Fate::DieBefore | Fate::DieAfter => Fate::LoseReply,
            fate @ (Fate::Pass | Fate::Fail { .. } | Fate::LoseReply | Fate::Swallow | Fate::Contend) => fate,
        }
    }
}

/// One fault at one call, counted from 0.
#[derive(Debug)]
pub struct SingleFault {
    at: u64,
    fate: Fate,
    calls: AtomicU64,
    handle: ExecutorHandle,
}

impl SingleFault {
    /// Injects `fate` into call number `at`; every other call passes.
    #[must_use]
    pub fn new(at: u64, fate: Fate, handle: ExecutorHandle) -> Self {
        Self { at, fate, calls: AtomicU64::new(0), handle }
    }

    /// The number of the call that fails.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl FaultSource for SingleFault {
    fn fate(&self, _operation: &'static str) -> Fate {
        if self.calls.fetch_add(1, Ordering::Relaxed) != self.at {
            return Fate::Pass;
        }
        if matches!(self.fate, Fate::DieBefore | Fate::DieAfter) {
            self.handle.crash_current();
        }
        self.fate
    }
}
