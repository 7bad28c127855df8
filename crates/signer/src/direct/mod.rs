//! `sign-direct`: a signature and nothing else, for callers who keep their nonces themselves.
//!
//! One synchronous invocation, one transaction, one KMS signature. There is no store: what is signed is
//! forgotten, and two calls with one nonce are signed both. So a key that signs here must sign nowhere
//! else, least of all behind the signing queue, whose lanes would take this function's transactions for
//! somebody else's.
//!
//! **Guarantees:** every payload is answered normally, a bad one with a text and a stable code; nothing
//! is signed that the policy refuses; what is returned is low-s and recovers to the key's address.
//! **Does not guarantee** that a nonce is used once or in order, nor that anything is ever sent.
//!
//! Never logs calldata or a signature, never talks to a node. Read in this order: [`config`],
//! `signpost_txmgr::request::Direct`, [`answer`].

pub mod answer;
pub mod config;

use std::time::Duration;

use signpost_txmgr::policy::AccountPolicy;
use signpost_txmgr::ports::{KeyCallError, Keys};
use signpost_txmgr::request::{Direct, DirectRequest};
use signpost_txmgr::signature::{KeyError, PublicKey};
use signpost_txmgr::units::{Address, ChainId, KmsKeyId};

use self::answer::{Answer, Problem, SignedTx, Status};
use self::config::DirectConfig;

/// Why the function does not start.
#[derive(Debug, thiserror::Error)]
pub enum DirectStartError {
    /// KMS does not give the key.
    #[error("KMS_KEY_ID: the public key cannot be read")]
    PublicKey(#[source] KeyCallError),
    /// The key is none that can sign transactions.
    #[error("KMS_KEY_ID: the key cannot sign transactions")]
    Key(#[source] KeyError),
}

/// The function, ready for invocations.
#[derive(Debug)]
pub struct SignDirect<K> {
    keys: K,
    key: KmsKeyId,
    public_key: PublicKey,
    chain_id: ChainId,
    policy: Option<AccountPolicy>,
}

impl<K: Keys> SignDirect<K> {
    /// Reads the public key, once for all invocations.
    pub async fn start(keys: K, config: DirectConfig) -> Result<Self, DirectStartError> {
        let DirectConfig { key, chain_id, policy } = config;
        let answer = keys.public_key(&key).await.map_err(DirectStartError::PublicKey)?;
        let public_key = PublicKey::from_spki(&answer.spki).map_err(DirectStartError::Key)?;
        Ok(Self { keys, key, public_key, chain_id, policy })
    }

    /// The key's address.
    pub fn address(&self) -> Address {
        self.public_key.address()
    }

    /// Answers one invocation within `patience`.
    pub async fn answer(&self, payload: &str, patience: Duration) -> Answer {
        let answered = match Direct::parse(payload, self.chain_id) {
            Ok(Direct::Status) => return Answer::Status(self.status()),
            Ok(Direct::Sign(request)) => self.sign(&request, patience).await,
            Err(refused) => Err(refused.into()),
        };
        match answered {
            Ok(signed_tx) => Answer::Signed { signed_tx },
            Err(problem) => {
                tracing::info!(code = problem.code, error = problem.error, "nothing was signed");
                Answer::Error(problem)
            }
        }
    }

    fn status(&self) -> Status {
        Status { address: self.address().to_string(), chain_id: self.chain_id.0, kms_key_id: self.key.to_string() }
    }

    async fn sign(&self, request: &DirectRequest, patience: Duration) -> Result<SignedTx, Problem> {
        request.check(self.policy.as_ref())?;
        let hash = request.unsigned().signing_hash();
        let signing = tokio::time::timeout(patience, self.keys.sign(&self.key, &hash)).await;
        let der = signing
            .map_err(|_| Problem::kms_silent())
            .and_then(|signed| signed.map_err(|error| Problem::of_kms(&error.call)));
        let der = der.inspect_err(|problem| tracing::warn!(code = problem.code, "KMS did not sign"))?;
        let signature = self.public_key.signature(&hash, &der).map_err(|error| {
            tracing::error!(%error, "KMS answered with something that is no signature by its key");
            Problem::of_signature(error)
        })?;
        let signed = SignedTx::new(request, &signature, self.address());
        tracing::info!(nonce = request.nonce.0, tx_hash = signed.hash, "signed");
        Ok(signed)
    }
}
