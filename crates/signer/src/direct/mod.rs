//! `sign-direct`: a signature and nothing else, for callers who keep their nonces themselves.
//!
//! One synchronous invocation, one transaction, one KMS signature. There is no store: what is signed is
//! forgotten, and two calls with one nonce are signed both. So a key that signs here must sign nowhere
//! else, least of all behind the signing queue, whose lanes would take this function's transactions for
//! somebody else's.
//!
//! **Guarantees:** every payload is answered normally, a bad one with a text and a stable code; nothing
//! is signed that the policy refuses, and without a policy nothing starts unless that was asked for; what is
//! returned is low-s and recovers to the key's address; before it is returned one INFO line says what was signed,
//! with the ids under which `CloudTrail` has the call of KMS and the invocation.
//! **Does not guarantee** that a nonce is used once or in order, nor that anything is ever sent.
//!
//! Never logs a signature, nor of calldata more than the selector; never talks to a node. Read in this order: [`config`],
//! `signpost_txmgr::request::Direct`, [`answer`].

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

/// Bytes of calldata that name the function called.
const SELECTOR_BYTES: usize = 4;

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

/// What was asked for, as the log tells it.
struct Told<'t> {
    request: &'t DirectRequest,
    /// Lambda's id of the invocation.
    request_id: &'t str,
}

impl<K: Keys> SignDirect<K> {
    /// Reads the public key, once for all invocations. Says so where no policy holds.
    pub async fn start(keys: K, config: DirectConfig) -> Result<Self, DirectStartError> {
        let DirectConfig { key, chain_id, policy } = config;
        if policy.is_none() {
            tracing::warn!(
                "there is no policy (SIGNPOST_POLICY=none): whoever may invoke the function has signed what they like"
            );
        }
        let answer = keys.public_key(&key).await.map_err(DirectStartError::PublicKey)?;
        let public_key = PublicKey::from_spki(&answer.spki).map_err(DirectStartError::Key)?;
        Ok(Self { keys, key, public_key, chain_id, policy })
    }

    /// The key's address.
    pub fn address(&self) -> Address {
        self.public_key.address()
    }

    /// Answers one invocation within `patience`. `request_id` is Lambda's id of it, for the log.
    pub async fn answer(&self, payload: &str, request_id: &str, patience: Duration) -> Answer {
        let answered = match Direct::parse(payload, self.chain_id) {
            Ok(Direct::Status) => return Answer::Status(self.status()),
            Ok(Direct::Sign(request)) => self.sign(&Told { request: &request, request_id }, patience).await,
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

    async fn sign(&self, told: &Told<'_>, patience: Duration) -> Result<SignedTx, Problem> {
        let Told { request, request_id } = *told;
        request.check(self.policy.as_ref())?;
        let hash = request.unsigned().signing_hash();
        let signing = tokio::time::timeout(patience, self.keys.sign(&self.key, &hash)).await;
        let answer = signing
            .map_err(|_| Problem::kms_silent())
            .and_then(|signed| signed.map_err(|error| Problem::of_kms(&error.call)));
        // KMS may have signed all the same: the hash says what.
        let answer = answer.inspect_err(|problem| {
            tracing::warn!(request_id, signing_hash = %hash, code = problem.code, "KMS did not sign");
        })?;
        let kms_request_id = answer.request_id.as_deref();
        let signature = self.public_key.signature(&hash, &answer.der).map_err(|error| {
            tracing::error!(request_id, signing_hash = %hash, kms_request_id, %error,
                "KMS answered with something that is no signature by its key");
            Problem::of_signature(error)
        })?;
        let signed = SignedTx::new(request, &signature, self.address());
        told.say(&hash, &signed.hash, kms_request_id);
        Ok(signed)
    }
}

impl Told<'_> {
    /// The one line per signature: there is no record of it but this.
    fn say(&self, hash: &SigningHash, tx_hash: &str, kms_request_id: Option<&str>) {
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
