//! What was asked, acknowledged and published: I7, I8, I11, I13.

use signpost_txmgr::record::Phase;
use signpost_txmgr::request::{AccountRef, Message};
use signpost_txmgr::units::{AccountKey, Digest, RequestId};
use signpost_txmgr::wire::{OutcomeMessage, Status, hex_digest};

use super::{Ask, Asked, Auditor};

impl Auditor {
    /// A message was put on the signing queue.
    pub fn asked(&mut self, message_id: &str, body: &str) {
        let what = self.understood(message_id, body);
        self.asked.push(Asked { message_id: message_id.to_owned(), what });
    }

    fn understood(&self, message_id: &str, body: &str) -> Ask {
        let own = || own_id(message_id);
        match Message::parse(body) {
            Ok(Message::Sign(request)) => {
                let is_pool = matches!(request.account, Some(AccountRef::Pool(_)));
                let key = self.accounts.iter().find_map(|(key, name)| match &request.account {
                    Some(AccountRef::Name(asked)) if asked.as_str() == *name => Some(*key),
                    Some(AccountRef::Pool(_)) => Some(*key),
                    Some(_) | None => None,
                });
                let digest = key.map(|key: AccountKey| ((!is_pool).then_some(key), request.digest(&key)));
                Ask::Sign(request.id, digest)
            }
            Ok(Message::Cancel(id)) => Ask::Cancel(id, own()),
            Err(refused) => Ask::Bad(refused.request_id.unwrap_or_else(own)),
        }
    }

    pub(super) fn acknowledged(&mut self, message_id: &str, body: &str) {
        let carried = match self.understood(message_id, body) {
            Ask::Sign(id, digest) => self.carries(&id, message_id, digest.map(|(_, digest)| digest)),
            Ask::Cancel(id, own) => self.carries_cancel(&id, &own),
            Ask::Bad(id) => self.was_refused_by_message(&id, message_id, None),
        };
        self.check(carried, "I13", || {
            format!("message {message_id} was deleted and nothing carries its effect: {body}")
        });
    }

    /// The record has the effect of this request, or its refusal is out.
    pub(super) fn carries(&self, id: &RequestId, message_id: &str, digest: Option<Digest>) -> bool {
        let same = self.records.get(id).is_some_and(|record| Some(record.digest) == digest);
        same || self.was_refused_by_message(id, message_id, digest)
    }

    /// The same, or under the message's own id, because the id it names is another's.
    pub(super) fn was_refused_by_message(&self, id: &RequestId, message_id: &str, digest: Option<Digest>) -> bool {
        self.was_refused(id, digest) || self.was_refused(&own_id(message_id), digest)
    }

    /// The wish is noted, or there is nothing to cancel any more, or the refusal is out.
    pub(super) fn carries_cancel(&self, id: &RequestId, own: &RequestId) -> bool {
        let record = self.records.get(id);
        let noted = record.is_some_and(|record| record.cancel.is_some() || matches!(record.phase, Phase::Settled(_)));
        noted || self.rejected.contains_key(id) || self.was_refused(own, None)
    }

    /// A rejected outcome is out for this id and these contents.
    pub(super) fn was_refused(&self, id: &RequestId, digest: Option<Digest>) -> bool {
        let digest = digest.map(|digest| hex_digest(&digest));
        self.published.get(id).is_some_and(|copies| {
            copies.iter().any(|copy| {
                copy.status == Status::Rejected && (digest.is_none() || copy.digest.is_none() || copy.digest == digest)
            })
        })
    }

    pub(super) fn note_published(&mut self, outcome: &OutcomeMessage) {
        let Ok(id) = outcome.request_id.parse::<RequestId>() else {
            return self.check(false, "I11", || format!("an outcome for {}, which is no id", outcome.request_id));
        };
        if outcome.status == Status::Rejected {
            self.judge_rejection(&id, outcome);
        } else {
            let expected = self.records.get(&id).and_then(OutcomeMessage::of_record);
            self.check(expected.as_ref() == Some(outcome), "I6", || {
                format!("{id} was published as {} and is not stored so", outcome.status.as_str())
            });
        }
        let copies = self.published.entry(id.clone()).or_default();
        let first = copies.iter().find(|copy| copy.event_id == outcome.event_id);
        let equal = first.is_none_or(|first| first == outcome);
        copies.push(outcome.clone());
        self.check(equal, "I11", || format!("two copies of the outcome of {id} differ"));
    }

    /// A rejection is said only of what never had a slot.
    fn judge_rejection(&mut self, id: &RequestId, outcome: &OutcomeMessage) {
        let code = outcome.reason.as_ref().map(|reason| reason.code.as_str()).unwrap_or_default();
        let stored = self.rejected.get(id).is_some_and(|all| {
            all.iter().any(|rejected| {
                rejected.reason.code == code && rejected.digest.map(|digest| hex_digest(&digest)) == outcome.digest
            })
        });
        self.check(stored, "I7", || format!("{id} was published as rejected ({code}) and is not stored so"));
    }
}

/// Under which a message is answered that has no id of its own.
fn own_id(message_id: &str) -> RequestId {
    format!("sqs:{message_id}").parse().expect("made of characters an id may have")
}
