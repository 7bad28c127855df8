//! The status of a request: one strongly consistent `GetItem`, repeated with backoff to wait.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use signpost_aws::item::{self, ItemError};
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::{OutcomeMessage, RequestStatus, Status};

use crate::Client;

/// Pause before the first read after a change: less than a block, which is 450 ms on BSC.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause: while nothing changes, each pause is 1.5 times the previous one, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why the requests table could not be read. This says nothing about the request.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The call failed.
    #[error("GetItem failed")]
    Call(#[source] Box<SdkError<GetItemError>>),
    /// This version cannot read the item.
    #[error("the item of the requests table cannot be read")]
    Item(#[source] ItemError),
}

/// A request was not settled within the caller's time limit. It continues: this is not a verdict.
#[derive(Debug, thiserror::Error)]
#[error("not settled within {waited:?}")]
pub struct NotSettled {
    /// The time waited.
    pub waited: Duration,
    /// The last status read; `None` if the request is not in the table yet.
    pub last: Option<Box<RequestStatus>>,
    /// Why the last read failed, if it did.
    #[source]
    pub trouble: Option<ReadError>,
}

/// A request's changes, one after the other. Created by [`Client::follow`].
#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    id: &'a RequestId,
    reported: Reported,
    pause: Option<Duration>,
}

/// The last status that [`Follow::next`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reported {
    Nothing,
    Absent,
    /// The record's version, and when its outcome was published.
    Stored(u64, Option<u64>),
}

impl Client {
    /// The status of a request; `None` while it is not in the table, because its message is still in the
    /// queue, it was never sent, or its record expired.
    pub async fn status(&self, id: &RequestId) -> Result<Option<RequestStatus>, ReadError> {
        Ok(self.stored(id).await?.as_ref().map(RequestStatus::of))
    }

    /// The recorded outcome of a request, as it is published and with the same `eventId`; `None` while it is not
    /// decided. This is how a backend catches up on outcomes it did not receive.
    ///
    /// It is recorded before it is published, so it may be read here earlier than it is received. It is always whole,
    /// also where the topic took it only without its metadata (`reduced`). An id that was
    /// `rejected` and sent again gives the old outcome until the new message is accepted: see [`Client::answer_to`].
    pub async fn outcome(&self, id: &RequestId) -> Result<Option<OutcomeMessage>, ReadError> {
        Ok(self.stored(id).await?.and_then(|stored| match stored {
            Stored::Record(record) => OutcomeMessage::of_record(&record),
            Stored::Rejected(rejected) => Some(OutcomeMessage::of_rejected(&rejected)),
        }))
    }

    /// The outcome of one message, by the id that [`Client::send`] returned: its own rejection if it was refused, else
    /// the outcome of the request it asks for. A rejection of an earlier message under the same id is left out.
    ///
    /// A message that asks for what is already recorded under `id` is answered by that record. Until the message is
    /// taken from the queue, this is also what is said of a message with other contents, which will be refused.
    pub async fn answer_to(&self, id: &RequestId, message_id: &str) -> Result<Option<OutcomeMessage>, ReadError> {
        if let Ok(id) = RequestId::of_message(message_id)
            && let Some(refused) = self.outcome(&id).await?
        {
            return Ok(Some(refused));
        }
        let is_ours = |outcome: &OutcomeMessage| {
            outcome.status != Status::Rejected || outcome.message_id.as_deref() == Some(message_id)
        };
        Ok(self.outcome(id).await?.filter(is_ours))
    }

    async fn stored(&self, id: &RequestId) -> Result<Option<Stored>, ReadError> {
        let read = self.dynamodb.get_item().table_name(&self.requests_table).consistent_read(true);
        let answer = read.key("requestId", AttributeValue::S(id.to_string())).send().await;
        let found = answer.map_err(|error| ReadError::Call(Box::new(error)))?.item;
        found.as_ref().map(item::decode).transpose().map_err(ReadError::Item)
    }

    /// Waits until the outcome of a request is decided, at most for `time_limit`. Failed reads
    /// are repeated until then.
    ///
    /// If an id was `rejected` and is sent again, its outcome is the old one at first: compare
    /// the `message_id`. If a message may not be answered under its own id, because the id belongs to another
    /// request or the sender is not allowed, its answer is under [`RequestId::of_message`].
    pub async fn wait(&self, id: &RequestId, time_limit: Duration) -> Result<RequestStatus, NotSettled> {
        let (mut last, mut trouble) = (None, None);
        let mut changes = self.follow(id);
        let settled = tokio::time::timeout(time_limit, async {
            loop {
                match changes.next().await {
                    Ok(Some(status)) if status.settled_at.is_some() => return status,
                    Ok(status) => (last, trouble) = (status.map(Box::new), None),
                    Err(error) => trouble = Some(error),
                }
            }
        });
        let settled = settled.await;
        settled.map_err(|_| NotSettled { waited: time_limit, last, trouble })
    }

    /// The changes of a request, starting with its current status.
    #[must_use]
    pub fn follow<'a>(&'a self, id: &'a RequestId) -> Follow<'a> {
        Follow { client: self, id, reported: Reported::Nothing, pause: None }
    }
}

impl Follow<'_> {
    /// The next change, or the current status in the first call; `None` once, if the request is not in the table
    /// yet. May be called again after an error. Changes that follow each other faster than the reads
    /// are reported as one.
    pub async fn next(&mut self) -> Result<Option<RequestStatus>, ReadError> {
        loop {
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
                self.pause = Some(pause.saturating_mul(3).checked_div(2).unwrap_or(pause).min(LONGEST_PAUSE));
            }
            self.pause.get_or_insert(FIRST_PAUSE);
            let status = self.client.status(self.id).await?;
            let found = status
                .as_ref()
                .map_or(Reported::Absent, |status| Reported::Stored(status.version, status.published_at));
            if self.reported != found {
                self.reported = found;
                self.pause = Some(FIRST_PAUSE);
                return Ok(status);
            }
        }
    }
}
