//! The progress of a slow inquiry about a slot, stored in a request's item.

use aws_sdk_dynamodb::types::AttributeValue;
use signpost_txmgr::record::{Inquiry, Searched};
use signpost_txmgr::units::BlockNumber;

use super::reader::{ItemError, Reader};
use super::{item, n, s};

pub(crate) fn encode(inquiry: &Inquiry) -> AttributeValue {
    let mut entry = item([
        ("subject", s(inquiry.subject.name())),
        ("since", n(inquiry.since.0)),
        ("fruitless", n(u64::from(inquiry.fruitless))),
        ("nextAt", n(inquiry.next_at.0)),
    ]);
    if let Some(Searched { newest, oldest }) = inquiry.searched {
        entry.extend(item([("searchedNewest", n(newest.0)), ("searchedOldest", n(oldest.0))]));
    }
    AttributeValue::M(entry)
}

pub(crate) fn decode(reader: &Reader<'_>) -> Result<Inquiry, ItemError> {
    let searched = match reader.number_if("searchedNewest")? {
        None => None,
        Some(newest) => {
            let oldest = BlockNumber(reader.number("searchedOldest")?);
            Some(Searched { newest: BlockNumber(newest), oldest })
        }
    };
    Ok(Inquiry {
        subject: reader.parsed("subject")?,
        since: reader.millis("since")?,
        fruitless: u32::try_from(reader.number("fruitless")?).unwrap_or(u32::MAX),
        next_at: reader.millis("nextAt")?,
        searched,
    })
}
