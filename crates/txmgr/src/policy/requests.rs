//! The limit of requests per sender and time window.
//!
//! **A sender** is a principal: all sessions of a role count as one sender, because the caller that assumes the role
//! chooses the session name. All messages without a `SenderId` count as one sender. The senders of an account share
//! the window, and each has its own count. To keep the head small, a window has separate counts for only
//! [`SenderCounts::MAX_SENDERS`] senders, and one count for all others.
//!
//! **A request counts** once, when it gets a slot. Refused and repeated requests do not count. **A window** begins with
//! the first request after the previous window ended. Two windows may touch, so any span of that length has at most
//! twice the limit. Each account has its own counts, also the accounts of a pool.
//!
//! Stores nothing: the counts are part of the account's head and change only in the transaction that reserves the
//! slots. Read next: [`crate::account::Reservation`].

use super::{AccountPolicy, principal};
use crate::account::SenderCounts;
use crate::request::{Code, Refused, shown};
use crate::units::Millis;

/// A number of requests per time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// The maximum number of requests of one sender in one window.
    pub limit: u64,
    /// The length of a window, in milliseconds.
    pub window_ms: u64,
}

impl AccountPolicy {
    /// The counts including one more request of this sender. Refused if the sender has reached its limit. `None` if
    /// there is no limit.
    pub fn count_request(
        &self,
        counts: Option<&SenderCounts>,
        sender: Option<&str>,
        now: Millis,
    ) -> Result<Option<SenderCounts>, Refused> {
        let Some(RequestLimit { limit, window_ms }) = self.request_limit else { return Ok(None) };
        // A clock that is behind the clock that opened the window counts as within the window.
        let open = counts.filter(|counts| now.since(counts.window_start) < window_ms);
        let mut counts = open.cloned().unwrap_or_else(|| SenderCounts::new(now));
        if counts.add(sender.map_or(SenderCounts::UNKNOWN, principal)) > limit {
            // No count and no end of the window: the text of a refusal does not depend on the time.
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
