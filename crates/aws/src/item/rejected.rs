//! A request that never had a slot.

use signpost_txmgr::record::Rejected;
use signpost_txmgr::units::{AccountKey, ChainId};
use signpost_txmgr::wire::{Status, hex_digest};

use super::attempt;
use super::reader::{ItemError, Problem, Reader};
use super::record::{decode_account, decode_digest};
use super::{Item, VERSION, item, json, n, s, seconds, set};

/// A rejection as an item. `expiresAt` is truncated to whole seconds.
#[must_use]
pub fn encode_rejected(rejected: &Rejected) -> Item {
    let mut entry = item([
        ("requestId", s(&rejected.request_id)),
        ("itemVersion", n(VERSION)),
        ("status", s(Status::Rejected.as_str())),
        ("version", n(0)),
        ("reason", attempt::encode_reason(&rejected.reason)),
        ("createdAt", n(rejected.created_at.0)),
        ("settledAt", n(rejected.created_at.0)),
        ("updatedAt", n(rejected.published_at.unwrap_or(rejected.created_at).0)),
    ]);
    if let Some(account) = rejected.account {
        entry.extend(item([("chainId", n(account.chain_id.0)), ("from", s(account.address))]));
        // The copy stored by message id stays out of the index `byAccount`, which lists the request under its own id.
        set(&mut entry, "account", rejected.said_as.is_none().then(|| s(account)));
    }
    set(&mut entry, "digest", rejected.digest.map(|digest| s(hex_digest(&digest))));
    set(&mut entry, "metadata", rejected.metadata.as_ref().map(json));
    set(&mut entry, "sender", rejected.sender.as_ref().map(s));
    set(&mut entry, "messageId", rejected.message_id.as_ref().map(s));
    set(&mut entry, "saidAs", rejected.said_as.as_ref().map(s));
    set(&mut entry, "publishedAt", rejected.published_at.map(|at| n(at.0)));
    set(&mut entry, "expiresAt", rejected.expires_at.map(seconds));
    entry
}

pub(crate) fn decode(reader: &Reader<'_>) -> Result<Rejected, ItemError> {
    // I7: a rejected request was never signed.
    if reader.has("attempts") || reader.has("nonce") {
        return Err(reader.error("status", Problem::Contradicts("attempts")));
    }
    Ok(Rejected {
        request_id: reader.parsed("requestId")?,
        digest: decode_digest(reader, "digest")?,
        account: decode_account_if(reader)?,
        reason: attempt::decode_reason(&reader.map("reason")?)?,
        metadata: reader.json_if("metadata")?,
        sender: reader.text_if("sender")?.map(str::to_owned),
        message_id: reader.text_if("messageId")?.map(str::to_owned),
        said_as: reader.parsed_if("saidAs")?,
        created_at: reader.millis("createdAt")?,
        published_at: reader.millis_if("publishedAt")?,
        expires_at: reader.seconds_if("expiresAt")?,
    })
}

/// The account, if it was known: from its key, or, in a copy stored by message id, from its parts.
fn decode_account_if(reader: &Reader<'_>) -> Result<Option<AccountKey>, ItemError> {
    match reader.parsed_if("account")? {
        Some(account) => decode_account(reader, account).map(Some),
        None if reader.has("saidAs") && reader.has("chainId") => {
            Ok(Some(AccountKey { chain_id: ChainId(reader.number("chainId")?), address: reader.parsed("from")? }))
        }
        None => Ok(None),
    }
}
