//! The key service in memory. Like KMS, it never makes the same signature twice, and half of its signatures have a high
//! `s`.
//!
//! The k of a signature is derived from the key, the hash and the number of earlier signatures of the hash. So a
//! simulation is repeatable, and two signatures of one hash still differ. Secrets are for tests only.
//! Read next: [`super::queue`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use k256::ecdsa::Signature;
use k256::elliptic_curve::ops::{Invert as _, Reduce as _};
use k256::elliptic_curve::point::AffineCoordinates as _;
use k256::{FieldBytes, NonZeroScalar, ProjectivePoint, Scalar};

use super::interceptor::{FakeFault, Interceptor, refused};
use super::journal::{Entry, Journal};
use crate::ports::{KeyAnswer, KeyCallError, Keys, KmsSignature};
use crate::signature::LocalKey;
use crate::units::{Address, KmsKeyId, SigningHash, sha256};
use crate::unusable::KeyFault;

/// Signatures by secret, hash and count. Simulations share it, so that each signature is made only once.
pub type SignatureCache = Arc<Mutex<HashMap<([u8; 32], SigningHash, u32), Vec<u8>>>>;

/// A key service in memory.
#[derive(Clone, Default)]
pub struct MemoryKeys {
    ring: Arc<Mutex<Ring>>,
    cache: Option<SignatureCache>,
    interceptor: Interceptor,
    journal: Journal,
}

#[derive(Default)]
struct Ring {
    keys: BTreeMap<KmsKeyId, Key>,
    aliases: BTreeMap<KmsKeyId, KmsKeyId>,
    signed: HashMap<(KmsKeyId, SigningHash), u32>,
    sign_calls: u64,
    public_key_calls: u64,
}

impl Ring {
    /// The key id for an id or alias.
    fn key_of(&self, id: &KmsKeyId) -> KmsKeyId {
        self.aliases.get(id).unwrap_or(id).clone()
    }
}

struct Key {
    secret: [u8; 32],
    local: LocalKey,
    state: KeyState,
}

/// The state of a key, which decides how calls are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Both calls succeed.
    Enabled,
    /// Both calls fail: the key is disabled.
    Disabled,
    /// Both calls fail: the key is pending deletion.
    PendingDeletion,
    /// The caller has no permission for either call.
    Denied,
    /// The caller may read the public key, but not sign.
    SignDenied,
    /// `Sign` fails for a reason that is unrelated to the key.
    SignFails,
}

impl Key {
    fn fault(&self, operation: &str) -> Option<FakeFault> {
        match self.state {
            KeyState::Enabled => None,
            KeyState::Disabled => Some(FakeFault::KeyDisabled),
            KeyState::PendingDeletion => Some(FakeFault::KeyPendingDeletion),
            KeyState::Denied => Some(FakeFault::KeyDenied),
            KeyState::SignDenied => (operation == "Sign").then_some(FakeFault::KeyDenied),
            KeyState::SignFails => (operation == "Sign").then_some(FakeFault::Injected),
        }
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeys").finish_non_exhaustive()
    }
}

impl MemoryKeys {
    /// A service without keys, with this interceptor and journal.
    #[must_use]
    pub fn new(interceptor: Interceptor, journal: Journal) -> Self {
        Self { ring: Arc::default(), cache: None, interceptor, journal }
    }

    /// The same service with a shared cache of signatures.
    #[must_use]
    pub fn with_cache(mut self, cache: SignatureCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Adds a key and returns its address. The secret is 32 bytes, big endian, from 1 to the order minus 1.
    pub fn add(&self, id: &KmsKeyId, secret: [u8; 32]) -> Address {
        let local = LocalKey::new(secret);
        let address = local.public_key().address();
        self.ring.lock().unwrap().keys.insert(id.clone(), Key { secret, local, state: KeyState::Enabled });
        address
    }

    /// Creates an alias for a key, or moves it to this key.
    pub fn set_alias(&self, alias: &KmsKeyId, id: &KmsKeyId) {
        self.ring.lock().unwrap().aliases.insert(alias.clone(), id.clone());
    }

    /// Disables or enables a key.
    pub fn set_disabled(&self, id: &KmsKeyId, disabled: bool) {
        self.set_state(id, if disabled { KeyState::Disabled } else { KeyState::Enabled });
    }

    /// Changes the state of a key.
    pub fn set_state(&self, id: &KmsKeyId, state: KeyState) {
        if let Some(key) = self.ring.lock().unwrap().keys.get_mut(id) {
            key.state = state;
        }
    }

    /// The number of successful `Sign` calls.
    #[must_use]
    pub fn sign_calls(&self) -> u64 {
        self.ring.lock().unwrap().sign_calls
    }

    /// The number of signatures of a hash by a key: one per attempt, unless a reply or a race was lost (G6).
    #[must_use]
    pub fn signatures_of(&self, id: &KmsKeyId, hash: &SigningHash) -> u32 {
        self.ring.lock().unwrap().signed.get(&(id.clone(), *hash)).copied().unwrap_or_default()
    }

    /// The number of `GetPublicKey` calls that passed the interceptor.
    #[must_use]
    pub fn public_key_calls(&self) -> u64 {
        self.ring.lock().unwrap().public_key_calls
    }

    fn sign_now(&self, id: &KmsKeyId, hash: &SigningHash) -> Result<KmsSignature, FakeFault> {
        let mut ring = self.ring.lock().unwrap();
        let id = &ring.key_of(id);
        let key = ring.keys.get(id).ok_or(FakeFault::NoKey)?;
        if let Some(fault) = key.fault("Sign") {
            return Err(fault);
        }
        let secret = key.secret;
        let count = ring.signed.entry((id.clone(), *hash)).or_default();
        let nth = *count;
        *count += 1;
        ring.sign_calls += 1;
        // Unique for every call, as in KMS.
        let request_id = format!("00000000-0000-4000-8000-{:012x}", ring.sign_calls);
        drop(ring);
        self.journal.note(|| Entry::KmsSigned(id.clone(), *hash, request_id.clone()));
        let der = match &self.cache {
            None => sign_der(&secret, hash, nth),
            Some(cache) => {
                let mut cache = cache.lock().unwrap();
                cache.entry((secret, *hash, nth)).or_insert_with(|| sign_der(&secret, hash, nth)).clone()
            }
        };
        Ok(KmsSignature { der, request_id: Some(request_id) })
    }
}

impl MemoryKeys {
    fn refuse(&self, operation: &'static str, key: &KmsKeyId, fault: FakeFault) -> KeyCallError {
        self.journal.note(|| Entry::KeyRefused(key.clone()));
        unusable(operation, fault)
    }
}

impl Keys for MemoryKeys {
    async fn public_key(&self, key: &KmsKeyId) -> Result<KeyAnswer, KeyCallError> {
        const OPERATION: &str = "GetPublicKey";
        let unanswered = |call| KeyCallError { fault: None, call };
        let pass = self.interceptor.enter(OPERATION).await.map_err(unanswered)?;
        let found = {
            let mut ring = self.ring.lock().unwrap();
            ring.public_key_calls += 1;
            let id = ring.key_of(key);
            match ring.keys.get(&id) {
                None => Err(FakeFault::NoKey),
                Some(key) => match key.fault(OPERATION) {
                    Some(fault) => Err(fault),
                    None => Ok(KeyAnswer { id, spki: key.local.spki() }),
                },
            }
        };
        let answer = found.map_err(|fault| self.refuse(OPERATION, key, fault))?;
        self.journal.note(|| Entry::PublicKeyRead(key.clone()));
        pass.reply(answer).await.map_err(unanswered)
    }

    async fn sign(&self, key: &KmsKeyId, hash: &SigningHash) -> Result<KmsSignature, KeyCallError> {
        const OPERATION: &str = "Sign";
        let unanswered = |call| KeyCallError { fault: None, call };
        let pass = self.interceptor.enter(OPERATION).await.map_err(unanswered)?;
        let signed = self.sign_now(key, hash).map_err(|fault| self.refuse(OPERATION, key, fault))?;
        pass.reply(signed).await.map_err(unanswered)
    }
}

/// The error of a call that is refused because of this fault.
fn unusable(operation: &'static str, fake: FakeFault) -> KeyCallError {
    let fault = match fake {
        FakeFault::NoKey => Some(KeyFault::NotFound),
        FakeFault::KeyDisabled => Some(KeyFault::Disabled),
        FakeFault::KeyDenied => Some(KeyFault::Denied),
        FakeFault::KeyPendingDeletion => Some(KeyFault::PendingDeletion),
        FakeFault::Injected | FakeFault::Unreadable | FakeFault::Validation(_) => None,
    };
    KeyCallError { fault, call: refused(operation, fake) }
}

/// ECDSA (SEC 1, 4.1.3) with a chosen k. `s` is not normalized.
fn sign_der(secret: &[u8; 32], hash: &SigningHash, nth: u32) -> Vec<u8> {
    let mut seed = secret.to_vec();
    seed.extend_from_slice(&hash.0);
    seed.extend_from_slice(&nth.to_be_bytes());
    let ephemeral = scalar(&sha256(&seed));
    let r = Scalar::reduce(&ProjectivePoint::mul_by_generator(&ephemeral).to_affine().x());
    let message = Scalar::reduce(&FieldBytes::from(hash.0));
    let s = *ephemeral.invert_vartime() * (message + r * *scalar(secret));
    let signature = Signature::from_scalars(r, s).expect("zero comes up once in 2^256");
    signature.to_der().as_bytes().to_vec()
}

fn scalar(bytes: &[u8; 32]) -> NonZeroScalar {
    NonZeroScalar::new(Scalar::reduce(&FieldBytes::from(*bytes))).into_option().expect("zero comes up once in 2^256")
}
