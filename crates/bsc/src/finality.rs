//! How the final block is requested. Read next: `evidence.rs`.

use serde_json::{Value, json};
use signpost_txmgr::ports::Finality;
use signpost_txmgr::record::BlockRef;
use signpost_txmgr::units::{Address, BlockNumber, Nonce};

use crate::methods::{BLOCK, COUNT};
use crate::quantity;
use crate::rpc::Call;

/// A final block and the account's count there, from one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FinalPair {
    pub(crate) block: BlockRef,
    pub(crate) nonce: Nonce,
}

/// How the final block is requested.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FinalAt {
    /// By the tag `finalized`.
    Tag,
    /// By its height, which is a fixed number of blocks below the newest.
    Height(u64),
}

impl FinalAt {
    pub(crate) fn of(finality: Finality, latest: BlockNumber) -> Self {
        match finality {
            Finality::Finalized => Self::Tag,
            Finality::Confirmations(count) => Self::Height(latest.0.saturating_sub(count)),
        }
    }

    pub(crate) fn param(self) -> Value {
        match self {
            Self::Tag => json!("finalized"),
            Self::Height(height) => quantity::hex_number(height),
        }
    }

    pub(crate) fn pair_calls(self, address: Address) -> [Call; 2] {
        // The count comes first: a node that answers in order then never gives a count ahead of the block.
        [Call::new(COUNT, json!([address.lower(), self.param()])), Call::new(BLOCK, json!([self.param(), false]))]
    }
}
