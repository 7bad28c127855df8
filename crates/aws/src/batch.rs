//! Batch calls of SQS and SNS: at most ten entries and [`MAX_MESSAGE_BYTES`] per call. Entries that were not
//! accepted are repeated, and each entry gets an answer.
//!
//! If a call is permanently refused as a whole, each of its entries is sent alone, so that one entry
//! does not hold back the others. An entry that is permanently refused because of its contents is
//! [`PortError::is_refused_for_good`].

use std::error::Error;
use std::sync::Arc;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use signpost_txmgr::meters;
use signpost_txmgr::ports::{Happened, PortError};
use signpost_txmgr::text::MAX_MESSAGE_BYTES;

use crate::fault::{self, AwsError, FaultKind};
use crate::repeat::Backoff;

/// Maximum number of entries per call, for SQS and SNS.
const ENTRIES_MAX: usize = 10;

/// An entry that was not accepted.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its id: its position among the entries of the call.
    pub(crate) id: String,
    /// Whether the service says that the same entry would be refused again.
    pub(crate) sender_fault: bool,
    /// The service's error code.
    pub(crate) code: String,
    /// The service's error message.
    pub(crate) message: String,
}

impl Refused {
    fn kind(&self) -> FaultKind {
        match fault::kind_of_code(&self.code) {
            Some(kind) => kind,
            None if self.sender_fault => FaultKind::Final,
            // The service's fault with one entry: like a status 500 of the whole call.
            None => FaultKind::Lost,
        }
    }
}

/// Sends all items, and reports for each whether it was accepted.
///
/// `send` gets the entries of one call and must use their position in it, from 0, as their ids.
pub(crate) async fn in_batches<T, E, F>(
    backoff: &Backoff,
    operation: &'static str,
    items: &[T],
    bytes_of: impl Fn(&T) -> usize,
    send: impl Fn(&[&T]) -> F,
) -> Vec<Result<(), PortError>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    F: Future<Output = Result<Vec<Refused>, SdkError<E, HttpResponse>>>,
{
    let mut answers = Vec::with_capacity(items.len());
    let mut rest = items;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(fitting(rest, &bytes_of));
        answers.extend(one_batch(backoff, operation, batch, &send).await);
        rest = after;
    }
    answers
}

/// Number of leading items that fit one call: at least one, so that the service refuses an item that is too
/// large.
fn fitting<T>(items: &[T], bytes_of: impl Fn(&T) -> usize) -> usize {
    let mut bytes: usize = 0;
    let fits = |item: &&T| {
        bytes = bytes.saturating_add(bytes_of(item));
        bytes <= MAX_MESSAGE_BYTES
    };
    items.iter().take(ENTRIES_MAX).take_while(fits).count().max(1)
}

/// The state of one entry between tries.
struct Entry {
    answer: Option<Result<(), PortError>>,
    /// An earlier try with this entry may have taken effect.
    uncertain: bool,
}

impl Entry {
    /// Notes a failed try: the entry's final answer, or nothing if it is tried again.
    fn failed(&mut self, operation: &'static str, kind: FaultKind, last: bool, source: impl FnOnce() -> AwsError) {
        self.uncertain |= kind.happened() == Happened::Unknown;
        if last || kind == FaultKind::Final {
            self.answer = Some(Err(PortError {
                operation,
                happened: if self.uncertain { Happened::Unknown } else { Happened::No },
                throttled: kind == FaultKind::Throttled,
                source: Box::new(source()),
            }));
        }
    }

    /// The answer to the entry sent alone, combined with the uncertainty of its earlier tries.
    fn with_doubt(&self, answer: Result<(), PortError>) -> Result<(), PortError> {
        answer.map_err(|error| match error.happened {
            Happened::No if self.uncertain && !error.is_refused_for_good() => {
                PortError { happened: Happened::Unknown, ..error }
            }
            Happened::No | Happened::Yes | Happened::Unknown => error,
        })
    }

    /// Notes the final answer: the contents are refused. So a try whose reply was lost was refused as well.
    fn refused(&mut self, operation: &'static str, code: &str, message: &str) {
        self.answer = Some(Err(PortError::refused_for_good(operation, code, message)));
    }

    /// Notes the entry's result in an answered call.
    fn answered(&mut self, operation: &'static str, refused: Option<&Refused>, last: bool) {
        let Some(refused) = refused else {
            self.answer = Some(Ok(()));
            return;
        };
        let (Refused { code, message, .. }, kind) = (refused, refused.kind());
        if kind == FaultKind::Final && fault::entry_blames_contents(code) {
            self.refused(operation, code, message);
        } else {
            self.failed(operation, kind, last, || AwsError::Entry { code: code.clone(), message: message.clone() });
        }
    }
}

async fn one_batch<T, E, F, S>(
    backoff: &Backoff,
    operation: &'static str,
    items: &[T],
    send: &S,
) -> Vec<Result<(), PortError>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    S: Fn(&[&T]) -> F,
    F: Future<Output = Result<Vec<Refused>, SdkError<E, HttpResponse>>>,
{
    let mut entries: Vec<Entry> = items.iter().map(|_| Entry { answer: None, uncertain: false }).collect();
    let mut tried = 1;
    loop {
        let mut open: Vec<(&T, &mut Entry)> =
            items.iter().zip(&mut entries).filter(|(_, entry)| entry.answer.is_none()).collect();
        if open.is_empty() {
            break;
        }
        let last = tried >= backoff.tries;
        let batch: Vec<&T> = open.iter().map(|(item, _)| *item).collect();
        match Box::pin(send(&batch)).await {
            Ok(refused) => {
                for (at, (_, entry)) in open.iter_mut().enumerate() {
                    let refused = refused.iter().find(|refused| refused.id == at.to_string());
                    entry.answered(operation, refused, last);
                }
            }
            Err(error) if batch.len() > 1 && fault::kind(&error) == FaultKind::Final => {
                tracing::warn!(
                    operation,
                    error = AwsError::of(error).to_string(),
                    "a batch was refused; each of its entries is sent alone"
                );
                for (item, entry) in open {
                    let alone = Box::pin(one_batch(backoff, operation, std::slice::from_ref(item), send));
                    entry.answer = alone.await.pop().map(|answer| entry.with_doubt(answer));
                }
            }
            Err(error) => {
                let kind = fault::kind(&error);
                let source = Arc::new(AwsError::of(error));
                let contents = source.refused_contents().filter(|_| kind == FaultKind::Final);
                for (_, entry) in &mut open {
                    match contents {
                        Some((code, message)) => entry.refused(operation, code, message),
                        None => entry.failed(operation, kind, last, || AwsError::Shared(Arc::clone(&source))),
                    }
                }
            }
        }
        if entries.iter().all(|entry| entry.answer.is_some()) || !backoff.pause(tried).await {
            break;
        }
        metrics::counter!(meters::AWS_REPEATS, "operation" => operation, "cause" => "batch").increment(1);
        tried = u32::saturating_add(tried, 1);
    }
    entries.into_iter().map(|entry| entry.answer.expect("the last try answers every entry")).collect()
}
