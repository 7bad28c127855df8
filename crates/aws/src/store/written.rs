//! The attributes of the accounts table that each part uses in its writes, besides the key: in the changes and in the
//! conditions.
//!
//! The deployed permissions have the same lists (`dynamodb:Attributes` in `infra/template.yaml`), so a compromised part
//! can write nothing else. The attributes that define an account, above all its name and its key, are in no list. For
//! a request the list is [`crate::item::MUTABLE`], with `requestId` and `createdAt`, for every part.
//!
//! An `UpdateItem` creates an item that does not exist, so each of ours has the condition that the item exists.

/// Written by the signer: a reservation moves the nonce and counts spending and senders; an unusable key is marked.
pub const BY_SIGNER: [&str; 5] = ["nextNonce", "paused", "senderCounts", "spend", "unusable"];

/// The attributes of a slot, which the signer writes as a whole.
pub const OF_SLOTS: [&str; 2] = ["requestId", "itemVersion"];

/// Written by the broadcaster: the marks of a lane, observations from nodes, and the expiry of slots left behind.
pub const BY_BROADCASTER: [&str; 9] =
    ["nextNonce", "lowestOpenNonce", "setAside", "gaps", "paused", "pausedBy", "fee", "unfundedSince", "expiresAt"];

/// Written by an operator's commands, besides registering and unregistering.
pub const BY_OPERATOR: [&str; 5] = ["nextNonce", "lowestOpenNonce", "paused", "pausedBy", "retiredAt"];
