//! Pokes of lanes: which are unique messages, and which are deduplicated.
//!
//! A pass over a lane takes one message of the broadcast queue and lasts up to a minute. With a unique poke after each
//! batch, a signer sends 7 to 10 messages a second; all but one a minute wait for 15 minutes until they expire. A FIFO
//! queue searches only its first 120,000 messages, so 14 busy lanes would hide the quiet ones.
//!
//! So the pokes of a lane that is already open are the same message for a minute. SQS drops the repeats (the
//! deduplication id is the hash of the body, [`crate::wire::LanePoke`]), even if the first was already handled. A busy
//! lane then has one of these per minute, one from the sweep, and one with which a pass asks for the next: 30 to 45 on
//! the queue, which keeps pokes for 15 minutes, and 4,500 for 100 lanes.
//!
//! ## Why no wake-up is lost
//! 1. The poke that **opens** a lane is unique ([`once`]) and never dropped. So are the one with which a pass asks for
//!    the next, and that of the sweep.
//! 2. The head, as read **after** the records were stored, tells whether the poke opens the lane ([`after_storing`]):
//!    it does not if a lower slot is still open. Every slot that opened before that lower slot was closed is watched,
//!    by a pass or, because of 1, by a poke on the queue.
//! 3. A pass ends only when a read of the head **after** its last write to it shows no open slot (`Broadcaster::round`
//!    reads it again). If the signer saw a lower slot open, that write was still to come. The read after it shows the
//!    signer's slots, so the pass does not end.
//! 4. Lost messages, and processes that die between reserving and poking, are left to the sweep. It runs once a minute
//!    and does not depend on any of this.

use crate::account::Head;
use crate::units::{AccountKey, Millis, Nonce};
use crate::wire::LanePoke;

/// How long the pokes of an open lane stay the same message, in milliseconds.
pub const AGAIN_EVERY_MS: u64 = 60_000;

/// A unique poke.
#[must_use]
pub fn once(account: &str, cause: &str, now: Millis) -> LanePoke {
    LanePoke { account: account.to_owned(), cause: format!("{cause} at {now}") }
}

/// A poke of a lane that is already open: the same message for [`AGAIN_EVERY_MS`].
#[must_use]
pub fn again(account: &str, now: Millis) -> LanePoke {
    let window = now.0.checked_div(AGAIN_EVERY_MS).unwrap_or_default();
    LanePoke { account: account.to_owned(), cause: format!("open in minute {window}") }
}

/// The poke of a signer that stored records of a lane, the lowest at nonce `lowest`. `head` was read after that. Either
/// is `None` if it is not known.
#[must_use]
pub fn after_storing(
    account: &AccountKey,
    lowest: Option<Nonce>,
    head: Option<&Head>,
    cause: &str,
    now: Millis,
) -> LanePoke {
    let account = account.to_string();
    let was_open = lowest.zip(head).is_some_and(|(lowest, head)| head.lowest_open_nonce < lowest);
    if was_open { again(&account, now) } else { once(&account, cause, now) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::units::{Address, ChainId};

    const NOW: Millis = Millis(1_795_348_800_000);
    const ACCOUNT: AccountKey = AccountKey { chain_id: ChainId(97), address: Address([1; 20]) };
    const HOUR_MS: u64 = 60 * 60 * 1_000;

    fn head(lowest_open: u64, next: u64) -> Head {
        let head = Head::new(ACCOUNT, "hot".parse().unwrap(), "key".parse().unwrap(), Nonce(next), NOW);
        Head { lowest_open_nonce: Nonce(lowest_open), ..head }
    }

    /// The number of distinct messages in an hour in which a batch of ten is signed every 100 ms.
    fn messages_of_an_hour(lowest_open: impl Fn(u64) -> u64) -> usize {
        let pokes = (0..HOUR_MS).step_by(100).map(|ms| {
            let nonce = Nonce(ms / 10);
            let head = head(lowest_open(nonce.0), nonce.plus(10).0);
            after_storing(&ACCOUNT, Some(nonce), Some(&head), &format!("m-{ms}"), NOW.plus(ms))
        });
        pokes.map(|poke| poke.cause).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn busy_lane_is_poked_once_a_minute_idle_lane_each_time() {
        assert_eq!(messages_of_an_hour(|nonce| nonce.saturating_sub(50)), 61, "the poke that opened it, and 60");
        assert_eq!(messages_of_an_hour(|nonce| nonce), 36_000, "each poke opens the lane");
    }

    #[test]
    fn pokes_of_a_hundred_busy_lanes_stay_far_below_the_limit() {
        let kept_ms = 15 * 60 * 1_000;
        // From signers, from sweeps, and from passes of 57 s.
        let per_lane = kept_ms / AGAIN_EVERY_MS + kept_ms / 60_000 + kept_ms / 57_000;
        assert!(per_lane <= 45, "{per_lane}");
        assert!(100 * per_lane * 20 < 120_000, "{per_lane}");
    }

    #[test]
    fn poke_that_may_open_a_lane_is_always_unique() {
        let poke = |lowest, head: Option<&Head>, cause| after_storing(&ACCOUNT, lowest, head, cause, NOW);
        let opens = [(Some(Nonce(5)), Some(head(5, 6))), (Some(Nonce(5)), None), (None, Some(head(5, 6)))];
        for (lowest, head) in opens {
            assert_ne!(poke(lowest, head.as_ref(), "m-1"), poke(lowest, head.as_ref(), "m-2"));
            let later = after_storing(&ACCOUNT, lowest, head.as_ref(), "m-1", NOW.plus(1));
            assert_ne!(poke(lowest, head.as_ref(), "m-1"), later);
        }
    }
}
