//! How long we pause an endpoint that limits our rate.
//!
//! The endpoint may name the time; otherwise the pause is one second. While it limits us repeatedly and answers nothing
//! else, the pause doubles each time, whatever time it names: many endpoints name one second even if their window is
//! minutes long. Never decides what is asked of an endpoint. Read next: [`crate::endpoints`].

use std::time::Duration;

use tokio::time::Instant;

/// First pause after a rate limit that names no time.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause, unless the endpoint names a longer one: with a single endpoint, a lane sees nothing in the meantime.
/// A batch of 100 sends every 4 seconds stays below the 10,000 calls in 5 minutes that public nodes allow.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// The state of an endpoint's rate limit.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    last: Option<Limited>,
}

#[derive(Debug, Clone, Copy)]
struct Limited {
    until: Instant,
    pause: Duration,
    /// Consecutive limits: each came within one pause after the previous pause ended.
    in_a_row: u32,
}

impl RateLimit {
    /// Whether the endpoint is paused.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| last.until > now)
    }

    /// Notes that the endpoint answered a call: the next limit is the first in a row.
    pub(crate) fn note_answer(&mut self) {
        if let Some(last) = &mut self.last {
            last.in_a_row = 0;
        }
    }

    /// Notes a rate limit for which the endpoint named the time `asked`. Returns the pause.
    pub(crate) fn note(&mut self, asked: Option<Duration>, now: Instant) -> Duration {
        let in_a_row = match self.last {
            // Concurrent calls count as one limit.
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

    /// The pauses of limits that each arrive when the previous pause ends.
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
    fn answer_between_limits_resets_the_pause() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let at = |seconds: u32| now + SECOND * seconds;
        assert_eq!([limit.note(None, at(0)), limit.note(None, at(1))], [SECOND, SECOND * 2]);
        limit.note_answer();
        assert_eq!([limit.note(None, at(3)), limit.note(None, at(4))], [SECOND, SECOND * 2]);
    }

    #[test]
    fn consecutive_limits_double_the_pause_up_to_a_bound() {
        assert_eq!(pauses(None, 5), [1, 2, 4, 4, 4]);
        assert_eq!(pauses(None, 100).last(), Some(&4));
    }

    #[test]
    fn pause_is_at_least_the_time_the_endpoint_names() {
        assert_eq!(pauses(Some(SECOND * 3), 4), [3, 3, 4, 4]);
        assert_eq!(pauses(Some(SECOND), 5), [1, 2, 4, 4, 4]);
        assert_eq!(pauses(Some(SECOND * 60), 3), [60, 60, 60]);
    }

    #[test]
    fn concurrent_limits_count_once() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let noted: Vec<_> = (0..10).map(|_| limit.note(None, now)).collect();
        assert_eq!(noted, [SECOND; 10]);
        // A later limit never shortens the pause of an earlier one.
        limit.note(Some(SECOND * 5), now);
        limit.note(Some(SECOND), now);
        assert!(limit.holds(now + SECOND * 4));
    }

    #[test]
    fn time_without_limits_resets_the_pause() {
        let (mut limit, mut now) = (RateLimit::default(), Instant::now());
        for _ in 0..4 {
            now += limit.note(None, now);
        }
        now += SECOND * 9;
        assert_eq!(limit.note(None, now), SECOND);
    }
}
