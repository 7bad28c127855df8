//! A slow question about one slot. Read next: [`super::inquire`].

use crate::record::{Receipt, Record, Subject};
use crate::units::{BlockNumber, Millis, Nonce};

/// Questions of one subject that a lane asks at once. A proof takes some twenty calls, one after the other,
/// and public nodes allow 33 a second.
pub(super) const AT_ONCE: usize = 4;

/// A slow question about one slot.
#[derive(Debug, Clone)]
pub struct Question {
    pub(super) record: Record,
    pub(super) asked: Asked,
    /// When it was decided.
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

    /// Its place among others: since when it is due, and its slot.
    pub(super) fn turn(&self) -> (Option<Millis>, Nonce) {
        let due_at = self.record.inquiry_about(self.subject()).map(|inquiry| inquiry.next_at);
        (due_at, self.record.nonce)
    }
}
