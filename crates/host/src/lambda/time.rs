//! How much of an invocation's time is left, and what of it may be used.

use std::time::Duration;

use crate::clock::{Stopwatch, now_ms};

/// What an answer needs at the end: the last write, and the reply to the Runtime API.
const RESERVE_MAX: Duration = Duration::from_secs(3);
/// Of a short invocation at least so much is for work.
const RESERVE_PART: u32 = 4;
/// Of the reserve, what is left when work is broken off.
const REPLY_PART: u32 = 3;

/// The time an invocation has, measured from when it began.
#[derive(Debug, Clone, Copy)]
pub struct TimeLeft {
    begun: Stopwatch,
    total: Duration,
}

impl TimeLeft {
    /// Until the deadline of the Lambda context, in milliseconds since 1970.
    pub fn until(deadline_ms: u64) -> Self {
        Self::of(Duration::from_millis(deadline_ms.saturating_sub(now_ms())))
    }

    /// From now on.
    pub fn of(total: Duration) -> Self {
        Self { begun: Stopwatch::start(), total }
    }

    /// From now until work should come to its end by itself.
    pub fn to_finish(&self) -> Duration {
        self.left(self.reserve())
    }

    /// From now until work must be broken off, as by a crash, so that there is still an answer.
    pub fn to_break_off(&self) -> Duration {
        self.left(self.reserve().checked_div(REPLY_PART).unwrap_or_default())
    }

    fn reserve(&self) -> Duration {
        self.total.checked_div(RESERVE_PART).unwrap_or_default().min(RESERVE_MAX)
    }

    fn left(&self, reserve: Duration) -> Duration {
        self.total.saturating_sub(reserve).saturating_sub(self.begun.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ms(total: u64) -> (Duration, Duration) {
        let time = TimeLeft::of(Duration::from_millis(total));
        (time.to_finish(), time.to_break_off())
    }

    #[test]
    fn work_ends_before_it_is_broken_off_and_that_before_the_deadline() {
        for total in [100, 1_000, 10_000, 60_000, 900_000] {
            let (finish, break_off) = of_ms(total);
            let total = Duration::from_millis(total);
            assert!(finish < break_off && break_off < total, "{finish:?} {break_off:?} {total:?}");
            assert!(finish > total / 2, "most of {total:?} is for work, not {finish:?}");
        }
        let (finish, break_off) = of_ms(60_000);
        assert!(finish > Duration::from_secs(56) && break_off > Duration::from_secs(58), "{finish:?} {break_off:?}");
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_no_time() {
        let time = TimeLeft::until(1);
        assert_eq!((time.to_finish(), time.to_break_off()), (Duration::ZERO, Duration::ZERO));
    }
}
