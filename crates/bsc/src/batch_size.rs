//! The batch size that an endpoint accepts. Read next: `batch.rs`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// First pause before a larger size is tried: after one short disturbance the full size is back within a minute.
const RAISE_MIN: Duration = Duration::from_secs(10);

/// Longest pause: an endpoint with a fixed limit costs two extra requests out of a few hundred.
const RAISE_MAX: Duration = Duration::from_mins(5);

/// The largest batch that an endpoint was seen to accept.
///
/// A size that failed is halved. After [`RAISE_MIN`] the size is doubled, and so on up to the configured maximum.
/// If a raised size fails within [`RAISE_MAX`], the pause is doubled, at most to [`RAISE_MAX`].
#[derive(Debug)]
pub(crate) struct BatchSize {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    items: usize,
    /// When a larger size is tried; `None` at the maximum.
    raise_at: Option<Instant>,
    pause: Duration,
    /// When a larger size was last tried, if nothing has failed since.
    raised_at: Option<Instant>,
}

impl BatchSize {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, state: Mutex::new(State { items: most, raise_at: None, pause: RAISE_MIN, raised_at: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maximum number of calls per request at the moment.
    pub(crate) fn items(&self) -> usize {
        self.state().items
    }

    /// Doubles the size if its pause is over.
    pub(crate) fn raise(&self, now: Instant) {
        let mut state = self.state();
        if state.raise_at.is_some_and(|at| at <= now) {
            state.items = state.items.saturating_mul(2).min(self.most);
            state.raised_at = Some(now);
            state.raise_at = if state.items < self.most { now.checked_add(state.pause) } else { None };
        }
    }

    /// Notes that more than `items` calls are too many.
    pub(crate) fn lower(&self, items: usize, now: Instant) {
        let mut state = self.state();
        state.items = state.items.min(items.max(1));
        match state.raised_at.take() {
            Some(at) if now.saturating_duration_since(at) < RAISE_MAX => {
                state.pause = state.pause.saturating_mul(2).min(RAISE_MAX);
            }
            Some(_) => state.pause = RAISE_MIN,
            None => {}
        }
        state.raise_at = now.checked_add(state.pause).filter(|_| state.items < self.most);
    }

    /// Notes that `calls` calls did not fit in one request: [`BatchSize::items`] is below their number afterwards.
    pub(crate) fn keep_below(&self, calls: usize, now: Instant) {
        if self.items() >= calls {
            self.lower(calls.saturating_sub(1), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pause_before_raise_doubles_after_each_failed_raise() {
        let (size, start) = (BatchSize::new(20), Instant::now());
        let mut now = start;
        // Several failures at once count as one pause.
        for items in [10, 5, 2] {
            size.lower(items, now);
        }
        for pause in [10, 20, 40, 80, 160, 300, 300_u32] {
            size.raise(now + SECOND * pause.saturating_sub(1));
            assert_eq!(size.items(), 2, "{pause} s");
            now += SECOND * pause;
            size.raise(now);
            assert_eq!(size.items(), 4, "{pause} s");
            size.lower(3, now);
            size.lower(2, now);
        }
        // A raise that held for `RAISE_MAX` resets the pause.
        now += SECOND * 300;
        size.raise(now);
        now += SECOND * 300;
        size.lower(2, now);
        size.raise(now + SECOND * 9);
        assert_eq!(size.items(), 2);
        size.raise(now + SECOND * 10);
        assert_eq!(size.items(), 4);
    }

    #[test]
    fn size_is_raised_up_to_configured_maximum() {
        let (size, now) = (BatchSize::new(20), Instant::now());
        size.lower(3, now);
        for (step, items) in [6, 12, 20, 20, 20].into_iter().enumerate() {
            size.raise(now + SECOND * 10 * u32::try_from(step + 1).unwrap());
            assert_eq!(size.items(), items);
        }
        size.lower(0, now);
        assert_eq!(size.items(), 1, "one call is always tried");
    }
}
