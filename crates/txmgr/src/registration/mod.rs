//! Registration of an account: a name bound to a key, and a lane that starts at a nonce of the chain.
//!
//! [`find`] reads the key and looks for the account; a [`Candidate`] is an account that is not registered yet. Its
//! first nonce must be certain ([`Candidate::settled`]) or chosen ([`Candidate::given`]); then [`Candidate::register`]
//! stores it. Waiting for a certain nonce is left to the caller: nothing here sleeps.
//!
//! ## Guarantees
//! * An account is registered under the key's id that the key service returns, never under an alias.
//! * Registering again changes nothing; another name for a known key is refused.
//! * No lane starts at a nonce that a known transaction of another program uses.
//!
//! Read next: [`counts`], [`crate::account`].

pub mod counts;

use crate::account::Head;
use crate::machine::Corroboration;
use crate::ports::{Chain, KeyAnswer, KeyCallError, Keys, PortError, RegisterVerdict, Store};
use crate::signature::{KeyError, PublicKey};
use crate::units::{AccountKey, AccountName, Address, ChainId, KmsKeyId, Millis, Nonce, ParseUnitError};

use self::counts::{Unfit, before, settled};

/// What to register.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The name that requests use for the account.
    pub name: &'a str,
    /// KMS key id, ARN or alias.
    pub key: &'a str,
    /// The chain it signs for.
    pub chain_id: ChainId,
}

/// An account that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The stored account.
    pub head: Head,
    /// The key's id that KMS returned.
    pub key_id: KmsKeyId,
    /// Whether this call registered it.
    pub is_new: bool,
}

/// The result of [`find`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is already registered.
    Known(Box<Registered>),
    /// It can be registered.
    New(Candidate),
}

/// An account that can be registered once its first nonce is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    account: AccountKey,
    name: AccountName,
    key_id: KmsKeyId,
}

/// Why an account is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name is not a valid account name.
    #[error("{value} is not a valid account name: it {reason}")]
    Name {
        /// As asked for.
        value: String,
        /// What is wrong with it.
        reason: ParseUnitError,
    },
    /// The key's id is not valid.
    #[error("{value} is not a valid KMS key: it {reason}")]
    Key {
        /// As asked for.
        value: String,
        /// What is wrong with it.
        reason: ParseUnitError,
    },
    /// The key service did not return the public key.
    #[error("the key service did not return the public key")]
    Keys(#[source] KeyCallError),
    /// The key is of another kind.
    #[error("{key} cannot sign for a chain: {reason}; create it with key spec ECC_SECG_P256K1 and usage SIGN_VERIFY")]
    UnfitKey {
        /// As asked for.
        key: String,
        /// What is wrong with it.
        reason: KeyError,
    },
    /// The key is registered under another name.
    #[error("{address} is registered already, as {name}")]
    OtherName {
        /// The key's address.
        address: Address,
        /// The name it has.
        name: AccountName,
    },
    /// Another account has the name.
    #[error("{0} is the name of another account; choose another")]
    NameTaken(AccountName),
    /// The nodes serve another chain.
    #[error("the nodes are on chain {found}, but the configuration says {wanted}; correct one")]
    WrongChain {
        /// The chain id of the nodes.
        found: ChainId,
        /// As configured.
        wanted: ChainId,
    },
    /// The address has code, so that nodes keep one transaction of it at a time.
    #[error("{0} has code (an EIP-7702 delegation): nodes keep one transaction of it at a time; use another key")]
    HasCode(Address),
    /// The nonce that was chosen cannot be the first.
    #[error("{address} cannot begin at nonce {nonce}: {unfit}")]
    CannotBegin {
        /// The key's address.
        address: Address,
        /// As chosen.
        nonce: Nonce,
        /// Why it cannot be the first.
        unfit: Unfit,
    },
    /// The store or a node did not answer.
    #[error("the store or the nodes did not answer")]
    Port(#[source] PortError),
}

/// Reads the key, and checks whether its account is registered or can be registered.
pub async fn find(
    store: &impl Store,
    keys: &impl Keys,
    chain: &impl Chain,
    asked: Asked<'_>,
) -> Result<Found, RegisterError> {
    let name: AccountName =
        asked.name.parse().map_err(|reason| RegisterError::Name { value: asked.name.to_owned(), reason })?;
    let kms_key_id: KmsKeyId =
        asked.key.parse().map_err(|reason| RegisterError::Key { value: asked.key.to_owned(), reason })?;
    let KeyAnswer { id: key_id, spki } = keys.public_key(&kms_key_id).await.map_err(RegisterError::Keys)?;
    let public =
        PublicKey::from_spki(&spki).map_err(|reason| RegisterError::UnfitKey { key: asked.key.to_owned(), reason })?;
    let account = AccountKey { chain_id: asked.chain_id, address: public.address() };
    // Checked first: an account in use has its own transactions in the pool.
    if let Some(existing) = store.head(&account).await.map_err(RegisterError::Port)? {
        return known(existing, &name, key_id).map(|registered| Found::Known(Box::new(registered)));
    }
    fit_for_a_lane(chain, account).await?;
    Ok(Found::New(Candidate { account, name, key_id }))
}

impl Candidate {
    /// The key's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.account.address
    }

    /// The chain's count, if all counts of a node agree and a second node confirms it.
    pub async fn settled(&self, chain: &impl Chain) -> Result<Result<Nonce, Unfit>, PortError> {
        let address = self.account.address;
        let nonce = match settled(&chain.counts(address).await?) {
            Ok(nonce) => nonce,
            Err(unfit) => return Ok(Err(unfit)),
        };
        // If one node invents the nonce that a lane starts at, no transaction of the lane is ever mined.
        Ok(match chain.final_count(address).await? {
            (_, Corroboration::Silent) => Err(Unfit::NoSecond),
            (count, Corroboration::Agrees | Corroboration::Alone) if count == nonce => Ok(nonce),
            (lower, _) => Err(Unfit::Disagree { first: nonce, lower }),
        })
    }

    /// Checks whether the lane can start at a chosen nonce. Returns a warning about what is before it, if anything is.
    pub async fn given(&self, chain: &impl Chain, nonce: Nonce) -> Result<Option<String>, RegisterError> {
        let address = self.account.address;
        let counts = chain.counts(address).await.map_err(RegisterError::Port)?;
        before(&counts, nonce).map_err(|unfit| RegisterError::CannotBegin { address, nonce, unfit })
    }

    /// Stores the account with its first nonce.
    pub async fn register(self, store: &impl Store, nonce: Nonce, now: Millis) -> Result<Registered, RegisterError> {
        let Self { account, name, key_id } = self;
        let head = Head::new(account, name, key_id.clone(), nonce, now);
        match store.register(&head).await.map_err(RegisterError::Port)? {
            RegisterVerdict::Registered => Ok(Registered { head, key_id, is_new: true }),
            RegisterVerdict::Exists(existing) => known(existing, &head.name, key_id),
            RegisterVerdict::NameTaken => Err(RegisterError::NameTaken(head.name)),
        }
    }
}

fn known(existing: Head, name: &AccountName, key_id: KmsKeyId) -> Result<Registered, RegisterError> {
    if existing.name == *name {
        return Ok(Registered { head: existing, key_id, is_new: false });
    }
    Err(RegisterError::OtherName { address: existing.account.address, name: existing.name })
}

/// Checks that the nodes serve the account's chain and accept more than one transaction of its address at a time.
async fn fit_for_a_lane(chain: &impl Chain, account: AccountKey) -> Result<(), RegisterError> {
    let found = chain.chain_id().await.map_err(RegisterError::Port)?;
    if found != account.chain_id {
        return Err(RegisterError::WrongChain { found, wanted: account.chain_id });
    }
    if chain.has_code(account.address).await.map_err(RegisterError::Port)? {
        return Err(RegisterError::HasCode(account.address));
    }
    Ok(())
}
