//! The limit of how many requests of one sender get a slot in a window of time.
//!
//! **Who counts as one** is the principal: the sessions of a role are one sender, since the one that assumes the role
//! names them. Messages without a `SenderId` are one sender together. The senders of an account share the window's
//! times, and none the count, but for this: a window counts [`SenderCounts::MAX_SENDERS`] of them apart, so that the
//! head stays small, and all others together.
//!
//! **What counts** is a request that gets a slot, once. What is refused, and what is known already, does not. **A
//! window** begins with the first request after the one before has ended. Two windows may touch, so any span of that
//! length sees at most twice the limit. Each account counts for itself, those of a pool too.
//!
//! Never stores anything: the counts stand on the account's head and change only in the transaction that reserves
//! the slots. Read next: [`crate::account::Reservation`].

use super::{AccountPolicy, principal};
use crate::account::SenderCounts;
use crate::request::{Code, Refused, shown};
use crate::units::Millis;

/// A number of requests per time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// Most requests of one sender in one window.
    pub limit: u64,
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
}

impl AccountPolicy {
    /// The counts when a request of this sender gets a slot too; refused if the sender's window is full. `None` if
    /// nothing limits it.
    pub fn count_request(
        &self,
        counts: Option<&SenderCounts>,
        sender: Option<&str>,
        now: Millis,
    ) -> Result<Option<SenderCounts>, Refused> {
        let Some(RequestLimit { limit, window_ms }) = self.request_limit else { return Ok(None) };
        // A clock that is behind the one that opened the window is in it too.
        let open = counts.filter(|counts| now.since(counts.window_start) < window_ms);
        let mut counts = open.cloned().unwrap_or_else(|| SenderCounts::new(now));
        if counts.add(sender.map_or(SenderCounts::UNKNOWN, principal)) > limit {
            // Neither how many there were nor until when: a refusal's text does not depend on the time.
            let who =
                sender.map_or("a sender that is not known", |sender| shown(principal(sender)).unwrap_or("its sender"));
            let message = format!(
                "policy max_requests is {limit} per max_requests_window_s of {}: {who} had as many in this window; send it again in a later one, under the same id",
                window_ms / 1_000
            );
            return Err(Refused::whole(Code::RequestLimitReached, message));
        }
        Ok(Some(counts))
    }
}
