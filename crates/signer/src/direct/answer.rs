//! The answer to an invocation: always a normal response, in one of three shapes.
//!
//! `{"signed_tx": …}`, `{"address", "chainId", "kmsKeyId"}`, or `{"error": text, "code": code}`. The code
//! is for programs, and its meaning never changes. Read next: [`super`].

use serde::Serialize;
use signpost_aws::fault::{AwsError, KeyProblem};
use signpost_txmgr::ports::{Happened, PortError};
use signpost_txmgr::request::{DirectRequest, Refused};
use signpost_txmgr::signature::SignatureError;
use signpost_txmgr::tx::{Fee, Signature};
use signpost_txmgr::units::{Address, U256};

/// The answer to one invocation.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The signed transaction.
    Signed {
        /// The transaction, in the field that callers expect.
        signed_tx: SignedTx,
    },
    /// The signing key and its chain.
    Status(Status),
    /// Why nothing was signed.
    Error(Problem),
}

/// A signed transaction.
///
/// `Debug` omits the signature, because it is worth money until it is used.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedTx {
    /// The bytes for `eth_sendRawTransaction`, 0x-hex.
    pub raw_transaction: String,
    /// The transaction hash: Keccak-256 of these bytes, 0x-hex.
    pub hash: String,
    /// The signature's `r`, 0x-hex without leading zeros.
    pub r: String,
    /// The signature's `s`, 0x-hex without leading zeros; in the lower half of the order.
    pub s: String,
    /// The `v` of EIP-155 for type 0, the parity for type 2.
    pub v: u64,
    /// The signer's address, with its EIP-55 checksum.
    pub from: String,
    /// The transaction's chain id.
    pub chain_id: u64,
}

/// The signing key and its chain.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The key's address, with its EIP-55 checksum.
    pub address: String,
    /// The chain id of every transaction.
    pub chain_id: u64,
    /// The configured key.
    pub kms_key_id: String,
}

/// Why nothing was signed.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// The message, for humans.
    pub error: String,
    /// The code, for programs.
    pub code: &'static str,
}

impl SignedTx {
    /// The transaction of `request` with `signature`, made by the key of `from`.
    pub(super) fn new(request: &DirectRequest, signature: &Signature, from: Address) -> Self {
        let raw = request.unsigned().sign(signature);
        let chain_id = request.intent.chain_id.0;
        let parity = u64::from(signature.y_odd);
        let v = match request.fee {
            Fee::Legacy { .. } => chain_id.checked_mul(2).and_then(|twice| twice.checked_add(35)?.checked_add(parity)),
            Fee::Dynamic { .. } => Some(parity),
        };
        let scalar = |bytes: &[u8; 32]| format!("{:#x}", U256::from_big_endian(bytes));
        Self {
            raw_transaction: format!("0x{}", hex::encode(&raw.bytes)),
            hash: raw.hash.to_string(),
            r: scalar(&signature.r),
            s: scalar(&signature.s),
            v: v.expect("the configured chain id obeys EIP-2294, which keeps v within 64 bits"),
            from: from.to_string(),
            chain_id,
        }
    }
}

impl std::fmt::Debug for SignedTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedTx").field("hash", &self.hash).field("from", &self.from).finish_non_exhaustive()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self { code: refused.code.as_str(), error: refused.message }
    }
}

impl Problem {
    /// The problem of a failed call to KMS.
    pub(super) fn of_kms(error: &PortError) -> Self {
        if let Some(AwsError::Key(problem)) = error.source.downcast_ref() {
            let code = match problem {
                KeyProblem::Disabled { .. } => "keyDisabled",
                KeyProblem::PendingDeletion { .. } | KeyProblem::State { .. } => "keyUnavailable",
                KeyProblem::NotFound { .. } => "keyNotFound",
                KeyProblem::Denied { .. } => "keyAccessDenied",
                KeyProblem::Usage { .. } | KeyProblem::Spec { .. } => "keyUnfit",
            };
            return Self { error: problem.to_string(), code };
        }
        if error.throttled {
            let error = "KMS is throttling requests; nothing was signed, call again later";
            return Self { error: error.to_owned(), code: "throttled" };
        }
        match error.happened {
            Happened::Unknown => Self::kms_silent(),
            Happened::No | Happened::Yes => {
                let error = format!("KMS did not sign: {}", error.source);
                Self { error, code: "kmsFailed" }
            }
        }
    }

    /// The problem of a KMS that did not answer in time.
    pub(super) fn kms_silent() -> Self {
        let error = "KMS did not answer in time; there is no signature, call again";
        Self { error: error.to_owned(), code: "kmsTimeout" }
    }

    /// The problem of an answer that is not a valid signature of the key.
    pub(super) fn of_signature(error: SignatureError) -> Self {
        Self { error: format!("KMS's answer is not usable: {error}; call again"), code: "badSignature" }
    }
}
