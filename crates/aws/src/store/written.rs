//! Which attributes of the accounts table each part writes, besides the key: all that its writes name, in what they
//! set and in their conditions.
//!
//! The deployed rights have these lists (`dynamodb:Attributes` in `infra/template.yaml`): a part that was taken over
//! writes nothing else. What makes an account, its name and its key above all, is in none of them. Of a request the
//! list is [`crate::item::MUTABLE`], with `requestId` and `createdAt`, for everybody.
//!
//! An `UpdateItem` makes an item that is not there: every one of ours has a condition that it is.

/// By the signer: a reservation moves the nonce and counts spending and senders; a key that cannot be used is marked.
pub const BY_SIGNER: [&str; 5] = ["nextNonce", "paused", "senderCounts", "spend", "unusable"];

/// Of a slot, which the signer puts whole.
pub const OF_SLOTS: [&str; 2] = ["requestId", "itemVersion"];

/// By the broadcaster: the marks of a lane, what nodes say, and the expiry of slots left behind.
pub const BY_BROADCASTER: [&str; 9] =
    ["nextNonce", "lowestOpenNonce", "setAside", "gaps", "paused", "pausedBy", "fee", "unfundedSince", "expiresAt"];

/// By an operator's commands, besides registering and unregistering.
pub const BY_OPERATOR: [&str; 5] = ["nextNonce", "lowestOpenNonce", "paused", "pausedBy", "retiredAt"];
