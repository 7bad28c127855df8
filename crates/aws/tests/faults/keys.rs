//! KMS: an unusable key is reported with its reason, and throttled calls are repeated.

use serde_json::json;
use signpost_aws::kms::KmsKeys;
use signpost_txmgr::ports::{Happened, Keys as _, PortError};
use signpost_txmgr::units::{KmsKeyId, SigningHash};
use signpost_txmgr::unusable::KeyFault;

use crate::script::{IMPATIENT, Script, Step};

fn keys(script: &Script) -> KmsKeys {
    KmsKeys::with_client(aws_sdk_kms::Client::new(&script.sdk()), IMPATIENT)
}

fn key() -> KmsKeyId {
    "alias/hot".parse().unwrap()
}

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn signature() -> Step {
    Step::ok(json!({ "KeyId": "k", "Signature": "MAYCAQECAQE=", "SigningAlgorithm": "ECDSA_SHA_256" }))
}

#[tokio::test]
async fn hash_is_signed_once_as_a_digest() {
    let script = Script::new([signature()]);
    let signed = keys(&script).sign(&key(), &SigningHash([0xff; 32])).await.unwrap();
    assert_eq!(signed.der, [0x30, 6, 2, 1, 1, 2, 1, 1]);
    let asked = script.asked();
    let body = asked[0].json();
    assert_eq!(body["MessageType"], "DIGEST");
    assert_eq!(body["SigningAlgorithm"], "ECDSA_SHA_256");
    assert_eq!(body["Message"], "//////////////////////////////////////////8=");
}

#[tokio::test]
async fn throttled_signature_is_retried() {
    let throttled = || Step::error(400, "ThrottlingException");
    let script = Script::new([throttled(), throttled(), signature()]);
    let signed = keys(&script).sign(&key(), &SigningHash([1; 32])).await.unwrap();
    assert_eq!(signed.request_id.as_deref(), Some("request-3"), "the id of the call that signed");
    let script = Script::new([throttled(), throttled(), throttled()]);
    let error = keys(&script).sign(&key(), &SigningHash([1; 32])).await.unwrap_err();
    let PortError { operation, happened, throttled, .. } = error.call;
    assert_eq!((operation, happened, throttled, error.fault), ("Sign", Happened::No, true, None));
}

#[tokio::test]
async fn unusable_key_is_reported_with_its_reason_and_not_retried() {
    for (code, words, fault) in [
        ("DisabledException", "KMS key alias/hot is disabled; enable it", KeyFault::Disabled),
        (
            "KMSInvalidStateException",
            "in a state in which it cannot be used: KMSInvalidStateException!",
            KeyFault::Unavailable,
        ),
        ("NotFoundException", "does not exist in this AWS account and region", KeyFault::NotFound),
        ("AccessDeniedException", "allow kms:Sign on it", KeyFault::Denied),
        ("InvalidKeyUsageException", "make one with key usage SIGN_VERIFY", KeyFault::Unfit),
    ] {
        let script = Script::new([Step::error(400, code)]);
        let error = keys(&script).sign(&key(), &SigningHash([1; 32])).await.unwrap_err();
        assert_eq!(
            (error.call.happened, error.call.throttled, error.fault),
            (Happened::No, false, Some(fault)),
            "{code}"
        );
        assert!(error.call.source.to_string().contains(words), "{}", error.call.source);
        script.asked();
    }
}

#[tokio::test]
async fn unreadable_public_key_is_reported_with_the_keys_fault() {
    let deleted = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d is pending deletion.";
    let importing = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d is pending import.";
    for (code, words, fault) in [
        ("DisabledException", "", KeyFault::Disabled),
        ("KMSInvalidStateException", deleted, KeyFault::PendingDeletion),
        ("KMSInvalidStateException", importing, KeyFault::Unavailable),
        ("NotFoundException", "", KeyFault::NotFound),
        ("AccessDeniedException", "", KeyFault::Denied),
    ] {
        let body = json!({ "__type": code, "message": words });
        let script = Script::new([Step::Answer(400, body.to_string())]);
        let error = keys(&script).public_key(&key()).await.unwrap_err();
        assert_eq!((error.fault, error.call.operation), (Some(fault), "GetPublicKey"), "{code}");
        script.asked();
    }
}

#[tokio::test]
async fn kms_outage_is_not_a_fault_of_the_key() {
    for (status, code) in [(400, "ThrottlingException"), (500, "KMSInternalException")] {
        let script = Script::new([Step::error(status, code), Step::error(status, code), Step::error(status, code)]);
        let error = keys(&script).public_key(&key()).await.unwrap_err();
        assert_eq!((error.fault, error.call.throttled), (None, status == 400), "{code}");
    }
    let script = Script::new([Step::ok(json!({ "KeyId": "k" }))]);
    assert_eq!(keys(&script).public_key(&key()).await.unwrap_err().fault, None, "an answer without a key");
}

#[tokio::test]
async fn failing_kms_call_is_retried() {
    for code in ["KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"] {
        let script = Script::new([Step::error(500, code), signature()]);
        keys(&script).sign(&key(), &SigningHash([1; 32])).await.unwrap();
        script.asked();
    }
}

#[tokio::test]
async fn public_key_of_another_spec_or_usage_is_refused() {
    let answer = |spec: &str, usage: &str| {
        Step::ok(json!({ "KeyId": ARN, "PublicKey": "AQID", "KeySpec": spec, "KeyUsage": usage }))
    };
    let script = Script::new([answer("ECC_SECG_P256K1", "SIGN_VERIFY")]);
    let found = keys(&script).public_key(&key()).await.unwrap();
    assert_eq!((found.id.as_str(), found.spki.as_slice()), (ARN, [1, 2, 3].as_slice()), "the key, not its alias");
    for (spec, usage, words) in [
        ("ECC_NIST_P256", "SIGN_VERIFY", "has key spec ECC_NIST_P256; make one with key spec ECC_SECG_P256K1"),
        ("RSA_2048", "SIGN_VERIFY", "has key spec RSA_2048"),
        ("ECC_SECG_P256K1", "KEY_AGREEMENT", "is for KEY_AGREEMENT; make one with key usage SIGN_VERIFY"),
    ] {
        let script = Script::new([answer(spec, usage)]);
        let error = keys(&script).public_key(&key()).await.unwrap_err();
        assert_eq!(error.fault, Some(KeyFault::Unfit));
        assert!(error.call.source.to_string().contains(words), "{}", error.call.source);
    }
}
