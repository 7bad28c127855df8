//! Pokes of lanes: which are always messages of their own, and which coarsen.
//!
//! A pass over a lane takes one message of the broadcast queue and lasts for up to a minute. A signer that poked
//! after each batch put 7 to 10 messages a second there; all but one a minute waited for 15 minutes until they
//! expired. FIFO looks for messages among the first 120,000, so 14 busy lanes hid the quiet ones.
//!
//! So the pokes of a lane that is open already are the same message for a minute: SQS drops the repeats (its
//! deduplication id is the hash of the body, [`crate::wire::LanePoke`]), also when the first was handled before.
//! Per busy lane and minute there are one of these, one of the sweep, and one with which a pass asks for the next:
//! at most 30 to 45 on the queue, which keeps pokes for 15 minutes; of 100 lanes 4,500.
//!
//! ## Why a dropped poke loses no wake-up
//! 1. The poke that **opens** a lane is unique ([`once`]), and never dropped. So is the one with which a pass asks
//!    for the next, and that of the sweep.
//! 2. Whether it opens the lane is judged by the head as read **after** the records were stored ([`after_storing`]): it
//!    does not if a lower slot is open still. All that opened before that slot was closed is watched: by a
//!    pass, or by a poke on the queue, since 1.
//! 3. A pass ends only after a read of the head that **follows** its last write to it, and shows no open slot
//!    (`Broadcaster::round` reads it again). While the signer saw a lower slot open, that write was still to come, and
//!    the read after it shows the signer's slots: the pass does not end.
//! 4. What is left are messages that were lost and processes that died between reserving and poking. The sweep, once a
//!    minute, does not depend on any of this.

use crate::account::Head;
use crate::units::{AccountKey, Millis, Nonce};
use crate::wire::LanePoke;

/// The pokes of an open lane are the same for this long.
pub const AGAIN_EVERY_MS: u64 = 60_000;

/// A poke that is a message of its own.
#[must_use]
pub fn once(account: &str, cause: &str, now: Millis) -> LanePoke {
    LanePoke { account: account.to_owned(), cause: format!("{cause} at {now}") }
}

/// A poke of a lane that is open already: for [`AGAIN_EVERY_MS`] the same message.
#[must_use]
pub fn again(account: &str, now: Millis) -> LanePoke {
    let window = now.0.checked_div(AGAIN_EVERY_MS).unwrap_or_default();
    LanePoke { account: account.to_owned(), cause: format!("open in minute {window}") }
}

/// The poke of a signer that stored records of a lane, the lowest at nonce `lowest`. `head` was read after that;
/// `None` if it could not be, or if it is not known which is the lowest.
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

    /// The different messages of an hour in which a batch of ten is signed every 100 ms.
    fn messages_of_an_hour(lowest_open: impl Fn(u64) -> u64) -> usize {
        let pokes = (0..HOUR_MS).step_by(100).map(|ms| {
            let nonce = Nonce(ms / 10);
            let head = head(lowest_open(nonce.0), nonce.plus(10).0);
            after_storing(&ACCOUNT, Some(nonce), Some(&head), &format!("m-{ms}"), NOW.plus(ms))
        });
        pokes.map(|poke| poke.cause).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn a_busy_lane_is_poked_once_a_minute_and_an_idle_one_each_time() {
        assert_eq!(messages_of_an_hour(|nonce| nonce.saturating_sub(50)), 61, "the one that opened it, and 60");
        assert_eq!(messages_of_an_hour(|nonce| nonce), 36_000, "each of them opens the lane");
    }

    #[test]
    fn what_a_hundred_busy_lanes_leave_on_the_queue_is_far_from_its_limit() {
        let kept_ms = 15 * 60 * 1_000;
        // Those of signers, of sweeps, and of passes of 57 s.
        let per_lane = kept_ms / AGAIN_EVERY_MS + kept_ms / 60_000 + kept_ms / 57_000;
        assert!(per_lane <= 45, "{per_lane}");
        assert!(100 * per_lane * 20 < 120_000, "{per_lane}");
    }

    #[test]
    fn a_poke_that_may_open_a_lane_is_never_the_same_twice() {
        let poke = |lowest, head: Option<&Head>, cause| after_storing(&ACCOUNT, lowest, head, cause, NOW);
        let opens = [(Some(Nonce(5)), Some(head(5, 6))), (Some(Nonce(5)), None), (None, Some(head(5, 6)))];
        for (lowest, head) in opens {
            assert_ne!(poke(lowest, head.as_ref(), "m-1"), poke(lowest, head.as_ref(), "m-2"));
            let later = after_storing(&ACCOUNT, lowest, head.as_ref(), "m-1", NOW.plus(1));
            assert_ne!(poke(lowest, head.as_ref(), "m-1"), later);
        }
    }
}
