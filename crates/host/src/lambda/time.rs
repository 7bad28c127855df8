//! The remaining time of an invocation, and how much of it may be used for work.

use std::time::Duration;

use crate::clock::{Stopwatch, now_ms};

/// Maximum time reserved for the end of an invocation: the last write, and the reply to the Runtime API.
const RESERVE_MAX: Duration = Duration::from_secs(3);
/// The reserve of a short invocation is this fraction of its time: a quarter.
const RESERVE_PART: u32 = 4;
/// The fraction of the reserve that is left when work is aborted: a third.
const REPLY_PART: u32 = 3;

/// The time of an invocation, measured from its start.
#[derive(Debug, Clone, Copy)]
pub struct TimeLeft {
    begun: Stopwatch,
    total: Duration,
}

impl TimeLeft {
    /// The time until the deadline of the Lambda context, in milliseconds since 1970.
    pub fn until(deadline_ms: u64) -> Self {
        Self::of(Duration::from_millis(deadline_ms.saturating_sub(now_ms())))
    }

    /// This time from now on.
    pub fn of(total: Duration) -> Self {
        Self { begun: Stopwatch::start(), total }
    }

    /// The time from now until work should end by itself.
    pub fn to_finish(&self) -> Duration {
        self.left(self.reserve())
    }

    /// The time from now until work must be aborted, as by a crash, so that there is still an answer.
    pub fn to_abort(&self) -> Duration {
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
        (time.to_finish(), time.to_abort())
    }

    #[test]
    fn work_ends_before_its_abort_and_the_abort_before_the_deadline() {
        for total in [100, 1_000, 10_000, 60_000, 900_000] {
            let (finish, abort) = of_ms(total);
            let total = Duration::from_millis(total);
            assert!(finish < abort && abort < total, "{finish:?} {abort:?} {total:?}");
            assert!(finish > total / 2, "most of {total:?} is for work, not {finish:?}");
        }
        let (finish, abort) = of_ms(60_000);
        assert!(finish > Duration::from_secs(56) && abort > Duration::from_secs(58), "{finish:?} {abort:?}");
    }

    #[test]
    fn passed_deadline_leaves_no_time() {
        let time = TimeLeft::until(1);
        assert_eq!((time.to_finish(), time.to_abort()), (Duration::ZERO, Duration::ZERO));
    }
}
