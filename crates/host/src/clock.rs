//! The only place where our programs read the time. Everywhere else it is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signpost_txmgr::units::Millis;
use tokio::time::Instant;

/// The wall clock's time in the drivers' type.
#[must_use]
pub fn now() -> Millis {
    Millis(now_ms())
}

/// Milliseconds since 1970, by the wall clock.
#[must_use]
pub fn now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the marked place where this binary reads the wall clock")]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Measures a duration; never used for decisions about facts. Uses the runtime's clock, so that it
/// agrees with sleeps and timeouts even if a test advances the time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts the measurement.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
