//! The digest of a request: messages with one id and one digest are the same request, with two digests a conflict.
//!
//! It covers the parsed values, not their spelling: `1`, `"1"` and `"0x1"` are equal, and so are different orders of
//! the fields. It makes no difference whether the account was given by name or address, or left out. For a request to
//! a pool it covers the pool's name, not the assigned account, because a redelivered message may be assigned to another
//! account. The request id is not part of it, because digests are only compared under one id.
//!
//! The encoding never changes, because stored digests are compared with digests that newer versions compute. It is the
//! text [`VERSION`], followed by account address, chain id, to, value, data, gas, fee, max gas price, deadline and
//! metadata, in this order. Each of them is one byte for the kind (0 absent, 4 a pool's name) and, if present, the
//! length in 4 bytes and the bytes. Integers are big endian: 8 bytes for chain id, gas and deadline (in milliseconds),
//! 32 bytes for wei. A type 2 fee is its maximum followed by its priority fee. Metadata is JSON without whitespace,
//! with names sorted by their UTF-8 bytes and numbers as the caller wrote them. Test vectors are in
//! `tests/vectors/requests`.
//!
//! Read next: [`crate::policy::accept()`].

use sha2::{Digest as _, Sha256};

use super::{AccountRef, FeeAsk, SigningRequest};
use crate::encoding::{Encoding, POOL, PRESENT, canonical, wei};
use crate::units::{AccountKey, Digest};

/// The name of the encoding. A different encoding needs a different name.
const VERSION: &[u8] = b"signpost signing-request v1";

impl SigningRequest {
    /// The SHA-256 of the parsed request, for the account that it resolved to.
    #[must_use]
    pub fn digest(&self, account: &AccountKey) -> Digest {
        let mut encoding = Encoding::new(Sha256::new(), VERSION);
        match &self.account {
            Some(AccountRef::Pool(name)) => encoding.put(POOL, name.as_str().as_bytes()),
            Some(AccountRef::Name(_) | AccountRef::Key(_) | AccountRef::Address(_)) | None => {
                encoding.put(PRESENT, &account.address.0);
            }
        }
        encoding.put(PRESENT, &account.chain_id.0.to_be_bytes());
        encoding.maybe(self.to.map(|to| to.0));
        encoding.put(PRESENT, &wei(self.value));
        encoding.put(PRESENT, &self.data);
        encoding.put(PRESENT, &self.gas.0.to_be_bytes());
        match self.fee {
            FeeAsk::Configured => encoding.absent(),
            FeeAsk::Fixed(fee) => encoding.fee(fee),
        }
        encoding.maybe(self.max_gas_price.map(wei));
        encoding.maybe(self.deadline.map(|deadline| deadline.0.to_be_bytes()));
        encoding.maybe(self.metadata.as_ref().map(canonical));
        Digest(encoding.into_hash().finalize().into())
    }
}
