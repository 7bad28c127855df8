//! The stored answers to messages: a message is judged once, even if policy changes later (G2).
//!
//! A message that got a slot is always answered by its record. A refused message is answered by its stored rejection:
//! the item under the id that it named, as long as that exists, or the copy under `sqs:<message id>`. A message is
//! judged only if neither exists.
//!
//! This costs one `BatchGetItem` per batch, in parallel with the heads. Each message needs two read units (strongly
//! consistent, 4 KB): one for the id that it names and one for its own id. It saves the reservations that would fail
//! because an id is known. If the rejection of another message has the id, the message's own id is read twice.
//!
//! Read next: [`super::rejection`].

use std::collections::HashMap;

use crate::ports::{PortError, Store};
use crate::record::{Record, Rejected, Stored};
use crate::request::{AccountRef, SigningRequest};
use crate::units::{ChainId, Millis, RequestId};

use super::batch::Inbound;
use crate::inbox::Incoming;

/// The items that were stored under some ids when they were read.
#[derive(Default)]
pub(super) struct Found(HashMap<RequestId, Stored>);

/// What the stored items mean for one message.
pub(super) enum MessageStatus {
    /// It was accepted: this record is the answer.
    Record(Box<Record>),
    /// It was refused: this rejection is the answer.
    Refused(Box<Rejected>),
    /// It has no answer, and its id belongs to the record of another request.
    Taken,
    /// It has no answer, and its id is free: nothing or the rejection of another message is stored there.
    New(Option<Box<Rejected>>),
}

/// Reads the items that may answer these messages.
pub(super) async fn find_answers(store: &impl Store, part: &[Inbound<'_>], now: Millis) -> Result<Found, PortError> {
    let mut ids = Vec::new();
    for inbound in part {
        ids.extend(inbound.named().cloned());
        ids.push(inbound.delivery.own_id());
    }
    let mut found = find(store, &ids, now).await?;
    let to_reread = found.to_reread(part);
    if !to_reread.is_empty() {
        found.0.extend(find(store, &to_reread, now).await?.0);
    }
    Ok(found)
}

/// Reads the items under these ids.
pub(super) async fn find(store: &impl Store, ids: &[RequestId], now: Millis) -> Result<Found, PortError> {
    let stored = store.load(ids, now).await?;
    Ok(Found(stored.into_iter().map(|stored| (stored.request_id().clone(), stored)).collect()))
}

impl Found {
    /// The messages' own ids that have to be read again, because a batch read is not atomic. If another message's
    /// rejection has the id that a message names, the copy of this message's rejection may have been stored after its
    /// own id was read and before the other rejection replaced it.
    fn to_reread(&self, part: &[Inbound<'_>]) -> Vec<RequestId> {
        let replaced = |inbound: &&Inbound<'_>| {
            let named = inbound.named().and_then(|id| self.0.get(id));
            matches!(
                named,
                Some(Stored::Rejected(rejected))
                    if !is_from_message(rejected.message_id.as_deref(), inbound.delivery)
            )
        };
        let own = part.iter().filter(replaced).map(|inbound| inbound.delivery.own_id());
        own.filter(|id| !self.0.contains_key(id)).collect()
    }

    /// The status of a message that has this id and, if it could be parsed, this request.
    pub(super) fn status_of(
        &self,
        delivery: &Incoming,
        named: Option<&RequestId>,
        request: Option<&SigningRequest>,
        chain: ChainId,
    ) -> MessageStatus {
        let named = named.and_then(|id| self.0.get(id));
        match (named, self.refusal_of(delivery)) {
            (Some(Stored::Record(record)), _) if answers_message(record, delivery, request, chain) => {
                MessageStatus::Record(record.clone())
            }
            (Some(Stored::Rejected(rejected)), _) if is_from_message(rejected.message_id.as_deref(), delivery) => {
                MessageStatus::Refused(Box::new(rejected.clone()))
            }
            (_, Some(rejected)) => MessageStatus::Refused(Box::new(rejected.clone())),
            (Some(Stored::Record(_)), None) => MessageStatus::Taken,
            (Some(Stored::Rejected(rejected)), None) => MessageStatus::New(Some(Box::new(rejected.clone()))),
            (None, None) => MessageStatus::New(None),
        }
    }

    /// The rejection of a message that is stored under its own id.
    pub(super) fn refusal_of(&self, delivery: &Incoming) -> Option<&Rejected> {
        match self.0.get(&delivery.own_id())? {
            Stored::Rejected(rejected) => Some(rejected),
            // No request may have such an id.
            Stored::Record(_) => None,
        }
    }

    /// The record under an id.
    pub(super) fn record(&self, id: &RequestId) -> Option<&Record> {
        match self.0.get(id)? {
            Stored::Record(record) => Some(record),
            Stored::Rejected(_) => None,
        }
    }
}

fn is_from_message(message_id: Option<&str>, delivery: &Incoming) -> bool {
    message_id == Some(delivery.message_id.as_str())
}

/// Whether the record belongs to this message, or to another message with the same request.
fn answers_message(record: &Record, delivery: &Incoming, request: Option<&SigningRequest>, chain: ChainId) -> bool {
    // Two Signposts on different chains may share the tables. One does not answer requests to the other.
    let same = |request: &SigningRequest| record.account.chain_id == chain && asks_for(request, record);
    is_from_message(record.message_id.as_deref(), delivery) || request.is_some_and(same)
}

/// Whether a request equals that of the record. It is compared for the record's account, because the name may resolve
/// to another account now, or to none.
fn asks_for(request: &SigningRequest, record: &Record) -> bool {
    let may_be_its_account = match &request.account {
        // The digest contains the pool. An omitted account was resolved by the registry at that time.
        None | Some(AccountRef::Pool(_)) => true,
        Some(AccountRef::Name(name)) => *name == record.name,
        Some(AccountRef::Key(key)) => *key == record.account,
        Some(AccountRef::Address(address)) => *address == record.account.address,
    };
    may_be_its_account && request.digest(&record.account) == record.digest
}
