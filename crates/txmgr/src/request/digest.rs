//! The digest: what makes two messages under one id the same request, or a conflict.
//!
//! It is taken over what was understood, never over how it was written: `1`, `"1"` and `"0x1"`,
//! the order of the fields, and whether the account was named, addressed or left out make no
//! difference. Of a request for a pool it is the pool's name that counts, not the account it was assigned
//! to: that may be another one when the message is redelivered. The request id is not part of it: digests are only
//! compared under one id.
//!
//! The encoding is for ever, because a stored digest is compared with one computed later by a newer
//! version. It is the text [`VERSION`] and then, in this order, account address, chain id, to,
//! value, data, gas, fee, max gas price, deadline, metadata; each is one byte of kind (0 absent, 4 a pool's name),
//! and where present the length of the bytes as 4 bytes and the bytes. Integers are big endian: 8
//! bytes for chain id, gas and deadline (in milliseconds), 32 for wei. A type 2 fee is its maximum
//! followed by its priority fee. Metadata is JSON without blanks, names sorted by their UTF-8 bytes, numbers
//! as the caller wrote them. Known answers are kept in `tests/vectors/requests`.
//!
//! Read next: [`crate::policy::accept()`].

use sha2::{Digest as _, Sha256};

use super::{AccountRef, FeeAsk, SigningRequest};
use crate::encoding::{Encoding, POOL, PRESENT, canonical, wei};
use crate::units::{AccountKey, Digest};

/// Names the encoding; another encoding needs another name.
const VERSION: &[u8] = b"signpost signing-request v1";

impl SigningRequest {
    /// SHA-256 of the request as it was understood, for the account it resolved to.
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
