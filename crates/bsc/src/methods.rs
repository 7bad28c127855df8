//! Names of JSON-RPC methods that several files use.

pub(crate) const BLOCK: &str = "eth_getBlockByNumber";
pub(crate) const COUNT: &str = "eth_getTransactionCount";
