//! How long an endpoint is left alone that limits our rate.
//!
//! As long as it says; if it says nothing, a second. While it limits us again and again and answers nothing
//! else, twice as long each time, whatever it says: many name one second, also when their window is minutes
//! long. Never decides what is asked of an endpoint. Read next: [`crate::endpoints`].

use std::time::Duration;

use tokio::time::Instant;

/// Time of leaving an endpoint alone that limits our rate and does not say for how long.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest time of leaving it alone, unless it says more: with only one endpoint a lane is blind meanwhile. A batch of
/// 100 sends every 4 seconds stays below the 10,000 calls in 5 minutes that public nodes allow.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// What is known of an endpoint's rate limit.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    last: Option<Limited>,
}

#[derive(Debug, Clone, Copy)]
struct Limited {
    until: Instant,
    pause: Duration,
    /// Limits with no more than their own time between them.
    in_a_row: u32,
}

impl RateLimit {
    /// Whether the endpoint is to be left alone.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| last.until > now)
    }

    /// Notes that the endpoint answered a call: a limit after it is the first in a row.
    pub(crate) fn note_answer(&mut self) {
        if let Some(last) = &mut self.last {
            last.in_a_row = 0;
        }
    }

    /// Notes that the endpoint limits us, and wants to be left alone for `asked`; for how long it is.
    pub(crate) fn note(&mut self, asked: Option<Duration>, now: Instant) -> Duration {
        let in_a_row = match self.last {
            // Calls that were under way together are limited once.
            Some(last) if last.until > now => last.in_a_row.max(1),
            Some(last) if now.saturating_duration_since(last.until) <= last.pause => last.in_a_row.saturating_add(1),
            Some(_) | None => 1,
        };
        let doublings = in_a_row.saturating_sub(1);
        let doubled = PAUSE_MIN.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(PAUSE_MAX);
        let pause = match asked {
            Some(asked) if doublings == 0 => asked,
            Some(asked) => asked.max(doubled),
            None => doubled,
        };
        let until = now.checked_add(pause).unwrap_or(now);
        let until = self.last.map_or(until, |last| last.until.max(until));
        self.last = Some(Limited { until, pause, in_a_row });
        pause
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test's times are small")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The pauses of limits that each come as soon as the one before is over.
    fn pauses(asked: Option<Duration>, count: usize) -> Vec<u64> {
        let (mut limit, mut now) = (RateLimit::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..count {
            let pause = limit.note(asked, now);
            assert!(limit.holds(now + pause - Duration::from_millis(1)));
            assert!(!limit.holds(now + pause));
            pauses.push(pause.as_secs());
            now += pause;
        }
        pauses
    }

    #[test]
    fn an_answer_between_ends_the_row() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let at = |seconds: u32| now + SECOND * seconds;
        assert_eq!([limit.note(None, at(0)), limit.note(None, at(1))], [SECOND, SECOND * 2]);
        limit.note_answer();
        assert_eq!([limit.note(None, at(3)), limit.note(None, at(4))], [SECOND, SECOND * 2]);
    }

    #[test]
    fn limits_in_a_row_double_the_pause_up_to_a_bound() {
        assert_eq!(pauses(None, 5), [1, 2, 4, 4, 4]);
        assert_eq!(pauses(None, 100).last(), Some(&4));
    }

    #[test]
    fn an_endpoint_is_left_alone_at_least_as_long_as_it_says() {
        assert_eq!(pauses(Some(SECOND * 3), 4), [3, 3, 4, 4]);
        assert_eq!(pauses(Some(SECOND), 5), [1, 2, 4, 4, 4]);
        assert_eq!(pauses(Some(SECOND * 60), 3), [60, 60, 60]);
    }

    #[test]
    fn calls_that_were_under_way_together_are_limited_once() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let noted: Vec<_> = (0..10).map(|_| limit.note(None, now)).collect();
        assert_eq!(noted, [SECOND; 10]);
        // A later answer never shortens what an earlier one asked for.
        limit.note(Some(SECOND * 5), now);
        limit.note(Some(SECOND), now);
        assert!(limit.holds(now + SECOND * 4));
    }

    #[test]
    fn time_without_a_limit_forgets_the_row() {
        let (mut limit, mut now) = (RateLimit::default(), Instant::now());
        for _ in 0..4 {
            now += limit.note(None, now);
        }
        now += SECOND * 9;
        assert_eq!(limit.note(None, now), SECOND);
    }
}
