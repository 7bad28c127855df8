//! The meaning of a node's error for a transaction we sent: the one table from error messages to
//! [`SendClass`].
//!
//! Node programs agree on words and not on codes (`-32003` is "rejected" in one and "response too
//! large" in another). So words decide, and a code alone only if every client means the same by it.
//! The first row whose words occur in the message wins. Words are never anchored at the end, because most
//! nodes append details. Without a matching row the node may have accepted the transaction or not:
//! [`SendClass::Unknown`].
//!
//! Never decides what to do about an error. Every row is checked against real messages in
//! `tests/vectors/node-errors`. Read next: [`crate::rpc`].

use signpost_txmgr::record::SendClass;
use signpost_txmgr::units::{U256, Wei};

use Meaning::{
    Accepted, AlreadyKnown, Contract, Funds, Misconfigured, NonceTooLow, RateLimited, Refused, Retry, Underpriced,
};

/// The meaning of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The rest of the message comes from a contract and may be anything: nothing is known.
    Contract,
    /// The node accepted the transaction and reports that as an error.
    Accepted,
    AlreadyKnown,
    NonceTooLow,
    Retry,
    /// The provider wants fewer calls. A send is repeated later with the same bytes.
    RateLimited,
    Underpriced(Least),
    Funds,
    Refused,
    Misconfigured,
}

/// Where the message names the price that would be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Least {
    /// Nowhere.
    Unnamed,
    /// The number after these words is enough.
    At(&'static str),
    /// More than the number after these words.
    Above(&'static str),
}

/// One row of the table.
#[derive(Debug)]
struct Row {
    sign: Sign,
    meaning: Meaning,
    /// The clients that send this message, by the names of the files of captured messages.
    #[cfg_attr(not(test), expect(dead_code, reason = "documents the row, and the tests check it"))]
    clients: &'static str,
}

/// How a row recognizes its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// These words, in lower case, at the beginning of a word: `known transaction` does not match
    /// `unknown transaction type`.
    Words(&'static str),
    /// This code, with any words.
    Code(i64),
}

const fn row(words: &'static str, meaning: Meaning, clients: &'static str) -> Row {
    Row { sign: Sign::Words(words), meaning, clients }
}

const fn code(code: i64, meaning: Meaning, clients: &'static str) -> Row {
    Row { sign: Sign::Code(code), meaning, clients }
}

/// The most specific rows first. `bsc` includes geth where both have the same message.
static TABLE: &[Row] = &[
    // A contract's words must not be taken for the node's.
    row("vm exception while processing transaction", Contract, "hardhat ganache"),
    row("execution reverted", Contract, "bsc besu"),
    // Accepted: eth_sendRawTransactionSync stops waiting (EIP-7966, code 4).
    row("added to the transaction pool but wasn't processed", Accepted, "bsc"),
    row("added to the mempool but wasn't confirmed", Accepted, "reth"),
    row("already known", AlreadyKnown, "bsc reth erigon nethermind"),
    row("alreadyknown", AlreadyKnown, "nethermind-old"),
    row("known transaction", AlreadyKnown, "besu hardhat"),
    row("transaction already imported", AlreadyKnown, "anvil"),
    row("existing txn with same hash", AlreadyKnown, "erigon"),
    // The nonce is used, usually by our own transaction.
    row("nonce too low", NonceTooLow, "bsc reth erigon nethermind besu anvil hardhat"),
    row("oldnonce", NonceTooLow, "nethermind-old"),
    row(": mined", NonceTooLow, "erigon"),
    // Our configuration is wrong: another chain, or a signature of another account.
    row("invalid chain id", Misconfigured, "bsc geth reth erigon anvil"),
    row("invalid chainid", Misconfigured, "hardhat"),
    row("wrong chainid", Misconfigured, "besu"),
    row("chainid not supported", Misconfigured, "besu"),
    row("chainid is required", Misconfigured, "besu"),
    row("incompatible eip-155 transaction", Misconfigured, "hardhat"),
    row("only replay-protected (eip-155) transactions allowed", Misconfigured, "bsc"),
    row("invalid transaction v, r, s values", Misconfigured, "bsc geth"),
    row("invalid sender", Misconfigured, "geth reth erigon"),
    row("invalid public key", Misconfigured, "bsc"),
    row("recovery failed", Misconfigured, "bsc"),
    row("invalid transaction signature", Misconfigured, "reth"),
    row("invalid signature", Misconfigured, "besu hardhat ganache"),
    row("failed to recover sender", Misconfigured, "nethermind"),
    row("failed to recover the signer", Misconfigured, "anvil"),
    row("failedtoresolvesender", Misconfigured, "nethermind-old"),
    // Code at the account's address (EIP-3607), or an allow list: no transaction of the account will be accepted.
    row("sender not an eoa", Misconfigured, "geth nethermind"),
    row("sender is not an eoa", Misconfigured, "reth"),
    row("senderiscontract", Misconfigured, "nethermind-old"),
    row("sender account not authorized", Misconfigured, "besu"),
    // A higher price is needed.
    row(
        "replacement transaction underpriced",
        Underpriced(Least::At("of at least ")),
        "bsc reth erigon nethermind besu anvil hardhat",
    ),
    row("could not replace existing tx", Underpriced(Least::Unnamed), "erigon"),
    row("transaction gas price below minimum", Underpriced(Least::At("minimum needed ")), "bsc"),
    row("transaction underpriced", Underpriced(Least::At("minimum needed ")), "bsc geth reth nethermind ganache"),
    row("transaction priority fee below minimum", Underpriced(Least::At("minimum required priority fee ")), "reth"),
    row("max fee per gas less than block base fee", Underpriced(Least::At("basefee: ")), "geth reth anvil"),
    row("gas price below configured minimum gas price", Underpriced(Least::Unnamed), "besu"),
    row("gas price below current base fee", Underpriced(Least::Unnamed), "besu"),
    row("max priority fee per gas is 0", Underpriced(Least::Unnamed), "reth"),
    row("feetoolow", Underpriced(Least::Above("needs to be higher than ")), "nethermind-old"),
    row("fee too low", Underpriced(Least::Unnamed), "erigon"),
    row("underpriced", Underpriced(Least::Unnamed), "erigon"),
    // The account cannot pay now.
    row("insufficient funds", Funds, "bsc reth erigon nethermind anvil ganache"),
    row("insufficientfunds", Funds, "nethermind-old"),
    row("sender doesn't have enough funds", Funds, "hardhat"),
    row("upfront cost exceeds account balance", Funds, "besu"),
    // This transaction will never be accepted: gas,
    row("intrinsic gas too low", Refused, "bsc reth anvil ganache"),
    row("intrinsic gas too high", Refused, "reth anvil"),
    row("intrinsic gas exceeds gas limit", Refused, "besu"),
    row("intrinsicgas", Refused, "erigon"),
    row("insufficient gas for floor data gas cost", Refused, "bsc"),
    row("transaction requires at least", Refused, "hardhat"),
    row("transaction requires gas floor", Refused, "hardhat"),
    row("exceeds block gas limit", Refused, "bsc reth besu hardhat ganache"),
    row("exceeds max transaction gas limit", Refused, "reth"),
    row("gas limit too high", Refused, "bsc reth"),
    row("gas limit is too high", Refused, "erigon"),
    row("gas limit reached", Refused, "nethermind"),
    row("gaslimitexceeded", Refused, "nethermind-old"),
    row("gas uint64 overflow", Refused, "bsc reth"),
    row("gasuintoverflow", Refused, "erigon"),
    // price and value,
    row("exceeds the configured cap", Refused, "bsc reth"),
    row("transaction fee cap exceeded", Refused, "besu"),
    row("max priority fee per gas higher than max fee per gas", Refused, "bsc reth anvil"),
    row("max priority fee per gas exceeds max fee per gas", Refused, "besu"),
    row("is bigger than maxfeepergas", Refused, "hardhat"),
    row("higher than 2^256-1", Refused, "bsc reth"),
    row("negative value", Refused, "bsc reth erigon"),
    row("transaction cost overflow", Refused, "nethermind"),
    row("int256overflow", Refused, "nethermind-old"),
    // size and type,
    row("oversized data", Refused, "bsc reth erigon"),
    row("transaction too large", Refused, "nethermind"),
    row("rlptoolong", Refused, "erigon"),
    row("max initcode size exceeded", Refused, "bsc reth anvil"),
    row("initcode too large", Refused, "erigon"),
    row("transaction blob limit exceeded", Refused, "bsc"),
    row("transaction type not supported", Refused, "bsc reth"),
    row("unsupported transaction type", Refused, "nethermind"),
    row("invalid transaction type", Refused, "besu hardhat"),
    row("fork supporting this transaction type is not activated", Refused, "erigon"),
    row("set code tx must have at least one authorization tuple", Refused, "bsc"),
    // encoding,
    row("rlp: ", Refused, "bsc"),
    row("typed transaction too short", Refused, "bsc"),
    row("signature value exceeds 256 bits", Refused, "geth"),
    row("failed to decode", Refused, "reth anvil"),
    row("could not decode transaction", Refused, "ganache"),
    row("empty transaction data", Refused, "reth"),
    row("input too short", Refused, "hardhat"),
    row("invalid argument 0", Refused, "bsc"),
    row("missing value for required argument 0", Refused, "bsc"),
    // and others.
    row("nonce has max value", Refused, "bsc reth"),
    row("sender or to in black list", Refused, "bsc"),
    // Retry later, or at another node: a lower nonce is missing,
    row("nonce too high", Retry, "bsc reth nethermind besu hardhat"),
    row("noncegap", Retry, "nethermind-old"),
    row("nonce too far in future", Retry, "nethermind"),
    row("nonce is too distant", Retry, "besu"),
    row("an invalid transaction with a lower nonce exists", Retry, "besu"),
    row("future transaction tries to replace pending", Retry, "bsc"),
    row("gapped-nonce tx from delegated accounts", Retry, "bsc reth"),
    row("delegation nonce gap", Retry, "nethermind"),
    // another transaction of the account blocks it,
    row("in-flight transaction limit reached", Retry, "bsc"),
    row("delegation authority has pending transaction", Retry, "nethermind"),
    row("authority already reserved", Retry, "bsc reth"),
    row("address already reserved", Retry, "bsc reth"),
    row("pending transaction type conflict", Retry, "nethermind"),
    row("ownnoncealreadyused", Retry, "nethermind-old"),
    row("account limit exceeded", Retry, "bsc"),
    row("spammer", Retry, "erigon"),
    // or the node is full, behind, or does not support the call.
    row("txpool is full", Retry, "bsc reth"),
    row("sub-pool is full", Retry, "erigon"),
    row("node is syncing", Retry, "nethermind"),
    row("initial sync is still in progress", Retry, "besu"),
    row("transaction pool not enabled", Retry, "besu"),
    row("transaction indexing is in progress", Retry, "bsc"),
    row("batch too large", Retry, "bsc"),
    row("exceeds max batch size", Retry, "besu"),
    row("does not exist/is not available", Retry, "bsc"),
    code(-32601, Retry, "anvil besu gateway"),
    // The provider's limits come after every node error about a transaction: Besu's -32005 is about gas.
    row("rate limit", RateLimited, "provider"),
    row("requests per second", RateLimited, "provider"),
    row("too many requests", RateLimited, "provider"),
    row("limit exceeded", RateLimited, "provider"),
    row("capacity", RateLimited, "provider"),
    code(429, RateLimited, "provider"),
    code(-32055, RateLimited, "provider"),
    code(-32005, RateLimited, "provider"),
    // A gateway that forwards the call to no node, for another reason than our rate.
    row("usage limit", Retry, "gateway"),
    row("call limit", Retry, "gateway"),
    row("plan used up", Retry, "gateway"),
    row("not in whitelist", Retry, "gateway"),
    row("not on whitelist", Retry, "gateway"),
    row("unauthorized", Retry, "gateway"),
    row("not in project scope", Retry, "gateway"),
    row("method not supported", Retry, "gateway"),
    row("method not available", Retry, "gateway"),
    row("backend request failed", Retry, "gateway"),
];

/// Classifies an error in answer to a send.
#[must_use]
pub fn classify(code: i64, message: &str) -> SendClass {
    let message = message.to_lowercase();
    match find(code, &message).map(|row| row.meaning) {
        None | Some(Contract) => SendClass::Unknown,
        Some(Accepted) => SendClass::Accepted,
        Some(AlreadyKnown) => SendClass::AlreadyKnown,
        Some(NonceTooLow) => SendClass::NonceTooLow,
        Some(Retry | RateLimited) => SendClass::Retry,
        Some(Underpriced(least)) => SendClass::Underpriced(least_price(least, &message)),
        Some(Funds) => SendClass::Funds,
        Some(Refused) => SendClass::Refused,
        Some(Misconfigured) => SendClass::Misconfigured,
    }
}

/// Whether an error says that we make too many calls, for any method: in a whole response or in one answer of a
/// batch.
#[must_use]
pub fn is_rate_limit(code: i64, message: &str) -> bool {
    find(code, &message.to_lowercase()).is_some_and(|row| row.meaning == RateLimited)
}

/// Whether the table has a row for an error.
pub(crate) fn is_known(code: i64, message: &str) -> bool {
    find(code, &message.to_lowercase()).is_some()
}

/// Whether an error says that the batch was refused, not one of its calls.
#[must_use]
pub fn is_batch_refusal(message: &str) -> bool {
    let message = message.to_lowercase();
    ["batch too large", "max batch size", "batch size", "batch requests", "batch request", "batching"]
        .iter()
        .any(|words| has_words(&message, words))
}

/// Whether an error in answer to a call reports how its execution ended: the messages of `core/vm/errors.go`, code 3
/// of a revert, and the messages of other clients. Any other error says nothing about the transaction.
#[must_use]
pub fn is_execution_error(code: i64, message: &str) -> bool {
    let message = message.to_lowercase();
    let words = [
        "revert",
        "reverted",
        "out of gas",
        "outofgas",
        "invalid opcode",
        "invalid jump",
        "stack underflow",
        "stack limit reached",
        "write protection",
        "max code size exceeded",
        "gas uint64 overflow",
        "max call depth exceeded",
        "insufficient balance for transfer",
    ];
    code == 3
        || find(code, &message).is_some_and(|row| row.meaning == Contract)
        || words.iter().any(|words| has_words(&message, words))
}

fn find(code: i64, message: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| match row.sign {
        Sign::Words(words) => has_words(message, words),
        Sign::Code(number) => number == code,
    })
}

/// Whether `words` occur in `message` at the beginning of a word. Both are in lower case.
fn has_words(message: &str, words: &str) -> bool {
    let glued = |before: &str| before.ends_with(char::is_alphanumeric) && words.starts_with(char::is_alphanumeric);
    message.match_indices(words).any(|(at, _)| message.get(..at).is_some_and(|before| !glued(before)))
}

fn least_price(least: Least, message: &str) -> Option<Wei> {
    let (words, more) = match least {
        Least::Unnamed => return None,
        Least::At(words) => (words, U256::zero()),
        Least::Above(words) => (words, U256::one()),
    };
    let (_, rest) = message.split_once(words)?;
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let digits = rest.get(..end).filter(|digits| !digits.is_empty())?;
    U256::from_dec_str(digits).ok()?.checked_add(more).map(Wei)
}

#[cfg(test)]
mod tests;
