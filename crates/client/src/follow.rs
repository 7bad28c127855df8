//! How a request stands: one strongly consistent `GetItem`, repeated with a back-off to wait.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use signpost_aws::item::{self, ItemError};
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::RequestStatus;

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
        let read = self.dynamodb.get_item().table_name(&self.requests_table).consistent_read(true);
        let answer = read.key("requestId", AttributeValue::S(id.to_string())).send().await;
        let found = answer.map_err(|error| ReadError::Call(Box::new(error)))?.item;
        let stored = found.as_ref().map(item::decode).transpose().map_err(ReadError::Item)?;
        Ok(stored.as_ref().map(RequestStatus::of))
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
