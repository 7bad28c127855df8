//! How a request stands: one strongly consistent `GetItem`, repeated with a back-off to wait.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use signpost_aws::item::{self, ItemError};
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::{OutcomeMessage, RequestStatus, Status};

use crate::Client;

/// After a change the next one is looked for so soon: less than a block, 450 ms on BSC.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// While nothing changes, each pause is half as long again as the one before, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why the requests table could not be read. Says nothing about the request.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The call failed.
    #[error("GetItem failed")]
    Call(#[source] Box<SdkError<GetItemError>>),
    /// The item is not one this version knows.
    #[error("the item of the requests table cannot be read")]
    Item(#[source] ItemError),
}

/// A request was not settled in the time the caller gave. It goes on: this is no verdict.
#[derive(Debug, thiserror::Error)]
#[error("not settled within {waited:?}")]
pub struct NotSettled {
    /// How long was waited.
    pub waited: Duration,
    /// How it stood when it was last seen; `None` if it is not in the table yet.
    pub last: Option<Box<RequestStatus>>,
    /// Why the last read failed, if it did.
    #[source]
    pub trouble: Option<ReadError>,
}

/// A request's changes, one after the other. Made by [`Client::follow`].
#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    id: &'a RequestId,
    told: Told,
    pause: Option<Duration>,
}

/// What the caller of [`Follow::next`] was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Absent,
    /// Its version, and when its outcome was published.
    Stored(u64, Option<u64>),
}

impl Client {
    /// How a request stands; `None` while it is not in the table, because its message is still in the
    /// queue, it was never sent, or its time is over.
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

    /// Waits until the outcome of a request is decided, but not longer than `patience`. Reads that fail
    /// are tried again until then.
    ///
    /// The outcome of an id that was `rejected` and has been sent again is at first still the old one:
    /// tell them apart by `message_id`. A message that may not be answered under the id it names, because the id is
    /// another's or its sender is not allowed, has its answer under [`RequestId::of_message`].
    pub async fn wait(&self, id: &RequestId, patience: Duration) -> Result<RequestStatus, NotSettled> {
        let (mut last, mut trouble) = (None, None);
        let mut changes = self.follow(id);
        let settled = tokio::time::timeout(patience, async {
            loop {
                match changes.next().await {
                    Ok(Some(status)) if status.settled_at.is_some() => return status,
                    Ok(status) => (last, trouble) = (status.map(Box::new), None),
                    Err(error) => trouble = Some(error),
                }
            }
        });
        let settled = settled.await;
        settled.map_err(|_| NotSettled { waited: patience, last, trouble })
    }

    /// The changes of a request, from how it stands now.
    #[must_use]
    pub fn follow<'a>(&'a self, id: &'a RequestId) -> Follow<'a> {
        Follow { client: self, id, told: Told::Nothing, pause: None }
    }
}

impl Follow<'_> {
    /// The next change, or how it stands if it is the first call; `None` once, if it is not in the table
    /// yet. After an error it may be called again. Steps that follow each other faster than they are read
    /// are seen as one.
    pub async fn next(&mut self) -> Result<Option<RequestStatus>, ReadError> {
        loop {
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
                self.pause = Some(pause.saturating_mul(3).checked_div(2).unwrap_or(pause).min(LONGEST_PAUSE));
            }
            self.pause.get_or_insert(FIRST_PAUSE);
            let status = self.client.status(self.id).await?;
            let found =
                status.as_ref().map_or(Told::Absent, |status| Told::Stored(status.version, status.published_at));
            if self.told != found {
                self.told = found;
                self.pause = Some(FIRST_PAUSE);
                return Ok(status);
            }
        }
    }
}
