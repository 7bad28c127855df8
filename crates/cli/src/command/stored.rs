//! Loads the record of a request, for commands that act on it.

use signpost_aws::store::DynamoStore;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Record, Stored};
use signpost_txmgr::units::RequestId;

use super::CommandError;
use crate::clock;

/// The record of a request. A rejected request has none.
pub async fn stored_record(store: &DynamoStore, id: &RequestId) -> Result<Record, CommandError> {
    match store.load(std::slice::from_ref(id), clock::now()).await?.into_iter().next() {
        Some(Stored::Record(record)) => Ok(*record),
        Some(Stored::Rejected(_)) => {
            Err(CommandError::Input(format!("{id} was rejected and never signed; see `signpost status {id}`")))
        }
        None => Err(CommandError::Unknown(format!(
            "no request {id}: it may still be in the signing queue; try again, or see `signpost requests list`"
        ))),
    }
}
