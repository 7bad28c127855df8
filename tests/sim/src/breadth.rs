//! How wide a trial's world is: what else happens while requests are on their way. The seed decides, so that most
//! trials meet a few of these and stay cheap.
//!
//! Read next: [`crate::simulation`].

use crate::random::Random;
use crate::world::RuleSet;

/// How many trials in a thousand meet each of them.
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

/// What happens in one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each happens or not, whatever the others do")]
pub struct Breadth {
    /// A Signpost of another chain stands on the same table.
    pub other_chain: bool,
    /// An account is registered meanwhile.
    pub registers: bool,
    /// An account without open slots is retired meanwhile.
    pub retires: bool,
    /// An account is registered whose key nobody can use, and nobody asks for.
    pub broken: Option<Broken>,
    /// Signers are started anew with other rules for a while.
    pub rule_set: Option<RuleSet>,
    /// A key is disabled for a while.
    pub keys: bool,
    /// Requests name no account.
    pub unnamed: bool,
    /// The network's price is above every cap, and half of it is what is mined.
    pub high_price: bool,
    /// A node answers every send alike for a while, whatever it is.
    pub same_answers: bool,
    /// A node takes long to replay a call and to find who used a nonce, to the very end.
    pub slow: bool,
    /// The key service takes longer for a signature than the broadcaster waits before it asks for one.
    pub slow_keys: bool,
    /// Batches and passes are broken off at any await.
    pub interrupts: bool,
    /// Messages of the broadcast queue taken at once.
    pub batch: usize,
    /// When a message that may be retried is visible again; at once if 0.
    pub retry_after_ms: u64,
    /// Every message is delivered again when all is over, in a world that has changed.
    pub redelivers: bool,
    /// Somebody who may use no account sends messages too.
    pub strangers: bool,
    /// The topic refuses some outcomes for good, whatever is tried.
    pub refuses: bool,
    /// Of two nodes one lies from time to time.
    pub liar: bool,
}

/// How the account is registered whose key nobody can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Like any other.
    Active,
    /// It is retired, and its key was taken away after that.
    Retired,
}

impl Breadth {
    /// Nothing of it.
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

    /// What one seed has, each thing for itself.
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
