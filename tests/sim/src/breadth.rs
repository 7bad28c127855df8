//! The conditions of a trial: what else happens while requests are processed. The seed decides. Most trials have a few
//! of these conditions, which keeps them cheap.
//!
//! Read next: [`crate::simulation`].

use crate::deployment::RuleSet;
use crate::random::Random;

/// How many trials in a thousand have each condition.
mod rates {
    pub(super) const OTHER_CHAIN: u64 = 100;
    pub(super) const REGISTERS: u64 = 120;
    pub(super) const RETIRES: u64 = 80;
    pub(super) const BROKEN: u64 = 80;
    pub(super) const RULE_SET: u64 = 180;
    pub(super) const KEYS: u64 = 100;
    pub(super) const UNNAMED: u64 = 100;
    pub(super) const HIGH_PRICE: u64 = 120;
    pub(super) const SAME_ANSWERS: u64 = 100;
    pub(super) const SLOW: u64 = 80;
    pub(super) const SLOW_KEYS: u64 = 60;
    pub(super) const INTERRUPTS: u64 = 200;
    pub(super) const BATCHES: u64 = 300;
    pub(super) const REDELIVERS: u64 = 350;
    pub(super) const STRANGERS: u64 = 150;
    pub(super) const REFUSES: u64 = 100;
    pub(super) const LIAR: u64 = 120;
}

/// The conditions of one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the conditions are independent of each other")]
pub struct Breadth {
    /// A Signpost for another chain uses the same tables.
    pub other_chain: bool,
    /// An account is registered during the trial.
    pub registers: bool,
    /// An account without open slots is retired during the trial.
    pub retires: bool,
    /// An account is registered whose key cannot be used; no request names it.
    pub broken: Option<Broken>,
    /// Signers are restarted with other rules for a while.
    pub rule_set: Option<RuleSet>,
    /// A key is disabled for a while.
    pub keys: bool,
    /// Requests name no account.
    pub unnamed: bool,
    /// The network's price is above every cap; a lower price is mined too.
    pub high_price: bool,
    /// A node gives the same answer to every send for a while.
    pub same_answers: bool,
    /// A node is slow to replay calls and to find the transaction that used a nonce, until the end of the trial.
    pub slow: bool,
    /// A signature takes longer than the broadcaster waits before it requests one.
    pub slow_keys: bool,
    /// Batches and passes are interrupted at arbitrary awaits.
    pub interrupts: bool,
    /// Messages received from the broadcast queue at once.
    pub batch: usize,
    /// Milliseconds until a retried message is visible again.
    pub retry_after_ms: u64,
    /// Every message is redelivered after the trial, with other rules and accounts.
    pub redelivers: bool,
    /// A sender that no policy allows sends messages too.
    pub strangers: bool,
    /// The topic refuses some outcomes for good.
    pub refuses: bool,
    /// There are two nodes, and one lies from time to time.
    pub liar: bool,
}

/// The state of the account whose key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Registered and not retired.
    Active,
    /// Retired; its key was disabled afterwards.
    Retired,
}

impl Breadth {
    /// None of the conditions.
    pub const NARROW: Self = Self {
        other_chain: false,
        registers: false,
        retires: false,
        broken: None,
        rule_set: None,
        keys: false,
        unnamed: false,
        high_price: false,
        same_answers: false,
        slow: false,
        slow_keys: false,
        interrupts: false,
        batch: 1,
        retry_after_ms: 0,
        redelivers: false,
        strangers: false,
        refuses: false,
        liar: false,
    };

    /// Draws each condition independently.
    pub fn drawn(random: &mut Random) -> Self {
        let rule_sets = [RuleSet::Tight, RuleSet::Bare, RuleSet::Unpriced];
        let rule_set = rule_sets[random.place(rule_sets.len())];
        let broken = if random.per_mille(500) { Broken::Active } else { Broken::Retired };
        let retries = [0, 0, 0, 1_500, 1_500, 20_000];
        Self {
            other_chain: random.per_mille(rates::OTHER_CHAIN),
            registers: random.per_mille(rates::REGISTERS),
            retires: random.per_mille(rates::RETIRES),
            broken: random.per_mille(rates::BROKEN).then_some(broken),
            rule_set: random.per_mille(rates::RULE_SET).then_some(rule_set),
            keys: random.per_mille(rates::KEYS),
            unnamed: random.per_mille(rates::UNNAMED),
            high_price: random.per_mille(rates::HIGH_PRICE),
            same_answers: random.per_mille(rates::SAME_ANSWERS),
            slow: random.per_mille(rates::SLOW),
            slow_keys: random.per_mille(rates::SLOW_KEYS),
            interrupts: random.per_mille(rates::INTERRUPTS),
            batch: if random.per_mille(rates::BATCHES) { 10 } else { 1 },
            retry_after_ms: retries[random.place(retries.len())],
            redelivers: random.per_mille(rates::REDELIVERS),
            strangers: random.per_mille(rates::STRANGERS),
            refuses: random.per_mille(rates::REFUSES),
            liar: random.per_mille(rates::LIAR),
        }
    }
}
