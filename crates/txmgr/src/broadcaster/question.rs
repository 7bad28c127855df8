//! A slow question about one slot. Read next: [`super::inquire`].

use crate::record::{Receipt, Record, Subject};
use crate::units::{BlockNumber, Millis, Nonce};

/// Questions of one subject that a lane asks at once. A search takes some twenty calls in sequence, and public nodes
/// allow 33 calls per second.
pub(super) const AT_ONCE: usize = 4;

/// A slow question about one slot.
#[derive(Debug, Clone)]
pub struct Question {
    pub(super) record: Record,
    pub(super) asked: Asked,
    /// When the round decided to ask it.
    pub(super) at: Millis,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// Which transaction used the nonce, in a block up to this one.
    Use(BlockNumber),
    /// Why the transaction of this receipt reverted, and how many nodes showed that receipt.
    Revert(Receipt, u8),
}

impl Question {
    pub(super) fn subject(&self) -> Subject {
        match self.asked {
            Asked::Use(_) => Subject::Use,
            Asked::Revert(..) => Subject::Revert,
        }
    }

    /// The order in which questions are asked: by due time, then by nonce.
    pub(super) fn sort_key(&self) -> (Option<Millis>, Nonce) {
        let due_at = self.record.inquiry_about(self.subject()).map(|inquiry| inquiry.next_at);
        (due_at, self.record.nonce)
    }
}
