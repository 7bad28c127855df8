//! The choice of the account for a request: the named account, or one account of the named pool.
//!
//! For each request, each account of a pool has a rank, which is a hash of both. The request gets the highest-ranked
//! account that is registered, is not paused, has a usable key and can pay. So all signers choose the same account,
//! requests are distributed evenly, and adding or removing an account moves only that account's share.
//!
//! ## Guarantees
//! * The choice is final only when the slot is reserved. A request that has a record keeps its account, because the
//!   reservation is conditional on the request id, and the digest contains the pool.
//! * A request is refused only if all accounts of its pool were paused when it was assigned. If its account is paused
//!   later, the request stays on the queue and is assigned again.
//!
//! ## Does not guarantee
//! * Order within a pool.
//! * That a pool can pay: it accepts requests even if all its accounts wait for funds.
//!
//! Read next: [`super::directory`].

use std::cmp::Reverse;

use crate::account::Head;
use crate::policy::Policies;
use crate::request::{AccountRef, Code, Refused, SigningRequest};
use crate::units::{AccountKey, AccountName, ChainId, RequestId, sha256};

use super::heads::Heads;
use super::registry::Registry;

/// Chooses accounts. Needs no port.
#[derive(Clone, Copy)]
pub(super) struct Pools<'a> {
    pub(super) registry: &'a Registry,
    pub(super) policies: &'a Policies,
    pub(super) chain_id: ChainId,
}

impl Pools<'_> {
    /// The account that a request names, if it is in the registry.
    pub(super) fn resolve(&self, asked: Option<&AccountRef>) -> Result<AccountKey, Refused> {
        self.registry.resolve(asked, self.chain_id)
    }

    /// The accounts that may be used for a request, if they are in the registry.
    pub(super) fn known_candidates(&self, asked: Option<&AccountRef>) -> Vec<AccountKey> {
        self.named_by(asked).iter().filter_map(|named| self.resolve(named.as_ref()).ok()).collect()
    }

    /// The accounts of a pool by name, otherwise the requested account. Empty if policy has no such pool.
    pub(super) fn named_by(&self, asked: Option<&AccountRef>) -> Vec<Option<AccountRef>> {
        match asked {
            Some(AccountRef::Pool(pool)) => {
                let names = self.policies.pool(pool).unwrap_or_default();
                names.iter().map(|name| Some(AccountRef::Name(name.clone()))).collect()
            }
            Some(AccountRef::Name(_) | AccountRef::Key(_) | AccountRef::Address(_)) | None => vec![asked.cloned()],
        }
    }

    /// The head of the account for a request.
    pub(super) fn head_of<'h>(&self, request: &SigningRequest, heads: &'h Heads) -> Result<&'h Head, Unresolved> {
        let refused = |refused| Unresolved::Refused(Box::new(refused));
        let unknown = |text: String| {
            if heads.directory_unread {
                return Unresolved::Unread;
            }
            refused(Refused::field(Code::UnknownAccount, "account", text))
        };
        let Some(AccountRef::Pool(pool)) = &request.account else {
            let key = match self.resolve(request.account.as_ref()) {
                Ok(key) => key,
                Err(_) if heads.directory_unread => return Err(Unresolved::Unread),
                Err(why) => return Err(refused(why)),
            };
            if heads.is_unread(&key) {
                return Err(Unresolved::Unread);
            }
            return heads.get(&key).ok_or_else(|| unknown("`account` is not registered here".to_owned()));
        };
        let named = self.policies.pool(pool).map_err(refused)?;
        let registered = named.iter().filter_map(|name| heads.values().find(|head| head.name == *name));
        // An account that waits for funds continues by itself, but a paused one gives no slot. If all are paused, funds
        // and keys do not count, so that repeated refusals name the same account.
        let usable = |head: &Head| {
            let open = !head.paused;
            (open, open && head.unusable.is_none(), open && head.unfunded_since.is_none())
        };
        let best = registered.max_by_key(|head| (usable(head), Reverse(rank(&head.name, &request.id))));
        let is_unread = self.known_candidates(request.account.as_ref()).iter().any(|key| heads.is_unread(key));
        match best {
            // Another account of the pool, which could not be read, may be open.
            Some(head) if !head.paused || !is_unread => Ok(head),
            Some(_) | None if is_unread => Err(Unresolved::Unread),
            Some(_) | None => Err(unknown(format!("`account` pool:{pool} has no account that is registered here"))),
        }
    }
}

/// Why no account was chosen.
pub(super) enum Unresolved {
    /// No account can be used.
    Refused(Box<Refused>),
    /// The account could not be read.
    Unread,
}

/// The rank of an account in a pool for one request; the lowest hash ranks highest. Do not change it without need:
/// signers of two versions should choose the same account. If they do not, the first reservation decides.
fn rank(account: &AccountName, request: &RequestId) -> [u8; 32] {
    sha256(format!("{account}\0{request}").as_bytes())
}
