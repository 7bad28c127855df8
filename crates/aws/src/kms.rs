//! The key service: AWS KMS.
//!
//! Reads a key's public key (`GetPublicKey`, once per process is enough) and requests signatures
//! (`Sign`). Signs the given digests; the caller decides what may be signed. Never holds a secret.
//!
//! IAM actions: `kms:GetPublicKey`, `kms:Sign`. Key spec `ECC_SECG_P256K1`, usage `SIGN_VERIFY`.
//! Read next: [`crate::sqs`].

use std::error::Error;

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::operation::RequestId as _;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use signpost_txmgr::meters;
use signpost_txmgr::ports::{KeyAnswer, KeyCallError, Keys, KmsSignature, PortError};
use signpost_txmgr::units::{KmsKeyId, SigningHash};
use signpost_txmgr::unusable::KeyFault;
use tokio::time::Instant;

use crate::clients;
use crate::fault::{AwsError, KeyProblem};
use crate::repeat::{Backoff, FailedCall, repeat};

impl KeyProblem {
    /// What it means for the account.
    #[must_use]
    pub fn fault(&self) -> KeyFault {
        match self {
            Self::Disabled { .. } => KeyFault::Disabled,
            Self::PendingDeletion { .. } => KeyFault::PendingDeletion,
            Self::State { .. } => KeyFault::Unavailable,
            Self::NotFound { .. } => KeyFault::NotFound,
            Self::Denied { .. } => KeyFault::Denied,
            Self::Usage { .. } | Self::Spec { .. } => KeyFault::Unfit,
        }
    }
}

/// End of the message of `KMSInvalidStateException` for a key that is scheduled for deletion, as in
/// `arn:aws:kms:eu-central-1:111122223333:key/… is pending deletion.` There is no separate code, and reading
/// the state needs another permission. If AWS changes the text, requests wait for the account before they are refused.
const PENDING_DELETION: &str = "is pending deletion";

/// Keys in AWS KMS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KmsKeys {
    client: Client,
    backoff: Backoff,
}

impl KmsKeys {
    /// Keys with retries and timeouts of their own; those of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig) -> Self {
        let config = aws_sdk_kms::config::Builder::from(sdk)
            .retry_config(clients::no_retries())
            .timeout_config(clients::timeouts(std::time::Duration::ZERO))
            .build();
        Self::with_client(Client::from_conf(config), Backoff::STANDARD)
    }

    /// Replaces the backoff, for a caller that waits for the answer itself.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Keys on a client without retries of its own.
    #[must_use]
    pub fn with_client(client: Client, backoff: Backoff) -> Self {
        Self { client, backoff }
    }
}

impl Keys for KmsKeys {
    async fn public_key(&self, key: &KmsKeyId) -> Result<KeyAnswer, KeyCallError> {
        const OPERATION: &str = "GetPublicKey";
        let request = self.client.get_public_key().key_id(key.as_str());
        let answer = repeat(&self.backoff, OPERATION, || request.clone().send())
            .await
            .map_err(|failure| key_error(failure, OPERATION, key, "kms:GetPublicKey"))?;
        let incomplete = |what| unanswered(AwsError::Incomplete(what).unusable(OPERATION));
        let unfit = |problem: KeyProblem| {
            let fault = Some(problem.fault());
            Err(KeyCallError { fault, call: AwsError::Key(problem).unusable(OPERATION) })
        };
        let name = key.to_string();
        match answer.key_spec() {
            Some(KeySpec::EccSecgP256K1) => {}
            Some(spec) => return unfit(KeyProblem::Spec { key: name, found: spec.to_string() }),
            None => return Err(incomplete("KeySpec")),
        }
        match answer.key_usage() {
            Some(KeyUsageType::SignVerify) => {}
            Some(usage) => return unfit(KeyProblem::Usage { key: name, found: usage.to_string() }),
            None => return Err(incomplete("KeyUsage")),
        }
        let id = answer.key_id.and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| incomplete("KeyId"))?;
        let spki = answer.public_key.ok_or_else(|| incomplete("PublicKey"))?;
        Ok(KeyAnswer { id, spki: spki.into_inner() })
    }

    async fn sign(&self, key: &KmsKeyId, hash: &SigningHash) -> Result<KmsSignature, KeyCallError> {
        const OPERATION: &str = "Sign";
        let request = self
            .client
            .sign()
            .key_id(key.as_str())
            .message(Blob::new(hash.0))
            // The hash is signed unchanged; RAW would hash it again.
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
        let begun = Instant::now();
        let answer = repeat(&self.backoff, OPERATION, || request.clone().send())
            .await
            .map_err(|failure| key_error(failure, OPERATION, key, "kms:Sign"))?;
        metrics::histogram!(meters::KMS_SIGN).record(begun.elapsed().as_secs_f64() * 1_000.0);
        metrics::counter!(meters::KMS_SIGNATURES).increment(1);
        let incomplete = || unanswered(AwsError::Incomplete("Signature").unusable(OPERATION));
        let request_id = answer.request_id().map(str::to_owned);
        let der = answer.signature.ok_or_else(incomplete)?.into_inner();
        Ok(KmsSignature { der, request_id })
    }
}

/// The error of a call that says nothing about the key.
fn unanswered(call: PortError) -> KeyCallError {
    KeyCallError { fault: None, call }
}

/// The call's error, with the key's problem by name.
fn key_error<E>(failure: FailedCall<E>, operation: &'static str, key: &KmsKeyId, action: &'static str) -> KeyCallError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let name = key.to_string();
    let words = failure.service().and_then(ProvideErrorMetadata::message).unwrap_or_default().to_owned();
    let problem = match failure.service().and_then(ProvideErrorMetadata::code) {
        Some("DisabledException") => KeyProblem::Disabled { key: name },
        Some("KMSInvalidStateException") if words.contains(PENDING_DELETION) => {
            KeyProblem::PendingDeletion { key: name }
        }
        Some("KMSInvalidStateException") => KeyProblem::State { key: name, message: words },
        Some("NotFoundException") => KeyProblem::NotFound { key: name },
        Some("AccessDeniedException") => KeyProblem::Denied { key: name, action },
        Some("InvalidKeyUsageException") => KeyProblem::Usage { key: name, found: words },
        Some(_) | None => return unanswered(failure.into_port(operation)),
    };
    let (fault, call) = (Some(problem.fault()), failure.into_port(operation));
    KeyCallError { fault, call: PortError { source: Box::new(AwsError::Key(problem)), ..call } }
}
