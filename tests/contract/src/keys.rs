//! Claims about the key service.

use futures_util::future::join_all;
use signpost_txmgr::ports::{Happened, Keys};
use signpost_txmgr::signature::PublicKey;
use signpost_txmgr::units::{KmsKeyId, SigningHash, sha256};
use signpost_txmgr::unusable::KeyFault;

/// A key service with two keys.
#[derive(Debug, Clone)]
pub struct KeyRing<K> {
    /// The service.
    pub keys: K,
    /// The alias of a key that signs.
    pub able: KmsKeyId,
    /// A key that is disabled.
    pub disabled: KmsKeyId,
}

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! keys_claims {
    ($each:ident) => {
        $each! { keys:
            signature_verifies_under_the_public_key,
            signing_twice_gives_two_signatures,
            every_signature_names_its_call,
            s_is_high_about_half_of_the_time,
            a_disabled_key_signs_nothing,
            an_unknown_key_is_an_error,
            alias_resolves_to_the_key_itself,
        }
    };
}

async fn public_key(ring: &KeyRing<impl Keys>) -> PublicKey {
    PublicKey::from_spki(&ring.keys.public_key(&ring.able).await.unwrap().spki).unwrap()
}

/// The hash is signed as it is, not hashed again.
pub async fn signature_verifies_under_the_public_key(ring: &KeyRing<impl Keys>) {
    let public_key = public_key(ring).await;
    let hashes: Vec<SigningHash> = (0..16_u8).map(|at| SigningHash(sha256(&[at]))).collect();
    let signatures = join_all(hashes.iter().map(|hash| ring.keys.sign(&ring.able, hash))).await;
    for (hash, signed) in hashes.iter().zip(signatures) {
        let signature = public_key.signature(hash, &signed.unwrap().der).expect("a signature of this hash");
        assert!(public_key.verifies(hash, &signature), "I10");
    }
}

/// So a signature must be stored before its bytes are sent.
pub async fn signing_twice_gives_two_signatures(ring: &KeyRing<impl Keys>) {
    let hash = SigningHash([0x5a; 32]);
    let first = ring.keys.sign(&ring.able, &hash).await.unwrap();
    let second = ring.keys.sign(&ring.able, &hash).await.unwrap();
    assert_ne!(first.der, second.der);
}

/// The audit trail of the service is searched by this id.
pub async fn every_signature_names_its_call(ring: &KeyRing<impl Keys>) {
    let hash = SigningHash([0x5b; 32]);
    let first = ring.keys.sign(&ring.able, &hash).await.unwrap().request_id.expect("an id");
    let second = ring.keys.sign(&ring.able, &hash).await.unwrap().request_id.expect("an id");
    assert!(!first.is_empty() && first != second, "{first} and {second}");
}

/// Fails by chance once in 2^47 runs.
pub async fn s_is_high_about_half_of_the_time(ring: &KeyRing<impl Keys>) {
    let public_key = public_key(ring).await;
    let mut high = 0;
    for at in 0..48_u8 {
        let hash = SigningHash(sha256(&[at, 1]));
        let der = ring.keys.sign(&ring.able, &hash).await.unwrap().der;
        let low_s = public_key.signature(&hash, &der).unwrap().s;
        // The last 32 bytes of the DER are s, unless s begins with zeros. A low s is there unchanged.
        high += u32::from(!der.ends_with(&low_s[1..]));
    }
    assert!((1..48).contains(&high), "{high} of 48");
}

/// The error says so, and that nothing happened.
pub async fn a_disabled_key_signs_nothing(ring: &KeyRing<impl Keys>) {
    let error = ring.keys.sign(&ring.disabled, &SigningHash([1; 32])).await.unwrap_err();
    assert_eq!((error.call.happened, error.call.throttled, error.call.operation), (Happened::No, false, "Sign"));
    assert!(error.call.source.to_string().contains("disabled"), "{}", error.call.source);
    assert_eq!(error.fault, Some(KeyFault::Disabled));
}

/// An alias may be moved to another key. The key's own id cannot.
pub async fn alias_resolves_to_the_key_itself(ring: &KeyRing<impl Keys>) {
    let by_alias = ring.keys.public_key(&ring.able).await.unwrap();
    assert_ne!(by_alias.id, ring.able);
    assert!(by_alias.id.as_str().starts_with("arn:aws:kms:"), "{}", by_alias.id);
    let by_itself = ring.keys.public_key(&by_alias.id).await.unwrap();
    assert_eq!(by_itself, by_alias);
    ring.keys.sign(&by_alias.id, &SigningHash([2; 32])).await.unwrap();
}

/// Both calls give the error.
pub async fn an_unknown_key_is_an_error(ring: &KeyRing<impl Keys>) {
    let nobody: KmsKeyId = "alias/nobody".parse().unwrap();
    let signing = ring.keys.sign(&nobody, &SigningHash([1; 32])).await.unwrap_err();
    let reading = ring.keys.public_key(&nobody).await.unwrap_err();
    for error in [signing, reading] {
        assert_eq!((error.call.happened, error.fault), (Happened::No, Some(KeyFault::NotFound)));
    }
}
