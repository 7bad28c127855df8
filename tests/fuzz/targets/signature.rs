//! KMS answers: public keys and signatures in DER.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::signature::{PublicKey, recover};
use signpost_txmgr::units::SigningHash;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (spki, der) = input;
    let Ok(key) = PublicKey::from_spki(spki) else { return };
    let hash = SigningHash([7; 32]);
    if let Ok(signature) = key.signature(&hash, der) {
        assert!(key.verifies(&hash, &signature));
        assert_eq!(recover(&hash, &signature), Some(key.address()));
    }
});
