//! How wide a trial's world is: what else happens while requests are on their way. The seed decides, so that most
//! trials meet a few of these and stay cheap.
//!
//! Read next: [`crate::simulation`].

use crate::random::Random;
use crate::world::Regime;

/// How many trials in a thousand meet each of them.
mod rates {
    pub(super) const BESIDE: u64 = 100;
    pub(super) const LATE: u64 = 120;
    pub(super) const RETIRES: u64 = 80;
    pub(super) const BROKEN: u64 = 80;
    pub(super) const REGIME: u64 = 180;
    pub(super) const KEYS: u64 = 100;
    pub(super) const UNNAMED: u64 = 100;
    pub(super) const DEAR: u64 = 120;
    pub(super) const ANSWERS: u64 = 100;
    pub(super) const SLOW: u64 = 80;
    pub(super) const SLOW_KEYS: u64 = 60;
    pub(super) const BREAKS: u64 = 200;
    pub(super) const BATCHES: u64 = 300;
    pub(super) const AGAIN: u64 = 350;
    pub(super) const STRANGERS: u64 = 150;
    pub(super) const REFUSES: u64 = 100;
    pub(super) const LIAR: u64 = 120;
}

/// What happens in one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each happens or not, whatever the others do")]
pub struct Breadth {
    /// A Signpost of another chain stands on the same table.
    pub beside: bool,
    /// An account is registered meanwhile.
    pub late: bool,
    /// An account without open slots is retired meanwhile.
    pub retires: bool,
    /// An account is registered whose key nobody can use, and nobody asks for.
    pub broken: Option<Broken>,
    /// Signers are started anew with other rules for a while.
    pub regime: Option<Regime>,
    /// A key is disabled for a while.
    pub keys: bool,
    /// Requests name no account.
    pub unnamed: bool,
    /// The network's price is above every cap, and half of it is what is mined.
    pub dear: bool,
    /// A node answers every send alike for a while, whatever it is.
    pub answers: bool,
    /// A node takes long to replay a call and to find who used a nonce, to the very end.
    pub slow: bool,
    /// The key service takes longer for a signature than the broadcaster waits before it asks for one.
    pub slow_keys: bool,
    /// Batches and passes are broken off at any await.
    pub breaks: bool,
    /// Messages of the broadcast queue taken at once.
    pub batch: usize,
    /// When a message that may be retried is visible again; at once if 0.
    pub retry_after_ms: u64,
    /// Every message is delivered again when all is over, in a world that has changed.
    pub again: bool,
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
        beside: false,
        late: false,
        retires: false,
        broken: None,
        regime: None,
        keys: false,
        unnamed: false,
        dear: false,
        answers: false,
        slow: false,
        slow_keys: false,
        breaks: false,
        batch: 1,
        retry_after_ms: 0,
        again: false,
        strangers: false,
        refuses: false,
        liar: false,
    };

    /// What one seed has, each thing for itself.
    pub fn drawn(random: &mut Random) -> Self {
        let regimes = [Regime::Tight, Regime::Bare, Regime::Unpriced];
        let regime = regimes[random.place(regimes.len())];
        let broken = if random.per_mille(500) { Broken::Active } else { Broken::Retired };
        let retries = [0, 0, 0, 1_500, 1_500, 20_000];
        Self {
            beside: random.per_mille(rates::BESIDE),
            late: random.per_mille(rates::LATE),
            retires: random.per_mille(rates::RETIRES),
            broken: random.per_mille(rates::BROKEN).then_some(broken),
            regime: random.per_mille(rates::REGIME).then_some(regime),
            keys: random.per_mille(rates::KEYS),
            unnamed: random.per_mille(rates::UNNAMED),
            dear: random.per_mille(rates::DEAR),
            answers: random.per_mille(rates::ANSWERS),
            slow: random.per_mille(rates::SLOW),
            slow_keys: random.per_mille(rates::SLOW_KEYS),
            breaks: random.per_mille(rates::BREAKS),
            batch: if random.per_mille(rates::BATCHES) { 10 } else { 1 },
            retry_after_ms: retries[random.place(retries.len())],
            again: random.per_mille(rates::AGAIN),
            strangers: random.per_mille(rates::STRANGERS),
            refuses: random.per_mille(rates::REFUSES),
            liar: random.per_mille(rates::LIAR),
        }
    }
}
