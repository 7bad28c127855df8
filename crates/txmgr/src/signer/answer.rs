//! What answers a message already: a message is judged once, whatever changed since (G2).
//!
//! A message that got a slot is answered by its record, for ever. One that was refused is answered by what is
//! stored of the refusal: the rejection under the id it named, as long as that stands, and its copy under
//! `sqs:<message id>`. Only what neither answers is judged.
//!
//! Reading this costs one `BatchGetItem` per batch, together with the heads: one read unit (strongly consistent,
//! 4 KB) for each id named and one for each message's own, so two a message; and it saves the reservation that
//! would only say that an id is known. Where another message's rejection has the id, the message's own is read twice.
//!
//! Read next: [`super::rejection`].

use std::collections::HashMap;

use crate::ports::{PortError, Store};
use crate::record::{Record, Rejected, Stored};
use crate::request::{AccountRef, SigningRequest};
use crate::units::{ChainId, Millis, RequestId};

use super::batch::Inbound;
use crate::inbox::Incoming;

/// What was stored under some ids when they were read.
#[derive(Default)]
pub(super) struct Found(HashMap<RequestId, Stored>);

/// What that means for one message.
pub(super) enum Standing {
    /// This record has its effect.
    Record(Box<Record>),
    /// It was refused, and this was said.
    Refused(Box<Rejected>),
    /// It is to be judged, and its id belongs to the record of another request.
    Taken,
    /// It is to be judged, and its id is free: nothing holds it, or the rejection of another message.
    New(Option<Box<Rejected>>),
}

/// Reads what may answer these messages.
pub(super) async fn find_answers(store: &impl Store, part: &[Inbound<'_>], now: Millis) -> Result<Found, PortError> {
    let mut ids = Vec::new();
    for inbound in part {
        ids.extend(inbound.named().cloned());
        ids.push(inbound.delivery.id_of_its_own());
    }
    let mut found = find(store, &ids, now).await?;
    let unsure = found.unsure(part);
    if !unsure.is_empty() {
        found.0.extend(find(store, &unsure, now).await?.0);
    }
    Ok(found)
}

/// Reads what is stored under these ids.
pub(super) async fn find(store: &impl Store, ids: &[RequestId], now: Millis) -> Result<Found, PortError> {
    let stored = store.load(ids, now).await?;
    Ok(Found(stored.into_iter().map(|stored| (stored.request_id().clone(), stored)).collect()))
}

impl Found {
    /// The messages' own ids that are to be read once more. One batch read is not one moment: where another message's
    /// rejection has the id that a message names, the copy of this message's refusal may have been stored after its
    /// own id was read and before that rejection took the place.
    fn unsure(&self, part: &[Inbound<'_>]) -> Vec<RequestId> {
        let replaced = |inbound: &&Inbound<'_>| {
            let named = inbound.named().and_then(|id| self.0.get(id));
            matches!(named, Some(Stored::Rejected(rejected)) if !is_of(rejected.message_id.as_deref(), inbound.delivery))
        };
        let own = part.iter().filter(replaced).map(|inbound| inbound.delivery.id_of_its_own());
        own.filter(|id| !self.0.contains_key(id)).collect()
    }

    /// How a message stands that names this id and, if it could be read, asks for this.
    pub(super) fn standing(
        &self,
        delivery: &Incoming,
        named: Option<&RequestId>,
        request: Option<&SigningRequest>,
        chain: ChainId,
    ) -> Standing {
        let named = named.and_then(|id| self.0.get(id));
        match (named, self.refusal_of(delivery)) {
            (Some(Stored::Record(record)), _) if has_effect_of(record, delivery, request, chain) => {
                Standing::Record(record.clone())
            }
            (Some(Stored::Rejected(rejected)), _) if is_of(rejected.message_id.as_deref(), delivery) => {
                Standing::Refused(Box::new(rejected.clone()))
            }
            (_, Some(rejected)) => Standing::Refused(Box::new(rejected.clone())),
            (Some(Stored::Record(_)), None) => Standing::Taken,
            (Some(Stored::Rejected(rejected)), None) => Standing::New(Some(Box::new(rejected.clone()))),
            (None, None) => Standing::New(None),
        }
    }

    /// What is stored of a message's refusal under its own id.
    pub(super) fn refusal_of(&self, delivery: &Incoming) -> Option<&Rejected> {
        match self.0.get(&delivery.id_of_its_own())? {
            Stored::Rejected(rejected) => Some(rejected),
            // No request may take such an id.
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

fn is_of(message_id: Option<&str>, delivery: &Incoming) -> bool {
    message_id == Some(delivery.message_id.as_str())
}

/// The record is this message's, or another's that asked for the same.
fn has_effect_of(record: &Record, delivery: &Incoming, request: Option<&SigningRequest>, chain: ChainId) -> bool {
    // Two Signposts of two chains may share the tables: what is asked of one is not done by the other.
    let same = |request: &SigningRequest| record.account.chain_id == chain && asks_for(request, record);
    is_of(record.message_id.as_deref(), delivery) || request.is_some_and(same)
}

/// Whether a request is the record's. Compared under the record's account, so that it can be told even when the
/// name resolves to another account by now, or to none.
fn asks_for(request: &SigningRequest, record: &Record) -> bool {
    let may_be_its_account = match &request.account {
        // That it was left out, or which pool was named, is in the digest or left to the registry of then.
        None | Some(AccountRef::Pool(_)) => true,
        Some(AccountRef::Name(name)) => *name == record.name,
        Some(AccountRef::Key(key)) => *key == record.account,
        Some(AccountRef::Address(address)) => *address == record.account.address,
    };
    may_be_its_account && request.digest(&record.account) == record.digest
}
