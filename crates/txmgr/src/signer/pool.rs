//! Which account a request is for: the named account, or one account of the named pool.
//!
//! Each account of a pool has a rank for each request, a hash of both; the request goes to the highest
//! that is registered, not paused, has a usable key and can pay. So every signer chooses alike, requests are shared
//! evenly, and an account that leaves or comes moves its own share and no other.
//!
//! ## Guarantees
//! * The choice counts only if the slot is reserved: a request that has a record keeps its account, since
//!   the reservation is conditional on the request's id and its digest names the pool.
//! * A request is refused only if every account of its pool was paused when it was chosen. What loses its account
//!   to a pause after that stays on the queue, and is assigned anew.
//!
//! ## Does not guarantee
//! * Order within a pool. A pool whose accounts all wait for funds takes requests all the same; one whose accounts
//!   are all paused refuses them.
//!
//! Read next: [`super::directory`].

use std::cmp::Reverse;

use crate::account::Head;
use crate::policy::Policies;
use crate::request::{AccountRef, Code, Refused, SigningRequest};
use crate::units::{AccountKey, AccountName, ChainId, RequestId, sha256};

use super::heads::Heads;
use super::registry::Registry;

/// Chooses accounts: needs no port, only what is known of them.
#[derive(Clone, Copy)]
pub(super) struct Pools<'a> {
    pub(super) registry: &'a Registry,
    pub(super) policies: &'a Policies,
    pub(super) chain_id: ChainId,
}

impl Pools<'_> {
    /// Which account a request means, as far as the registry knows.
    pub(super) fn resolve(&self, asked: Option<&AccountRef>) -> Result<AccountKey, Refused> {
        self.registry.resolve(asked, self.chain_id)
    }

    /// The accounts whose heads decide about a request that names its account so: those that the registry knows.
    pub(super) fn known_candidates(&self, asked: Option<&AccountRef>) -> Vec<AccountKey> {
        self.named_by(asked).iter().filter_map(|named| self.resolve(named.as_ref()).ok()).collect()
    }

    /// A pool's accounts by their names; else what was asked for. None of a pool that policy does not know.
    pub(super) fn named_by(&self, asked: Option<&AccountRef>) -> Vec<Option<AccountRef>> {
        match asked {
            Some(AccountRef::Pool(pool)) => {
                let names = self.policies.pool(pool).unwrap_or_default();
                names.iter().map(|name| Some(AccountRef::Name(name.clone()))).collect()
            }
            Some(AccountRef::Name(_) | AccountRef::Key(_) | AccountRef::Address(_)) | None => vec![asked.cloned()],
        }
    }

    /// The head of the account that a request is for.
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
        // One that waits for funds continues by itself; one that is paused gives no slot at all, whatever its funds:
        // while all are, the request is refused in the same one's name, so that its outcomes are equal.
        let usable = |head: &Head| {
            let open = !head.paused;
            (open, open && head.unusable.is_none(), open && head.unfunded_since.is_none())
        };
        let best = registered.max_by_key(|head| (usable(head), Reverse(rank(&head.name, &request.id))));
        let is_unread = self.known_candidates(request.account.as_ref()).iter().any(|key| heads.is_unread(key));
        match best {
            // Another of the pool may be open, if it could be read.
            Some(head) if !head.paused || !is_unread => Ok(head),
            Some(_) | None if is_unread => Err(Unresolved::Unread),
            Some(_) | None => Err(unknown(format!("`account` pool:{pool} has no account that is registered here"))),
        }
    }
}

/// Why a request has no account.
pub(super) enum Unresolved {
    /// There is none for it.
    Refused(Box<Refused>),
    /// Its account could not be read.
    Unread,
}

/// The place of an account among a pool's for one request, lowest first. Signers of two versions should choose alike,
/// so it is not to be changed without need; if they do not, the first to reserve decides.
fn rank(account: &AccountName, request: &RequestId) -> [u8; 32] {
    sha256(format!("{account}\0{request}").as_bytes())
}
