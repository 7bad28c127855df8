//! `sign-direct`: only signs, for callers that manage their nonces themselves.
//!
//! One synchronous invocation, one transaction, one KMS signature. There is no store: signed transactions are
//! not remembered, and two calls with the same nonce are both signed. So a key that signs here must not sign anywhere
//! else, above all not for the signing queue, whose lanes would treat this function's transactions as foreign.
//!
//! **Guarantees:** every payload gets a normal answer, an invalid one with a text and a stable code. Nothing
//! is signed that the policy refuses, and the function does not start without a policy unless that is requested. A
//! returned signature is low-s and recovers to the key's address. Before it is returned, one INFO line names the
//! transaction, with the ids of the KMS call and of the invocation in `CloudTrail`.
//! **Does not guarantee** that a nonce is used once or in order, nor that a transaction is ever sent.
//!
//! Never logs a signature, nor more of the calldata than the selector; never talks to a node. Read in this order:
//! [`config`], `signpost_txmgr::request::Direct`, [`answer`].

pub mod answer;
pub mod config;

use std::time::Duration;

use signpost_txmgr::policy::AccountPolicy;
use signpost_txmgr::ports::{KeyCallError, Keys};
use signpost_txmgr::request::{Direct, DirectRequest};
use signpost_txmgr::signature::{KeyError, PublicKey};
use signpost_txmgr::units::{Address, ChainId, KmsKeyId, SigningHash};

use self::answer::{Answer, Problem, SignedTx, Status};
use self::config::DirectConfig;

/// Length of the function selector in calldata, in bytes.
const SELECTOR_BYTES: usize = 4;

/// Why the function does not start.
#[derive(Debug, thiserror::Error)]
pub enum DirectStartError {
    /// The public key cannot be read from KMS.
    #[error("KMS_KEY_ID: the public key cannot be read")]
    PublicKey(#[source] KeyCallError),
    /// The key cannot sign transactions.
    #[error("KMS_KEY_ID: the key cannot sign transactions")]
    Key(#[source] KeyError),
}

/// The started function.
#[derive(Debug)]
pub struct SignDirect<K> {
    keys: K,
    key: KmsKeyId,
    public_key: PublicKey,
    chain_id: ChainId,
    policy: Option<AccountPolicy>,
}

/// A request with its invocation, for the log.
struct Invocation<'t> {
    request: &'t DirectRequest,
    /// Lambda's id of the invocation.
    request_id: &'t str,
}

impl<K: Keys> SignDirect<K> {
    /// Reads the public key, once for all invocations. Warns if there is no policy.
    pub async fn start(keys: K, config: DirectConfig) -> Result<Self, DirectStartError> {
        let DirectConfig { key, chain_id, policy } = config;
        if policy.is_none() {
            tracing::warn!("there is no policy (SIGNPOST_POLICY=none): every caller of the function can sign anything");
        }
        let answer = keys.public_key(&key).await.map_err(DirectStartError::PublicKey)?;
        let public_key = PublicKey::from_spki(&answer.spki).map_err(DirectStartError::Key)?;
        Ok(Self { keys, key, public_key, chain_id, policy })
    }

    /// The key's address.
    pub fn address(&self) -> Address {
        self.public_key.address()
    }

    /// Answers one invocation within `time_limit`. `request_id` is Lambda's id of the invocation, for the log.
    pub async fn answer(&self, payload: &str, request_id: &str, time_limit: Duration) -> Answer {
        let answered = match Direct::parse(payload, self.chain_id) {
            Ok(Direct::Status) => return Answer::Status(self.status()),
            Ok(Direct::Sign(request)) => self.sign(&Invocation { request: &request, request_id }, time_limit).await,
            Err(refused) => Err(refused.into()),
        };
        match answered {
            Ok(signed_tx) => Answer::Signed { signed_tx },
            Err(problem) => {
                tracing::info!(request_id, code = problem.code, error = problem.error, "nothing was signed");
                Answer::Error(problem)
            }
        }
    }

    fn status(&self) -> Status {
        Status { address: self.address().to_string(), chain_id: self.chain_id.0, kms_key_id: self.key.to_string() }
    }

    async fn sign(&self, invocation: &Invocation<'_>, time_limit: Duration) -> Result<SignedTx, Problem> {
        let Invocation { request, request_id } = *invocation;
        request.check(self.policy.as_ref())?;
        let hash = request.unsigned().signing_hash();
        let signing = tokio::time::timeout(time_limit, self.keys.sign(&self.key, &hash)).await;
        let answer = signing
            .map_err(|_| Problem::kms_silent())
            .and_then(|signed| signed.map_err(|error| Problem::of_kms(&error.call)));
        // KMS may have signed nevertheless: the hash identifies the transaction.
        let answer = answer.inspect_err(|problem| {
            tracing::warn!(request_id, signing_hash = %hash, code = problem.code, "KMS did not sign");
        })?;
        let kms_request_id = answer.request_id.as_deref();
        let signature = self.public_key.signature(&hash, &answer.der).map_err(|error| {
            tracing::error!(request_id, signing_hash = %hash, kms_request_id, %error,
                "KMS did not return a valid signature of its key");
            Problem::of_signature(error)
        })?;
        let signed = SignedTx::new(request, &signature, self.address());
        invocation.log_signed(&hash, &signed.hash, kms_request_id);
        Ok(signed)
    }
}

impl Invocation<'_> {
    /// Logs the line of a signature, which is its only record.
    fn log_signed(&self, hash: &SigningHash, tx_hash: &str, kms_request_id: Option<&str>) {
        let intent = &self.request.intent;
        let selector = intent.data.get(..SELECTOR_BYTES).map(|bytes| format!("0x{}", hex::encode(bytes)));
        // Init code has no selector.
        let selector = selector.filter(|_| intent.to.is_some());
        let to = intent.to.map_or_else(|| "a new contract".to_owned(), |to| to.to_string());
        tracing::info!(
            request_id = self.request_id,
            to,
            value = %intent.value,
            selector,
            nonce = self.request.nonce.0,
            signing_hash = %hash,
            tx_hash,
            kms_request_id,
            "signed"
        );
    }
}
