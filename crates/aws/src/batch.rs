//! Batch calls of SQS and SNS: at most ten entries and so many bytes a call, entries that were not
//! taken tried again, one answer for each.
//!
//! A call that is refused for good as a whole is made again with each of its entries alone, so that one entry
//! holds back no other. What is refused for good because of its contents is
//! [`PortError::is_refused_for_good`].

use std::error::Error;
use std::sync::Arc;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use signpost_txmgr::meters;
use signpost_txmgr::ports::{Happened, PortError};
use signpost_txmgr::text::MAX_MESSAGE_BYTES;

use crate::fault::{self, AwsError, Kind};
use crate::repeat::Backoff;

/// Entries of one call, of SQS and SNS alike.
const ENTRIES_MAX: usize = 10;

/// An entry that was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its id: where it is among the entries of the call.
    pub(crate) id: String,
    /// The service says that the same entry will be refused again.
    pub(crate) sender_fault: bool,
    /// The service's code.
    pub(crate) code: String,
    /// The service's words.
    pub(crate) message: String,
}

impl Refused {
    fn kind(&self) -> Kind {
        match fault::kind_of_code(&self.code) {
            Some(kind) => kind,
            None if self.sender_fault => Kind::Final,
            // The service's own fault, with one entry: as a 500 of the whole call.
            None => Kind::Lost,
        }
    }
}

/// Sends all items, and says for each whether it was taken.
///
/// `send` gets the entries of one call and must name them by their place in it, from 0.
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

/// How many of the first items go into one call: at least one, so that an item that is too large is
/// refused by the service, by name.
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
    /// A try that had it in may have taken effect.
    uncertain: bool,
}

impl Entry {
    /// Ends it, or leaves it for the next try.
    fn failed(&mut self, operation: &'static str, kind: Kind, last: bool, source: impl FnOnce() -> AwsError) {
        self.uncertain |= kind.happened() == Happened::Unknown;
        if last || kind == Kind::Final {
            self.answer = Some(Err(PortError {
                operation,
                happened: if self.uncertain { Happened::Unknown } else { Happened::No },
                throttled: kind == Kind::Throttled,
                source: Box::new(source()),
            }));
        }
    }

    /// What became of it alone, after the tries that had it in.
    fn with_doubt(&self, answer: Result<(), PortError>) -> Result<(), PortError> {
        answer.map_err(|error| match error.happened {
            Happened::No if self.uncertain && !error.is_refused_for_good() => {
                PortError { happened: Happened::Unknown, ..error }
            }
            Happened::No | Happened::Yes | Happened::Unknown => error,
        })
    }

    /// Ends it: its contents are refused. A try whose reply was lost was refused then, too.
    fn refused(&mut self, operation: &'static str, code: &str, message: &str) {
        self.answer = Some(Err(PortError::refused_for_good(operation, code, message)));
    }

    /// What became of the entry, if the call was answered.
    fn answered(&mut self, operation: &'static str, refused: Option<&Refused>, last: bool) {
        let Some(refused) = refused else {
            self.answer = Some(Ok(()));
            return;
        };
        let (Refused { code, message, .. }, kind) = (refused, refused.kind());
        if kind == Kind::Final && fault::entry_blames_contents(code) {
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
            Err(error) if batch.len() > 1 && fault::kind(&error) == Kind::Final => {
                tracing::warn!(
                    operation,
                    error = AwsError::of(error).to_string(),
                    "a batch is refused; each of its entries is tried alone"
                );
                for (item, entry) in open {
                    let alone = Box::pin(one_batch(backoff, operation, std::slice::from_ref(item), send));
                    entry.answer = alone.await.pop().map(|answer| entry.with_doubt(answer));
                }
            }
            Err(error) => {
                let kind = fault::kind(&error);
                let source = Arc::new(AwsError::of(error));
                let contents = source.refused_contents().filter(|_| kind == Kind::Final);
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
