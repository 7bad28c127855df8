//! Tries a call again, bounded and with jitter, and keeps account of whether one of the tries may have
//! taken effect.
//!
//! Never looks at the words of an error. Read next: [`crate::store`].

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use signpost_txmgr::meters;
use signpost_txmgr::ports::{Happened, PortError};

use crate::fault::{self, AwsError, Kind};

/// How often and how far apart a call is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Tries in all, the first included.
    pub tries: u32,
    /// Wait before the second try; doubles from try to try.
    pub first_ms: u64,
    /// Longest wait.
    pub max_ms: u64,
}

impl Backoff {
    /// About 3 seconds in all: longer than a burst of throttling or a conflict on a hot item, shorter
    /// than the patience of a queue's visibility timeout.
    pub const STANDARD: Self = Self { tries: 7, first_ms: 40, max_ms: 1_500 };

    /// The wait after try number `tried` (from 1): between half and all of the doubling step, so that
    /// workers that met once do not meet again.
    fn wait(&self, tried: u32) -> Duration {
        let doublings = tried.saturating_sub(1).min(16);
        let step_ms = self.first_ms.saturating_mul(1_u64 << doublings).min(self.max_ms);
        let half_ms = step_ms.div_ceil(2);
        // The standard library seeds its hash maps at random: chance enough to spread waits.
        let chance = RandomState::new().hash_one(tried);
        let extra_ms = chance.checked_rem(half_ms.saturating_add(1)).unwrap_or(0);
        Duration::from_millis(half_ms.saturating_add(extra_ms).min(step_ms))
    }

    /// Waits before the next try; `false` when there are no more.
    pub(crate) async fn pause(&self, tried: u32) -> bool {
        if tried >= self.tries {
            return false;
        }
        tokio::time::sleep(self.wait(tried)).await;
        true
    }
}

/// A call that failed for good, or once too often.
#[derive(Debug)]
pub(crate) struct Failure<E> {
    /// The last try's error.
    pub(crate) error: SdkError<E, HttpResponse>,
    /// What the last try's error says.
    pub(crate) kind: Kind,
    /// This or an earlier try may have taken effect.
    pub(crate) uncertain: bool,
}

impl<E> Failure<E>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    /// The service's own error.
    pub(crate) fn service(&self) -> Option<&E> {
        self.error.as_service_error()
    }

    /// As the core takes it.
    pub(crate) fn into_port(self, operation: &'static str) -> PortError {
        PortError {
            operation,
            happened: if self.uncertain { Happened::Unknown } else { self.kind.happened() },
            throttled: self.kind == Kind::Throttled,
            source: Box::new(AwsError::of(self.error)),
        }
    }
}

/// Tries `call` until it works, its error is final, or the tries are used up.
pub(crate) async fn repeat<T, E, F>(
    backoff: &Backoff,
    operation: &'static str,
    call: impl Fn() -> F,
) -> Result<T, Failure<E>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    repeat_if(backoff, operation, |_| None, call).await
}

/// As [`repeat`], with a word of the caller on the service's own errors: `None` leaves it to the code.
pub(crate) async fn repeat_if<T, E, F>(
    backoff: &Backoff,
    operation: &'static str,
    judge: impl Fn(&E) -> Option<Kind>,
    call: impl Fn() -> F,
) -> Result<T, Failure<E>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let mut uncertain = false;
    let mut tried = 1;
    loop {
        // The SDK's futures are large; on the heap they do not swell ours.
        let error = match Box::pin(call()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let kind = error.as_service_error().and_then(&judge).unwrap_or_else(|| fault::kind(&error));
        uncertain |= kind.happened() == Happened::Unknown;
        if kind == Kind::Final {
            return Err(Failure { error, kind, uncertain });
        }
        metrics::counter!(meters::AWS_REPEATS, "operation" => operation, "cause" => kind.name()).increment(1);
        tracing::debug!(operation, tried, cause = kind.name(), "call to AWS did not work");
        if !backoff.pause(tried).await {
            return Err(Failure { error, kind, uncertain });
        }
        tried = tried.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let backoff = Backoff { tries: 9, first_ms: 100, max_ms: 1_000 };
        for (tried, step_ms) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (40, 1_000)] {
            for _ in 0..50 {
                let wait_ms = backoff.wait(tried).as_millis();
                assert!((step_ms / 2..=step_ms).contains(&wait_ms), "{wait_ms} ms after try {tried}");
            }
        }
        let waits: std::collections::HashSet<Duration> = (0..50).map(|_| backoff.wait(5)).collect();
        assert!(waits.len() > 5, "workers that met once would meet again: {waits:?}");
    }
}
