//! From what KMS returns to what a transaction carries: a public key's SPKI to its address, a DER
//! signature to (r, low s, parity).
//!
//! KMS gives no recovery bit and leaves `s` as it falls, high half of the time. The ephemeral point
//! `R = u1·G + u2·Q` answers both open questions at once: the signature is valid if `R.x = r`, and
//! the parity is that of `R.y`. So one double-scalar multiplication, the price of a verification,
//! does it; nothing is recovered by trial.
//!
//! Holds no secret outside of tests and never signs. Read next: [`crate::request`].

use std::fmt;

use k256::ecdsa::{DerSignature, RecoveryId, VerifyingKey};
use k256::elliptic_curve::group::Group as _;
use k256::elliptic_curve::ops::{Invert as _, MulByGeneratorVartime as _, Reduce as _};
use k256::elliptic_curve::point::AffineCoordinates as _;
use k256::elliptic_curve::scalar::IsHigh as _;
use k256::elliptic_curve::sec1::ToSec1Point as _;
use k256::pkcs8::der::{self, Decode as _};
use k256::pkcs8::{AssociatedOid as _, ObjectIdentifier, SubjectPublicKeyInfoRef};
use k256::{FieldBytes, NonZeroScalar, ProjectivePoint, Scalar, Secp256k1};

use crate::tx::Signature;
use crate::units::{Address, SigningHash, keccak256};

/// Why a public key cannot be an account's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one DER `SubjectPublicKeyInfo`, or bytes follow it.
    #[error("the public key is not a DER SubjectPublicKeyInfo")]
    NotSpki(#[source] der::Error),
    /// RSA, EdDSA and so on.
    #[error("the public key's algorithm is {0}, not id-ecPublicKey; the key spec must be ECC_SECG_P256K1")]
    Algorithm(ObjectIdentifier),
    /// An elliptic curve, but another one. `None`: the key names no curve.
    #[error("the public key is not on the curve secp256k1; the key spec must be ECC_SECG_P256K1")]
    Curve(Option<ObjectIdentifier>),
    /// A compressed or hybrid point, or the point at infinity.
    #[error("the public key is not an uncompressed point: 0x04 and 64 bytes")]
    Form,
    /// The coordinates are not those of a point of the curve.
    #[error("the public key is not a point of secp256k1")]
    Point,
}

/// Why what was returned for a signing hash is not a signature of it that Ethereum can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not one strict DER `SEQUENCE { r INTEGER, s INTEGER }`.
    #[error("the signature is not DER")]
    NotDer,
    /// `r` or `s` is zero or not below the order.
    #[error("the signature has r or s out of range")]
    OutOfRange,
    /// It does not verify: another key, another hash, or damage on the way.
    #[error("the signature is not by this key over this hash")]
    NotVerified,
    /// Valid, but the ephemeral point's x is above the order, which `v` cannot say. One in 2^127;
    /// signing again gives another.
    #[error("the signature's ephemeral x is above the order and cannot be written as a transaction")]
    Overflow,
}

/// An account's secp256k1 public key, with its address.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: ProjectivePoint,
    address: Address,
}

impl PublicKey {
    /// Reads the DER `SubjectPublicKeyInfo` that KMS `GetPublicKey` returns (88 bytes).
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(KeyError::NotSpki)?;
        let (algorithm, curve) = spki.algorithm.oids().map_err(KeyError::NotSpki)?;
        if algorithm != k256::elliptic_curve::ALGORITHM_OID {
            return Err(KeyError::Algorithm(algorithm));
        }
        if curve != Some(Secp256k1::OID) {
            return Err(KeyError::Curve(curve));
        }
        let sec1 = spki.subject_public_key.as_bytes().ok_or(KeyError::Form)?;
        if sec1.len() != 65 || sec1.first() != Some(&4) {
            return Err(KeyError::Form);
        }
        let key = k256::PublicKey::from_sec1_bytes(sec1).map_err(|_| KeyError::Point)?;
        Ok(Self::new(&key))
    }

    /// The address: the last 20 bytes of the Keccak-256 of the point's 64 bytes.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Turns KMS's DER signature of `hash` into a transaction's, which proves on the way that it is
    /// one by this key over this hash. `s` may be high, the result's is low.
    pub fn signature(&self, hash: &SigningHash, der: &[u8]) -> Result<Signature, SignatureError> {
        let der = DerSignature::from_bytes(der).map_err(|_| SignatureError::NotDer)?;
        let parsed = k256::ecdsa::Signature::try_from(der).map_err(|_| SignatureError::OutOfRange)?;
        let (r, s) = parsed.split_scalars();
        let y_odd = self.parity(hash, &r, &s)?;
        // (r, n - s) is the same signature with R mirrored: the other parity.
        let high = bool::from(s.is_high());
        let low = if high { -*s } else { *s };
        Ok(Signature { r: r.to_bytes().into(), s: low.to_bytes().into(), y_odd: y_odd != high })
    }

    /// Whether a stored signature is a low-s signature of `hash` by this key that recovers to it
    /// with the stored parity (I10).
    #[must_use]
    pub fn verifies(&self, hash: &SigningHash, signature: &Signature) -> bool {
        let Some((r, s)) = low_s_scalars(signature) else {
            return false;
        };
        self.parity(hash, &r, &s) == Ok(signature.y_odd)
    }

    /// Verifies (r, s) and says whether the ephemeral point's y is odd.
    fn parity(&self, hash: &SigningHash, r: &NonZeroScalar, s: &NonZeroScalar) -> Result<bool, SignatureError> {
        // Nothing here is secret, so variable time is fine.
        let s_inverse = *s.invert_vartime();
        let u1 = Scalar::reduce(&FieldBytes::from(hash.0)) * s_inverse;
        let u2 = **r * s_inverse;
        let ephemeral = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&u1, &u2, &self.point);
        if bool::from(ephemeral.is_identity()) {
            return Err(SignatureError::NotVerified);
        }
        let ephemeral = ephemeral.to_affine();
        let x = ephemeral.x();
        if x == r.to_bytes() {
            Ok(ephemeral.y_is_odd().into())
        } else if Scalar::reduce(&x) == **r {
            Err(SignatureError::Overflow)
        } else {
            Err(SignatureError::NotVerified)
        }
    }

    fn new(key: &k256::PublicKey) -> Self {
        Self { point: key.to_projective(), address: address_of(key) }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.address)
    }
}

/// The address a signature recovers to, as a node computes it; `None` if `s` is high or no key
/// could have made it. For I10 where only the address is known; with the key at hand
/// [`PublicKey::verifies`] costs a square root and a hash less.
#[must_use]
pub fn recover(hash: &SigningHash, signature: &Signature) -> Option<Address> {
    let (r, s) = low_s_scalars(signature)?;
    let parsed = k256::ecdsa::Signature::from_scalars(r, s).ok()?;
    let key = VerifyingKey::recover_from_prehash(&hash.0, &parsed, RecoveryId::new(signature.y_odd, false)).ok()?;
    Some(address_of(&key.into()))
}

/// `r` and `s` if both are in range and `s` is low (EIP-2).
fn low_s_scalars(signature: &Signature) -> Option<(NonZeroScalar, NonZeroScalar)> {
    let scalar = |bytes: [u8; 32]| NonZeroScalar::from_repr(FieldBytes::from(bytes)).into_option();
    let (r, s) = (scalar(signature.r)?, scalar(signature.s)?);
    (!bool::from(s.is_high())).then_some((r, s))
}

fn address_of(key: &k256::PublicKey) -> Address {
    let sec1 = key.to_sec1_point(false);
    let hash = keccak256(&sec1.as_bytes()[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    Address(address)
}

#[cfg(any(test, feature = "fake"))]
pub use local::LocalKey;

#[cfg(any(test, feature = "fake"))]
mod local {
    use std::fmt;

    use k256::ecdsa::SigningKey;
    use k256::pkcs8::EncodePublicKey as _;

    use super::PublicKey;
    use crate::units::SigningHash;

    /// A key pair in memory that answers in KMS's forms: for tests and the in-memory KMS only, so
    /// it exists only there.
    #[derive(Clone)]
    pub struct LocalKey(SigningKey);

    impl LocalKey {
        /// From 32 secret bytes, big endian, which must be 1 to the order less 1.
        #[must_use]
        pub fn new(secret: [u8; 32]) -> Self {
            Self(SigningKey::from_bytes(&secret.into()).expect("a test's secret is below the order and not zero"))
        }

        /// Its public half.
        #[must_use]
        pub fn public_key(&self) -> PublicKey {
            PublicKey::new(&self.0.verifying_key().into())
        }

        /// What KMS `GetPublicKey` returns for such a key.
        #[must_use]
        pub fn spki(&self) -> Vec<u8> {
            let key = k256::PublicKey::from(self.0.verifying_key());
            key.to_public_key_der().expect("a point of the curve has an SPKI").into_vec()
        }

        /// What KMS `Sign` returns for `hash` as a digest, but always the same (RFC 6979): DER, with
        /// low or, as KMS does half of the time, high `s`.
        #[must_use]
        pub fn sign_der(&self, hash: &SigningHash, high_s: bool) -> Vec<u8> {
            let (low, _) = self.0.sign_prehash_recoverable(&hash.0);
            let (r, s) = low.split_scalars();
            let signature =
                if high_s { k256::ecdsa::Signature::from_scalars(r, -s).expect("neither is zero") } else { low };
            signature.to_der().as_bytes().to_vec()
        }
    }

    impl fmt::Debug for LocalKey {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "LocalKey({})", self.public_key().address())
        }
    }
}
