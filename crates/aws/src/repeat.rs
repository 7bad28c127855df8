//! Repeats a call, bounded and with jitter, and tracks whether one of the tries may have taken effect.
//!
//! Never looks at the text of an error. Read next: [`crate::store`].

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use signpost_txmgr::meters;
use signpost_txmgr::ports::{Happened, PortError};

use crate::fault::{self, AwsError, FaultKind};

/// How often a call is tried, and the waits between the tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Number of tries, including the first.
    pub tries: u32,
    /// Wait before the second try, in milliseconds; it doubles with each try.
    pub first_ms: u64,
    /// Longest wait, in milliseconds.
    pub max_ms: u64,
}

impl Backoff {
    /// About 3 seconds in all: longer than a burst of throttling or a conflict on a hot item, shorter
    /// than a queue's visibility timeout.
    pub const STANDARD: Self = Self { tries: 7, first_ms: 40, max_ms: 1_500 };

    /// The wait after try number `tried` (from 1): between half and all of the doubling step, so that
    /// workers that collided once do not collide again.
    fn wait(&self, tried: u32) -> Duration {
        let doublings = tried.saturating_sub(1).min(16);
        let step_ms = self.first_ms.saturating_mul(1_u64 << doublings).min(self.max_ms);
        let half_ms = step_ms.div_ceil(2);
        // The standard library seeds its hash maps randomly, which is random enough to spread waits.
        let chance = RandomState::new().hash_one(tried);
        let extra_ms = chance.checked_rem(half_ms.saturating_add(1)).unwrap_or(0);
        Duration::from_millis(half_ms.saturating_add(extra_ms).min(step_ms))
    }

    /// Waits before the next try; `false` if no try is left.
    pub(crate) async fn pause(&self, tried: u32) -> bool {
        if tried >= self.tries {
            return false;
        }
        tokio::time::sleep(self.wait(tried)).await;
        true
    }
}

/// A call that failed permanently or in all its tries.
#[derive(Debug)]
pub(crate) struct FailedCall<E> {
    /// The error of the last try.
    pub(crate) error: SdkError<E, HttpResponse>,
    /// The kind of the last try's error.
    pub(crate) kind: FaultKind,
    /// This or an earlier try may have taken effect.
    pub(crate) uncertain: bool,
}

impl<E> FailedCall<E>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    /// The service's own error.
    pub(crate) fn service(&self) -> Option<&E> {
        self.error.as_service_error()
    }

    /// The error in the core's form.
    pub(crate) fn into_port(self, operation: &'static str) -> PortError {
        PortError {
            operation,
            happened: if self.uncertain { Happened::Unknown } else { self.kind.happened() },
            throttled: self.kind == FaultKind::Throttled,
            source: Box::new(AwsError::of(self.error)),
        }
    }
}

/// Tries `call` until it succeeds, its error is final, or no try is left.
pub(crate) async fn repeat<T, E, F>(
    backoff: &Backoff,
    operation: &'static str,
    call: impl Fn() -> F,
) -> Result<T, FailedCall<E>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    repeat_if(backoff, operation, |_| None, call).await
}

/// Like [`repeat`]; the caller may classify the service's errors itself. With `None` the error code decides.
pub(crate) async fn repeat_if<T, E, F>(
    backoff: &Backoff,
    operation: &'static str,
    judge: impl Fn(&E) -> Option<FaultKind>,
    call: impl Fn() -> F,
) -> Result<T, FailedCall<E>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let mut uncertain = false;
    let mut tried = 1;
    loop {
        // The SDK's futures are large; boxing keeps ours small.
        let error = match Box::pin(call()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let kind = error.as_service_error().and_then(&judge).unwrap_or_else(|| fault::kind(&error));
        uncertain |= kind.happened() == Happened::Unknown;
        if kind == FaultKind::Final {
            return Err(FailedCall { error, kind, uncertain });
        }
        metrics::counter!(meters::AWS_REPEATS, "operation" => operation, "cause" => kind.name()).increment(1);
        tracing::debug!(operation, tried, cause = kind.name(), "a call to AWS failed");
        if !backoff.pause(tried).await {
            return Err(FailedCall { error, kind, uncertain });
        }
        tried = tried.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_are_spread() {
        let backoff = Backoff { tries: 9, first_ms: 100, max_ms: 1_000 };
        for (tried, step_ms) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (40, 1_000)] {
            for _ in 0..50 {
                let wait_ms = backoff.wait(tried).as_millis();
                assert!((step_ms / 2..=step_ms).contains(&wait_ms), "{wait_ms} ms after try {tried}");
            }
        }
        let waits: std::collections::HashSet<Duration> = (0..50).map(|_| backoff.wait(5)).collect();
        assert!(waits.len() > 5, "workers that collided once would collide again: {waits:?}");
    }
}
