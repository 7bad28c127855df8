//! A queue as a worker sees it: messages that are ours for a while, to be deleted, held longer, or
//! given back.
//!
//! Guarantees nothing beyond SQS: a message may come twice, and one that is not deleted comes again.
//! The real one is in [`crate::world`].

use std::fmt;
use std::time::Duration;

use signpost_txmgr::ports::PortError;

/// A message that is ours for a while.
///
/// `Debug` leaves the body out: it may hold calldata, or a secret sent by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What deletes or holds it.
    pub receipt: String,
    /// The same on every delivery.
    pub message_id: String,
    /// The FIFO group.
    pub group: Option<String>,
    /// `SenderId`, SQS's own word on who sent it.
    pub sender: Option<String>,
    /// Trace context.
    pub trace: Option<String>,
    /// Which delivery this is, from 1.
    pub receives: u32,
    /// The text.
    pub body: String,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Incoming");
        shown.field("message_id", &self.message_id).field("group", &self.group).field("receives", &self.receives);
        shown.finish_non_exhaustive()
    }
}

/// The consumer's side of a queue.
pub trait Inbox: Send + Sync + 'static {
    /// Waits for messages, some seconds at most. Dropping it is as a lost reply: what came is
    /// delivered again later.
    fn receive(&self) -> impl Future<Output = Result<Vec<Incoming>, PortError>> + Send;

    /// Deletes messages: their effect is stored.
    fn delete(&self, receipts: &[&str]) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Keeps messages from others for so long from now; no time at all gives them back.
    fn hold(&self, receipts: &[&str], time: Duration) -> impl Future<Output = Result<(), PortError>> + Send;
}
